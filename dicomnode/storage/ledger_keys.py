"""Wrapped data keys in the ledger."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select

from dicomnode.storage import schema
from dicomnode.storage.database import Database, insert_or_ignore
from dicomnode.storage.keys import WrappedKey
from dicomnode.study import World

_T = schema.wrapped_keys


class WrappedKeyRows(Database):
    """The only place where wrapped keys stand."""

    def wrapped_key(self, study_key: str, world: World, *, connection: Connection | None = None) -> WrappedKey | None:
        """Wrapped key of a study and world."""
        with self._reading(connection) as reading:
            return _get(reading, study_key, world)

    def create_wrapped_key(
        self, study_key: str, world: World, wrapped: WrappedKey, *, connection: Connection | None = None
    ) -> WrappedKey:
        """Atomic get-or-create: the key that stands from now on, committed when this returns."""
        row = {
            "study_key": study_key,
            "world": world.value,
            "wrapping_key_id": wrapped.wrapping_key_id,
            "key_id": wrapped.key_id,
            "wrapped": wrapped.wrapped,
        }
        with self._writing(connection) as writing:
            insert_or_ignore(writing, _T, (row,))
            return _get(writing, study_key, world) or wrapped

    def shred_keys(self, study_key: str, *, connection: Connection | None = None) -> None:
        """Delete a study's keys; their bytes are overwritten, and the journal that may hold them is emptied."""
        with self._writing(connection) as writing:
            writing.execute(delete(_T).where(_T.c.study_key == study_key))
        if connection is None:
            self.empty_journal()


def _get(connection: Connection, study_key: str, world: World) -> WrappedKey | None:
    row = connection.execute(select(_T).where(_T.c.study_key == study_key, _T.c.world == world.value)).one_or_none()
    if row is None:
        return None
    return WrappedKey(
        world=world,
        wrapping_key_id=bytes(row.wrapping_key_id),
        key_id=bytes(row.key_id),
        wrapped=bytes(row.wrapped),
    )
