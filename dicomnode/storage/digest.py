"""Digest of an object's content: tells whether two objects have equal bytes, to this node alone.

Hash, then pseudo-random function: GHASH (as GMAC under a key of its own with a fixed nonce, whose tags never leave
this module) over the bytes, then HMAC-SHA256 over tag and length. A universal hash under a secret key whose output is
hidden behind a PRF stays one when it is used again and again, and it runs at the speed of memory, where SHA-256 would
cost more than everything else that receiving does. Two objects of up to 2^32 blocks collide with probability 2^-96.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext, Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from dicomnode.storage.sealed import Buffer

_HASH_LABEL: Final = b"dicomnode content digest v1: hash"
_MAC_LABEL: Final = b"dicomnode content digest v1: mac"
_NONCE: Final = bytes(12)
_KEY_BYTES: Final = 32
_AT_ONCE_BYTES: Final = 1 << 30  # OpenSSL counts in 31 bits


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
        self._at_once = AESGCM(self._hash_key)
        self._streamed = Cipher(algorithms.AES(self._hash_key), modes.GCM(_NONCE))

    def begin(self) -> ContentDigest:
        """Digest of one object, to be fed."""
        return ContentDigest(self)

    def stream(self) -> AEADEncryptionContext:
        """Hash of bytes that come one after the other."""
        return self._streamed.encryptor()

    def tag(self, data: Buffer) -> bytes:
        """Hash of bytes that are at hand whole: the same, without the cost of a stream."""
        return self._at_once.encrypt(_NONCE, b"", data)

    def hidden(self, tag: bytes, length: int) -> str:
        """Digest of so many bytes that have this hash."""
        return hmac.digest(self._mac_key, tag + length.to_bytes(8, "big"), "sha256").hex()

    def of(self, data: Buffer) -> str:
        """Digest of bytes that are at hand whole."""
        digest = self.begin()
        digest.update(data, last=len(data) <= _AT_ONCE_BYTES)
        return digest.hexdigest()


class ContentDigest:
    """One object's digest; how its bytes are cut into updates does not matter."""

    def __init__(self, digests: ContentDigests) -> None:
        self._digests = digests
        self._stream: AEADEncryptionContext | None = None
        self._tag: bytes | None = None
        self._length = 0

    def update(self, data: Buffer, /, *, last: bool = False) -> None:
        """More bytes; no more where it is said that they are the last."""
        self._length += len(data)
        if last and self._stream is None:
            self._tag = self._digests.tag(data)
            return
        if self._stream is None:
            self._stream = self._digests.stream()
        self._stream.authenticate_additional_data(data)

    def hexdigest(self) -> str:
        """Digest of all bytes, 64 hexadecimal digits; to be asked once."""
        if self._tag is None:
            stream = self._stream or self._digests.stream()
            stream.finalize()
            self._tag = stream.tag
        return self._digests.hidden(self._tag, self._length)


def _derived(key: bytes, label: bytes) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=_KEY_BYTES, info=label).derive(key)
