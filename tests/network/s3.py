"""moto's server of S3 on loopback: a fake, written by others; it keeps what it is given in memory and proves no signature."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from tests import tools
from tests.neighbours import HOST, _Program, free_port

ROOT = Path(__file__).resolve().parents[2]
KEY, SECRET = "AKIAPLANTED", "planted-secret-access-key"
BUCKET = "trial-7"
_SIGNED = f"AWS4-HMAC-SHA256 Credential={KEY}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"


class Moto(_Program):
    """The server, with one bucket."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.port = free_port()

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> Moto:
        """Start, and make the bucket; skips the test where moto is missing."""
        program = tools.require_file(ROOT / ".venv-s3" / "bin" / "moto_server", setup="make .venv-s3/.ready")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._run([str(program), "-H", HOST, "-p", str(self.port)], self.port)
        status, _, said = self.ask("PUT", f"/{BUCKET}")
        assert status == 200, said
        return self

    def ask(self, method: str, path: str, **header: str) -> tuple[int, dict[str, str], bytes]:
        """A request without a signature."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request(method, path, headers={"Authorization": _SIGNED, **header})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def names(self) -> list[str]:
        """Names of everything in the bucket."""
        return [one["path"] for one in obstore.list(self._store()).collect()]

    def objects(self) -> dict[str, bytes]:
        """Everything in the bucket."""
        store = self._store()
        return {name: bytes(obstore.get(store, name).bytes()) for name in self.names()}

    def _store(self) -> S3Store:
        return S3Store(
            BUCKET,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def section(self, **more: Any) -> dict[str, Any]:
        """Of a configuration."""
        return {"bucket": BUCKET, "endpoint": self.endpoint, "path_style": True, **more}


def toml(section: dict[str, Any]) -> str:
    """An inline table."""
    return "{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in section.items()) + "}"
