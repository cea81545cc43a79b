"""Data keys: one per study and world, wrapped in the ledger, unwrapped here for use. No sealing here."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from dicomnode.errors import KeyStoreError
from dicomnode.storage.keys import KeyRing, WrappedKey
from dicomnode.storage.sealed import KEY_BYTES
from dicomnode.study import World


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """A data key in the clear."""

    key: bytes = field(repr=False)
    key_id: bytes


class KeySource(Protocol):
    """Where the spool and the object store ask for data keys."""

    def get_or_create(self, study_key: str, world: World) -> DataKey:
        """Data key, made where there is none."""

    def get(self, study_key: str, world: World) -> DataKey:
        """Data key; `KeyStoreError` ``key-missing`` where there is none."""


class WrappedKeys(Protocol):
    """Where wrapped keys stand: the ledger."""

    def wrapped_key(self, study_key: str, world: World) -> WrappedKey | None:
        """What stands."""

    def create_wrapped_key(self, study_key: str, world: World, wrapped: WrappedKey) -> WrappedKey:
        """What stands from now on, committed."""

    def shred_keys(self, study_key: str) -> None:
        """Take the keys of a study away for good."""


class DataKeys:
    """Data keys of the studies, with a small cache; safe to use from many threads.

    Parameters
    ----------
    ledger
        Keeps the wrapped keys, which stand nowhere else.
    ring
        Root keys.
    cached
        How many keys stay unwrapped in memory.
    """

    def __init__(self, ledger: WrappedKeys, ring: KeyRing, *, cached: int = 256) -> None:
        self._ledger = ledger
        self._ring = ring
        self._cached = cached
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, World], DataKey] = OrderedDict()
        self._shreds = 0

    def get_or_create(self, study_key: str, world: World) -> DataKey:
        """Data key of a study and world; a new one is committed, wrapped, before it is returned.

        Raises
        ------
        KeyStoreError
            ``key-wrong`` if the ledger's was wrapped under other root keys.
        StorageError
            ``ledger-failed``.
        """
        return self._cached_key(study_key, world) or self._load(study_key, world, create=True)

    def get(self, study_key: str, world: World) -> DataKey:
        """Data key of a study and world; errors as `get_or_create`, and ``key-missing`` where none stands."""
        return self._cached_key(study_key, world) or self._load(study_key, world, create=False)

    def shred(self, study_key: str) -> None:
        """Take the keys of a study away: from the ledger for good, and from this process's memory.

        Raises
        ------
        StorageError
            ``ledger-in-use``: they open nothing any more, and may still stand on the disk; ``ledger-failed``.
        """
        try:
            self._ledger.shred_keys(study_key)
        finally:
            with self._lock:
                self._shreds += 1
                for world in World:
                    self._cache.pop((study_key, world), None)

    def _cached_key(self, study_key: str, world: World) -> DataKey | None:
        with self._lock:
            found = self._cache.get((study_key, world))
            if found is not None:
                self._cache.move_to_end((study_key, world))
            return found

    def _load(self, study_key: str, world: World, *, create: bool) -> DataKey:
        shreds = self._shreds
        wrapped = self._ledger.wrapped_key(study_key, world)
        if wrapped is None:
            if not create:
                raise KeyStoreError("key-missing", world=world.value)
            latest = world in self._ring.following  # while keys are rotated, nothing new comes under the old one
            fresh = self._ring.wrap(world, study_key, secrets.token_bytes(KEY_BYTES), following=latest)
            wrapped = self._ledger.create_wrapped_key(study_key, world, fresh)
        found = DataKey(key=self._ring.unwrap(world, study_key, wrapped), key_id=wrapped.key_id)
        with self._lock:
            if shreds == self._shreds:  # a key shredded meanwhile must not come back into the cache
                self._cache[study_key, world] = found
                while len(self._cache) > self._cached:
                    self._cache.popitem(last=False)
        return found
