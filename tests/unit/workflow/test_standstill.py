"""What is due and does not become ready, and what is ready and does not begin, is told as a thread that hangs: else nobody would know."""

from __future__ import annotations

import threading
import time as time_of_day
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from dbos import _dbos

from dicomnode.pulses import LOOK_SECONDS, NEAR_HARD_SECONDS, NEAR_SECONDS, Judge
from dicomnode.storage.ledger import Ledger
from dicomnode.workflow.pipeline import DurableQueue
from dicomnode.workflow.standstill import Standstill
from tests.unit.workflow.samples import WORK
from tests.unit.workflow.test_pipeline import open_queue, queues

__all__ = ["queues"]


@pytest.fixture
def still() -> Standstill:
    return Standstill({"work": 2})


def at_work(still: Standstill) -> list[str]:
    return sorted(pulse.name for pulse in still.pulses if pulse.is_at_work)


def test_what_is_due_and_stays_due_is_a_standstill_until_it_becomes_ready(still: Standstill) -> None:
    still.look(1000, ())
    assert at_work(still) == [], "it may have become due a moment ago"
    still.look(1000, ())
    assert at_work(still) == ["queue-delays"]
    (pulse,) = still.pulses
    steps = pulse.steps
    still.look(1000, ())
    assert (at_work(still), pulse.steps) == (["queue-delays"], steps), "no step"
    still.look(1001, ())
    assert at_work(still) == [], "that one became ready; this one is another's turn"
    still.look(1001, ())
    assert at_work(still) == ["queue-delays"]
    still.look(None, ())
    assert at_work(still) == []


def test_what_is_ready_and_does_not_begin_though_there_is_room_is_one(still: Standstill) -> None:
    for _ in range(3):
        still.look(None, ["work", "delivery-pacs"])
    assert at_work(still) == ["queue-starts-delivery-pacs", "queue-starts-work"]
    with still.one("work"):
        still.look(None, ["work", "delivery-pacs"])
        assert at_work(still) == ["queue-starts-delivery-pacs"], "one began"
        still.look(None, ["work", "delivery-pacs"])
        assert at_work(still) == ["queue-starts-delivery-pacs", "queue-starts-work"], "and there is room for another"
        with still.one("work"):
            for _ in range(3):
                still.look(None, ["work"])
                assert at_work(still) == [], "it waits for its turn, however long"


def test_one_that_begins_and_ends_between_two_looks_is_a_step(still: Standstill) -> None:
    for _ in range(5):
        still.look(None, ["delivery-pacs"])
        assert at_work(still) == []
        with still.one("delivery-pacs"):
            pass
    with pytest.raises(ZeroDivisionError), still.one("delivery-pacs"):
        raise ZeroDivisionError
    for _ in range(2):
        still.look(None, ["delivery-pacs"])
    assert at_work(still) == ["queue-starts-delivery-pacs"], "one that failed holds no place"


def test_it_is_told_once_after_minutes_and_ends_no_node(still: Standstill) -> None:
    judge, now, told = Judge(0.0), 0.0, dict[str, float]()
    while now < 2 * NEAR_HARD_SECONDS:
        still.look(7, ())
        now += LOOK_SECONDS
        verdict = judge.look(still.pulses, now)
        told |= {f"stalled {pulse.name}": now for pulse, _ in verdict.stalled}
        told |= {} if verdict.hung is None else {f"hung {verdict.hung.name}": now}
    (first,) = told.values()
    assert list(told) == ["stalled queue-delays"]
    assert 0 <= first - NEAR_SECONDS <= 3 * LOOK_SECONDS


@pytest.fixture
def ran() -> threading.Event:
    return threading.Event()


@pytest.fixture
def queue(ledger: Ledger, queues: list[DurableQueue], ran: threading.Event) -> DurableQueue:
    made = open_queue(
        ledger, queues, stage=lambda *_: ran.set() is None, delivery=lambda *_: ran.set(), poll_seconds=0.02
    )
    made.launch()
    return made


def looks_until(queue: DurableQueue, wanted: list[str]) -> bool:
    """Look until that stands still, and nothing else; whether it comes so."""
    return eventually(lambda: queue.look() or at_work(queue._standstill) == wanted)


def eventually(is_so: Callable[[], bool]) -> bool:
    until = time_of_day.monotonic() + 20
    while not (so := is_so()) and time_of_day.monotonic() < until:
        time_of_day.sleep(0.02)
    return so


@pytest.mark.parametrize(
    "case",
    [
        ("transition_delayed_workflows", 0.01, "queue-delays"),
        ("start_queued_workflows", 0.0, "queue-starts-delivery-pacs"),
    ],
    ids=lambda case: case[2],
)
def test_a_thread_of_the_library_that_does_nothing_any_more_is_seen_and_one_that_goes_on(
    queue: DurableQueue,
    ledger: Ledger,
    ran: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, float, str],
) -> None:
    """Dead, blocked, or failing each time: the library keeps all that to itself."""
    name, delay, wanted = case
    with monkeypatch.context() as patched:
        patched.setattr(_dbos._get_dbos_instance()._sys_db, name, lambda *_, **__: 1 / 0)
        with ledger.transaction() as connection:
            queue.enqueue_delivery(connection, WORK, "pacs", 1, delay)
        assert looks_until(queue, [wanted])
        assert wanted in [pulse.name for pulse in queue.pulses if pulse.is_at_work]
        assert not ran.is_set()
    assert ran.wait(20)
    assert looks_until(queue, [])


def test_what_runs_or_waits_for_its_time_or_its_turn_is_no_standstill(
    ledger: Ledger, queues: list[DurableQueue]
) -> None:
    begun, answers = threading.Event(), threading.Event()

    def deliver(*_: object) -> None:
        begun.set()
        answers.wait(30)

    queue = open_queue(ledger, queues, delivery=deliver)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
        queue.enqueue_delivery(connection, WORK, "pacs", 2, 0.0)
        queue.enqueue_delivery(connection, WORK, "pacs", 3, 600.0)
    try:
        assert begun.wait(20)
        for _ in range(3):
            queue.look()
            assert at_work(queue._standstill) == []
    finally:
        answers.set()


def test_what_another_version_left_is_no_standstill_and_what_waits_for_longest_is_looked_at(
    queue: DurableQueue, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_dbos._get_dbos_instance()._sys_db, "transition_delayed_workflows", lambda: None)
    with ledger.transaction() as connection:
        for number, delay in enumerate((500.0, 600.0, 400.0), 1):
            queue.enqueue_delivery(connection, WORK, "pacs", number, delay)
        late = "update workflow_status set delay_until_epoch_ms = delay_until_epoch_ms - 1000000"
        connection.exec_driver_sql(late)
        column = "select min(delay_until_epoch_ms) from workflow_status"
        first = connection.exec_driver_sql(column).scalar()
    rows = queue._rows()
    with ledger.transaction() as connection:
        assert rows.due(connection) == first
        connection.exec_driver_sql("update workflow_status set application_version = '0'")
        assert rows.due(connection) is None
        connection.exec_driver_sql("update workflow_status set status = 'ENQUEUED'")
        assert rows.ready(connection) == []
        connection.exec_driver_sql("update workflow_status set status = 'PENDING', owner_xid = 't'")
        assert rows.claimed(connection) == {}


@pytest.fixture
def occupied(ledger: Ledger, queues: list[DurableQueue]) -> Iterator[tuple[DurableQueue, threading.Semaphore]]:
    """A queue in which works, fetches and tries last until the end, and what says that one began."""
    begun, answers = threading.Semaphore(0), threading.Event()

    def runs(*_: object) -> bool:
        begun.release()
        return answers.wait(30)

    queue = open_queue(ledger, queues, stage=runs, fetch=runs)  # type: ignore[arg-type]
    queue.launch()
    yield queue, begun
    answers.set()


def test_works_and_fetches_that_wait_for_a_place_are_no_standstill(
    occupied: tuple[DurableQueue, threading.Semaphore], ledger: Ledger
) -> None:
    queue, begun = occupied
    with ledger.transaction() as connection:
        for revision in range(1, 6):
            queue.enqueue_work(connection, replace(WORK, revision=revision))
        for revision in (1, 2):
            queue.enqueue_work(connection, replace(WORK, revision=revision, model="without"))
    for _ in range(5):
        assert begun.acquire(timeout=20)
    assert [pulse.name for pulse in queue.pulses if pulse.is_at_work and pulse.name == "priors"] == ["priors"] * 4
    for _ in range(3):
        queue.look()
        assert at_work(queue._standstill) == []


def test_a_fetch_that_does_not_begin_beside_another_is_seen(
    occupied: tuple[DurableQueue, threading.Semaphore], ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, begun = occupied
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
    assert begun.acquire(timeout=20)
    monkeypatch.setattr(_dbos._get_dbos_instance()._sys_db, "start_queued_workflows", lambda *_, **__: 1 / 0)
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, replace(WORK, revision=2))
    assert looks_until(queue, ["queue-starts-fetch"])
