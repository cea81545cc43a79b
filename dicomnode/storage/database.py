"""The database under the ledger: engine, transactions, schema upgrade, one border for its errors. No table is named here."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    CursorResult,
    Engine,
    Executable,
    Table,
    create_engine,
    event,
    inspect,
    literal_column,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from dicomnode.errors import StorageError
from dicomnode.storage import files, schema

#: Names by which other rooms may speak of a transaction and of the engine without importing SQL.
Transaction = Connection
DatabaseEngine = Engine

#: Under which a connection knows what is to be done when its transaction is committed.
_AFTER: Final = "dicomnode-after-commit"
_BUSY_MILLISECONDS: Final = 30_000
_POOL: Final = 16
#: Of the primary codes of SQLite: what people mend, or passes.
_OF_THE_DISK: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
_IN_LIMIT: Final = 500  # values of one IN list: SQLite's least limit of variables is 999


def spelled(value: str) -> Any:
    """A value that stands in a statement as it is, so that SQLite sees which partial index it may take; only for what code says."""
    return literal_column(f"'{value}'")


def after_commit(connection: Connection, act: Callable[[], None]) -> None:
    """Have something done when a transaction is committed; it is not done, or too early, where that fails."""
    connection.info.setdefault(_AFTER, []).append(act)


def taken_after_commit(connection: Connection) -> list[Callable[[], None]]:
    """What is to be done when a transaction is committed, for whoever commits it."""
    acts: list[Callable[[], None]] = connection.info.pop(_AFTER, [])
    return acts


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Turn whatever the database says into ``ledger-failed``: its text holds SQL and values."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error):
        raise StorageError("ledger-failed") from None


def is_of_the_disk(error: Exception) -> bool:
    """Whether an error is what SQLite says of a disk that is full or fails."""
    return _primary_code(error) in _OF_THE_DISK


def is_of_space(error: Exception) -> bool:
    """Whether an error is what SQLite says of a disk that is full."""
    return _primary_code(error) == sqlite3.SQLITE_FULL


def _primary_code(error: Exception) -> int | None:
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else None


@contextlib.contextmanager
def _damaged_rows() -> Iterator[None]:
    """Turn what a library says of a value of another type into ``ledger-failed``."""
    try:
        yield
    except (TypeError, ValueError):
        raise StorageError("ledger-failed") from None


class Database:
    """One engine for the ledger and for the workflow engine, which keeps its own tables beside.

    Transactions that write begin with BEGIN IMMEDIATE, so that none fails half-way for a lock.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def url(self) -> str:
        """Database URL, as SQLAlchemy and DBOS take it."""
        return self.engine.url.render_as_string(hide_password=False)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction: committed at the end, durable then, or rolled back by any exception.

        Raises
        ------
        StorageError
            ``ledger-failed``.
        """
        with database_errors(), self.engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.commit()
            finally:
                acts = taken_after_commit(connection)
        for act in acts:
            act()

    def empty_journal(self) -> None:
        """Move SQLite's write-ahead log into the database and cut it to nothing.

        Raises
        ------
        StorageError
            ``ledger-in-use`` where somebody reads the ledger for as long as we wait: what was deleted may still stand
            on the disk, and this is to be called again.
        """
        left = False
        with database_errors(), self.engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                left = bool(connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar())
        if left:
            raise StorageError("ledger-in-use")

    def has_table(self, name: str) -> bool:
        """Whether the database has a table of this name, ours or another's."""
        with database_errors(), self.engine.connect() as connection:
            return bool(inspect(connection).has_table(name))

    @contextlib.contextmanager
    def _writing(self, connection: Connection | None) -> Iterator[Connection]:
        """The caller's transaction, or one of our own."""
        if connection is None:
            with self.transaction() as own:
                yield own
        else:
            with database_errors():
                yield connection

    @contextlib.contextmanager
    def _reading(self, connection: Connection | None) -> Iterator[Connection]:
        """The caller's transaction, or one snapshot of our own; a row that holds something else than we write is damage."""
        with _damaged_rows(), database_errors():
            if connection is not None:
                yield connection
            else:
                with self.engine.connect() as own:
                    if own.dialect.name == "sqlite":
                        own.exec_driver_sql("BEGIN")
                    yield own


def open_sqlite(path: Path) -> Engine:
    """Engine on a file (0600, made if it is not there): WAL, synchronous=FULL, foreign keys, secure_delete.

    Raises
    ------
    StorageError
        ``storage-failed`` or ``ledger-failed``.
    """
    with files.disk_errors():
        files.make_folder(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.FILE_MODE))
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"check_same_thread": False},
        pool_size=_POOL,
        max_overflow=_POOL,
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        # Implicit transactions begin IMMEDIATE: DBOS expects the same of an engine that it is handed.
        connection.isolation_level = "IMMEDIATE"
        for pragma in (
            f"busy_timeout={_BUSY_MILLISECONDS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "secure_delete=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


def open_sqlite_read_only(path: Path) -> Engine:
    """Engine that cannot write, for a second process that looks on.

    Raises
    ------
    StorageError
        ``ledger-failed`` if there is no such file.
    """
    if not path.is_file():
        raise StorageError("ledger-failed", missing=1)

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, check_same_thread=False)
        connection.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}").close()
        return connection

    return create_engine(URL.create("sqlite", database=str(path)), creator=connect)


def when_committed(transaction: Transaction, act: Callable[[], None]) -> None:
    """Call `act` when a transaction is committed; never where it is rolled back."""

    def committed(_connection: Connection) -> None:
        act()

    event.listen(transaction, "commit", committed, once=True)


def schema_version(connection: Connection) -> str | None:
    """Revision of the ledger's schema; None in an empty database."""
    if not inspect(connection).has_table(schema.VERSION_TABLE):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalar()  # noqa: S608
    return None if found is None else str(found)


def upgrade(database: Database) -> None:
    """Bring the schema to this version's, in one transaction.

    Raises
    ------
    StorageError
        ``ledger-newer`` if a newer version wrote it; ``ledger-failed``.
    """
    with database.transaction() as connection:
        if _is_current(connection):
            return
        # Imported here: it takes a third of a second, and an up-to-date ledger needs none of it.
        from alembic import command
        from alembic.config import Config

        configuration = Config()
        configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        configuration.set_main_option("path_separator", "os")
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def check_version(database: Database) -> None:
    """Raise ``ledger-newer`` or ``ledger-failed`` unless the schema is this version's."""
    with database_errors(), database.engine.connect() as connection:
        if not _is_current(connection):
            raise StorageError("ledger-failed", schema=0)


def _is_current(connection: Connection) -> bool:
    version = schema_version(connection)
    if version is not None and version not in schema.REVISIONS:
        raise StorageError("ledger-newer")
    return version == schema.REVISIONS[-1]


def insert_or_ignore(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows whose primary key is not there yet."""
    if rows:
        connection.execute(_insertion(table, connection.dialect.name), list(rows))


def insert_or_replace(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert whole rows, each in the place of one with its primary key; two at once do not collide.

    In the order of their keys, whoever enters them: two who enter the same ones at once wait for each other in turn.
    """
    if rows:
        names = [column.name for column in table.primary_key]
        ordered = sorted(rows, key=lambda row: [row[name] for name in names])
        connection.execute(_replacement(table, connection.dialect.name), ordered)


def inserted_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert rows whose primary key is not there yet, all by one statement; how many there were."""
    if not rows:
        return 0
    statement = _insert(table, connection.dialect.name).values(list(rows)).on_conflict_do_nothing()
    return len(connection.execute(statement.returning(*table.primary_key)).all())  # rowcount is not kept of an INSERT


@functools.cache
def _insertion(table: Table, dialect: str) -> Executable:
    """Made once for each table: to make a statement costs as much as to run it."""
    statement: Executable = _insert(table, dialect).on_conflict_do_nothing()
    return statement


@functools.cache
def _replacement(table: Table, dialect: str) -> Executable:
    insert = _insert(table, dialect)
    names = [column.name for column in table.primary_key]
    rest = {column.name: insert.excluded[column.name] for column in table.c if not column.primary_key}
    statement: Executable = insert.on_conflict_do_update(index_elements=names, set_=rest)
    return statement


def _insert(table: Table, dialect: str) -> Any:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def batches(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut values into lists that fit into one IN."""
    for start in range(0, len(values), _IN_LIMIT):
        yield values[start : start + _IN_LIMIT]


def changed_rows(connection: Connection, statement: Executable) -> int:
    """Run an UPDATE or DELETE; how many rows it touched."""
    done = connection.execute(statement)
    return done.rowcount if isinstance(done, CursorResult) else 0
