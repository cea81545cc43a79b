"""Digest of an object's content: tells whether two objects have equal bytes, to this node alone.

Hash, then pseudo-random function: GHASH (as GMAC under a key of its own with a fixed nonce, whose tags never leave
this module) over the bytes, then HMAC-SHA256 over tag and length. A universal hash under a secret key whose output is
hidden behind a PRF stays one when it is used again and again, and it runs at the speed of memory, where SHA-256 would
cost more than everything else that receiving does. Two objects of up to 2^32 blocks collide with probability 2^-96.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from dicomnode.storage.sealed import Buffer

_HASH_LABEL: Final = b"dicomnode content digest v1: hash"
_MAC_LABEL: Final = b"dicomnode content digest v1: mac"
_NONCE: Final = bytes(12)
_KEY_BYTES: Final = 32


class ContentDigests:
    """Makes digests under a node's derivation key.

    Parameters
    ----------
    derivation_key
        Key that survives rotation: equal bytes have equal digests as long as it is the same.
    """

    def __init__(self, derivation_key: bytes) -> None:
        self._hash_key = _derived(derivation_key, _HASH_LABEL)
        self._mac_key = _derived(derivation_key, _MAC_LABEL)

    def begin(self) -> ContentDigest:
        """Digest of one object, to be fed."""
        return ContentDigest(self._hash_key, self._mac_key)

    def of(self, data: Buffer) -> str:
        """Digest of bytes that are at hand whole."""
        digest = self.begin()
        digest.update(data)
        return digest.hexdigest()


class ContentDigest:
    """One object's digest; how its bytes are cut into updates does not matter."""

    def __init__(self, hash_key: bytes, mac_key: bytes) -> None:
        self._hash = Cipher(algorithms.AES(hash_key), modes.GCM(_NONCE)).encryptor()
        self._mac_key = mac_key
        self._length = 0

    def update(self, data: Buffer, /) -> None:
        """More bytes."""
        self._hash.authenticate_additional_data(data)
        self._length += len(data)

    def hexdigest(self) -> str:
        """Digest of all bytes, 64 hexadecimal digits; to be asked once."""
        self._hash.finalize()
        message = self._hash.tag + self._length.to_bytes(8, "big")
        return hmac.new(self._mac_key, message, hashlib.sha256).hexdigest()


def _derived(key: bytes, label: bytes) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=_KEY_BYTES, info=label).derive(key)
