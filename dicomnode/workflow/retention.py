"""How long data stays: a study that is finished and old enough is shredded: its keys and what they sealed.

What is held until somebody releases it is hardly kept for longer (`deadlines`): its results are given up first, and told.
What failed late is kept for some days, in which somebody may look at it and try it again: never shredded as soon as told.
What was ordered of a study and is not carried out keeps it: an export that waits for its peer, for as long as that is tried,
and results that somebody found wrong, until their rejection notes are queued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.sections import RetentionSection
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import OrderRow
from dicomnode.storage.spool import Spool
from dicomnode.study import (
    FINAL_STATES,
    OPEN,
    RETRACTION,
    WISHED,
    WITHDRAWAL,
    DeliveryState,
    WorkKey,
    WorkRow,
    WorkState,
)
from dicomnode.workflow.deadlines import kept_until
from dicomnode.workflow.generations import remember
from dicomnode.workflow.ports import Clock

#: Why a work ended whose results nobody let go.
HELD_TOO_LONG: Final = "held-too-long"
#: Days for which its study is kept after that, where `retention.days` are more.
_RETRIED_DAYS: Final = 1.0
#: Days for which a study is kept after work on it failed otherwise, where `retention.days` are more: over holidays, too.
FAILED_DAYS: Final = 7.0
_WAITING: Final = (WorkState.HELD, WorkState.READY)


class Closing(Protocol):
    """Whoever knows which studies are arriving."""

    def closed(self, study_key: str) -> AbstractContextManager[bool]:
        """Keep new instances of a study waiting; False where anything of it is under way already."""
        ...


class Retention:
    """Shreds studies that are past their time.

    Parameters
    ----------
    ledger, spool, objects, keys
        Where a study's data and keys are.
    activity
        Keeps new instances of a study waiting while it is shredded.
    forget
        Deletes what the durable queue keeps of a study.
    may_go
        Whether the originals of a study are safe elsewhere, where they must be.
    answered
        Studies of which that became known.
    settings
        Days.
    sure, emit
        The time that has surely come, in UTC, by which data grows old; where events go.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        objects: Objects,
        keys: DataKeys,
        *,
        activity: Closing,
        forget: Callable[[str], None],
        may_go: Callable[[str], bool] = lambda _: True,
        answered: Callable[[], Iterable[str]] = tuple,
        settings: RetentionSection,
        sure: Clock,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._objects = objects
        self._keys = keys
        self._activity = activity
        self._forget = forget
        self._may_go = may_go
        self._answered = answered
        self._settings = settings
        self._sure = sure
        self._emit = emit

    def sweep(self) -> int:
        """Give up what was held for too long, and shred every expired study whose work has ended; returns how many."""
        self._ledger.forget_procedures(self._limit())
        for work in self._ledger.works(_WAITING):
            self._give_up(work.key)
        return self._shred_some(self._ledger.expired(self._limit()))

    def sweep_answered(self) -> int:
        """Shred the expired studies of which it became known since that their originals are safe; returns how many."""
        return self._shred_some(self._answered())

    def _shred_some(self, study_keys: Iterable[str]) -> int:
        shredded = 0
        for study_key in study_keys:
            try:
                shredded += self._may_go(study_key) and self._shred(study_key)
            except NodeError as error:
                self._emit("retention.failed", level="error", study=study_key, reason=error.code)
                if error.code == "ledger-in-use":  # it would hold up the others as long
                    break
        return shredded

    def _give_up(self, key: WorkKey) -> None:
        """End a work whose results nobody let go in time: its deliveries are dead letters, which can be retried."""
        with self._ledger.transaction() as connection:
            study = self._ledger.study(key.study_key, connection=connection)
            work = self._ledger.work(key, connection=connection)
            now = self._sure()
            if study is None or work is None or work.state not in _WAITING:
                return
            if now <= kept_until(work, study.last_received_at, self._settings.days):
                return
            rows = [row for row in work.deliveries if row.state is DeliveryState.WAITING]
            self._ledger.put_deliveries(rows, DeliveryState.REFUSED, now, reason=HELD_TOO_LONG, connection=connection)
            for state in (WorkState.HELD, WorkState.FAILED):  # nothing else fails what is ready
                self._ledger.set_work_state(key, state, at=now, reason=HELD_TOO_LONG, connection=connection)
        self._emit("work.failed", level="error", work=key.workflow_id, model=key.model, reason=HELD_TOO_LONG)

    def _may_be_retried(self, work: WorkRow) -> bool:
        """Whether a work failed, or was given up, so short a time ago that somebody may still want its results."""
        if work.state is not WorkState.FAILED or work.settled_at is None:
            return False
        days = _RETRIED_DAYS if work.reason == HELD_TOO_LONG else FAILED_DAYS  # what was held was told every day
        return self._sure() - work.settled_at < timedelta(days=min(days, self._settings.days))

    def _limit(self) -> datetime:
        return self._sure() - timedelta(days=self._settings.days)

    def _shred(self, study_key: str) -> bool:
        """Shred one study, unless anything of it is under way or came in since the list was made."""
        with self._activity.closed(study_key) as closed:
            study = self._ledger.study(study_key)
            if not closed or study is None or study.last_received_at >= self._limit():
                return False
            if any(work.state not in FINAL_STATES or self._may_be_retried(work) for work in study.works):
                return False
            if self._orders(study_key) or any(_is_wished_back(work) for work in study.works):
                return False
            self._spool.purge(study_key)  # before the keys: an open segment holds its own
            self._keys.shred(study_key)
            self._objects.purge(study_key)
            self._forget(study_key)
            with self._ledger.transaction() as connection:
                late = self._orders(study_key, connection=connection)
                wishes = [
                    one for one in self._ledger.wished_back(connection=connection) if one.key.study_key == study_key
                ]
                last = self._ledger.study(study_key, connection=connection)  # a try may have ended since
                remember(connection, self._ledger, last or study, self._sure())
                self._ledger.purge_study(study_key, connection=connection)
                for order in late:  # given meanwhile: whoever carries it out tells that the study is gone
                    self._ledger.give_order(order, connection=connection)
            self._ledger.empty_journal()
        for work in wishes:  # entered since they were looked at
            self._emit("retraction.failed", level="error", work=work.key.workflow_id, reason="study-not-found")
        self._emit("study.shredded", study=study_key)
        return True

    def _orders(self, study_key: str, *, connection: Any = None) -> list[OrderRow]:
        return [one for one in self._ledger.orders(connection=connection) if one.study_key == study_key]


def outlives(days: float, give_up_seconds: float) -> str | None:
    """What to know where results are tried for longer than their study is to be kept; None where they are not."""
    if days * 86400 > give_up_seconds:
        return None
    tried, more = give_up_seconds / 86400, min(FAILED_DAYS, days)
    return (
        f"retention.days: {days:g}, but results are tried for {tried:g} days (delivery.give_up_seconds): while a "
        f"destination is away studies stay for as long, and for {more:g} more where they are given up"
    )


def _is_wished_back(work: WorkRow) -> bool:
    """Whether results are still to be named wrong where they are: nobody could without what is sealed of them."""
    return work.facts.get(RETRACTION) == WISHED or work.facts.get(WITHDRAWAL) == OPEN
