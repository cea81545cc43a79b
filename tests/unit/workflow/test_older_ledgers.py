"""A ledger of any older release is brought up to this one's with works in flight: none is lost, and each is taken up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from dicomnode.storage import database, schema
from dicomnode.storage.database import Database
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import ResultRow
from dicomnode.study import DeliveryState, ResultRole, WorkKey, WorkState
from dicomnode.workflow.memory_queue import MemoryQueue
from dicomnode.workflow.orders import Overseer
from tests.older_ledger import UNDOES, take_back
from tests.unit.workflow.samples import START, Events, Time, row

_WAY = (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING, WorkState.READY)
WAYS = {
    WorkState.QUEUED: (),
    WorkState.PREPARING: _WAY[:1],
    WorkState.INFERRING: _WAY[:2],
    WorkState.ENCODING: _WAY[:3],
    WorkState.READY: _WAY,
    WorkState.HELD: (*_WAY, WorkState.HELD),
    WorkState.DELIVERING: (*_WAY, WorkState.DELIVERING),
}
KEYS = {state: WorkKey(study_key=f"{number:032x}", revision=1, model="m") for number, state in enumerate(WAYS)}
LATER = "f" * 32


def fill(ledger: Ledger) -> None:
    """A work in each state in which it is in flight, and a study that is not settled; nothing that an old release had not."""
    for number, (state, way) in enumerate(WAYS.items()):
        key = KEYS[state]
        ledger.record_instances([row(number, study_key=key.study_key)])
        ledger.open_revision(key.study_key, "digest", START)
        ledger.settle(key.study_key, 1, START, records=1)
        ledger.create_work(key, "digest", START, facts={"rules": "r"})
        ledger.record_stage(key, "receive", 1.0)
        for step in way:
            if step is WorkState.READY:
                names = [f"{kind}{number}" for kind in ("seg", "sr")]
                results = [
                    ResultRow(result_id=name, role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=1)
                    for name in names
                ]
                ledger.record_results(key, results, ["archive", "pacs"], START)
            ledger.set_work_state(key, step, at=START)
    for name in (f"{kind}{len(WAYS) - 1}" for kind in ("seg", "sr")):
        there = {"state": DeliveryState.CONFIRMED, "status": 0, "reason": None, "at": START}
        ledger.record_delivery(name, "archive", **there)  # type: ignore[arg-type]
    ledger.record_instances([row(99, study_key=LATER)])
    ledger.open_revision(LATER, "digest", START)


def known(ledger: Ledger) -> Any:
    """What must outlive an upgrade."""
    works = {
        one.key: (
            one.state,
            one.facts,
            one.stages,
            [(row.result_id, row.destination, row.state, row.attempts, row.may_be_there) for row in one.deliveries],
        )
        for one in ledger.works(tuple(WorkState))
    }
    studies = [(one.study_key, one.instances, one.quarantined, one.rejected, one.revision) for one in ledger.studies()]
    return works, studies, ledger.unsettled(), [ledger.instances(one) for one in ledger.all_study_keys()]


@pytest.mark.parametrize("revision", schema.REVISIONS[:-1])
def test_works_in_flight_outlive_the_upgrade_of_any_ledger_and_are_taken_up(
    tmp_path: Path, revision: str, time: Time, events: Events
) -> None:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        fill(ledger)
        before = known(ledger)
        with ledger.transaction() as connection:
            take_back(connection, revision)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        with ledger.engine.connect() as connection:
            assert database.schema_version(connection) == schema.REVISIONS[-1]
            context = MigrationContext.configure(connection, opts={"version_table": schema.VERSION_TABLE})
            assert compare_metadata(context, schema.metadata) == []
        assert known(ledger) == before
        assert {len(before[0]), len(KEYS)} == {7}
        queue = MemoryQueue(run_stage=lambda *_: True, run_delivery=lambda *_: None, monotonic=time.monotonic)
        overseer = Overseer(ledger, queue, clock=time.now, emit=events)
        assert overseer.sweep() == 5
        assert overseer.sweep() == 0
    waiting = {(one.key, one.destination) for one in queue.waiting}
    assert waiting == {
        (KEYS[WorkState.DELIVERING], "pacs"),
        *((KEYS[state], None) for state, way in WAYS.items() if len(way) < len(_WAY)),
    }


def test_a_ledger_that_is_taken_back_is_as_its_release_made_it(tmp_path: Path, ledger: Ledger) -> None:
    assert tuple(sorted(UNDOES)) == schema.REVISIONS[1:]
    made, taken = {}, {}
    older = Database(database.open_sqlite(tmp_path / "older.sqlite"))
    with older.transaction() as connection:
        for revision in schema.REVISIONS:
            migrate(connection, revision)
            made[revision] = structure(connection)
    older.close()
    fill(ledger)
    with ledger.transaction() as connection:
        for revision in reversed(schema.REVISIONS):
            take_back(connection, revision)
            taken[revision] = structure(connection)
    assert taken == made
    assert len({str(one) for one in made.values()}) == len(schema.REVISIONS), "each changes something"


def migrate(connection: Connection, revision: str) -> None:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    configuration.set_main_option("path_separator", "os")
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, revision)


def structure(connection: Connection) -> dict[str, Any]:
    found = inspect(connection)
    return {
        name: (
            {one["name"]: (str(one["type"]), one["nullable"], one["default"]) for one in found.get_columns(name)},
            found.get_pk_constraint(name),
            sorted(map(str, found.get_foreign_keys(name))),
            sorted(map(str, found.get_indexes(name))),
        )
        for name in found.get_table_names()
        if name.startswith(schema.PREFIX) and name != schema.VERSION_TABLE
    }
