"""The index follows the spool: a thread that writes rows in batches, off the response path.

The spool is the journal; a row that a crash swallowed is found again by `rebuild`.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Protocol

from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.pulses import NEAR_HARD_SECONDS, NEAR_SECONDS, Pulse
from dicomnode.study import InstanceRow, InstanceState, RecordAddress, RecordMetadata, blind_key
from dicomnode.workflow.judging import Judging
from dicomnode.workflow.notes import may_be_note

_BATCH = 500
_LINGER_SECONDS = 0.5
#: What is waited for the rows of a study while nothing at all is written: another study's were waited for in vain.
_GLANCE_SECONDS = 0.05


class Index(Protocol):
    """The part of the ledger that keeps instances."""

    def record_instances(self, rows: Sequence[InstanceRow]) -> tuple[InstanceRow, ...]:
        """Record rows, idempotent by address; returns them with the state that each was given."""
        ...


def is_to_be_judged(row: InstanceRow) -> bool:
    """Whether somebody has to open an instance to say what it is, or what it does."""
    return row.state is InstanceState.QUARANTINED or may_be_note(row)


def row_of(
    derivation_key: bytes, study_key: str, address: RecordAddress, metadata: RecordMetadata, series_key: str = ""
) -> InstanceRow:
    """Index row of a record, with blind keys in place of UIDs; that of the series where the caller has it."""
    return InstanceRow(
        study_key=study_key,
        series_key=series_key
        or blind_key(derivation_key, "series", metadata.study_instance_uid, metadata.series_instance_uid),
        instance_key=blind_key(derivation_key, "instance", metadata.sop_instance_uid),
        sop_class_uid=metadata.sop_class_uid,
        transfer_syntax_uid=metadata.transfer_syntax_uid,
        digest=metadata.digest,
        length=metadata.length,
        address=address,
        received_at=metadata.received_at,
    )


class Indexer:
    """Writes rows into the ledger in the order in which they came.

    Parameters
    ----------
    index
        The ledger.
    conflict
        Called for a row that another content under the same UID put into quarantine, or that may be a rejection note.
    unreadable
        Called for such a row after some tries, where the disk does not give it: it is decided without, and never raises.
    told
        Called with rows that are in the index now, and that no conflict stands in the way of; returns at once.
    emit
        Where events go.
    capacity
        Rows that may wait; beyond it `add` waits, which slows the senders down.
    """

    def __init__(
        self,
        index: Index,
        *,
        conflict: Callable[[InstanceRow], None],
        unreadable: Callable[[InstanceRow], None] = lambda _: None,
        told: Callable[[Sequence[InstanceRow]], None] = lambda _: None,
        emit: Emit,
        capacity: int = 20_000,
    ) -> None:
        self._index = index
        self._told = told
        self._emit = emit
        self._capacity = capacity
        self._bounded = True
        self._waiting: deque[InstanceRow] = deque()
        self._hurried = 0
        lock = threading.Lock()
        self._changed = threading.Condition(lock)
        self._arrived = threading.Condition(lock)
        self._open: Counter[str] = Counter()
        self._vain: dict[str, float] = {}  # seconds for which the rows of a study, open since, were waited for in vain
        self._closes, self._stood_at = 0, -1  # times that rows were closed; of these, at the last wait in vain
        self._ended = threading.Event()
        self._conflicts = Judging(conflict, unreadable, closed=self._close, ended=self._ended, emit=emit)
        self._pulse = Pulse("indexer", NEAR_SECONDS, NEAR_HARD_SECONDS)
        self.pulses = (self._pulse, self._conflicts.pulse)
        self._threads = (
            threading.Thread(target=self._run, name="indexer", daemon=True),
            threading.Thread(target=self._conflicts.run, name="conflicts", daemon=True),
        )

    def begin(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def yield_way(self) -> None:
        """Let rows in however many wait: senders are about to be gone, and who hands over the last rows is not held up."""
        with self._changed:
            self._bounded = False
            self._changed.notify_all()

    def end(self) -> None:
        """Write what waits and stop; conflicts that are still open are decided at the next start."""
        self._ended.set()
        with self._changed:
            self._arrived.notify_all()
            self._changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def add(self, row: InstanceRow) -> None:
        """Hand over a row; returns at once unless `capacity` rows wait, or `yield_way` was called."""
        with self._changed:
            while self._bounded and len(self._waiting) >= self._capacity and not self._ended.is_set():
                self._changed.wait()
            self._open[row.study_key] += 1
            self._waiting.append(row)
            if len(self._waiting) in {1, _BATCH}:
                self._arrived.notify_all()

    def judge(self, rows: Sequence[InstanceRow]) -> None:
        """Have rows decided on that are in the index already, after those of their study that wait; `flush` waits for them, too."""
        with self._changed:
            self._open.update(row.study_key for row in rows)
        for row in rows:
            self._conflicts.put(row)

    def flush(self, study_key: str, timeout: float = 2.0) -> bool:
        """Wait until the study's rows are in the ledger and its conflicts decided; False when it took too long."""
        with self._changed:
            self._hurried += 1
            self._arrived.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._open[study_key], timeout)
            finally:
                self._hurried -= 1

    def catch_up(self, study_key: str, timeout: float = 2.0) -> bool:
        """As `flush`, for who has other studies to see to: for each, all waits in vain together take no longer.

        What is held up is looked at and not waited for; where nothing at all is written, each study is for a glance, once.
        """
        with self._changed:
            spent = self._vain.get(study_key, 0.0)
            left = 0.0 if self._conflicts.holds_up(study_key) else max(timeout - spent, 0.0)
            if self._closes == self._stood_at:
                left = 0.0 if spent else min(left, _GLANCE_SECONDS)
        if self.flush(study_key, left):
            return True
        with self._changed:
            if self._open[study_key]:
                self._vain[study_key] = spent + left
                self._stood_at = self._closes if left else self._stood_at
        return False

    def _close(self, rows: Sequence[InstanceRow]) -> None:
        with self._changed:
            self._closes += 1
            for row in rows:
                self._open[row.study_key] -= 1
                if not self._open[row.study_key]:
                    del self._open[row.study_key]
                    self._vain.pop(row.study_key, None)
            self._changed.notify_all()

    def _run(self) -> None:
        while batch := self._batch():
            with self._pulse:
                self._write(batch)
        self._conflicts.put(None)

    def _batch(self) -> list[InstanceRow]:
        """Next rows to be written in one transaction; none at the end.

        The first one waits a little for others: a transaction costs the same for one row as for many.
        """
        with self._changed:
            self._arrived.wait_for(lambda: bool(self._waiting) or self._ended.is_set())
            self._arrived.wait_for(
                lambda: len(self._waiting) >= _BATCH or bool(self._hurried) or self._ended.is_set(), _LINGER_SECONDS
            )
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._changed.notify_all()
            return batch

    def _write(self, batch: list[InstanceRow]) -> None:
        while batch:
            self._pulse.beat()
            recorded = self._try(batch)
            if recorded is not None:
                conflicting = [row for row in recorded if is_to_be_judged(row)]
                self._told(clear := [row for row in recorded if not is_to_be_judged(row)])
                self._tell(recorded)
                self._close(clear)
                for row in conflicting:
                    self._conflicts.put(row)
                return
            if self._ended.wait(1.0):  # the spool still holds them; the next start finds them
                self._close(batch)
                return

    def _tell(self, recorded: Sequence[InstanceRow]) -> None:
        """Say that what a note has rejected came all the same: its sender has its success, and may wonder."""
        rejected = Counter(row.study_key for row in recorded if row.state is InstanceState.REJECTED)
        for study_key, count in rejected.items():
            self._emit("object.rejected", level="warning", study=study_key, objects=count)

    def _try(self, batch: list[InstanceRow]) -> tuple[InstanceRow, ...] | None:
        try:
            return self._index.record_instances(batch)
        except NodeError as error:
            self._emit("index.failed", level="error", reason=error.code, rows=len(batch))
        except Exception as error:  # noqa: BLE001 - the border: the thread must outlive whatever happens
            self._emit("index.fault", level="error", kind=type(error).__name__, reason="internal", rows=len(batch))
        return None
