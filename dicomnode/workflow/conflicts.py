"""What becomes of an instance that came again under its UID with other bytes: the index asks, `sameness` decides.

Equal content in another encoding is a duplicate. Another header over the same pixels replaces the first one, which
opens a new revision; so does an object that is whole where the first one is not. What was replaced and is sent once more
changes nothing: it is told, and a duplicate, of no content that counts. Other pixels stay in quarantine beside
the first, with an alert; the sender has its success. What counts, and may be a rejection note, is then judged as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Final

from pydicom import Dataset

from dicomnode.config import ReadingSection
from dicomnode.encoded import Limits, read_dataset
from dicomnode.errors import NodeError, StorageError, StudyError
from dicomnode.events import Emit
from dicomnode.imaging.decode import Decoder
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, InstanceState
from dicomnode.workflow.damage import heirs, lost
from dicomnode.workflow.notes import ADJUSTED, may_be_note
from dicomnode.workflow.ports import Clock
from dicomnode.workflow.records import differ
from dicomnode.workflow.sameness import Sameness, compare

#: Codes of images that their sender may mend by sending them again.
_DAMAGED: Final = frozenset({"pixel-missing", "pixel-undecodable"})


class Conflicts:
    """Resolves conflicts of the index.

    Parameters
    ----------
    ledger, spool
        Where rows and records are.
    reading, limits
        Budgets of decoding and of parsing.
    judge
        Judges what may be a rejection note; a NodeError says that it cannot for now.
    clock, emit
        Wall clock in UTC; where events go.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        reading: ReadingSection,
        *,
        limits: Limits,
        judge: Callable[[InstanceRow], None] = lambda _: None,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._decoder = Decoder(
            timeout_seconds=reading.decode_timeout_seconds, memory_bytes=reading.decode_memory_bytes
        )
        self._limits = limits
        self._differ = partial(differ, spool, limits)
        self._judge = judge
        self._clock = clock
        self._emit = emit

    def close(self) -> None:
        """End the decoding child."""
        self._decoder.close()

    def settle(self, row: InstanceRow) -> None:
        """As `resolve`, but undecided where it may be decided later.

        Raises
        ------
        NodeError
            Where disk or ledger refuse for now: nothing was said of the row.
        """
        self._decide(row, later=True)

    def resolve(self, row: InstanceRow) -> None:
        """Decide on a row that the index quarantined, or that may be a rejection note; never raises: what cannot be decided is told."""
        self._decide(row, later=False)

    def _decide(self, row: InstanceRow, *, later: bool) -> None:
        try:
            if row.state is InstanceState.QUARANTINED:
                row = self._resolve(row)
            if may_be_note(row):
                self._judge(row)
        except NodeError as error:
            if later and error.retryable and error.code != "sealed-damaged":
                raise
            self._alert(row, error.code)
        except Exception:  # noqa: BLE001 - the border: the index's thread must go on whatever two objects hold
            self._alert(row, "internal")

    def _resolve(self, row: InstanceRow) -> InstanceRow:
        """The row as it is after the decision."""
        rows = [one for one in self._ledger.instances(row.study_key, None) if one.instance_key == row.instance_key]
        rivals = [one for one in rows if one.state is InstanceState.CURRENT and one.address != row.address]
        if not rivals:
            return self._succeed(row, rows)
        again = self._read(row)
        first = self._whole(rivals[0], rows)
        sameness = Sameness.OTHER_PIXELS if first is None else compare(first, again, self._decoder.pixels)
        if (sameness is Sameness.OTHER_HEADER or first is None) and self._was_replaced(row, again, rows):
            return self._outdate(row)
        if sameness is Sameness.SAME:
            return self._repeat(row)
        if sameness is Sameness.OTHER_HEADER or self._mends(first, again):
            with self._ledger.transaction() as connection:
                for state, one in ((InstanceState.REPLACED, rivals[0]), (InstanceState.CURRENT, row)):
                    self._ledger.set_instance_state(row.study_key, one.address, state, connection=connection)
            self._emit("object.replaced", study=row.study_key)
            return replace(row, state=InstanceState.CURRENT)
        self._alert(row, "same-uid-other-content")
        return row

    def _outdate(self, row: InstanceRow) -> InstanceRow:
        self._emit("object.outdated", level="warning", study=row.study_key)
        return self._repeat(row)

    def _repeat(self, row: InstanceRow) -> InstanceRow:
        self._ledger.set_instance_state(row.study_key, row.address, InstanceState.DUPLICATE)
        return replace(row, state=InstanceState.DUPLICATE)

    def _was_replaced(self, row: InstanceRow, again: Dataset, rows: Sequence[InstanceRow]) -> bool:
        """Whether what came again is what a correction replaced: who sent it does not know of that, or tries once more."""
        replaced = [one for one in rows if one.state is InstanceState.REPLACED]
        if any(one.digest == row.digest for one in replaced):
            return True
        found = (self._whole(one, ()) for one in replaced)
        return any(one and compare(one, again, self._decoder.pixels) is Sameness.SAME for one in found)

    def _succeed(self, row: InstanceRow, rows: Sequence[InstanceRow]) -> InstanceRow:
        """The row after what stood in its way was rejected, or damaged and set aside, meanwhile: this counts, if it can be read.

        Unless it was rejected too (RAD TF-2 4.66): of what expired, only what had come by then. Nor where it is what a
        correction replaced that is damaged: as lost as that is, it is no older one.
        """
        again = self._read(row)
        was_lost = row.instance_key in {one.instance_key for one in lost(self._ledger, row.study_key)}
        if was_lost and self._was_replaced(row, again, rows):
            return self._outdate(row)
        with self._ledger.transaction() as connection:
            rows = self._ledger.instances(row.study_key, None, connection=connection)
            same = [one for one in rows if one.instance_key == row.instance_key]
            if any(one.state is InstanceState.CURRENT and one.address != row.address for one in same):
                raise StorageError("index-behind")  # it came again while this was read: they are compared
            expired_at = self._ledger.expired_at(row.study_key, row.instance_key, connection=connection)
            if self._has_expired(row, expired_at) or all(
                one.address != row.address or one.state is not InstanceState.QUARANTINED for one in same
            ):
                return row
            address, state = row.address, InstanceState.CURRENT
            self._ledger.set_instance_state(row.study_key, address, state, connection=connection)
            counts = address in {one.address for one in self._ledger.instances(row.study_key, connection=connection)}
        if counts and was_lost:
            self._emit("object.replaced", study=row.study_key)
        return replace(row, state=state) if counts else row  # what is rejected for good does not

    def _has_expired(self, row: InstanceRow, at: datetime | None) -> bool:
        """Whether a note of some time holds for what came: what came before it, or seems to come from a clock that was ahead.

        Where the clock is behind the note itself, it is that one which is wrong.
        """
        if at is None:
            return False
        return row.received_at <= at or at - ADJUSTED <= self._clock() < row.received_at - ADJUSTED

    def _whole(self, row: InstanceRow, rows: Sequence[InstanceRow]) -> Dataset | None:
        """What came first, or came as its duplicate; None where nobody can read it, as it came or as it lies on the disk now."""
        damaged = self._ledger.damaged(row.study_key)
        for one in chain([row], heirs(row, rows, damaged=damaged, differ=self._differ)):
            try:
                return self._read(one)
            except StudyError:
                return None
            except StorageError as error:
                if error.code != "sealed-damaged":
                    raise
        return None

    def _mends(self, first: Dataset | None, again: Dataset) -> bool:
        """Whether what came again is whole, and what came first is not: it was cut off or damaged on its way."""
        return (first is None or self._is_damaged(first)) and not self._is_damaged(again)

    def _is_damaged(self, dataset: Dataset) -> bool:
        """Whether an image lacks pixels, or nobody can decode them."""
        try:
            self._decoder.pixels(dataset)
        except StudyError as error:
            return error.code in _DAMAGED
        return False

    def _alert(self, row: InstanceRow, code: str) -> None:
        self._emit("object.quarantined", level="warning", study=row.study_key, reason=code)
        try:
            self._ledger.quarantine(row.study_key, "instance", code, self._clock(), address=row.address)
        except NodeError as error:
            self._emit("ledger.failed", level="error", study=row.study_key, reason=error.code)

    def _read(self, row: InstanceRow) -> Dataset:
        metadata, encoded = self._spool.read(row.study_key, row.address)
        return read_dataset(encoded, metadata.transfer_syntax_uid, self._limits)
