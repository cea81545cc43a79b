"""The web server of the viewer: its files, its configuration, and the archive's DICOMweb behind the same address.

May live here: one small server for tests, on loopback. The headers let the viewer share memory between its workers.
"""

from __future__ import annotations

import json
import mimetypes
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

HOST: Final = "127.0.0.1"
_ARCHIVE: Final = "/dicom-web"
_SHARED_MEMORY: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_SECONDS: Final = 60


def configuration() -> str:
    """The viewer's app-config.js: one archive, nothing of the world outside."""
    source = {
        "namespace": "@ohif/extension-default.dataSourcesModule.dicomweb",
        "sourceName": "archive",
        "configuration": {
            "friendlyName": "archive",
            "name": "archive",
            "wadoUriRoot": "/wado",
            "qidoRoot": _ARCHIVE,
            "wadoRoot": _ARCHIVE,
            "qidoSupportsIncludeField": True,
            "imageRendering": "wadors",
            "thumbnailRendering": "wadors",
            "enableStudyLazyLoad": True,
            "supportsFuzzyMatching": False,
            "supportsWildcard": True,
            "singlepart": "bulkdata,video,pdf",
            "bulkDataURI": {"enabled": True},
            "omitQuotationForMultipartRequest": True,
        },
    }
    config = {
        "routerBasename": None,
        "extensions": [],
        "modes": [],
        "customizationService": {},
        "showStudyList": True,
        "maxNumberOfWebWorkers": 2,
        "showWarningMessageForCrossOrigin": False,
        "showCPUFallbackMessage": False,
        "showLoadingIndicator": True,
        "strictZSpacingForVolumeViewport": True,
        "investigationalUseDialog": {"option": "never"},
        "maxNumRequests": {"interaction": 20, "thumbnail": 5, "prefetch": 5},
        "defaultDataSourceName": "archive",
        "dataSources": [source],
    }
    return f"window.config = {json.dumps(config)};"


class ViewerSite:
    """The viewer on a free port of loopback.

    Parameters
    ----------
    files
        Folder of the built viewer.
    archive
        Address of the archive whose DICOMweb it shows, without a slash at the end.
    """

    def __init__(self, files: Path, archive: str) -> None:
        handler = type("_Bound", (_Answer,), {"files": files, "archive": archive})
        self._server = ThreadingHTTPServer((HOST, 0), handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """The site, answering."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Answer(BaseHTTPRequestHandler):
    """One request: a file of the viewer, its configuration, or the archive's answer."""

    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
    files: Path
    archive: str

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith(_ARCHIVE):
            self._pass_on(None)
        elif path == "/app-config.js":
            self._send(200, "text/javascript", configuration().encode())
        else:
            self._send_file(path)

    def do_POST(self) -> None:
        self._pass_on(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _send_file(self, path: str) -> None:
        file = (self.files / path.lstrip("/")).resolve()
        if not file.is_relative_to(self.files.resolve()) or not file.is_file():
            if Path(path).suffix:
                self._send(404, "text/plain", b"")
                return
            file = self.files / "index.html"  # a route of the page's own
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        self._send(200, "application/wasm" if file.suffix == ".wasm" else kind, file.read_bytes())

    def _pass_on(self, body: bytes | None) -> None:
        headers = {name: self.headers[name] for name in ("Accept", "Content-Type") if name in self.headers}
        request = urllib.request.Request(self.archive + self.path, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                self._send(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            with error:
                self._send(error.code, "text/plain", error.read())
        except OSError:
            self._send(502, "text/plain", b"")

    def _send(self, status: int, kind: str | None, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(data)))
        for name, value in _SHARED_MEMORY.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(data)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the page changed its mind

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is written: a path holds UIDs."""
