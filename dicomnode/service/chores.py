"""The chores of a node: what they are, how often each is done, and the rooms that only chores need."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from dicomnode.config import Config
from dicomnode.errors import StorageError
from dicomnode.events import Emit
from dicomnode.pulses import FAR_SECONDS, Pulse
from dicomnode.service import rooms
from dicomnode.service.delivering import Outbound, committing
from dicomnode.service.housekeeping import Chore, Households, Housekeeping
from dicomnode.service.rooms import Layout
from dicomnode.storage import audit
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.congestion import Congestion
from dicomnode.workflow.handover import Rooms
from dicomnode.workflow.lateness import longest_stage
from dicomnode.workflow.lingering import Lingering
from dicomnode.workflow.orders import Orders, Overseer
from dicomnode.workflow.originals import Originals
from dicomnode.workflow.overtaken import Overtaken
from dicomnode.workflow.pipeline import DurableQueue
from dicomnode.workflow.ports import Clock
from dicomnode.workflow.reminders import Reminder
from dicomnode.workflow.retention import Closing, Retention
from dicomnode.workflow.retraction import Retraction
from dicomnode.workflow.stages import Stages
from dicomnode.workflow.timekeeping import Timekeeper
from dicomnode.workflow.withdrawal import Withdrawal

_SWEEP_SECONDS: Final = 3600.0
_RECONCILE_SECONDS: Final = 15.0
_RETRACTION_SECONDS: Final = 5.0
_CLOCK_SECONDS: Final = 300.0
_ORDER_SECONDS: Final = 3.0
_AUDIT_SECONDS: Final = 86_400.0
_OVERSIGHT_SECONDS: Final = 300.0
_CLAIMS_SECONDS: Final = 60.0
#: Until the node is given up for a chore that does not end, or a study that is not shredded.
_HARD_SECONDS: Final = 7200.0


def housekeeping(
    tree: Config,
    storage: Rooms,
    queue: DurableQueue,
    *,
    admission: Admission,
    stages: Stages,
    activity: Closing,
    arriving: ActivityTable,
    timekeeper: Timekeeper,
    outbound: Outbound,
    emit: Emit,
) -> Households:
    """Threads that do them, to be begun."""
    pulses = Pulse("housekeeping", FAR_SECONDS, _HARD_SECONDS), Pulse("errands", FAR_SECONDS)
    beat = pulses[0].beat
    retraction = Retraction(
        storage, queue, destinations=tree.destinations, encoding=stages.encoding, clock=rooms.now, emit=emit, beat=beat
    )
    takers = frozenset(one.name for one in tree.destinations if one.rejection_notes)
    withdrawal = Withdrawal(storage.ledger, queue, takers=takers, clock=rooms.now, emit=emit, beat=beat)
    overtaken = Overtaken(storage.ledger, queue, retraction, destinations=tree.destinations, emit=emit, beat=beat)
    keeping = partial(_retention, tree, storage, queue, outbound, holds=stages.sealing.holds, pulses=pulses)
    retention, originals = keeping(activity=activity, sure=timekeeper.sure, emit=emit)
    orders = _orders(tree, storage, queue, outbound, admission=admission, emit=emit, beat=beat)
    overseer = Overseer(storage.ledger, queue, clock=rooms.now, emit=emit, committing=committing(tree), beat=beat)
    longest, sure = tree.intake.maximum_queue_seconds, timekeeper.sure
    congestion = Congestion(storage.ledger, arriving, longest, sure=sure, emit=emit)
    reminder = Reminder(storage.ledger, tree.retention, sure=sure, emit=emit)
    lingering = Lingering(storage.ledger, longest_stage(tree.completion, longest), monotonic=time.monotonic, emit=emit)
    chores = (
        Chore(name="clock", act=timekeeper.keep, every_seconds=_CLOCK_SECONDS),
        Chore(name="withdrawal", act=withdrawal.sweep, every_seconds=_RETRACTION_SECONDS),
        Chore(name="overtaken", act=overtaken.sweep, every_seconds=_RETRACTION_SECONDS),
        Chore(name="retraction", act=retraction.sweep, every_seconds=_RETRACTION_SECONDS),
        Chore(name="orders", act=orders.sweep, every_seconds=_ORDER_SECONDS),
        Chore(name="oversight", act=overseer.sweep, every_seconds=_OVERSIGHT_SECONDS),
        Chore(name="lingering", act=lingering.sweep, every_seconds=_OVERSIGHT_SECONDS),
        Chore(name="reconcile", act=partial(admission.reconcile, beat), every_seconds=_RECONCILE_SECONDS),
        Chore(name="claims", act=lambda: _take_up(queue, emit), every_seconds=_CLAIMS_SECONDS),
        Chore(name="standstill", act=queue.look, every_seconds=_RECONCILE_SECONDS),
        Chore(name="queue", act=congestion.sweep, every_seconds=_RECONCILE_SECONDS),
        Chore(name="retention", act=retention.sweep, every_seconds=_SWEEP_SECONDS),
        Chore(name="answered", act=retention.sweep_answered, every_seconds=_RECONCILE_SECONDS),
        Chore(name="reminder", act=reminder.sweep, every_seconds=tree.retention.remind_seconds),
    )
    errands = (
        Chore(name="originals", act=originals.ask, every_seconds=_RECONCILE_SECONDS),
        Chore(name="audit", act=lambda: _prove_trail(tree, emit), every_seconds=_AUDIT_SECONDS),
    )
    return Households(
        Housekeeping(chores, monotonic=time.monotonic, emit=emit, pulse=pulses[0]),
        Housekeeping(errands, monotonic=time.monotonic, emit=emit, name="errands", pulse=pulses[1]),
    )


def _take_up(queue: DurableQueue, emit: Emit) -> None:
    """Have run again what was taken out of a queue and is run by nobody; each is told, as what the overseer revives."""
    for work, destination in queue.take_up():
        if destination is None:
            emit("work.revived", level="warning", work=work)
        else:
            emit("delivery.revived", level="warning", work=work, destination=destination)


def _prove_trail(tree: Config, emit: Emit) -> None:
    """Tell of an audit trail that somebody changed, or that was damaged; what is done is told in it all the same."""
    try:
        audit.verify(Layout.of(tree).state)
    except StorageError as error:
        emit("audit.damaged", level="error", reason=error.code, line=error.facts.get("line"))


def _orders(
    tree: Config,
    storage: Rooms,
    queue: DurableQueue,
    outbound: Outbound,
    *,
    admission: Admission,
    emit: Emit,
    beat: Callable[[], None],
) -> Orders:
    return Orders(
        storage.ledger,
        queue,
        admission=admission,
        hurry=outbound.circuits.hurry,
        clock=rooms.now,
        emit=emit,
        committing=committing(tree),
        beat=beat,
    )


def _retention(
    tree: Config,
    storage: Rooms,
    queue: DurableQueue,
    outbound: Outbound,
    *,
    holds: Callable[[str], bool],
    activity: Closing,
    sure: Clock,
    pulses: tuple[Pulse, Pulse],
    emit: Emit,
) -> tuple[Retention, Originals]:
    keeps, asks = pulses
    originals = Originals(
        storage.ledger,
        storage.spool,
        archive=outbound.archive,
        derivation_key=storage.derivation_key,
        monotonic=time.monotonic,
        emit=emit,
        beat=asks.beat,
    )

    def may_go(study_key: str) -> bool:
        keeps.beat()
        return not holds(study_key) and originals.may_go(study_key)

    retention = Retention(
        storage.ledger,
        storage.spool,
        storage.objects,
        storage.keys,
        activity=activity,
        forget=queue.forget,
        may_go=may_go,
        answered=originals.answered,
        settings=tree.retention,
        sure=sure,
        emit=emit,
    )
    return retention, originals
