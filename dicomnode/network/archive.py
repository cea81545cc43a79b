"""A small archive: C-ECHO, C-STORE into a folder, C-FIND in the Study Root model. For demonstrations and tests.

It keeps plain files and reads their headers whole: not a PACS. It obeys the contract that Orthanc obeys in the tests
(`tests/contracts/test_archive_contract.py`).
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits, read_part10, wrap_part10
from dicomnode.errors import StorageError, StudyError
from dicomnode.network.acceptor import Acceptor
from dicomnode.network.collected import Collected
from dicomnode.network.intake import Peer, ReceivedObject, Sink
from dicomnode.network.services import find_services
from dicomnode.network_sections import ListenSection

#: Unique key of each level of the Study Root model (PS3.4 C.6.2).
_UNIQUE: Final = {"STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}
_PIXELS: Final = 0x7FE00000


class Archive:
    """An archive over a folder.

    Parameters
    ----------
    folder
        Where the files lie; what is there already belongs to it.
    ae_title
        AE title it answers to.
    listen
        Where it listens.
    """

    def __init__(self, folder: Path, ae_title: str = "ARCHIVE", listen: ListenSection | None = None) -> None:
        self._folder = folder
        self._limits = Limits()
        self._lock = threading.Lock()
        self._headers: dict[str, Dataset] = {}
        self._acceptor = Acceptor(
            listen or ListenSection(port=0),
            IntakeSection(),
            ae_title,
            self._limits,
            self,
            services=find_services(self, self._limits),
        )

    def start(self) -> tuple[str, int]:
        """Listen; the address and port that were bound.

        Raises
        ------
        ConfigError
            ``port-unavailable``.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self.files():
            self._index(path, path.read_bytes())
        return self._acceptor.start()

    def stop(self) -> None:
        """Stop; what was stored stays."""
        self._acceptor.stop()

    def files(self) -> tuple[Path, ...]:
        """The Part 10 files, in no meaningful order."""
        return tuple(sorted(self._folder.glob("*.dcm")))

    def admit(self, peer: Peer) -> None:
        """Everybody may."""

    def opened(self, peer: Peer) -> None:
        """Nothing to do."""

    def closed(self, peer: Peer, *, aborted: bool) -> None:
        """Nothing to do."""

    def sink(self) -> Sink:
        """Place for one object."""
        return Collected(self.store)

    def store(self, received: ReceivedObject, encoded: bytes, /) -> None:
        """Write one file; the same SOP Instance again replaces it.

        Raises
        ------
        StorageError
            ``storage-failed``.
        StudyError
            If it cannot be parsed.
        """
        data = wrap_part10(
            encoded,
            sop_class_uid=received.sop_class_uid,
            sop_instance_uid=received.sop_instance_uid,
            transfer_syntax_uid=received.transfer_syntax_uid,
        )
        name = hashlib.sha256(received.sop_instance_uid.encode()).hexdigest()[:32]
        path = self._folder / f"{name}.dcm"
        temporary = self._folder / f"{name}.{received.peer.association_id}.part"
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError:
            raise StorageError("storage-failed") from None
        self._index(path, data)

    def find(self, level: str, query: Dataset) -> Iterator[Dataset]:
        """Matches of a query (PS3.4 C.2.2.2): single values, lists of UIDs, wildcards, ranges of dates."""
        with self._lock:
            headers = list(self._headers.values())
        unique = _UNIQUE.get(level)
        if unique is None:
            return
        groups: dict[str, list[Dataset]] = {}
        for header in headers:
            groups.setdefault(str(header.get(unique, "")), []).append(header)
        for group in groups.values():
            answer = _answer(level, query, group)
            if all(
                matches(element.keyword, _text(element.value), _text(answer.get(element.keyword))) for element in query
            ):
                yield answer

    def _index(self, path: Path, data: bytes) -> None:
        try:
            header = read_part10(data, self._limits)[:_PIXELS]
        except StudyError:
            path.unlink(missing_ok=True)
            raise
        with self._lock:
            self._headers[path.name] = header


def _answer(level: str, query: Dataset, group: list[Dataset]) -> Dataset:
    answer = Dataset()
    answer.SpecificCharacterSet = group[0].get("SpecificCharacterSet", "ISO_IR 192")
    answer.QueryRetrieveLevel = level
    for element in query:
        keyword = element.keyword
        computed = _computed(keyword, group)
        if computed is not None:
            setattr(answer, keyword, computed)
        elif keyword and keyword not in {"QueryRetrieveLevel", "SpecificCharacterSet"}:
            found = group[0].get(element.tag)
            answer.add_new(element.tag, element.VR, found.value if found is not None else None)
    return answer


def _computed(keyword: str, group: list[Dataset]) -> list[str] | str | None:
    """Attributes of a study or series that no single object has (PS3.4 C.3.4)."""
    if keyword == "ModalitiesInStudy":
        return sorted({str(one.get("Modality", "")) for one in group})
    if keyword in {"NumberOfStudyRelatedInstances", "NumberOfSeriesRelatedInstances"}:
        return str(len(group))
    if keyword == "NumberOfStudyRelatedSeries":
        return str(len({str(one.get("SeriesInstanceUID", "")) for one in group}))
    return None


def matches(keyword: str, wanted: str, found: str) -> bool:
    """Whether a value matches a key of a query (PS3.4 C.2.2.2.1 to .5)."""
    if not wanted or keyword in {"QueryRetrieveLevel", "SpecificCharacterSet"}:
        return True
    values = found.split("\\")
    if keyword.endswith("UID") or keyword == "ModalitiesInStudy":
        return any(one in values for one in wanted.split("\\"))
    if keyword.endswith("Date") and "-" in wanted:
        first, _, last = wanted.partition("-")
        return bool(found) and (not first or first <= found) and (not last or found <= last)
    pattern = "".join(".*" if one == "*" else "." if one == "?" else re.escape(one) for one in wanted)
    ignore_case = re.IGNORECASE if keyword.endswith("Name") else 0
    return any(re.fullmatch(pattern, one.strip(), ignore_case) is not None for one in values)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return "\\".join(str(one) for one in value)
    return str(value)
