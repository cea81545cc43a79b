"""What every durable queue keeps to: DBOS on SQLite, and the queue in memory that stands for it in unit tests."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol

import pytest

from dicomnode.storage.ledger import Ledger
from dicomnode.study import WORK_STAGES, WorkKey
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.pipeline import DurableQueue
from dicomnode.workflow.ports import Queue

_SECONDS = 30.0
_numbers = itertools.count(1)


class Runs:
    """What a queue ran, in order, with the time of each."""

    def __init__(self, monotonic: Any) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self.ran: list[tuple[tuple[Any, ...], float]] = []
        self.ends: dict[str, str] = {}  # workflow → stage after which it does not go on

    def stage(self, name: str, key: WorkKey) -> bool:
        self._note((key, name))
        return self.ends.get(key.workflow_id) != name

    def delivery(self, key: WorkKey, destination: str, attempt: int) -> None:
        self._note((key, destination, attempt))

    def _note(self, what: tuple[Any, ...]) -> None:
        with self._changed:
            self.ran.append((what, self._monotonic()))
            self._changed.notify_all()

    def wait_for(self, *wanted: tuple[Any, ...]) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: {what for what, _ in self.ran} >= set(wanted), _SECONDS)

    def of(self, key: WorkKey) -> list[tuple[Any, ...]]:
        with self._changed:
            return [what[1:] for what, _ in self.ran if what[0] == key]

    def moment(self, *wanted: Any) -> float:
        with self._changed:
            return next(moment for what, moment in self.ran if what == wanted)


class World(Protocol):
    """A queue with the ledger in whose transactions it takes part."""

    queue: Queue
    ledger: Ledger
    runs: Runs

    def until(self, *wanted: tuple[Any, ...]) -> bool:
        """Let the queue work until all of this ran."""
        ...

    def monotonic(self) -> float:
        """The queue's clock."""
        ...


class DurableWorld:
    """DBOS, which runs by itself."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.runs = Runs(self.monotonic)
        self.queue = DurableQueue(
            ledger.engine,
            ledger.url,
            run_stage=self.runs.stage,
            run_delivery=self.runs.delivery,
            destinations=("pacs", "archive", "archive-pacs"),
            urgency=ledger.priority,
            poll_seconds=0.02,
        )
        self.queue.launch()

    def until(self, *wanted: tuple[Any, ...]) -> bool:
        return self.runs.wait_for(*wanted)

    def monotonic(self) -> float:
        return time.monotonic()


class MemoryWorld:
    """The queue in memory, whose clock is moved until nothing waits."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._seconds = 0.0
        self.runs = Runs(self.monotonic)
        self.queue = MemoryQueue(run_stage=self.runs.stage, run_delivery=self.runs.delivery, monotonic=self.monotonic)

    def until(self, *wanted: tuple[Any, ...]) -> bool:
        self.queue.run_due()
        while self.queue.waiting:
            self._seconds = min(entry.due for entry in self.queue.waiting)
            self.queue.run_due()
        return {what for what, _ in self.runs.ran} >= set(wanted)

    def monotonic(self) -> float:
        return self._seconds


@pytest.fixture(scope="module", params=["dbos", "memory"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Ledger.open(tmp_path_factory.mktemp("queue") / "ledger.sqlite") as ledger:
        if request.param == "memory":
            yield MemoryWorld(ledger)
            return
        made = DurableWorld(ledger)
        try:
            yield made
        finally:
            made.queue.close(5)


@pytest.fixture
def key() -> WorkKey:
    """A work that no other test has."""
    return WorkKey(study_key=f"{next(_numbers):032x}", revision=1, model="ct-lung")


def last_stage(key: WorkKey) -> tuple[Any, ...]:
    return key, WORK_STAGES[-1]


def another(key: WorkKey) -> WorkKey:
    return WorkKey(study_key=key.study_key, revision=2, model=key.model)


def test_a_work_runs_its_stages_in_order(world: World, key: WorkKey) -> None:
    with world.ledger.transaction() as connection:
        world.queue.enqueue_work(connection, key)
    assert world.until(last_stage(key))
    assert world.runs.of(key) == [(name,) for name in WORK_STAGES]


def test_a_stage_that_says_no_is_the_last_one(world: World, key: WorkKey) -> None:
    world.runs.ends[key.workflow_id] = WORK_STAGES[0]
    with world.ledger.transaction() as connection:
        world.queue.enqueue_work(connection, key)
        world.queue.enqueue_work(connection, another(key))
    assert world.until(last_stage(another(key)))
    assert world.runs.of(key) == [(WORK_STAGES[0],)]


def test_the_same_work_again_changes_nothing(world: World, key: WorkKey) -> None:
    with world.ledger.transaction() as connection:
        world.queue.enqueue_work(connection, key)
        world.queue.enqueue_work(connection, key)
    assert world.until(last_stage(key))
    with world.ledger.transaction() as connection:
        world.queue.enqueue_work(connection, key)
        world.queue.enqueue_work(connection, another(key))
    assert world.until(last_stage(another(key)))
    assert len(world.runs.of(key)) == len(WORK_STAGES)


def test_works_that_wait_go_by_their_priority_and_equal_ones_in_their_order(world: World) -> None:
    keys = [WorkKey(study_key=f"{next(_numbers):032x}", revision=1, model="ct-lung") for _ in range(4)]
    with world.ledger.transaction() as connection:  # all at once: none runs before the last is queued
        for key, priority in zip(keys, (2, 1, 1, 0), strict=True):
            world.queue.enqueue_work(connection, key, priority=priority)
    assert world.until(*(last_stage(key) for key in keys))
    begun = [what[0] for what, _ in world.runs.ran if what[0] in keys and what[1] == WORK_STAGES[0]]
    assert begun == [keys[3], keys[1], keys[2], keys[0]]


def test_a_study_that_is_brought_forward_passes_what_was_queued_before_and_nothing_is_set_back(world: World) -> None:
    """Of DBOS: a row's column `priority` says which goes first, the lowest, and a row may change for as long as it is queued."""
    studies = [f"{next(_numbers):032x}" for _ in range(4)]
    keys = [WorkKey(study_key=study, revision=number, model="ct-lung") for study in studies for number in (1, 2)]
    with world.ledger.transaction() as connection:
        for key in keys:
            priority = 0 if key == keys[7] else 1
            world.queue.enqueue_work(connection, key, priority=priority)
            world.queue.enqueue_delivery(connection, key, "pacs", 1, 0.0, priority=priority)
        world.queue.bring_forward(connection, studies[2], priority=0)
        world.queue.bring_forward(connection, studies[0], priority=2)
        world.queue.bring_forward(connection, studies[3], priority=1)
    assert world.until(*(last_stage(key) for key in keys), *((key, "pacs", 1) for key in keys))
    order = [keys[4], keys[5], keys[7], *keys[:4], keys[6]]
    assert [what[0] for what, _ in world.runs.ran if what[0] in keys and what[1] == WORK_STAGES[0]] == order
    assert [what[0] for what, _ in world.runs.ran if what[0] in keys and what[1] == "pacs"] == order


def test_a_delivery_that_becomes_stat_waits_no_longer_and_another_does(world: World, key: WorkKey) -> None:
    other = WorkKey(study_key=f"{next(_numbers):032x}", revision=1, model="ct-lung")
    queued = world.monotonic()
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, key, "pacs", 1, 600.0, priority=1)
        world.queue.enqueue_delivery(connection, other, "pacs", 1, 1.5, priority=2)
        world.queue.enqueue_delivery(connection, other, "archive", 1, 1.5, priority=0)
    with world.ledger.transaction() as connection:
        world.queue.bring_forward(connection, key.study_key, priority=0)
        world.queue.bring_forward(connection, other.study_key, priority=1)
        world.queue.bring_forward(connection, other.study_key, priority=1)
    assert world.until((key, "pacs", 1), (other, "pacs", 1), (other, "archive", 1))
    assert min(world.runs.moment(other, name, 1) for name in ("pacs", "archive")) - queued >= 1.0
    assert world.runs.of(key) == [("pacs", 1)]


def test_a_transaction_that_is_rolled_back_brings_nothing_forward(world: World, key: WorkKey) -> None:
    queued = world.monotonic()
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, key, "pacs", 1, 1.5)

    def rolled_back() -> None:
        with world.ledger.transaction() as connection:
            world.queue.bring_forward(connection, key.study_key, priority=0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rolled_back()
    assert world.until((key, "pacs", 1))
    assert world.runs.moment(key, "pacs", 1) - queued >= 1.0


def test_a_transaction_that_is_rolled_back_queues_nothing(world: World, key: WorkKey) -> None:
    def rolled_back() -> None:
        with world.ledger.transaction() as connection:
            world.queue.enqueue_work(connection, key)
            world.queue.enqueue_delivery(connection, key, "pacs", 1, 0.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rolled_back()
    with world.ledger.transaction() as connection:
        world.queue.enqueue_work(connection, another(key))
        world.queue.enqueue_delivery(connection, another(key), "pacs", 1, 0.0)
    assert world.until(last_stage(another(key)), (another(key), "pacs", 1))
    assert world.runs.of(key) == []
    with world.ledger.transaction() as connection:
        world.queue.enqueue_work(connection, key)
    assert world.until(last_stage(key)), "what was rolled back may still be queued"


def test_a_delivery_runs_once_per_destination_and_attempt(world: World, key: WorkKey) -> None:
    for _ in range(2):
        with world.ledger.transaction() as connection:
            for destination in ("pacs", "archive"):
                world.queue.enqueue_delivery(connection, key, destination, 1, 0.0)
    assert world.until((key, "pacs", 1), (key, "archive", 1))
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, key, "pacs", 2, 0.0)
    assert world.until((key, "pacs", 2))
    assert sorted(world.runs.of(key)) == [("archive", 1), ("pacs", 1), ("pacs", 2)]


def test_a_delayed_delivery_waits_and_lets_others_go_before(world: World, key: WorkKey) -> None:
    queued = world.monotonic()
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, key, "pacs", 2, 0.5)
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, key, "pacs", 1, 0.0)
    assert world.until((key, "pacs", 1), (key, "pacs", 2))
    assert world.runs.of(key) == [("pacs", 1), ("pacs", 2)]
    assert world.runs.moment(key, "pacs", 2) - queued >= 0.45


def test_a_delivery_that_waits_for_too_long_is_hastened_and_runs_once(world: World, key: WorkKey) -> None:
    """The clock was a month ahead when it was queued, and was set right."""
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, key, "pacs", 2, 30 * 86400.0)
        world.queue.enqueue_delivery(connection, key, "archive", 2, 1.5)
    queued = world.monotonic()
    assert world.queue.hasten(60.0) == 1
    assert world.queue.hasten(60.0) == 0
    assert world.until((key, "pacs", 2), (key, "archive", 2))
    assert sorted(world.runs.of(key)) == [("archive", 2), ("pacs", 2)]
    assert world.runs.moment(key, "archive", 2) - queued >= 1.0, "what waits as it should goes on waiting"
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, key, "pacs", 2, 0.0)
        world.queue.enqueue_delivery(connection, key, "pacs", 3, 0.0)
    assert world.until((key, "pacs", 3))
    assert sorted(world.runs.of(key)) == [("archive", 2), ("pacs", 2), ("pacs", 3)]


def test_a_work_that_a_stop_ended_half_way_is_revived(world: World, key: WorkKey) -> None:
    world.runs.ends[key.workflow_id] = WORK_STAGES[0]
    with world.ledger.transaction() as connection:
        world.queue.enqueue_work(connection, key)
        world.queue.enqueue_work(connection, another(key))
    assert world.until(last_stage(another(key)))  # works run one at a time: the first one has ended
    world.runs.ends.clear()
    world.queue.revive_work(key)
    assert world.until(last_stage(key))
    assert world.runs.of(key) == [(WORK_STAGES[0],), *((name,) for name in WORK_STAGES)]


def test_a_forgotten_study_is_as_new(world: World, key: WorkKey) -> None:
    with world.ledger.transaction() as connection:
        world.queue.enqueue_work(connection, key)
        world.queue.enqueue_work(connection, another(key))
    assert world.until(last_stage(another(key)))
    world.queue.forget(key.study_key)
    with world.ledger.transaction() as connection:
        world.queue.enqueue_work(connection, key)
        world.queue.enqueue_work(connection, replace(key, revision=3))
    assert world.until(last_stage(replace(key, revision=3)))
    assert len(world.runs.of(key)) == 2 * len(WORK_STAGES)


def test_of_what_is_due_the_most_urgent_goes_first(world: World, key: WorkKey) -> None:
    """What waited for a destination is let go at once."""
    keys = [WorkKey(study_key=key.study_key, revision=number, model="ct-lung") for number in range(1, 6)]
    with world.ledger.transaction() as connection:
        for one, priority in zip(keys, (2, 1, 0, 1, 0), strict=True):
            world.queue.enqueue_delivery(connection, one, "pacs", 2, 600.0, priority=priority)
        world.queue.enqueue_delivery(connection, key, "archive", 2, 1.0)
    assert world.queue.hasten(0.0, "pacs") == 5
    assert world.until(*((one, "pacs", 2) for one in keys), (key, "archive", 2))
    ran = [what[0].revision for what, _ in world.runs.ran if what[0] in keys and what[1] == "pacs"]
    assert ran == [3, 5, 2, 4, 1]


def test_a_delivery_that_nobody_makes_is_revived_once(world: World, key: WorkKey) -> None:
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, key, "pacs", 7, 0.0)
    assert world.until((key, "pacs", 7))
    assert eventually(lambda: world.queue.revive_delivery(key, "pacs"))
    assert world.until((key, "pacs", 8))
    assert world.runs.of(key) == [("pacs", 7), ("pacs", 8)]
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, key, "archive", 1, 0.4)
    assert not world.queue.revive_delivery(key, "archive"), "it waits"
    assert world.until((key, "archive", 1))
    assert world.queue.revive_delivery(another(key), "pacs"), "a node was killed before it was queued at all"
    assert world.until((another(key), "pacs", 1))


def test_no_two_deliveries_share_a_name(world: World, key: WorkKey) -> None:
    """Names of models and of destinations may hold a hyphen."""
    one = WorkKey(study_key=key.study_key, revision=1, model="a")
    other = WorkKey(study_key=key.study_key, revision=1, model="a-archive")
    with world.ledger.transaction() as connection:
        world.queue.enqueue_delivery(connection, other, "pacs", 1, 0.0)
        world.queue.enqueue_delivery(connection, one, "archive-pacs", 1, 0.0)
    assert world.until((other, "pacs", 1), (one, "archive-pacs", 1))


def eventually(act: Callable[[], bool]) -> bool:
    """Whether it comes true: DBOS writes down that a try ended a moment after it did."""
    deadline = time.monotonic() + 10
    while not (done := act()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return done
