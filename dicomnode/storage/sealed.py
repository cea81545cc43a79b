"""Sealed framing: STREAM over AES-256-GCM for every object at rest. Pure: no file, no clock, no key store.

The exact format stands in ``deploy/docs/formats.md``; its vectors in ``tests/data/sealed_vectors.json``. Whatever was cut,
reordered, swapped between studies or flipped fails closed, before any of the chunk concerned is released.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dicomnode.errors import StorageError
from dicomnode.study import Purpose

Buffer = bytes | bytearray | memoryview

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 8
SALT_BYTES: Final = 32
TAG_BYTES: Final = 16
DEFAULT_CHUNK_BYTES: Final = 256 * 1024
MINIMUM_CHUNK_BYTES: Final = 64
MAXIMUM_CHUNK_BYTES: Final = 16 * 1024 * 1024

_MAGIC: Final = b"DNSEAL"
_VERSION: Final = 1
_SUITE: Final = 1  # HKDF-SHA256, AES-256-GCM
_HEADER: Final = struct.Struct(f">6sBB{KEY_ID_BYTES}s{SALT_BYTES}sI")
HEADER_BYTES: Final = _HEADER.size
_HEADER_LENGTH: Final = HEADER_BYTES.to_bytes(4, "big")
_COUNTER_BYTES: Final = 11
_KEY_ID_LABEL: Final = b"dicomnode key id v1\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealContext:
    """What a sealed object is bound to; opening it under any other context fails."""

    study_key: str
    object_id: str
    purpose: Purpose


def key_id(key: bytes) -> bytes:
    """Name of a key: the first 8 bytes of SHA-256 over a label and the key."""
    return hashlib.sha256(_KEY_ID_LABEL + key).digest()[:KEY_ID_BYTES]


def sealed_length(plaintext_bytes: int, chunk_bytes: int) -> int:
    """Bytes that a plaintext takes when sealed."""
    chunks = max(1, -(-plaintext_bytes // chunk_bytes))
    return HEADER_BYTES + plaintext_bytes + chunks * TAG_BYTES


class Sealer:
    """Seals one plaintext, chunk after chunk.

    Parameters
    ----------
    key
        Data key, 32 bytes.
    context
        What the object is bound to.
    chunk_bytes
        Plaintext bytes of a chunk; all but the last have exactly as many.
    salt
        32 bytes, for test vectors alone; the default is fresh randomness, and nothing else is safe.
    named
        The key's id, where the caller has it at hand.

    Raises
    ------
    ValueError
        If the key, the chunk size or the salt is out of range.
    """

    def __init__(
        self,
        key: bytes,
        *,
        context: SealContext,
        chunk_bytes: int = DEFAULT_CHUNK_BYTES,
        salt: bytes | None = None,
        named: bytes | None = None,
    ) -> None:
        if not MINIMUM_CHUNK_BYTES <= chunk_bytes <= MAXIMUM_CHUNK_BYTES:
            raise ValueError("chunk_bytes is out of range")
        salt = os.urandom(SALT_BYTES) if salt is None else salt
        if len(salt) != SALT_BYTES:
            raise ValueError("a salt has 32 bytes")
        self.header = _HEADER.pack(_MAGIC, _VERSION, _SUITE, named or key_id(key), salt, chunk_bytes)
        self.chunk_bytes = chunk_bytes
        self._cipher = _file_cipher(key, salt, self.header)
        self._associated = _associated_data(self.header, context)
        self._counter = 0
        self._finished = False

    def seal_into(self, chunk: Buffer, frame: memoryview, *, last: bool) -> int:
        """Seal one chunk into a buffer of exactly ``len(chunk) + 16`` bytes; returns that number.

        Raises
        ------
        ValueError
            If the chunk's size breaks the framing, or the last chunk was sealed before.
        """
        size = len(chunk)
        empty_allowed = last and self._counter == 0
        if self._finished or size > self.chunk_bytes or (size < self.chunk_bytes and not last):
            raise ValueError("a chunk of this size cannot stand here")
        if size == 0 and not empty_allowed:
            raise ValueError("only an empty plaintext has an empty chunk")
        written = self._cipher.encrypt_into(_nonce(self._counter, last), chunk, self._associated, frame)
        self._counter += 1
        self._finished = last
        return written

    def frames(self, plaintext: Iterable[Buffer]) -> Iterator[bytes]:
        """Header, then frames, of a plaintext that comes in buffers of any size."""
        yield self.header
        for chunk, last in pieces(plaintext, self.chunk_bytes):
            frame = bytearray(len(chunk) + TAG_BYTES)
            self.seal_into(chunk, memoryview(frame), last=last)
            yield bytes(frame)


class Opener:
    """Opens one sealed object, frame after frame; releases nothing whose tag it has not checked.

    Raises
    ------
    StorageError
        ``sealed-damaged`` if the header is not one, or names another key: that given is the study's own.
    """

    def __init__(self, key: bytes, header: Buffer, *, context: SealContext) -> None:
        if len(header) != HEADER_BYTES:
            raise StorageError("sealed-damaged", bytes=len(header))
        raw = bytes(header)
        magic, version, suite, named, salt, chunk_bytes = _HEADER.unpack(raw)
        if (magic, version, suite) != (_MAGIC, _VERSION, _SUITE):
            raise StorageError("sealed-damaged", version=version, suite=suite)
        if not MINIMUM_CHUNK_BYTES <= chunk_bytes <= MAXIMUM_CHUNK_BYTES:
            raise StorageError("sealed-damaged", chunk=chunk_bytes)
        if named != key_id(key):
            raise StorageError("sealed-damaged", key=0)
        self.frame_bytes: int = chunk_bytes + TAG_BYTES
        self._cipher = _file_cipher(key, salt, raw)
        self._associated = _associated_data(raw, context)
        self._counter = 0

    def skip_to(self, number: int) -> None:
        """Go on with the frame of this number: each is bound to its place, and the last to being the last."""
        self._counter = number

    def open_frame(self, frame: Buffer, *, last: bool) -> bytes:
        """Plaintext of the next frame.

        Raises
        ------
        StorageError
            ``sealed-damaged`` if it is not the frame that was sealed at this place, last or not as asked.
        """
        empty = len(frame) <= TAG_BYTES
        if empty and not (last and self._counter == 0 and len(frame) == TAG_BYTES):
            raise StorageError("sealed-damaged", chunk=self._counter)
        try:
            chunk = self._cipher.decrypt(_nonce(self._counter, last), frame, self._associated)
        except InvalidTag:
            raise StorageError("sealed-damaged", chunk=self._counter) from None
        self._counter += 1
        return chunk


def seal(
    key: bytes,
    plaintext: Buffer,
    *,
    context: SealContext,
    chunk_bytes: int = DEFAULT_CHUNK_BYTES,
    key_id: bytes | None = None,
) -> bytes:
    """Seal a plaintext that is at hand whole.

    Parameters
    ----------
    key_id
        Where given, it must be the key's own.

    Raises
    ------
    ValueError
        As `Sealer`; also if `key_id` is not the key's.
    """
    sealer = Sealer(key, context=context, chunk_bytes=chunk_bytes)
    if key_id is not None and key_id != _key_id(key):
        raise ValueError("the key id is not the key's")
    return b"".join(sealer.frames((plaintext,)))


def open_sealed(key: bytes, data: Buffer, *, context: SealContext) -> bytes:
    """Plaintext of a sealed object that is at hand whole.

    Raises
    ------
    StorageError
        ``sealed-damaged`` if anything of it, its key or its context, is not as sealed.
    """
    return b"".join(open_stream(key, (data,), context=context))


def open_stream(key: bytes, data: Iterable[Buffer], *, context: SealContext) -> Iterator[bytes]:
    """Plaintext chunks of a sealed object that comes in buffers of any size; errors as `open_sealed`.

    Every chunk that comes out is authentic; only a stream that ends without an error is whole.
    """
    source = iter(data)
    header = bytearray()
    rest = memoryview(b"")
    while len(header) < HEADER_BYTES and (buffer := next(source, None)) is not None:
        view = memoryview(buffer).cast("B")
        missing = HEADER_BYTES - len(header)
        header += view[:missing]
        rest = view[missing:]
    opener = Opener(key, header, context=context)
    for frame, last in pieces(_chain(rest, source), opener.frame_bytes):
        yield opener.open_frame(frame, last=last)


def pieces(buffers: Iterable[Buffer], size: int) -> Iterator[tuple[Buffer, bool]]:
    """Cut buffers of any size into pieces of exactly `size`, the last (flagged) of at most that; at least one piece.

    A piece may be a view into the caller's buffer: it is to be used before the next one is asked for.
    """
    pending = bytearray()
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        start = 0
        if pending:
            start = min(size - len(pending), len(view))
            pending += view[:start]
            if start < len(view):
                yield pending, False
                pending = bytearray()
        while len(view) - start > size:
            yield view[start : start + size], False
            start += size
        pending += view[start:]
    yield pending, True


def _chain(first: memoryview, rest: Iterator[Buffer]) -> Iterator[Buffer]:
    yield first
    yield from rest


def _file_cipher(key: bytes, salt: bytes, header: bytes) -> AESGCM:
    """Cipher under HKDF-SHA256 (RFC 5869) of the data key: extracted with the salt, one block expanded."""
    if len(key) != KEY_BYTES:
        raise ValueError("a data key has 32 bytes")
    extracted = hmac.digest(salt, key, "sha256")
    return AESGCM(hmac.digest(extracted, header + b"\x01", "sha256"))


def _associated_data(header: bytes, context: SealContext) -> bytes:
    return hashlib.sha256(
        _HEADER_LENGTH + header + _part(context.study_key) + _part(context.object_id) + _part(context.purpose)
    ).digest()


@lru_cache(64)
def _part(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(4, "big") + encoded


def _nonce(counter: int, last: bool) -> bytes:
    return (counter << 8 | last).to_bytes(_COUNTER_BYTES + 1, "big")


_key_id = key_id
