"""A watched folder: files that nobody writes any more are sealed like objects of a C-STORE, then put away.

A file leaves its place only when its object is durable: whatever is killed in between finds it there and takes it again,
as the duplicate that it then is. Half-written files are waited for.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from dicomnode.encoded import Header, Limits, read_dataset, scan_header, split_part10
from dicomnode.errors import NodeError, StudyError
from dicomnode.events import Emit
from dicomnode.network.association import storage_classes
from dicomnode.network.intake import Intake, Peer, StoreRequest
from dicomnode.network.status import SUCCESS, StatusKind, classify
from dicomnode.sections import FolderSection
from dicomnode.workflow.ports import Monotonic

TAKEN, REFUSED = "taken", "refused"
#: Names under which programs write what they rename when it is whole.
_UNFINISHED: Final = (".tmp", ".part", ".partial", ".filepart", ".crdownload", ".swp", "~")
_DEEPEST: Final = 16
_MOST_FILES: Final = 10_000  # of one look
_PATIENCE: Final = 20  # settle times after which a file that is still no whole object is none
_AGAIN_SECONDS: Final = 15.0
_NO_WAIT: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
Verdict = Literal["taken", "refused", "later"]


class Stamp(NamedTuple):
    """What changes when a file is written."""

    inode: int
    size: int
    modified_ns: int


@dataclass(frozen=True, slots=True)
class _Seen:
    stamp: Stamp
    since: float


class Settling:
    """Tells which files have stopped changing. Pure.

    Parameters
    ----------
    seconds
        For how long a file must have been the same.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[Path, _Seen] = {}

    def look(self, files: Mapping[Path, Stamp], now: float) -> dict[Path, float]:
        """Files that are settled, each with the seconds for which it has been so; what is gone is forgotten."""
        seen = {}
        for path, stamp in files.items():
            known = self._seen.get(path)
            seen[path] = known if known is not None and known.stamp == stamp else _Seen(stamp, now)
        self._seen = seen
        return {path: now - one.since for path, one in seen.items() if now - one.since >= self._seconds}


class FolderIntake:
    """One watched folder.

    Parameters
    ----------
    folder
        Its section of the configuration.
    intake
        Takes objects, as it does those of associations.
    called_ae_title
        Our own.
    private_sop_classes
        SOP Classes that are stored beside the standard's.
    """

    def __init__(
        self,
        folder: FolderSection,
        intake: Intake,
        *,
        called_ae_title: str,
        private_sop_classes: tuple[str, ...],
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self._folder = folder
        self._intake = intake
        self._called = called_ae_title
        self._sop_classes = frozenset(storage_classes(private_sop_classes))
        self._monotonic = monotonic
        self._emit = emit
        self._settling = Settling(folder.settle_seconds)
        self._again: dict[Path, float] = {}  # when a file that could not be taken is tried anew
        self._told = ""

    def look(self) -> int:
        """Take what is settled, as one association; how many objects were sealed. Never raises for what the folder is like."""
        try:
            files = dict(stamps(self._folder.path))
        except OSError as error:
            self._tell("folder.failed", "storage-failed", type(error).__name__)
            return 0
        now = self._monotonic()
        settled = self._settling.look(files, now)
        self._again = {path: due for path, due in self._again.items() if path in settled}
        ready = {path: age for path, age in settled.items() if self._again.get(path, now) <= now}
        return self._take_all(ready) if ready else 0

    def _take_all(self, settled: Mapping[Path, float]) -> int:
        peer = Peer(
            calling_ae_title=self._folder.ae_title,
            called_ae_title=self._called,
            address="127.0.0.1",
            association_id=os.urandom(16).hex(),
        )
        reception, verdicts = self._intake.reception, list[Verdict]()
        try:
            reception.admit(peer)
        except NodeError as error:
            self._tell("folder.waiting", error.code, "admission")
            return 0
        reception.opened(peer)
        try:
            for path in sorted(settled):
                verdict = self._take(path, peer, settled[path])
                verdicts.append(verdict)
                self._put_away(path, verdict)
            self._told = ""
        except OSError as error:
            self._tell("folder.failed", "storage-failed", type(error).__name__)
        finally:
            reception.closed(peer, aborted=False)
        taken, refused = verdicts.count("taken"), verdicts.count("refused")
        if taken or refused:
            level = "warning" if refused else "info"
            self._emit("folder.taken", level=level, folder=self._folder.name, objects=taken, refused=refused)
        return taken

    def _take(self, path: Path, peer: Peer, age: float) -> Verdict:
        """Seal the object of a file."""
        try:
            request, encoded = self._read(path)
        except NodeError as error:
            if age < _PATIENCE * self._folder.settle_seconds:
                return "later"  # it may be written on
            self._emit("object.refused", level="warning", address=peer.address, reason=error.code)
            return "refused"
        status = self._intake.begin(request, peer).take_whole(encoded)
        if status == SUCCESS:
            return "taken"
        return "later" if classify(status) is StatusKind.TRANSIENT else "refused"

    def _read(self, path: Path) -> tuple[StoreRequest, memoryview]:
        """A whole object of a kind that is stored, as its sender would announce it.

        Raises
        ------
        StudyError
            ``object-malformed``, also where it was written meanwhile or a part is missing; ``object-without-uids``,
            ``object-too-large``, ``object-too-complex``.
        """
        data = read_whole(path, self._intake.maximum_object_bytes)
        transfer_syntax_uid, encoded = split_part10(data)
        header = scan_header(encoded, transfer_syntax_uid, self._intake.limits)
        prove_whole(encoded, transfer_syntax_uid, self._intake.limits)
        return self._request(header, transfer_syntax_uid), encoded

    def _request(self, header: Header, transfer_syntax_uid: str) -> StoreRequest:
        if header.sop_class_uid not in self._sop_classes:
            raise StudyError("object-malformed")
        return StoreRequest(
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
        )

    def _put_away(self, path: Path, verdict: Verdict) -> None:
        if verdict == "later":
            self._again[path] = self._monotonic() + _AGAIN_SECONDS
            return
        if verdict == "taken" and self._folder.after == "delete":
            path.unlink(missing_ok=True)
            return
        root = self._folder.path
        target = root / (TAKEN if verdict == "taken" else REFUSED) / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.rename(_free(target))

    def _tell(self, event: str, reason: str, kind: str) -> None:
        """Once, until it works again or something else is wrong: a share may be gone for hours."""
        if self._told != kind:
            self._emit(event, level="error", folder=self._folder.name, reason=reason, kind=kind)
        self._told = kind


def stamps(root: Path) -> Iterator[tuple[Path, Stamp]]:
    """Regular files below a folder that may be objects; links, unfinished names and what was put away are left out.

    Raises
    ------
    OSError
        If the folder itself cannot be read.
    """
    os.scandir(root).close()
    found = 0
    for folder, names, files in os.walk(root, followlinks=False):
        here = Path(folder)
        depth = len(here.relative_to(root).parts)
        names[:] = sorted(
            name
            for name in names
            if depth < _DEEPEST and not name.startswith(".") and not (depth == 0 and name in (TAKEN, REFUSED))
        )
        for name in sorted(files):
            if name.startswith(".") or name.lower().endswith(_UNFINISHED):
                continue
            with contextlib.suppress(FileNotFoundError):
                about = (here / name).lstat()
                if stat.S_ISREG(about.st_mode):
                    yield here / name, _stamp(about)
                    found += 1
                    if found == _MOST_FILES:
                        return


def read_whole(path: Path, most: int) -> bytes:
    """Content of a regular file that nobody writes meanwhile.

    Raises
    ------
    StudyError
        ``object-malformed`` where it cannot be read or changes; ``object-too-large``.
    """
    try:
        with open(os.open(path, _NO_WAIT), "rb", buffering=0) as file:  # noqa: PTH123 (flags)
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise StudyError("object-malformed")
            if before.st_size > most:
                raise StudyError("object-too-large", limit_bytes=most)
            data = file.readall()
            changed = _stamp(os.fstat(file.fileno())) != _stamp(before) or len(data) != before.st_size
    except OSError:
        raise StudyError("object-malformed") from None
    if changed:
        raise StudyError("object-malformed")
    return data


def prove_whole(encoded: memoryview, transfer_syntax_uid: str, limits: Limits) -> None:
    """Raise ``object-malformed`` where a file ends too early: within an element, or before an image's pixels."""
    dataset = read_dataset(encoded, transfer_syntax_uid, limits)
    pixels = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    if "Rows" in dataset and not any(keyword in dataset for keyword in pixels):
        raise StudyError("object-malformed")


def _stamp(about: os.stat_result) -> Stamp:
    return Stamp(about.st_ino, about.st_size, about.st_mtime_ns)


def _free(target: Path) -> Path:
    """The name itself, or with a number where a file has it already."""
    names = (target, *(target.with_name(f"{target.name}.{number}") for number in range(2, 1000)))
    return next((name for name in names if not name.exists()), target.with_name(f"{target.name}.{os.urandom(8).hex()}"))
