"""Whether root keys belong to a state folder: with others nothing opens, and a study would be another one.

The key-encryption keys are known by what they wrapped, in the ledger. The derivation key wraps nothing: its name is kept
in a file of the state folder, written when a ring is first opened there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from dicomnode.errors import KeyStoreError
from dicomnode.storage import files
from dicomnode.storage.keys import KeyRing
from dicomnode.storage.sealed import key_id
from dicomnode.study import World


def prove_derivation(path: Path, ring: KeyRing, *, keep: bool) -> None:
    """Prove that the ring's derivation key is the one that the state was begun with.

    Parameters
    ----------
    path
        File with its name.
    keep
        Write it where none is there yet.

    Raises
    ------
    KeyStoreError
        ``key-wrong`` if it is another, or the file is none of ours.
    StorageError
        ``storage-full``, ``storage-failed``.
    """
    name = key_id(ring.derivation).hex()
    with files.disk_errors():
        found = path.read_bytes() if path.exists() else None
        if found is None and keep:
            files.replace_file(path, (json.dumps({"derivation": name}).encode() + b"\n",))
    if found is not None and _name(found) != name:
        raise KeyStoreError("key-wrong", key="derivation")


def prove_wrapping(wrapped_by: Iterable[tuple[World, bytes]], ring: KeyRing) -> None:
    """Prove that each data key of the ring's worlds was wrapped by a key that the ring holds.

    Parameters
    ----------
    wrapped_by
        World and name of each key-encryption key that the ledger knows.

    Raises
    ------
    KeyStoreError
        ``key-wrong`` with the world.
    """
    known = {(world, ring.wrapping_key_id(world)) for world in ring.worlds}
    known |= {(world, ring.wrapping_key_id(world, following=True)) for world in ring.following}
    for world, name in wrapped_by:
        if world in ring.worlds and (world, name) not in known:
            raise KeyStoreError("key-wrong", world=world.value)


def _name(data: bytes) -> object:
    try:
        return json.loads(data)["derivation"]
    except (ValueError, TypeError, LookupError):
        return None
