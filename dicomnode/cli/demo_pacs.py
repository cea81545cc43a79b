"""The PACS of the demo: Orthanc where it is installed, else the small archive that ships; both for callers of this host alone."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pydicom import Dataset

from dicomnode.encoded import Limits, read_file, read_part10
from dicomnode.errors import NodeError, PeerError
from dicomnode.network.archive import Archive
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination

_START_SECONDS = 60.0
#: Who calls the PACS: the node, and the demo when it looks what is there.
_CALLERS = ("DICOMNODE", "DEMO")


class Pacs(Protocol):
    """A PACS as the demo needs it."""

    name: str
    ae_title: str
    port: int

    def objects(self, study_instance_uid: str, modality: str) -> list[Dataset]:
        """Every object of a study with this modality, whole."""
        ...


class ShippedArchive:
    """The archive that ships."""

    name = "the archive that ships (Orthanc is not installed)"
    ae_title = "ARCHIVE"

    def __init__(self, folder: Path) -> None:
        self._archive = Archive(folder, self.ae_title)
        _, self.port = self._archive.start()

    def __enter__(self) -> Self:
        """The archive, listening."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self._archive.stop()

    def objects(self, study_instance_uid: str, modality: str) -> list[Dataset]:
        """Every object of a study with this modality, whole."""
        found = (read_file(path, Limits()) for path in self._archive.files())
        return [one for one in found if (one.StudyInstanceUID, one.Modality) == (study_instance_uid, modality)]


class Orthanc:
    """A real Orthanc with a configuration of its own, in a folder of its own."""

    name = "Orthanc"
    ae_title = "ORTHANC"

    def __init__(self, program: str, folder: Path) -> None:
        self.port, self._http = free_port(), free_port()
        folder.mkdir(parents=True, exist_ok=True)
        configuration = {
            "Name": "dicomnode demo",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "HttpPort": self._http,
            "HttpDescribeErrors": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            # It listens on every address and cannot be told otherwise: only the node and the demo, of this host, may call.
            "DicomModalities": {ae_title: [ae_title, "127.0.0.1", 11112] for ae_title in _CALLERS},
            "DicomCheckModalityHost": True,
            "DicomAlwaysAllowEcho": False,
            "DicomAlwaysAllowStore": False,
            "DicomAlwaysAllowFind": False,
            "DicomAlwaysAllowGet": False,
            "DicomAlwaysAllowMove": False,
            "OverwriteInstances": True,
            "Plugins": [],
        }
        path = folder / "orthanc.json"
        path.write_text(json.dumps(configuration, indent=2))
        self._log = (folder / "orthanc.log").open("wb")
        self._process = subprocess.Popen(  # noqa: S603 - our own arguments
            [program, str(path)], stdout=self._log, stderr=subprocess.STDOUT
        )

    def __enter__(self) -> Self:
        """Orthanc, answering C-ECHO."""
        peer = Requestor(
            Destination(name="orthanc", ae_title=self.ae_title, host="127.0.0.1", port=self.port), "DICOMNODE"
        )
        try:
            self._until_it_answers(peer)
        except BaseException:  # an interruption, too: nothing outlives the demo
            self._end()
            raise
        return self

    def _until_it_answers(self, peer: Requestor) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                peer.echo()
            except PeerError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self._end()

    def _end(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def objects(self, study_instance_uid: str, modality: str) -> list[Dataset]:
        """Every object of a study with this modality, whole."""
        query = {"Level": "Instance", "Query": {"StudyInstanceUID": study_instance_uid, "Modality": modality}}
        found = json.loads(self._call("/tools/find", json.dumps(query).encode()))
        return [read_part10(self._call(f"/instances/{name}/file"), Limits()) for name in found]

    def _call(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self._http}{path}", data=body)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - loopback
                data: bytes = answer.read()
        except OSError:
            raise PeerError("peer-unreachable") from None
        return data


def open_pacs(folder: Path) -> Orthanc | ShippedArchive:
    """Orthanc where it is installed, else the archive."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        return ShippedArchive(folder / "archive")
    return Orthanc(program, folder / "orthanc")


def free_port(wanted: int = 0) -> int:
    """A TCP port of loopback that is free right now: the wanted one if it is, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise NodeError("port-unavailable")
