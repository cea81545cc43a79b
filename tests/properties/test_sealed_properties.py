"""Whatever is done to a sealed object or its context, it opens to what was sealed or not at all."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dicomnode.errors import StorageError
from dicomnode.storage import sealed
from dicomnode.storage.sealed import HEADER_BYTES, SealContext, Sealer
from dicomnode.study import Purpose

KEY = bytes(range(32))
CHUNK = 64
FRAME = CHUNK + 16
CONTEXT = SealContext(study_key="ab" * 16, object_id="segment:7", purpose=Purpose.RECORD)
plaintexts = st.binary(max_size=6 * CHUNK)
contexts = st.builds(
    SealContext, study_key=st.text(max_size=8), object_id=st.text(max_size=8), purpose=st.sampled_from(Purpose)
)


def sealed_plaintext(plaintext: bytes) -> bytes:
    return sealed.seal(KEY, plaintext, context=CONTEXT, chunk_bytes=CHUNK)


def assert_refused(data: bytes, context: SealContext = CONTEXT) -> None:
    with pytest.raises(StorageError) as caught:
        sealed.open_sealed(KEY, data, context=context)
    assert caught.value.code == "sealed-damaged"


@given(plaintexts, st.lists(st.integers(0, 200)), st.lists(st.integers(1, 200), min_size=1))
def test_buffers_of_any_size_make_the_same_object(plaintext: bytes, cuts: list[int], reads: list[int]) -> None:
    places = sorted({0, len(plaintext), *(cut for cut in cuts if cut < len(plaintext))})
    buffers = [plaintext[a:b] for a, b in zip(places, [*places[1:], len(plaintext)], strict=True)]
    salt = bytes(32)
    streamed = b"".join(Sealer(KEY, context=CONTEXT, chunk_bytes=CHUNK, salt=salt).frames(buffers))
    assert streamed == b"".join(Sealer(KEY, context=CONTEXT, chunk_bytes=CHUNK, salt=salt).frames([plaintext]))
    taken, start, turn = [], 0, 0
    while start < len(streamed):
        taken.append(streamed[start : start + reads[turn % len(reads)]])
        start += len(taken[-1])
        turn += 1
    assert b"".join(sealed.open_stream(KEY, taken, context=CONTEXT)) == plaintext


@given(plaintexts, st.data())
def test_any_flipped_bit_is_refused(plaintext: bytes, data: st.DataObject) -> None:
    whole = bytearray(sealed_plaintext(plaintext))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << bit % 8
    assert_refused(bytes(whole))


@given(plaintexts, st.data())
def test_any_truncation_is_refused(plaintext: bytes, data: st.DataObject) -> None:
    whole = sealed_plaintext(plaintext)
    assert_refused(whole[: data.draw(st.integers(0, len(whole) - 1))])


@given(plaintexts, st.binary(min_size=1, max_size=200))
def test_trailing_bytes_are_refused(plaintext: bytes, more: bytes) -> None:
    assert_refused(sealed_plaintext(plaintext) + more)


@given(st.binary(min_size=3 * CHUNK, max_size=6 * CHUNK), st.data())
def test_reordered_repeated_or_dropped_frames_are_refused(plaintext: bytes, data: st.DataObject) -> None:
    whole = sealed_plaintext(plaintext)
    frames = [whole[i : i + FRAME] for i in range(HEADER_BYTES, len(whole), FRAME)]
    order = data.draw(st.lists(st.integers(0, len(frames) - 1), max_size=2 * len(frames)))
    assume(order != list(range(len(frames))))
    assert_refused(whole[:HEADER_BYTES] + b"".join(frames[i] for i in order))


@given(plaintexts, contexts)
def test_any_other_context_is_refused(plaintext: bytes, context: SealContext) -> None:
    assume(context != CONTEXT)
    assert_refused(sealed_plaintext(plaintext), context)


@given(st.binary(max_size=4 * CHUNK), st.binary(max_size=4 * CHUNK))
def test_frames_of_another_object_are_refused(one: bytes, other: bytes) -> None:
    assert_refused(sealed_plaintext(one)[:HEADER_BYTES] + sealed_plaintext(other)[HEADER_BYTES:])


@given(st.binary(max_size=300))
def test_garbage_is_refused(data: bytes) -> None:
    assert_refused(data)
