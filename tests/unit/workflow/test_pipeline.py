"""DBOS really, on SQLite: what goes on after a stop, and what never gets stored. DBOS is one per process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dbos import _dbos
from sqlalchemy import text

from dicomnode.errors import NodeError
from dicomnode.storage.ledger import Ledger
from dicomnode.study import WORK_STAGES, WorkKey
from dicomnode.workflow import pipeline
from dicomnode.workflow.doorbell import Doorbell
from dicomnode.workflow.pipeline import DurableQueue
from dicomnode.workflow.plain_json import JsonSerializer
from dicomnode.workflow.ports import Revival
from tests.unit.workflow.samples import WORK

PHI = "Mueller^Juergen"


@pytest.fixture
def queues() -> Iterator[list[DurableQueue]]:
    """Queues to close whatever happens: two of them at a time would be one too many."""
    made: list[DurableQueue] = []
    yield made
    while made:
        made.pop().close(5)


def open_queue(
    ledger: Ledger,
    queues: list[DurableQueue],
    *,
    stage: Callable[[str, WorkKey], bool] = lambda name, key: True,
    delivery: Callable[[WorkKey, str, int], None] = lambda key, destination, number: None,
    destinations: tuple[str, ...] = ("pacs",),
    fetch: Callable[[WorkKey], None] | None = None,
    poll_seconds: float = 0.02,
) -> DurableQueue:
    queue = DurableQueue(
        ledger.engine,
        ledger.url,
        run_stage=stage,
        run_delivery=delivery,
        destinations=destinations,
        urgency=ledger.priority,
        fetches=lambda model: fetch is not None and model == WORK.model,
        run_fetch=fetch or (lambda key: None),
        poll_seconds=poll_seconds,
    )
    queues.append(queue)
    return queue


def test_a_queue_that_is_not_launched_takes_nothing(ledger: Ledger, queues: list[DurableQueue]) -> None:
    queue = open_queue(ledger, queues)
    with pytest.raises(RuntimeError, match="not launched"), ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)


def test_what_is_queued_is_looked_for_at_once(ledger: Ledger, queues: list[DurableQueue]) -> None:
    ran, delivered = threading.Event(), threading.Event()

    def stage(name: str, key: WorkKey) -> bool:
        ran.set()
        return True

    def deliver(key: WorkKey, destination: str, number: int) -> None:
        delivered.set()

    queue = open_queue(ledger, queues, stage=stage, delivery=deliver, poll_seconds=600)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
        assert not ran.wait(0.3), "before it is committed nothing is there"
    assert ran.wait(30)
    assert delivered.wait(30)
    delivered.clear()
    until = time.monotonic() + 30
    while not queue.revive_delivery(WORK, "pacs"):
        assert time.monotonic() < until, "the first try has not ended"
        time.sleep(0.01)
    assert delivered.wait(30)


def test_a_library_whose_threads_are_built_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(_dbos, "queue_thread")
    bell = Doorbell()
    with bell.listening():
        assert not hasattr(_dbos, "queue_thread")
    bell.ring("work")


def test_a_queue_at_rest_is_looked_at_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bell = Doorbell()
    assert bell.patience("queue-worker-work", 0.1) == 0.5
    bell.ring("work")
    assert bell.patience("queue-worker-work", 0.1) == 0.1
    assert bell.patience("queue-worker-delivery-pacs", 0.1) == 0.5
    now[0] += 2.5
    assert bell.patience("queue-worker-work", 0.1) == 0.5


def test_a_thread_that_waits_for_its_next_look_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    waits = threading.Event()

    def start(stop: threading.Event) -> None:
        def work() -> None:
            while not stop.is_set():
                waits.set()
                stop.wait(3600)

        threads.append(threading.Thread(target=work, name="queue-worker-work", daemon=True))
        threads[0].start()

    monkeypatch.setattr(_dbos, "queue_thread", start)
    bell = Doorbell()
    with bell.listening():
        _dbos.queue_thread(threading.Event())  # type: ignore[arg-type,call-arg]
    assert waits.wait(30)
    time.sleep(0.1)
    bell.end()
    threads[0].join(30)
    assert not threads[0].is_alive()


def test_the_thread_of_a_queue_rests_while_it_waits_and_a_try_is_under_way_while_it_lasts(
    ledger: Ledger, queues: list[DurableQueue]
) -> None:
    begun, answers = threading.Event(), threading.Event()

    def deliver(key: WorkKey, destination: str, number: int) -> None:
        begun.set()
        answers.wait(30)

    queue = open_queue(ledger, queues, delivery=deliver)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
    assert begun.wait(30)
    (attempt,) = [pulse for pulse in queue.pulses if pulse.name == "delivery"]
    assert attempt.about == {"work": WORK.workflow_id, "destination": "pacs"}
    until, seen = time.monotonic() + 30, set[bool]()
    while seen != {True, False} and time.monotonic() < until:  # its thread looks again and again, and rests in between
        (worker,) = [pulse for pulse in queue.pulses if pulse.name == "queue-worker-delivery-pacs"]
        seen.add(worker.is_at_work)
    assert seen == {True, False}
    answers.set()
    while any(pulse.name == "delivery" for pulse in queue.pulses) and time.monotonic() < until:
        time.sleep(0.01)
    assert not [pulse for pulse in queue.pulses if pulse.name == "delivery"]


def test_the_bell_rings_for_what_is_queued_and_for_what_makes_room(
    ledger: Ledger, queues: list[DurableQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    rung, all_rung, ring = list[str](), threading.Event(), Doorbell.ring

    def noted(bell: Doorbell, name: str) -> None:
        rung.append(name)
        ring(bell, name)
        if len(rung) == 8:
            all_rung.set()

    monkeypatch.setattr(Doorbell, "ring", noted)
    ran: list[int] = []
    queue = open_queue(ledger, queues, stage=lambda name, key: ran.append(key.revision) or True)  # type: ignore[func-returns-value]
    queue.launch()
    with ledger.transaction() as connection:
        for revision in (1, 2):
            queue.enqueue_work(connection, replace(WORK, revision=revision))
            queue.enqueue_delivery(connection, replace(WORK, revision=revision), "pacs", 1, 0.0)
    assert all_rung.wait(30), "twice for each: when it is queued, and when it has ended"
    assert sorted(rung) == ["delivery-pacs"] * 4 + ["work"] * 4
    assert ran == [1] * len(WORK_STAGES) + [2] * len(WORK_STAGES)


def test_a_work_goes_on_at_its_stage_after_the_node_was_ended(
    tmp_path: Path, ledger: Ledger, queues: list[DurableQueue]
) -> None:
    entered, go_on, done = threading.Event(), threading.Event(), threading.Event()
    ran: list[str] = []

    def first(name: str, key: WorkKey) -> bool:
        ran.append(name)
        if name == WORK_STAGES[1]:
            entered.set()
            assert go_on.wait(30)
            raise KeyboardInterrupt(PHI)  # the process ends inside the stage
        return True

    queue = open_queue(ledger, queues, stage=first)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
    assert entered.wait(30)
    queues.remove(queue)
    closing = threading.Thread(target=queue.close, args=(0,))
    closing.start()
    closing.join(30)
    go_on.set()
    assert ran == list(WORK_STAGES[:2])

    def second(name: str, key: WorkKey) -> bool:
        ran.append(name)
        if name == WORK_STAGES[-1]:
            done.set()
        return True

    again = open_queue(ledger, queues, stage=second)
    again.launch()
    assert done.wait(30)
    assert ran == [*WORK_STAGES[:2], *WORK_STAGES[1:]]
    assert PHI.encode() not in database_bytes(tmp_path)


def test_a_delivery_that_waits_for_a_wrong_time_of_day_goes_on_after_a_start_with_the_right_one(
    ledger: Ledger, queues: list[DurableQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, delivered, right = list[int](), threading.Event(), time.time

    def deliver(key: WorkKey, destination: str, number: int) -> None:
        ran.append(number)
        delivered.set()

    queue = open_queue(ledger, queues, delivery=deliver)
    queue.launch()
    monkeypatch.setattr(time, "time", lambda: right() + 30 * 86400)
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "pacs", 2, 5.0)
    assert queue.hasten(600.0) == 0, "by that clock it waits as it should"
    monkeypatch.undo()
    queues.remove(queue)
    queue.close(5)
    again = open_queue(ledger, queues, delivery=deliver)
    again.launch()
    assert not delivered.wait(2)
    assert again.hasten(600.0) == 1
    assert delivered.wait(30)
    assert again.hasten(600.0) == 0
    assert ran == [2]


def test_the_text_of_an_exception_is_never_stored(tmp_path: Path, ledger: Ledger, queues: list[DurableQueue]) -> None:
    raised, delivered = threading.Event(), threading.Event()

    def stage(name: str, key: WorkKey) -> bool:
        raised.set()
        raise ValueError(PHI)

    queue = open_queue(ledger, queues, stage=stage, delivery=lambda *_: delivered.set())
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
    assert raised.wait(30)
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
    assert delivered.wait(30)
    queues.remove(queue)
    queue.close(5)
    stored = database_bytes(tmp_path)
    assert WORK.workflow_id.encode() in stored
    assert PHI.encode() not in stored


def test_a_delivery_whose_ledger_fails_is_tried_again(ledger: Ledger, queues: list[DurableQueue]) -> None:
    tries: list[int] = []
    done = threading.Event()

    def delivery(key: WorkKey, destination: str, number: int) -> None:
        tries.append(number)
        if len(tries) < 2:
            raise RuntimeError(PHI)
        done.set()

    queue = open_queue(ledger, queues, delivery=delivery)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
    assert done.wait(30)
    assert tries == [1, 1]


def test_a_delivery_to_a_destination_that_was_taken_out_still_gets_its_say(
    ledger: Ledger, queues: list[DurableQueue]
) -> None:
    queue = open_queue(ledger, queues, destinations=("old",))
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "old", 1, 2.0)
    queues.remove(queue)
    queue.close(0)
    asked, done = [], threading.Event()

    def delivery(key: WorkKey, destination: str, number: int) -> None:
        asked.append((destination, number))
        done.set()

    open_queue(ledger, queues, delivery=delivery, destinations=("new",)).launch()
    assert done.wait(30)
    assert asked == [("old", 1)]


def test_values_are_json_and_exceptions_their_type_alone() -> None:
    serializer = JsonSerializer()
    assert serializer.name() == "dicomnode_json"
    for value in ({"args": ["key", 1, None, True], "kwargs": {}}, [1.5, "x"], None, {"error": "x", "more": 1}):
        assert serializer.deserialize(serializer.serialize(value)) == value
    text = serializer.serialize(ValueError(PHI))
    assert PHI not in text
    error = serializer.deserialize(text)
    assert isinstance(error, RuntimeError)
    assert str(error) == "ValueError"


def database_bytes(folder: Path) -> bytes:
    """Every byte of the ledger's files."""
    return b"".join(path.read_bytes() for path in folder.glob("ledger.sqlite*"))


def test_a_work_that_fetches_waits_for_that_beside_all_other_work(ledger: Ledger, queues: list[DurableQueue]) -> None:
    asked, answered, done = threading.Event(), threading.Event(), threading.Event()
    ran: list[tuple[str, str]] = []
    other = WorkKey(study_key="ef" * 16, revision=1, model="another")

    def fetch(key: WorkKey) -> None:
        ran.append(("fetch", key.model))
        asked.set()
        assert answered.wait(30)

    def stage(name: str, key: WorkKey) -> bool:
        ran.append((name, key.model))
        if name == WORK_STAGES[-1]:
            if key == other:
                answered.set()
            else:
                done.set()
        return True

    queue = open_queue(ledger, queues, stage=stage, fetch=fetch)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
        queue.enqueue_work(connection, WORK)
    assert asked.wait(30)
    queue.revive_work(WORK)  # it is under way
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, other)
    assert done.wait(30)
    stages = [(name, WORK.model) for name in WORK_STAGES]
    assert ran == [("fetch", WORK.model), *((name, "another") for name in WORK_STAGES), *stages]


def test_a_fetch_that_a_stop_ended_half_way_is_made_again_and_one_that_was_made_is_not(
    ledger: Ledger, queues: list[DurableQueue]
) -> None:
    fetched: list[int] = []
    failed, prepared = threading.Event(), threading.Semaphore(0)

    def fetch(key: WorkKey) -> None:
        fetched.append(len(fetched))
        if len(fetched) == 1:
            failed.set()
            raise NodeError("timeout")  # the node ends

    def stage(name: str, key: WorkKey) -> bool:
        prepared.release()
        return False

    queue = open_queue(ledger, queues, stage=stage, fetch=fetch)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
    assert failed.wait(30)
    revived(queue, prepared)
    assert fetched == [0, 1]
    revived(queue, prepared)  # its stages were ended half-way: they alone are run again
    assert fetched == [0, 1]


def revived(queue: DurableQueue, prepared: threading.Semaphore) -> None:
    """Revive the work until it runs: what ended may be a moment behind."""
    until = time.monotonic() + 30
    queue.revive_work(WORK)
    while not prepared.acquire(timeout=0.5):
        assert time.monotonic() < until
        queue.revive_work(WORK)


def test_a_work_that_too_many_starts_took_up_is_given_up(ledger: Ledger, queues: list[DurableQueue]) -> None:
    """DBOS counts the starts at which it takes a workflow up; what it says after the last one is set here."""
    prepared = threading.Semaphore(0)

    def stage(name: str, key: WorkKey) -> bool:
        prepared.release()
        return False

    queue = open_queue(ledger, queues, stage=stage)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
    assert prepared.acquire(timeout=30)
    until = time.monotonic() + 30
    while queue.revive_work(WORK) is Revival.UNDER_WAY:
        assert time.monotonic() < until
    assert prepared.acquire(timeout=30)
    with ledger.engine.begin() as connection:
        changed = "update workflow_status set status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' where workflow_uuid = :name"
        assert connection.execute(text(changed), {"name": WORK.workflow_id}).rowcount == 1
    while (found := queue.revive_work(WORK)) is Revival.UNDER_WAY:
        assert time.monotonic() < until
    assert found is Revival.GIVEN_UP
    assert not prepared.acquire(timeout=1)


@pytest.mark.parametrize("status", ["ENQUEUED", "PENDING"])
def test_what_an_older_schema_left_is_queued_again_and_runs_once(
    ledger: Ledger, queues: list[DurableQueue], monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """DBOS takes up and takes out of a queue what is of its own version alone."""
    prepared, sent = threading.Semaphore(0), threading.Semaphore(0)

    def stage(name: str, key: WorkKey) -> bool:
        prepared.release()
        return False

    queue = open_queue(ledger, queues, stage=stage, delivery=lambda *_: sent.release())
    queue.launch()
    with monkeypatch.context() as older, ledger.transaction() as connection:
        older.setattr(pipeline, "WORKFLOW_SCHEMA", "0")
        queue.enqueue_work(connection, WORK)
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
    with ledger.engine.begin() as connection:
        assert connection.execute(text("update workflow_status set status = :status"), {"status": status}).rowcount == 2
    assert not prepared.acquire(timeout=0.5)
    assert queue.deliveries() == frozenset()  # nobody takes it any further: so it is revived
    assert queue.revive_work(WORK) is Revival.QUEUED
    assert queue.revive_delivery(WORK, "pacs")
    assert prepared.acquire(timeout=30)
    assert sent.acquire(timeout=30)
    with ledger.engine.begin() as connection:  # also where the older version runs again
        left = "select count(*) from workflow_status where application_version = '0' and status != 'CANCELLED'"
        assert connection.execute(text(left)).scalar() == 0
    assert not prepared.acquire(timeout=0.5)
    assert not sent.acquire(timeout=0.5)


def test_of_what_waits_for_a_destination_the_most_urgent_goes_first(ledger: Ledger, queues: list[DurableQueue]) -> None:
    first, go_on, done = threading.Event(), threading.Event(), threading.Event()
    ran: list[int] = []

    def deliver(key: WorkKey, destination: str, number: int) -> None:
        ran.append(number)
        first.set()
        assert go_on.wait(30)
        if len(ran) == 4:
            done.set()

    queue = open_queue(ledger, queues, delivery=deliver)
    queue.launch()
    for number, priority in ((1, 1), (2, 2), (3, 1), (4, 0)):
        with ledger.transaction() as connection:
            queue.enqueue_delivery(connection, WORK, "pacs", number, 0.0, priority=priority)
        assert first.wait(30), "one place: the others wait behind the first"
    go_on.set()
    assert done.wait(30)
    assert ran == [1, 4, 3, 2]


def test_what_is_hastened_goes_by_urgency_and_then_by_age(
    ledger: Ledger, queues: list[DurableQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open_queue(ledger, queues)
    queue.launch()
    aged = "update workflow_status set created_at = :age where workflow_uuid = :name"
    for number, priority in ((1, 1), (2, 2), (3, 0), (4, 1)):
        with ledger.transaction() as connection:
            queue.enqueue_delivery(connection, WORK, "pacs", number, 3600.0, priority=priority)
            name = f"{WORK.workflow_id}:pacs:{number}"
            connection.execute(text(aged), {"age": 1000 * number, "name": name})  # DBOS counts in seconds here
    client, hastened = queue._launched(), list[int]()
    listed = client.list_workflows
    monkeypatch.setattr(client, "list_workflows", lambda **asked: listed(**asked)[::-1])  # in whatever order they come
    monkeypatch.setattr(client, "set_workflow_delay", lambda name, **_: hastened.append(int(name.rsplit(":", 1)[1])))
    assert queue.hasten(0.0, "pacs") == 4
    assert hastened == [3, 1, 4, 2]
