"""What every ledger keeps to: SQLite now, PostgreSQL when it comes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicomnode.errors import NodeError, StorageError, StudyError
from dicomnode.storage.keys import WrappedKey
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import QuarantineRow, ResultRow, RevisionRow
from dicomnode.study import (
    TRANSITIONS,
    DeliveryState,
    InstanceRow,
    InstanceState,
    ResultRole,
    WorkKey,
    WorkState,
    World,
)
from tests.unit.storage.samples import OTHER_STUDY, STUDY, at, row

WORK = WorkKey(study_key=STUDY, revision=1, model="ct-lung")


@pytest.fixture(params=["sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / f"{request.param}.ledger") as opened:
        yield opened


ROLES = (ResultRole.SEGMENTATION, ResultRole.REPORT, ResultRole.KEY_IMAGE)


def with_work(ledger: Ledger, key: WorkKey = WORK) -> None:
    ledger.record_instances([row(0, study_key=key.study_key, segment=f"s{key.study_key}")])
    ledger.open_revision(key.study_key, "digest", at(1))
    ledger.create_work(key, "digest", at(2))


def results(*names: str) -> list[ResultRow]:
    return [
        ResultRow(result_id=name, role=role, sop_class_uid="1.2.3", digest=f"d-{name}", length=7)
        for name, role in zip(names, itertools.cycle(reversed(ROLES)))
    ]


# Keys


def test_the_first_wrapped_key_stands(ledger: Ledger) -> None:
    first = WrappedKey(world=World.IDENTITY, wrapping_key_id=b"w", key_id=b"1", wrapped=b"one")
    assert ledger.wrapped_key(STUDY, World.IDENTITY) is None
    assert ledger.create_wrapped_key(STUDY, World.IDENTITY, first) == first
    assert ledger.create_wrapped_key(STUDY, World.IDENTITY, replace(first, wrapped=b"two")) == first
    assert ledger.wrapped_key(STUDY, World.IDENTITY) == first
    assert ledger.wrapped_key(STUDY, World.PSEUDONYM) is None
    ledger.shred_keys(STUDY)
    assert ledger.wrapped_key(STUDY, World.IDENTITY) is None


# Index


def test_the_same_record_again_changes_nothing(ledger: Ledger) -> None:
    rows = [row(number) for number in range(5)]
    assert ledger.record_instances(rows) == tuple(rows)
    assert ledger.record_instances(rows) == tuple(rows)
    assert ledger.record_instances([rows[1], rows[1]]) == (rows[1], rows[1])
    assert ledger.instances(STUDY) == tuple(rows)
    study = ledger.study(STUDY)
    assert study is not None
    assert (study.instances, study.quarantined, study.revision) == (5, 0, 0)
    assert (study.first_received_at, study.last_received_at) == (at(0), at(4))


def test_the_same_uid_again(ledger: Ledger) -> None:
    states = [
        found.state
        for found in ledger.record_instances(
            [row(0, instance="i"), row(1, instance="i"), row(2, instance="i", digest="d1")]
        )
    ]
    assert states == [InstanceState.CURRENT, InstanceState.DUPLICATE, InstanceState.QUARANTINED]
    (late,) = ledger.record_instances([row(3, instance="i", digest="d1")])
    assert late.state is InstanceState.QUARANTINED
    study = ledger.study(STUDY)
    assert study is not None
    assert (study.instances, study.quarantined) == (1, 2)
    assert [found.address.number for found in ledger.instances(STUDY, InstanceState.QUARANTINED)] == [2, 3]
    assert len(ledger.instances(STUDY, None)) == 4


def test_the_same_uid_in_another_study_is_an_input_there(ledger: Ledger) -> None:
    ledger.record_instances([row(0, instance="i")])
    (other,) = ledger.record_instances([row(0, instance="i", study_key=OTHER_STUDY, segment="s1")])
    assert other.state is InstanceState.CURRENT


def test_a_new_header_replaces_what_was_current(ledger: Ledger) -> None:
    first, second = ledger.record_instances([row(0, instance="i"), row(1, instance="i", digest="d1")])
    with ledger.transaction() as connection:
        ledger.set_instance_state(STUDY, first.address, InstanceState.REPLACED, connection=connection)
        ledger.set_instance_state(STUDY, second.address, InstanceState.CURRENT, connection=connection)
    (third,) = ledger.record_instances([row(2, instance="i", digest="d1")])
    assert third.state is InstanceState.DUPLICATE
    assert [found.address.number for found in ledger.instances(STUDY)] == [1]
    with pytest.raises(NodeError) as caught:
        ledger.set_instance_state(OTHER_STUDY, first.address, InstanceState.CURRENT)
    assert caught.value.code == "internal"


def test_what_the_index_knows_of_a_segment(ledger: Ledger) -> None:
    rows = [row(0), row(1), row(3), row(0, segment="s1")]
    ledger.record_instances(rows)
    assert ledger.known_addresses("s0") == tuple(each.address for each in rows[:3])
    assert [ledger.known_records(segment) for segment in ("s0", "s1", "s2")] == [2, 1, 0]


def test_a_record_is_of_one_study(ledger: Ledger) -> None:
    ledger.record_instances([row(0)])
    with pytest.raises(NodeError) as caught:
        ledger.record_instances([row(0, study_key=OTHER_STUDY)])
    assert caught.value.code == "internal"
    assert ledger.study(OTHER_STUDY) is None


def test_a_large_batch(ledger: Ledger) -> None:
    rows = [row(number) for number in range(1200)]
    assert ledger.record_instances(rows) == tuple(rows)
    assert ledger.record_instances([]) == ()


# Studies


def test_studies_newest_first_with_all_that_is_under_way(ledger: Ledger) -> None:
    with_work(ledger)
    ledger.record_stage(WORK, "infer", 2.5)
    ledger.record_results(WORK, results("a"), ["pacs"], at(3))
    ledger.record_instances([row(9, study_key=OTHER_STUDY, segment="s1")])
    newest, oldest = ledger.studies()
    assert (newest.study_key, newest.works) == (OTHER_STUDY, ())
    assert oldest == ledger.study(STUDY)
    assert oldest.revision == 1
    (work,) = oldest.works
    assert work == ledger.work(WORK)
    assert work.stages == {"infer": 2.5}
    assert work.deliveries == ledger.deliveries(WORK)
    assert [found.study_key for found in ledger.studies(limit=1)] == [OTHER_STUDY]
    assert ledger.study("ef" * 16) is None


def test_the_number_of_queries_does_not_grow_with_the_studies(ledger: Ledger) -> None:
    from sqlalchemy import event

    counts = []
    for number in range(3):
        with_work(ledger, WorkKey(study_key=f"{number:032x}", revision=1, model="m"))
        asked: list[str] = []
        event.listen(ledger.engine, "before_cursor_execute", lambda *a, asked=asked: asked.append(a[2]))
        assert len(ledger.studies()) == number + 1
        counts.append(len(asked))
    assert counts[0] == counts[1] == counts[2] <= 8


# Revisions


def test_revisions(ledger: Ledger) -> None:
    ledger.record_instances([row(0)])
    assert ledger.latest_revision(STUDY) is None
    assert ledger.open_revision(STUDY, "one", at(1)) == (1, True)
    assert ledger.open_revision(STUDY, "one", at(2)) == (1, False)
    assert ledger.open_revision(STUDY, "two", at(3)) == (2, True)
    assert ledger.open_revision(STUDY, "one", at(4)) == (3, True)
    assert [found.revision for found in ledger.unsettled()] == [1, 2, 3]
    ledger.settle(STUDY, 3, at(5))
    ledger.settle(STUDY, 3, at(6))
    expected = RevisionRow(
        study_key=STUDY, revision=3, input_digest="one", opened_at=at(4), settled_at=at(5), records=1
    )
    assert ledger.latest_revision(STUDY) == expected
    assert [found.revision for found in ledger.unsettled()] == [1, 2]
    with pytest.raises(NodeError):
        ledger.settle(STUDY, 4, at(7))


# Works


def test_a_work_is_made_once(ledger: Ledger) -> None:
    with_work(ledger)
    ledger.set_work_state(WORK, WorkState.PREPARING, at=at(3))
    ledger.create_work(WORK, "digest", at(9))
    work = ledger.work(WORK)
    assert work is not None
    assert (work.state, work.created_at, work.input_digest) == (WorkState.PREPARING, at(2), "digest")
    assert ledger.work(replace(WORK, model="other")) is None


def test_every_transition_of_the_table_and_no_other(ledger: Ledger) -> None:
    ledger.record_instances([row(0)])
    ledger.open_revision(STUDY, "digest", at(1))
    paths: dict[WorkState, list[WorkState]] = {WorkState.QUEUED: []}
    waiting = [WorkState.QUEUED]
    while waiting:
        state = waiting.pop(0)
        for following in TRANSITIONS[state] - paths.keys():
            paths[following] = [*paths[state], following]
            waiting.append(following)
    with ledger.transaction() as connection:
        for old, new in itertools.product(WorkState, repeat=2):
            key = replace(WORK, model=f"{old}-{new}")
            ledger.create_work(key, "digest", at(2), connection=connection)
            for state in paths[old]:
                ledger.set_work_state(key, state, at=at(3), connection=connection)
            if new in TRANSITIONS[old] or new is old:
                ledger.set_work_state(key, new, at=at(4), connection=connection)
            else:
                with pytest.raises(NodeError) as caught:
                    ledger.set_work_state(key, new, at=at(4), connection=connection)
                assert caught.value.code == "transition-forbidden"
    assert len(ledger.works()) == len(WorkState) ** 2
    assert {work.state for work in ledger.works([WorkState.DONE])} == {WorkState.DONE}


def test_reason_facts_and_the_end_of_a_work(ledger: Ledger) -> None:
    with_work(ledger)
    ledger.set_work_state(WORK, WorkState.PREPARING, at=at(3), facts={"slices": 20})
    ledger.set_work_state(WORK, WorkState.FAILED, at=at(4), reason="internal", facts={"kind": "x"})
    ledger.set_work_state(WORK, WorkState.FAILED, at=at(5))
    work = ledger.work(WORK)
    assert work is not None
    assert (work.reason, work.facts, work.settled_at) == ("internal", {"slices": 20, "kind": "x"}, at(4))
    ledger.set_work_state(WORK, WorkState.DELIVERING, at=at(6))
    work = ledger.work(WORK)
    assert work is not None
    assert (work.reason, work.settled_at) == (None, None)
    with pytest.raises(NodeError):
        ledger.set_work_state(replace(WORK, revision=2), WorkState.PREPARING, at=at(7))


def test_the_last_run_of_a_stage_stands(ledger: Ledger) -> None:
    with_work(ledger)
    for seconds in (9.0, 1.5):
        ledger.record_stage(WORK, "infer", seconds)
    ledger.record_stage(WORK, "encode", 0.5)
    work = ledger.work(WORK)
    assert work is not None
    assert work.stages == {"infer": 1.5, "encode": 0.5}


# Results


def test_results_and_one_delivery_for_each_destination(ledger: Ledger) -> None:
    with_work(ledger)
    rows = results("a", "b", "c")
    for _ in range(2):
        ledger.record_results(WORK, rows, ["pacs", "archive"], at(3))
    assert [found.role for found in ledger.results(WORK)] == list(ROLES)
    assert set(ledger.results(WORK)) == set(rows)
    deliveries = ledger.deliveries(WORK)
    assert [(each.destination, each.role) for each in deliveries] == [
        (destination, role) for destination in ("archive", "pacs") for role in ROLES
    ]
    assert {(each.state, each.attempts, each.status) for each in deliveries} == {(DeliveryState.WAITING, 0, None)}
    assert ledger.work_of_result("b") == WORK
    assert ledger.work_of_result("z") is None


def test_a_delivery_to_one_destination_is_added_once(ledger: Ledger) -> None:
    with_work(ledger)
    ledger.record_results(WORK, [replace(one, form="binary") for one in results("a", "b")], [], at(3))
    assert ledger.deliveries(WORK) == ()
    for _ in range(2):
        ledger.add_deliveries("pacs", ["a"], at(4))
    (row,) = ledger.deliveries(WORK)
    assert (row.result_id, row.destination, row.form, row.state) == ("a", "pacs", "binary", DeliveryState.WAITING)


def test_what_destinations_take_is_remembered_and_learnt_anew(ledger: Ledger) -> None:
    assert ledger.capabilities("pacs") == ()
    ledger.learn("pacs", "PACS@host:104", {"1.2": True, "1.3": False}, at(1))
    ledger.learn("other", "OTHER@host:104", {"1.2": False}, at(1))
    ledger.learn("pacs", "PACS@host:105", {"1.3": True}, at(2))
    found = [(row.sop_class_uid, row.supported, row.peer, row.at) for row in ledger.capabilities("pacs")]
    assert found == [("1.2", True, "PACS@host:104", at(1)), ("1.3", True, "PACS@host:105", at(2))]


def test_recording_again_does_not_undo_a_delivery(ledger: Ledger) -> None:
    with_work(ledger)
    ledger.record_results(WORK, results("a"), ["pacs"], at(3))
    refused = {"state": DeliveryState.REFUSED, "status": 0xA700, "reason": "peer-out-of-resources"}
    ledger.record_delivery("a", "pacs", at=at(4), **refused)  # type: ignore[arg-type]
    ledger.record_delivery("a", "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=at(5))
    ledger.record_results(WORK, results("a"), ["pacs"], at(6))
    (delivery,) = ledger.deliveries(WORK)
    assert (delivery.state, delivery.status, delivery.reason) == (DeliveryState.CONFIRMED, 0, None)
    assert (delivery.attempts, delivery.updated_at) == (2, at(5))
    with pytest.raises(NodeError):
        ledger.record_delivery("a", "nowhere", state=DeliveryState.CONFIRMED, status=0, reason=None, at=at(7))


def test_the_same_name_never_carries_other_content(ledger: Ledger) -> None:
    with_work(ledger)
    ledger.record_results(WORK, results("a"), ["pacs"], at(3))
    changed = [*results("b"), replace(results("a")[0], digest="other")]
    with pytest.raises(StudyError) as caught:
        ledger.record_results(WORK, changed, ["pacs"], at(4))
    assert caught.value.code == "result-invalid"
    assert [found.result_id for found in ledger.results(WORK)] == ["a"]
    assert len(ledger.deliveries(WORK)) == 1


# Vault, quarantine, retention


def test_the_vault(ledger: Ledger) -> None:
    assert ledger.vault(STUDY, "5e", 1) is None
    for sealed in (b"one", b"two"):
        ledger.put_vault(STUDY, "5e", 1, sealed)
    ledger.put_vault(STUDY, "5e", 2, b"three")
    assert ledger.vault(STUDY, "5e", 1) == b"two"
    assert ledger.vault(STUDY, "5e", 2) == b"three"


def test_quarantine(ledger: Ledger) -> None:
    address = row(7).address
    for _ in range(2):
        ledger.quarantine(STUDY, "instance", "sealed-damaged", at(1), address=address)
    for _ in range(2):
        ledger.quarantine(OTHER_STUDY, "result", "result-invalid", at(2))
    expected = QuarantineRow(study_key=STUDY, what="instance", reason="sealed-damaged", at=at(1), address=address)
    assert ledger.quarantined(STUDY) == (expected,)
    assert [found.what for found in ledger.quarantined()] == ["instance", "result"]


def test_purged_is_gone_whole(ledger: Ledger) -> None:
    for study_key in (STUDY, OTHER_STUDY):
        key = replace(WORK, study_key=study_key)
        with_work(ledger, key)
        ledger.record_stage(key, "infer", 1.0)
        ledger.record_results(key, results(study_key), ["pacs"], at(3))
        ledger.put_vault(study_key, "5e", 1, b"sealed")
        ledger.quarantine(study_key, "instance", "sealed-damaged", at(1))
        wrapped = WrappedKey(world=World.IDENTITY, wrapping_key_id=b"w", key_id=b"1", wrapped=b"one")
        ledger.create_wrapped_key(study_key, World.IDENTITY, wrapped)
    kept = ledger.study(OTHER_STUDY)
    for _ in range(2):
        ledger.purge_study(STUDY)
    assert ledger.study(STUDY) is None
    assert ledger.instances(STUDY, None) == ()
    assert ledger.work(WORK) is None
    assert ledger.results(WORK) == ()
    assert ledger.vault(STUDY, "5e", 1) is None
    assert ledger.quarantined(STUDY) == ()
    assert ledger.wrapped_key(STUDY, World.IDENTITY) is None
    assert kept == ledger.study(OTHER_STUDY)
    assert kept is not None
    assert kept.works


def test_expired(ledger: Ledger) -> None:
    ledger.record_instances([row(0), row(5), row(3, study_key=OTHER_STUDY, segment="s1")])
    assert ledger.expired(at(3)) == ()
    assert ledger.expired(at(4)) == (OTHER_STUDY,)
    assert ledger.expired(at(6)) == (OTHER_STUDY, STUDY)


# Transactions


def test_a_callers_transaction_is_one(ledger: Ledger) -> None:
    def close_set() -> None:
        with ledger.transaction() as connection:
            ledger.record_instances([row(0)], connection=connection)
            ledger.open_revision(STUDY, "digest", at(1), connection=connection)
            ledger.create_work(WORK, "digest", at(1), connection=connection)
            assert ledger.work(WORK, connection=connection)
            raise StudyError("no-model")

    with pytest.raises(StudyError):
        close_set()
    assert ledger.study(STUDY) is None
    assert ledger.work(WORK) is None


def test_what_the_database_refuses_has_a_code_and_no_text(ledger: Ledger) -> None:
    with pytest.raises(StorageError) as caught:
        ledger.create_work(WORK, "SECRET", at(1))  # no such revision
    assert caught.value.code == "ledger-failed"
    assert str(caught.value) == "ledger-failed: the ledger cannot be read or written"
    assert caught.value.__suppress_context__
    naive: InstanceRow = replace(row(0), received_at=at(0).replace(tzinfo=None))
    with pytest.raises(StorageError):
        ledger.record_instances([naive])


def test_a_result_is_issued_once(ledger: Ledger) -> None:
    assert ledger.issue_time("key", at(1)) == at(1)
    assert ledger.issue_time("key", at(2)) == at(1)
    assert ledger.issue_time("other", at(3)) == at(3)


def test_studies_whose_input_is_not_settled(ledger: Ledger) -> None:
    ledger.record_instances([row(0), row(0, study_key=OTHER_STUDY, segment="s1")])
    ledger.open_revision(STUDY, "digest", at(1))
    assert set(ledger.open_studies()) == {(STUDY, at(0)), (OTHER_STUDY, at(0))}
    ledger.settle(STUDY, 1, at(-60))  # the clock was set back
    assert ledger.open_studies() == ((OTHER_STUDY, at(0)),)
    ledger.record_instances([row(1)])
    assert {study_key for study_key, _ in ledger.open_studies()} == {STUDY, OTHER_STUDY}
