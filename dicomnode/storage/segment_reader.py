"""Reading segments: one record by its address, or all of them after a crash. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from dicomnode.errors import StorageError
from dicomnode.storage import segment
from dicomnode.storage.open_segment import CLOSED_SUFFIX
from dicomnode.storage.sealed import HEADER_BYTES, TAG_BYTES, Opener, SealContext, open_stream
from dicomnode.study import RecordAddress, RecordMetadata

_READ_BYTES: Final = 1024 * 1024

Kind = Literal["torn", "damaged", "not-closed", "unreadable", "no-key", "key-damaged"]
#: What becomes of a study's segments by what is said of its key; anything else is said of all keys.
LOST_KEYS: Final[Mapping[str, Kind]] = {"key-missing": "no-key", "sealed-damaged": "key-damaged"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Something of a segment that cannot be believed.

    Attributes
    ----------
    number
        Record concerned.
    offset
        Where the search for it began.
    kind
        ``torn``: the last record of a segment without close record, or a segment that has not begun; a crash leaves
        that, and nobody was told that the record is safe, unless the index knows it. ``damaged``: a record that was whole once. ``not-closed``: a closed
        segment whose close record is missing or disagrees. ``unreadable``: no segment. ``no-key``: its key is gone.
        ``key-damaged``: its key was changed in the ledger, or is another study's.
    """

    study_key: str
    segment_id: str
    number: int
    offset: int
    kind: Kind

    @property
    def reason(self) -> str:
        """Code of `errors.REASONS`."""
        return "key-missing" if self.kind == "no-key" else "sealed-damaged"

    @property
    def address(self) -> RecordAddress:
        """Where it is."""
        return RecordAddress(segment_id=self.segment_id, number=self.number, offset=self.offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A whole record."""

    address: RecordAddress
    metadata: RecordMetadata


def is_blank(path: Path) -> bool:
    """Whether nothing was ever written into a file: a crash came between its name and its header."""
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            if block.count(0) != len(block):
                return False
    return True


class SegmentReader:
    """A segment's file, opened for reading.

    Raises
    ------
    StorageError
        ``sealed-damaged`` if it is no segment, or not of this study and name.
    OSError
        As the disk says, here and in every method.
    """

    def __init__(self, path: Path, study_key: str) -> None:
        self.closed = path.suffix == CLOSED_SUFFIX
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            self.size = os.fstat(self._descriptor).st_size
            self.header = segment.parse_header(os.pread(self._descriptor, segment.HEADER_BYTES, 0))
        except BaseException:
            os.close(self._descriptor)
            raise
        if self.header.study_key != study_key or self.header.segment_id != path.stem:
            os.close(self._descriptor)
            raise StorageError("sealed-damaged", header=0)

    def __enter__(self) -> Self:
        """The reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def prefix(self, offset: int) -> segment.Prefix | None:
        """Prefix at a place; None where no record of this segment begins, or one that the file is too short for."""
        found = self.claimed_prefix(offset)
        least = HEADER_BYTES + TAG_BYTES
        if found is None or not least <= found.sealed_bytes <= self.size - offset - segment.PREFIX_BYTES:
            return None
        return found

    def claimed_prefix(self, offset: int) -> segment.Prefix | None:
        """Prefix at a place, also where the file is too short for its record."""
        return segment.parse_prefix(os.pread(self._descriptor, segment.PREFIX_BYTES, offset), self.header.segment_id)

    def plaintext(self, key: bytes, prefix: segment.Prefix, offset: int) -> Iterator[bytes]:
        """Authentic chunks of the record at a place; errors as `sealed.open_stream`."""
        return open_stream(key, self._sealed(prefix, offset), context=self._context(prefix))

    def ends(self, key: bytes, prefix: segment.Prefix, offset: int, most_bytes: int) -> tuple[bytes, bytes, int]:
        """At least so many first bytes of a record's plaintext, its tail of metadata, and its length.

        All of it is authentic, the length too; of a long record, what stands between is neither read nor proven.
        """
        place, sealed = offset + segment.PREFIX_BYTES, prefix.sealed_bytes - HEADER_BYTES
        opener = Opener(key, os.pread(self._descriptor, HEADER_BYTES, place), context=self._context(prefix))
        chunk = opener.frame_bytes - TAG_BYTES
        last = -(-sealed // opener.frame_bytes) - 1
        until = min(-(-most_bytes // chunk), last)
        behind = max(last - -(-segment.METADATA_TAIL // chunk), until)
        first = self._frames(opener, place + HEADER_BYTES, sealed, 0, until)
        tail = self._frames(opener, place + HEADER_BYTES, sealed, behind, last + 1)
        if behind == until:
            first = tail = first + tail
        return first, tail, sealed - (last + 1) * TAG_BYTES

    def metadata(self, key: bytes, prefix: segment.Prefix, offset: int) -> RecordMetadata:
        """Verify a record whole, in bounded memory; its metadata."""
        total = 0
        tail = b""
        for chunk in self.plaintext(key, prefix, offset):
            total += len(chunk)
            tail = (tail + chunk)[-segment.METADATA_TAIL :]
        return segment.parse_metadata(tail, total)

    def tag(self, prefix: segment.Prefix, offset: int) -> bytes:
        """Last tag of a record, without opening it."""
        end = offset + segment.PREFIX_BYTES + prefix.sealed_bytes
        return os.pread(self._descriptor, TAG_BYTES, end - TAG_BYTES)

    def search(self, key: bytes, offset: int, number: int) -> tuple[int, segment.Prefix] | None:
        """First whole record, from `offset` on, with a greater number than this, and its place.

        A prefix is not sealed and may be a lie: only a record that opens counts.
        """
        for place in range(offset, self.size, self.header.alignment):
            found = self.prefix(place)
            if found is not None and found.number > number and self._opens(key, found, place):
                return place, found
        return None

    def _opens(self, key: bytes, prefix: segment.Prefix, offset: int) -> bool:
        try:
            for _ in self.plaintext(key, prefix, offset):
                continue
        except StorageError:
            return False
        return True

    def _context(self, prefix: segment.Prefix) -> SealContext:
        return segment.context(self.header.study_key, self.header.segment_id, prefix.number, closing=prefix.closing)

    def _frames(self, opener: Opener, place: int, sealed: int, first: int, until: int) -> bytes:
        """Plaintext of the frames from one to another, of a record whose frames begin at a place of the file."""
        size = opener.frame_bytes
        begin, end = first * size, min(until * size, sealed)
        block = memoryview(os.pread(self._descriptor, end - begin, place + begin))
        opener.skip_to(first)
        return b"".join(
            opener.open_frame(block[at : at + size], last=begin + at + size >= sealed)
            for at in range(0, end - begin, size)
        )

    def _sealed(self, prefix: segment.Prefix, offset: int) -> Iterator[bytes]:
        start = offset + segment.PREFIX_BYTES
        end = start + prefix.sealed_bytes
        while start < end:
            block = os.pread(self._descriptor, min(_READ_BYTES, end - start), start)
            if not block:
                raise StorageError("sealed-damaged", bytes=end - start)
            yield block
            start += len(block)


class Scan:
    """Goes through a segment once, record after record.

    Records up to the first that is not valid are believed; behind it the next that names this segment and a later
    number is looked for, so that one flipped bit costs one record.
    """

    def __init__(self, reader: SegmentReader, key: bytes, *, known: int = 0) -> None:
        self._reader = reader
        self._key = key
        self._known = known
        self._number = 0
        self._offset = reader.header.alignment
        self._chain = segment.Chain()
        self._whole = True
        self._closed = False

    def run(self) -> Iterator[Found | Damage]:
        """Records from number `known` on, and damages, in the order of the file."""
        while not self._closed and self._offset < self._reader.size:
            prefix = self._reader.prefix(self._offset)
            found = None
            if prefix is not None and prefix.number == self._number:
                found = self._take(prefix)
                if isinstance(found, Found):
                    yield found
            if found is None:
                later = self._reader.search(self._key, self._offset, self._number)
                if later is None:
                    break
                yield from self._skip_to(*later)
        if not self._closed:
            yield from self._end()
            if self._reader.closed:
                yield self._damage("not-closed")

    def _end(self) -> Iterator[Damage]:
        """What is to be said where no record follows: a record that the index knows was whole once."""
        if self._number < self._known:
            while self._number < self._known:
                yield self._damage("damaged")
                self._number += 1
        elif self._reader.claimed_prefix(self._offset) is not None:
            yield self._damage("damaged" if self._reader.closed else "torn")

    def _take(self, prefix: segment.Prefix) -> Found | bool | None:
        """The record at the place: Found, True (nothing new), or None if it is not valid."""
        reader, offset = self._reader, self._offset
        try:
            if prefix.closing:
                return self._take_close(prefix)
            metadata = reader.metadata(self._key, prefix, offset) if self._number >= self._known else None
        except StorageError:
            return None
        address = RecordAddress(segment_id=reader.header.segment_id, number=self._number, offset=offset)
        self._chain.add(prefix.packed(), reader.tag(prefix, offset))
        self._number += 1
        self._offset += prefix.padded(reader.header.alignment)
        return True if metadata is None else Found(address=address, metadata=metadata)

    def _take_close(self, prefix: segment.Prefix) -> bool | None:
        close = segment.parse_close(b"".join(self._reader.plaintext(self._key, prefix, self._offset)))
        if close.records != self._number or (self._whole and close.digest != self._chain.digest()):
            return None
        self._closed = True
        return True

    def _skip_to(self, place: int, found: segment.Prefix) -> Iterator[Damage]:
        self._whole = False
        while self._number < found.number:
            yield self._damage("damaged")
            self._number += 1
        self._offset = place

    def _damage(self, kind: Kind) -> Damage:
        header = self._reader.header
        return Damage(
            study_key=header.study_key,
            segment_id=header.segment_id,
            number=self._number,
            offset=self._offset,
            kind=kind,
        )
