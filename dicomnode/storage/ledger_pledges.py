"""Storage commitment of results: which objects are to be committed, and what became of each request."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, delete, select, update

from dicomnode.storage import schema
from dicomnode.storage.database import Database
from dicomnode.storage.rows import PledgeRow
from dicomnode.study import CommitmentState, DeliveryState, WorkKey

_D = schema.deliveries
_P = schema.pledges
_R = schema.results


class PledgeRows(Database):
    """Pledges."""

    def uncommitted(
        self, destinations: Collection[str], *, connection: Connection | None = None
    ) -> tuple[tuple[WorkKey, str], ...]:
        """Works and destinations of which something is confirmed that nobody asked to be committed, and nothing waits."""
        query = (
            select(_R.c.study_key, _R.c.revision, _R.c.model, _D.c.destination, _D.c.state)
            .join(_R, _R.c.result_id == _D.c.result_id)
            .where(_D.c.destination.in_(list(destinations)))
            .where(
                ((_D.c.state == DeliveryState.CONFIRMED.value) & _D.c.commitment.is_(None))
                | (_D.c.state == DeliveryState.WAITING.value)
            )
            .distinct()
        )
        states: dict[tuple[WorkKey, str], set[str]] = {}
        with self._reading(connection) as reading:
            for row in reading.execute(query):
                key = WorkKey(study_key=row.study_key, revision=row.revision, model=row.model)
                states.setdefault((key, row.destination), set()).add(row.state)
        return tuple(one for one, found in states.items() if found == {DeliveryState.CONFIRMED.value})

    def set_commitment(
        self,
        result_ids: Collection[str],
        destination: str,
        state: CommitmentState | None,
        *,
        connection: Connection | None = None,
    ) -> None:
        """Enter what a destination says of objects."""
        here = _D.c.destination == destination, _D.c.result_id.in_(list(result_ids))
        with self._writing(connection) as writing:
            writing.execute(update(_D).where(*here).values(commitment=None if state is None else state.value))

    def put_pledge(self, row: PledgeRow, *, connection: Connection | None = None) -> None:
        """Enter a pledge; what stood there is replaced."""
        values = {
            "state": row.state,
            "attempts": row.attempts,
            "earlier": row.earlier,
            "resends": row.resends,
            "begun_at": row.begun_at,
            "due_at": row.due_at,
        }
        with self._writing(connection) as writing:
            writing.execute(delete(_P).where(*_here(row.key, row.destination)))
            writing.execute(_P.insert(), [{**_names(row.key, row.destination), **values}])

    def pledge(self, key: WorkKey, destination: str, *, connection: Connection | None = None) -> PledgeRow | None:
        """The pledge of a work at a destination."""
        with self._reading(connection) as reading:
            found = reading.execute(select(_P).where(*_here(key, destination))).one_or_none()
        return None if found is None else _pledge(found)

    def pledges(self, *, ended: bool = False, connection: Connection | None = None) -> tuple[PledgeRow, ...]:
        """Pledges that have not ended, in the order in which they are due; with `ended` those that have as well."""
        query = select(_P).order_by(_P.c.due_at, _P.c.study_key, _P.c.destination)
        if not ended:
            query = query.where(_P.c.state != "ended")
        with self._reading(connection) as reading:
            return tuple(_pledge(row) for row in reading.execute(query))


def _names(key: WorkKey, destination: str) -> dict[str, Any]:
    return {
        "study_key": key.study_key,
        "revision": key.revision,
        "model": key.model,
        "destination": destination,
    }


def _here(key: WorkKey, destination: str) -> tuple[Any, ...]:
    return tuple(_P.c[name] == value for name, value in _names(key, destination).items())


def _pledge(row: Any) -> PledgeRow:
    return PledgeRow(
        key=WorkKey(study_key=row.study_key, revision=row.revision, model=row.model),
        destination=row.destination,
        state=row.state,
        attempts=row.attempts,
        earlier=row.earlier,
        resends=row.resends,
        begun_at=row.begun_at,
        due_at=row.due_at,
    )
