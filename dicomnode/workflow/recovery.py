"""After a start: the index is brought up to the spool, and everything that was under way is taken up again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from heapq import merge
from itertools import groupby

from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from dicomnode.study import NOTED, OPEN, OVERTAKEN, InstanceRow, InstanceState, RecordAddress, WorkState
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.indexing import is_to_be_judged, row_of
from dicomnode.workflow.notes import may_be_note
from dicomnode.workflow.ports import Clock, Monotonic, Queue

_BATCH = 500


class Recovery:
    """Runs once at every start; a start after a clean stop finds nothing to do.

    Parameters
    ----------
    ledger, spool
        What is known, and the journal that knows better.
    activity
        Table that completion reads: studies that were not settled are entered again, and wait their quiet time anew.
    queue
        Durable queue; it takes up its own workflows by itself.
    conflict
        Decides on an instance that came again with other bytes, or that may be a rejection note; a NodeError says that it
        cannot be done for now.
    later
        Takes such rows to try them again until they are decided; their studies do not settle meanwhile.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        activity: ActivityTable,
        queue: Queue,
        *,
        conflict: Callable[[InstanceRow], None],
        later: Callable[[Sequence[InstanceRow]], None],
        derivation_key: bytes,
        clock: Clock,
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._activity = activity
        self._queue = queue
        self._conflict = conflict
        self._later = later
        self._behind: dict[str, set[RecordAddress]] = {}  # by study, what `later` was handed
        self._key = derivation_key
        self._clock = clock
        self._monotonic = monotonic
        self._emit = emit

    def rebuild_index(self) -> int:
        """Enter every record of the spool that the index lacks; returns how many there were."""
        found = 0
        batch: list[InstanceRow] = []
        for row in self._rows():
            batch.append(row)
            if len(batch) >= _BATCH:
                found += self._record(batch)
        found += self._record(batch)
        if found:
            self._emit("index.rebuilt", records=found)
        return found

    def take_up(self, studies: Collection[str], mark: str) -> Iterator[InstanceRow]:
        """Rows of what a process that died had made durable in these studies; `mark` begins its segments' identifiers.

        What the index knows already may be among them.
        """
        return self._rows(studies, mark)

    def resume(self) -> None:
        """Enter studies that are not settled into the activity table, and queue works that a crash left unqueued."""
        now = self._monotonic()
        for study_key, _ in self._ledger.open_studies():
            self._judge(study_key)
            self._activity.remembered(study_key, now)  # while the node was deaf, its senders were not silent
        waiting = (WorkState.QUEUED, WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING)
        for work in self._ledger.works(waiting):
            self._queue.revive_work(work.key, priority=self._ledger.priority(work.key.study_key))

    def _rows(self, studies: Collection[str] | None = None, mark: str = "") -> Iterator[InstanceRow]:
        """What the index lacks, study by study, each in the order in which it came: which of two counts depends on that."""
        records = self._spool.recover(
            known=self._ledger.known_records, on_damage=self._set_aside, studies=studies, mark=mark
        )
        for study_key, of_study in groupby(records, key=lambda record: record[0]):
            yield from as_they_came(
                row_of(self._key, study_key, address, metadata) for _, address, metadata in of_study
            )

    def _judge(self, study_key: str) -> None:
        """Decide on instances that a crash left between their row and the decision on it."""
        decided = {row.address for row in self._ledger.quarantined(study_key)}
        for row in self._ledger.instances(study_key, InstanceState.QUARANTINED):
            if row.address not in decided:
                self._decide(row)
        for row in self._ledger.instances(study_key):
            if may_be_note(row):  # that it was judged stands nowhere: again it changes nothing
                self._decide(row)

    def _decide(self, row: InstanceRow) -> None:
        """Decide at once: what goes on after this start is to know of it.

        What cannot be decided for now is decided later, and so is, in its order, whatever else of its study is to be.
        """
        behind = self._behind.get(row.study_key)
        if behind is None:
            try:
                self._conflict(row)
            except NodeError:  # whoever tries again says so
                behind = self._behind[row.study_key] = set()
        if behind is not None and row.address not in behind:
            behind.add(row.address)
            self._later([row])

    def _set_aside(self, damage: Damage) -> None:
        """A torn end is what a crash leaves: nothing of it was acknowledged. Anything else is an alarm."""
        torn = damage.kind == "torn"
        self._emit(
            "segment.torn" if torn else "segment.damaged",
            level="info" if torn else "error",
            study=damage.study_key,
            segment=damage.segment_id,
            kind=damage.kind,
            record=damage.number,
        )
        if not torn:
            self._ledger.quarantine(damage.study_key, "segment", damage.reason, self._clock(), address=damage.address)

    def _record(self, batch: list[InstanceRow]) -> int:
        rows = list(batch)
        batch.clear()
        if rows:
            for row in self._ledger.record_instances(rows):
                if is_to_be_judged(row):
                    self._decide(row)
        return len(rows)


def as_they_came(rows: Iterable[InstanceRow]) -> Iterator[InstanceRow]:
    """Rows of a study, segment by segment, in the order of their times; those of one segment as they stand there.

    A segment is named by chance, so the order of names says nothing; nor do times alone, where a clock was set back.
    """
    segments = [list(of_segment) for _, of_segment in groupby(rows, key=lambda row: row.address.segment_id)]
    return merge(*segments, key=lambda row: row.received_at)


def end_tries(ledger: Ledger) -> None:
    """What a try that was killed was sending may be there; before anybody looks, or others begin.

    Where newer results were made since, no note of theirs names it: it is seen to as what a try adds that goes on.
    """
    with ledger.transaction() as connection:
        for result_id in ledger.end_tries(connection=connection):
            key = ledger.work_of_result(result_id, connection=connection)
            if key is not None and ledger.is_overtaken(result_id, connection=connection):
                ledger.add_facts(key, {OVERTAKEN: OPEN, NOTED: ""}, connection=connection)
