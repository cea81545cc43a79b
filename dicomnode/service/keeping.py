"""Chores of keys on a node that stands still: which there are, rotation, destroying a study's, the key of the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dicomnode.config import Config
from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage import audit, recipients, rotation
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import KeyRing, adopt_following, make_following
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.lock import StateLock
from dicomnode.storage.objects import Objects
from dicomnode.study import World


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLine:
    """A key-encryption key and how many data keys it wraps; never the key."""

    world: str
    key_id: str
    role: str
    wrapped: int


def list_keys(tree: Config, environment: Mapping[str, str]) -> list[KeyLine]:
    """Key-encryption keys that are there or that the ledger names; the node may be running.

    Raises
    ------
    ConfigError
        ``state-not-found``.
    KeyStoreError
        If the keys cannot be read.
    """
    layout = Layout.of(tree)
    rooms.require_state(layout)
    ring = rooms.open_key_ring(tree, layout, environment, create=False)
    counts: dict[tuple[World, bytes], int] = {}
    if layout.ledger.exists():
        ledger = Ledger.open_read_only(layout.ledger)
        try:
            counts = ledger.count_wrapped_keys()
        finally:
            ledger.close()
    known = dict(_known(ring))
    return [
        KeyLine(world=key[0].value, key_id=key[1].hex(), role=known.get(key, "unknown"), wrapped=counts.get(key, 0))
        for key in sorted({*known, *counts})
    ]


def _known(ring: KeyRing) -> Iterator[tuple[tuple[World, bytes], str]]:
    for world in ring.worlds:
        yield (world, ring.wrapping_key_id(world)), "present"
    for world in ring.following:
        yield (world, ring.wrapping_key_id(world, following=True)), "following"


def rotate_keys(tree: Config, environment: Mapping[str, str]) -> dict[str, int]:
    """New key-encryption keys for both worlds; or, where a rotation was broken off, the rest of that one.

    Keys of the keys folder are made and put in place here. Keys of credentials or of a program are not ours to make:
    they have to be there as ``identity.next`` and ``pseudonym.next``, and take the present ones' places by hand
    when this has returned.

    Returns
    -------
    dict
        World → data keys that were wrapped anew.

    Raises
    ------
    ConfigError
        ``state-not-found``, ``node-running``.
    KeyStoreError
        ``key-missing`` where no following key is there.
    StorageError
        ``ledger-missing``: what it wraps would be lost with the old keys.
    """
    layout = Layout.of(tree)
    rooms.require_state(layout)
    if rooms.ledger_is_missing(layout):
        raise StorageError("ledger-missing")
    with StateLock(layout.state):
        ring = rooms.open_key_ring(tree, layout, environment, create=False)
        ours = tree.keys.source in ("auto", "files") and (layout.keys / "identity.key").exists()
        if ours and not ring.following:
            for world in World:
                make_following(layout.keys, world)
            ring = rooms.open_key_ring(tree, layout, environment, create=False)
        if not ring.following:
            raise KeyStoreError("key-missing", missing=len(World))
        counts = {}
        ledger = Ledger.open(layout.ledger)
        try:
            for world in ring.following:
                counts[world.value] = rotation.rotate(ledger, ring, world)
                audit.append(layout.state, "key-rotated", rooms.now(), world=world.value, wrapped=counts[world.value],
                             key_id=ring.wrapping_key_id(world, following=True).hex())  # fmt: skip
                if ours:
                    adopt_following(layout.keys, world)
        finally:
            ledger.close()
    return counts


def destroy_study(tree: Config, environment: Mapping[str, str], study_key: str) -> None:
    """Take a study's keys away for good, and then what they sealed that stands alone; audited before and after.

    Raises
    ------
    ConfigError
        ``state-not-found``, ``node-running``: a running node holds keys in its memory.
    KeyStoreError
        ``key-missing`` where the study has none.
    """
    layout = Layout.of(tree)
    rooms.require_state(layout)
    with StateLock(layout.state):
        ring = rooms.open_key_ring(tree, layout, environment, create=False)
        ledger = Ledger.open(layout.ledger)
        try:
            if not any(ledger.wrapped_key(study_key, world) for world in World):
                raise KeyStoreError("key-missing", missing=len(World))
            audit.append(layout.state, "study-destroying", rooms.now(), study_key=study_key)
            keys = DataKeys(ledger, ring)
            keys.shred(study_key)
            Objects(layout.objects, keys).purge(study_key)
            audit.append(layout.state, "study-destroyed", rooms.now(), study_key=study_key)
        finally:
            ledger.close()


def export_public(tree: Config) -> str:
    """Certificate for which exports may encrypt what was taken out of them; its private key is made at the first call.

    Raises
    ------
    ConfigError
        ``state-not-found``.
    KeyStoreError
        ``key-missing`` where there is no keys folder; ``key-permissions``.
    """
    rooms.require_state(Layout.of(tree))
    return recipients.public_certificate(_keys_folder(tree))


def _keys_folder(tree: Config) -> Path:
    folder = Layout.of(tree).keys
    if not folder.is_dir():
        raise KeyStoreError("key-missing", missing=1)
    return folder
