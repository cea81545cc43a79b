"""A watched folder: files that nobody writes any more are sealed like objects of a C-STORE, then put away.

A file leaves its place only when its object is durable: whatever is killed in between finds it there and takes it again,
as the duplicate that it then is. Half-written files are waited for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

from dicomnode.encoded import Header, Limits, read_dataset, scan_header, split_part10
from dicomnode.errors import NodeError, StudyError
from dicomnode.events import Emit
from dicomnode.network.association import storage_classes
from dicomnode.network.intake import Intake, Peer, StoreRequest
from dicomnode.network.status import SUCCESS, StatusKind, classify
from dicomnode.pulses import FAR_SECONDS, Pulse
from dicomnode.sections import FolderSection
from dicomnode.workflow.folder_files import REFUSED, TAKEN, FolderFile, Stamp, list_files, open_file
from dicomnode.workflow.ports import Monotonic

_PATIENCE: Final = 20  # settle times after which a file that is still no whole object is none
_AGAIN_SECONDS: Final = 15.0
_SELDOM_SECONDS: Final = 3600.0
_OFTEN_SECONDS: Final = 300.0  # where nothing is wrong with the file itself
_FAILED: Final = ("folder.failed", "storage-failed")
Verdict = Literal["taken", "refused", "later"]


@dataclass(frozen=True, slots=True)
class _Seen:
    stamp: Stamp
    since: float


@dataclass(frozen=True, slots=True)
class _Wait:
    """When a file is tried anew; `kind` of fault, empty where it may still become whole, or the node take it."""

    due: float
    seconds: float
    kind: str


@dataclass(frozen=True, slots=True)
class _Done:
    stamp: Stamp
    verdict: Verdict


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
        self._again: dict[Path, _Wait] = {}  # files that could not be taken
        self._done: dict[Path, _Done] = {}  # what is sealed, or refused, and could not be put away
        self._told: frozenset[str] = frozenset()
        self._listed: Mapping[Path, Stamp] = {}
        self.pulse = Pulse("folder", FAR_SECONDS, folder=folder.name)

    def look(self) -> int:
        """Take what is settled, as one association; how many objects were sealed. Never raises for what the folder is like."""
        try:
            found = list_files(self._folder.path, self._again)
        except OSError as error:
            self._tell({type(error).__name__: _FAILED})
            return 0
        now, self._listed = self._monotonic(), found.files
        settled = self._settling.look(found.files, now)
        self._again = {path: wait for path, wait in self._again.items() if path in settled}
        self._done = {path: done for path, done in self._done.items() if done.stamp == found.files.get(path)}
        ready = {path: age for path, age in settled.items() if path not in self._again or self._again[path].due <= now}
        taken, faults = 0, dict.fromkeys(found.faults, _FAILED)
        for path in sorted(ready.keys() & self._done.keys()):
            self._trying(path, partial(self._put_away_again, path))
        if fresh := {path: age for path, age in ready.items() if path not in self._done}:
            taken, code = self._take_all(fresh)
            faults |= {} if code is None else {"admission": ("folder.waiting", code)}
        self._tell(faults | {wait.kind: _FAILED for wait in self._again.values() if wait.kind})
        return taken

    def _take_all(self, fresh: Mapping[Path, float]) -> tuple[int, str | None]:
        """How many objects were sealed; why none may come, where that is so."""
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
            return 0, error.code
        reception.opened(peer)
        try:
            for path in sorted(fresh):
                self._trying(path, partial(self._take_one, path, peer, fresh[path], verdicts))
        finally:
            reception.closed(peer, aborted=False)
        taken, refused = verdicts.count("taken"), verdicts.count("refused")
        if taken or refused:
            level = "warning" if refused else "info"
            self._emit("folder.taken", level=level, folder=self._folder.name, objects=taken, refused=refused)
        return taken, None

    def _trying(self, path: Path, act: Callable[[], None]) -> None:
        """What goes wrong with a file costs itself alone: it waits, for longer each time."""
        self.pulse.beat()
        try:
            act()
        except FileNotFoundError:  # gone meanwhile
            return
        except OSError as error:
            self._wait(path, type(error).__name__)

    def _take_one(self, path: Path, peer: Peer, age: float, verdicts: list[Verdict]) -> None:
        with open_file(self._folder.path, path) as file:
            if file.stamp != self._listed[path]:  # it settles anew
                return
            verdict = self._take(file, peer, age)
            verdicts.append(verdict)
            if verdict == "later":
                self._wait(path, "")
                return
            try:
                self._put_away(file, verdict)
            except OSError:
                self._done[path] = _Done(file.stamp, verdict)
                raise

    def _put_away_again(self, path: Path) -> None:
        done = self._done[path]
        with open_file(self._folder.path, path) as file:
            if file.stamp == done.stamp:
                self._put_away(file, done.verdict)

    def _take(self, file: FolderFile, peer: Peer, age: float) -> Verdict:
        """Seal the object of a file."""
        try:
            request, encoded = self._read(file)
        except NodeError as error:
            if age < _PATIENCE * self._folder.settle_seconds:
                return "later"  # it may be written on
            self._emit("object.refused", level="warning", address=peer.address, reason=error.code)
            return "refused"
        status = self._intake.begin(request, peer).take_whole(encoded)
        if status == SUCCESS:
            return "taken"
        return "later" if classify(status) is StatusKind.TRANSIENT else "refused"

    def _read(self, file: FolderFile) -> tuple[StoreRequest, memoryview]:
        """A whole object of a kind that is stored, as its sender would announce it.

        Raises
        ------
        StudyError
            ``object-malformed``, also where it was written meanwhile or a part is missing; ``object-without-uids``,
            ``object-too-large``, ``object-too-complex``.
        """
        data = file.read_whole(self._intake.maximum_object_bytes)
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

    def _put_away(self, file: FolderFile, verdict: Verdict) -> None:
        if verdict == "taken" and self._folder.after == "delete":
            file.delete()
        else:
            file.move(TAKEN if verdict == "taken" else REFUSED)

    def _wait(self, path: Path, kind: str) -> None:
        """Try a file again after a while, each time a longer one."""
        before = self._again.get(path)
        longest = _SELDOM_SECONDS if kind else _OFTEN_SECONDS
        seconds = _AGAIN_SECONDS if before is None else min(2 * before.seconds, longest)
        self._again[path] = _Wait(self._monotonic() + seconds, seconds, kind)

    def _tell(self, faults: Mapping[str, tuple[str, str]]) -> None:
        """Each kind of fault once, until there is none of it any more: a share may be gone for hours."""
        for kind in sorted(faults.keys() - self._told):
            event, reason = faults[kind]
            self._emit(event, level="error", folder=self._folder.name, reason=reason, kind=kind)
        self._told = frozenset(faults)


def prove_whole(encoded: memoryview, transfer_syntax_uid: str, limits: Limits) -> None:
    """Raise ``object-malformed`` where a file ends too early: within an element, or before an image's pixels."""
    dataset = read_dataset(encoded, transfer_syntax_uid, limits)
    pixels = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    if "Rows" in dataset and not any(keyword in dataset for keyword in pixels):
        raise StudyError("object-malformed")
