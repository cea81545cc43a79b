"""Real neighbours for tests: Orthanc and DCMTK, started on loopback with free ports, waited for by connecting.

Nothing here sleeps blindly: `wait_for` polls a condition that the neighbour itself makes true, with a deadline.
"""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests import tools

Modalities = Mapping[str, tuple[str, str, int]]
HOST = "127.0.0.1"
_FIRST_PORT, _PORTS, _PROCESSES = 11_000, 1300, 16
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of loopback that nobody listens on, and that is given away once.

    Below those that the system gives to clients, and each of the processes that tests run in has its own: between this
    moment and the one at which a program listens nobody else takes it.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _FIRST_PORT + worker % _PROCESSES * _PORTS
    while True:
        port = random.randrange(first, first + _PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def wait_for(condition: Callable[[], bool], seconds: float = 30.0, *, what: str = "the condition") -> None:
    """Wait until a condition holds; fails the test at the deadline."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {seconds} s")
        pause.wait(0.02)


def listens(port: int) -> bool:
    """Whether somebody takes connections on a port of loopback."""
    try:
        socket.create_connection((HOST, port), 1.0).close()
    except OSError:
        return False
    return True


class _Program:
    """A program that runs until it is stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def _run(self, arguments: list[str], port: int, environment: dict[str, str] | None = None) -> None:
        log = self.folder / "output.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                arguments, stdout=output, stderr=subprocess.STDOUT, cwd=self.folder, env=environment
            )
        try:
            wait_for(lambda: self._alive() and listens(port), what=f"{arguments[0]} (see {log})")
        except AssertionError:
            self.stop()
            raise

    def _alive(self) -> bool:
        process = self._process
        if process is None or process.poll() is not None:
            raise AssertionError(
                f"it ended at once: {(self.folder / 'output.log').read_text('utf-8', 'replace')[-2000:]}"
            )
        return True

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


class Orthanc(_Program):
    """An Orthanc with its storage in a folder.

    Parameters
    ----------
    folder
        Empty folder for its storage, configuration and log.
    lua
        Text of a Lua script (auto-routing), if any.
    modalities
        Name to (AE title, host, port) of peers that it knows.
    plugins
        Libraries that it loads.
    """

    ae_title = "ORTHANC"

    def __init__(
        self,
        folder: Path,
        *,
        lua: str | None = None,
        modalities: Modalities | None = None,
        plugins: Iterable[Path] = (),
    ) -> None:
        super().__init__(folder)
        self._lua = lua
        self._plugins = [str(plugin) for plugin in plugins]
        self._modalities = dict(modalities or {})
        self.dicom_port = free_port()
        self.http_port = free_port()

    def start(self) -> Orthanc:
        """Start, and return when both ports answer; skips the test where Orthanc is missing."""
        program = tools.require("Orthanc")
        self.folder.mkdir(parents=True, exist_ok=True)
        scripts = []
        if self._lua is not None:
            script = self.folder / "script.lua"
            script.write_text(self._lua, "utf-8")
            scripts.append(str(script))
        configuration = {
            "Name": "neighbour",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": self._plugins,
            "LuaScripts": scripts,
            "ConcurrentJobs": 2,
            "HttpServerEnabled": True,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomServerEnabled": True,
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {name: list(peer) for name, peer in self._modalities.items()},
            "OverwriteInstances": True,
            "StableAge": 1,
            "SaveJobs": False,
        }
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(configuration), "utf-8")
        self._run([program, str(path)], self.dicom_port)
        wait_for(lambda: listens(self.http_port), what="Orthanc's HTTP port")
        return self

    def get(self, path: str) -> Any:
        """Answer of its REST API: parsed JSON, or bytes where it is none."""
        return self._ask(urllib.request.Request(self._url(path)))

    def post(self, path: str, body: Any) -> Any:
        """Answer to a POST: bytes go as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._ask(urllib.request.Request(self._url(path), data=data, method="POST"))

    def delete(self, path: str) -> Any:
        """Answer to a DELETE."""
        return self._ask(urllib.request.Request(self._url(path), method="DELETE"))

    def instances(self) -> list[str]:
        """Orthanc's ids of its instances."""
        return list(self.get("/instances"))

    def upload(self, paths: Iterable[Path]) -> None:
        """Put files in by its REST API."""
        for path in paths:
            self.post("/instances", path.read_bytes())

    def _url(self, path: str) -> str:
        return f"http://{HOST}:{self.http_port}{path}"

    def _ask(self, request: urllib.request.Request) -> Any:
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                data = response.read()
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"Orthanc answered {error.code}: {error.read()[:500]!r}") from None
        try:
            return json.loads(data)
        except ValueError:
            return data


class Dcmqrscp(_Program):
    """DCMTK's small archive; `modalities` may be sent to by C-MOVE."""

    ae_title = "DCMQRSCP"

    def __init__(self, folder: Path, *, modalities: Modalities | None = None) -> None:
        super().__init__(folder)
        self._modalities = dict(modalities or {})
        self.dicom_port = free_port()

    def start(self) -> Dcmqrscp:
        """Start, and return when the port answers; skips the test where it is missing."""
        program = tools.require("dcmqrscp")
        storage = self.folder / "storage"
        storage.mkdir(parents=True, exist_ok=True)
        path = self.folder / "dcmqrscp.cfg"
        hosts = "".join(f"{name} = ({ae}, {host}, {port})\n" for name, (ae, host, port) in self._modalities.items())
        path.write_text(
            f"NetworkTCPPort = {self.dicom_port}\nMaxPDUSize = 131072\nMaxAssociations = 16\n"
            f"HostTable BEGIN\n{hosts}HostTable END\nVendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\n{self.ae_title} {storage} RW (500, 1024mb) ANY\nAETable END\n",
            "utf-8",
        )
        self._run([program, "-c", str(path), str(self.dicom_port)], self.dicom_port)
        return self


def run(program: str, *arguments: str | Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    """Run one of DCMTK's programs to its end; skips the test where it is missing."""
    return subprocess.run(
        [tools.require(program), *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
    )


def storescu(port: int, *arguments: str | Path, called: str = "ANY-SCP") -> subprocess.CompletedProcess[str]:
    """DCMTK storescu to a port of loopback."""
    return run("storescu", "-v", "-aec", called, HOST, str(port), *arguments)


def dcmsend(port: int, *arguments: str | Path, called: str = "ANY-SCP") -> subprocess.CompletedProcess[str]:
    """DCMTK dcmsend to a port of loopback; syntaxes and classes are proposed as the files need."""
    return run("dcmsend", "-v", "-aec", called, HOST, str(port), *arguments)


def echoscu(port: int, *arguments: str, called: str = "ANY-SCP") -> subprocess.CompletedProcess[str]:
    """DCMTK echoscu to a port of loopback."""
    return run("echoscu", "-v", "-aec", called, HOST, str(port), *arguments)
