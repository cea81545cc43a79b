"""The spool: received instances, sealed as they came, durable before anybody is told so.

Which segments are open stands in `open_segments`, how one is written in `open_segment` and `incoming`, how it is read in `segment_reader`. Nothing is known in memory alone: other processes may write their own segments into the same folder.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dicomnode.config import IntakeSection
from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage import files, segment
from dicomnode.storage.arrival import Arrival
from dicomnode.storage.datakeys import KeySource
from dicomnode.storage.incoming import Digest, Metadata, stage_bytes
from dicomnode.storage.open_segment import CLOSED_SUFFIX, OPEN_SUFFIX, OpenSegment
from dicomnode.storage.open_segments import OpenSegments
from dicomnode.storage.prepared import Prepared
from dicomnode.storage.quota import FreeSpace, Quota, Tally
from dicomnode.storage.sealed import Buffer
from dicomnode.storage.segment_reader import LOST_KEYS, Damage, Found, Scan, SegmentReader, is_blank
from dicomnode.storage.spool_identity import identity_of
from dicomnode.storage.writer import Extender, WriteMode, try_modes
from dicomnode.study import RecordAddress, RecordMetadata, World

_WRITERS: Final = 8  # that write stages of long records


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
    tally
        Counts what all processes write together, for the quota; none: this one writes alone.
    mark
        What the identifiers of this process's segments begin with, in hex.
    write_mode
        What another process's trial of this folder found; none: one is made, which a full disk fails.
    identity
        Name that lies in the folder (`spool_identity`): where it does not, the disk is not mounted any more, and nothing
        is written or judged. Empty: nobody asks.

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
        tally: Tally | None = None,
        mark: str = "",
        write_mode: WriteMode | None = None,
        identity: str = "",
    ) -> None:
        self._folder = folder
        self.identity = identity
        self._intake = intake
        self._keys = keys
        self._free = FreeSpace(free_bytes or (lambda: shutil.disk_usage(folder).free), intake.minimum_free_bytes)
        with files.disk_errors():
            files.make_folder(folder)
            self._require_own()
            self.write_mode: WriteMode = write_mode or try_modes(folder, intake.write_mode)
        self._quota = Quota(folder, intake.maximum_spool_bytes, tally=tally)
        self._mark = mark
        self._flushed: set[Path] = set()
        self._extender = Extender()
        self._prepared = Prepared(
            folder,
            most_bytes=intake.prepared_bytes if self._prepares(intake) else 0,
            longest_bytes=intake.segment_bytes,
            spare=self._free.spare,
        )
        self._writers = _started(_WRITERS)
        self._open = OpenSegments(
            self._begin,
            stage_bytes=stage_bytes(intake.chunk_bytes, self.write_mode.alignment),
            segment_bytes=intake.segment_bytes,
            most_open=intake.open_segments,
            blank=lambda: bool(self._prepared),
        )

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
        self._prepared.disturb()
        return Arrival(
            self._open,
            self._check_space,
            came=self._quota.add,
            chunk_bytes=self._intake.chunk_bytes,
            alignment=self.write_mode.alignment,
            digest=digest,
            executor=self._writers,
        )

    def close_study(self, study_key: str) -> None:
        """Close this process's segments of a study; those in use when their users are done."""
        self._open.close_study(study_key)

    def check_space(self) -> None:
        """Raise ``storage-full`` or ``spool-quota`` when nothing more can be taken: who comes is told before sending."""
        self._check_space(0)

    def read(self, study_key: str, address: RecordAddress) -> tuple[RecordMetadata, bytes]:
        """Metadata and encoded Data Set of a record, verified whole.

        Raises
        ------
        StorageError
            ``sealed-damaged`` if it is not what was appended there, or its segment is gone; ``storage-failed`` where
            the disk refuses, or the spool is empty or another one by now: it may not be mounted.
        KeyStoreError
            ``key-missing`` if the study's key was shredded.
        """
        key = self._keys.get(study_key, World.IDENTITY).key
        with files.disk_errors(), self._reader(study_key, address.segment_id) as reader:
            plaintext = b"".join(reader.plaintext(key, _prefix_at(reader, address), address.offset))
        metadata = segment.parse_metadata(plaintext[-segment.METADATA_TAIL :], len(plaintext))
        return metadata, plaintext[: metadata.length]

    def head(self, study_key: str, address: RecordAddress, most_bytes: int) -> tuple[RecordMetadata, bytes]:
        """Metadata and at most so many first bytes of a record's Data Set, in memory and time that do not grow with it.

        Both are authentic; what stands between is neither read nor proven. Errors as `read`.
        """
        key = self._keys.get(study_key, World.IDENTITY).key
        with files.disk_errors(), self._reader(study_key, address.segment_id) as reader:
            first, tail, total = reader.ends(key, _prefix_at(reader, address), address.offset, most_bytes)
        metadata = segment.parse_metadata(tail[-segment.METADATA_TAIL :], total)
        return metadata, first[: min(most_bytes, metadata.length)]

    def recover(
        self,
        *,
        known: Callable[[str], int] | None = None,
        on_damage: Callable[[Damage], None] | None = None,
        studies: Collection[str] | None = None,
        mark: str = "",
    ) -> Iterator[tuple[str, RecordAddress, RecordMetadata]]:
        """Every record that can be believed, verified whole; the index is made of it.

        Parameters
        ----------
        known
            Gives for a segment id how many of its first records need not be read again (`Ledger.known_records`).
        on_damage
            Told of everything that cannot be believed.
        studies, mark
            Keys of the studies whose segments are read, and what their identifiers begin with; none: all.

        Raises
        ------
        StorageError
            ``sealed-damaged`` for any damage but a torn end, where nobody is told; ``storage-failed``.
        """
        for path in self._segments(studies, mark):
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
        with files.disk_errors():
            self._require_own()
            self.abandon(study_key)
            files.remove_study(self._folder, study_key)

    def abandon(self, study_key: str) -> None:
        """Let go of this process's segments of a study as they are: another is about to purge it."""
        self._open.purge(study_key)

    def close(self) -> None:
        """Close all segments; those in use when their users are done. A closed spool takes nothing more."""
        self._open.close()
        self._extender.end()
        self._prepared.end()
        self._writers.shutdown()

    def _check_space(self, wanted: int) -> None:
        try:
            self._free.check(wanted)
        except OSError as error:
            raise files.storage_error(error) from None
        except StorageError:
            if not self._prepared.drop():
                raise
            with files.disk_errors():  # what was ready for later is needed now
                self._free.check(wanted)
        self._quota.check(wanted)

    def _prepares(self, intake: IntakeSection) -> bool:
        """What is prepared, and what an open segment has left of it, counts for a quota."""
        return self.write_mode.name == "direct" and not intake.maximum_spool_bytes

    def _begin(self, study_key: str, stage: memoryview) -> OpenSegment:
        key = self._keys.get_or_create(study_key, World.IDENTITY).key
        folder = files.study_folder(self._folder, study_key)
        with files.disk_errors():
            self._require_own()
            self._make_folder(folder)
            open_segment = OpenSegment(
                folder,
                study_key,
                key,
                mode=self.write_mode,
                extent_bytes=self._intake.extent_bytes,
                chunk_bytes=self._intake.chunk_bytes,
                ahead=self._extender.ask,
                mark=self._mark,
                blank=self._prepared.take(),
            )
            try:
                open_segment.begin(stage)
            except BaseException:
                open_segment.remove()
                raise
        return open_segment

    def _make_folder(self, folder: Path) -> None:
        """Folder of a study, durably: another may have made it, or what leads to it, and not flushed it yet."""
        files.make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=files.FOLDER_MODE)
        files.sync_folder(folder.parent)
        if folder.parent not in self._flushed:  # it stays for good
            files.sync_folder(self._folder)
            self._flushed.add(folder.parent)

    def _segments(self, studies: Collection[str] | None = None, mark: str = "") -> list[Path]:
        if studies is None:
            found = self._folder.glob(f"??/*/{mark}*")
        else:
            folders = (files.study_folder(self._folder, study_key) for study_key in studies)
            found = (path for folder in folders for path in folder.glob(f"{mark}*"))
        return sorted(path for path in found if path.suffix in (OPEN_SUFFIX, CLOSED_SUFFIX))

    def _scan(self, path: Path, study_key: str, known: int) -> Iterator[Found | Damage]:
        whole = Damage(study_key=study_key, segment_id=path.stem, number=0, offset=0, kind="unreadable")
        try:
            key = self._keys.get(study_key, World.IDENTITY).key
        except KeyStoreError as error:
            if error.code not in LOST_KEYS:
                raise
            yield replace(whole, kind=LOST_KEYS[error.code])
            return
        try:
            reader = SegmentReader(path, study_key)
        except StorageError:
            begun = known or path.suffix == CLOSED_SUFFIX or not is_blank(path)
            yield whole if begun else replace(whole, kind="torn")
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
        self._require_own()
        if next(self._folder.iterdir(), None) is None:
            raise StorageError("storage-failed")
        raise StorageError("sealed-damaged", missing=1)

    def _require_own(self) -> None:
        """Raise ``storage-failed`` where the folder is not the one that it was: its disk was unmounted."""
        if self.identity and identity_of(self._folder) != self.identity:
            raise StorageError("storage-failed")


def _prefix_at(reader: SegmentReader, address: RecordAddress) -> segment.Prefix:
    prefix = reader.prefix(address.offset)
    if prefix is None or prefix.number != address.number or prefix.closing:
        raise StorageError("sealed-damaged", number=address.number)
    return prefix


def _started(count: int) -> ThreadPoolExecutor:
    """Threads that all run by now: a process that is made to work has no more of them than one at rest."""
    executor, ready = ThreadPoolExecutor(count, thread_name_prefix="writer"), threading.Barrier(count + 1)
    for _ in range(count):
        executor.submit(ready.wait)
    ready.wait()
    return executor
