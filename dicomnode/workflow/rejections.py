"""Rejection notes that come in: what they name leaves the inputs, and what was made of it is to be withdrawn.

May live here: what a note changes in the ledger, in one transaction, the same however often it is judged. What is left of a
study is worked on anew by whoever opens revisions; who gets a note of ours is decided in `withdrawal`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from dicomnode.encoded import Limits, read_dataset
from dicomnode.errors import Fact, NodeError, StudyError
from dicomnode.events import Emit
from dicomnode.routing_rules import title_matches
from dicomnode.storage.ledger_rejections import LASTING
from dicomnode.study import (
    OPEN,
    REJECTED,
    RETRACTION,
    WITHDRAWAL,
    DeliveryState,
    InstanceRow,
    InstanceState,
    Rejected,
    WorkKey,
    WorkRow,
    WorkState,
    blind_key,
)
from dicomnode.workflow.handover import Handover, Rooms
from dicomnode.workflow.notes import ADJUSTED, RejectionNote, note_of
from dicomnode.workflow.ports import Clock
from dicomnode.workflow.routing import classes_of

#: The code under which what was made of rejected images ends.
CODE: Final = "instances-rejected"
_STAGES: Final = frozenset({WorkState.QUEUED, WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING})
_FINISHED: Final = frozenset({WorkState.READY, WorkState.HELD})
#: What ended, and of which a destination may have something, also of what was superseded: a try may have been under way.
_ENDED: Final = frozenset({WorkState.DONE, WorkState.FAILED, WorkState.CANCELLED, WorkState.SUPERSEDED})
_OPEN: Final = frozenset({DeliveryState.WAITING, DeliveryState.REFUSED, DeliveryState.CANCELLED})


class Rejections:
    """Judges notes.

    Parameters
    ----------
    rooms
        Where records, rows and plans of works are.
    limits
        Of what is read.
    senders
        AE titles, `*` for any part, whose notes count.
    remember
        Told of a study whose inputs changed though nothing came of it.
    """

    def __init__(
        self,
        rooms: Rooms,
        *,
        limits: Limits,
        senders: Sequence[str],
        remember: Callable[[str], None],
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._rooms = rooms
        self._handover = Handover(rooms)
        self._limits = limits
        self._senders = tuple(senders)
        self._remember = remember
        self._clock = clock
        self._emit = emit

    def judge(self, row: InstanceRow) -> None:
        """Do what a Key Object Selection says, if it is a rejection note; again changes nothing.

        Raises
        ------
        NodeError
            Where disk or ledger refuse for now; a StudyError for what cannot be read, or names nothing: nobody knows what
            its sender rejected.
        """
        metadata, encoded = self._rooms.spool.read(row.study_key, row.address)
        note = note_of(read_dataset(encoded, metadata.transfer_syntax_uid, self._limits))
        if note is None:
            return
        title = metadata.calling_ae_title.strip()
        if not any(title_matches(one, title) for one in self._senders):
            self._emit("rejection.ignored", level="warning", study=row.study_key, kind=note.kind.value)
            return
        if not note.named:
            raise StudyError("object-malformed", kind=note.kind.value)
        self._carry_out(row, note)

    def _carry_out(self, row: InstanceRow, note: RejectionNote) -> None:
        key, ledger = self._rooms.derivation_key, self._rooms.ledger
        named = {
            blind_key(key, "study", study): [blind_key(key, "instance", uid) for uid in uids]
            for study, uids in note.named.items()
        }
        used = {study_key: self._series(study_key) for study_key in named}
        told: dict[str, tuple[int, int]] = {}
        with ledger.transaction() as connection:
            for study_key, keys in named.items():
                now = self._now(connection, study_key, keys, note.kind, row)
                new = ledger.enter_rejections(study_key, keys, note.kind, note=row, connection=connection)
                lasting = note.kind in LASTING
                state = InstanceState.REJECTED if lasting else InstanceState.EXPIRED
                until = None if lasting else row.received_at
                gone = ledger.take_out(study_key, keys, state, until=until, now=now, connection=connection)
                if until is not None:  # the same again that came after the note is no duplicate any more
                    names = [one.instance_key for one in gone]
                    ledger.bring_back(study_key, names, until, now=now, connection=connection)
                self._end_works(connection, study_key, gone, note.kind, used[study_key])
                if gone and study_key != row.study_key:
                    ledger.reopen(study_key, connection=connection)
                told[study_key] = new, len(gone)
        for study_key, (new, count) in told.items():
            if new or count:
                self._emit("study.rejected", level="warning", study=study_key, kind=note.kind.value, named=new, objects=count)  # fmt: skip
            if count and study_key != row.study_key:
                self._remember(study_key)

    def _now(
        self, connection: Any, study_key: str, keys: Sequence[str], kind: Rejected, row: InstanceRow
    ) -> datetime | None:
        """What time it is, to tell what came with the clock ahead; None where that would hit what came after the note.

        So it is where the note was judged before, and with a clock that is far behind it: it was set back, or is not set yet.
        """
        now = self._clock()
        judged = self._rooms.ledger.is_entered(study_key, keys, kind, row.received_at, connection=connection)
        return None if judged or now < row.received_at - ADJUSTED else now

    def _series(self, study_key: str) -> dict[WorkKey, str]:
        """Series that each work of a study was made of, where that is known; raises where it is not to be known for now."""
        study = self._rooms.ledger.study(study_key)
        found = {}
        for work in () if study is None else study.works:
            try:
                found[work.key] = str(self._handover.plan(work.key)["series_key"])
            except NodeError as error:  # none was chosen yet, or never
                if error.may_pass:
                    raise
        return found

    def _end_works(
        self,
        connection: Any,
        study_key: str,
        gone: Sequence[InstanceRow],
        kind: Rejected,
        used: Mapping[WorkKey, str],
    ) -> None:
        study = self._rooms.ledger.study(study_key, connection=connection) if gone else None
        current = self._rooms.ledger.instances(study_key, connection=connection)
        for work in () if study is None else study.works:
            classes = classes_of(work.facts, self._rooms.sop_classes)
            series = {row.series_key for row in gone if row.sop_class_uid in classes}
            if not series:
                continue
            left = any(row.sop_class_uid in classes for row in current)
            if used.get(work.key) not in {None, *series} and (left or work.state not in _STAGES):
                continue  # what it was made of stands: it is replaced as by any change
            if kind is Rejected.EXPIRED:
                if work.state in _STAGES and not left:
                    self._put(connection, work, WorkState.REFUSED, kind)
            elif work.state in _STAGES:
                self._put(connection, work, WorkState.SUPERSEDED if left else WorkState.REFUSED, kind)
            elif work.state in _FINISHED:
                self._stop(connection, work, kind, left=left)
            else:
                self._withdraw(connection, work, kind)

    def _stop(self, connection: Any, work: WorkRow, kind: Rejected, *, left: bool) -> None:
        """End a work whose results wait; what a destination has of it all the same is withdrawn.

        A note of ours that waits with them goes neither: it would wait for ever, and the next one names what it names. Of a
        work that is held a try may be under way, at another destination than the one that it is held for.
        """
        self._cancel(connection, work, notes=RETRACTION not in work.facts)
        state = WorkState.SUPERSEDED if left and not work.may_be_delivered else WorkState.CANCELLED
        self._put(connection, work, state, kind, withdrawn=work.state is WorkState.HELD)

    def _withdraw(self, connection: Any, work: WorkRow, kind: Rejected) -> None:
        if work.state is WorkState.DELIVERING:
            # A try may be under way: what the destination takes meanwhile is seen when that has ended. A note of ours that
            # waits for one that is down would hold up all others; the next one names what it names. One that retracts this
            # work goes all the same.
            retracted = RETRACTION in work.facts
            self._cancel(connection, work, notes=not retracted)
            state = WorkState.DELIVERING if retracted and _is_note_waiting(work) else WorkState.CANCELLED
            self._put(connection, work, state, kind, withdrawn=True)
        elif work.state in _ENDED:
            self._cancel(connection, work)
            self._put(connection, work, work.state, kind, withdrawn=True)

    def _cancel(self, connection: Any, work: WorkRow, *, notes: bool = False) -> None:
        """Cancel what waits, and what could be tried again; a note of ours that retracts something goes all the same."""
        rows = [row for row in work.deliveries if row.state in _OPEN and (notes or row.is_result)]
        ledger = self._rooms.ledger
        ledger.put_deliveries(rows, DeliveryState.CANCELLED, self._clock(), reason=CODE, connection=connection)

    def _put(
        self, connection: Any, work: WorkRow, state: WorkState, kind: Rejected, *, withdrawn: bool = False
    ) -> None:
        facts: dict[str, Fact] = {REJECTED: kind.value, **({WITHDRAWAL: OPEN} if withdrawn else {})}
        reason = None if state in (work.state, WorkState.SUPERSEDED) else CODE
        self._rooms.ledger.set_work_state(
            work.key, state, at=self._clock(), reason=reason, facts=facts, connection=connection
        )


def _is_note_waiting(work: WorkRow) -> bool:
    """Whether a note of ours is still to go."""
    return any(row.state is DeliveryState.WAITING and not row.is_result for row in work.deliveries)
