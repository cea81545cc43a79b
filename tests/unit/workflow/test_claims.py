"""What was taken out of a queue and is run by nobody is run again, once; under DBOS really."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable

import pytest
from dbos import _dbos, _sys_db
from sqlalchemy import event, text

from dicomnode.service import chores
from dicomnode.storage.ledger import Ledger
from dicomnode.study import WORK_STAGES, WorkKey
from dicomnode.workflow import claims, pipeline
from dicomnode.workflow.claims import LOOKS, Claims
from dicomnode.workflow.pipeline import DurableQueue
from dicomnode.workflow.ports import Revival
from tests.unit.workflow.samples import WORK, Events
from tests.unit.workflow.test_outlasting import Course, Disk, disk, said
from tests.unit.workflow.test_pipeline import open_queue, queues

__all__ = ["disk", "queues"]
OURS = frozenset({"t1", "t2"})


def test_what_nobody_runs_at_several_looks_in_a_row_is_lost() -> None:
    looked = Claims()
    for _ in range(LOOKS - 1):
        assert looked.look(OURS, {"a": "t1"}, ()) == []
    assert looked.look(OURS, {"a": "t1"}, ()) == [("a", "t1")]


@pytest.mark.parametrize(
    ("claimed", "run"),
    [({"a": "t1"}, {"a"}), ({"a": "t2"}, ()), ({"a": "another host's"}, ()), ({}, ())],
    ids=["it runs", "it began anew", "another host took it", "it ended"],
)
def test_one_look_at_which_it_is_otherwise_begins_the_count_anew(claimed: dict[str, str], run: set[str]) -> None:
    looked = Claims()
    for _ in range(LOOKS - 1):
        assert looked.look(OURS, {"a": "t1"}, ()) == []
    assert looked.look(OURS, claimed, run) == []
    for _ in range(LOOKS - 1):
        assert looked.look(OURS, {"a": "t1"}, ()) == []


def test_tokens_of_what_ended_are_forgotten_and_those_that_came_meanwhile_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims, "_OF_THE_LIBRARY", lambda *_, owner_xid: ([owner_xid], None))
    monkeypatch.setattr(_sys_db.SystemDatabase, "start_queued_workflows", None)
    heard = Claims()
    heard.hear()
    claim: Callable[..., object] = _sys_db.SystemDatabase.start_queued_workflows
    claim(None, owner_xid="t1"), claim(None, owner_xid="t2")
    before = heard.ours
    claim(None, owner_xid="t3")
    assert heard.look(before, {"a": "t1", "c": "t3"}, ()) == []
    assert heard.ours == {"t1", "t3"}


def test_a_library_that_is_built_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_OF_THE_LIBRARY", None)
    monkeypatch.delattr(_sys_db.SystemDatabase, "start_queued_workflows")
    Claims().hear()
    assert not hasattr(_sys_db.SystemDatabase, "start_queued_workflows")
    assert claims.run_by(object()) is None


class Ward:
    """A queue on a ledger that says an error so often to one kind of thread, and what ran."""

    def __init__(self, ledger: Ledger, queues: list[DurableQueue]) -> None:
        self.ledger = ledger
        self.ran = list[str]()
        self.done, self.stopped = threading.Event(), threading.Event()
        self.error = said("locking protocol", sqlite3.SQLITE_PROTOCOL)
        self.refusals = 0
        self._refused: Callable[[str, str], bool] = lambda thread, statement: False
        event.listen(ledger.engine, "do_execute", self._execute)
        self.queue = open_queue(
            ledger, queues, stage=self._stage, delivery=lambda *_: self._stage("delivered", WORK) and None
        )

    def refuse(self, times: int, refused: Callable[[str, str], bool]) -> None:
        self.refusals, self._refused = times, refused

    def _execute(self, _cursor: object, statement: str, *_: object) -> None:
        if self.refusals and self._refused(threading.current_thread().name, statement):
            self.refusals -= 1
            if not self.refusals:
                self.stopped.set()
            raise self.error

    def _stage(self, name: str, key: WorkKey) -> bool:
        self.ran.append(name)
        if name in (WORK_STAGES[-1], "delivered"):
            self.done.set()
        return True

    def status(self) -> list[str]:
        with self.ledger.engine.connect() as connection:
            return list(connection.execute(text("select status from workflow_status")).scalars())

    def nobody_runs_it(self) -> None:
        assert self.stopped.wait(20)
        until = time.monotonic() + 20
        while _dbos._get_dbos_instance()._active_workflows_set.activeList():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert self.status() == ["PENDING"]

    def taken_up(self) -> list[tuple[str, str | None]]:
        for _ in range(LOOKS - 1):
            assert self.queue.take_up() == []
        return self.queue.take_up()

    def ended(self) -> bool:
        until = time.monotonic() + 20
        while "SUCCESS" not in (found := self.status()) and time.monotonic() < until:
            time.sleep(0.01)
        return found == ["SUCCESS"]


@pytest.fixture
def ward(ledger: Ledger, queues: list[DurableQueue]) -> Ward:
    return Ward(ledger, queues)


def before_its_start(thread: str, statement: str) -> bool:
    return thread.startswith("queue-worker-") and statement.startswith("SELECT") and "inputs" in statement


def at_its_records(thread: str, statement: str) -> bool:
    return thread.startswith("dbos-executor-") and statement.split(maxsplit=1)[0].upper() in ("INSERT", "UPDATE")


@pytest.mark.parametrize(
    ("refused", "stages"),
    [(before_its_start, WORK_STAGES), (at_its_records, (WORK_STAGES[0], *WORK_STAGES))],
    ids=["claimed and not begun", "begun and not written down"],
)
def test_a_work_that_nobody_runs_any_more_is_run(
    ward: Ward, refused: Callable[[str, str], bool], stages: tuple[str, ...]
) -> None:
    ward.queue.launch()
    ward.refuse(2, refused)
    with ward.ledger.transaction() as connection:
        ward.queue.enqueue_work(connection, WORK)
    ward.nobody_runs_it()
    assert ward.queue.revive_work(WORK) is Revival.UNDER_WAY
    assert ward.taken_up() == [(WORK.workflow_id, None)]
    assert ward.ended()
    assert ward.ran == list(stages)
    assert ward.taken_up() == [], "it ended"


def test_what_is_put_back_has_no_token_any_more(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that comes late after all would write down what it did beside the one that took its place."""
    ward.queue.launch()
    ward.refuse(2, before_its_start)
    with ward.ledger.transaction() as connection:
        ward.queue.enqueue_work(connection, WORK)
    ward.nobody_runs_it()
    for _ in range(LOOKS - 1):
        ward.queue.take_up()
    monkeypatch.setattr(_sys_db.SystemDatabase, "start_queued_workflows", lambda *_, **__: 1 / 0)
    assert ward.queue.take_up() == [(WORK.workflow_id, None)]
    with ward.ledger.engine.connect() as connection:
        columns = "select status, owner_xid, started_at_epoch_ms from workflow_status"
        assert connection.execute(text(columns)).all() == [("ENQUEUED", None, None)]


def test_a_try_to_deliver_that_nobody_makes_is_made(ward: Ward) -> None:
    ward.queue.launch()
    ward.refuse(2, before_its_start)
    with ward.ledger.transaction() as connection:
        ward.queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
    ward.nobody_runs_it()
    assert ward.taken_up() == [(WORK.workflow_id, "pacs")]
    assert ward.ended()
    assert ward.ran == ["delivered"]


def test_what_waits_for_its_ledger_is_run(ledger: Ledger, queues: list[DurableQueue], disk: Disk) -> None:
    course = Course(disk)
    queue = open_queue(ledger, queues, stage=course.stage)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
    assert disk.refused.acquire(timeout=20)
    for _ in range(LOOKS + 1):
        assert queue.take_up() == []
    disk.full.clear()
    assert course.done.wait(20)
    assert course.ran == list(WORK_STAGES)


def test_what_waits_for_a_thread_is_run_once(
    ledger: Ledger, queues: list[DurableQueue], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread can be begun while a network runs: what was handed over is run by the thread of that, when it is free."""
    busy, free, refused, tries = threading.Event(), threading.Event(), threading.Event(), list[int]()

    def stage(name: str, _key: WorkKey) -> bool:
        busy.set()
        return free.wait(30) and name != WORK_STAGES[0]

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("dbos-executor-"):
            refused.set()
            raise RuntimeError("can't start new thread")
        begin(thread)

    queue, begin = open_queue(ledger, queues, stage=stage, delivery=lambda *_: tries.append(1)), threading.Thread.start
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
    assert busy.wait(20)
    monkeypatch.setattr(threading.Thread, "start", start)
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
    assert refused.wait(20)
    assert [queue.take_up() for _ in range(2 * LOOKS)] == [[]] * 2 * LOOKS
    free.set()
    until = time.monotonic() + 20
    while queue.deliveries():
        assert time.monotonic() < until, "it waits behind itself"
        time.sleep(0.01)
    assert tries == [1]


def test_a_row_of_looks_ends_where_nobody_knows_what_is_run() -> None:
    looked = Claims()
    for run in (frozenset[str](), frozenset[str](), None, frozenset[str](), frozenset[str]()):
        assert looked.look(OURS, {"a": "t1"}, run) == []
    assert looked.look(OURS, {"a": "t1"}, ()) == [("a", "t1")]


def test_what_began_anew_meanwhile_and_what_another_host_took_stay(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.queue.launch()
    ward.refuse(2, before_its_start)
    with ward.ledger.transaction() as connection:
        ward.queue.enqueue_work(connection, WORK)
    ward.nobody_runs_it()
    look = Claims.look

    def overtaken(self: Claims, *arguments: object) -> list[tuple[str, str]]:
        found = look(self, *arguments)  # type: ignore[arg-type]
        with ward.ledger.engine.begin() as connection:
            connection.execute(text("update workflow_status set owner_xid = 'elsewhere'"))
        return found

    for _ in range(LOOKS - 1):
        assert ward.queue.take_up() == []
    with monkeypatch.context() as patched:
        patched.setattr(Claims, "look", overtaken)
        assert ward.queue.take_up() == []
    for _ in range(LOOKS):
        assert ward.queue.take_up() == []
    assert ward.status() == ["PENDING"]


def test_a_library_that_does_not_say_what_it_runs_loses_nothing(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    ward.queue.launch()
    monkeypatch.setattr(pipeline, "run_by", lambda _: None)
    assert ward.queue.take_up() == []


def test_no_look_at_the_queues_reads_all_that_ever_was_in_them(ward: Ward) -> None:
    ward.queue.launch()
    asked = list[tuple[str, object]]()

    def heard(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            asked.append((statement, parameters))

    event.listen(ward.ledger.engine, "before_cursor_execute", heard)
    ward.queue.look(), ward.queue.take_up()
    event.remove(ward.ledger.engine, "before_cursor_execute", heard)
    plans = list[str]()
    with ward.ledger.engine.connect() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
            plans += [" / ".join(row[-1] for row in plan)]
    assert len(plans) == 3
    assert ["idx_workflow_status_delayed" in plans[0], "in_flight" in plans[1], "pending" in plans[2]] == [True] * 3, (
        plans
    )


def test_each_is_told_as_what_the_overseer_revives(events: Events) -> None:
    pipeline_of = type("Queue", (), {"take_up": lambda _: [("w1", None), ("w2", "pacs")]})
    chores._take_up(pipeline_of(), events)
    assert events.facts("work.revived") == [{"work": "w1"}]
    assert events.facts("delivery.revived") == [{"work": "w2", "destination": "pacs"}]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("w", ("w", None)),
        ("w-again-12", ("w", None)),
        ("w::fetch2", ("w", None)),
        ("w:pacs:3", ("w", "pacs")),
    ],
)
def test_a_workflow_says_whose_it_is(name: str, found: tuple[str, str | None]) -> None:
    assert pipeline._work_and_destination(name) == found
