"""How the ledger's database is set: durable, recoverable, and without remains of what was deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from dicomnode.storage.ledger import Ledger


class Careless(sqlite3.Connection):
    """A library built with the worst defaults: what the ledger needs, it has to ask for."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for pragma in ("secure_delete=OFF", "synchronous=OFF", "foreign_keys=OFF", "busy_timeout=0"):
            self.execute(f"PRAGMA {pragma}").close()


@pytest.fixture
def careless() -> Iterator[None]:
    """Every SQLite connection of SQLAlchemy is careless."""

    def connect(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
        parameters["factory"] = Careless

    event.listen(Engine, "do_connect", connect)
    yield
    event.remove(Engine, "do_connect", connect)


@pytest.mark.usefixtures("careless")
@pytest.mark.parametrize(
    ("pragma", "value"),
    [("journal_mode", "wal"), ("synchronous", 2), ("secure_delete", 1), ("foreign_keys", 1), ("busy_timeout", 30_000)],
)
def test_every_connection_of_the_ledger_is_set(tmp_path: Path, pragma: str, value: object) -> None:
    with (
        Ledger.open(tmp_path / "ledger.sqlite") as ledger,
        ledger.engine.connect() as first,
        ledger.engine.connect() as second,
    ):
        found = [one.exec_driver_sql(f"PRAGMA {pragma}").scalar() for one in (first, second)]
    assert found == [value, value]


def test_what_was_deleted_is_no_longer_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    secret = b"sealed identity of nobody " * 20
    with Ledger.open(path) as ledger:
        ledger.put_vault("ab" * 16, "5e" * 16, 1, secret)
        ledger.empty_journal()
        assert secret in path.read_bytes()
        ledger.put_vault("ab" * 16, "5e" * 16, 1, b"another")
        ledger.empty_journal()
        assert secret[:26] not in path.read_bytes()
