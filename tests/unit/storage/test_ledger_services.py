from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Table, event

from dicomnode.storage import schema
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import CircuitRow
from dicomnode.study import CircuitState
from tests.unit.workflow.samples import OTHER_STUDY, STUDY, row

NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


def test_the_size_of_a_study(ledger: Ledger) -> None:
    assert ledger.size_of_study(STUDY) == (0, 0)
    ledger.record_instances([row(1), row(2)])
    assert ledger.size_of_study(STUDY) == (2, 6000)


def test_what_is_stored_of_an_instance_is_known_by_its_digests(ledger: Ledger) -> None:
    one = row(1)
    assert ledger.digests_of(STUDY, one.instance_key) == frozenset()
    ledger.record_instances([one, row(2)])
    assert ledger.digests_of(STUDY, one.instance_key) == {one.digest}
    assert ledger.digests_of(OTHER_STUDY, one.instance_key) == frozenset()


def test_the_most_urgent_sender_stands(ledger: Ledger) -> None:
    assert ledger.rank_of_study(STUDY) is None
    for peer, priority in (("a", "research"), ("b", "stat"), ("c", "routine")):
        ledger.rank_study(STUDY, peer, priority)
    assert ledger.rank_of_study(STUDY) == ("b", "stat")


def test_what_a_rule_says_stands_whoever_sends_more_until_no_rule_says_it(ledger: Ledger) -> None:
    ledger.rank_study(STUDY, "ct", "stat")
    ledger.set_priority(STUDY, "research")
    ledger.rank_study(STUDY, "ct", "stat")
    assert ledger.priority(STUDY) == 2
    ledger.set_priority(STUDY, None)
    assert ledger.priority(STUDY) == 0, "its senders' own"
    ledger.set_priority(STUDY, "stat")
    ledger.set_priority(STUDY, None)
    assert ledger.rank_of_study(STUDY) == ("ct", "stat")
    ledger.set_priority(OTHER_STUDY, None)
    assert ledger.rank_of_study(OTHER_STUDY) is None


def test_a_step_and_what_it_announces(ledger: Ledger) -> None:
    ledger.record_instances([row(1)])
    assert ledger.evidence(STUDY) == (0, 0, 0, 0, 0)
    assert ledger.begin_procedure("p", [STUDY], "in-progress", NOW)
    assert not ledger.begin_procedure("p", [STUDY], "in-progress", NOW)
    assert ledger.evidence(STUDY) == (1, 1, 0, 0, 1)
    ledger.update_procedure("p", "completed", [row(1).instance_key, row(2).instance_key], NOW)
    assert ledger.evidence(STUDY) == (1, 0, 2, 1, 0)
    ledger.record_instances([row(2)])
    assert ledger.evidence(STUDY) == (1, 0, 2, 0, 0)
    ledger.record_instances([row(3)])
    assert ledger.evidence(STUDY) == (1, 0, 2, 0, 1), "one that nobody named"
    assert [(one.study_key, one.state) for one in ledger.procedure("p")] == [(STUDY, "completed")]


def test_a_step_of_two_studies_announces_nothing(ledger: Ledger) -> None:
    ledger.begin_procedure("p", [STUDY, OTHER_STUDY], "in-progress", NOW)
    ledger.update_procedure("p", "completed", ["1" * 32], NOW)
    assert ledger.evidence(STUDY) == ledger.evidence(OTHER_STUDY) == (1, 0, 0, 0, 0)


def test_steps_end_with_their_study_or_their_time(ledger: Ledger) -> None:
    for name, study in (("p", STUDY), ("q", OTHER_STUDY)):
        ledger.begin_procedure(name, [study], "completed", NOW)
        ledger.update_procedure(name, None, ["1" * 32], NOW)
        ledger.rank_study(study, "a", "stat")
    ledger.purge_study(STUDY)
    assert (ledger.evidence(STUDY)[0], ledger.evidence(OTHER_STUDY)[0]) == (0, 1)
    assert ledger.rank_of_study(STUDY) is None
    ledger.forget_procedures(NOW)
    assert ledger.evidence(OTHER_STUDY)[0] == 1
    ledger.forget_procedures(NOW + timedelta(seconds=1))
    assert ledger.evidence(OTHER_STUDY)[0] == 0


def test_transactions_of_storage_commitment(ledger: Ledger) -> None:
    assert ledger.begin_commitment("t", NOW)
    assert not ledger.begin_commitment("t", NOW)
    later = NOW + timedelta(seconds=5)
    assert ledger.move_commitment("t", "waiting", attempts=1, due_at=later)
    assert not ledger.move_commitment("u", "waiting", attempts=1, due_at=later)
    (found,) = ledger.commitments()
    assert (found.state, found.attempts, found.created_at, found.due_at) == ("waiting", 1, NOW, later)
    assert ledger.commitment("t") == found
    ledger.end_commitment("t")
    assert ledger.commitment("t") is None
    assert ledger.commitments() == ()


@contextmanager
def beaten_to(ledger: Ledger, table: Table, **row: Any) -> Iterator[None]:
    """Another host of one ledger enters a row at the last moment before ours (what SQLite alone never lets happen)."""
    came: list[str] = []

    def before(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith(f"INSERT INTO {table.name} ") and not came:
            came.append(statement)
            connection.execute(table.insert(), row)

    event.listen(ledger.engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(ledger.engine, "before_cursor_execute", before)
    assert came


def test_of_two_who_begin_a_commitment_at_once_one_does(ledger: Ledger) -> None:
    theirs = {"transaction_key": "t", "state": "begun", "attempts": 3, "created_at": NOW, "due_at": NOW}
    with beaten_to(ledger, schema.commitments, **theirs):
        assert not ledger.begin_commitment("t", NOW)
    found = ledger.commitment("t")
    assert found is not None
    assert found.attempts == 3


def test_of_two_who_begin_a_step_at_once_one_does(ledger: Ledger) -> None:
    theirs = {"procedure_key": "p", "study_key": STUDY, "state": "completed", "updated_at": NOW}
    with beaten_to(ledger, schema.procedures, **theirs):
        assert not ledger.begin_procedure("p", [STUDY], "in-progress", NOW)
    assert [one.state for one in ledger.procedure("p")] == ["completed"]


def test_of_two_who_learn_of_a_destination_at_once_the_last_one_stands(ledger: Ledger) -> None:
    theirs = {"destination": "pacs", "sop_class_uid": "1.2", "peer": "A", "supported": False, "at": NOW}
    with beaten_to(ledger, schema.capabilities, **theirs):
        ledger.learn("pacs", "B", {"1.3": True, "1.2": True}, NOW)
    assert [(one.sop_class_uid, one.peer, one.supported) for one in ledger.capabilities("pacs")] == [
        ("1.2", "B", True),
        ("1.3", "B", True),
    ]
    ledger.learn("pacs", "B", {}, NOW)


def test_of_two_who_tell_how_a_destination_fares_at_once_the_last_one_stands(ledger: Ledger) -> None:
    ours = CircuitRow(
        destination="pacs", state=CircuitState.OPEN, failures=2, openings=1, reason=None, since=NOW, due_at=None
    )
    theirs = {"destination": "pacs", "state": "closed", "failures": 0, "openings": 0, "since": NOW}
    with beaten_to(ledger, schema.circuits, **theirs):
        ledger.put_circuit(ours)
    assert ledger.circuits() == {"pacs": ours}
