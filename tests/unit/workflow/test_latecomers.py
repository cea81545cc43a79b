"""What no model looks at, and comes early, late, again or to a study that is stopped: what rules order of it, and how often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dicomnode.config import DeliverySection
from dicomnode.errors import StorageError
from dicomnode.routing_rules import FloodGuardSection
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import OrderRow
from dicomnode.study import InstanceRow, InstanceState, Mark, Rejected, WorkState
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.routing import Judgement, Route, Share
from dicomnode.workflow.standing import Standing
from tests.unit.workflow.samples import MODEL, STUDY, WORK, Events, Time, row

CT, PET = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.128"
CT_SERIES, PET_SERIES = "5e" * 16, "9e" * 16


def pet(number: int) -> InstanceRow:
    return replace(row(number), sop_class_uid=PET, series_key=PET_SERIES)


@dataclass
class Site:
    """A node with a model for CT, CT that goes to it, and PET that goes to an export."""

    ledger: Ledger
    time: Time
    events: Events
    fails: bool = False
    looks_beside: bool = True
    routed: int = 0
    flush: Callable[[str], bool] = lambda _: True
    ordered: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queue = MemoryQueue(run_stage=lambda *_: True, run_delivery=lambda *_: None, monotonic=self.time.monotonic)
        self.judge = Standing(self.ledger, FloodGuardSection(), clock=self.time.now).judge
        self.admission = Admission(
            self.ledger,
            self.queue,
            routing=self,
            sop_classes=(CT,),
            destinations=(),
            overdue=lambda: (),
            flush=self._flush,
            close_segments=lambda _: None,
            arriving=lambda _: False,
            settings=DeliverySection(),
            clocks=self.time,
            emit=self.events,
        )

    def route(self, study_key: str, rows: Sequence[InstanceRow], beside: Sequence[InstanceRow]) -> Route:
        self.routed += 1
        series = {one.series_key for one in (*rows, *beside)}
        is_pet = PET_SERIES in series
        return Route(
            shares={MODEL: Share()},
            priority="stat" if is_pet else None,
            exports={"trial": ("pet",)} if is_pet else {},
            judgements=tuple(
                Judgement(rule="pet", series_key=one, missed=None if one == PET_SERIES else "modalities")
                for one in sorted(series)
            ),
        )

    def order_export(self, connection: Any, study_key: str, export: str, rules: Sequence[str]) -> None:
        if self.fails:
            raise StorageError("storage-full")
        self.ordered.append((export, tuple(rules)))
        order = OrderRow(verb="export", study_key=study_key, destination=export, at=self.time.now())
        self.ledger.give_order(order, connection=connection)

    def _flush(self, study_key: str) -> bool:
        return self.flush(study_key)

    def receive(self, *rows: InstanceRow) -> None:
        self.ledger.record_instances(rows)

    def settle(self) -> int:
        """Settle; how many orders there were by then."""
        self.admission.settle(STUDY)
        return len(self.ordered)


@pytest.fixture
def site(ledger: Ledger, time: Time, events: Events) -> Site:
    return Site(ledger, time, events)


def test_what_comes_before_anything_starts_is_ordered_once(site: Site) -> None:
    site.receive(row(0), pet(1))
    site.admission.start(STUDY)
    assert site.ordered == [("trial", ("pet",))]
    assert site.settle() == site.settle() == 1


def test_what_comes_while_work_has_begun_is_ordered_when_the_study_settles(site: Site) -> None:
    site.receive(row(0))
    site.admission.start(STUDY)
    site.receive(pet(1))
    site.admission.start(STUDY)
    assert site.ordered == []
    assert site.settle() == site.settle() == 1
    assert site.events.facts("study.export") == [{"study": STUDY, "destination": "trial", "rules": "pet"}]


def test_what_comes_late_is_ordered_each_time_and_makes_no_work(site: Site) -> None:
    site.receive(row(0))
    assert site.settle() == 0
    for count in (1, 2):
        site.receive(pet(count))
        assert site.settle() == site.settle() == count
    study = site.ledger.study(STUDY)
    assert study is not None
    assert (study.revision, [work.key for work in study.works]) == (1, [WORK])
    assert [entry.priority for entry in site.queue.waiting] == [0], "the rule says that it is urgent, too"
    site.receive(row(3))
    assert site.settle() == 3, "another input, as ever"


@pytest.mark.parametrize("looks_beside", [True, False])
def test_where_no_rule_is_about_whole_studies_what_comes_late_is_not_read(site: Site, looks_beside: bool) -> None:
    site.looks_beside = looks_beside
    site.receive(row(0))
    site.settle()
    site.receive(pet(1))
    site.settle()
    assert site.routed == 1 + looks_beside
    assert site.ledger.open_studies() == ()


def test_what_comes_with_the_same_input_that_is_tried_again_is_ordered(site: Site) -> None:
    site.receive(row(0))
    site.settle()
    site.ledger.set_work_state(WORK, WorkState.FAILED, at=site.time.now(), reason="internal")
    site.time.forward(100)
    first = row(0)
    again = replace(first, address=replace(first.address, segment_id="00" * 8), received_at=site.time.now())
    site.receive(again, pet(1))
    assert site.settle() == site.settle() == 1
    study = site.ledger.study(STUDY)
    assert study is not None
    assert study.revision == 2
    assert [one["destination"] for one in site.events.facts("study.export")] == ["trial"]


def test_the_same_input_that_is_tried_again_tells_of_no_export_that_it_does_not_order(site: Site) -> None:
    site.receive(row(0), pet(1))
    site.settle()
    site.ledger.set_work_state(WORK, WorkState.FAILED, at=site.time.now(), reason="internal")
    site.time.forward(100)
    first = row(0)
    again = replace(first, address=replace(first.address, segment_id="00" * 8), received_at=site.time.now())
    site.receive(again)
    assert site.settle() == 1
    assert len(site.events.facts("study.export")) == 1


def test_what_is_not_judged_yet_when_work_begins_was_not_looked_at(site: Site) -> None:
    coming: list[InstanceRow] = []

    def judge() -> None:
        for one in coming:
            site.ledger.set_instance_state(STUDY, one.address, InstanceState.CURRENT)

    def flush(_: str) -> bool:
        judge()
        coming.append(pet(len(coming) + 1))
        site.receive(coming[-1])
        site.ledger.set_instance_state(STUDY, coming[-1].address, InstanceState.QUARANTINED)
        return True

    site.receive(row(0))
    site.flush = flush
    site.admission.start(STUDY)
    judge()
    site.flush = lambda _: True
    before = len(site.ordered)
    assert site.settle() == before + 1


def test_the_same_again_and_a_rejection_note_order_nothing(site: Site) -> None:
    site.receive(row(0), pet(1))
    assert site.settle() == 1
    site.time.forward(100)
    first = pet(1)
    again = replace(first, address=replace(first.address, segment_id="00" * 8), received_at=site.time.now())
    (became,) = site.ledger.record_instances([again])
    assert became.state is InstanceState.DUPLICATE
    assert site.settle() == 1
    site.time.forward(100)
    note = replace(pet(2), received_at=site.time.now())
    site.receive(note)
    site.ledger.enter_rejections(STUDY, ["no-such"], Rejected.QUALITY, note=note)
    assert site.settle() == 1


def test_an_order_that_fails_settles_nothing_and_is_given_with_the_next_look(site: Site) -> None:
    site.receive(row(0))
    site.settle()
    site.receive(pet(1))
    site.fails = True
    with pytest.raises(StorageError, match="storage-full"):
        site.settle()
    assert [one for one, _ in site.ledger.open_studies()] == [STUDY]
    site.fails = False
    assert site.settle() == 1
    assert site.ledger.open_studies() == ()


def test_a_study_that_is_stopped_is_exported_when_somebody_has_it_worked_on(site: Site) -> None:
    site.receive(row(0))
    site.settle()
    site.ledger.put_mark(STUDY, Mark.CANCELLED, 1, site.time.now())
    site.receive(pet(1))
    assert site.settle() == 0


def test_what_came_before_somebody_has_a_study_worked_on_anew_is_looked_at_when_it_settles(site: Site) -> None:
    site.receive(row(0))
    site.settle()
    site.receive(pet(1))
    with site.ledger.transaction() as connection:
        assert site.admission.reprocess(connection, STUDY) == 2
    assert site.ordered == []
    assert [one for one, _ in site.ledger.open_studies()] == [STUDY], "should the node be killed now"
    assert site.settle() == site.settle() == 1


def test_a_new_try_of_what_failed_exports_only_what_is_new(site: Site) -> None:
    site.receive(row(0), pet(1))
    site.settle()
    site.ledger.set_work_state(WORK, WorkState.FAILED, at=site.time.now(), reason="internal")
    site.time.forward(100)
    first = row(0)
    again = replace(first, address=replace(first.address, segment_id="00" * 8), received_at=site.time.now())
    site.receive(again)
    assert site.settle() == 1
    study = site.ledger.study(STUDY)
    assert study is not None
    assert study.revision == 2
    site.ledger.set_work_state(replace(WORK, revision=2), WorkState.FAILED, at=site.time.now(), reason="internal")
    site.time.forward(100)
    more = replace(pet(3), received_at=site.time.now())
    site.receive(replace(again, address=replace(first.address, segment_id="01" * 8), received_at=site.time.now()), more)
    site.admission.start(STUDY)
    assert len(site.ordered) == 1
    assert site.settle() == site.settle() == 2


def test_what_is_left_when_all_that_models_look_at_was_rejected_is_still_exported(site: Site) -> None:
    site.receive(row(0))
    site.settle()
    site.ledger.take_out(STUDY, [row(0).instance_key], InstanceState.REJECTED)
    site.ledger.reopen(STUDY)
    assert site.settle() == 0
    site.receive(pet(1))
    assert site.settle() == site.settle() == 1
