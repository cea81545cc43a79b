"""What is SQLite's own: the file, its modes, its upgrade, its neighbours."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from dicomnode.errors import NodeError, StorageError
from dicomnode.storage import database, schema
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import PledgeRow, ResultRow
from dicomnode.study import DeliveryState, ResultRole, WorkKey, WorkState
from tests.older_ledger import take_back
from tests.unit.storage.samples import STUDY, at, row


def test_modes_of_the_connection(ledger: Ledger) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 30000}
    with ledger.engine.connect() as connection:
        found = {name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in wanted}
    assert found == wanted


def test_only_the_owner_reads_it(tmp_path: Path, ledger: Ledger) -> None:
    ledger.record_instances([row(0)])
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert ledger.url == f"sqlite:///{tmp_path}/ledger.sqlite3"


def test_the_migrations_make_the_tables_of_the_schema_and_ignore_others(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        connection.execute(text("CREATE TABLE workflow_status (workflow_uuid TEXT)"))
    with ledger.engine.connect() as connection:
        ours = {"include_name": lambda name, kind, _: kind != "table" or name.startswith(schema.PREFIX)}
        context = MigrationContext.configure(
            connection, opts={**ours, "compare_type": True, "version_table": schema.VERSION_TABLE}
        )
        assert compare_metadata(context, schema.metadata) == []
    assert all(name.startswith(schema.PREFIX) for name in schema.metadata.tables)


def test_the_revisions_are_those_that_ship() -> None:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
    configuration.set_main_option("path_separator", "os")
    shipped = [script.revision for script in ScriptDirectory.from_config(configuration).walk_revisions()]
    assert tuple(reversed(shipped)) == schema.REVISIONS


def test_opened_again_nothing_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with Ledger.open(path) as ledger:
        ledger.record_instances([row(0)])
    script = (
        "import sys; from pathlib import Path; from dicomnode.storage.ledger import Ledger;"
        "found = Ledger.open(Path(sys.argv[1])).studies(); assert len(found) == 1;"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(("resends", "earlier"), [(0, 0), (1, 2)])
def test_what_an_older_ledger_left_of_rounds_and_of_works_that_ended(
    tmp_path: Path, resends: int, earlier: int
) -> None:
    """Schema 0012: an old report is no answer to what was sent again, and nothing waits of what no try would ever end."""
    path = tmp_path / "ledger.sqlite3"
    works = {model: WorkKey(study_key=STUDY, revision=1, model=model) for model in ("ended", "open")}
    with Ledger.open(path) as ledger:
        ledger.record_instances([row(0)])
        ledger.open_revision(STUDY, "digest", at(0))
        for model, key in works.items():
            ledger.create_work(key, "digest", at(0))
            result = ResultRow(result_id=model, role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=1)
            ledger.record_results(key, [result], ["pacs"], at(0))
        ledger.set_work_state(works["ended"], WorkState.SUPERSEDED, at=at(0))
        pledge = PledgeRow(
            key=works["open"], destination="pacs", state="taken", attempts=3, begun_at=at(0), due_at=at(0)
        )
        ledger.put_pledge(replace(pledge, resends=resends))
        with ledger.transaction() as connection:
            take_back(connection, "0011")
    with Ledger.open(path) as ledger:
        assert [one.state.value for one in ledger.deliveries(works["ended"])] == ["cancelled"]
        assert [one.state.value for one in ledger.deliveries(works["open"])] == ["waiting"]
        assert ledger.pledges() == (replace(pledge, resends=resends, earlier=earlier),)


def test_what_an_older_ledger_says_of_tries_is_what_may_be_there(tmp_path: Path) -> None:
    """Schema 0014: which tries went out is not known any more; what was refused, or never reached anybody, is not there."""
    path, key = tmp_path / "ledger.sqlite3", WorkKey(study_key=STUDY, revision=1, model="m")
    rows: dict[str, tuple[str, int | None, str | None, int]] = {
        "taken": ("confirmed", 0, None, 1),
        "warned": ("refused", 0xB007, "not-committed", 2),
        "unanswered": ("waiting", None, "peer-aborted", 1),
        "cancelled": ("cancelled", None, "results-retracted", 1),
        "refused": ("refused", 0xC000, "peer-refused-object", 1),
        "unreachable": ("waiting", None, "peer-unreachable", 7),
        "untried": ("waiting", None, None, 0),
    }
    with Ledger.open(path) as ledger:
        ledger.record_instances([row(0)])
        ledger.open_revision(STUDY, "digest", at(0))
        ledger.create_work(key, "digest", at(0))
        for name in rows:
            result = ResultRow(result_id=name, role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=1)
            ledger.record_results(key, [result], ["pacs"], at(0))
        with ledger.transaction() as connection:
            for name, (state, status, reason, attempts) in rows.items():
                connection.execute(
                    text(
                        "UPDATE node_delivery SET state = :a, status = :b, reason = :c, attempts = :d WHERE result_id = :e"
                    ),
                    {"a": state, "b": status, "c": reason, "d": attempts, "e": name},
                )
            take_back(connection, "0013")
    with Ledger.open(path) as ledger:
        there = {one.result_id for one in ledger.deliveries(key) if one.may_be_there}
    assert there == {"taken", "warned", "unanswered", "cancelled"}


def test_that_a_destination_may_have_an_object_stands_whatever_it_says_later(ledger: Ledger) -> None:
    key = WorkKey(study_key=STUDY, revision=1, model="m")
    ledger.record_instances([row(0)])
    ledger.open_revision(STUDY, "digest", at(0))
    ledger.create_work(key, "digest", at(0))
    result = ResultRow(result_id="r", role=ResultRole.REPORT, sop_class_uid="1.2", digest="d", length=1)
    ledger.record_results(key, [result], ["pacs"], at(0))

    def tried(status: int | None, reason: str, *, asked: bool = False) -> bool:
        state = DeliveryState.WAITING
        by_it = ledger.record_delivery("r", "pacs", state=state, status=status, reason=reason, at=at(1), asked=asked)
        (found,) = ledger.deliveries(key)
        assert not by_it or found.may_be_there
        return found.may_be_there

    assert not tried(None, "peer-unreachable")
    assert not tried(0xA700, "peer-out-of-resources")
    assert not tried(None, "timeout", asked=True)
    assert tried(None, "timeout")
    assert tried(None, "peer-unreachable")
    assert tried(0xC000, "peer-refused-object")
    ledger.put_deliveries(ledger.deliveries(key), DeliveryState.CANCELLED, at(2), reason="cancelled")
    assert ledger.deliveries(key)[0].may_be_there


def test_a_newer_ledger_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with Ledger.open(path) as ledger, ledger.transaction() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'"))
    before = path.read_bytes()
    for opening in (Ledger.open, Ledger.open_read_only):
        with pytest.raises(StorageError) as caught:
            opening(path)
        assert caught.value.code == "ledger-newer"
    assert path.read_bytes() == before


def test_no_database_at_all(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    for content in (None, b"", b"no database" * 1000):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(StorageError) as caught:
            Ledger.open_read_only(path)
        assert caught.value.code == "ledger-failed"
    with pytest.raises(StorageError) as caught:
        Ledger.open(path)
    assert caught.value.code == "ledger-failed"
    with pytest.raises(StorageError) as caught:
        Ledger.open(tmp_path)
    assert caught.value.code == "storage-failed"


def test_another_process_looks_on_while_a_transaction_is_open(tmp_path: Path, ledger: Ledger) -> None:
    ledger.record_instances([row(0)])
    script = (
        "import sys; from pathlib import Path; from dicomnode.storage.ledger import Ledger;"
        "print(Ledger.open_read_only(Path(sys.argv[1])).study(sys.argv[2]).instances)"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "ledger.sqlite3"), STUDY]
    with ledger.transaction() as connection:
        ledger.record_instances([row(1)], connection=connection)
        looked = subprocess.run(command, check=True, timeout=60, capture_output=True)
    assert looked.stdout == b"1\n"


def test_who_only_looks_on_cannot_write(tmp_path: Path, ledger: Ledger) -> None:
    with Ledger.open_read_only(tmp_path / "ledger.sqlite3") as other, pytest.raises(StorageError):
        other.record_instances([row(0)])
    assert ledger.studies() == ()


def test_closed_cleanly_it_can_still_be_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a folder? 100% #1" / "ledger.sqlite3"
    with Ledger.open(path) as ledger:
        ledger.record_instances([row(0)])
    with Ledger.open_read_only(path) as other:
        assert len(other.studies()) == 1


def test_many_threads_write(ledger: Ledger) -> None:
    failures: list[NodeError] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                ledger.record_instances([row(turn, segment=f"s{number}", instance=f"{number}-{turn}")])
                ledger.open_revision(STUDY, f"{number}-{turn}", at(1))
        except NodeError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    study = ledger.study(STUDY)
    assert study is not None
    assert (study.instances, study.revision) == (30, 30)


def test_a_lost_database_has_a_code(ledger: Ledger) -> None:
    with ledger.transaction() as connection:
        connection.execute(text("DROP TABLE node_quarantine"))
    with pytest.raises(StorageError) as caught:
        ledger.quarantined()
    assert caught.value.code == "ledger-failed"
    assert "node_quarantine" not in str(caught.value)
