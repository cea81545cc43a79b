"""What is known of destinations: what they take, how they fare, and what waits for them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, and_, case, distinct, func, not_, select

from dicomnode.storage import schema
from dicomnode.storage.database import Database, insert_or_replace
from dicomnode.storage.rows import BacklogRow, CapabilityRow, CircuitRow
from dicomnode.study import CircuitState, DeliveryState, WorkState

_C = schema.capabilities
_D = schema.deliveries
_R = schema.results
_W = schema.circuits


class CapabilityRows(Database):
    """Capabilities of destinations: learnt by probing them and by their answers, remembered until it is learnt anew."""

    def learn(
        self,
        destination: str,
        peer: str,
        supported: Mapping[str, bool],
        at: datetime,
        *,
        connection: Connection | None = None,
    ) -> None:
        """Enter what a destination takes (by SOP Class); what stood there for these classes is replaced.

        Parameters
        ----------
        peer
            Whom the destination's name stands for: AE title, host and port.
        """
        rows = [
            {"destination": destination, "peer": peer, "sop_class_uid": uid, "supported": yes, "at": at}
            for uid, yes in supported.items()
        ]
        with self._writing(connection) as writing:
            insert_or_replace(writing, _C, rows)

    def capabilities(self, destination: str, *, connection: Connection | None = None) -> tuple[CapabilityRow, ...]:
        """What is known of a destination, whoever it stood for then."""
        query = select(_C).where(_C.c.destination == destination).order_by(_C.c.sop_class_uid)
        with self._reading(connection) as reading:
            return tuple(
                CapabilityRow(
                    destination=row.destination,
                    peer=row.peer,
                    sop_class_uid=row.sop_class_uid,
                    supported=row.supported,
                    at=row.at,
                )
                for row in reading.execute(query)
            )

    def put_circuit(self, row: CircuitRow, *, connection: Connection | None = None) -> None:
        """Enter how a destination fares; what stood there is replaced."""
        values = {
            "destination": row.destination,
            "state": row.state.value,
            "failures": row.failures,
            "openings": row.openings,
            "reason": row.reason,
            "since": row.since,
            "due_at": row.due_at,
        }
        with self._writing(connection) as writing:
            insert_or_replace(writing, _W, [values])

    def circuits(self, *, connection: Connection | None = None) -> dict[str, CircuitRow]:
        """How destinations fare, by name; one that never failed is not there."""
        with self._reading(connection) as reading:
            return {
                row.destination: CircuitRow(
                    destination=row.destination,
                    state=CircuitState(row.state),
                    failures=row.failures,
                    openings=row.openings,
                    reason=row.reason,
                    since=row.since,
                    due_at=row.due_at,
                )
                for row in reading.execute(select(_W).order_by(_W.c.destination))
            }

    def backlog(self, *, connection: Connection | None = None) -> tuple[BacklogRow, ...]:
        """How much is in which state, for each destination of which anything is known; what is held is told apart.

        Nothing waits of a work that a newer revision superseded.
        """
        work = distinct(_R.c.study_key + "-" + _R.c.model)
        waits, held = _D.c.state == DeliveryState.WAITING.value, schema.works.c.state == WorkState.HELD.value
        is_held = case((and_(waits, held), 1), else_=0).label("is_held")
        same_work = [schema.works.c[name] == _R.c[name] for name in ("study_key", "revision", "model")]
        query = (
            select(
                _D.c.destination,
                _D.c.state,
                func.count(),
                func.count(work),
                func.min(_R.c.created_at),
                is_held,
                func.max(_D.c.updated_at),
            )
            .join(_R, _R.c.result_id == _D.c.result_id)
            .join(schema.works, and_(*same_work))
            .where(not_(and_(waits, schema.works.c.state == WorkState.SUPERSEDED.value)))
            .group_by(_D.c.destination, _D.c.state, is_held)
            .order_by(_D.c.destination, _D.c.state, is_held)
        )
        with self._reading(connection) as reading:
            return tuple(
                BacklogRow(
                    destination=row[0],
                    state=DeliveryState(row[1]),
                    objects=row[2],
                    works=row[3],
                    oldest=row[4],
                    is_held=bool(row[5]),
                    changed=row[6],
                )
                for row in reading.execute(query)
            )
