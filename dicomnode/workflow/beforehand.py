"""Instances that are read and de-identified while their study still comes: its work then waits for less.

May live here: what is made beforehand, in memory alone, of how much, and when it is let go. May not: what is done with it.
Whoever uses it asks of each instance whether it was made of the very record that counts now; what is missing or was made
of another one is made as if there were no such thing, to the same bytes. A process that is killed has nothing to take back.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from pydicom import Dataset

from dicomnode.encoded import Limits, SeriesReader, wrap_part10
from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.heap import give_back
from dicomnode.pulses import FAR_SECONDS, Pulse
from dicomnode.study import InstanceRow, InstanceState, RecordAddress, RecordMetadata
from dicomnode.workflow.copying import Copied, Copier
from dicomnode.workflow.selection import without_pixels

#: Bytes that a header takes in memory, on the high side.
_HEADER_BYTES: Final = 64 * 1024
#: How much nicer than the rest of the node its thread is. Not more: it may hold Python's lock while others wait for that.
_NICENESS: Final = 5
#: Until it looks again whether stages run.
_BUSY_SECONDS: Final = 0.05


class Records(Protocol):
    """The part of the spool that this needs."""

    def read(self, study_key: str, address: RecordAddress) -> tuple[RecordMetadata, bytes]:
        """Metadata and encoded Data Set of a record."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Early:
    """What was made of one record.

    Attributes
    ----------
    header
        Its Data Set without the pixels, as received.
    copied
        Its pseudonymous copy.
    image
        The copy, read, its pixels a view into it: for one who takes it away, since reading a volume takes pixels out.
    """

    address: RecordAddress
    digest: str
    header: Dataset = field(repr=False)
    copied: Copied = field(repr=False)
    image: list[Dataset] = field(repr=False)

    def is_of(self, row: InstanceRow) -> bool:
        """Whether it was made of the record that an instance is now."""
        return (self.address, self.digest) == (row.address, row.digest)


@dataclass(slots=True, eq=False)
class _Series:
    reader: SeriesReader
    copier: Copier
    copies: SeriesReader


@dataclass(slots=True, eq=False)
class _Study:
    """What is known of one study; `reserved` are the bytes of what waits and of what is made."""

    rank: int
    waiting: deque[InstanceRow] = field(default_factory=deque)
    made: dict[str, Early] = field(default_factory=dict)
    series: dict[str, _Series] = field(default_factory=dict)
    reserved: int = 0
    settled: bool = False
    used: bool = False


class Beforehand:
    """Keeps what was made of studies that still come; its thread makes it, the most urgent study's first.

    Parameters
    ----------
    records
        The spool.
    copier
        Makes a copier for one series.
    limits
        Budgets of reading.
    most_bytes
        Of all that is kept; 0: nothing is made.
    sop_classes
        SOP Classes that any model looks at.
    rank
        How urgent a study is: the lower, the more.
    wanted
        Whether a work of a study is still to be prepared.
    held
        Bytes of what works took of it and still hold, to seal it.
    turn
        A turn in which nothing else may be read or de-identified; gives False where stages run, which go first.
    report
        Told of an exception that nobody foresaw.
    """

    def __init__(
        self,
        records: Records,
        copier: Callable[[], Copier],
        *,
        limits: Limits,
        most_bytes: int,
        sop_classes: Collection[str],
        rank: Callable[[str], int],
        wanted: Callable[[str], bool],
        held: Callable[[], int],
        turn: Callable[[], AbstractContextManager[bool]],
        report: Callable[[str, BaseException], None],
        emit: Emit,
    ) -> None:
        self._records = records
        self._copier = copier
        self._limits = limits
        self._most_bytes = most_bytes
        self._sop_classes = frozenset(sop_classes)
        self._rank = rank
        self._wanted = wanted
        self._held = held
        self._turn = turn
        self._report = report
        self._emit = emit
        self._changed = threading.Condition()
        self._studies: dict[str, _Study] = {}
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="beforehand", daemon=True)
        self._pulse = Pulse("beforehand", FAR_SECONDS)
        self.pulses = (self._pulse,)

    @property
    def held_bytes(self) -> int:
        """Bytes of what is kept and of what is about to be."""
        with self._changed:
            return self._reserved()

    def begin(self) -> None:
        """Start the thread, where anything is to be made."""
        if self._most_bytes:
            self._thread.start()

    def end(self) -> None:
        """Stop it, and let go of everything."""
        with self._changed:
            self._ended = True
            self._studies.clear()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def offer(self, rows: Sequence[InstanceRow]) -> None:
        """Instances came and are in the index; returns at once. What there is no room for is left."""
        fitting = [row for row in rows if row.sop_class_uid in self._sop_classes and row.state is InstanceState.CURRENT]
        if not fitting or not self._most_bytes:
            return
        try:
            self._take_in(fitting)
        except Exception as error:  # noqa: BLE001 - the border: the index goes on whatever happens here
            self._report("beforehand", error)

    def _take_in(self, fitting: Sequence[InstanceRow]) -> None:
        with self._changed:
            new = {row.study_key for row in fitting} - self._studies.keys()
        ranks = {study_key: self._rank_of(study_key) for study_key in new}
        with self._changed:
            if self._ended:
                return
            for row in fitting:
                self._take(row, ranks)
            self._changed.notify_all()

    def of(self, study_key: str) -> Mapping[str, Early]:
        """What was made of a study so far, by instance."""
        with self._changed:
            study = self._studies.get(study_key)
            return {} if study is None else dict(study.made)

    def used(self, study_key: str) -> None:
        """A work was prepared; what is kept of a study that is settled has served."""
        with self._changed:
            if (study := self._studies.get(study_key)) is None:
                return
            study.used = True
            if not study.settled:
                return
            del self._studies[study_key]
        give_back()

    def settled(self, study_key: str) -> None:
        """Nothing more is expected of a study."""
        with self._changed:
            if study_key not in self._studies:
                return
        try:
            wanted = self._wanted(study_key)
        except NodeError:  # the study is settled all the same
            wanted = False
        with self._changed:
            if (study := self._studies.get(study_key)) is None:
                return
            study.settled = True
            if wanted and not study.used:
                return
            del self._studies[study_key]
        give_back()

    def _rank_of(self, study_key: str) -> int:
        try:
            return self._rank(study_key)
        except NodeError:  # it is only about who goes first
            return 1

    def _take(self, row: InstanceRow, ranks: Mapping[str, int]) -> None:
        study = self._studies.get(row.study_key)
        rank = study.rank if study is not None else ranks.get(row.study_key, 1)
        if not self._make_room(_size(row), rank):
            return
        study = self._studies.setdefault(row.study_key, _Study(rank))
        study.waiting.append(row)
        study.reserved += _size(row)
        study.settled = study.used = False

    def _make_room(self, size: int, rank: int) -> bool:
        """Whether there is room, what of less urgent studies was made being given up for it."""
        while self._reserved() + size > self._most_bytes:
            others = [key for key, study in self._studies.items() if study.rank > rank]
            if not others or size > self._most_bytes:
                return False
            del self._studies[max(others, key=lambda key: self._studies[key].rank)]
        return True

    def _reserved(self) -> int:
        return self._held() + sum(study.reserved for study in self._studies.values())

    def _run(self) -> None:
        with suppress(OSError):  # of this thread alone (setpriority(2), NOTES)
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or any(one.waiting for one in self._studies.values()))
            with self._pulse, self._turn() as free:
                if free:
                    self.step()
            with self._changed:
                if self._ended or (not free and self._changed.wait_for(lambda: self._ended, _BUSY_SECONDS)):
                    return

    def step(self) -> bool:
        """Make what is next; False where nothing waits."""
        with self._changed:
            waiting = [(study.rank, key) for key, study in self._studies.items() if study.waiting]
            if not waiting:
                return False
            study_key = min(waiting, key=lambda one: one[0])[1]
            study = self._studies[study_key]
            row = study.waiting.popleft()
        made = self._make(study, row)
        with self._changed:
            if made is None:
                study.reserved -= _size(row)
            else:
                study.made[row.instance_key] = made
            count = 0 if study.waiting or self._studies.get(study_key) is not study else len(study.made)
        if count:
            self._emit("study.prepared-early", level="debug", study=study_key, images=count)
        return True

    def _make(self, study: _Study, row: InstanceRow) -> Early | None:
        """What there is to be made of a record; None where that fails: the work will say why."""
        series = study.series.get(row.series_key)
        if series is None:
            series = study.series[row.series_key] = _Series(
                SeriesReader(self._limits), self._copier(), SeriesReader(self._limits)
            )
        try:
            metadata, encoded = self._records.read(row.study_key, row.address)
            file = wrap_part10(
                encoded,
                sop_class_uid=metadata.sop_class_uid,
                sop_instance_uid=metadata.sop_instance_uid,
                transfer_syntax_uid=metadata.transfer_syntax_uid,
            )
            header = without_pixels(series.reader.read(file))
            copied = series.copier.make(file)
            image = series.copies.read(copied.data)
            return Early(address=row.address, digest=row.digest, header=header, copied=copied, image=[image])
        except NodeError:
            return None
        except Exception as error:  # noqa: BLE001 - the border: the thread must outlive whatever happens
            self._report("beforehand", error)
            return None


def _size(row: InstanceRow) -> int:
    return row.length + _HEADER_BYTES
