"""Rotation of key-encryption keys: data keys are wrapped anew, data stays as it is. May be killed at any instruction.

While a following key is there, both open what they wrapped; a row is under one or the other. Whoever comes again goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from dicomnode.errors import KeyStoreError
from dicomnode.storage.keys import KeyRing, WrappedKey
from dicomnode.study import World

_BATCH: Final = 200


class RotatedKeys(Protocol):
    """Where wrapped keys stand: the ledger."""

    def wrapped_under(self, world: World, wrapping_key_id: bytes, limit: int) -> Sequence[tuple[str, WrappedKey]]:
        """Some keys of a world that are wrapped by a key-encryption key, with their studies."""

    def rewrap_keys(self, keys: Sequence[tuple[str, WrappedKey]]) -> None:
        """Put newly wrapped keys in the place of those that name the same data keys, committed together."""

    def count_wrapped_keys(self) -> Mapping[tuple[World, bytes], int]:
        """How many data keys each key-encryption key wraps."""

    def empty_journal(self) -> None:
        """Let nothing stand on the disk of what was replaced; ``ledger-in-use`` where that cannot be."""


def rotate(ledger: RotatedKeys, ring: KeyRing, world: World) -> int:
    """Wrap every data key of a world by its following key-encryption key.

    Returns
    -------
    int
        How many were wrapped anew in this call.

    Raises
    ------
    KeyStoreError
        ``key-missing`` where no key follows; ``key-wrong`` where a row was wrapped by neither, before any is wrapped anew.
    StorageError
        ``ledger-in-use``: all are wrapped anew, and the old ones may still stand on the disk; to be called again.
    """
    old, new = ring.wrapping_key_id(world), ring.wrapping_key_id(world, following=True)
    if any(row_world is world and key_id not in (old, new) for row_world, key_id in ledger.count_wrapped_keys()):
        raise KeyStoreError("key-wrong", world=world.value)
    count = 0
    while batch := ledger.wrapped_under(world, old, _BATCH):
        ledger.rewrap_keys([(study_key, ring.advance(study_key, wrapped)) for study_key, wrapped in batch])
        count += len(batch)
    ledger.empty_journal()
    return count
