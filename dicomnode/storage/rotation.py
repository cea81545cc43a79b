"""Rotation of key-encryption keys: data keys are wrapped anew, data stays as it is. May be killed at any instruction.

While a following key is there, both open what they wrapped; a row is under one or the other. Whoever comes again goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from dicomnode.storage.keys import KeyRing, WrappedKey
from dicomnode.study import World

_BATCH: Final = 200


class RotatedKeys(Protocol):
    """Where wrapped keys stand: the ledger."""

    def wrapped_under(self, world: World, wrapping_key_id: bytes, limit: int) -> Sequence[tuple[str, WrappedKey]]:
        """Some keys of a world that are wrapped by a key-encryption key, with their studies."""

    def rewrap_keys(self, keys: Sequence[tuple[str, WrappedKey]]) -> None:
        """Put newly wrapped keys in the place of those that name the same data keys, committed together."""


def rotate(ledger: RotatedKeys, ring: KeyRing, world: World) -> int:
    """Wrap every data key of a world by its following key-encryption key.

    Returns
    -------
    int
        How many were wrapped anew in this call.

    Raises
    ------
    KeyStoreError
        ``key-missing`` where no key follows; ``key-wrong`` where a row was wrapped by neither.
    """
    old = ring.wrapping_key_id(world)
    ring.wrapping_key_id(world, following=True)
    count = 0
    while batch := ledger.wrapped_under(world, old, _BATCH):
        ledger.rewrap_keys([(study_key, ring.advance(study_key, wrapped)) for study_key, wrapped in batch])
        count += len(batch)
    return count
