"""One instance on its way into the spool: from its first byte, when its study is not known yet, to its durable record."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterator

from dicomnode.errors import StorageError
from dicomnode.storage import files
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
        chunk_bytes: int,
        alignment: int,
        digest: Digest | None,
    ) -> None:
        self._segments = segments
        self._check_space = check_space
        self._buffer: mmap.mmap | None = segments.borrow()
        self._stage = memoryview(self._buffer)
        self._incoming = Incoming(
            self._stage,
            chunk_bytes=chunk_bytes,
            alignment=alignment,
            digest=digest,
        )
        self._segment: OpenSegment | None = None

    @property
    def length(self) -> int:
        """Bytes of the Data Set so far."""
        return self._incoming.length

    def window(self) -> memoryview:
        """Place for the next bytes of the Data Set; at least one."""
        with self._guarded():
            return self._incoming.window()

    def advance(self, count: int) -> None:
        """So many bytes were put into the window."""
        with self._guarded():
            self._incoming.advance(count)

    def put(self, data: Buffer) -> None:
        """Copy bytes of the Data Set in."""
        with self._guarded():
            self._incoming.put(data)

    def head(self) -> memoryview:
        """What came so far, until `begin`."""
        return self._incoming.head()

    def begin(self, study_key: str) -> None:
        """It is known to which study it belongs: from now on it is sealed and written."""
        self._check_space(self._incoming.length)
        with self._segments.stage() as stage:  # not ours: plaintext lies there
            self._segment = self._segments.take(study_key, stage)
        with self._guarded():
            self._incoming.bind(self._segment)

    def finish(self, metadata: Metadata) -> RecordAddress:
        """All bytes came; the record is on the disk when this returns."""
        assert self._segment is not None
        address = self._segment.address
        with self._guarded():
            self._incoming.finish(metadata)
        finished, self._segment = self._segment, None
        self._segments.give_back(finished, self._stage)
        return address

    def close(self) -> None:
        """Give back what is held; without `finish`, nothing of the instance remains."""
        left, self._segment = self._segment, None
        if left is not None:  # what was written of it stands behind the last record, and is written over
            with contextlib.suppress(StorageError):
                self._segments.give_back(left, self._stage)
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._stage.release()
            self._segments.bring_back(buffer)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._retire()
            raise files.storage_error(error) from None
        except BaseException:
            self._retire()
            raise

    def _retire(self) -> None:
        broken, self._segment = self._segment, None
        if broken is not None:
            self._segments.retire(broken)
