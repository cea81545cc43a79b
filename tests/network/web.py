"""A caller of STOW-RS that writes its requests by hand, well formed unless it is told otherwise."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
from collections.abc import Sequence
from typing import Any, NamedTuple

from dicomnode.encoded import wrap_part10
from tests.network.raw import SECONDS, STUDY, data_set
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE

TOKEN = "Zk3v9Qh1-planted-token-of-a-test-0000000000"
HASH = hashlib.sha256(TOKEN.encode()).hexdigest()
RULE: dict[str, Any] = {"name": "gateway", "token_sha256": [HASH]}
BOUNDARY = "----planted"
KIND = f'multipart/related; type="application/dicom"; boundary="{BOUNDARY}"'
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


class Answer(NamedTuple):
    """An answer, read whole."""

    status: int
    header: dict[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """What a refusal says."""
        return str(json.loads(self.body)["kind"])

    def statuses(self) -> dict[str, int]:
        """Status of each object by its UID; "" for one that has none."""
        told = json.loads(self.body)
        found = {}
        for tag in ("00081199", "00081198", "0008119A"):
            for item in told.get(tag, {}).get("Value", ()):
                uid = item.get("00081155", {}).get("Value", [""])[0]
                found[uid] = item.get("00081197", {}).get("Value", [0])[0]
        return found


def uid_of(number: int, study: str = STUDY) -> str:
    """SOP Instance UID of an object of the tests."""
    return f"{study}.9.{number}"


def file_of(
    number: int, study: str = STUDY, *, pixels: bytes = bytes(64), data: bytes | None = None, **meta: str
) -> bytes:
    """A Part 10 file of the same object that `gates.send` sends by C-STORE."""
    uid = uid_of(number, study)
    named = {
        "sop_class_uid": SECONDARY_CAPTURE,
        "sop_instance_uid": uid,
        "transfer_syntax_uid": EXPLICIT_LITTLE,
        **meta,
    }
    return wrap_part10(data_set(uid, pixels, study) if data is None else data, **named)


def body_of(files: Sequence[bytes], boundary: str = BOUNDARY) -> bytes:
    """All files as one body."""
    parts = [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + file + b"\r\n" for file in files]
    return b"".join(parts) + f"--{boundary}--\r\n".encode()


class Caller:
    """One connection, by way of the standard library's client."""

    def __init__(self, address: tuple[str, int], tls: ssl.SSLContext | None = None) -> None:
        self.connection = (
            http.client.HTTPConnection(*address, timeout=SECONDS)
            if tls is None
            else http.client.HTTPSConnection(*address, timeout=SECONDS, context=tls)
        )

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(
        self, method: str = "POST", path: str = "/dicom-web/studies", body: Any = None, **header: str | None
    ) -> Answer:
        """A request and its answer; a header field of None is left out."""
        fields: dict[str, str | None] = {"Content-Type": KIND, **AUTHORIZED, **header}
        named = {name.replace("_", "-"): value for name, value in fields.items() if value is not None}
        self.connection.request(method, path, body, named)
        return self._read()

    def store(self, *files: bytes, **header: str | None) -> Answer:
        """All files in one request."""
        return self.ask(body=body_of(files), **header)

    def close(self) -> None:
        """Hang up."""
        self.connection.close()

    def _read(self) -> Answer:
        response = self.connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())


class RawCaller:
    """One connection on which any bytes are written."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, SECONDS)

    def __enter__(self) -> RawCaller:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def lines(self, method: str = "POST", path: str = "/dicom-web/studies", **header: str | None) -> str:
        """Text of a request's head; a header field of None is left out."""
        fields: dict[str, str | None] = {"Host": "node", "Content-Type": KIND, **AUTHORIZED}
        fields |= {name.replace("_", "-"): value for name, value in header.items()}
        said = [f"{name}: {value}" for name, value in fields.items() if value is not None]
        return "\r\n".join((f"{method} {path} HTTP/1.1", *said, "", ""))

    def head(self, method: str = "POST", path: str = "/dicom-web/studies", **header: str | None) -> None:
        """Head of a request."""
        self.send(self.lines(method, path, **header).encode())

    def send(self, data: bytes) -> bool:
        """Send all; False where the other side has closed by then."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def answer(self) -> Answer | None:
        """The next answer; None where the connection ended before it."""
        response = http.client.HTTPResponse(self.socket)
        try:
            response.begin()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            return None
        return Answer(response.status, dict(response.getheaders()), response.read())

    def answer_of_many(self) -> bytes:
        """The next answer with a Content-Length, byte for byte: another one may follow."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.socket.recv(1)
        length = int(data.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        while length:
            more = self.socket.recv(length)
            data, length = data + more, length - len(more)
        return data

    def rest(self) -> bytes:
        """What comes until the connection ends."""
        data = b""
        try:
            while more := self.socket.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        return data
