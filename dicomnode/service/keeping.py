"""Chores of keys on a node that stands still: which there are, rotation, destroying a study's, the key of the way back."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from dicomnode.config import Config
from dicomnode.errors import ConfigError, KeyStoreError, StorageError
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage import audit, files, recipients, rotation
from dicomnode.storage.keys import KeyRing, adopt_following, make_following
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.lock import StateLock
from dicomnode.study import World, blind_key
from dicomnode.workflow.generations import remember
from dicomnode.workflow.recovery import end_tries

_DESTROYING: Final = "study-destroying"
#: What names a study to destroy has so many letters at least: `dicomnode studies` shows sixteen.
_LEAST_LETTERS: Final = 8


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
        ``key-missing`` where no following key is there; ``key-wrong`` where the present ones are not the state's own.
    StorageError
        ``ledger-missing``: what it wraps would be lost with the old keys. ``ledger-in-use``: old wrapped keys may still
        stand on the disk, and the old keys stay in place; to be called again.
    """
    layout = Layout.of(tree)
    rooms.require_state(layout)
    with StateLock(layout.state):
        ring, ledger = rooms.open_ledger(tree, layout, environment, create=False)
        try:
            ours = rooms.keys_are_ours(tree, environment)
            if ours and set(ring.following) != {World.PSEUDONYM}:  # else the identity world's has been put in place
                for world in World:
                    make_following(layout.keys, world)
                ring = rooms.open_key_ring(tree, layout, environment, create=False)
            if not ring.following:
                raise KeyStoreError("key-missing", missing=len(World))
            counts = {}
            for world in ring.following:
                counts[world.value] = rotation.rotate(ledger, ring, world)
                audit.append(layout.state, "key-rotated", rooms.now(), uid=os.getuid(), world=world.value,
                             wrapped=counts[world.value], key_id=ring.wrapping_key_id(world, following=True).hex())  # fmt: skip
                if ours:
                    adopt_following(layout.keys, world)
        finally:
            ledger.close()
    return counts


def study_to_destroy(tree: Config, environment: Mapping[str, str], given: str) -> str:
    """Key of the study that is meant by a key, its beginning or a Study Instance UID; also of one whose end was broken off.

    Keys are opened for a UID alone.

    Raises
    ------
    ConfigError
        ``state-not-found``; ``study-not-found`` where none or several fit, or fewer than eight letters are given.
    KeyStoreError
        As `rooms.open_key_ring`, for a UID.
    """
    layout = Layout.of(tree)
    rooms.require_state(layout)
    if "." in given:
        given = blind_key(rooms.open_key_ring(tree, layout, environment, create=False).derivation, "study", given)
    found = set(_keys_beginning(layout, given)) if len(given) >= _LEAST_LETTERS else set()
    if len(found) != 1:
        raise ConfigError("study-not-found", studies=len(found))
    return found.pop()


def _keys_beginning(layout: Layout, beginning: str) -> Iterator[str]:
    """Keys that begin so, of all studies of which anything is there, and of those whose end was begun and not reported."""
    if layout.ledger.exists():
        with Ledger.open_read_only(layout.ledger) as ledger:
            yield from ledger.study_keys(beginning)
            yield from ledger.keyed_studies(beginning)
    for folder in (layout.spool, layout.objects):
        yield from files.studies_in(folder, beginning)
    begun = {str(told.get("study_key")) for told in audit.events(layout.state, _DESTROYING)}
    yield from (
        key for key in begun if key.startswith(beginning) and audit.last_event(layout.state, key) == _DESTROYING
    )


def destroy_study(tree: Config, study_key: str) -> None:
    """Take a study's keys away for good, and then all else of it that the node keeps; audited before and after.

    No key is needed for it. What was broken off at any moment is gone on with when this is called again; a study that is
    sent again afterwards is a new one.

    Raises
    ------
    ConfigError
        ``state-not-found``, ``node-running``: a running node holds keys in its memory. ``study-not-found`` where the
        state has nothing of it.
    StorageError
        ``ledger-in-use``: nothing opens it any more, but its wrapped keys, or its rows, may still stand on the disk.
    """
    from dicomnode.workflow.pipeline import (
        forget_works,  # here: with DBOS it takes a second, and other chores need none
    )

    layout = Layout.of(tree)
    rooms.require_state(layout)
    if rooms.ledger_is_missing(layout):
        raise StorageError("ledger-missing")
    with StateLock(layout.state):
        ledger = Ledger.open(layout.ledger)
        try:
            if not _is_kept(layout, ledger, study_key):
                raise ConfigError("study-not-found")
            audit.append(layout.state, _DESTROYING, rooms.now(), study_key=study_key, uid=os.getuid())
            ledger.shred_keys(study_key)
            with files.disk_errors():
                for folder in (layout.spool, layout.objects):
                    files.remove_study(folder, study_key)
            forget_works(ledger, study_key)
            end_tries(ledger)  # of a node that was killed
            with ledger.transaction() as connection:
                if (study := ledger.study(study_key, connection=connection)) is not None:
                    remember(connection, ledger, study, rooms.now())
                ledger.purge_study(study_key, connection=connection)
            ledger.empty_journal()
            audit.append(layout.state, "study-destroyed", rooms.now(), study_key=study_key)
        finally:
            ledger.close()


def _is_kept(layout: Layout, ledger: Ledger, study_key: str) -> bool:
    """Whether anything of a study is there, or its end was begun and not reported."""
    if any(ledger.wrapped_key(study_key, world) for world in World) or ledger.study(study_key) is not None:
        return True
    try:
        left = any(files.study_folder(folder, study_key).exists() for folder in (layout.spool, layout.objects))
    except ValueError:  # no study has such a key
        return False
    return left or audit.last_event(layout.state, study_key) == _DESTROYING


def export_public(tree: Config, environment: Mapping[str, str]) -> str:
    """Certificate for which exports may encrypt what was taken out of them; its private key is made at the first call.

    It lies in the keys folder, also where the root keys come from elsewhere: the folder is made there.

    Raises
    ------
    ConfigError
        ``state-not-found``.
    KeyStoreError
        As the root keys'; ``key-permissions``.
    """
    layout = Layout.of(tree)
    rooms.require_state(layout)
    rooms.open_key_ring(tree, layout, environment, create=False)
    with files.disk_errors():
        files.make_folder(layout.keys)
    return recipients.public_certificate(layout.keys)
