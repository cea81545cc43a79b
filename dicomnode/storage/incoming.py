"""A record on its way into a segment: put into a stage, sealed there chunk by chunk, written as the stage fills.

Plaintext and ciphertext share one buffer: a chunk is sealed in its place, so an object costs one copy from the socket
and none after it. Nothing here knows of the spool; one user at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from dicomnode.storage import segment
from dicomnode.storage.behind import Behind
from dicomnode.storage.sealed import HEADER_BYTES, TAG_BYTES, Buffer, Sealer
from dicomnode.storage.writer import Writer
from dicomnode.study import RecordMetadata

_CHUNKS: Final = 2.5  # of a stage: a CT slice of 0.5 MB becomes one write
_START: Final = segment.PREFIX_BYTES + HEADER_BYTES

Metadata = RecordMetadata | Callable[[], RecordMetadata]


def stage_bytes(chunk_bytes: int, alignment: int) -> int:
    """Size of the buffer that a record is sealed into."""
    needed = _START + int(_CHUNKS * (chunk_bytes + TAG_BYTES))
    return segment.round_up(needed, alignment) + alignment


class Digest(Protocol):
    """Told of every byte of the Data Set, in order."""

    def update(self, data: memoryview, /, *, last: bool = False) -> None:
        """So many more, and the last ones if that is said."""


class Place(Protocol):
    """Where in a segment a record goes, and under what."""

    def sealer(self) -> Sealer:
        """Fresh cipher of the next record."""

    @property
    def writer(self) -> Writer:
        """The segment's file."""

    @property
    def position(self) -> int:
        """Byte at which the next record begins."""

    def prefix(self, sealed_bytes: int) -> bytes:
        """What stands before the record."""

    def added(self, prefix: bytes, tag: bytes, sealed_bytes: int) -> None:
        """The record is durable."""


class Incoming:
    """One record.

    Parameters
    ----------
    stage
        Page-aligned buffer of `stage_bytes`.
    chunk_bytes
        Plaintext bytes of a sealed chunk.
    alignment
        Of writes.
    digest
        Told of the Data Set, if anybody.
    behind
        Writes a full stage while the next one is filled; without it, that is waited for.
    """

    def __init__(
        self,
        stage: memoryview,
        *,
        chunk_bytes: int,
        alignment: int,
        digest: Digest | None = None,
        behind: Behind | None = None,
    ) -> None:
        self.length = 0
        self._stage = stage
        self._room = len(stage) - TAG_BYTES
        self._chunk_bytes = chunk_bytes
        self._alignment = alignment
        self._digest = digest
        self._behind = behind
        self._early = bytearray()  # chunks that came before it was known whose they are, but for the last
        self._start = _START  # of the current chunk in the stage
        self._pending = 0  # plaintext bytes of the current chunk
        self._written = 0  # bytes of the record that stand before the stage's first
        self._first: bytes | None = None  # block with the prefix, kept back once others are written
        self._sealer: Sealer | None = None
        self._place: Place | None = None
        self._complete = False

    def window(self) -> memoryview:
        """Place for the next bytes of plaintext; at least one."""
        if self._pending == self._chunk_bytes:  # its place is not known yet
            self._early += self._stage[self._start : self._start + self._pending]
            self._pending = 0
        if self._start + self._pending >= self._room or (
            self._first is not None and not self._pending and self._start + self._chunk_bytes > self._room
        ):  # a long record is cut between chunks: less moves to the front
            self._write_full()
        return self._stage[self._start + self._pending : min(self._start + self._chunk_bytes, self._room)]

    def advance(self, count: int) -> None:
        """So many bytes of the Data Set were put into the window."""
        self.length += count
        self._pending += count
        if self._pending == self._chunk_bytes and self._place is not None:
            self._seal_full()

    def put(self, data: Buffer) -> None:
        """Copy bytes of the Data Set in."""
        view = memoryview(data).cast("B")
        while len(view):
            count = self._copy(view)
            self.advance(count)
            view = view[count:]

    def head(self) -> memoryview:
        """Plaintext so far, while no place is known."""
        current = self._stage[self._start : self._start + self._pending]
        return memoryview(b"".join((self._early, current))) if self._early else current

    def bind(self, place: Place) -> None:
        """It is known where the record goes: from now on it is sealed and written.

        Raises
        ------
        OSError
            As the disk says.
        """
        self._place = place
        self._sealer = place.sealer()
        self._stage[segment.PREFIX_BYTES : _START] = self._sealer.header
        if self._early:
            early, self._early, self._pending = self.head(), bytearray(), 0
            while early:
                count = self._copy(early)
                self._pending += count
                if self._pending == self._chunk_bytes:
                    self._seal_full()
                early = early[count:]
        elif self._pending == self._chunk_bytes:
            self._seal_full()

    def complete(self) -> None:
        """All bytes of the Data Set came: the digest is told of the last of them, once."""
        if self._digest is not None and self._pending and not self._complete:
            self._digest.update(self._stage[self._start : self._start + self._pending], last=True)
        self._complete = True

    def finish(self, metadata: Metadata) -> None:
        """Add what stands beside the Data Set, seal the rest, and make the record durable.

        Raises
        ------
        ValueError
            If the metadata give another length than came.
        OSError
            As the disk says.
        """
        self.complete()
        final = metadata if isinstance(metadata, RecordMetadata) else metadata()
        if final.length != self.length:
            raise ValueError("the metadata give another length than came")
        self.finish_with(segment.pack_metadata(final))

    def finish_with(self, trailer: bytes) -> None:
        """End the plaintext with these bytes, one at least, and make the record durable."""
        assert self._place is not None
        view = memoryview(trailer)
        while view:
            if self._pending == self._chunk_bytes:
                self._seal(last=False)
            count = self._copy(view)
            self._pending += count
            view = view[count:]
        self._seal(last=True)
        tag = bytes(self._stage[self._start - TAG_BYTES : self._start])
        sealed_bytes = self._written + self._start - segment.PREFIX_BYTES
        prefix = self._place.prefix(sealed_bytes)
        self._write_last(prefix)
        self._place.added(prefix, tag, sealed_bytes)

    def _copy(self, view: memoryview) -> int:
        window = self.window()
        count = min(len(window), len(view))
        window[:count] = view[:count]
        return count

    def _seal_full(self) -> None:
        """Seal a chunk of the Data Set that is full: something follows it, at least the metadata."""
        if self._digest is not None:
            self._digest.update(self._stage[self._start : self._start + self._pending])
        self._seal(last=False)

    def _seal(self, *, last: bool) -> None:
        """Seal the current chunk in its place."""
        assert self._sealer is not None
        end = self._start + self._pending
        stage = self._stage
        self._sealer.seal_into(stage[self._start : end], stage[self._start : end + TAG_BYTES], last=last)
        self._start = end + TAG_BYTES
        self._pending = 0

    def _write_full(self) -> None:
        """Write the whole blocks of what is sealed; the rest, and the chunk that has begun, move to the front."""
        assert self._place is not None
        end = self._start // self._alignment * self._alignment
        begin = 0
        if self._first is None:
            begin = self._alignment
            self._first = bytes(self._stage[:begin])
        full, rest = self._stage, self._stage[end : self._start + self._pending]
        write = partial(self._place.writer.write, full[begin:end], self._place.position + self._written + begin)
        if self._behind is None:
            write()
            full[: len(rest)] = bytes(rest)
        else:
            self._stage = self._behind.other()
            self._stage[: len(rest)] = rest
            self._behind.begin(full, write)
        self._written += end
        self._start -= end

    def _write_last(self, prefix: bytes) -> None:
        """Pad, write what is left and, last, the block with the prefix; then commit.

        A record whose writing broke off has no prefix, or its seal does not open: it is none.
        """
        assert self._place is not None
        if self._behind is not None:
            self._behind.settle()
        writer, offset = self._place.writer, self._place.position + self._written
        end = segment.round_up(self._start, self._alignment)
        self._stage[self._start : end] = bytes(end - self._start)
        if self._first is None:
            self._stage[: len(prefix)] = prefix
            writer.write(self._stage[:end], offset, durable=True)
            return
        writer.write(self._stage[:end], offset)
        self._stage[: self._alignment] = self._first
        self._stage[: len(prefix)] = prefix
        writer.write(self._stage[: self._alignment], self._place.position)
        writer.commit()
