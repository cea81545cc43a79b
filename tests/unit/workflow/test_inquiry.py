"""Whose study it is: who is asked, when results wait, when they are held, and when they go without an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import DeliverySection
from dicomnode.errors import PeerError, PeerRefusal, StorageError, StudyError
from dicomnode.network import status as statuses
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import OrderRow
from dicomnode.study import DeliveryState, ResultRole, WorkKey, WorkState
from dicomnode.workflow.circuits import Circuits
from dicomnode.workflow.inquiry import Asking, Inquiry, facts_of_release
from dicomnode.workflow.orders import Orders, Verb
from tests.unit.workflow.samples import STUDY, WORK, Events, Time
from tests.unit.workflow.test_delivery import BOTH_CONFIRMED, Bench

SHOWN = {"StudyInstanceUID": "1.2.3", "PatientID": "P-1", "PatientName": "Doe^Jane"}
OTHER = [{**SHOWN, "PatientID": "OTHER-9", "PatientName": "Roe^John"}]
WAITING = [DeliveryState.WAITING] * 2


def error_of(status: int) -> PeerError:
    """As C-FIND raises a status."""
    error = statuses.error_of(status)
    assert error is not None
    return error


class Pacs:
    """Shows studies, or fails, as it is told; the last answer stands."""

    def __init__(self) -> None:
        self.answers: list[list[dict[str, str]] | PeerError] = [[SHOWN]]
        self.asked: list[tuple[str, Mapping[str, str], float | None]] = []

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        self.asked.append((level, query, seconds))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, PeerError):
            raise answer
        return answer


class Ward(Bench):
    """A bench whose destination is asked first."""

    def __init__(self, ledger: Ledger, objects: Objects, time: Time, events: Events) -> None:
        super().__init__(ledger, objects, time, events)
        self.pacs = Pacs()
        self.sender: str | None = "MODALITY"
        self.whose: Dataset | Exception = Dataset()
        self.whose.PatientID, self.whose.PatientName = "P-1", "Doe^Jane"
        self.whose.StudyInstanceUID = "1.2.3"

    def ask(self, *destinations: str, **about: Any) -> None:
        """Results under way to some destinations, of which the first is asked."""
        self.prepare(*destinations)
        asking = Asking(asked=self.pacs, titles=frozenset({"PACS"}), seconds=7.0, **about)
        self.inquiry = self.delivery._inquiry = Inquiry(
            self.ledger,
            askings={destinations[0]: asking},
            identity=self.identity,
            sender=lambda _: self.sender,
            settings=DeliverySection(ask_seconds=60, probe_seconds=1000),
            clock=self.time.now,
            monotonic=self.time.monotonic,
            emit=self.events,
        )

    def identity(self, _: object) -> Dataset:
        if isinstance(self.whose, Exception):
            raise self.whose
        return self.whose

    def held(self) -> tuple[WorkState, str | None]:
        return self.ended()

    def release(self) -> None:
        self.ledger.give_order(OrderRow(verb=Verb.RELEASE, study_key=STUDY, at=self.time.now()))
        Orders(
            self.ledger, self.queue, admission=self, hurry=lambda _: None, clock=self.time.now, emit=self.events
        ).sweep()

    def reprocess(self, connection: Any, study_key: str) -> int | None:
        raise AssertionError("not ordered")

    def let_go(self, connection: Any, work: Any) -> None:
        facts = facts_of_release(work, self.time.now())
        self.ledger.set_work_state(
            work.key, WorkState.DELIVERING, at=self.time.now(), facts=facts, connection=connection
        )


@pytest.fixture
def ward(ledger: Ledger, objects: Objects, time: Time, events: Events) -> Ward:
    return Ward(ledger, objects, time, events)


def test_a_study_that_is_shown_as_it_was_gets_its_results(ward: Ward) -> None:
    ward.ask("pacs")
    ward.queue.run_due()
    assert ward.states() == BOTH_CONFIRMED
    ((level, query, seconds),) = ward.pacs.asked
    assert (level, query["StudyInstanceUID"], seconds) == ("STUDY", "1.2.3", 7.0)
    assert all(not value for key, value in query.items() if key != "StudyInstanceUID")
    assert "seen.pacs" in ward.work.facts


def test_another_patient_holds_the_work_and_no_value_is_told(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [[{**SHOWN, "PatientID": "OTHER-9", "PatientName": "Roe^John"}]]
    ward.queue.run_due()
    assert ward.held() == (WorkState.HELD, "patient-changed")
    assert ward.states() == WAITING
    assert ward.queue.waiting == ()
    (told,) = ward.events.facts("patient.changed")
    assert told["kind"] == "id.name"
    assert ward.events.facts("work.held") == [
        {"work": WORK.workflow_id, "destination": "pacs", "reason": "patient-changed"}
    ]
    assert not {"OTHER-9", "Roe", "P-1", "Doe"} & set(repr((ward.events.seen, ward.work.facts)).split("'"))


def test_a_release_delivers_without_asking_again(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [[{**SHOWN, "PatientID": "OTHER-9"}]]
    ward.queue.run_due()
    ward.time.forward(2000)  # longer than a delivery may take: that counts from the release
    ward.release()
    ward.peers["pacs"].answers = [PeerError("peer-aborted")] * 2
    ward.queue.run_due()
    assert ward.work.state is WorkState.DELIVERING, "given up for its age, though it was only just let go"
    ward.later(10)
    assert ward.ended() == (WorkState.DONE, None)
    assert len(ward.pacs.asked) == 1


@pytest.mark.parametrize("is_away", [False, True])
def test_what_one_destination_shows_holds_what_is_still_to_go_to_others(ward: Ward, *, is_away: bool) -> None:
    ward.ask("pacs", "archive")
    ward.peers["archive"].answers = [PeerError("peer-unreachable")] * 2 * is_away
    ward.pacs.answers = [[{**SHOWN, "PatientBirthDate": ""}, {**SHOWN, "PatientID": "OTHER-9"}]]
    ward.queue.run_due()
    assert ward.held() == (WorkState.HELD, "patient-changed")
    for _ in range(3):
        ward.later(60)  # it is back, and whatever try of it was still queued has run
    assert set(ward.states("archive")) == {DeliveryState.WAITING}
    assert ward.peers["archive"].got == []
    ward.peers["archive"].answers = []
    ward.release()
    ward.queue.run_due()
    assert (ward.states(), ward.states("archive")) == (BOTH_CONFIRMED, BOTH_CONFIRMED)
    assert ward.ended() == (WorkState.DONE, None)


def test_a_study_that_is_not_there_yet_gets_its_results(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [[{**SHOWN, "StudyInstanceUID": "9.9"}]]  # one that lies shows another study
    ward.queue.run_due()
    assert ward.states() == BOTH_CONFIRMED
    assert "seen.pacs" not in ward.work.facts


def test_a_study_that_came_from_there_and_is_gone_is_held_after_a_while(ward: Ward) -> None:
    ward.sender = "PACS "
    ward.ask("pacs")
    ward.pacs.answers = [[]]
    ward.queue.run_due()
    assert ward.work.state is WorkState.DELIVERING, "it may be shown the next time"
    assert ward.events.facts("delivery.failed")[0]["reason"] == "study-gone"
    for _ in range(20):
        ward.later(10)
    assert ward.held() == (WorkState.HELD, "study-gone")
    assert ward.peers["pacs"].got == []


def test_a_study_that_is_shown_again_meanwhile_gets_its_results(ward: Ward) -> None:
    ward.sender = "PACS"
    ward.ask("pacs")
    ward.pacs.answers = [[], [SHOWN]]
    ward.queue.run_due()
    ward.later(10)
    assert ward.ended() == (WorkState.DONE, None)


def test_a_study_that_was_seen_and_is_gone_is_held(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [[SHOWN], []]
    ward.peers["pacs"].answers = [PeerError("peer-aborted")] * 2
    ward.queue.run_due()
    for _ in range(20):
        ward.later(10)
    assert ward.held() == (WorkState.HELD, "study-gone")


def test_one_that_knows_no_query_is_left_in_peace_and_gets_results(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [PeerRefusal("peer-context-refused")]
    ward.peers["pacs"].answers = [PeerError("peer-aborted")] * 2
    ward.queue.run_due()
    ward.later(10)
    assert ward.ended() == (WorkState.DONE, None)
    assert len(ward.pacs.asked) == 1
    assert [(name, level) for name, level, _ in ward.events.seen if name == "delivery.unasked"] == [
        ("delivery.unasked", "debug")
    ]


def test_one_that_cannot_be_asked_is_asked_anew_after_a_day(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [error_of(0x0122), [SHOWN]]
    assert ward.inquiry.reason_to_hold(WORK, "pacs") is None
    ward.time.forward(999)
    ward.inquiry.reason_to_hold(WORK, "pacs")
    assert len(ward.pacs.asked) == 1
    ward.time.forward(2)
    ward.inquiry.reason_to_hold(WORK, "pacs")
    assert len(ward.pacs.asked) == 2


def test_one_that_gives_no_answer_gets_results_after_a_while(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [PeerError("timeout")]
    ward.queue.run_due()
    assert ward.states() == WAITING
    assert [(one.attempts, one.reason) for one in ward.rows()] == [(1, "timeout")] * 2
    for _ in range(20):
        ward.later(10)
    assert ward.ended() == (WorkState.DONE, None)
    assert [facts["reason"] for facts in ward.events.facts("delivery.unasked")] == ["timeout"]


def test_questions_that_fail_open_the_circuit_as_deliveries_do(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    ward.ask("pacs")
    monkeypatch.setattr(Circuits, "heard", lambda _, name, outcomes: heard.append(f"{name} {outcomes[0].error.code}"))
    ward.pacs.answers = [PeerError("timeout")]
    ward.queue.run_due()
    assert heard == ["pacs timeout"]


def test_another_one_that_is_asked_in_its_place_is_not_the_destinations_fault(ward: Ward) -> None:
    ward.ask("pacs", is_itself=False)
    ward.pacs.answers = [PeerError("timeout"), [SHOWN]]
    ward.queue.run_due()
    assert [one.attempts for one in ward.rows()] == [0, 0]
    assert ward.events.facts("delivery.failed")[0]["reason"] == "timeout"
    ward.later(10)
    assert ward.ended() == (WorkState.DONE, None)


def test_where_an_answer_is_required_nothing_goes_without(ward: Ward) -> None:
    ward.ask("pacs", is_required=True)
    ward.pacs.answers = [PeerError("timeout")] * 9 + [PeerRefusal("peer-context-refused")]
    ward.queue.run_due()
    for _ in range(20):
        ward.later(60)
    assert ward.held() == (WorkState.HELD, "identity-unasked")
    assert ward.peers["pacs"].got == []


def test_a_note_that_retracts_goes_whoever_the_patient_is(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [[{**SHOWN, "PatientID": "OTHER-9"}]]
    rows = [row for row in ward.rows() if row.role is ResultRole.SEGMENTATION]
    note = [
        type(row)(**{**{name: getattr(row, name) for name in row.__slots__}, "role": ResultRole.REJECTION})
        for row in rows
    ]
    assert ward.delivery._may_go(WORK, "pacs", note)
    assert ward.pacs.asked == []


def test_results_whose_identity_nobody_knows_are_not_asked_about(ward: Ward) -> None:
    ward.ask("pacs")
    ward.whose = StudyError("result-identity-differs")
    assert ward.inquiry.reason_to_hold(WORK, "pacs") is None
    ward.whose = StorageError("storage-failed")
    with pytest.raises(StorageError):
        ward.inquiry.reason_to_hold(WORK, "pacs")
    assert ward.pacs.asked == []


def test_a_work_that_was_cancelled_meanwhile_is_not_held(ward: Ward) -> None:
    ward.ask("pacs")
    ward.ledger.set_work_state(WORK, WorkState.CANCELLED, at=ward.time.now(), reason="cancelled")
    ward.inquiry.put(WORK, "pacs", "patient-changed")
    assert ward.ended() == (WorkState.CANCELLED, "cancelled")
    ward.inquiry.reason_to_hold(WORK, "pacs")
    assert ward.work.state is WorkState.CANCELLED


@pytest.mark.parametrize("status", [0xC000, 0xC001, 0xA700, 0x0110, 0x0112])
def test_a_question_that_fails_once_is_asked_again_at_the_next_try(ward: Ward, status: int) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [error_of(status), OTHER]
    ward.queue.run_due()
    assert ward.states() == WAITING, "no answer is not a permission"
    ward.later(10)
    assert (len(ward.pacs.asked), ward.held()) == (2, (WorkState.HELD, "patient-changed"))
    assert ward.peers["pacs"].got == []


def test_a_question_that_always_fails_keeps_results_for_a_while_and_no_circuit_opens(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [error_of(0xC001)]
    ward.queue.run_due()
    assert [row.reason for row in ward.rows()] == ["query-failed"] * 2
    for _ in range(20):
        ward.later(10)
    assert ward.ended() == (WorkState.DONE, None)
    assert ward.events.facts("circuit.opened") == []
    assert [facts["reason"] for facts in ward.events.facts("delivery.unasked")] == ["query-failed"]
    assert len(ward.pacs.asked) == 5


def test_a_question_that_fails_says_nothing_of_how_a_destination_takes_objects(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    ward.ask("pacs")
    monkeypatch.setattr(Circuits, "heard", lambda _, name, outcomes: heard.append(name))
    ward.pacs.answers = [error_of(0xC001)]
    ward.queue.run_due()
    assert heard == []


@pytest.mark.parametrize("facts", [{"result": 1}, {"status": 401}, {"status": 403}])
def test_one_that_lets_nobody_in_while_it_starts_is_asked_when_it_does(ward: Ward, facts: dict[str, int]) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [PeerRefusal("peer-rejected", **facts), OTHER]
    ward.peers["pacs"].answers = [PeerRefusal("peer-rejected", **facts)] * 2
    ward.queue.run_due()
    assert ward.states() == WAITING
    ward.circuits.ask("pacs")
    for _ in range(3):
        ward.later(3600)
    assert (len(ward.pacs.asked), ward.held()) == (2, (WorkState.HELD, "patient-changed"))
    assert len(ward.peers["pacs"].got) == 2, "what it refused, and nothing since"
    assert ward.states() == WAITING


def test_another_one_that_lets_nobody_in_is_asked_again_for_a_while(ward: Ward) -> None:
    ward.ask("pacs", is_itself=False)
    ward.pacs.answers = [PeerRefusal("peer-rejected")] * 2 + [OTHER]
    ward.queue.run_due()
    for _ in range(3):
        ward.later(20)
    assert ward.held() == (WorkState.HELD, "patient-changed")


def test_where_an_answer_is_required_a_rejection_is_waited_out(ward: Ward) -> None:
    ward.ask("pacs", is_required=True)
    ward.pacs.answers = [PeerRefusal("peer-rejected"), [SHOWN]]
    ward.queue.run_due()
    assert (ward.states(), ward.work.state) == (WAITING, WorkState.DELIVERING)
    ward.circuits.ask("pacs")
    ward.later(3600)
    assert ward.ended() == (WorkState.DONE, None)


def test_one_that_was_away_is_asked_although_it_knew_no_query_before(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [PeerRefusal("peer-context-refused"), OTHER]
    ward.peers["pacs"].answers = [PeerRefusal("peer-rejected")] * 2
    ward.queue.run_due()
    assert ward.circuits.is_open("pacs")
    ward.circuits.ask("pacs")
    ward.later(100)
    assert (len(ward.pacs.asked), ward.held()) == (2, (WorkState.HELD, "patient-changed"))


@pytest.mark.parametrize("before", [PeerError("timeout"), []])
def test_the_first_look_after_an_outage_holds_nothing(ward: Ward, before: PeerError | list[dict[str, str]]) -> None:
    ward.sender = "PACS"
    ward.ask("pacs")
    ward.pacs.answers = [before, [], [SHOWN]]
    with pytest.raises(PeerError if before else StudyError):
        ward.inquiry.reason_to_hold(WORK, "pacs")
    ward.time.forward(3600)
    with pytest.raises(StudyError, match="study-gone"):
        ward.inquiry.reason_to_hold(WORK, "pacs")
    ward.time.forward(30)
    assert ward.inquiry.reason_to_hold(WORK, "pacs") is None


def test_the_first_question_after_an_outage_that_fails_lets_nothing_go(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [PeerError("timeout"), PeerError("timeout"), OTHER]
    for seconds in (3600, 30):
        with pytest.raises(PeerError):
            ward.inquiry.reason_to_hold(WORK, "pacs")
        ward.time.forward(seconds)
    assert ward.inquiry.reason_to_hold(WORK, "pacs") == "patient-changed"


def test_an_answer_ends_the_time_without_one(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [PeerError("timeout"), PeerError("timeout"), [], PeerError("timeout"), PeerError("timeout")]
    for asked in range(5):
        if asked == 2:
            assert ward.inquiry.reason_to_hold(WORK, "pacs") is None
        else:
            with pytest.raises(PeerError):
                ward.inquiry.reason_to_hold(WORK, "pacs")
        ward.time.forward(30)


@pytest.mark.parametrize("whose", [StorageError("sealed-damaged"), StudyError("result-identity-differs"), Dataset()])
def test_where_an_answer_is_required_results_of_nobody_are_held(ward: Ward, whose: Exception | Dataset) -> None:
    ward.ask("pacs", is_required=True)
    ward.whose = whose
    ward.queue.run_due()
    assert ward.held() == (WorkState.HELD, "identity-unasked")
    assert ward.peers["pacs"].got == []
    ward.release()
    ward.queue.run_due()
    assert ward.ended() == (WorkState.DONE, None)


def test_what_was_released_because_it_was_late_is_asked_about(ward: Ward) -> None:
    ward.ask("pacs")
    ward.ledger.set_work_state(WORK, WorkState.HELD, at=ward.time.now(), reason="result-late")
    ward.pacs.answers = [OTHER]
    ward.release()
    ward.queue.run_due()
    assert ward.held() == (WorkState.HELD, "patient-changed")
    assert ward.peers["pacs"].got == []
    ward.release()
    ward.queue.run_due()
    assert (ward.ended(), len(ward.pacs.asked)) == ((WorkState.DONE, None), 1)


def test_a_study_that_the_one_asked_never_had_is_not_gone_because_the_destination_took_results(ward: Ward) -> None:
    ward.ask("viewer", is_itself=False)
    ward.pacs.answers = [[]]
    ward.peers["viewer"].answers = [0x0000, PeerError("peer-out-of-resources")]
    ward.queue.run_due()
    assert sorted(ward.states("viewer")) == [DeliveryState.CONFIRMED, DeliveryState.WAITING]
    for _ in range(3):
        ward.later(100)
    assert ward.ended() == (WorkState.DONE, None)


def test_a_study_that_was_shown_again_has_the_whole_time_once_more(ward: Ward) -> None:
    ward.sender = "PACS"
    ward.ask("pacs")
    ward.pacs.answers = [[], [], [SHOWN], [], [], []]
    said: list[str | None] = []
    for _ in range(6):
        try:
            said.append(ward.inquiry.reason_to_hold(WORK, "pacs"))
        except StudyError as error:
            said.append(error.code + " perhaps")
        ward.time.forward(30)
    assert said == ["study-gone perhaps"] * 2 + [None] + ["study-gone perhaps"] * 2 + ["study-gone"]


def test_a_destination_that_took_results_had_the_study(ward: Ward) -> None:
    ward.ask("pacs")
    ward.pacs.answers = [[]]
    ward.peers["pacs"].answers = [0x0000, PeerError("peer-out-of-resources")]
    ward.queue.run_due()
    assert sorted(ward.states()) == [DeliveryState.CONFIRMED, DeliveryState.WAITING]
    for _ in range(20):
        ward.later(10)
    assert ward.held() == (WorkState.HELD, "study-gone")


OTHERS = [WorkKey(study_key=STUDY, revision=WORK.revision, model=f"other-{number}") for number in range(7)]


def silent(ward: Ward) -> None:
    """A destination that has given no answer about one work for long enough, and is asked nothing for now."""
    ward.ask("pacs")
    for other in OTHERS:
        ward.ledger.create_work(other, "digest", ward.time.now())
    ward.pacs.answers = [PeerError("timeout")]
    for _ in range(2):
        with pytest.raises(PeerError):
            ward.inquiry.reason_to_hold(WORK, "pacs")
        ward.time.forward(30)
    assert ward.inquiry.reason_to_hold(WORK, "pacs") is None
    ward.pacs.asked.clear()


def test_what_gives_no_answer_about_one_study_does_not_cost_every_other_one_the_time(ward: Ward) -> None:
    silent(ward)
    for other in OTHERS:
        assert ward.inquiry.reason_to_hold(other, "pacs") is None
    assert ward.pacs.asked == []
    told = ward.events.facts("delivery.unasked")
    assert [one["reason"] for one in told] == ["timeout"] * (1 + len(OTHERS)), "each is told"
    ward.time.forward(61)
    for other in OTHERS:
        assert ward.inquiry.reason_to_hold(other, "pacs") is None
    assert len(ward.pacs.asked) == 1, "one question to see whether it answers again"
    ward.time.forward(61)
    assert ward.inquiry.reason_to_hold(OTHERS[0], "pacs") is None
    assert len(ward.pacs.asked) == 1, "for twice as long now"


def test_one_answer_after_silence_has_everybody_asked_again(ward: Ward) -> None:
    silent(ward)
    ward.time.forward(61)
    ward.pacs.answers = [[SHOWN], PeerError("timeout"), OTHER]
    assert ward.inquiry.reason_to_hold(OTHERS[0], "pacs") is None
    with pytest.raises(PeerError):
        ward.inquiry.reason_to_hold(OTHERS[1], "pacs")
    assert ward.inquiry.reason_to_hold(OTHERS[2], "pacs") == "patient-changed"


def test_one_that_was_away_is_asked_although_it_was_silent_before(ward: Ward) -> None:
    silent(ward)
    ward.pacs.answers = [OTHER]
    ward.inquiry.was_away("pacs")
    assert ward.inquiry.reason_to_hold(OTHERS[0], "pacs") == "patient-changed"


def test_a_question_about_one_study_that_fails_silences_none_about_others(ward: Ward) -> None:
    ward.ask("pacs")
    for other in OTHERS:
        ward.ledger.create_work(other, "digest", ward.time.now())
    for _ in range(2):
        ward.pacs.answers = [error_of(0xC001)]
        with pytest.raises(PeerError):
            ward.inquiry.reason_to_hold(WORK, "pacs")
        ward.pacs.answers = [[SHOWN]]
        assert ward.inquiry.reason_to_hold(OTHERS[0], "pacs") is None
        ward.time.forward(30)
    ward.pacs.answers = [error_of(0xC001)]
    assert ward.inquiry.reason_to_hold(WORK, "pacs") is None
    ward.pacs.answers = [OTHER]
    assert ward.inquiry.reason_to_hold(OTHERS[0], "pacs") == "patient-changed"


def test_where_an_answer_is_required_silence_lets_nothing_go(ward: Ward) -> None:
    ward.ask("pacs", is_required=True)
    ward.pacs.answers = [PeerError("timeout")]
    for _ in range(9):
        with pytest.raises(PeerError):
            ward.inquiry.reason_to_hold(WORK, "pacs")
        ward.time.forward(60)
