from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dicomnode.config import DeliverySection
from dicomnode.errors import KeyStoreError, PeerError, StorageError
from dicomnode.sections import RetentionSection
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import OrderRow, ResultRow
from dicomnode.storage.spool import Spool
from dicomnode.study import (
    OPEN,
    RETRACTION,
    SOURCE,
    WISHED,
    WITHDRAWAL,
    DeliveryState,
    Purpose,
    ResultRole,
    WorkKey,
    WorkState,
    World,
)
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.generations import fresh
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.retention import Retention, outlives
from dicomnode.workflow.timekeeping import GRACE_SECONDS, Timekeeper
from tests.unit.workflow.samples import KEY, MODEL, Events, Time, encoded, metadata, study_key_of, tiny_series
from tests.unit.workflow.test_delivery import Bench as Outage

DAY = 86400.0


class Bench:
    def __init__(
        self, *, ledger: Ledger, spool: Spool, objects: Objects, keys: DataKeys, time: Time, events: Events
    ) -> None:
        self.ledger, self.spool, self.objects, self.keys, self.time = ledger, spool, objects, keys, time
        self.activity = ActivityTable()
        self.forgotten: list[str] = []
        self.retention = Retention(
            ledger,
            spool,
            objects,
            keys,
            activity=self.activity,
            forget=self.forgotten.append,
            settings=RetentionSection(days=30),
            sure=time.now,
            emit=events,
        )

    def study(self, seed: str, *states: WorkState) -> str:
        """A study that came now, with a work that went through the states."""
        image = tiny_series(seed=seed)[0]
        data = encoded(image)
        key, about = study_key_of(image), metadata(image, data)
        address = self.spool.append(key, about, data)
        self.ledger.record_instances([row_of(KEY, key, address, about)])
        self.objects.put(key, World.PSEUDONYM, "copy", Purpose.COPY, b"copy")
        self.ledger.open_revision(key, "digest", self.time.now())
        work = WorkKey(study_key=key, revision=1, model=MODEL)
        self.ledger.create_work(work, "digest", self.time.now())
        for state in states:
            self.ledger.set_work_state(work, state, at=self.time.now())
        return key


@pytest.fixture
def bench(*, ledger: Ledger, spool: Spool, objects: Objects, keys: DataKeys, time: Time, events: Events) -> Bench:
    return Bench(ledger=ledger, spool=spool, objects=objects, keys=keys, time=time, events=events)


def test_a_finished_study_is_shredded_when_its_time_has_come(bench: Bench, events: Events, tmp_path: Path) -> None:
    key = bench.study("one", WorkState.REFUSED)
    bench.time.forward(30 * DAY)
    assert bench.retention.sweep() == 0
    bench.time.forward(1)
    assert bench.retention.sweep() == 1
    assert bench.ledger.study(key) is None
    assert not bench.objects.exists(key, World.PSEUDONYM, "copy", Purpose.COPY)
    with pytest.raises(KeyStoreError, match="key-missing"):
        bench.keys.get(key, World.IDENTITY)
    assert [path for path in tmp_path.rglob("*") if key in path.name] == []
    assert events.facts("study.shredded") == [{"study": key}]
    assert bench.forgotten == [key]
    assert bench.retention.sweep() == 0


@pytest.mark.parametrize("rejected", [True, False])
def test_which_results_we_had_rejected_outlives_their_study(bench: Bench, *, rejected: bool) -> None:
    key = bench.study("one")
    work = WorkKey(study_key=key, revision=1, model=MODEL)
    result = ResultRow(result_id="r", role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=1)
    bench.ledger.record_results(work, [result], ["pacs"], bench.time.now())
    bench.ledger.record_delivery("r", "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=bench.time.now())
    facts = {SOURCE: "5e" * 32, **({RETRACTION: "sent"} if rejected else {})}
    bench.ledger.set_work_state(work, WorkState.REFUSED, at=bench.time.now(), facts=facts)
    bench.time.forward(31 * DAY)
    assert bench.retention.sweep() == 1
    assert (fresh(bench.ledger, work, "5e" * 32) == "5e" * 32) is not rejected


def test_a_reader_of_the_ledger_puts_shredding_off(
    bench: Bench, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is said to be shredded whose wrapped keys may stand on the disk; and one wait is enough for a sweep."""
    studies = {bench.study(seed, WorkState.REFUSED) for seed in ("one", "two")}
    bench.time.forward(31 * DAY)
    real, tried = bench.ledger.shred_keys, []

    def shred(study_key: str) -> None:
        tried.append(study_key)
        real(study_key)
        if len(tried) == 1:
            raise StorageError("ledger-in-use")

    monkeypatch.setattr(bench.ledger, "shred_keys", shred)
    assert bench.retention.sweep() == 0
    assert events.facts("retention.failed") == [{"study": tried[0], "reason": "ledger-in-use"}]
    assert len(tried) == 1
    assert events.facts("study.shredded") == []
    with pytest.raises(KeyStoreError):
        bench.keys.get(tried[0], World.IDENTITY)
    assert bench.retention.sweep() == 2
    assert {str(facts["study"]) for facts in events.facts("study.shredded")} == studies


@pytest.mark.parametrize(
    "states", [(), (WorkState.PREPARING,), (WorkState.PREPARING, WorkState.INFERRING)], ids=["queued", "one", "two"]
)
def test_an_unfinished_study_stays_however_old(bench: Bench, states: tuple[WorkState, ...]) -> None:
    key = bench.study("one", *states)
    bench.time.forward(300 * DAY)
    assert bench.retention.sweep() == 0
    assert bench.ledger.study(key) is not None


@pytest.mark.parametrize(
    ("open_wish", "carried_out"),
    [({RETRACTION: WISHED}, {RETRACTION: "sent"}), ({WITHDRAWAL: OPEN}, {WITHDRAWAL: "done"})],
)
def test_what_is_to_be_retracted_stays_until_its_notes_are_queued(
    bench: Bench, open_wish: dict[str, str], carried_out: dict[str, str]
) -> None:
    """Without what is sealed of the results nobody could name them, and wrong ones would stand at the PACS."""
    key = bench.study("one", WorkState.REFUSED)
    work = WorkKey(study_key=key, revision=1, model=MODEL)
    bench.ledger.add_facts(work, open_wish)
    bench.time.forward(31 * DAY)
    assert bench.retention.sweep() == 0
    assert bench.objects.exists(key, World.PSEUDONYM, "copy", Purpose.COPY)
    bench.ledger.add_facts(work, carried_out)
    assert bench.retention.sweep() == 1


def test_a_wish_while_its_study_is_shredded_is_told(
    bench: Bench, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.study("one", WorkState.REFUSED)
    work = WorkKey(study_key=key, revision=1, model=MODEL)
    bench.time.forward(31 * DAY)
    real = bench.keys.shred

    def shred(study_key: str) -> None:
        bench.ledger.add_facts(work, {RETRACTION: WISHED})
        real(study_key)

    monkeypatch.setattr(bench.keys, "shred", shred)
    assert bench.retention.sweep() == 1
    assert events.facts("retraction.failed") == [{"work": work.workflow_id, "reason": "study-not-found"}]


def test_a_clock_that_jumps_ahead_shreds_nothing_until_that_has_stayed(
    bench: Bench, events: Events, tmp_path: Path
) -> None:
    ahead = 0.0
    keeper = Timekeeper(
        tmp_path / "clock.json",
        clock=lambda: bench.time.now() + timedelta(seconds=ahead),
        monotonic=bench.time.monotonic,
        emit=events,
    )
    bench.retention._sure = keeper.sure
    key = bench.study("one", WorkState.REFUSED)
    ahead = 40 * DAY
    assert bench.retention.sweep() == 0
    bench.time.forward(GRACE_SECONDS - 1)
    assert bench.retention.sweep() == 0
    assert bench.ledger.study(key) is not None
    bench.time.forward(1)
    assert bench.retention.sweep() == 1


def test_a_study_that_cannot_be_shredded_hinders_no_other_and_is_tried_again(
    bench: Bench, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = bench.study("bad", WorkState.FAILED), bench.study("good", WorkState.SUPERSEDED)
    purge = bench.spool.purge

    def fails(study_key: str) -> None:
        if study_key == bad:
            raise StorageError("storage-failed")
        purge(study_key)

    monkeypatch.setattr(bench.spool, "purge", fails)
    bench.time.forward(31 * DAY)
    assert bench.retention.sweep() == 1
    assert events.facts("retention.failed") == [{"study": bad, "reason": "storage-failed"}]
    assert bench.ledger.study(good) is None
    monkeypatch.undo()
    assert bench.retention.sweep() == 1
    assert bench.ledger.study(bad) is None


def test_a_study_of_which_something_is_under_way_stays(bench: Bench) -> None:
    key = bench.study("one", WorkState.REFUSED)
    bench.time.forward(31 * DAY)
    with bench.activity.arriving(key):
        assert bench.retention.sweep() == 0
    bench.activity.received(key, "association", 0.0)
    assert bench.retention.sweep() == 0
    bench.activity.ended("association", 1.0)
    bench.activity.forget(key, 1.0)
    assert bench.retention.sweep() == 1


def test_an_image_that_came_after_the_list_was_made_saves_its_study(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bench.study("one", WorkState.REFUSED)
    bench.time.forward(31 * DAY)
    expired = bench.ledger.expired

    def then_one_comes(before: datetime) -> tuple[str, ...]:
        found = expired(before)
        image = tiny_series(seed="one")[1]
        data = encoded(image)
        about = replace(metadata(image, data), received_at=bench.time.now())
        bench.ledger.record_instances([row_of(KEY, key, bench.spool.append(key, about, data), about)])
        return found

    monkeypatch.setattr(bench.ledger, "expired", then_one_comes)
    assert bench.retention.sweep() == 0
    assert len(bench.ledger.instances(key)) == 2


def test_an_image_that_comes_while_a_study_is_shredded_waits_for_keys_of_its_own(bench: Bench) -> None:
    key = bench.study("one", WorkState.REFUSED)
    entered = threading.Event()

    def arrive() -> None:
        with bench.activity.arriving(key):
            entered.set()

    with bench.activity.closed(key) as free:
        assert free
        thread = threading.Thread(target=arrive)
        thread.start()
        assert not entered.wait(0.05)
    assert entered.wait(10)
    thread.join()


def test_what_may_not_go_stays_and_hinders_no_other(bench: Bench) -> None:
    kept, other = bench.study("one", WorkState.REFUSED), bench.study("two", WorkState.REFUSED)
    bench.retention._may_go = lambda study_key: study_key != kept
    bench.time.forward(31 * DAY)
    assert bench.retention.sweep() == 1
    assert bench.ledger.study(kept) is not None
    assert bench.ledger.study(other) is None


def test_what_becomes_known_to_be_safe_goes_without_the_next_sweep_if_it_is_old_enough(bench: Bench) -> None:
    known: set[str] = set()
    bench.retention._may_go = known.__contains__
    bench.retention._answered = lambda: sorted(known)
    old = bench.study("one", WorkState.REFUSED)
    bench.time.forward(31 * DAY)
    young = bench.study("two", WorkState.REFUSED)
    (row,) = bench.ledger.instances(young)
    late = replace(row, instance_key="9" * 32, address=replace(row.address, number=9), received_at=bench.time.now())
    bench.ledger.record_instances([late])
    assert (bench.retention.sweep(), bench.retention.sweep_answered()) == (0, 0)
    known.update((old, young))
    assert bench.retention.sweep_answered() == 1
    assert bench.ledger.study(old) is None
    assert bench.ledger.study(young) is not None


@pytest.mark.parametrize("verb", ["export", "retry", "reprocess", "release", "cancel"])
def test_what_was_ordered_of_a_study_keeps_it_until_it_is_carried_out(bench: Bench, verb: str) -> None:
    key, other = bench.study("one", WorkState.REFUSED), bench.study("two", WorkState.REFUSED)
    bench.time.forward(29.9 * DAY)
    order = OrderRow(verb=verb, study_key=key, destination="trial", at=bench.time.now())
    bench.ledger.give_order(order)
    bench.time.forward(5 * DAY)
    assert bench.retention.sweep() == 1
    assert bench.ledger.study(other) is None
    assert bench.ledger.instances(key)
    assert bench.ledger.orders() == (order,)
    bench.ledger.end_order(order)
    assert bench.retention.sweep() == 1
    assert bench.ledger.study(key) is None


@pytest.mark.parametrize("point", ["keys", "objects", "ledger"])
def test_what_is_ordered_while_a_study_is_shredded_is_there_for_whoever_tells(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    key = bench.study("one", WorkState.REFUSED)
    bench.time.forward(31 * DAY)
    order = OrderRow(verb="export", study_key=key, destination="trial", at=bench.time.now())
    place, name = {
        "keys": (bench.keys, "shred"),
        "objects": (bench.objects, "purge"),
        "ledger": (bench.ledger, "empty_journal"),
    }[point]
    real = getattr(place, name)

    def meanwhile(*arguments: str) -> None:
        bench.ledger.give_order(order)
        real(*arguments)

    monkeypatch.setattr(place, name, meanwhile)
    assert bench.retention.sweep() == 1
    assert bench.ledger.study(key) is None
    assert bench.ledger.orders() == (order,)


HOLDING = (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING, WorkState.READY, WorkState.HELD)


def result_of(bench: Bench, key: str) -> WorkKey:
    """Work of a study, with a result that waits for a destination."""
    work = WorkKey(study_key=key, revision=1, model=MODEL)
    result = ResultRow(result_id="2.25.7", role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=1)
    bench.ledger.record_results(work, [result], ["pacs"], bench.time.now())
    return work


@pytest.mark.parametrize("states", [HOLDING, HOLDING[:-1]], ids=["held", "ready"])
def test_what_nobody_lets_go_is_given_up_in_time_and_its_study_shredded_a_day_later(
    bench: Bench, events: Events, states: tuple[WorkState, ...]
) -> None:
    key = bench.study("one", *states)
    work = result_of(bench, key)
    bench.time.forward(30 * DAY)
    assert bench.retention.sweep() == 0
    found = bench.ledger.work(work)
    assert found is not None
    assert found.state is states[-1], "there is a moment left"
    bench.time.forward(1)
    assert bench.retention.sweep() == 0, "for a day somebody may still retry it"
    found = bench.ledger.work(work)
    assert found is not None
    assert (found.state, found.reason) == (WorkState.FAILED, "held-too-long")
    ((_, letter),) = bench.ledger.dead_letters(10)
    assert (letter.state, letter.reason) == (DeliveryState.REFUSED, "held-too-long")
    told = {"work": work.workflow_id, "model": MODEL, "reason": "held-too-long"}
    assert events.facts("work.failed") == [told]
    bench.time.forward(DAY - 1)
    assert bench.retention.sweep() == 0
    bench.time.forward(1)
    assert bench.retention.sweep() == 1
    assert bench.ledger.study(key) is None
    assert events.facts("work.failed") == [told], "once"


def test_a_node_that_stood_still_meanwhile_gives_the_same_day(bench: Bench) -> None:
    key = bench.study("one", *HOLDING)
    bench.time.forward(400 * DAY)
    assert bench.retention.sweep() == 0
    assert bench.ledger.study(key) is not None
    bench.time.forward(DAY)
    assert bench.retention.sweep() == 1


def test_a_work_that_is_retried_within_that_day_is_not_shredded_on_its_way(bench: Bench) -> None:
    key = bench.study("one", *HOLDING)
    work = result_of(bench, key)
    bench.time.forward(30 * DAY + 1)
    bench.retention.sweep()
    bench.ledger.set_work_state(work, WorkState.DELIVERING, at=bench.time.now())
    bench.time.forward(5 * DAY)
    assert bench.retention.sweep() == 0
    bench.ledger.set_work_state(work, WorkState.DONE, at=bench.time.now())
    assert bench.retention.sweep() == 1
    assert bench.ledger.study(key) is None


@pytest.mark.parametrize("reason", ["patient-changed", "result-late"])
def test_what_is_held_late_waits_a_week_for_people_and_can_be_released(bench: Bench, reason: str) -> None:
    """The destination was away for longer than its study is kept."""
    key = bench.study("one", *HOLDING[:-1], WorkState.DELIVERING)
    work = result_of(bench, key)

    def hold() -> None:
        bench.ledger.set_work_state(work, WorkState.HELD, at=bench.time.now(), reason=reason)

    def state() -> WorkState:
        found = bench.ledger.work(work)
        assert found is not None
        return found.state

    bench.time.forward(40 * DAY)
    hold()
    bench.time.forward(7 * DAY)
    assert bench.retention.sweep() == 0
    assert state() is WorkState.HELD
    bench.time.forward(1)
    bench.retention.sweep()
    assert state() is WorkState.FAILED
    bench.ledger.set_work_state(work, WorkState.DELIVERING, at=bench.time.now())  # as `dicomnode retry` does
    hold()
    bench.time.forward(2 * DAY)
    assert bench.retention.sweep() == 0
    assert state() is WorkState.HELD, "the destination was asked again; now somebody can release it"


def test_a_site_that_keeps_data_for_a_day_keeps_what_is_held_for_one(bench: Bench) -> None:
    bench.retention._settings = RetentionSection(days=1)
    key = bench.study("one", *HOLDING[:-1], WorkState.DELIVERING)
    bench.time.forward(3 * DAY)
    bench.ledger.set_work_state(result_of(bench, key), WorkState.HELD, at=bench.time.now())
    bench.time.forward(DAY)
    bench.retention.sweep()
    assert bench.ledger.works((WorkState.HELD,))
    bench.time.forward(1)
    bench.retention.sweep()
    assert not bench.ledger.works((WorkState.HELD,))


def test_what_was_given_up_can_be_retried_for_no_longer_than_data_is_kept(bench: Bench) -> None:
    bench.retention._settings = RetentionSection(days=0.25)
    key = bench.study("one", *HOLDING)
    bench.time.forward(0.25 * DAY + 1)
    assert bench.retention.sweep() == 0
    bench.time.forward(0.25 * DAY)
    assert bench.retention.sweep() == 1
    assert bench.ledger.study(key) is None


def test_what_was_given_up_after_an_outage_can_still_be_retried(bench: Bench, events: Events) -> None:
    """`retention.days` is `delivery.give_up_seconds`, 7 days: the dead letters would go with the study within the hour."""
    bench.retention._settings = RetentionSection(days=7)
    outage = Outage(bench.ledger, bench.objects, bench.time, events)
    outage.settings = DeliverySection()
    outage.prepare("pacs")
    outage.peers["pacs"].answers = [PeerError("peer-unreachable")] * 10_000
    for _ in range(8 * 24):
        outage.later(3600)
        if outage.work.state is WorkState.FAILED:
            break
        assert bench.retention.sweep() == 0
    assert outage.ended() == (WorkState.FAILED, "timeout")
    bench.time.forward(7 * DAY - 1)
    assert bench.retention.sweep() == 0, "people have days to look at it"
    assert len(bench.ledger.dead_letters(10)) == 2
    bench.time.forward(1)
    assert bench.retention.sweep() == 1, "and not for ever"


@pytest.mark.parametrize("reason", ["timeout", "not-committed", "internal"])
@pytest.mark.parametrize(("days", "kept"), [(30, 7), (2, 2)], ids=["a week", "no longer than data is kept"])
def test_what_failed_late_stays_for_some_days(bench: Bench, reason: str, days: float, kept: float) -> None:
    """A retry, an outage, a commitment that never came: it ended when its study had been past its days for long."""
    bench.retention._settings = RetentionSection(days=days)
    key = bench.study("one", *HOLDING[:-1], WorkState.DELIVERING)
    bench.time.forward(50 * DAY)
    bench.ledger.set_work_state(result_of(bench, key), WorkState.FAILED, at=bench.time.now(), reason=reason)
    bench.time.forward(kept * DAY - 1)
    assert bench.retention.sweep() == 0
    bench.time.forward(1)
    assert bench.retention.sweep() == 1


def test_what_arrived_late_needs_no_further_days(bench: Bench) -> None:
    key = bench.study("one", *HOLDING[:-1], WorkState.DELIVERING)
    bench.time.forward(50 * DAY)
    bench.ledger.set_work_state(result_of(bench, key), WorkState.DONE, at=bench.time.now())
    assert bench.retention.sweep() == 1


@pytest.mark.parametrize(
    ("days", "give_up_seconds", "told"),
    [
        (30, 7 * DAY, None),
        (7, 7 * DAY, "retention.days: 7, but results are tried for 7 days"),
        (2, 7 * DAY, "and for 2 more where they are given up"),
    ],
)
def test_a_study_that_is_to_go_before_its_results_are_given_up_is_told(
    days: float, give_up_seconds: float, told: str | None
) -> None:
    said = outlives(days, give_up_seconds)
    assert said is told or (said is not None and told is not None and told in said)


def test_a_crash_while_it_is_given_up_leaves_it_held(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    key = bench.study("one", *HOLDING)
    work = result_of(bench, key)
    bench.time.forward(31 * DAY)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "set_work_state", killed)
        with pytest.raises(KeyboardInterrupt):
            bench.retention.sweep()
    assert bench.ledger.dead_letters(10) == ()
    bench.retention.sweep()
    assert len(bench.ledger.dead_letters(10)) == 1
    found = bench.ledger.work(work)
    assert found is not None
    assert found.state is WorkState.FAILED


def test_what_was_released_meanwhile_is_not_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    key = bench.study("one", *HOLDING)
    work = result_of(bench, key)
    bench.time.forward(31 * DAY)
    works = bench.ledger.works

    def then_released(*arguments: object) -> object:
        found = works((WorkState.HELD,))
        bench.ledger.set_work_state(work, WorkState.DELIVERING, at=bench.time.now())
        return found

    monkeypatch.setattr(bench.ledger, "works", then_released)
    assert bench.retention.sweep() == 0
    found = bench.ledger.work(work)
    assert found is not None
    assert found.state is WorkState.DELIVERING
