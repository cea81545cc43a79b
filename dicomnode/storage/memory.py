"""Stand-ins that keep everything in memory and obey the same contracts: for tests, and for tools that keep no state."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Iterator

from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage.datakeys import DataKey
from dicomnode.storage.sealed import KEY_BYTES, Buffer, key_id
from dicomnode.study import Purpose, World


class MemoryKeys:
    """Data keys that nobody wraps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[tuple[str, World], DataKey] = {}

    def get_or_create(self, study_key: str, world: World) -> DataKey:
        """Data key, made where there is none."""
        with self._lock:
            fresh = secrets.token_bytes(KEY_BYTES)
            return self._keys.setdefault((study_key, world), DataKey(key=fresh, key_id=key_id(fresh)))

    def get(self, study_key: str, world: World) -> DataKey:
        """Data key; `KeyStoreError` ``key-missing`` where there is none."""
        with self._lock:
            found = self._keys.get((study_key, world))
        if found is None:
            raise KeyStoreError("key-missing", world=world.value)
        return found

    def shred(self, study_key: str) -> None:
        """Forget a study's keys."""
        with self._lock:
            for world in World:
                self._keys.pop((study_key, world), None)


class MemoryObjects:
    """Objects in a dictionary; as `objects.Objects`, but nothing is sealed and nothing lasts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[str, dict[tuple[World, str, Purpose], bytes]] = {}

    def put(
        self, study_key: str, world: World, object_id: str, purpose: Purpose, data: Buffer | Iterable[Buffer]
    ) -> None:
        """Keep an object; what stood there is replaced."""
        whole = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else b"".join(data)
        with self._lock:
            self._objects.setdefault(study_key, {})[world, object_id, purpose] = whole

    def get(self, study_key: str, world: World, object_id: str, purpose: Purpose) -> bytes:
        """Object; `StorageError` ``storage-failed`` if there is none."""
        with self._lock:
            found = self._objects.get(study_key, {}).get((world, object_id, purpose))
        if found is None:
            raise StorageError("storage-failed", missing=1)
        return found

    def stream(self, study_key: str, world: World, object_id: str, purpose: Purpose) -> Iterator[bytes]:
        """Object piece by piece; errors as `get`."""
        yield self.get(study_key, world, object_id, purpose)

    def exists(self, study_key: str, world: World, object_id: str, purpose: Purpose) -> bool:
        """Whether the object is there."""
        with self._lock:
            return (world, object_id, purpose) in self._objects.get(study_key, {})

    def delete(self, study_key: str, world: World, object_id: str, purpose: Purpose) -> None:
        """Take one object away; one that is not there is no error."""
        with self._lock:
            self._objects.get(study_key, {}).pop((world, object_id, purpose), None)

    def purge(self, study_key: str) -> None:
        """Take every object of a study away."""
        with self._lock:
            self._objects.pop(study_key, None)
