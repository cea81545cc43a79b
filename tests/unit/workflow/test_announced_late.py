"""What is announced of a study that is settled already, or of which nothing comes, is missed and told."""

from __future__ import annotations

from dicomnode.network.procedures import Step, StepState
from dicomnode.sections import CompletionSection
from dicomnode.storage.ledger import Ledger
from dicomnode.study import blind_key
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.completion import Completion
from dicomnode.workflow.evidence import EvidenceBook
from tests.unit.workflow.samples import KEY, Events, Time, row

STUDY = blind_key(KEY, "study", "1.2.3")


class World:
    """A completion and a book over a real ledger."""

    def __init__(self, ledger: Ledger, time: Time, events: Events) -> None:
        self.ledger, self.time, self.events = ledger, time, events
        self.sought: list[str] = []
        self.acts: list[str] = []
        self.start()

    def start(self) -> None:
        """The node starts."""
        self.table = ActivityTable()
        self.book = EvidenceBook(
            self.ledger,
            derivation_key=KEY,
            wake=lambda: None,
            remember=lambda key: self.table.remembered(key, self.time.monotonic()),
            clock=self.time.now,
            emit=self.events,
        )
        self.completion = Completion(
            self.table,
            start=lambda key: self.acts.append("start"),
            settle=lambda key: self.acts.append("settle"),
            evidence=self.book.of,
            seek=lambda key: bool(self.sought.append(key)),
            settings=CompletionSection(),
            monotonic=self.time.monotonic,
            emit=self.events,
        )

    def arrive(self) -> None:
        """Three images come, and nothing more."""
        for number in range(3):
            self.come(number)
        self.table.ended("a", self.time.monotonic())
        self.time.forward(31.0)
        self.completion.look()
        assert self.acts.pop() == "settle"
        assert self.table.snapshot() == ()

    def come(self, number: int) -> None:
        one = row(number, study_key=STUDY, instance=blind_key(KEY, "instance", f"1.2.3.{number}"))
        self.ledger.record_instances([one])
        self.table.received(STUDY, "a", self.time.monotonic())

    def announce(self, count: int, state: StepState = StepState.COMPLETED) -> None:
        named = tuple(f"1.2.3.{number}" for number in range(count))
        assert self.book.begin(
            Step(sop_instance_uid="1.9", study_instance_uids=("1.2.3",), state=state, instances=named)
        )

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds / 10)):
            self.completion.look()
            self.time.forward(10.0)
        self.completion.look()


def test_what_is_announced_after_the_quiet_time_is_sought_and_told(ledger: Ledger, time: Time, events: Events) -> None:
    world = World(ledger, time, events)
    world.arrive()
    world.announce(5)
    world.wait(40)
    assert set(world.sought) == {STUDY}
    assert world.table.is_awaited(STUDY)
    world.wait(1800)
    assert events.facts("study.incomplete") == [{"study": STUDY, "missing": 2, "steps": 0}]
    assert world.table.snapshot() == ()


def test_what_comes_after_all_of_what_was_announced_settles_the_study(
    ledger: Ledger, time: Time, events: Events
) -> None:
    world = World(ledger, time, events)
    world.arrive()
    world.announce(4)
    world.come(3)
    world.table.ended("a", time.monotonic())
    world.wait(10)
    assert "settle" in world.acts
    assert events.facts("study.incomplete") == []
    assert events.facts("study.whole") == [{"study": STUDY, "instances": 4}]


def test_a_study_that_is_announced_and_never_comes_is_told(ledger: Ledger, time: Time, events: Events) -> None:
    """The way from the modality is broken."""
    world = World(ledger, time, events)
    world.announce(300)
    world.wait(1810)
    assert events.facts("study.incomplete") == [{"study": STUDY, "missing": 300, "steps": 0}]
    world.wait(3600)
    assert len(events.facts("study.incomplete")) == 1


def test_a_stop_of_the_node_does_not_forget_what_is_missing(ledger: Ledger, time: Time, events: Events) -> None:
    world = World(ledger, time, events)
    world.announce(2)
    time.forward(3600.0)
    world.start()
    world.wait(1810)
    assert events.facts("study.incomplete") == [{"study": STUDY, "missing": 2, "steps": 0}]
    time.forward(86400.0)
    world.start()
    assert world.table.snapshot() == ()


def test_nothing_is_missed_of_a_study_that_is_whole_or_still_made(ledger: Ledger, time: Time, events: Events) -> None:
    world = World(ledger, time, events)
    world.announce(5, StepState.IN_PROGRESS)
    assert world.table.snapshot() == ()
    for number in range(3):
        world.come(number)
    world.table.forget(STUDY, time.monotonic())
    named = tuple(f"1.2.3.{number}" for number in range(3))
    end = Step(sop_instance_uid="1.9", study_instance_uids=(), state=StepState.COMPLETED, instances=named)
    assert world.book.update(end) is StepState.IN_PROGRESS
    assert world.table.snapshot() == ()
