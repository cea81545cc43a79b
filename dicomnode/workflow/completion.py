"""When a study is whole: a pure rule, and the thread that acts on it.

Released association may *start* work; delivery waits for evidence or the quiet time (design section 4). The rule knows no
clock and no ledger; the thread knows nothing of DICOM.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.pulses import NEAR_HARD_SECONDS, NEAR_SECONDS, Pulse
from dicomnode.sections import CompletionSection
from dicomnode.workflow.activity import Activity, ActivityTable
from dicomnode.workflow.evidence import Evidence, shortfall

#: Seconds of silence after a release before work starts early: senders that open one association per image would
#: else start it anew with every image.
EARLY_START_SECONDS = 1.0
#: As long, where each open association goes on with other studies: senders that take turns come back sooner.
TURN_SECONDS = 5.0
_AFTER_A_FAULT_SECONDS = 1.0
_AGAIN_SECONDS = 1.0
_LATE = "study-endless"
#: Seconds after which it is told that the index keeps a study from being judged: it is behind for a moment often.
BEHIND_SECONDS = 60.0
_BEHIND = "index-behind"
#: A look goes through all studies that arrive, and every association that ends asks for one: after each, at least so many
#: times as long is waited, at most so many seconds.
_REST = 9
_LONGEST_REST_SECONDS = 0.25


class Move(Enum):
    """What to do with a study."""

    WAIT = "wait"
    START = "start"
    SETTLE = "settle"


@dataclass(frozen=True, slots=True)
class Decision:
    """A move, and in how many seconds to look again; whether it is made since the study would not end."""

    move: Move
    again_seconds: float
    is_late: bool = False


def silent_since(activity: Activity) -> float:
    """Since when nothing came of a study, and no association that carried it ended, in monotonic seconds."""
    return max(activity.last_received, activity.last_released or activity.last_received)


def decide(
    activity: Activity, *, started: bool, settings: CompletionSection, now: float, evidence: Evidence | None = None
) -> Decision:
    """Rule of completeness.

    Parameters
    ----------
    activity
        What is known of the study.
    started
        Whether work on just this input has begun.
    settings
        Quiet time, and whether to start early.
    now
        Monotonic seconds.
    evidence
        What was announced of the study, if anything was.

    Returns
    -------
    Decision
        SETTLE with no association open: at once where just what was announced has come; after a second of silence where
        more than that came, since each late image in an association of its own would else open a revision; else after
        the quiet time, which is longer while more is to be expected. START after a release when early starts are on.
        With one open, which some senders keep all day and for other patients: after the quiet time where just what was
        announced has come, or where each has brought another study since, else after a longer silence; START after a
        shorter one, since nothing is delivered before. SETTLE whatever still comes, `arrival_seconds` after the first
        instance; what comes after that starts nothing early, since it would stop the work on what came before.
    """
    decision = _by_silence(activity, started=started, settings=settings, now=now, evidence=evidence)
    if decision.move is Move.SETTLE:
        return decision
    left = activity.first_received + settings.arrival_seconds - now
    if left <= 0:
        return Decision(Move.SETTLE, 0.0, is_late=True)
    return Decision(decision.move, min(decision.again_seconds, left))


def _by_silence(
    activity: Activity, *, started: bool, settings: CompletionSection, now: float, evidence: Evidence | None
) -> Decision:
    quiet_since = silent_since(activity)
    started = started or not settings.start_early or activity.is_late
    if activity.open_associations:
        return _beside_open_ones(activity, started=started, settings=settings, now=now, evidence=evidence)
    soon = quiet_since + min(EARLY_START_SECONDS, settings.quiet_seconds) - now
    quiet_left = quiet_since + settings.quiet_seconds - now
    if evidence is not None and evidence.is_exact:
        quiet_left = 0.0
    elif evidence is not None and evidence.is_whole:
        quiet_left = min(quiet_left, soon)
    elif evidence is not None and evidence.is_lacking:
        quiet_left += max(settings.evidence_seconds - settings.quiet_seconds, 0.0)
    if quiet_left <= 0:
        return Decision(Move.SETTLE, 0.0)
    if evidence is not None and evidence.missing:  # the index may be a little behind what came
        quiet_left = min(quiet_left, _AGAIN_SECONDS)
    if not started and activity.last_released is not None:
        return Decision(Move.START, quiet_left) if soon <= 0 else Decision(Move.WAIT, soon)
    return Decision(Move.WAIT, quiet_left)


def _beside_open_ones(
    activity: Activity, *, started: bool, settings: CompletionSection, now: float, evidence: Evidence | None
) -> Decision:
    quiet_since = silent_since(activity)
    bearable = [settings.quiet_seconds]
    if not activity.has_moved_on and (evidence is None or not evidence.is_exact):
        bearable.append(settings.open_seconds)
    if evidence is not None and evidence.is_lacking:
        bearable.append(settings.evidence_seconds)
    left = quiet_since + max(bearable) - now
    if left <= 0:
        return Decision(Move.SETTLE, 0.0)
    again = min(left, settings.quiet_seconds)
    if started:
        return Decision(Move.WAIT, again)
    silence = min(TURN_SECONDS, settings.quiet_seconds) if activity.has_moved_on else settings.quiet_seconds
    soon = quiet_since + silence - now
    return Decision(Move.START, again) if soon <= 0 else Decision(Move.WAIT, min(again, soon))


class Completion:
    """Thread that applies `decide` to every study that is not settled.

    Parameters
    ----------
    activity
        Table that reception fills.
    start
        Called with a study key: opens a revision for what has come and queues its work.
    settle
        Called with a study key, and what the study lacks ("": nothing): as `start`, keeps that, and lets the results go out.
    evidence
        Gives what was announced of a study, by its key; None where nothing was.
    seek
        Has images asked for that were announced and did not come; whether an answer is still to come, which is waited for.
    settings
        Quiet time and early start.
    monotonic
        Clock in seconds.
    emit
        Where events go.
    """

    def __init__(
        self,
        activity: ActivityTable,
        *,
        start: Callable[[str], None],
        settle: Callable[[str, str], None],
        evidence: Callable[[str], Evidence | None] = lambda _: None,
        seek: Callable[[str], bool] = lambda _: False,
        settings: CompletionSection,
        monotonic: Callable[[], float],
        emit: Emit,
    ) -> None:
        self._activity = activity
        self._start = start
        self._settle = settle
        self._evidence = evidence
        self._seek = seek
        self._settings = settings
        self._monotonic = monotonic
        self._emit = emit
        self._started: dict[str, float] = {}
        self._behind: dict[str, float] = {}  # since when the index keeps studies from being judged
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="completion", daemon=True)
        self._pulse = Pulse("completion", NEAR_SECONDS, NEAR_HARD_SECONDS)
        self.pulses = (self._pulse,)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """Stop the thread and wait for it."""
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def wake(self) -> None:
        """Something changed: look now."""
        self._wake.set()

    def look(self) -> float:
        """Apply the rule once to every study; returns the seconds until the next look is due."""
        again = self._settings.quiet_seconds
        behind, self._behind = self._behind, {}
        for activity in self._activity.snapshot():
            self._pulse.beat()
            try:
                again = min(again, self._apply(activity))
            except NodeError as error:
                level = "error"
                if error.code == _BEHIND:
                    now = self._monotonic()
                    since = self._behind[activity.study_key] = behind.get(activity.study_key, now)
                    level = "debug" if now - since < BEHIND_SECONDS else "warning"
                self._emit("completion.failed", level=level, study=activity.study_key, reason=error.code)
                again = min(again, _AFTER_A_FAULT_SECONDS)
            except Exception as error:  # noqa: BLE001 - the border: the thread must outlive whatever happens
                kind = type(error).__name__
                self._emit("completion.fault", level="error", study=activity.study_key, kind=kind, reason="internal")
                again = min(again, _AFTER_A_FAULT_SECONDS)
        return max(again, 0.01)

    def _apply(self, activity: Activity) -> float:
        key = activity.study_key
        started = self._started.get(key) == activity.last_received
        now = self._monotonic()
        evidence = None if self._is_busy(activity, now) else self._evidence(key)
        decision = decide(activity, started=started, settings=self._settings, now=now, evidence=evidence)
        is_ending = decision.move is not Move.START and not decision.is_late
        if is_ending and self._is_lacked(activity, evidence, now) and self._seek(key):
            return _AGAIN_SECONDS
        if decision.move is Move.START:
            self._start(key)
            self._started[key] = activity.last_received
        elif decision.move is Move.SETTLE:
            self._settle(key, shortfall(evidence, is_endless=decision.is_late))
            self._tell(key, evidence, is_late=decision.is_late)
            self._started.pop(key, None)
            self._activity.forget(key, activity.last_received, is_late=decision.is_late)
            return self._settings.quiet_seconds
        return decision.again_seconds

    def _is_busy(self, activity: Activity, now: float) -> bool:
        """Whether images seem to come just now, so that nobody is asked what else there is."""
        quiet = self._settings.quiet_seconds
        silence = min(TURN_SECONDS, quiet) if activity.has_moved_on else quiet
        return activity.open_associations > 0 and now - silent_since(activity) < silence

    def _is_lacked(self, activity: Activity, evidence: Evidence | None, now: float) -> bool:
        """Whether images are missing that should have come by themselves."""
        if evidence is None or not evidence.missing:
            return False
        return now - silent_since(activity) >= self._settings.quiet_seconds

    def _tell(self, key: str, evidence: Evidence | None, *, is_late: bool) -> None:
        missing, steps = (0, 0) if evidence is None else (evidence.missing, evidence.under_way)
        if is_late:
            self._emit("study.incomplete", level="warning", study=key, missing=missing, steps=steps, reason=_LATE)
        elif missing or steps:
            self._emit("study.incomplete", level="warning", study=key, missing=missing, steps=steps)
        elif evidence is not None and evidence.is_whole:
            self._emit("study.whole", study=key, instances=evidence.announced)

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                begun = self._monotonic()
                with self._pulse:
                    again = self.look()
                self._ended.wait(min(_REST * (self._monotonic() - begun), _LONGEST_REST_SECONDS))
                self._wake.wait(again)
            except Exception as error:  # noqa: BLE001 - the border: without this thread no study is ever settled
                kind = type(error).__name__
                self._emit("completion.fault", level="error", kind=kind, reason="internal")
                self._ended.wait(_AFTER_A_FAULT_SECONDS)
            self._wake.clear()
