"""What else the ledger alone knows: the sealed vault, the quarantine, and the end of a study."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select

from dicomnode.storage import ledger_rejections, schema
from dicomnode.storage.database import Database, insert_or_replace
from dicomnode.storage.rows import QuarantineRow
from dicomnode.study import RecordAddress

_V = schema.vault
_Q = schema.quarantine


class VaultRows(Database):
    """Vault, quarantine, retention."""

    def put_vault(
        self, study_key: str, series_key: str, revision: int, sealed: bytes, *, connection: Connection | None = None
    ) -> None:
        """Keep the sealed identity of a series; what stood there is replaced."""
        row = {"study_key": study_key, "series_key": series_key, "revision": revision, "sealed": sealed}
        with self._writing(connection) as writing:
            insert_or_replace(writing, _V, [row])

    def vault(
        self, study_key: str, series_key: str, revision: int, *, connection: Connection | None = None
    ) -> bytes | None:
        """Sealed identity of a series."""
        here = (_V.c.study_key == study_key, _V.c.series_key == series_key, _V.c.revision == revision)
        with self._reading(connection) as reading:
            found = reading.execute(select(_V.c.sealed).where(*here)).scalar_one_or_none()
        return None if found is None else bytes(found)

    def quarantine(
        self,
        study_key: str,
        what: str,
        reason: str,
        at: datetime,
        *,
        address: RecordAddress | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Set something aside; the same thing for the same reason stands once."""
        place = {
            "segment_id": address.segment_id if address else None,
            "number": address.number if address else None,
            "position": address.offset if address else None,
        }
        same = [_Q.c[name].is_not_distinct_from(value) for name, value in place.items()]
        query = select(_Q.c.id).where(_Q.c.study_key == study_key, _Q.c.what == what, _Q.c.reason == reason, *same)
        with self._writing(connection) as writing:
            if writing.execute(query.limit(1)).one_or_none() is None:
                row = {"study_key": study_key, "what": what, "reason": reason, "at": at, **place}
                writing.execute(_Q.insert(), row)

    def quarantined(
        self, study_key: str | None = None, *, connection: Connection | None = None
    ) -> tuple[QuarantineRow, ...]:
        """What of a study (None: of all) was set aside, oldest first."""
        query = select(_Q).order_by(_Q.c.id)
        if study_key is not None:
            query = query.where(_Q.c.study_key == study_key)
        with self._reading(connection) as reading:
            found = reading.execute(query).all()
        return tuple(
            QuarantineRow(
                study_key=row.study_key,
                what=row.what,
                reason=row.reason,
                at=row.at,
                address=None
                if row.segment_id is None
                else RecordAddress(segment_id=row.segment_id, number=row.number, offset=row.position),
            )
            for row in found
        )

    def damaged(self, study_key: str, *, connection: Connection | None = None) -> frozenset[RecordAddress]:
        """Records of a study that are known to be damaged or lost."""
        return frozenset(
            row.address
            for row in self.quarantined(study_key, connection=connection)
            if row.what == "segment" and row.address is not None
        )

    def expired(self, before: datetime, *, connection: Connection | None = None) -> tuple[str, ...]:
        """Keys of the studies whose last instance came before a time, oldest first."""
        table = schema.studies
        query = select(table.c.study_key).where(table.c.last_received_at < before).order_by(table.c.last_received_at)
        with self._reading(connection) as reading:
            return tuple(reading.execute(query).scalars())

    def purge_study(self, study_key: str, *, connection: Connection | None = None) -> None:
        """Delete every row of a study, its wrapped keys included; again, or of none, is fine.

        In a transaction of the caller's, `empty_journal` is to be called after it: until then the keys' bytes may stand
        in the write-ahead log.
        """
        results = select(schema.results.c.result_id).where(schema.results.c.study_key == study_key)
        with self._writing(connection) as writing:
            writing.execute(delete(schema.deliveries).where(schema.deliveries.c.result_id.in_(results)))
            for table in (
                schema.orders,
                schema.marks,
                schema.pledges,
                schema.announced,
                schema.procedures,
                schema.origins,
                schema.results,
                schema.stages,
                schema.works,
                schema.revisions,
                schema.instances,
                schema.vault,
                schema.quarantine,
                schema.wrapped_keys,
                schema.studies,
            ):
                writing.execute(delete(table).where(table.c.study_key == study_key))
            ledger_rejections.forget(writing, study_key)
        if connection is None:
            self.empty_journal()
