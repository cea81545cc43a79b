"""Wrapped data keys in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, select, update

from dicomnode.storage import schema
from dicomnode.storage.database import Database, insert_or_ignore
from dicomnode.storage.keys import WrappedKey
from dicomnode.study import World

_T = schema.wrapped_keys
_ONE = select(_T).where(_T.c.study_key == bindparam("study"), _T.c.world == bindparam("in_world"))


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

    def wrapped_under(
        self, world: World, wrapping_key_id: bytes, limit: int, *, connection: Connection | None = None
    ) -> list[tuple[str, WrappedKey]]:
        """Some keys of a world that are wrapped by a key-encryption key, with their studies."""
        here = _T.c.world == world.value, _T.c.wrapping_key_id == wrapping_key_id
        with self._reading(connection) as reading:
            rows = reading.execute(select(_T).where(*here).order_by(_T.c.study_key).limit(limit)).all()
        return [(row.study_key, _key(row)) for row in rows]

    def rewrap_keys(self, keys: Sequence[tuple[str, WrappedKey]], *, connection: Connection | None = None) -> None:
        """Put newly wrapped keys in the place of those that name the same data keys, committed together.

        The old ones may stand in the journal until `empty_journal`.
        """
        with self._writing(connection) as writing:
            for study_key, key in keys:
                here = _T.c.study_key == study_key, _T.c.world == key.world.value, _T.c.key_id == key.key_id
                new = {"wrapping_key_id": key.wrapping_key_id, "wrapped": key.wrapped}
                writing.execute(update(_T).where(*here).values(new))

    def count_wrapped_keys(self, *, connection: Connection | None = None) -> dict[tuple[World, bytes], int]:
        """How many data keys each key-encryption key wraps."""
        query = select(_T.c.world, _T.c.wrapping_key_id, func.count()).group_by(_T.c.world, _T.c.wrapping_key_id)
        with self._reading(connection) as reading:
            return {(World(row[0]), bytes(row[1])): int(row[2]) for row in reading.execute(query)}

    def keyed_studies(self, beginning: str, *, connection: Connection | None = None) -> tuple[str, ...]:
        """Studies that have keys and whose own begins so; at most a few."""
        query = select(_T.c.study_key).where(_T.c.study_key.startswith(beginning, autoescape=True)).distinct()
        with self._reading(connection) as reading:
            return tuple(reading.execute(query.limit(10)).scalars())

    def shred_keys(self, study_key: str, *, connection: Connection | None = None) -> None:
        """Delete a study's keys; their bytes are overwritten, and the journal that may hold them is emptied.

        Raises
        ------
        StorageError
            As `empty_journal`: they are deleted then, and not yet gone from the disk.
        """
        with self._writing(connection) as writing:
            writing.execute(delete(_T).where(_T.c.study_key == study_key))
        if connection is None:
            self.empty_journal()


def _get(connection: Connection, study_key: str, world: World) -> WrappedKey | None:
    row = connection.execute(_ONE, {"study": study_key, "in_world": world.value}).one_or_none()
    return None if row is None else _key(row)


def _key(row: Row[Any]) -> WrappedKey:
    return WrappedKey(
        world=World(row.world),
        wrapping_key_id=bytes(row.wrapping_key_id),
        key_id=bytes(row.key_id),
        wrapped=bytes(row.wrapped),
    )
