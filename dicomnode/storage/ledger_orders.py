"""Orders that commands beside a running node leave for it: one of each at a time, gone when it is carried out.

One that is given again is of the time when it was given last: whoever carries it out sees whether it is still the one he began with.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select, update

from dicomnode.storage import schema
from dicomnode.storage.database import Database, changed_rows, insert_or_ignore
from dicomnode.storage.rows import OrderRow
from dicomnode.study import PRIORITIES

_O = schema.orders
_S = schema.origins


class OrderRows(Database):
    """Orders."""

    def give_order(self, row: OrderRow, *, connection: Connection | None = None) -> None:
        """Enter an order; one that is there and not carried out is given anew."""
        with self._writing(connection) as writing:
            if not changed_rows(writing, update(_O).where(*_here(row)).values(at=row.at, failed_at=None)):
                insert_or_ignore(writing, _O, [{**_names(row), "at": row.at}])

    def orders(self, *, connection: Connection | None = None) -> tuple[OrderRow, ...]:
        """Orders that are not carried out, oldest first."""
        query = select(_O).order_by(_O.c.at, _O.c.study_key, _O.c.verb, _O.c.model, _O.c.destination)
        with self._reading(connection) as reading:
            return tuple(map(_row, reading.execute(query)))

    def ranked_orders(
        self, verb: str, destination: str, *, connection: Connection | None = None
    ) -> tuple[tuple[OrderRow, int], ...]:
        """Those of a verb to a destination, oldest first, each with its study's priority (0 STAT, 1 routine, 2 research)."""
        query = (
            select(_O, _S.c.priority)
            .outerjoin(_S, _S.c.study_key == _O.c.study_key)
            .where(_O.c.verb == verb, _O.c.destination == destination)
            .order_by(_O.c.at, _O.c.study_key, _O.c.model)
        )
        with self._reading(connection) as reading:
            return tuple((_row(row), PRIORITIES.index(row.priority or "routine")) for row in reading.execute(query))

    def mark_order(self, row: OrderRow, failed_at: datetime | None) -> None:
        """Enter when the first try of an order failed, or that none did; not of one that was given anew since."""
        with self.transaction() as writing:
            writing.execute(update(_O).where(*_here(row), _O.c.at == row.at).values(failed_at=failed_at))

    def end_order(self, row: OrderRow, *, connection: Connection | None = None) -> bool:
        """Take an order away, unless it was given anew since; whether it was there."""
        with self._writing(connection) as writing:
            return bool(changed_rows(writing, delete(_O).where(*_here(row), _O.c.at == row.at)))


def _row(row: Any) -> OrderRow:
    return OrderRow(
        verb=row.verb,
        study_key=row.study_key,
        model=row.model,
        destination=row.destination,
        at=row.at,
        failed_at=row.failed_at,
    )


def _names(row: OrderRow) -> dict[str, Any]:
    return {"verb": row.verb, "study_key": row.study_key, "model": row.model, "destination": row.destination}


def _here(row: OrderRow) -> tuple[Any, ...]:
    return tuple(_O.c[name] == value for name, value in _names(row).items())
