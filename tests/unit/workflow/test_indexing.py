from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from dicomnode.errors import StorageError
from dicomnode.study import InstanceRow, InstanceState
from dicomnode.workflow import indexing, judging
from dicomnode.workflow.indexing import Indexer, row_of
from tests.contracts.gates import wait_until
from tests.unit.workflow.samples import KEY, OTHER_STUDY, STUDY, Events, encoded, metadata, row, tiny_series


class Index:
    """An index in memory that fails as often as it is told to."""

    def __init__(self) -> None:
        self.batches: list[tuple[InstanceRow, ...]] = []
        self.failures = 0
        self.error: Exception = StorageError("ledger-failed")
        self.failed = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.quarantined: set[str] = set()

    def record_instances(self, rows: Sequence[InstanceRow]) -> tuple[InstanceRow, ...]:
        self.entered.set()
        assert self.gate.wait(10)
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise self.error
        self.batches.append(tuple(rows))
        return tuple(
            replace(one, state=InstanceState.QUARANTINED) if one.instance_key in self.quarantined else one
            for one in rows
        )

    @property
    def rows(self) -> list[InstanceRow]:
        return [one for batch in self.batches for one in batch]


@pytest.fixture
def index() -> Index:
    return Index()


def indexer_of(index: Index, events: Events, **options: int) -> tuple[Indexer, list[InstanceRow]]:
    conflicts: list[InstanceRow] = []
    return Indexer(index, conflict=conflicts.append, emit=events, **options), conflicts


def test_a_row_holds_blind_keys_and_no_uid() -> None:
    image = tiny_series()[0]
    data = encoded(image)
    made = row_of(KEY, STUDY, row(3).address, metadata(image, data))
    assert made.address == row(3).address
    assert made.length == len(data)
    assert made == row_of(KEY, STUDY, row(3).address, metadata(image, data))
    for uid in (image.SOPInstanceUID, image.SeriesInstanceUID, image.StudyInstanceUID):
        assert str(uid) not in repr(made)


def test_rows_go_in_their_order_and_conflicts_are_told(index: Index, events: Events) -> None:
    indexer, conflicts = indexer_of(index, events)
    index.quarantined = {row(2).instance_key}
    for number in range(5):
        indexer.add(row(number))
    indexer.begin()
    assert indexer.flush(STUDY, 10)
    indexer.end()
    assert index.rows == [row(number) for number in range(5)]
    assert [one.instance_key for one in conflicts] == [row(2).instance_key]


def test_what_waits_is_written_in_batches(index: Index, events: Events) -> None:
    indexer, _ = indexer_of(index, events)
    for number in range(1100):
        indexer.add(row(number))
    indexer.begin()
    assert indexer.flush(STUDY, 10)
    assert [len(batch) for batch in index.batches] == [500, 500, 100]
    indexer.end()


def test_a_flush_that_takes_too_long_says_so(index: Index, events: Events) -> None:
    indexer, _ = indexer_of(index, events)
    assert indexer.flush(STUDY, 0)
    indexer.add(row(0))
    assert not indexer.flush(STUDY, 0)
    assert indexer.flush(OTHER_STUDY, 0)  # nobody waits for another study's rows
    indexer.begin()
    assert indexer.flush(STUDY, 10)
    indexer.end()


def test_a_full_queue_makes_the_sender_wait(index: Index, events: Events) -> None:
    indexer, _ = indexer_of(index, events, capacity=1)
    index.gate.clear()
    indexer.begin()
    indexer.add(row(0))
    assert index.entered.wait(10)
    indexer.add(row(1))
    handed_over = threading.Event()

    def third() -> None:
        indexer.add(row(2))
        handed_over.set()

    sender = threading.Thread(target=third)
    sender.start()
    assert not handed_over.is_set(), "the thread that writes is held, and one row waits"
    index.gate.set()
    assert handed_over.wait(10)
    sender.join()
    assert indexer.flush(STUDY, 10)
    indexer.end()
    assert index.rows == [row(0), row(1), row(2)]


class Ended(threading.Event):
    """An event whose waits are counted and take no time."""

    def __init__(self, waits: list[float]) -> None:
        super().__init__()
        self.waits = waits

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


def test_a_full_queue_lets_in_who_comes_at_the_end(index: Index, events: Events) -> None:
    indexer, _ = indexer_of(index, events, capacity=1)
    index.failures = 10**6
    indexer.begin()
    indexer.add(row(0))
    assert index.failed.wait(10)
    indexer.add(row(1))
    sender = threading.Thread(target=indexer.add, args=(row(2),))
    sender.start()
    sender.join(0.2)
    assert sender.is_alive(), "a row waits, and the ledger refuses"
    indexer.yield_way()
    sender.join(10)
    assert not sender.is_alive()
    indexer.add(row(3))
    indexer.end()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StorageError("ledger-failed"), ("index.failed", "ledger-failed")),
        (ValueError("Mueller^Juergen"), ("index.fault", "internal")),
    ],
)
def test_a_ledger_that_recovers_gets_every_row(
    *, index: Index, events: Events, monkeypatch: pytest.MonkeyPatch, error: Exception, told: tuple[str, str]
) -> None:
    index.error = error
    indexer, _ = indexer_of(index, events)
    waits: list[float] = []
    monkeypatch.setattr(indexer, "_ended", Ended(waits))
    index.failures = 2
    indexer.add(row(0))
    indexer.begin()
    assert indexer.flush(STUDY, 10)
    assert index.rows == [row(0)]
    assert waits == [1.0, 1.0]
    assert [(name, facts["reason"]) for name, _, facts in events.seen] == [told] * 2
    assert "Mueller" not in repr(events.seen)
    indexer.end()


def test_an_end_does_not_wait_for_a_ledger_that_stays_broken(index: Index, events: Events) -> None:
    indexer, _ = indexer_of(index, events)
    index.failures = 1_000_000
    indexer.add(row(0))
    indexer.begin()
    assert index.failed.wait(10)
    indexer.end()
    assert index.rows == []
    assert indexer.flush(STUDY, 0), "the spool still holds them"


def test_an_end_writes_what_waits(index: Index, events: Events) -> None:
    indexer, _ = indexer_of(index, events)
    indexer.add(row(0))
    indexer.begin()
    indexer.end()
    assert index.rows == [row(0)]


def test_one_that_never_began_ends_too(index: Index, events: Events) -> None:
    indexer_of(index, events)[0].end()
    assert index.rows == []


def test_a_conflict_is_decided_again_when_the_ledger_can_be_used_again(index: Index, events: Events) -> None:
    told: list[InstanceRow] = []

    def decide(one: InstanceRow) -> None:
        told.append(one)
        if len(told) < 2:
            raise StorageError("ledger-failed")

    index.quarantined = {row(1).instance_key}
    indexer = Indexer(index, conflict=decide, emit=events)
    indexer.begin()
    indexer.add(row(1))
    assert indexer.flush(STUDY, 30)
    indexer.end()
    assert len(told) == 2
    assert events.facts("index.failed") == [{"study": STUDY, "reason": "ledger-failed", "rows": 1}]


def test_a_row_that_a_start_hands_over_is_waited_for_until_it_is_decided(index: Index, events: Events) -> None:
    free, told = threading.Event(), list[InstanceRow]()

    def decide(one: InstanceRow) -> None:
        if not free.is_set():
            raise StorageError("storage-failed")
        told.append(one)

    indexer = Indexer(index, conflict=decide, emit=events)
    indexer.judge([row(1), row(2)])
    assert not indexer.flush(STUDY, 0)
    indexer.begin()
    assert not indexer.flush(STUDY, 0)
    assert indexer.flush(OTHER_STUDY, 0)
    free.set()
    assert indexer.flush(STUDY, 30)
    indexer.end()
    assert told == [row(1), row(2)]
    assert index.rows == []


def test_an_end_leaves_a_conflict_to_the_next_start_while_the_ledger_is_broken(index: Index, events: Events) -> None:
    failed = threading.Event()

    def decide(_: InstanceRow) -> None:
        failed.set()
        raise StorageError("ledger-failed")

    index.quarantined = {row(1).instance_key}
    indexer = Indexer(index, conflict=decide, emit=events)
    indexer.begin()
    indexer.add(row(1))
    assert failed.wait(30)
    indexer.end()


@pytest.mark.parametrize("code", ["storage-failed", "ledger-failed"])
def test_one_record_that_cannot_be_read_holds_up_its_own_study_alone(
    index: Index, events: Events, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """In the end it is decided without, where it is the record; what the ledger refuses passes for all records or for none."""
    monkeypatch.setattr(judging, "_FIRST_SECONDS", 0.002)
    monkeypatch.setattr(judging, "_LONGEST_SECONDS", 0.01)
    order: list[tuple[str, int]] = []
    lost: list[InstanceRow] = []
    enough = threading.Event()

    def decide(one: InstanceRow) -> None:
        order.append((one.study_key, one.address.number))
        if len(order) > 3 * judging._TRIES:
            enough.set()
        if (one.study_key, one.address.number) == (STUDY, 1) and not (code == "ledger-failed" and enough.is_set()):
            raise StorageError(code)

    rows = [row(1), row(2), row(3, study_key=OTHER_STUDY)]
    index.quarantined = {one.instance_key for one in rows}
    indexer = Indexer(index, conflict=decide, unreadable=lost.append, emit=events)
    indexer.begin()
    for one in rows:
        indexer.add(one)
    assert indexer.flush(OTHER_STUDY, 30)
    assert indexer.flush(STUDY, 30)
    indexer.end()
    assert [one.address for one in lost] == [rows[0].address] * (code == "storage-failed")
    tries = [number for study, number in order if study == STUDY]
    assert tries == [1] * (len(tries) - 1) + [2], "the second of a study is not decided before its first"
    assert order.index((OTHER_STUDY, 3)) < len(order) - 2


def test_studies_that_stand_still_cost_the_others_next_to_nothing(
    index: Index, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look goes through all studies: what it waits for each that stands still, all others wait with it."""
    indexer, _ = indexer_of(index, events)  # its threads do not run
    waited: list[float] = []
    flush = indexer.flush
    monkeypatch.setattr(indexer, "flush", lambda key, timeout: waited.append(timeout) or flush(key, 0))
    stuck = [f"{number:064x}" for number in range(50)]
    for key in stuck:
        indexer.add(row(0, study_key=key))
    assert not any(indexer.catch_up(key) for key in stuck)
    assert sum(waited) <= 2.0 + len(stuck) * indexing._GLANCE_SECONDS
    waited.clear()
    assert not any(indexer.catch_up(key) for key in stuck)
    assert sum(waited) == 0
    indexer.add(row(1, study_key=OTHER_STUDY))
    indexer._write([indexer._waiting.popleft()])  # the index goes on: the next one is waited for as ever
    assert not indexer.catch_up(OTHER_STUDY)
    assert waited[-1] == 2.0
    indexer._write([row(1, study_key=OTHER_STUDY)])
    assert indexer.catch_up(OTHER_STUDY)
    indexer.add(row(2, study_key=OTHER_STUDY))
    assert not indexer.catch_up(OTHER_STUDY)
    assert waited[-1] == 2.0, "what stood still once is waited for again once it was in the index"


def test_a_study_that_is_held_up_is_not_waited_for(index: Index, events: Events) -> None:
    def decide(_: InstanceRow) -> None:
        raise StorageError("ledger-failed")

    index.quarantined = {row(1).instance_key}
    indexer = Indexer(index, conflict=decide, emit=events)
    indexer.begin()
    indexer.add(row(1))
    wait_until(lambda: indexer._conflicts.holds_up(STUDY))
    began = time.monotonic()
    assert not indexer.catch_up(STUDY, 20)
    assert time.monotonic() - began < 10
    indexer.add(row(2, study_key=OTHER_STUDY))
    assert indexer.catch_up(OTHER_STUDY), "and the next one gets what it needs"
    indexer.end()
