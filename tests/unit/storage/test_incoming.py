"""A record that is sealed in place as it comes is, byte for byte, the one that is sealed from copies."""

from __future__ import annotations

import contextlib
import mmap
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dicomnode.storage import segment
from dicomnode.storage.behind import Behind
from dicomnode.storage.incoming import Incoming, stage_bytes
from dicomnode.storage.sealed import SealContext, Sealer
from dicomnode.storage.writer import aligned_buffer
from dicomnode.study import Purpose, RecordMetadata

KEY = bytes(range(32))
SALT = bytes(32)
CHUNK, ALIGNMENT = 4096, 4096
CONTEXT = SealContext(study_key="ab", object_id="seg:0", purpose=Purpose.RECORD)


def metadata(length: int) -> RecordMetadata:
    return RecordMetadata(
        sop_class_uid="1.2", sop_instance_uid="1.2.3", study_instance_uid="1.2.4", series_instance_uid="1.2.5",
        transfer_syntax_uid="1.2.840.10008.1.2.1", calling_ae_title="A", called_ae_title="B", peer_address="::1",
        received_at=datetime(2026, 1, 1, tzinfo=UTC), digest="00", length=length,
    )  # fmt: skip


class Disk:
    """The place and the writer of a record, in memory."""

    def __init__(self, position: int = 8192) -> None:
        self.position, self.data, self.order = position, bytearray(position), list[tuple[int, int, bool]]()
        self.writer = self
        self.committed = False
        self.done: tuple[bytes, bytes] | None = None

    def write(self, block: memoryview, offset: int, *, durable: bool = False) -> None:
        assert offset % ALIGNMENT == len(block) % ALIGNMENT == 0
        self.data.extend(bytes(max(0, offset + len(block) - len(self.data))))
        self.data[offset : offset + len(block)] = block
        self.order.append((offset, len(block), durable))
        self.committed = durable

    def commit(self) -> None:
        self.committed = True

    def truncate(self, size: int) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def sealer(self) -> Sealer:
        return Sealer(KEY, context=CONTEXT, chunk_bytes=CHUNK, salt=SALT)

    def prefix(self, sealed_bytes: int) -> bytes:
        return segment.pack_prefix("5e" * 16, 0, sealed_bytes, closing=False)

    def added(self, prefix: bytes, tag: bytes, sealed_bytes: int) -> None:
        assert self.committed
        assert (
            segment.Prefix(segment_id="5e" * 16, number=0, sealed_bytes=sealed_bytes, closing=False).packed() == prefix
        )
        self.done = prefix, tag


class Heard:
    def __init__(self) -> None:
        self.data = b""
        self.ended = False

    def update(self, data: memoryview, /, *, last: bool = False) -> None:
        assert not self.ended
        self.data += bytes(data)
        self.ended = last


def expected(data: bytes) -> bytes:
    plaintext = data + segment.pack_metadata(metadata(len(data)))
    return b"".join(Sealer(KEY, context=CONTEXT, chunk_bytes=CHUNK, salt=SALT).frames([plaintext]))


def come(incoming: Incoming, data: bytes, pieces: list[int]) -> None:
    rest = memoryview(data)
    turn = 0
    while rest:
        with incoming.window() as window:
            assert len(window)
            count = min(len(window), len(rest), pieces[turn % len(pieces)])
            window[:count] = rest[:count]
        incoming.advance(count)
        rest = rest[count:]
        turn += 1


TRAILER = len(segment.pack_metadata(metadata(0)))
SIZES = st.one_of(
    st.integers(0, 40_000), st.sampled_from([CHUNK, 2 * CHUNK, CHUNK - TRAILER, 2 * CHUNK - TRAILER, CHUNK - 1])
)


class Stages:
    def borrow(self) -> mmap.mmap:
        return aligned_buffer(stage_bytes(CHUNK, ALIGNMENT))

    def bring_back(self, buffer: mmap.mmap) -> None:
        return None


@settings(deadline=None)
@given(SIZES, st.lists(st.integers(1, 9000), min_size=1, max_size=6), st.integers(0, 12_000), st.booleans())
@example(size=5 * CHUNK + 7, pieces=[CHUNK, 3, CHUNK], known_after=0, is_behind=False)
@example(size=5 * CHUNK + 7, pieces=[CHUNK, 3, CHUNK], known_after=0, is_behind=True)
@example(size=2 * CHUNK, pieces=[CHUNK], known_after=CHUNK, is_behind=False)
@example(size=CHUNK, pieces=[CHUNK], known_after=CHUNK, is_behind=False)
@example(size=3 * CHUNK, pieces=[CHUNK], known_after=2 * CHUNK, is_behind=True)
def test_in_place_is_as_from_copies(size: int, pieces: list[int], known_after: int, is_behind: bool) -> None:
    with ThreadPoolExecutor(1) as executor, contextlib.closing(Behind(Stages(), executor)) as behind:
        in_place(size, pieces, known_after, behind if is_behind else None)


def in_place(size: int, pieces: list[int], known_after: int, behind: Behind | None) -> None:
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    disk, heard = Disk(), Heard()
    stage = memoryview(bytearray(stage_bytes(CHUNK, ALIGNMENT)))
    incoming = Incoming(stage, chunk_bytes=CHUNK, alignment=ALIGNMENT, digest=heard, behind=behind)
    known_after = min(known_after, size)
    come(incoming, data[:known_after], pieces)
    assert bytes(incoming.head()) == data[:known_after]
    incoming.bind(disk)
    come(incoming, data[known_after:], pieces)
    incoming.finish(lambda: metadata(len(heard.data)))
    assert heard.data == data
    assert disk.done is not None
    prefix = segment.parse_prefix(disk.done[0], "5e" * 16)
    assert prefix is not None
    start = disk.position
    record = bytes(disk.data[start : start + segment.PREFIX_BYTES + prefix.sealed_bytes])
    assert record == disk.done[0] + expected(data)
    assert record[-16:] == disk.done[1]
    assert not any(disk.data[start + len(record) :])
    assert disk.order[-1][0] == start, "the block with the prefix is written last"


def test_a_chunk_that_is_full_before_its_place_is_known_stays_where_it_is() -> None:
    disk, buffer = Disk(), bytearray(stage_bytes(CHUNK, ALIGNMENT))
    incoming = Incoming(memoryview(buffer), chunk_bytes=CHUNK, alignment=ALIGNMENT)
    data = bytes(range(256)) * (CHUNK // 256)
    incoming.put(data)
    head = incoming.head()
    assert head.obj is buffer, "no copy of it"
    assert head == data
    incoming.bind(disk)
    incoming.finish(metadata(CHUNK))
    assert disk.done is not None
    start = disk.position + segment.PREFIX_BYTES
    assert bytes(disk.data[start : start + len(expected(data))]) == expected(data)


def test_a_small_record_is_one_durable_write() -> None:
    disk = Disk()
    incoming = Incoming(memoryview(bytearray(stage_bytes(CHUNK, ALIGNMENT))), chunk_bytes=CHUNK, alignment=ALIGNMENT)
    incoming.bind(disk)
    incoming.put(b"x" * 9000)
    incoming.finish(metadata(9000))
    assert disk.order == [(8192, 12288, True)]


def test_a_length_that_is_not_what_came() -> None:
    incoming = Incoming(memoryview(bytearray(stage_bytes(CHUNK, ALIGNMENT))), chunk_bytes=CHUNK, alignment=ALIGNMENT)
    incoming.bind(Disk())
    incoming.put(b"xy")
    with pytest.raises(ValueError, match="length"):
        incoming.finish(metadata(1))
