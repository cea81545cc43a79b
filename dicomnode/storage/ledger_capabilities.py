"""What destinations are known to take: learnt by probing them and by their answers, remembered until it is learnt anew."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, select

from dicomnode.storage import schema
from dicomnode.storage.database import Database
from dicomnode.storage.rows import CapabilityRow

_C = schema.capabilities


class CapabilityRows(Database):
    """Capabilities of destinations."""

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
            writing.execute(delete(_C).where(_C.c.destination == destination, _C.c.sop_class_uid.in_(list(supported))))
            if rows:
                writing.execute(_C.insert(), rows)

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
