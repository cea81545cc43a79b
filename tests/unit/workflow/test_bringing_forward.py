"""A study that becomes more urgent while its works and deliveries are queued: DBOS really, beneath admission."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import text

from dicomnode.config import DeliverySection
from dicomnode.routing_rules import FloodGuardSection
from dicomnode.storage.ledger import Ledger
from dicomnode.study import WORK_STAGES, WorkKey
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.pipeline import DurableQueue
from dicomnode.workflow.routing import every
from dicomnode.workflow.standing import Standing
from tests.unit.workflow.samples import MODEL, Events, Time, row

CT = "1.2.840.10008.5.1.4.1.1.2"
STUDIES = tuple(letter * 32 for letter in "abcd")


class Routing:
    """Every model gets everything."""

    looks_beside = False

    def __init__(self, ledger: Ledger, time: Time) -> None:
        self.judge = Standing(ledger, FloodGuardSection(), clock=time.now).judge

    def route(self, study_key: str, rows: object, beside: object) -> object:
        return every((MODEL,))


class Node:
    """Admission over DBOS, with one place for works that is taken until it is let go."""

    def __init__(self, ledger: Ledger, time: Time, events: Events) -> None:
        self.ledger, self.time = ledger, time
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.begun: list[str] = []
        self.delivered: list[tuple[str, int]] = []
        self.fetches = False
        self.fetched, self.answered = threading.Semaphore(0), threading.Event()
        self._changed = threading.Condition()
        self.queue = DurableQueue(
            ledger.engine,
            ledger.url,
            run_stage=self._stage,
            run_delivery=self._deliver,
            destinations=("pacs",),
            fetches=lambda model: self.fetches,
            run_fetch=self._fetch,
            urgency=ledger.priority,
            poll_seconds=0.02,
        )
        self.queue.launch()
        self.admission = Admission(
            ledger,
            self.queue,
            routing=Routing(ledger, time),  # type: ignore[arg-type]
            sop_classes=(CT,),
            destinations=("pacs",),
            overdue=lambda: (),
            flush=lambda study_key: True,
            close_segments=lambda study_key: None,
            arriving=lambda study_key: False,
            settings=DeliverySection(),
            clocks=time,
            emit=events,
        )

    def _stage(self, name: str, key: WorkKey) -> bool:
        if name == WORK_STAGES[0]:
            self._note(self.begun, key.study_key)
        return False

    def _deliver(self, key: WorkKey, destination: str, number: int) -> None:
        self._note(self.delivered, (key.study_key, number))

    def _note(self, where: list[Any], what: Any) -> None:
        with self._changed:
            where.append(what)
            self._changed.notify_all()
        self.entered.set()
        assert self.go_on.wait(60)

    def _fetch(self, key: WorkKey) -> None:
        self.fetched.release()
        assert self.answered.wait(60)

    def receive(self, study_key: str, *, peer: str = "ct", priority: str = "routine", turn: int = 0) -> None:
        """One image of a study, always the same."""
        self.ledger.rank_study(study_key, peer, priority)
        first = row(0, study_key=study_key)
        address = replace(first.address, segment_id=f"{turn:x}{study_key[-15:]}")
        self.ledger.record_instances([replace(first, address=address, received_at=self.time.now())])

    def wait_until_queued(self, count: int) -> bool:
        """Whether so many works wait for the place within a minute."""
        query = text("select count(*) from workflow_status where queue_name = 'work' and status = 'ENQUEUED'")
        until = monotonic() + 60
        while monotonic() < until:
            with self.ledger.engine.connect() as connection:
                if connection.execute(query).scalar() == count:
                    return True
            sleep(0.02)
        return False

    def wait_for(self, where: list[Any], count: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: len(where) >= count, 60)


@pytest.fixture
def node(ledger: Ledger, time: Time, events: Events) -> Iterator[Node]:
    made = Node(ledger, time, events)
    yield made
    made.answered.set()
    made.go_on.set()
    made.queue.close(5)


def work(study_key: str) -> WorkKey:
    return WorkKey(study_key=study_key, revision=1, model=MODEL)


@pytest.mark.parametrize("early", [True, False])
def test_a_study_that_is_sent_again_as_stat_passes_those_that_were_queued_before(node: Node, early: bool) -> None:
    for study in STUDIES:
        node.receive(study)
        node.admission.settle(study)
        assert node.entered.wait(30), "one place: the others wait behind the first"
    node.receive(STUDIES[3], peer="emergency", priority="stat", turn=1)
    (node.admission.start if early else node.admission.settle)(STUDIES[3])
    latest = node.ledger.latest_revision(STUDIES[3])
    assert latest is not None
    assert latest.revision == 1, "the same images make no other work"
    node.go_on.set()
    assert node.wait_for(node.begun, 4)
    assert node.begun == [STUDIES[0], STUDIES[3], STUDIES[1], STUDIES[2]]


def test_what_waits_for_its_priors_is_brought_forward_too_and_goes_on_as_stat(node: Node) -> None:
    """While they are fetched, and before they are: five fetch, the last of them waits for one of four places."""
    node.receive("e" * 32)
    node.admission.settle("e" * 32)
    assert node.entered.wait(30), "one place: the others wait behind the first"
    node.fetches = True
    studies = [f"{number:032x}" for number in range(6)]
    for study in studies:
        node.receive(study)
        node.admission.settle(study)
    for _ in range(4):
        assert node.fetched.acquire(timeout=30)
    for study in (studies[3], studies[5]):
        node.receive(study, peer="emergency", priority="stat", turn=1)
        node.admission.settle(study)
    node.answered.set()
    assert node.wait_until_queued(6)
    node.go_on.set()
    assert node.wait_for(node.begun, 7)
    assert node.begun[0] == "e" * 32
    assert set(node.begun[1:3]) == {studies[3], studies[5]}
    assert set(node.begun[3:]) == {studies[0], studies[1], studies[2], studies[4]}


def test_deliveries_of_a_study_that_becomes_stat_pass_others_and_wait_for_no_hours(node: Node) -> None:
    for study in STUDIES:
        node.receive(study)
        node.admission.settle(study)
    with node.ledger.transaction() as connection:
        node.queue.enqueue_delivery(connection, work(STUDIES[0]), "pacs", 1, 0.0)
    assert node.wait_for(node.delivered, 1)
    with node.ledger.transaction() as connection:
        for study in STUDIES[1:3]:
            node.queue.enqueue_delivery(connection, work(study), "pacs", 1, 0.0)
        node.queue.enqueue_delivery(connection, work(STUDIES[3]), "pacs", 1, 600.0)
    for study in (STUDIES[2], STUDIES[3]):
        node.receive(study, peer="emergency", priority="stat", turn=1)
        node.admission.settle(study)
    node.go_on.set()
    assert node.wait_for(node.delivered, 4)
    assert node.delivered[0] == (STUDIES[0], 1)
    assert node.delivered.index((STUDIES[2], 1)) < node.delivered.index((STUDIES[1], 1))
    assert (STUDIES[3], 1) in node.delivered


def test_what_runs_is_as_urgent_as_its_study_where_a_stop_puts_it_back(node: Node) -> None:
    node.receive(STUDIES[0])
    node.admission.settle(STUDIES[0])
    assert node.entered.wait(30)
    with node.ledger.transaction() as connection:
        node.queue.bring_forward(connection, STUDIES[0], priority=0)
    with node.ledger.engine.connect() as connection:
        found = connection.execute(text("select status, priority from workflow_status")).all()
    assert found == [("PENDING", 1)]
