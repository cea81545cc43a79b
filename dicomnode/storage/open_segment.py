"""One segment that is being written: seals a record into aligned blocks and makes it durable. One user at a time."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from dicomnode.storage import files, segment
from dicomnode.storage.sealed import HEADER_BYTES, TAG_BYTES, Buffer, Sealer, pieces
from dicomnode.storage.writer import WriteMode, Writer, open_writer
from dicomnode.study import RecordAddress, RecordMetadata

OPEN_SUFFIX: Final = ".open"
CLOSED_SUFFIX: Final = ".closed"
_FRAMES: Final = 4  # sealed chunks that a stage holds: a CT slice of 0.5 MB becomes one write

Metadata = RecordMetadata | Callable[[], RecordMetadata]


def stage_bytes(chunk_bytes: int, alignment: int) -> int:
    """Size of the buffer that a record is sealed into."""
    needed = segment.PREFIX_BYTES + HEADER_BYTES + _FRAMES * (chunk_bytes + TAG_BYTES)
    return segment.round_up(needed, alignment) + alignment


class OpenSegment:
    """A new segment of a study.

    Parameters
    ----------
    folder
        Folder of the study, which exists.
    key
        Data key of the study's identity world.

    Raises
    ------
    OSError
        Here and in every method, as the disk says; the segment is to be retired then.
    """

    def __init__(
        self, folder: Path, study_key: str, key: bytes, *, mode: WriteMode, extent_bytes: int, chunk_bytes: int
    ) -> None:
        self.study_key = study_key
        self.segment_id = secrets.token_hex(16)
        self.records = 0
        self.position = mode.alignment
        self._key = key
        self._alignment = mode.alignment
        self._chunk_bytes = chunk_bytes
        self._chain = segment.Chain()
        self._path = folder / (self.segment_id + OPEN_SUFFIX)
        self._writer: Writer = open_writer(self._path, mode, extent_bytes)

    def begin(self, stage: memoryview) -> None:
        """Write the header and make the file's name durable."""
        header = segment.Header(segment_id=self.segment_id, study_key=self.study_key, alignment=self._alignment)
        stage[: self._alignment] = segment.pack_header(header)
        self._writer.write(stage[: self._alignment], 0)
        self._writer.commit()
        files.sync_folder(self._path.parent)

    def append(self, metadata: Metadata, encoded: Iterable[Buffer], stage: memoryview) -> RecordAddress:
        """Seal one record and make it durable.

        Parameters
        ----------
        metadata
            What stands beside the Data Set, or a function that gives it when the last buffer was taken.
        stage
            Buffer of `stage_bytes`, page-aligned.

        Raises
        ------
        ValueError
            If the metadata give another length than came.
        """
        address = RecordAddress(segment_id=self.segment_id, number=self.records, offset=self.position)
        self._write_record(_plaintext(metadata, encoded), stage, closing=False)
        self.records += 1
        return address

    def close(self, stage: memoryview) -> None:
        """Write the close record, give the preallocated rest back, and rename the file to ``.closed``."""
        close = segment.Close(records=self.records, digest=self._chain.digest())
        self._write_record(iter((segment.pack_close(close),)), stage, closing=True)
        self._writer.truncate(self.position)
        self._writer.close()
        self._path.rename(self._path.with_suffix(CLOSED_SUFFIX))
        files.sync_folder(self._path.parent)

    def truncate(self) -> None:
        """Cut off whatever stands behind the last whole record."""
        self._writer.truncate(self.position)

    def abandon(self) -> None:
        """Close the file as it is; recovery reads it like that of a node that died."""
        self._writer.close()

    def remove(self) -> None:
        """Close the file and take it away."""
        self._writer.close()
        self._path.unlink(missing_ok=True)

    def _write_record(self, plaintext: Iterator[Buffer], stage: memoryview, *, closing: bool) -> None:
        context = segment.context(self.study_key, self.segment_id, self.records, closing=closing)
        sealer = Sealer(self._key, context=context, chunk_bytes=self._chunk_bytes)
        staged = _Staged(stage, self._writer, self.position, self._alignment)
        staged.put(sealer.header)
        for chunk, last in pieces(plaintext, self._chunk_bytes):
            with staged.room(len(chunk) + TAG_BYTES) as frame:
                sealer.seal_into(chunk, frame, last=last)
        tag = staged.tail(TAG_BYTES)
        prefix = segment.Prefix(
            segment_id=self.segment_id, number=self.records, sealed_bytes=staged.sealed_bytes, closing=closing
        )
        packed = segment.pack_prefix(prefix)
        staged.finish(packed)
        self._chain.add(packed, tag)
        self.position += prefix.padded(self._alignment)


class _Staged:
    """A record on its way through the stage: blocks are written as they fill, the first, with the prefix, last.

    So a record whose writing broke off has no prefix, and is none.
    """

    def __init__(self, stage: memoryview, writer: Writer, offset: int, alignment: int) -> None:
        self._stage = stage
        self._writer = writer
        self._start = offset
        self._offset = offset  # of the stage's first byte
        self._alignment = alignment
        self._filled = segment.PREFIX_BYTES
        self._first: memoryview | None = None

    @property
    def sealed_bytes(self) -> int:
        """Bytes of the sealed stream so far."""
        return self._offset - self._start + self._filled - segment.PREFIX_BYTES

    def put(self, data: bytes) -> None:
        """Copy bytes in."""
        with self.room(len(data)) as place:
            place[:] = data

    def room(self, size: int) -> memoryview:
        """Place for the next bytes."""
        if self._filled + size > len(self._stage):
            self._flush()
        place = self._stage[self._filled : self._filled + size]
        self._filled += size
        return place

    def tail(self, size: int) -> bytes:
        """Last bytes put in."""
        return bytes(self._stage[self._filled - size : self._filled])

    def finish(self, prefix: bytes) -> None:
        """Pad, write what is left, then the first block, and commit."""
        end = segment.round_up(self._filled, self._alignment)
        self._stage[self._filled : end] = bytes(end - self._filled)
        if self._first is None:
            self._stage[: len(prefix)] = prefix
            self._writer.write(self._stage[:end], self._offset)
        else:
            if end:
                self._writer.write(self._stage[:end], self._offset)
            self._stage[: self._alignment] = self._first
            self._stage[: len(prefix)] = prefix
            self._writer.write(self._stage[: self._alignment], self._start)
        self._writer.commit()

    def _flush(self) -> None:
        end = self._filled // self._alignment * self._alignment
        start = 0
        if self._first is None:
            start = self._alignment
            self._first = memoryview(bytes(self._stage[:start]))
        self._writer.write(self._stage[start:end], self._offset + start)
        rest = bytes(self._stage[end : self._filled])
        self._stage[: len(rest)] = rest
        self._offset += end
        self._filled = len(rest)


def _plaintext(metadata: Metadata, encoded: Iterable[Buffer]) -> Iterator[Buffer]:
    total = 0
    for buffer in encoded:
        total += memoryview(buffer).nbytes
        yield buffer
    final = metadata if isinstance(metadata, RecordMetadata) else metadata()
    if final.length != total:
        raise ValueError("the metadata give another length than came")
    yield segment.pack_metadata(final)
