"""A ledger whose disk is full, under DBOS really: workflows wait until they can write down what they did, and nobody else does."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from dbos import _sys_db
from sqlalchemy import event

from dicomnode.errors import StorageError
from dicomnode.pulses import NEAR_SECONDS, Judge
from dicomnode.storage.ledger import Ledger
from dicomnode.study import WORK_STAGES, WorkKey
from dicomnode.workflow import outlasting
from dicomnode.workflow.pipeline import DurableQueue
from dicomnode.workflow.ports import Revival
from tests.unit.workflow.samples import WORK
from tests.unit.workflow.test_pipeline import open_queue, queues

__all__ = ["queues"]
FULL = "database or disk is full"


class Disk:
    """Under a ledger: while it is full, nothing can be written."""

    def __init__(self, ledger: Ledger) -> None:
        self.full = threading.Event()
        self.refused = threading.Semaphore(0)  # workflows, so often
        event.listen(ledger.engine, "do_execute", self._execute)

    def _execute(self, _cursor: object, statement: str, *_: object) -> None:
        if self.full.is_set() and statement.split(maxsplit=1)[0].upper() not in ("SELECT", "PRAGMA", "BEGIN"):
            if threading.current_thread().name.startswith("dbos-executor-"):
                self.refused.release()
            raise said(FULL, sqlite3.SQLITE_FULL)


def said(text: str, code: int) -> sqlite3.OperationalError:
    """What SQLite says."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@pytest.fixture
def disk(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Disk:
    nap = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: nap(min(seconds, 0.02)))
    return Disk(ledger)


class Course:
    """Stages of a work, in the first of which its disk fills up."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.ran: list[str] = []
        self.done = threading.Event()

    def stage(self, name: str, key: WorkKey) -> bool:
        self.ran.append(name)
        if name == WORK_STAGES[0]:
            self._disk.full.set()
        if name == WORK_STAGES[-1]:
            self.done.set()
        return True


def test_what_a_work_did_is_written_down_when_there_is_space_again(
    ledger: Ledger, queues: list[DurableQueue], disk: Disk
) -> None:
    course = Course(disk)
    queue = open_queue(ledger, queues, stage=course.stage)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
    for _ in range(5):
        assert disk.refused.acquire(timeout=10), "it gave up: until the next start nobody goes on with the work"
    assert queue.revive_work(WORK) is Revival.UNDER_WAY
    disk.full.clear()
    assert course.done.wait(30)
    assert course.ran == list(WORK_STAGES)


def test_a_try_that_the_ledger_failed_leaves_its_destination_free(
    ledger: Ledger, queues: list[DurableQueue], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than the queue tries it again: what follows is another try, of whoever looks for what nobody takes further."""
    monkeypatch.setattr("dicomnode.workflow.pipeline._ATTEMPTS", 2)
    ran, done = list[int](), threading.Event()

    def deliver(key: WorkKey, destination: str, number: int) -> None:
        ran.append(number)
        if number == 2:
            done.set()
            return
        disk.full.set()
        raise StorageError("ledger-failed")

    queue = open_queue(ledger, queues, delivery=deliver)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
    for _ in range(5):
        assert disk.refused.acquire(timeout=10), "it gave up: until the next start nothing is tried"
    assert not queue.revive_delivery(WORK, "pacs"), "its end is not written down yet"
    disk.full.clear()
    until = time.monotonic() + 30
    while not queue.revive_delivery(WORK, "pacs"):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert done.wait(30)
    assert ran == [1, 1, 2]


def test_whoever_is_no_workflow_is_told(ledger: Ledger, queues: list[DurableQueue], disk: Disk) -> None:
    queue = open_queue(ledger, queues)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 3600.0)
    acts: tuple[Callable[[], object], ...] = (
        lambda: queue.revive_work(WORK),
        lambda: queue.revive_delivery(WORK, "pacs"),
        lambda: queue.hasten(0.0),
        lambda: queue.forget(WORK.study_key),
    )
    disk.full.set()
    for act in acts:
        with pytest.raises(StorageError, match="ledger-failed"):
            act()


def test_a_start_on_a_disk_that_is_full_says_so(ledger: Ledger, queues: list[DurableQueue], disk: Disk) -> None:
    queue = open_queue(ledger, queues)
    queue.launch()
    queue.close(0)
    disk.full.set()
    with pytest.raises(StorageError, match="ledger-failed"):
        open_queue(ledger, queues).launch()
    disk.full.clear()


class Refusing:
    """Under a ledger: a page of one work's rows that cannot be written."""

    def __init__(self, ledger: Ledger, code: int) -> None:
        self.code = code
        self.refused = threading.Semaphore(0)
        event.listen(ledger.engine, "do_execute", self._execute)

    def _execute(self, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        if "INTO" in statement and "operation_outputs" in statement and f"'{WORK.workflow_id}'" in repr(parameters):
            self.refused.release()
            raise said("disk I/O error", self.code)


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR | 3 << 8, sqlite3.SQLITE_CANTOPEN])
def test_a_disk_that_fails_for_one_work_holds_up_the_others_for_minutes_at_most_and_is_told(
    ledger: Ledger, queues: list[DurableQueue], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    nap, now = time.sleep, [1000.0]
    monkeypatch.setattr(time, "sleep", lambda seconds: nap(min(seconds, 0.02)))
    monkeypatch.setattr(outlasting, "time", SimpleNamespace(monotonic=lambda: now[0]))
    page, other, done = Refusing(ledger, code), replace(WORK, model="another"), threading.Event()

    def stage(name: str, key: WorkKey) -> bool:
        if key == other and name == WORK_STAGES[-1]:
            done.set()
        return True

    queue = open_queue(ledger, queues, stage=stage)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
        queue.enqueue_work(connection, other)
    waits = lambda: [pulse for pulse in queue.pulses if pulse.name == outlasting.LEDGER]  # noqa: E731
    for _ in range(5):
        assert page.refused.acquire(timeout=20)
    judge, (pulse,) = Judge(0.0), waits()
    told = [judge.look(queue.pulses, seconds).stalled for seconds in range(0, int(NEAR_SECONDS) + 20, 5)]
    assert [(pulse, NEAR_SECONDS)] in [[one for one in several if one[0].name == outlasting.LEDGER] for several in told]
    assert not done.is_set()
    now[0] += NEAR_SECONDS
    assert done.wait(20), "one bad page stops the whole queue"
    assert waits() == []
    assert queue.revive_work(WORK) is Revival.QUEUED


def test_a_disk_that_is_full_is_waited_for_without_end_and_told(
    ledger: Ledger, queues: list[DurableQueue], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(outlasting, "time", SimpleNamespace(monotonic=lambda: now[0]))
    course = Course(disk)
    queue = open_queue(ledger, queues, stage=course.stage)
    queue.launch()
    with ledger.transaction() as connection:
        queue.enqueue_work(connection, WORK)
    for _ in range(4):
        now[0] += 10 * NEAR_SECONDS
        assert disk.refused.acquire(timeout=20)
    assert [pulse.is_at_work for pulse in queue.pulses if pulse.name == outlasting.LEDGER] == [True]
    disk.full.clear()
    assert course.done.wait(20)
    until = time.monotonic() + 20
    while outlasting.LEDGER in [pulse.name for pulse in queue.pulses]:
        assert time.monotonic() < until


def test_a_disk_that_was_full_has_minutes_of_its_own_where_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(outlasting, "time", SimpleNamespace(monotonic=lambda: now[0]))
    waits, frame = outlasting.Outlasting(), sys._getframe()
    assert waits._waits_on(frame, has_space=True)
    now[0] += NEAR_SECONDS - 1
    assert waits._waits_on(frame, has_space=True)
    assert waits._waits_on(frame, has_space=False)
    now[0] += NEAR_SECONDS
    assert waits._waits_on(frame, has_space=True), "since it is no more full"
    now[0] += NEAR_SECONDS
    assert not waits._waits_on(frame, has_space=True)
    assert waits._waits_on(sys._getframe(1), has_space=True), "another wait"


@pytest.mark.parametrize(
    ("text", "code", "is_waited_for"),
    [
        (FULL, sqlite3.SQLITE_FULL, True),
        ("disk I/O error", sqlite3.SQLITE_IOERR | 19 << 8, True),
        ("database is locked", sqlite3.SQLITE_BUSY, True),  # by everybody: that is the library's own
        ("no such table", sqlite3.SQLITE_ERROR, False),
    ],
)
def test_what_passes_is_waited_for(text: str, code: int, is_waited_for: bool) -> None:
    found = list[bool]()
    outlasting.Outlasting().begin()

    class Told(Exception):
        orig = said(text, code)

    judge = _sys_db.retriable_sqlite_exception
    thread = threading.Thread(target=lambda: found.append(judge(Told())), name="dbos-executor-_0")
    thread.start()
    thread.join(30)
    assert found == [is_waited_for]
    assert judge(Told()) == (code == sqlite3.SQLITE_BUSY)
    assert not judge(ValueError(FULL))


def test_a_library_that_judges_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlasting, "_OF_THE_LIBRARY", None)
    monkeypatch.delattr(_sys_db, "retriable_sqlite_exception")
    outlasting.Outlasting().begin()
    assert not hasattr(_sys_db, "retriable_sqlite_exception")
