"""The ledger: everything that the node must remember, in one database. This file opens it and looks studies up.

The rows themselves are kept by theme in the ``ledger_*`` files. Every method takes part in the caller's transaction where
one is handed in as `connection`; every failure of the database is ``ledger-failed``, without SQL and without values.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Row, func, select

from dicomnode.storage import database, schema
from dicomnode.storage.ledger_capabilities import CapabilityRows
from dicomnode.storage.ledger_index import InstanceRows
from dicomnode.storage.ledger_keys import WrappedKeyRows
from dicomnode.storage.ledger_marks import MarkRows, marks_of
from dicomnode.storage.ledger_orders import OrderRows
from dicomnode.storage.ledger_pledges import PledgeRows
from dicomnode.storage.ledger_rejections import RejectionRows
from dicomnode.storage.ledger_results import ResultRows
from dicomnode.storage.ledger_services import ServiceRows
from dicomnode.storage.ledger_vault import VaultRows
from dicomnode.storage.ledger_works import WorkRows, work_rows
from dicomnode.study import MarkRow, StudyRow, WorkRow

_S = schema.studies
_R = schema.revisions
_W = schema.works


class Ledger(
    WrappedKeyRows,
    InstanceRows,
    RejectionRows,
    WorkRows,
    ResultRows,
    CapabilityRows,
    ServiceRows,
    OrderRows,
    MarkRows,
    PledgeRows,
    VaultRows,
):
    """The ledger of a node; safe to use from many threads. Made by `open` or `open_read_only`.

    Attributes
    ----------
    engine
        SQLAlchemy engine, shared with the workflow engine.
    url
        Database URL.
    """

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the ledger of this host, making or upgrading it.

        Raises
        ------
        StorageError
            ``ledger-newer`` if a newer version wrote it (nothing is changed), ``ledger-failed``, ``storage-failed``.
        """
        ledger = cls(database.open_sqlite(path))
        try:
            database.upgrade(ledger)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def open_read_only(cls, path: Path) -> Self:
        """Open the ledger of a node that may be running, to look at it.

        Raises
        ------
        StorageError
            ``ledger-failed`` if there is none or it is not of this version; ``ledger-newer``.
        """
        ledger = cls(database.open_sqlite_read_only(path))
        try:
            database.check_version(ledger)
        except BaseException:
            ledger.close()
            raise
        return ledger

    def __enter__(self) -> Self:
        """The ledger itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def study(self, study_key: str, *, connection: Connection | None = None) -> StudyRow | None:
        """One study with its works, their stage times and deliveries."""
        with self._reading(connection) as reading:
            found = _studies(reading, [study_key])
        return found[0] if found else None

    def study_keys(self, beginning: str, *, connection: Connection | None = None) -> tuple[str, ...]:
        """Keys that begin so, in order; at most a few. None of them begins with nothing: who names nothing means no study."""
        if not beginning:
            return ()
        query = select(_S.c.study_key).where(_S.c.study_key.startswith(beginning, autoescape=True))
        with self._reading(connection) as reading:
            return tuple(reading.execute(query.order_by(_S.c.study_key).limit(10)).scalars())

    def all_study_keys(self, *, connection: Connection | None = None) -> tuple[str, ...]:
        """All studies."""
        with self._reading(connection) as reading:
            return tuple(reading.execute(select(_S.c.study_key).order_by(_S.c.study_key)).scalars())

    def studies_since(self, moment: datetime, *, connection: Connection | None = None) -> tuple[str, ...]:
        """Studies that received something since a moment, the oldest first."""
        query = select(_S.c.study_key).where(_S.c.last_received_at >= moment)
        with self._reading(connection) as reading:
            return tuple(reading.execute(query.order_by(_S.c.last_received_at, _S.c.study_key)).scalars())

    def studies(self, *, limit: int = 100, connection: Connection | None = None) -> tuple[StudyRow, ...]:
        """The studies that received something last, newest first."""
        newest = select(_S.c.study_key).order_by(_S.c.last_received_at.desc(), _S.c.study_key).limit(limit)
        with self._reading(connection) as reading:
            return _studies(reading, list(reading.execute(newest).scalars()))


def _studies(connection: Connection, study_keys: Sequence[str]) -> tuple[StudyRow, ...]:
    rows: dict[str, Row[Any]] = {}
    revisions: dict[str, int] = {}
    works: dict[str, list[WorkRow]] = {}
    marks: dict[str, MarkRow] = {}
    for batch in database.batches(study_keys):
        rows |= {row.study_key: row for row in connection.execute(select(_S).where(_S.c.study_key.in_(batch)))}
        latest = select(_R.c.study_key, func.max(_R.c.revision)).where(_R.c.study_key.in_(batch))
        revisions |= {row[0]: row[1] for row in connection.execute(latest.group_by(_R.c.study_key))}
        marks |= marks_of(connection, batch)
        query = select(_W).where(_W.c.study_key.in_(batch)).order_by(_W.c.revision, _W.c.model)
        for work in work_rows(connection, query):
            works.setdefault(work.key.study_key, []).append(work)
    return tuple(
        StudyRow(
            study_key=key,
            first_received_at=rows[key].first_received_at,
            last_received_at=rows[key].last_received_at,
            instances=rows[key].instances,
            quarantined=rows[key].quarantined,
            rejected=rows[key].rejected,
            revision=revisions.get(key, 0),
            works=tuple(works.get(key, ())),
            mark=marks.get(key),
        )
        for key in study_keys
        if key in rows
    )
