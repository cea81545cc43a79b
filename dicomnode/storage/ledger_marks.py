"""What stands beside a study about whether it is worked on, and how many studies came of late."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, delete, func, select

from dicomnode.storage import schema
from dicomnode.storage.database import Database
from dicomnode.study import Mark, MarkRow

_M = schema.marks
_S = schema.studies


class MarkRows(Database):
    """Marks of studies."""

    def put_mark(
        self, study_key: str, mark: Mark, revision: int, at: datetime, *, connection: Connection | None = None
    ) -> None:
        """Mark a study; what stood there is replaced.

        Parameters
        ----------
        revision
            The newest of its input; 0: none.
        """
        row = {"study_key": study_key, "mark": mark.value, "revision": revision, "at": at}
        with self._writing(connection) as writing:
            writing.execute(delete(_M).where(_M.c.study_key == study_key))
            writing.execute(_M.insert(), row)

    def mark(self, study_key: str, *, connection: Connection | None = None) -> MarkRow | None:
        """Mark of a study."""
        with self._reading(connection) as reading:
            return marks_of(reading, [study_key]).get(study_key)

    def marked(
        self, marks: Collection[Mark], since: datetime | None = None, *, connection: Connection | None = None
    ) -> tuple[tuple[str, datetime], ...]:
        """Studies with any of these marks, each with the time of it, the oldest first; since a time, or all."""
        query = select(_M.c.study_key, _M.c.at).where(_M.c.mark.in_([mark.value for mark in marks]))
        if since is not None:
            query = query.where(_M.c.at >= since)
        with self._reading(connection) as reading:
            found = reading.execute(query.order_by(_M.c.at, _M.c.study_key))
            return tuple((row.study_key, row.at) for row in found)

    def count_marked(self, marks: Collection[Mark], since: datetime, *, connection: Connection | None = None) -> int:
        """How many studies got one of these marks since a time."""
        query = select(func.count()).where(_M.c.mark.in_([mark.value for mark in marks]), _M.c.at >= since)
        with self._reading(connection) as reading:
            return int(reading.execute(query).scalar_one())

    def count_arrived(self, since: datetime, *, connection: Connection | None = None) -> int:
        """How many studies received anything since a time."""
        query = select(func.count()).where(_S.c.last_received_at >= since)
        with self._reading(connection) as reading:
            return int(reading.execute(query).scalar_one())


def marks_of(connection: Connection, study_keys: Collection[str]) -> dict[str, MarkRow]:
    """Marks of studies by their keys; of so few that they fit into one IN."""
    found = connection.execute(select(_M).where(_M.c.study_key.in_(list(study_keys))))
    return {row.study_key: MarkRow(mark=Mark(row.mark), revision=row.revision, at=row.at) for row in found}
