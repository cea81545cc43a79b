"""One segment that is being written: seals a record into aligned blocks and makes it durable. One user at a time."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from dicomnode.storage import files, segment
from dicomnode.storage.incoming import Incoming
from dicomnode.storage.sealed import Sealer, key_id
from dicomnode.storage.writer import Ahead, Blank, WriteMode, Writer, open_writer
from dicomnode.study import RecordAddress

OPEN_SUFFIX: Final = ".open"
CLOSED_SUFFIX: Final = ".closed"


class OpenSegment:
    """A new segment of a study.

    Parameters
    ----------
    folder
        Folder of the study, which exists.
    key
        Data key of the study's identity world.
    mark
        What its identifier begins with, in hex: says which process writes it.
    blank
        File that it is made of, if any.

    Raises
    ------
    OSError
        Here and in every method, as the disk says; the segment is to be retired then.
    """

    def __init__(
        self,
        folder: Path,
        study_key: str,
        key: bytes,
        *,
        mode: WriteMode,
        extent_bytes: int,
        chunk_bytes: int,
        ahead: Ahead | None = None,
        mark: str = "",
        blank: Blank | None = None,
    ) -> None:
        self.study_key = study_key
        self.segment_id = mark + secrets.token_hex(16)[len(mark) :]
        self.records = 0
        self.position = mode.alignment
        self._key = key
        self._key_id = key_id(key)
        self._alignment = mode.alignment
        self._chunk_bytes = chunk_bytes
        self._chain = segment.Chain()
        self._closing = False
        self._blank_bytes = blank.size if blank is not None else 0
        self._path = folder / (self.segment_id + OPEN_SUFFIX)
        self.writer: Writer = open_writer(self._path, mode, extent_bytes, ahead, blank)

    def begin(self, stage: memoryview) -> None:
        """Write the header and make the file's name durable."""
        header = segment.Header(segment_id=self.segment_id, study_key=self.study_key, alignment=self._alignment)
        stage[: self._alignment] = segment.pack_header(header)
        self.writer.write(stage[: self._alignment], 0)
        self.writer.begin()  # one flush for both
        files.sync_folder(self._path.parent)

    @property
    def address(self) -> RecordAddress:
        """Of the next record."""
        return RecordAddress(segment_id=self.segment_id, number=self.records, offset=self.position)

    @property
    def used_up(self) -> bool:
        """Whether it was made of a blank file, and the next record may not fit in it any more."""
        return bool(self._blank_bytes) and self.position + self.position // max(self.records, 1) > self._blank_bytes

    def incoming(self, stage: memoryview) -> Incoming:
        """A record that is put into the stage, to be bound to this segment."""
        return Incoming(stage, chunk_bytes=self._chunk_bytes, alignment=self._alignment)

    def sealer(self) -> Sealer:
        """Fresh cipher of the next record."""
        context = segment.context(self.study_key, self.segment_id, self.records, closing=self._closing)
        return Sealer(self._key, context=context, chunk_bytes=self._chunk_bytes, named=self._key_id)

    def prefix(self, sealed_bytes: int) -> bytes:
        """What stands before the next record."""
        return segment.pack_prefix(self.segment_id, self.records, sealed_bytes, closing=self._closing)

    def added(self, prefix: bytes, tag: bytes, sealed_bytes: int) -> None:
        """The next record is durable: the one after it is next."""
        self._chain.add(prefix, tag)
        self.position += segment.padded(sealed_bytes, self._alignment)
        self.records += not self._closing

    def close(self, stage: memoryview) -> None:
        """Write the close record, give the preallocated rest back, and rename the file to ``.closed``."""
        self._closing = True
        incoming = self.incoming(stage)
        incoming.bind(self)
        incoming.finish_with(segment.pack_close(segment.Close(records=self.records, digest=self._chain.digest())))
        self.writer.truncate(self.position)
        self.writer.close()
        self._path.rename(self._path.with_suffix(CLOSED_SUFFIX))
        files.sync_folder(self._path.parent)

    def truncate(self) -> None:
        """Cut off whatever stands behind the last whole record."""
        self.writer.truncate(self.position)

    def abandon(self) -> None:
        """Close the file as it is; recovery reads it like that of a node that died."""
        self.writer.close()

    def remove(self) -> None:
        """Close the file and take it away."""
        self.writer.close()
        self._path.unlink(missing_ok=True)
