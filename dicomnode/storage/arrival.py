"""One instance on its way into the spool: from its first byte, when its study is not known yet, to its durable record."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable
from concurrent.futures import Executor

from dicomnode.errors import StorageError
from dicomnode.storage import files
from dicomnode.storage.behind import Behind
from dicomnode.storage.incoming import Digest, Incoming, Metadata
from dicomnode.storage.open_segment import OpenSegment
from dicomnode.storage.open_segments import OpenSegments
from dicomnode.storage.sealed import Buffer
from dicomnode.study import RecordAddress


class Arrival:
    """One instance on its way into the spool; used by one thread.

    Every method raises what `Spool.append` does; then, and without `finish`, nothing of the instance is believed later.
    """

    def __init__(
        self,
        segments: OpenSegments,
        check_space: Callable[[int], None],
        *,
        came: Callable[[int], None],
        chunk_bytes: int,
        alignment: int,
        digest: Digest | None,
        executor: Executor,
    ) -> None:
        self._segments = segments
        self._check_space = check_space
        self._came = came
        self._buffer: mmap.mmap | None = segments.borrow()
        self._stage = memoryview(self._buffer)
        self._behind = Behind(segments, executor)
        self._incoming = Incoming(
            self._stage,
            chunk_bytes=chunk_bytes,
            alignment=alignment,
            digest=digest,
            behind=self._behind,
        )
        self._segment: OpenSegment | None = None

    @property
    def length(self) -> int:
        """Bytes of the Data Set so far."""
        return self._incoming.length

    def window(self) -> memoryview:
        """Place for the next bytes of the Data Set; at least one."""
        try:
            return self._incoming.window()
        except OSError as error:
            raise self._failed(error) from None

    def advance(self, count: int) -> None:
        """So many bytes were put into the window."""
        try:
            self._incoming.advance(count)
        except OSError as error:
            raise self._failed(error) from None

    def put(self, data: Buffer) -> None:
        """Copy bytes of the Data Set in."""
        try:
            self._incoming.put(data)
        except OSError as error:
            raise self._failed(error) from None

    def head(self) -> memoryview:
        """What came so far, until `begin`."""
        return self._incoming.head()

    def begin(self, study_key: str) -> None:
        """It is known to which study it belongs: from now on it is sealed and written."""
        self._check_space(self._incoming.length)
        self._segment = self._segments.take(study_key)
        try:
            self._incoming.bind(self._segment)
        except OSError as error:
            raise self._failed(error) from None

    def complete(self) -> None:
        """All bytes came; the digest is of all of them."""
        self._incoming.complete()

    def finish(self, metadata: Metadata) -> RecordAddress:
        """All bytes came; the record is on the disk when this returns."""
        assert self._segment is not None
        address = self._segment.address
        try:
            self._incoming.finish(metadata)
        except OSError as error:
            raise self._failed(error) from None
        except BaseException:  # the record may be half written, or its place not known: nothing follows it there
            self._retire()
            raise
        self._came(self._segment.position - address.offset)  # as it lies there: sealed and padded
        finished, self._segment = self._segment, None
        self._segments.give_back(finished, self._stage)
        return address

    def close(self) -> None:
        """Give back what is held; without `finish`, nothing of the instance remains."""
        self._behind.close()  # before its segment is another's
        left, self._segment = self._segment, None
        if left is not None:  # what was written of it stands behind the last record, and is written over
            with contextlib.suppress(StorageError):
                self._segments.give_back(left, self._stage)
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._stage.release()
            self._segments.bring_back(buffer)

    def _failed(self, error: OSError) -> StorageError:
        self._retire()
        return files.storage_error(error)

    def _retire(self) -> None:
        self._behind.close()
        broken, self._segment = self._segment, None
        if broken is not None:
            self._segments.retire(broken)
