"""Sealed objects as files: pseudonymous copies, label maps, findings, results. Received instances live in the spool."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage import files
from dicomnode.storage.datakeys import DataKey, KeySource
from dicomnode.storage.sealed import (
    DEFAULT_CHUNK_BYTES,
    HEADER_BYTES,
    TAG_BYTES,
    Buffer,
    SealContext,
    Sealer,
    open_stream,
)
from dicomnode.study import Purpose, World

#: Whole frames of ordinary objects: what comes in other pieces is copied once more.
_READ_BYTES: Final = 4 * (DEFAULT_CHUNK_BYTES + TAG_BYTES)


class Objects:
    """A folder of sealed objects, one file each, replaced atomically, durable when `put` returns.

    Parameters
    ----------
    folder
        Root; created if it is not there.
    keys
        Data keys of the studies. File names are HMACs under them: they say nothing to whom lacks the key.
    """

    def __init__(self, folder: Path, keys: KeySource) -> None:
        self._folder = folder
        self._keys = keys
        self._durable: set[str] = set()  # studies whose folders this process flushed
        with files.disk_errors():
            files.make_folder(folder)

    def put(
        self, study_key: str, world: World, object_id: str, purpose: Purpose, data: Buffer | Iterable[Buffer]
    ) -> None:
        """Seal an object into its place; what stood there is replaced.

        Raises
        ------
        StorageError
            ``storage-full`` or ``storage-failed``; what stood there before still stands.
        """
        key = self._keys.get_or_create(study_key, world)
        path = self._path(study_key, key, world, object_id, purpose)
        context = SealContext(study_key=study_key, object_id=object_id, purpose=purpose)
        buffers = (data,) if isinstance(data, bytes | bytearray | memoryview) else data
        with files.disk_errors():
            files.make_folder(path.parent)
            if study_key not in self._durable:  # another thread may have made them and not flushed yet
                for above in (path.parent.parent, self._folder):
                    files.sync_folder(above)
                self._durable.add(study_key)
            files.replace_file(path, Sealer(key.key, context=context).frames(buffers))

    def get(self, study_key: str, world: World, object_id: str, purpose: Purpose) -> bytes:
        """Object in the clear; errors as `stream`."""
        return b"".join(self.stream(study_key, world, object_id, purpose))

    def stream(self, study_key: str, world: World, object_id: str, purpose: Purpose) -> Iterator[bytes]:
        """Object in the clear, piece by piece; only one that ends without an error is whole.

        Raises
        ------
        StorageError
            ``storage-failed`` if there is none; ``sealed-damaged`` if it is not as it was sealed.
        KeyStoreError
            ``key-missing`` if the study's key was shredded.
        """
        key = self._keys.get(study_key, world)
        path = self._path(study_key, key, world, object_id, purpose)
        context = SealContext(study_key=study_key, object_id=object_id, purpose=purpose)
        with files.disk_errors():
            yield from open_stream(key.key, _read(path), context=context)

    def exists(self, study_key: str, world: World, object_id: str, purpose: Purpose) -> bool:
        """Whether the object is there and its key too."""
        try:
            key = self._keys.get(study_key, world)
        except KeyStoreError as error:
            if error.code != "key-missing":
                raise
            return False
        return self._path(study_key, key, world, object_id, purpose).exists()

    def delete(self, study_key: str, world: World, object_id: str, purpose: Purpose) -> None:
        """Take one object away; one that is not there is no error."""
        if self.exists(study_key, world, object_id, purpose):
            key = self._keys.get(study_key, world)
            path = self._path(study_key, key, world, object_id, purpose)
            with files.disk_errors():
                path.unlink(missing_ok=True)
                files.sync_folder(path.parent)

    def purge(self, study_key: str) -> None:
        """Take every object of a study away, durably.

        Raises
        ------
        StorageError
            ``storage-failed`` if the disk refuses.
        """
        self._durable.discard(study_key)
        with files.disk_errors():
            files.remove_study(self._folder, study_key)

    def _path(self, study_key: str, key: DataKey, world: World, object_id: str, purpose: Purpose) -> Path:
        name = hmac.new(key.key, digestmod=hashlib.sha256)
        for part in ("object name", world.value, purpose.value, object_id):
            data = part.encode()
            name.update(len(data).to_bytes(4, "big") + data)
        return files.study_folder(self._folder, study_key) / f"{name.hexdigest()[:40]}.sealed"


def _read(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise StorageError("storage-failed", missing=1) from None
    with file:
        yield file.read(HEADER_BYTES)
        while block := file.read(_READ_BYTES):
            yield block
