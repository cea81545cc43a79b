from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from dicomnode.errors import StorageError
from dicomnode.sections import CompletionSection
from dicomnode.workflow import completion
from dicomnode.workflow.activity import Activity, ActivityTable
from dicomnode.workflow.completion import EARLY_START_SECONDS, Completion, Decision, Move, decide
from dicomnode.workflow.evidence import Evidence
from tests.unit.workflow.samples import Events, Time

SETTINGS = CompletionSection(quiet_seconds=30)


def activity(
    received: float, released: float | None, open_associations: int = 0, *, has_moved_on: bool = False
) -> Activity:
    return Activity(
        study_key="s",
        first_received=received,
        last_received=received,
        last_released=released,
        open_associations=open_associations,
        has_moved_on=has_moved_on,
    )


@pytest.mark.parametrize(
    ("what", "started", "now", "decision"),
    [
        (activity(0, None, 1), False, 29.0, Decision(Move.WAIT, 1.0)),
        (activity(0, None, 1), False, 30.0, Decision(Move.START, 30.0)),
        (activity(0, None, 1), True, 100.0, Decision(Move.WAIT, 30.0)),
        (activity(0, None, 1), True, 295.0, Decision(Move.WAIT, 5.0)),
        (activity(0, None, 1, has_moved_on=True), False, 4.0, Decision(Move.WAIT, 1.0)),
        (activity(0, None, 1, has_moved_on=True), False, 5.0, Decision(Move.START, 25.0)),
        (activity(0, None, 1, has_moved_on=True), True, 29.0, Decision(Move.WAIT, 1.0)),
        (activity(0, None, 1, has_moved_on=True), True, 30.0, Decision(Move.SETTLE, 0.0)),
        (activity(0, None, 1), False, 300.0, Decision(Move.SETTLE, 0.0)),
        (activity(0, 5, 1), True, 300.0, Decision(Move.WAIT, 5.0)),
        (activity(0, 5, 1), True, 305.0, Decision(Move.SETTLE, 0.0)),
        (activity(0, 5), False, 5.0, Decision(Move.WAIT, EARLY_START_SECONDS)),
        (activity(0, 5), False, 6.0, Decision(Move.START, 29.0)),
        (activity(0, 5), True, 6.0, Decision(Move.WAIT, 29.0)),
        (activity(0, 5), True, 34.9, Decision(Move.WAIT, pytest.approx(0.1))),
        (activity(0, 5), True, 35.0, Decision(Move.SETTLE, 0.0)),
        (activity(0, 5), False, 35.0, Decision(Move.SETTLE, 0.0)),
        (activity(7, 5), True, 35.0, Decision(Move.WAIT, 2.0)),
        (activity(0, None), False, 10.0, Decision(Move.WAIT, 20.0)),
        (activity(0, None), False, 30.0, Decision(Move.SETTLE, 0.0)),
    ],
)
def test_the_rule_of_completeness(what: Activity, started: bool, now: float, decision: Decision) -> None:
    assert decide(what, started=started, settings=SETTINGS, now=now) == decision


EXACT = Evidence(under_way=0, announced=3, missing=0)
WHOLE = Evidence(under_way=0, announced=3, missing=0, unnamed=1)
MISSING = Evidence(under_way=0, announced=3, missing=1)
UNDER_WAY = Evidence(under_way=1, announced=3, missing=0)
BROKEN_OFF = Evidence(under_way=0, announced=3, missing=0, broken_off=1)
SILENT = Evidence(under_way=0, announced=0, missing=0)


@pytest.mark.parametrize(
    ("evidence", "what", "now", "decision"),
    [
        (EXACT, activity(0, 5, 1), 6.0, Decision(Move.WAIT, 29.0)),
        (EXACT, activity(0, 5, 1), 35.0, Decision(Move.SETTLE, 0.0)),
        (MISSING, activity(0, 5, 1), 305.0, Decision(Move.SETTLE, 0.0)),
        (MISSING, activity(0, 5, 1, has_moved_on=True), 104.0, Decision(Move.WAIT, 1.0)),
        (MISSING, activity(0, 5, 1, has_moved_on=True), 105.0, Decision(Move.SETTLE, 0.0)),
        (WHOLE, activity(0, 5, 1), 304.0, Decision(Move.WAIT, 1.0)),
        (EXACT, activity(0, 5), 5.0, Decision(Move.SETTLE, 0.0)),
        (WHOLE, activity(0, 5, 1), 6.0, Decision(Move.WAIT, 30.0)),
        (WHOLE, activity(0, 5), 5.0, Decision(Move.WAIT, 1.0)),
        (WHOLE, activity(0, 5), 6.0, Decision(Move.SETTLE, 0.0)),
        (MISSING, activity(0, 5), 36.0, Decision(Move.WAIT, 1.0)),
        (MISSING, activity(0, 5), 105.0, Decision(Move.SETTLE, 0.0)),
        (UNDER_WAY, activity(0, 5), 36.0, Decision(Move.WAIT, 69.0)),
        (UNDER_WAY, activity(0, 5), 105.0, Decision(Move.SETTLE, 0.0)),
        (BROKEN_OFF, activity(0, 5), 34.0, Decision(Move.WAIT, 1.0)),
        (BROKEN_OFF, activity(0, 5), 35.0, Decision(Move.SETTLE, 0.0)),
        (SILENT, activity(0, 5), 34.0, Decision(Move.WAIT, 1.0)),
        (SILENT, activity(0, 5), 35.0, Decision(Move.SETTLE, 0.0)),
    ],
)
def test_evidence_shortens_the_quiet_time_or_makes_it_longer(
    evidence: Evidence, what: Activity, now: float, decision: Decision
) -> None:
    settings = CompletionSection(quiet_seconds=30, evidence_seconds=100)
    assert decide(what, started=True, settings=settings, now=now, evidence=evidence) == decision


def test_missing_images_are_waited_for_as_long_whether_an_association_is_open_or_not() -> None:
    settings = CompletionSection(quiet_seconds=30, open_seconds=60, evidence_seconds=1000)
    for now, move in ((900.0, Move.WAIT), (1005.0, Move.SETTLE)):
        assert decide(activity(0, 5, 1), started=True, settings=settings, now=now, evidence=MISSING).move is move


def test_evidence_that_says_more_is_to_come_starts_the_work_all_the_same() -> None:
    settings = CompletionSection(quiet_seconds=30, evidence_seconds=100)
    found = decide(activity(0, 5), started=False, settings=settings, now=6.0, evidence=UNDER_WAY)
    assert found == Decision(Move.START, 99.0)


def test_a_study_of_which_nothing_was_announced_is_settled_in_silence(time: Time, events: Events) -> None:
    world = World(time, events, evidence=lambda _: Evidence(under_way=0, announced=0, missing=0))
    world.table.remembered("s", time.monotonic() - 1e5)
    world.completion.look()
    assert world.acts == [("settle", "s")]
    assert events.facts("study.whole") == events.facts("study.incomplete") == []


@pytest.mark.parametrize(
    ("evidence", "told", "lacking"),
    [
        (
            MISSING,
            ("study.incomplete", {"study": "s", "missing": 1, "steps": 0}),
            "1 of 3 announced images did not come",
        ),
        (
            Evidence(under_way=2, announced=300, missing=12),
            ("study.incomplete", {"study": "s", "missing": 12, "steps": 2}),
            "12 of 300 announced images did not come; procedure steps that did not end: 2",
        ),
        (WHOLE, ("study.whole", {"study": "s", "instances": 3}), ""),
    ],
)
def test_what_a_study_was_settled_by_is_told_and_handed_on_to_be_kept(
    time: Time, events: Events, evidence: Evidence, told: tuple[str, dict[str, object]], lacking: str
) -> None:
    world = World(time, events, evidence=lambda _: evidence)
    world.table.remembered("s", time.monotonic() - 1e5)
    world.completion.look()
    assert world.acts == [("settle", "s")]
    assert events.facts(told[0]) == [told[1]]
    assert world.lacking == [lacking]


def test_no_early_start_where_it_is_switched_off() -> None:
    late = CompletionSection(quiet_seconds=30, start_early=False)
    assert decide(activity(0, 5), started=False, settings=late, now=10.0) == Decision(Move.WAIT, 25.0)


def test_a_quiet_time_shorter_than_the_early_start_settles_at_its_end() -> None:
    short = CompletionSection(quiet_seconds=0.5)
    assert decide(activity(0, 1), started=False, settings=short, now=1.25) == Decision(Move.WAIT, 0.25)
    assert decide(activity(0, 1), started=False, settings=short, now=1.5).move is Move.SETTLE


class World:
    """A completion whose acts are remembered."""

    def __init__(
        self,
        time: Time,
        events: Events,
        evidence: Callable[[str], Evidence | None] = lambda _: None,
        seek: Callable[[str], bool] = lambda _: False,
        **settings: object,
    ) -> None:
        self.acts: list[tuple[str, str]] = []
        self.lacking: list[str] = []
        self.table = ActivityTable()
        self.failing: set[str] = set()
        self.error: Exception = StorageError("ledger-failed")
        self.settled = threading.Event()
        self.completion = Completion(
            self.table,
            start=lambda key: self._act("start", key),
            settle=self._settle,
            evidence=evidence,
            seek=seek,
            settings=CompletionSection.model_validate({"quiet_seconds": 30, **settings}),
            monotonic=time.monotonic,
            emit=events,
        )

    def _settle(self, key: str, lacking: str) -> None:
        self._act("settle", key)
        self.lacking.append(lacking)

    def _act(self, what: str, key: str) -> None:
        if key in self.failing:
            raise self.error
        self.acts.append((what, key))
        if what == "settle":
            self.settled.set()


def test_a_study_starts_early_once_and_settles_after_the_quiet_time(time: Time, events: Events) -> None:
    world = World(time, events)
    world.table.received("s", "a", time.monotonic())
    assert world.completion.look() == 30.0
    world.table.ended("a", time.monotonic())
    assert world.completion.look() == 1.0
    time.forward(1)
    assert world.completion.look() == 29.0
    assert world.completion.look() == 29.0
    assert world.acts == [("start", "s")]
    time.forward(29)
    assert world.completion.look() == 30.0
    assert world.acts == [("start", "s"), ("settle", "s")]
    assert world.table.snapshot() == ()


def test_a_study_of_an_association_that_stays_open_settles_once(time: Time, events: Events) -> None:
    world = World(time, events)
    world.table.received("s", "a", time.monotonic())
    for _ in range(11):
        time.forward(30)
        world.completion.look()
    assert world.acts == [("start", "s"), ("settle", "s")]
    world.table.received("s", "a", time.monotonic())
    time.forward(300)
    world.completion.look()
    assert world.acts == [("start", "s"), ("settle", "s"), ("settle", "s")]


def test_an_association_that_goes_on_with_the_next_study_ends_the_one_before(time: Time, events: Events) -> None:
    world = World(time, events)
    world.table.received("s", "a", time.monotonic())
    for number in range(31):
        time.forward(1)
        world.table.received("next" if number < 25 else "third", "a", time.monotonic())
        world.completion.look()
    assert world.acts == [("start", "s"), ("settle", "s"), ("start", "next")]


def test_studies_that_take_turns_in_one_association_are_not_begun_for_each_turn(time: Time, events: Events) -> None:
    world = World(time, events)
    for number in range(60):
        time.forward(1)
        world.table.received(f"study {number % 3}", "a", time.monotonic())
        world.completion.look()
    assert world.acts == []


def test_evidence_is_not_asked_for_while_images_come(time: Time, events: Events) -> None:
    asked: list[str] = []

    def nothing(key: str) -> None:
        asked.append(key)

    world = World(time, events, evidence=nothing)
    world.table.received("s", "a", time.monotonic())
    time.forward(29)
    world.completion.look()
    assert asked == []
    time.forward(1)
    world.completion.look()
    assert asked == ["s"]


def test_evidence_is_asked_for_soon_where_the_association_goes_on_with_another_study(
    time: Time, events: Events
) -> None:
    asked: list[str] = []

    def evidence(key: str) -> Evidence | None:
        asked.append(key)
        return MISSING if key == "s" else None

    world = World(time, events, evidence=evidence, seek=lambda _: False, evidence_seconds=100)
    world.table.received("s", "a", time.monotonic())
    for _ in range(40):
        time.forward(1)
        world.table.received("next", "a", time.monotonic())
        world.completion.look()
        assert bool(asked) == (time.monotonic() - world.table.snapshot()[0].last_received >= 5)
    assert set(asked) == {"s"}
    assert ("settle", "s") not in world.acts, "some of it is missing"


def test_what_is_missing_is_sought_though_an_association_stays_open(time: Time, events: Events) -> None:
    sought: list[str] = []
    world = World(time, events, evidence=lambda _: MISSING, seek=lambda key: bool(sought.append(key)))
    world.table.received("s", "a", time.monotonic())
    for seconds, count in ((29, 0), (1, 0), (1, 1)):  # work begins, then it is sought
        time.forward(seconds)
        world.completion.look()
        assert len(sought) == count


def test_a_late_instance_starts_the_study_anew(time: Time, events: Events) -> None:
    world = World(time, events)
    for _ in range(2):
        world.table.received("s", "a", time.monotonic())
        world.table.ended("a", time.monotonic())
        time.forward(2)
        world.completion.look()
    time.forward(30)
    world.completion.look()
    assert world.acts == [("start", "s"), ("start", "s"), ("settle", "s")]


def test_a_fault_of_the_ledger_hurts_one_study_alone_and_is_tried_again(time: Time, events: Events) -> None:
    world = World(time, events)
    world.failing = {"bad"}
    for key in ("bad", "good"):
        world.table.remembered(key, 0.0)
    assert world.completion.look() == 1.0
    assert world.acts == [("settle", "good")]
    assert events.facts("completion.failed") == [{"study": "bad", "reason": "ledger-failed"}]
    world.failing = set()
    world.completion.look()
    assert world.acts == [("settle", "good"), ("settle", "bad")]


def test_an_index_that_stays_behind_is_told(time: Time, events: Events) -> None:
    """A sender that never ends, say, and an index that is never done with what it sends: nothing is settled."""
    world = World(time, events, arrival_seconds=600)
    world.failing, world.error = {"bad"}, StorageError("index-behind")
    world.table.remembered("bad", time.monotonic())
    time.forward(600)
    for _ in range(3):
        world.table.received("bad", "a", time.monotonic())
        world.completion.look()
        time.forward(completion.BEHIND_SECONDS / 2)
    levels = [level for name, level, _ in events.seen if name == "completion.failed"]
    assert levels == ["debug", "debug", "warning"]
    world.failing = set()
    world.completion.look()
    assert world.acts == [("settle", "bad")]
    world.failing = {"bad"}
    world.table.remembered("bad", time.monotonic() - 30)
    world.completion.look()
    assert [level for name, level, _ in events.seen if name == "completion.failed"][3:] == ["debug"], "it caught up"


def test_the_thread_outlives_what_nobody_foresaw_and_tells_its_type_alone(time: Time, events: Events) -> None:
    world = World(time, events)
    world.failing, world.error = {"bad"}, ValueError("Mueller^Juergen")
    for key in ("bad", "good"):
        world.table.remembered(key, 0.0)
    assert world.completion.look() <= 30.0
    assert world.acts == [("settle", "good")]
    assert events.facts("completion.fault") == [{"study": "bad", "kind": "ValueError", "reason": "internal"}]
    assert "Mueller" not in repr(events.seen)


def test_it_never_spins(time: Time, events: Events) -> None:
    world = World(time, events)
    world.table.remembered("s", time.monotonic() - 30 + 1e-6)
    assert world.completion.look() == 0.01


def test_the_thread_acts_when_it_is_woken_and_ends(time: Time, events: Events) -> None:
    world = World(time, events, quiet_seconds=600)
    world.completion.begin()
    world.table.remembered("s", -1e6)
    world.completion.wake()
    assert world.settled.wait(10)
    world.completion.end()
    assert world.acts == [("settle", "s")]


def test_however_often_it_is_woken_it_rests_nine_tenths_of_the_time(
    time: Time, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look goes through all studies: one for each association that ends would cost the square of their number."""
    world, looks = World(time, events), []

    def long_snapshot() -> tuple[()]:
        looks.append(time.monotonic())
        time.forward(0.02)
        return ()

    monkeypatch.setattr(world.table, "snapshot", long_snapshot)
    world.completion.begin()
    for _ in range(90):
        world.completion.wake()
        threading.Event().wait(0.01)
    world.completion.end()
    assert 2 <= len(looks) <= 8


def test_one_that_never_began_ends_too(time: Time, events: Events) -> None:
    World(time, events).completion.end()


@pytest.mark.parametrize("error", [OverflowError("timeout value is too large"), ValueError("Mueller^Juergen")])
def test_the_thread_goes_on_when_looking_itself_fails(
    time: Time, events: Events, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world = World(time, events, quiet_seconds=600)
    faults = [error, error]
    real = world.table.snapshot

    def snapshot() -> tuple[Activity, ...]:
        if faults:
            raise faults.pop()
        return real()

    monkeypatch.setattr(completion, "_AFTER_A_FAULT_SECONDS", 0.0)
    monkeypatch.setattr(world.table, "snapshot", snapshot)
    world.table.remembered("s", -1e6)
    world.completion.begin()
    assert world.settled.wait(10)
    world.completion.end()
    assert world.acts == [("settle", "s")]
    fault = {"kind": type(error).__name__, "reason": "internal"}
    assert events.facts("completion.fault") == [fault, fault]
    assert "Mueller" not in repr(events.seen)


def test_the_thread_outlives_a_wait_that_no_clock_can_bear(
    time: Time, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(time, events)
    endless = CompletionSection.model_construct(quiet_seconds=float("inf"), start_early=True)
    faulted = threading.Event()
    monkeypatch.setattr(completion, "_AFTER_A_FAULT_SECONDS", 0.0)
    monkeypatch.setattr(world.completion, "_settings", endless)
    monkeypatch.setattr(world.completion, "_emit", lambda *_, **__: faulted.set())
    world.completion.begin()
    assert faulted.wait(10)
    world.completion._settings = SETTINGS
    world.table.remembered("s", -1e6)
    world.completion.wake()
    assert world.settled.wait(10)
    world.completion.end()


def test_what_is_missing_is_sought_before_a_study_is_called_incomplete(time: Time, events: Events) -> None:
    sought: list[float] = []
    pending = True

    def seek(_: str) -> bool:
        sought.append(time.monotonic())
        return pending

    world = World(time, events, evidence=lambda _: MISSING, seek=seek, evidence_seconds=100, start_early=False)
    world.table.remembered("s", time.monotonic())
    world.completion.look()
    assert not sought  # it may still come by itself
    time.forward(30)
    assert world.completion.look() == 1.0
    assert len(sought) == 1
    time.forward(200)
    assert world.completion.look() == 1.0  # the answer is waited for
    assert world.acts == []
    pending = False
    world.completion.look()
    assert world.acts == [("settle", "s")]
    assert "study.incomplete" in events.names


def test_a_study_that_lacks_nothing_is_not_sought(time: Time, events: Events) -> None:
    world = World(time, events, evidence=lambda _: UNDER_WAY, seek=lambda _: 1 // 0 == 0, evidence_seconds=10)
    world.table.remembered("s", time.monotonic() - 1e5)
    world.completion.look()
    assert world.acts == [("settle", "s")]


@pytest.mark.parametrize("in_one_association", [True, False])
def test_a_study_that_does_not_end_is_settled_all_the_same(
    time: Time, events: Events, in_one_association: bool
) -> None:
    world = World(time, events, arrival_seconds=600)
    for number in range(30):
        association = "a" if in_one_association else f"a{number}"
        world.table.received("s", association, time.monotonic())
        if not in_one_association:
            world.table.ended(association, time.monotonic())
        world.completion.look()
        time.forward(10.0)
        world.completion.look()
        time.forward(10.0)
    assert [act for act in world.acts if act[0] == "settle"] == []
    assert ("start", "s") in world.acts or in_one_association
    world.table.received("s", "b", time.monotonic())
    world.completion.look()
    assert world.acts[-1] == ("settle", "s")
    assert events.facts("study.incomplete") == [{"study": "s", "missing": 0, "steps": 0, "reason": "study-endless"}]
    assert world.lacking == ["images came without an end (study-endless)"]
    assert world.table.snapshot() == ()
    world.acts.clear()
    for number in range(3):  # it goes on: nothing starts early, which would stop the work on what was settled
        world.table.received("s", f"c{number}", time.monotonic())
        world.table.ended(f"c{number}", time.monotonic())
        assert not world.table.is_awaited("s")
        assert world.table.is_open("s")
        time.forward(20.0)
        world.completion.look()
    assert world.acts == []
    time.forward(30.0)
    world.completion.look()
    assert world.acts == [("settle", "s")]
    world.table.received("s", "d", time.monotonic())
    assert world.table.is_awaited("s")
