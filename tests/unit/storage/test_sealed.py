"""The framing, against a second implementation that shares no code with it, and against its stored vectors."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage import sealed
from dicomnode.storage.sealed import SealContext, Sealer
from dicomnode.study import Purpose

VECTORS = Path(__file__).resolve().parents[2] / "data" / "sealed_vectors.json"
KEY = bytes(range(32))
CONTEXT = SealContext(study_key="ab" * 16, object_id="segment:7", purpose=Purpose.RECORD)


def reference_seal(key: bytes, salt: bytes, chunk: int, context: tuple[str, str, str], plaintext: bytes) -> bytes:
    """The format as `formats.md` tells it, written down once more with nothing but primitives."""
    name = hashlib.sha256(b"dicomnode key id v1\x00" + key).digest()[:8]
    header = b"DNSEAL" + b"\x01" + b"\x01" + name + salt + struct.pack(">I", chunk)
    file_key = HKDF(algorithm=SHA256(), length=32, salt=salt, info=header).derive(key)
    parts = [header, *(text.encode() for text in context)]
    associated = hashlib.sha256(b"".join(struct.pack(">I", len(part)) + part for part in parts)).digest()
    chunks = [plaintext[i : i + chunk] for i in range(0, len(plaintext), chunk)] or [b""]
    out = header
    for number, piece in enumerate(chunks):
        nonce = struct.pack(">QI", number >> 24, (number & 0xFFFFFF) << 8 | (number == len(chunks) - 1))
        out += AESGCM(file_key).encrypt(nonce, piece, associated)
    return out


def vectors() -> list[dict[str, object]]:
    """What `sealed_vectors.json` holds: made by the reference alone."""
    made = []
    for number, (size, chunk) in enumerate([(0, 64), (1, 64), (64, 64), (65, 64), (200, 64), (5000, 4096)]):
        key = hashlib.sha256(f"vector key {number}".encode()).digest()
        salt = hashlib.sha256(f"vector salt {number}".encode()).digest()
        plaintext = hashlib.shake_128(f"vector plaintext {number}".encode()).digest(size)
        context = ("0123456789abcdef" * 2, f"object {number}", list(Purpose)[number].value)
        made.append(
            {
                "key": key.hex(),
                "salt": salt.hex(),
                "chunk_bytes": chunk,
                "study_key": context[0],
                "object_id": context[1],
                "purpose": context[2],
                "plaintext": plaintext.hex(),
                "sealed": reference_seal(key, salt, chunk, context, plaintext).hex(),
            }
        )
    return made


def stored() -> list[dict[str, object]]:
    return list(json.loads(VECTORS.read_text()))


def test_the_vectors_are_those_of_the_reference() -> None:
    assert stored() == vectors()


@pytest.mark.parametrize("number", range(6))
def test_vector_in_both_directions(number: int) -> None:
    vector = stored()[number]
    key, salt, plaintext, data = (bytes.fromhex(str(vector[n])) for n in ("key", "salt", "plaintext", "sealed"))
    context = SealContext(
        study_key=str(vector["study_key"]),
        object_id=str(vector["object_id"]),
        purpose=Purpose(str(vector["purpose"])),
    )
    chunk_bytes = int(str(vector["chunk_bytes"]))
    sealer = Sealer(key, context=context, chunk_bytes=chunk_bytes, salt=salt)
    assert b"".join(sealer.frames([plaintext])) == data
    assert sealed.open_sealed(key, data, context=context) == plaintext
    assert len(data) == sealed.sealed_length(len(plaintext), chunk_bytes)


def test_salts_are_fresh() -> None:
    assert sealed.seal(KEY, b"x", context=CONTEXT) != sealed.seal(KEY, b"x", context=CONTEXT)


def test_the_key_id_given_is_the_keys() -> None:
    data = sealed.seal(KEY, b"x", context=CONTEXT, key_id=sealed.key_id(KEY))
    assert sealed.open_sealed(KEY, data, context=CONTEXT) == b"x"
    with pytest.raises(ValueError, match="key id"):
        sealed.seal(KEY, b"x", context=CONTEXT, key_id=bytes(8))


def test_another_key_is_damage_as_any_other() -> None:
    """The key given is the study's own, which the root keys opened: the object is none of that study, or was changed."""
    with pytest.raises(StorageError) as caught:
        sealed.open_sealed(bytes(32), sealed.seal(KEY, b"x", context=CONTEXT), context=CONTEXT)
    assert caught.value.code == "sealed-damaged"
    assert not isinstance(caught.value, KeyStoreError)


def test_a_chunk_is_released_before_the_next_frame_is_read() -> None:
    data = sealed.seal(KEY, bytes(300), context=CONTEXT, chunk_bytes=64)
    asked = 0

    def slowly() -> list[bytes]:
        nonlocal asked
        for start in range(0, len(data), 10):
            asked += 1
            yield data[start : start + 10]  # type: ignore[misc]

    chunks = sealed.open_stream(KEY, slowly(), context=CONTEXT)
    assert next(chunks) == bytes(64)
    assert asked < len(data) // 10
    assert b"".join(chunks) == bytes(300 - 64)


@pytest.mark.parametrize("chunk_bytes", [0, 63, 16 * 1024 * 1024 + 1])
def test_chunk_sizes_have_bounds(chunk_bytes: int) -> None:
    with pytest.raises(ValueError, match="chunk_bytes"):
        Sealer(KEY, context=CONTEXT, chunk_bytes=chunk_bytes)


def test_a_key_and_a_salt_have_32_bytes() -> None:
    with pytest.raises(ValueError, match="data key"):
        Sealer(KEY[:31], context=CONTEXT)
    with pytest.raises(ValueError, match="salt"):
        Sealer(KEY, context=CONTEXT, salt=b"short")


@pytest.mark.parametrize(("before", "size", "last"), [(0, 63, False), (0, 65, True), (1, 0, True), (0, 0, False)])
def test_chunks_out_of_size_are_refused(before: int, size: int, last: bool) -> None:
    sealer = Sealer(KEY, context=CONTEXT, chunk_bytes=64)
    for _ in range(before):
        sealer.seal_into(bytes(64), memoryview(bytearray(80)), last=False)
    with pytest.raises(ValueError, match="chunk"):
        sealer.seal_into(bytes(size), memoryview(bytearray(size + 16)), last=last)


def test_nothing_follows_the_last_chunk() -> None:
    sealer = Sealer(KEY, context=CONTEXT, chunk_bytes=64)
    sealer.seal_into(b"end", memoryview(bytearray(19)), last=True)
    with pytest.raises(ValueError, match="chunk"):
        sealer.seal_into(b"more", memoryview(bytearray(20)), last=True)


@pytest.mark.parametrize("offset", [0, 6, 7, 48])
def test_a_header_that_is_none(offset: int) -> None:
    data = bytearray(sealed.seal(KEY, b"x", context=CONTEXT))
    data[offset] ^= 0xFF
    with pytest.raises(StorageError) as caught:
        sealed.open_sealed(KEY, data, context=CONTEXT)
    assert caught.value.code == "sealed-damaged"


def test_a_second_empty_last_chunk_is_no_stream() -> None:
    """One plaintext has one framing: an empty chunk behind a full one is refused even with a right tag."""
    salt = bytes(32)
    whole = reference_seal(KEY, salt, 64, (CONTEXT.study_key, CONTEXT.object_id, "record"), bytes(64))
    header = whole[: sealed.HEADER_BYTES]
    opener = sealed.Opener(KEY, header, context=CONTEXT)
    full = Sealer(KEY, context=CONTEXT, chunk_bytes=64, salt=salt)
    frame = bytearray(80)
    full.seal_into(bytes(64), memoryview(frame), last=False)
    assert opener.open_frame(frame, last=False) == bytes(64)
    with pytest.raises(StorageError):
        opener.open_frame(bytes(16), last=True)


def test_plaintext_that_is_not_bytes_of_one() -> None:
    data = b"".join(Sealer(KEY, context=CONTEXT).frames([memoryview(bytes(8)).cast("H"), b"", bytearray(b"z")]))
    assert sealed.open_sealed(KEY, data, context=CONTEXT) == bytes(8) + b"z"
