"""Before results go: the destination is asked whether patient and study still are what they were when the images came.

May live here: whom to ask, when not, and what follows: results go, wait a little, or are held with a reason for somebody to
look. What counts as the same patient stands in `agreement`. No value of an answer is kept or told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from pydicom import Dataset

from dicomnode.config import DeliverySection
from dicomnode.errors import Fact, NodeError, PeerError, StudyError
from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.study import RELEASED, DeliveryState, WorkKey, WorkRow, WorkState
from dicomnode.workflow.agreement import KEYS, differences, of_study, said_of
from dicomnode.workflow.ports import Clock, Monotonic
from dicomnode.workflow.unanswered import Patience, Quiet, Silence, silence_of, told

CHANGED: Final = "patient-changed"
GONE: Final = "study-gone"
UNASKED: Final = "identity-unasked"
#: Fact of a work, with the destination's name behind it: when that showed the study first, in seconds since 1970.
_SEEN: Final = "seen"
#: Why a work was held whose release says that somebody has looked at whose study it is; and the fact that says so.
_LOOKED_AT: Final = frozenset({CHANGED, GONE, UNASKED})
_LOOKED: Final = "identity_released_at"


def facts_of_release(work: WorkRow, now: datetime) -> dict[str, Fact]:
    """What is kept of a work that is held and somebody lets go; one that came too late was not looked at for its patient."""
    at = int(now.timestamp())
    return {RELEASED: at, **({_LOOKED: at} if work.reason in _LOOKED_AT else {})}


class Asked(Protocol):
    """Another system that shows studies, within a time."""

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        """What it shows at a level of the Study Root model; raises PeerError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """Whom to ask for one destination, and how.

    Attributes
    ----------
    titles
        AE titles of whoever is asked: what came from one of them was there.
    is_itself
        Whether the destination is asked, and not another one in its place.
    is_required
        Whether nothing goes without an answer.
    """

    asked: Asked
    titles: frozenset[str]
    seconds: float
    is_itself: bool = True
    is_required: bool = False


class Inquiry:
    """Asks.

    Parameters
    ----------
    askings
        By destination; one that is not there is not asked.
    identity
        Attributes of patient and study that a work's results have; a NodeError says that nobody knows.
    sender
        AE title that a study came from; None where nobody knows.
    settings
        How long is asked again, and how long one that knows no C-FIND is left in peace.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        askings: Mapping[str, Asking],
        identity: Callable[[WorkKey], Dataset],
        sender: Callable[[str], str | None],
        settings: DeliverySection,
        clock: Clock,
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._askings = askings
        self._identity = identity
        self._sender = sender
        self._settings = settings
        self._clock = clock
        self._monotonic = monotonic
        self._emit = emit
        #: Since when a destination knows no C-FIND; that it gives no answer, at all or about a work; that it shows its study no more.
        self._mute: dict[str, float] = {}
        self._silent = Patience(settings.ask_seconds)
        self._missing = Patience(settings.ask_seconds)
        self._quiet = Quiet(settings.ask_seconds, settings.longest_retry_seconds)

    def is_itself(self, destination: str) -> bool:
        """Whether a question that fails says how the destination fares."""
        return self._askings[destination].is_itself

    def was_away(self, destination: str) -> None:
        """What it did not know before it was away it may know now: one that starts refuses much."""
        self._mute.pop(destination, None)
        self._quiet.end(destination)

    def reason_to_hold(self, key: WorkKey, destination: str) -> str | None:
        """Why the results of a work are to be held; None: they may go.

        Raises
        ------
        PeerError
            Where no answer came: it is to be asked again.
        StudyError
            ``study-gone`` where the study is not shown any more: it may be shown the next time.
        """
        asking, work = self._askings.get(destination), self._ledger.work(key)
        if asking is None or work is None or _LOOKED in work.facts:
            return None
        if not asking.is_required and self._is_in_peace(key, destination):
            return None
        ours = self._ours(key)
        if not ours.get("StudyInstanceUID"):
            return UNASKED if asking.is_required else None
        query = {**dict.fromkeys(KEYS, ""), "StudyInstanceUID": ours["StudyInstanceUID"]}
        try:
            answers = asking.asked.find("STUDY", query, asking.seconds)
        except PeerError as error:
            return self._without_answer(key, destination, asking, told(error))
        self._heard(key, destination)
        return self._judge(work, destination, asking, ours, of_study(answers, ours["StudyInstanceUID"]))

    def _ours(self, key: WorkKey) -> dict[str, str]:
        try:
            identity = self._identity(key)
        except NodeError as error:
            if error.retryable and error.code != "sealed-damaged":
                raise
            return {}
        return said_of(identity)

    def _judge(
        self, work: WorkRow, destination: str, asking: Asking, ours: Mapping[str, str], shown: list[Mapping[str, str]]
    ) -> str | None:
        key = work.key
        if not shown:
            return self._not_there(work, destination, asking)
        self._missing.forget((key, destination))
        self._note(work, f"{_SEEN}.{destination}")
        differing = differences(ours, shown)
        if not differing:
            return None
        self._emit(
            "patient.changed",
            level="warning",
            work=key.workflow_id,
            destination=destination,
            kind=".".join(differing),
            answers=len(shown),
        )
        return CHANGED

    def _note(self, work: WorkRow, fact: str) -> None:
        """Keep when something was first so, in whatever state the work is by now."""
        if fact in work.facts:
            return
        with self._ledger.transaction() as connection:
            if self._ledger.work(work.key, connection=connection) is not None:
                self._ledger.add_facts(work.key, {fact: int(self._clock().timestamp())}, connection=connection)

    def _not_there(self, work: WorkRow, destination: str, asking: Asking) -> str | None:
        """A study that was never there is not there yet: we were faster than its sender. One that was is gone."""
        if not self._was_there(work.key.study_key, destination, asking):
            return None
        if self._missing.has_lasted((work.key, destination), self._monotonic()):
            return GONE
        raise StudyError(GONE)

    def _was_there(self, study_key: str, destination: str, asking: Asking) -> bool:
        study = self._ledger.study(study_key)
        for work in () if study is None else study.works:
            confirmed = asking.is_itself and any(  # what the destination took need not be where another one looks
                row.destination == destination and row.state is DeliveryState.CONFIRMED for row in work.deliveries
            )
            if confirmed or f"{_SEEN}.{destination}" in work.facts:
                return True
        sender = self._sender(study_key)
        return sender is not None and sender.strip() in asking.titles

    def _without_answer(self, key: WorkKey, destination: str, asking: Asking, error: PeerError) -> str | None:
        """One that cannot be asked gets results as ever, one that does not answer after a while; unless an answer is required.

        One that lets nobody in is not left in peace afterwards. It gets no results either for as long as it does so, unless
        another one is asked in its place.
        """
        silence = silence_of(error)
        if asking.is_required:
            if silence is Silence.UNKNOWN:
                return UNASKED
            raise error
        waits = silence is Silence.FAILED or (silence is Silence.SHUT and not asking.is_itself)
        if waits and not self._is_silent(key, destination, error.code):
            raise error
        if silence is Silence.UNKNOWN:
            self._mute[destination] = self._monotonic()
        self._tell(key, destination, error.code)
        return None

    def _tell(self, key: WorkKey, destination: str, reason: str) -> None:
        level = "debug" if reason == "peer-context-refused" else "warning"
        self._emit("delivery.unasked", level=level, work=key.workflow_id, destination=destination, reason=reason)

    def _heard(self, key: WorkKey, destination: str) -> None:
        self._quiet.end(destination)
        for what in (destination, (key, destination)):
            self._silent.forget(what)

    def _is_silent(self, key: WorkKey, destination: str, reason: str) -> bool:
        """Whether no answer came for long enough: about this work, or about any; then nobody asks for a while."""
        now = self._monotonic()
        lasted = self._silent.has_lasted((key, destination), now)
        if self._silent.has_lasted(destination, now) or self._quiet.knows(destination):
            self._quiet.begin(destination, now, reason)
            return True
        return lasted

    def _is_in_peace(self, key: WorkKey, destination: str) -> bool:
        """Whether a destination is not asked now, since it knows no question, or has answered none of late."""
        since, now = self._mute.get(destination), self._monotonic()
        if since is not None and now - since < self._settings.probe_seconds:
            return True
        reason = self._quiet.reason(destination, now)
        if reason is not None:
            self._tell(key, destination, reason)
        return reason is not None

    def put(self, key: WorkKey, destination: str, reason: str) -> None:
        """Hold a work that is on its way; nothing happens where it ended meanwhile."""
        now = self._clock()
        with self._ledger.transaction() as connection:
            work = self._ledger.work(key, connection=connection)
            if work is None or work.state is not WorkState.DELIVERING:
                return
            self._ledger.set_work_state(key, WorkState.HELD, at=now, reason=reason, connection=connection)
        self._emit("work.held", level="warning", work=key.workflow_id, destination=destination, reason=reason)
