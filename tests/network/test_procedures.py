"""Procedure steps and availability notifications from pynetdicom: what is answered, and what is known afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import Association
from pynetdicom.presentation import build_context

from dicomnode.encoded import Limits, encode_dataset
from dicomnode.network import dimse
from dicomnode.network.dimse import Command
from dicomnode.network.intake import Peer
from dicomnode.network.negotiation import Agreed
from dicomnode.network.procedures import INSTANCE_AVAILABILITY, PROCEDURE_STEP, Step, procedure_services, reading
from dicomnode.network.session import Call, Reply
from dicomnode.network.transport import Entity
from dicomnode.network_sections import PeerRule
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import ResultRow
from dicomnode.study import RETRACTION, WISHED, DeliveryState, ResultRole, WorkKey, WorkState, blind_key
from dicomnode.workflow.evidence import Evidence, EvidenceBook
from tests.network.nodes import Node, node
from tests.unit.network.samples import EXPLICIT_LITTLE
from tests.unit.workflow.samples import KEY, Events, Time, row

STUDY_UID, STEP_UID = "1.2.3", "1.2.840.99.1"
STUDY = blind_key(KEY, "study", STUDY_UID)


class World:
    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.open(folder / "ledger.sqlite")
        self.events, self.woken, self.flushed = Events(), 0, list[str]()
        self.book = self.again()

    def again(self) -> EvidenceBook:
        """The book as a restart makes it."""
        return EvidenceBook(
            self.ledger,
            derivation_key=KEY,
            flush=self.flushed.append,
            wake=self.wake,
            clock=Time().now,
            emit=self.events,
        )

    def wake(self) -> None:
        self.woken += 1

    def arrive(self, *uids: str) -> None:
        rows = [
            row(number, study_key=STUDY, instance=blind_key(KEY, "instance", uid)) for number, uid in enumerate(uids)
        ]
        self.ledger.record_instances(rows)

    def deliver(self, results: dict[str, ResultRole], facts: dict[str, str] | None = None) -> None:
        """Results of a work, which is called as they are, are on their way."""
        now, key = Time().now(), WorkKey(study_key=STUDY, revision=1, model="".join(results))
        self.arrive("1.1")
        self.ledger.open_revision(STUDY, "digest", now)
        self.ledger.create_work(key, "digest", now)
        made = [
            ResultRow(result_id=name, role=role, sop_class_uid="1.2", digest="d", length=1)
            for name, role in results.items()
        ]
        self.ledger.record_results(key, made, ["pacs"], now)
        for state in ("preparing", "inferring", "encoding", "ready", "delivering"):
            self.ledger.set_work_state(key, WorkState(state), at=now, facts=facts)

    def confirm(self, name: str) -> None:
        self.ledger.record_delivery(name, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=Time().now())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.ledger.close()


@contextmanager
def modality(world: World, uid: str = PROCEDURE_STEP) -> Iterator[tuple[Association, Node]]:
    with node(services=procedure_services(world.book, Limits())) as target:
        entity = Entity("MODALITY")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
        association = entity.associate(target.host, target.port, [build_context(uid)])
        assert association.is_established
        yield association, target
        association.release()
        association.join(10)


def step(status: str | None = "IN PROGRESS", *studies: str) -> Dataset:
    data = Dataset()
    if status:
        data.PerformedProcedureStepStatus = status
    items = []
    for uid in studies or (STUDY_UID,):
        item = Dataset()
        item.StudyInstanceUID = UID(uid)
        items.append(item)
    data.ScheduledStepAttributesSequence = items
    data.PatientName = "Doe^Jane"
    data.PerformedSeriesSequence = []
    return data


def end(status: str, images: tuple[str, ...], others: tuple[str, ...] = ()) -> Dataset:
    data = Dataset()
    data.PerformedProcedureStepStatus = status
    series = Dataset()
    series.SeriesInstanceUID = UID("1.2.3.1")
    series.ReferencedImageSequence = [reference(uid) for uid in images]
    series.ReferencedNonImageCompositeSOPInstanceSequence = [reference(uid) for uid in others]
    data.PerformedSeriesSequence = [series]
    return data


def break_off(world: World, code: tuple[str, str]) -> None:
    """A step of one image is discontinued for a reason."""
    reason = Dataset()
    reason.CodeValue, reason.CodingSchemeDesignator = code
    change = end("DISCONTINUED", ("1.1",))
    change.PerformedProcedureStepDiscontinuationReasonCodeSequence = [reason]
    with modality(world) as (association, _):
        assert status(association.send_n_create(step(), PROCEDURE_STEP, STEP_UID)) == 0
        assert status(association.send_n_set(change, PROCEDURE_STEP, STEP_UID)) == 0


def reference(uid: str, availability: str | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
    item.ReferencedSOPInstanceUID = UID(uid)
    if availability:
        item.InstanceAvailability = availability
    return item


def status(answer: tuple[Dataset, Any]) -> int:
    return int(answer[0].Status)


@pytest.mark.parametrize("final", ["COMPLETED", "DISCONTINUED"])
def test_a_step_from_its_beginning_to_its_end(world: World, final: str) -> None:
    assert world.book.of(STUDY) is None
    assert world.flushed == [], "nobody waits for the index of a study of which nothing is announced"
    with modality(world) as (association, target):
        assert status(association.send_n_create(step(), PROCEDURE_STEP, STEP_UID)) == 0
        assert world.book.of(STUDY) == Evidence(under_way=1, announced=0, missing=0)
        assert status(association.send_n_set(end(final, ("1.1", "1.2"), ("1.3",)), PROCEDURE_STEP, STEP_UID)) == 0
        broken = int(final == "DISCONTINUED")
        assert world.book.of(STUDY) == Evidence(under_way=0, announced=3, missing=3, broken_off=broken)
        world.arrive("1.1", "1.3")
        assert world.book.of(STUDY) == Evidence(under_way=0, announced=3, missing=1, broken_off=broken)
        world.arrive("1.1", "1.3", "1.2")
        found = world.again().of(STUDY)
        assert found is not None
        assert found.is_exact == found.is_whole == (final == "COMPLETED"), "a restart knows it too"
        world.arrive("1.1", "1.3", "1.2", "1.4")
        assert world.book.of(STUDY) == Evidence(under_way=0, announced=3, missing=0, unnamed=1, broken_off=broken)
        assert world.flushed == [STUDY] * 5
        assert "Doe" not in repr(target.events.events) + repr(world.events.seen)
    assert world.woken == 2


@pytest.mark.parametrize(
    ("code", "is_doubted"), [(("110514", "DCM"), True), (("110513", "DCM"), False), (("110514", "99X"), False)]
)
def test_a_step_that_was_begun_for_another_patient_holds_what_was_made(
    world: World, code: tuple[str, str], is_doubted: bool
) -> None:
    """Incorrect Worklist Entry Selected (PS3.16 CID 9300)."""
    world.deliver({"a": ResultRole.REPORT})
    world.ledger.create_work(WorkKey(study_key=STUDY, revision=1, model="b"), "digest", Time().now())
    break_off(world, code)
    assert world.book.of(STUDY) == Evidence(under_way=0, announced=1, missing=0, broken_off=1)
    assert world.ledger.is_of_wrong_entry(STUDY) == is_doubted
    found = [(one.state.value, one.reason) for one in world.ledger.works()]
    held = ("held", "worklist-entry-wrong") if is_doubted else ("delivering", None)
    assert sorted(found, key=str) == sorted([held, ("queued", None)], key=str)
    said = [{"study": STUDY, "reason": "worklist-entry-wrong", "works": 0}] if is_doubted else []
    assert world.events.facts("study.doubted") == said


def test_what_takes_results_back_or_was_sent_already_is_not_held_for_the_wrong_entry(world: World) -> None:
    """A work that was retracted, of which the note waits still; one whose results were sent, and are to be committed."""
    world.deliver({"a": ResultRole.REPORT, "b": ResultRole.REJECTION}, facts={RETRACTION: WISHED})
    world.deliver({"c": ResultRole.REPORT})
    world.confirm("c")
    world.deliver({"d": ResultRole.REPORT, "e": ResultRole.REPORT})
    world.confirm("d")
    world.deliver({"f": ResultRole.REPORT, "g": ResultRole.REJECTION})
    world.confirm("f")
    break_off(world, ("110514", "DCM"))
    states = {one.key.model: one.state.value for one in world.ledger.works()}
    assert states == {"ab": "delivering", "c": "delivering", "de": "held", "fg": "delivering"}
    assert world.events.facts("study.doubted") == [{"study": STUDY, "reason": "worklist-entry-wrong", "works": 3}]


def test_what_is_wrong_has_its_own_status(world: World) -> None:
    with modality(world) as (association, _):
        create = association.send_n_create
        assert status(create(step("COMPLETED"), PROCEDURE_STEP, STEP_UID)) == 0x0106
        assert status(create(step(None), PROCEDURE_STEP, STEP_UID)) == 0x0120
        assert status(association.send_n_set(end("COMPLETED", ()), PROCEDURE_STEP, STEP_UID)) == 0x0112
        assert status(create(step(), PROCEDURE_STEP, STEP_UID)) == 0
        assert status(create(step(), PROCEDURE_STEP, STEP_UID)) == 0x0111
        assert status(association.send_n_set(end("FINISHED", ()), PROCEDURE_STEP, STEP_UID)) == 0x0106
        assert status(association.send_n_set(end("COMPLETED", ("1.1",)), PROCEDURE_STEP, STEP_UID)) == 0
        assert status(association.send_n_set(end("COMPLETED", ("9.9",)), PROCEDURE_STEP, STEP_UID)) == 0x0110
    assert world.book.of(STUDY) == Evidence(under_way=0, announced=1, missing=1)


@pytest.mark.parametrize(
    ("rule", "station", "is_told"),
    [
        (None, "CT1", True),
        ({}, " CT1 ", True),
        ({"modality": True}, "CT1", False),
        ({"modality": False}, "CT1", False),
        (None, "CT2", False),  # a PPS Manager passes on what others perform
        (None, "", False),
    ],
)
def test_a_modality_that_nobody_declared_is_told_once(
    world: World, rule: dict[str, bool] | None, station: str, is_told: bool
) -> None:
    """What it is by its own word: it changes nothing of what is kept (decision 34), but somebody has to say it."""
    said = PeerRule.model_validate({"name": "ct1", **rule}) if rule is not None else None
    service = procedure_services(world.book, Limits())[PROCEDURE_STEP, dimse.N_CREATE_RQ]
    data = step()
    data.PerformedStationAETitle = station
    for number in range(2):
        peer = Peer(
            calling_ae_title="CT1", called_ae_title="NODE", address="10.0.0.1", association_id="ab" * 8, rule=said
        )
        command = dimse.Command(command_field=dimse.N_CREATE_RQ, affected_sop_instance_uid=f"{STEP_UID}.{number}")
        context = Agreed(abstract_syntax=PROCEDURE_STEP, transfer_syntax=EXPLICIT_LITTLE)
        call = Call(command, context, encode_dataset(data, EXPLICIT_LITTLE), peer)
        assert [reply.status for reply in service(call)] == [0]
    assert world.events.facts("modality.undeclared") == [{"calling_ae_title": "CT1"}] * is_told


def test_modalities_that_nobody_declared_are_told_up_to_a_number(world: World) -> None:
    for number in range(150):
        world.book.begin(
            Step(
                sop_instance_uid=f"1.2.{number}",
                study_instance_uids=(STUDY_UID,),
                state=None,
                instances=None,
                undeclared=f"CT{number}",
            )
        )
    assert len(world.events.facts("modality.undeclared")) == 100


def test_a_step_without_a_uid_is_given_one(world: World) -> None:
    service = procedure_services(world.book, Limits())[PROCEDURE_STEP, dimse.N_CREATE_RQ]
    command = dimse.Command(command_field=dimse.N_CREATE_RQ, affected_sop_class_uid=PROCEDURE_STEP)
    context = Agreed(abstract_syntax=PROCEDURE_STEP, transfer_syntax=EXPLICIT_LITTLE)
    peer = Peer(calling_ae_title="A", called_ae_title="B", address="::1", association_id="a1")
    (reply,) = service(Call(command, context, encode_dataset(step(), EXPLICIT_LITTLE), peer))
    assert reply.status == 0
    assert reply.sop_instance_uid.startswith("2.25.")


def test_an_unreadable_data_set_ends_no_association(world: World) -> None:
    with modality(world) as (association, target):
        data = step()
        data.add_new(0x00400340, "OB", b"\x01\x02")
        assert status(association.send_n_create(data, PROCEDURE_STEP, STEP_UID)) in (0, 0x0110)
        assert status(association.send_n_create(step(), PROCEDURE_STEP, "1.2.9")) == 0
        assert target.events.named("internal") == []


def test_a_step_of_two_studies_speaks_of_progress_alone(world: World) -> None:
    other = blind_key(KEY, "study", "1.2.4")
    with modality(world) as (association, _):
        association.send_n_create(step("IN PROGRESS", STUDY_UID, "1.2.4"), PROCEDURE_STEP, STEP_UID)
        assert world.book.of(other) == Evidence(under_way=1, announced=0, missing=0)
        association.send_n_set(end("COMPLETED", ("1.1",)), PROCEDURE_STEP, STEP_UID)
    assert world.book.of(STUDY) == world.book.of(other) == Evidence(under_way=0, announced=0, missing=0)


def test_a_notification_names_what_can_be_had(world: World) -> None:
    data = Dataset()
    data.StudyInstanceUID = UID(STUDY_UID)
    series = Dataset()
    series.SeriesInstanceUID = UID("1.2.3.1")
    series.ReferencedSOPSequence = [reference("1.1", "ONLINE"), reference("1.2", "UNAVAILABLE")]
    data.ReferencedSeriesSequence = [series]
    with modality(world, INSTANCE_AVAILABILITY) as (association, _):
        assert status(association.send_n_create(data, INSTANCE_AVAILABILITY, "1.2.5")) == 0
        assert status(association.send_n_create(data, INSTANCE_AVAILABILITY, "1.2.5")) == 0x0111
        del data.StudyInstanceUID
        assert status(association.send_n_create(data, INSTANCE_AVAILABILITY, "1.2.6")) == 0x0120
    assert world.book.of(STUDY) == Evidence(under_way=0, announced=1, missing=1)


def test_a_study_that_is_shredded_leaves_nothing(world: World) -> None:
    with modality(world) as (association, _):
        association.send_n_create(step(), PROCEDURE_STEP, STEP_UID)
    world.ledger.purge_study(STUDY)
    assert world.book.of(STUDY) is None


def test_without_the_service_its_context_is_refused() -> None:
    with node() as target:
        entity = Entity("MODALITY")
        association = entity.associate(target.host, target.port, [build_context(PROCEDURE_STEP)])
        assert not association.is_established
        assert [one.result for one in association.rejected_contexts] == [3]


def test_long_data_sets_are_read_one_at_a_time_and_no_short_one_waits() -> None:
    """Each keeps busy whoever answers for objects, too: of many at once others would wait for all."""
    command = Command(command_field=dimse.N_CREATE_RQ, message_id=1, data_set_type=1)
    context = Agreed(abstract_syntax=PROCEDURE_STEP, transfer_syntax=EXPLICIT_LITTLE)
    peer = Peer(calling_ae_title="CT1", called_ae_title="NODE", address="127.0.0.1", association_id="a")
    long = Dataset()
    long.EncapsulatedDocument = bytes(200_000)
    begun, ended, together = threading.Semaphore(0), threading.Event(), []

    def act(call: Call, data: Dataset) -> Reply:
        together.append(len(call.data_set))
        begun.release()
        if "EncapsulatedDocument" in data:
            assert ended.wait(20)
        return Reply(0)

    service = reading(Limits(), act)

    def ask(data: Dataset) -> list[Reply]:
        return list(service(Call(command, context, encode_dataset(data, EXPLICIT_LITTLE), peer)))

    threads = [threading.Thread(target=ask, args=(long,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert begun.acquire(timeout=20)
    assert ask(Dataset()) == [Reply(0)]
    assert begun.acquire(timeout=20)
    assert not begun.acquire(timeout=0.2)
    assert len(together) == 2, "a long one and the short one"
    ended.set()
    for thread in threads:
        thread.join(20)
    assert len(together) == 3
