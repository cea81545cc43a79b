"""Storage commitment of results: reports at once, later, never, of less than was asked; and a node that is killed meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from dicomnode.encoded import encode_part10
from dicomnode.errors import NodeError, PeerError, PeerRefusal, StorageError
from dicomnode.network.commitment import CommitmentReport, CommitmentRequest, Reported
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import ResultRow
from dicomnode.study import (
    REJECTED,
    RETRACTION,
    CommitmentState,
    DeliveryState,
    Mark,
    Purpose,
    ResultRole,
    WorkKey,
    WorkState,
    World,
)
from dicomnode.workflow.orders import Overseer
from dicomnode.workflow.pledges import ENDED, Pledges
from dicomnode.workflow.retraction import wish
from tests.unit.workflow.samples import EXPLICIT, KEY, MODEL, STUDY, WORK, Events, Time, row, tiny_series
from tests.unit.workflow.test_delivery import BOTH_CONFIRMED, Bench

COMMITTED, FOUND, UNPROVEN = CommitmentState.COMMITTED, CommitmentState.FOUND, CommitmentState.UNPROVEN


@dataclass
class Committer:
    """A destination that commits as it is told: to all, if nothing else is said."""

    at_once: bool = True
    lacks: set[int] = field(default_factory=set)
    error: PeerError | None = None
    found: bool | PeerError = True
    waits: list[float] = field(default_factory=list)
    asked: list[CommitmentRequest] = field(default_factory=list)

    def request(
        self, request: CommitmentRequest, seconds: float, others: Sequence[Reported] = ()
    ) -> CommitmentReport | None:
        self.asked.append(request)
        self.waits.append(seconds)
        if self.error is not None:
            raise self.error
        return self.report() if self.at_once else None

    def report(self, number: int = -1) -> CommitmentReport:
        request = self.asked[number]
        failed = {one for index, one in enumerate(request.references) if index in self.lacks}
        return CommitmentReport(
            transaction_uid=request.transaction_uid,
            committed=tuple(one for one in request.references if one not in failed),
            failed=dict.fromkeys(failed, 0x0112),
            retrieve_ae_title="",
        )

    def find(self, level: str, query: Mapping[str, str]) -> list[dict[str, str]]:
        if isinstance(self.found, PeerError):
            raise self.found
        assert query["SOPInstanceUID"] == "", "some peers give back whatever they are asked with"
        names = [one.sop_instance_uid for request in self.asked for one in request.references]
        return [{"SOPInstanceUID": uid} for uid in names] if self.found else []


class Ward(Bench):
    def __init__(self, ledger: Ledger, objects: Objects, time: Time, events: Events) -> None:
        super().__init__(ledger, objects, time, events)
        self.committer = Committer()
        self.down = False

    def open(self) -> None:
        self.settings = self.settings.model_copy(update={"commitment_seconds": 600, "give_up_seconds": 10_000})
        self.prepare("pacs", "archive")
        self.queue.run_due()
        assert self.work.state is WorkState.DONE
        self.pledges = self.made()

    def deliver_another(self, study: str, number: int) -> None:
        """A result of another study, which the destination has."""
        key, name = WorkKey(study_key=study, revision=1, model=MODEL), f"{number + 100:032x}"
        ds = tiny_series(seed=study)[0]
        data = encode_part10(ds, transfer_syntax_uid=EXPLICIT)
        self.ledger.record_instances([row(number + 100, study_key=study)])
        self.ledger.open_revision(study, "digest", self.time.now())
        self.ledger.create_work(key, "digest", self.time.now())
        self.objects.put(study, World.IDENTITY, name, Purpose.RESULT, data)
        result = ResultRow(result_id=name, role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=len(data))
        self.ledger.record_results(key, [result], ["pacs"], self.time.now())
        self.ledger.record_delivery(
            name, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=self.time.now()
        )

    def made(self, destinations: Mapping[str, Committer] | None = None) -> Pledges:
        """As of a node that was started anew."""
        return Pledges(
            self.ledger,
            self.objects,
            self.queue,
            destinations=destinations or {"pacs": self.committer},
            derivation_key=KEY,
            is_down=lambda _: self.down,
            settings=self.settings,
            clocks=self.time,
            emit=self.events,
        )

    def said(self, destination: str = "pacs") -> list[CommitmentState | None]:
        return [one.commitment for one in self.rows(destination)]


@pytest.fixture
def ward(ledger: Ledger, objects: Objects, time: Time, events: Events) -> Ward:
    made = Ward(ledger, objects, time, events)
    made.open()
    return made


def test_a_report_on_the_same_association(ward: Ward) -> None:
    ward.pledges.look()
    assert ward.said() == [COMMITTED] * 2
    assert ward.said("archive") == [None] * 2, "it is not asked"
    (request,) = ward.committer.asked
    assert request.transaction_uid.startswith("2.25.")
    assert {one.sop_instance_uid for one in request.references} == {
        one.sop_instance_uid for one in ward.peers["pacs"].got
    }
    ward.time.forward(10_000)
    ward.made().look()
    assert len(ward.committer.asked) == 1
    assert ward.ledger.pledges() == ()


def test_a_report_on_an_association_of_its_own_also_after_a_restart(ward: Ward) -> None:
    ward.committer.at_once = False
    ward.pledges.look()
    assert ward.said() == [CommitmentState.ASKED] * 2
    again = ward.made()
    again.look()
    assert len(ward.committer.asked) == 1, "it has its time"
    assert again.reported(ward.committer.report())
    assert ward.said() == [COMMITTED] * 2
    assert again.reported(ward.committer.report()), "taken, so that it is not repeated for ever"
    assert len(ward.events.facts("pledge.ended")) == 1


def test_a_destination_whose_reports_come_by_themselves_is_not_waited_for(ward: Ward) -> None:
    """Five seconds for each work would be a rate of twelve a minute."""
    ward.committer.at_once = False
    ward.pledges.look()
    assert ward.pledges.reported(ward.committer.report())
    ward.deliver_another("b" * 32, 1)
    ward.pledges.look()
    assert (ward.committer.waits[0] > 0, ward.committer.waits[1]) == (True, 0)
    ward.committer.at_once = True  # its report was there before the association ended
    ward.deliver_another("c" * 32, 2)
    ward.pledges.look()
    ward.deliver_another("d" * 32, 3)
    ward.pledges.look()
    assert (ward.committer.waits[2], ward.committer.waits[3] > 0) == (0, True)


def test_nobody_else_can_report(ward: Ward) -> None:
    ward.committer.at_once = False
    ward.pledges.look()
    lie = CommitmentReport(
        transaction_uid="1.2.3", committed=ward.committer.asked[0].references, failed={}, retrieve_ae_title=""
    )
    assert not ward.pledges.reported(lie)
    assert ward.said() == [CommitmentState.ASKED] * 2


def test_nothing_is_asked_before_all_of_a_work_is_there(ward: Ward) -> None:
    ward.ledger.put_deliveries(ward.rows()[:1], DeliveryState.WAITING, ward.time.now())
    ward.pledges.look()
    assert ward.committer.asked == []


@pytest.mark.parametrize("lacks", [{0}, {1}, {0, 1}])
def test_what_is_not_committed_is_sent_once_more_and_asked_for_again(ward: Ward, lacks: set[int]) -> None:
    ward.committer.lacks = lacks
    ward.pledges.look()
    assert ward.work.state is WorkState.DELIVERING
    assert ward.states().count(DeliveryState.WAITING) == len(lacks)
    ward.committer.lacks = set()
    ward.queue.run_due()
    sent = [one.sop_instance_uid for one in ward.peers["pacs"].got]
    assert len(sent) == 2 + len(lacks)
    assert len(set(sent)) == 2, "the same objects"
    assert len(ward.peers["archive"].got) == 2
    ward.pledges.look()
    assert (ward.work.state, ward.said()) == (WorkState.DONE, [COMMITTED] * 2)
    first, second = ward.committer.asked
    assert first.transaction_uid != second.transaction_uid
    assert len(second.references) == len(lacks)
    assert ward.events.facts("pledge.ended")[0]["missing"] == len(lacks)


def test_what_is_never_committed_is_a_dead_letter_and_is_not_sent_for_ever(ward: Ward) -> None:
    ward.committer.lacks = {0}
    for _ in range(5):
        ward.pledges.look()
        ward.queue.run_due()
    assert ward.ended() == (WorkState.FAILED, "not-committed")
    assert ward.states() == [DeliveryState.REFUSED, DeliveryState.CONFIRMED]
    assert len(ward.peers["pacs"].got) == 3
    assert len(ward.committer.asked) == 2
    ward.committer.lacks = set()
    ward.ledger.put_deliveries(ward.rows()[:1], DeliveryState.WAITING, ward.time.now())
    ward.ledger.set_work_state(WORK, WorkState.DELIVERING, at=ward.time.now())
    assert Overseer(ward.ledger, ward.queue, clock=ward.time.now, emit=ward.events).sweep() == 1
    ward.queue.run_due()
    ward.pledges.look()
    assert (ward.work.state, ward.said()) == (WorkState.DONE, [COMMITTED] * 2)
    assert len({one.transaction_uid for one in ward.committer.asked}) == 3


def test_a_report_that_does_not_come_is_not_waited_for_and_c_find_shows_what_is_there(ward: Ward) -> None:
    ward.committer.at_once = False
    ward.pledges.look()
    ward.time.forward(599)
    ward.pledges.look()
    assert ward.said() == [CommitmentState.ASKED] * 2
    ward.time.forward(1)
    ward.pledges.look()
    assert ward.said() == [FOUND] * 2
    ward.committer.lacks = {0}
    assert ward.pledges.reported(ward.committer.report())
    assert ward.said() == [FOUND] * 2
    assert ward.states() == BOTH_CONFIRMED


def test_what_c_find_does_not_show_is_sent_once_more(ward: Ward) -> None:
    ward.committer.at_once, ward.committer.found = False, False
    ward.pledges.look()
    ward.time.forward(600)
    ward.pledges.look()
    ward.queue.run_due()
    assert len(ward.peers["pacs"].got) == 4
    assert ward.states() == BOTH_CONFIRMED


@pytest.mark.parametrize("error", [PeerRefusal("peer-context-refused"), PeerRefusal("peer-refused-object")])
def test_a_destination_that_does_not_know_commitment_is_asked_by_c_find(ward: Ward, error: PeerError) -> None:
    ward.committer.error = error
    ward.pledges.look()
    assert ward.said() == [FOUND] * 2
    assert ward.events.facts("pledge.waiting") == [{"destination": "pacs", "reason": error.code}]


def test_one_that_knows_neither_is_told_and_left_at_that(ward: Ward) -> None:
    ward.committer.error = ward.committer.found = PeerRefusal("peer-context-refused")
    ward.pledges.look()
    assert ward.said() == [UNPROVEN] * 2
    assert ward.work.state is WorkState.DONE
    assert ward.events.names.count("pledge.unproven") == 1


def test_one_that_is_down_is_asked_again_under_another_uid(ward: Ward) -> None:
    ward.committer.error = PeerError("timeout")
    ward.pledges.look()
    ward.pledges.look()
    assert len(ward.committer.asked) == 1
    ward.time.forward(10)
    ward.committer.error = None
    ward.committer.at_once = False
    ward.pledges.look()
    first, second = ward.committer.asked
    assert first.transaction_uid != second.transaction_uid
    assert ward.pledges.reported(ward.committer.report(0)), "whichever of them it reports on"
    assert ward.said() == [COMMITTED] * 2


def test_one_that_is_left_alone_is_not_asked(ward: Ward) -> None:
    ward.down = True
    ward.pledges.look()
    assert ward.committer.asked == []
    ward.down = False
    ward.pledges.look()
    assert ward.said() == [COMMITTED] * 2


def test_one_that_answers_neither_way_is_asked_until_it_does(ward: Ward) -> None:
    ward.committer.at_once, ward.committer.found = False, PeerError("timeout")
    ward.pledges.look()
    ward.time.forward(600)
    ward.pledges.look()
    assert ward.said() == [CommitmentState.ASKED] * 2
    ward.committer.found = True
    ward.time.forward(60)
    ward.pledges.look()
    assert ward.said() == [FOUND] * 2


def test_one_that_is_not_configured_any_more_is_not_waited_for(ward: Ward) -> None:
    ward.committer.at_once = False
    ward.pledges.look()
    ward.time.forward(600)
    ward.pledges._destinations = {}
    ward.pledges.look()
    assert ward.said() == [UNPROVEN] * 2


def test_a_clock_that_is_set_back_holds_up_no_pledge(ward: Ward) -> None:
    ward.committer.error = PeerError("timeout")
    ward.time.forward(86_400)
    ward.pledges.look()
    ward.time.forward(-86_400)
    ward.committer.error = None
    ward.pledges.look()
    assert ward.said() == [COMMITTED] * 2


def test_a_fault_of_the_node_hinders_no_later_look(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> bytes:
        raise StorageError("storage-failed")

    with monkeypatch.context() as patch:
        patch.setattr(ward.objects, "get", fail)
        ward.pledges.look()
    assert [one["reason"] for one in ward.events.facts("pledge.failed")] == ["storage-failed"]
    ward.time.forward(60)
    ward.pledges.look()
    assert ward.said() == [COMMITTED] * 2


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize("step", ["asked", "taken", "committed", "again"])
def test_a_kill_anywhere_loses_nothing_and_sends_nothing_twice_for_it(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    ward.committer.lacks = {0} if step == "again" else set()
    ward.committer.at_once = step != "taken"
    place = {
        "asked": (ward.committer, "request"),
        "taken": (ward.pledges, "_taken"),
        "committed": (ward.pledges, "_conclude"),
        "again": (ward.queue, "revive_delivery"),
    }[step]
    with monkeypatch.context() as patch:
        patch.setattr(*place, killed)
        with pytest.raises(Killed):
            ward.pledges.look()
    ward.committer.lacks, ward.committer.at_once = set(), True
    again = ward.made()
    for _ in range(3):
        Overseer(ward.ledger, ward.queue, clock=ward.time.now, emit=ward.events).sweep()
        ward.queue.run_due()
        ward.time.forward(60)
        again.look()
    assert (ward.work.state, ward.said()) == (WorkState.DONE, [COMMITTED] * 2)
    assert len(ward.peers["pacs"].got) == (3 if step == "again" else 2)


def test_what_is_shredded_is_not_asked_for(ward: Ward) -> None:
    ward.committer.at_once = False
    ward.pledges.look()
    ward.ledger.purge_study(STUDY)
    ward.time.forward(10_000)
    ward.pledges.look()
    assert ward.ledger.pledges() == ()


@pytest.mark.parametrize("error", [StorageError("ledger-failed"), ValueError("Mueller^Juergen")])
def test_the_thread_bears_every_fault(ward: Ward, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    done, looked = threading.Event(), []

    def look(_: str) -> None:
        looked.append(1)
        if len(looked) == 1:
            raise error
        done.set()

    monkeypatch.setattr("dicomnode.workflow.pledges._LOOK_SECONDS", 0.01)
    monkeypatch.setattr(ward.pledges, "look", look)
    ward.pledges.begin()
    assert done.wait(30)
    ward.pledges.end(10)
    (told,) = ward.events.facts("pledge.failed")
    assert told["reason"] == (error.code if isinstance(error, NodeError) else "internal")
    assert "Mueller" not in repr(ward.events.seen)


def test_a_find_that_gives_back_its_keys_proves_nothing(gated: Gated) -> None:
    """The study is there and the object is not: a PACS that matches at the level of studies alone."""
    there = {"SOPInstanceUID": "1.2.3.4.5"}

    def find(level: str, query: Mapping[str, str]) -> list[dict[str, str]]:
        return [{name: value or there.get(name, "") for name, value in query.items()}]

    gated.committer.at_once = False
    gated.committer.find = find  # type: ignore[method-assign]
    gated.pledges.look()
    gated.time.forward(601)
    gated.pledges.look()
    assert {one.commitment for one in gated.rows()} != {CommitmentState.FOUND}
    assert gated.ended() != (WorkState.DONE, None)


def test_a_destination_that_hangs_keeps_no_other_waiting(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, released = threading.Event(), threading.Event()

    class Hanging(Committer):
        def request(
            self, request: CommitmentRequest, seconds: float, others: Sequence[Reported] = ()
        ) -> CommitmentReport | None:
            hangs.set()
            released.wait(60)
            return super().request(request, seconds, others)

    monkeypatch.setattr("dicomnode.workflow.pledges._LOOK_SECONDS", 0.01)
    good = Committer()
    pledges = ward.made({"pacs": Hanging(), "archive": good})
    pledges.begin()
    assert hangs.wait(60)
    reached = time.monotonic() + 60
    while ward.said("archive") != [COMMITTED] * 2 and time.monotonic() < reached:
        pledges._ended.wait(0.01)
    assert ward.said("archive") == [COMMITTED] * 2
    assert ward.said("pacs") == [CommitmentState.ASKED] * 2, "it hangs all the while"
    released.set()
    pledges.end(60)


def test_one_that_hangs_costs_one_timeout_a_look_and_is_asked_for_each_work_in_turn(ward: Ward) -> None:
    ward.committer.error = ward.committer.found = PeerError("timeout")
    others = [f"{number:032x}" for number in range(3)]
    for number, study in enumerate(others):
        ward.deliver_another(study, number)
    for looks in range(1, 5):
        ward.pledges.look("pacs")
        assert len(ward.committer.asked) == looks
        ward.time.forward(0.5)
    assert len({one.references for one in ward.committer.asked}) == 4
    ward.time.forward(10_000)
    ward.pledges.look("pacs")
    assert ward.ledger.pledges() == (), "whoever is behind ends in time all the same"


class Gated(Ward):
    """A work that is not done before its destination has answered."""

    committing = frozenset({"pacs"})

    def open(self) -> None:
        self.settings = self.settings.model_copy(update={"commitment_seconds": 600, "give_up_seconds": 10_000})
        self.prepare("pacs", "archive")
        self.queue.run_due()
        self.pledges = self.made()


@pytest.fixture
def gated(ledger: Ledger, objects: Objects, time: Time, events: Events) -> Gated:
    made = Gated(ledger, objects, time, events)
    made.open()
    return made


def test_a_work_is_done_when_it_is_committed_and_not_before(gated: Gated) -> None:
    assert gated.states() == BOTH_CONFIRMED
    assert gated.work.state is WorkState.DELIVERING
    gated.committer.at_once = False
    gated.pledges.look()
    assert gated.work.state is WorkState.DELIVERING
    assert (
        Overseer(gated.ledger, gated.queue, clock=gated.time.now, emit=gated.events, committing={"pacs"}).sweep() == 0
    )
    assert gated.pledges.reported(gated.committer.report())
    assert gated.ended() == (WorkState.DONE, None)
    assert gated.events.facts("work.ended") == [{"work": WORK.workflow_id, "state": "done", "reason": None}]


def test_what_is_found_alone_is_done_under_another_name(gated: Gated) -> None:
    gated.committer.at_once = False
    gated.pledges.look()
    gated.time.forward(600)
    gated.pledges.look()
    assert gated.ended() == (WorkState.DONE, "commitment-unreported")


def test_what_cannot_be_proved_is_done_under_another_name(gated: Gated) -> None:
    gated.committer.error = gated.committer.found = PeerRefusal("peer-context-refused")
    gated.pledges.look()
    assert gated.ended() == (WorkState.DONE, "commitment-unproven")


@pytest.mark.parametrize("down", [True, False])
def test_nothing_waits_for_ever_for_a_destination_that_is_gone(gated: Gated, down: bool) -> None:
    gated.down = down
    gated.committer.error = gated.committer.found = PeerError("peer-unreachable")
    for _ in range(9):
        gated.pledges.look()
        gated.time.forward(1_000)
        assert gated.work.state is WorkState.DELIVERING
    gated.time.forward(1_000)
    gated.pledges.look()
    assert gated.ended() == (WorkState.DONE, "commitment-unproven")


def test_another_destination_that_waits_holds_the_end_up(gated: Gated) -> None:
    gated.ledger.put_deliveries(gated.rows("archive")[:1], DeliveryState.WAITING, gated.time.now())
    gated.pledges.look()
    assert gated.said() == [COMMITTED] * 2
    assert gated.work.state is WorkState.DELIVERING
    assert (
        Overseer(gated.ledger, gated.queue, clock=gated.time.now, emit=gated.events, committing={"pacs"}).sweep() == 1
    )
    gated.queue.run_due()
    assert gated.ended() == (WorkState.DONE, None)


def test_commitment_that_is_switched_off_holds_no_work(gated: Gated) -> None:
    gated.delivery._committing = frozenset()
    assert Overseer(gated.ledger, gated.queue, clock=gated.time.now, emit=gated.events).sweep() > 0
    gated.queue.run_due()
    assert gated.ended() == (WorkState.DONE, None)


def test_what_is_never_committed_fails_and_is_not_done(gated: Gated) -> None:
    gated.committer.lacks = {0}
    for _ in range(5):
        gated.pledges.look()
        assert gated.work.state is not WorkState.DONE
        gated.queue.run_due()
    assert gated.ended() == (WorkState.FAILED, "not-committed")


@pytest.mark.parametrize("lacks", [{0}, {0, 1}])
def test_a_report_that_is_repeated_is_no_second_failure(gated: Gated, lacks: set[int]) -> None:
    """The PACS got no answer to its first report: it repeats it, before and after what it lacked was sent again."""
    gated.committer.at_once, gated.committer.lacks = False, lacks
    gated.pledges.look()
    first = gated.committer.report()
    assert gated.pledges.reported(first)
    assert gated.made().reported(first)
    gated.queue.run_due()
    gated.committer.lacks = set()
    gated.pledges.look()
    assert gated.pledges.reported(first), "answered 0000, and of no consequence"
    assert gated.states() == BOTH_CONFIRMED
    assert gated.work.state is WorkState.DELIVERING
    assert len(gated.events.facts("pledge.ended")) == 1
    assert gated.pledges.reported(gated.committer.report())
    assert gated.ended() == (WorkState.DONE, None)


def test_every_request_of_a_round_may_be_reported_on_and_none_of_an_earlier_one(gated: Gated) -> None:
    gated.committer.lacks = {0}
    gated.pledges.look()
    gated.queue.run_due()
    gated.committer.error = PeerError("timeout")
    gated.pledges.look()
    gated.time.forward(10)
    gated.committer.error, gated.committer.at_once, gated.committer.lacks = None, False, set()
    gated.pledges.look()
    first, second, third = gated.committer.asked
    assert len({first.transaction_uid, second.transaction_uid, third.transaction_uid}) == 3
    assert gated.pledges.reported(gated.committer.report(0))
    assert gated.work.state is WorkState.DELIVERING
    assert gated.pledges.reported(gated.committer.report(1))
    assert gated.ended() == (WorkState.DONE, None)


@pytest.mark.parametrize("lacks", [set[int](), {0}])
def test_a_report_that_comes_while_it_is_asked_for_stays_the_last_word(gated: Gated, lacks: set[int]) -> None:
    """On an association of its own, before our request has ended."""

    class Hasty(Committer):
        def request(
            self, request: CommitmentRequest, seconds: float, others: Sequence[Reported] = ()
        ) -> CommitmentReport | None:
            self.asked.append(request)
            assert gated.pledges.reported(self.report())
            return None

    gated.committer = Hasty(lacks=lacks)
    gated.pledges = gated.made()
    gated.pledges.look()
    assert [row.state for row in gated.ledger.pledges(ended=True)] == [ENDED]
    assert gated.ledger.pledges() == ()
    assert gated.ended() == (WorkState.DONE, None) if not lacks else gated.said() == [None, COMMITTED]


def test_what_is_known_of_an_earlier_round_ends_no_later_one(gated: Gated) -> None:
    """C-FIND answers slowly: meanwhile a report came, what it lacked was sent again, and is asked for again."""
    gated.committer.at_once, gated.committer.lacks = False, {0}
    gated.pledges.look()
    (first,) = gated.ledger.pledges()
    assert gated.pledges.reported(gated.committer.report())
    gated.queue.run_due()
    gated.pledges.look()
    (second,) = gated.ledger.pledges()
    assert second.earlier > first.earlier
    gated.pledges._end(first, {}, CommitmentState.FOUND)
    assert gated.ledger.pledges() == (second,)
    assert gated.said() == [CommitmentState.ASKED, COMMITTED]


@pytest.mark.parametrize("why", ["rejected", "retracted", "cancelled", "superseded"])
def test_what_is_not_committed_of_results_that_are_not_to_go_is_not_sent_again(gated: Gated, why: str) -> None:
    gated.committer.at_once = False
    gated.pledges.look()
    at = gated.time.now()
    if why in ("rejected", "retracted"):
        gated.ledger.add_facts(WORK, {REJECTED: "safety"} if why == "rejected" else {RETRACTION: "sent"})
    else:
        gated.ledger.set_work_state(WORK, WorkState(why), at=at)
    gated.committer.lacks = {0}
    assert gated.pledges.reported(gated.committer.report())
    assert gated.states() == BOTH_CONFIRMED
    assert gated.said() == [UNPROVEN, COMMITTED]
    gated.queue.run_due()
    assert len(gated.peers["pacs"].got) == 2
    assert gated.ledger.pledges() == ()
    expected = WorkState(why) if why in ("cancelled", "superseded") else WorkState.DONE
    assert gated.work.state is expected


def test_what_a_destination_took_and_never_commits_to_can_be_retracted(gated: Gated) -> None:
    """It answers 0000, shows the results in its viewer, and fails every commitment (0112), as some do for documents."""
    gated.committer.lacks = {0, 1}
    for _ in range(3):
        gated.pledges.look()
        gated.queue.run_due()
        gated.time.forward(60)
    assert {(one.state, one.status, one.reason) for one in gated.rows()} == {
        (DeliveryState.REFUSED, 0, "not-committed")
    }
    gated.ledger.put_deliveries(gated.rows("archive"), DeliveryState.CANCELLED, gated.time.now())
    assert wish(gated.ledger, WORK.study_key, None, gated.time.now) == (WORK,)


def test_what_is_not_committed_to_of_a_cancelled_study_does_not_go_again(gated: Gated) -> None:
    gated.committer.at_once = False
    gated.pledges.look()
    before = len(gated.peers["pacs"].got)
    gated.ledger.put_mark(WORK.study_key, Mark.CANCELLED, 1, gated.time.now())
    gated.committer.lacks = {0, 1}
    assert gated.pledges.reported(gated.committer.report())
    gated.queue.run_due()
    assert len(gated.peers["pacs"].got) == before
    assert {one.commitment for one in gated.rows()} == {CommitmentState.UNPROVEN}
    assert gated.ended() == (WorkState.DONE, "commitment-unproven")
