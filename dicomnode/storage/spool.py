"""The spool: received instances, sealed as they came, durable before anybody is told so.

It keeps segments apart; how one is written stands in `open_segment`, how it is read in `segment_reader`. Nothing is known in memory alone: other processes may write their own segments into the same folder.
"""

from __future__ import annotations

import contextlib
import mmap
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dicomnode.config import IntakeSection
from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage import files, segment
from dicomnode.storage.datakeys import KeySource
from dicomnode.storage.incoming import Digest, Incoming, Metadata, stage_bytes
from dicomnode.storage.open_segment import CLOSED_SUFFIX, OPEN_SUFFIX, OpenSegment
from dicomnode.storage.sealed import Buffer
from dicomnode.storage.segment_reader import Damage, Found, Scan, SegmentReader
from dicomnode.storage.writer import Extender, WriteMode, aligned_buffer, try_modes
from dicomnode.study import RecordAddress, RecordMetadata, World

_IDLE_STAGES: Final = 8
_ATTEMPTS: Final = 3


class Spool:
    """A folder of segments; safe to use from many threads.

    Parameters
    ----------
    folder
        Root; created if it is not there.
    intake
        Limits; `write_mode` says whether the trial is free to choose.
    keys
        Data keys of the studies.
    free_bytes
        Gives the free space of the disk; by default that of the folder.

    Raises
    ------
    StorageError
        ``storage-not-durable`` if the folder can be written durably in no allowed way; ``storage-full``,
        ``storage-failed``.
    """

    def __init__(
        self,
        folder: Path,
        intake: IntakeSection,
        keys: KeySource,
        *,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        self._folder = folder
        self._intake = intake
        self._keys = keys
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(folder).free)
        with files.disk_errors():
            files.make_folder(folder)
            self.write_mode: WriteMode = try_modes(folder, intake.write_mode)
        self._stage_bytes = stage_bytes(intake.chunk_bytes, self.write_mode.alignment)
        self._lock = threading.Lock()
        self._idle: OrderedDict[str, list[OpenSegment]] = OrderedDict()
        self._busy: dict[OpenSegment, bool] = {}  # True: to be closed when its user is done
        self._purged: set[OpenSegment] = set()
        self._purges = 0
        self._stages: list[mmap.mmap] = []
        self._extender = Extender()
        self._ended = False

    def __enter__(self) -> Self:
        """The spool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def append(self, study_key: str, metadata: Metadata, encoded: Buffer | Iterable[Buffer]) -> RecordAddress:
        """Seal an encoded Data Set; it is on the disk when this returns.

        Parameters
        ----------
        study_key
            Blind key of the study.
        metadata
            What stands beside the Data Set. Where its digest or length is known only when all has come: a function,
            called when the last buffer was taken.
        encoded
            Data Set as received: whole, or in buffers of any size (then memory stays bounded however long it is). A
            buffer is used before the next one is asked for.

        Raises
        ------
        StorageError
            ``storage-full`` before anything is written where too little space is free; ``storage-full`` or
            ``storage-failed`` if the disk refuses: then nothing of the record is believed later.
        KeyStoreError
            As `KeySource.get_or_create`.
        ValueError
            If the metadata give another length than came.
        """
        whole = isinstance(encoded, bytes | bytearray | memoryview)
        self._check_space(memoryview(encoded).nbytes if isinstance(encoded, bytes | bytearray | memoryview) else 0)
        buffers: Iterable[Buffer] = (encoded,) if whole else encoded  # type: ignore[assignment]
        with contextlib.closing(self.arrival()) as arrival:
            arrival.begin(study_key)
            for buffer in buffers:
                arrival.put(buffer)
            return arrival.finish(metadata)

    def arrival(self, digest: Digest | None = None) -> Arrival:
        """Begin to take an instance whose study is not known yet; to be closed.

        Parameters
        ----------
        digest
            Told of every byte of the Data Set.
        """
        return Arrival(self, digest)

    def check_space(self) -> None:
        """Raise ``storage-full`` when less than the minimum is free: whoever comes is best told before sending."""
        self._check_space(0)

    def read(self, study_key: str, address: RecordAddress) -> tuple[RecordMetadata, bytes]:
        """Metadata and encoded Data Set of a record, verified whole.

        Raises
        ------
        StorageError
            ``sealed-damaged`` if it is not what was appended there; ``storage-failed`` if the segment is gone.
        KeyStoreError
            ``key-missing`` if the study's key was shredded.
        """
        key = self._keys.get(study_key, World.IDENTITY).key
        with files.disk_errors(), self._reader(study_key, address.segment_id) as reader:
            prefix = reader.prefix(address.offset)
            if prefix is None or prefix.number != address.number or prefix.closing:
                raise StorageError("sealed-damaged", number=address.number)
            plaintext = b"".join(reader.plaintext(key, prefix, address.offset))
        metadata = segment.parse_metadata(plaintext[-segment.METADATA_TAIL :], len(plaintext))
        return metadata, plaintext[: metadata.length]

    def close_study(self, study_key: str) -> None:
        """Close this process's segments of a study; those in use when their users are done."""
        with self._lock:
            idle = self._idle.pop(study_key, [])
            for busy in self._busy:
                self._busy[busy] = self._busy[busy] or busy.study_key == study_key
        self._finish(idle)

    def recover(
        self,
        *,
        known: Callable[[str], int] | None = None,
        on_damage: Callable[[Damage], None] | None = None,
    ) -> Iterator[tuple[str, RecordAddress, RecordMetadata]]:
        """Every record that can be believed, verified whole; the index is made of it.

        Parameters
        ----------
        known
            Gives for a segment id how many of its first records need not be read again (`Ledger.known_records`).
        on_damage
            Told of everything that cannot be believed.

        Raises
        ------
        StorageError
            ``sealed-damaged`` for any damage but a torn end, where nobody is told; ``storage-failed``.
        """
        for path in self._segments():
            study_key = path.parent.name
            with files.disk_errors():
                for found in self._scan(path, study_key, known(path.stem) if known else 0):
                    if isinstance(found, Found):
                        yield study_key, found.address, found.metadata
                    elif on_damage is not None:
                        on_damage(found)
                    elif found.kind != "torn":
                        raise StorageError("sealed-damaged", number=found.number, kind=found.kind)

    def purge(self, study_key: str) -> None:
        """Take every segment of a study away, durably. A record that is being appended meanwhile fails.

        To be called before the study's keys are shredded: a segment in use holds its key.

        Raises
        ------
        StorageError
            ``storage-failed`` if the disk refuses.
        """
        folder = files.study_folder(self._folder, study_key)
        with self._lock:
            self._purges += 1
            idle = self._idle.pop(study_key, [])
            self._purged.update(busy for busy in self._busy if busy.study_key == study_key)
        with files.disk_errors():
            for open_segment in idle:
                open_segment.abandon()
            if folder.is_dir():
                shutil.rmtree(folder)
                files.sync_folder(folder.parent)

    def close(self) -> None:
        """Close all segments; those in use when their users are done. A closed spool takes nothing more."""
        with self._lock:
            self._ended = True
            idle = [open_segment for segments in self._idle.values() for open_segment in segments]
            self._idle.clear()
            for busy in self._busy:
                self._busy[busy] = True
        self._finish(idle)
        self._extender.end()

    def _check_space(self, wanted: int) -> None:
        with files.disk_errors():
            free = self._free_bytes()
        if free - wanted < self._intake.minimum_free_bytes:
            raise StorageError("storage-full", free=free)

    @contextlib.contextmanager
    def _stage(self) -> Iterator[memoryview]:
        buffer = self._borrow()
        try:
            yield memoryview(buffer)
        finally:
            self._bring_back(buffer)

    def _borrow(self) -> mmap.mmap:
        with self._lock:
            buffer = self._stages.pop() if self._stages else None
        return buffer or aligned_buffer(self._stage_bytes)

    def _bring_back(self, buffer: mmap.mmap) -> None:
        with self._lock:
            if len(self._stages) < _IDLE_STAGES:
                self._stages.append(buffer)

    def _take(self, study_key: str, stage: memoryview) -> OpenSegment:
        """A segment of the study for this thread alone."""
        for _ in range(_ATTEMPTS):
            with self._lock:
                if self._ended:
                    raise StorageError("storage-failed", closed=1)
                waiting = self._idle.get(study_key)
                if waiting:
                    open_segment = waiting.pop()
                    if not waiting:
                        del self._idle[study_key]
                    self._busy[open_segment] = False
                    return open_segment
                purges = self._purges
            open_segment = self._begin(study_key, stage)
            with self._lock:
                if purges == self._purges:
                    self._busy[open_segment] = False
                    return open_segment
            with files.disk_errors():  # a purge may have taken the new file with it: once more
                open_segment.remove()
        raise StorageError("storage-failed", attempts=_ATTEMPTS)

    def _begin(self, study_key: str, stage: memoryview) -> OpenSegment:
        key = self._keys.get_or_create(study_key, World.IDENTITY).key
        folder = files.study_folder(self._folder, study_key)
        with files.disk_errors():
            files.make_folder(folder)
            for above in (folder.parent, self._folder):  # another thread may have made them and not flushed yet
                files.sync_folder(above)
            open_segment = OpenSegment(
                folder,
                study_key,
                key,
                mode=self.write_mode,
                extent_bytes=self._intake.extent_bytes,
                chunk_bytes=self._intake.chunk_bytes,
                ahead=self._extender.ask,
            )
            try:
                open_segment.begin(stage)
            except BaseException:
                open_segment.remove()
                raise
        return open_segment

    def _give_back(self, open_segment: OpenSegment, stage: memoryview) -> None:
        finished: list[OpenSegment] = []
        with self._lock:
            to_close = self._busy.pop(open_segment)
            purged = open_segment in self._purged
            self._purged.discard(open_segment)
            if not purged:
                if to_close or self._ended or open_segment.position >= self._intake.segment_bytes:
                    finished.append(open_segment)
                else:
                    self._idle.setdefault(open_segment.study_key, []).append(open_segment)
                    self._idle.move_to_end(open_segment.study_key)
                finished += self._surplus()
        if purged:
            open_segment.abandon()
            raise StorageError("storage-failed", purged=1)
        for each in finished:
            _close(each, stage)

    def _surplus(self) -> list[OpenSegment]:
        """Idle segments above the cap, those first that were used least recently."""
        surplus = []
        count = len(self._busy) + sum(len(segments) for segments in self._idle.values())
        while count > self._intake.open_segments and self._idle:
            study_key, segments = next(iter(self._idle.items()))
            surplus.append(segments.pop(0))
            count -= 1
            if not segments:
                del self._idle[study_key]
        return surplus

    def _retire(self, open_segment: OpenSegment) -> None:
        """After a failure: cut off what may be torn and never write there again."""
        with self._lock:
            self._busy.pop(open_segment)
            self._purged.discard(open_segment)
        with contextlib.suppress(OSError):  # a torn record behind the last whole one is not believed anyway
            if open_segment.records:
                open_segment.truncate()
            else:
                open_segment.remove()
        open_segment.abandon()

    def _finish(self, open_segments: list[OpenSegment]) -> None:
        if open_segments:
            with self._stage() as stage:
                for each in open_segments:
                    _close(each, stage)

    def _segments(self) -> list[Path]:
        return sorted(path for path in self._folder.glob("??/*/*") if path.suffix in (OPEN_SUFFIX, CLOSED_SUFFIX))

    def _scan(self, path: Path, study_key: str, known: int) -> Iterator[Found | Damage]:
        whole = Damage(study_key=study_key, segment_id=path.stem, number=0, offset=0, kind="unreadable")
        try:
            key = self._keys.get(study_key, World.IDENTITY).key
        except KeyStoreError as error:
            if error.code != "key-missing":
                raise
            yield Damage(study_key=study_key, segment_id=path.stem, number=0, offset=0, kind="no-key")
            return
        try:
            reader = SegmentReader(path, study_key)
        except StorageError:
            yield whole
            return
        except FileNotFoundError:  # closed, and so renamed, or purged since the folder was listed
            renamed = path.with_suffix(CLOSED_SUFFIX)
            if path.suffix == OPEN_SUFFIX and renamed.exists():
                yield from self._scan(renamed, study_key, known)
            return
        with reader:
            yield from Scan(reader, key, known=known).run()

    def _reader(self, study_key: str, segment_id: str) -> SegmentReader:
        base = files.study_folder(self._folder, study_key) / segment_id
        for suffix in (OPEN_SUFFIX, CLOSED_SUFFIX, OPEN_SUFFIX):
            with contextlib.suppress(FileNotFoundError):
                return SegmentReader(base.with_suffix(suffix), study_key)
        raise StorageError("storage-failed", missing=1)


class Arrival:
    """One instance on its way into the spool; used by one thread.

    Every method raises what `Spool.append` does; then, and without `finish`, nothing of the instance is believed later.
    """

    def __init__(self, spool: Spool, digest: Digest | None) -> None:
        self._spool = spool
        self._buffer: mmap.mmap | None = spool._borrow()
        self._stage = memoryview(self._buffer)
        self._incoming = Incoming(
            self._stage,
            chunk_bytes=spool._intake.chunk_bytes,
            alignment=spool.write_mode.alignment,
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
        self._spool._check_space(self._incoming.length)
        with self._spool._stage() as stage:  # not ours: plaintext lies there
            self._segment = self._spool._take(study_key, stage)
        with self._guarded():
            self._incoming.bind(self._segment)

    def finish(self, metadata: Metadata) -> RecordAddress:
        """All bytes came; the record is on the disk when this returns."""
        assert self._segment is not None
        address = self._segment.address
        with self._guarded():
            self._incoming.finish(metadata)
        finished, self._segment = self._segment, None
        self._spool._give_back(finished, self._stage)
        return address

    def close(self) -> None:
        """Give back what is held; without `finish`, nothing of the instance remains."""
        left, self._segment = self._segment, None
        if left is not None:  # what was written of it stands behind the last record, and is written over
            with contextlib.suppress(StorageError):
                self._spool._give_back(left, self._stage)
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._stage.release()
            self._spool._bring_back(buffer)

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
            self._spool._retire(broken)


def _close(open_segment: OpenSegment, stage: memoryview) -> None:
    """Close a segment; where the disk refuses, leave it as a crash would: its records stay readable."""
    try:
        if open_segment.records:
            open_segment.close(stage)
        else:
            open_segment.remove()
    except OSError:
        open_segment.abandon()
