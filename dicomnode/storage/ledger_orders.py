"""Orders that commands beside a running node leave for it: entered once, gone when they are carried out."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from dicomnode.storage import schema
from dicomnode.storage.database import Database, changed_rows, insert_or_ignore
from dicomnode.storage.rows import OrderRow

_O = schema.orders


class OrderRows(Database):
    """Orders."""

    def give_order(self, row: OrderRow, *, connection: Connection | None = None) -> None:
        """Enter an order; one that is there and not carried out stays as it is."""
        values = {
            "verb": row.verb,
            "study_key": row.study_key,
            "model": row.model,
            "destination": row.destination,
            "at": row.at,
        }
        with self._writing(connection) as writing:
            insert_or_ignore(writing, _O, [values])

    def orders(self, *, connection: Connection | None = None) -> tuple[OrderRow, ...]:
        """Orders that are not carried out, oldest first."""
        query = select(_O).order_by(_O.c.at, _O.c.study_key, _O.c.verb, _O.c.model, _O.c.destination)
        with self._reading(connection) as reading:
            return tuple(
                OrderRow(
                    verb=row.verb, study_key=row.study_key, model=row.model, destination=row.destination, at=row.at
                )
                for row in reading.execute(query)
            )

    def end_order(self, row: OrderRow, *, connection: Connection | None = None) -> bool:
        """Take an order away; whether it was there."""
        statement = delete(_O).where(
            _O.c.verb == row.verb,
            _O.c.study_key == row.study_key,
            _O.c.model == row.model,
            _O.c.destination == row.destination,
        )
        with self._writing(connection) as writing:
            return bool(changed_rows(writing, statement))
