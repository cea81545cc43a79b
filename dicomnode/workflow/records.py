"""Records of the spool as the stages read them: what is unreadable or was damaged since it came is set aside.

Where the same object came twice, the other one is read in place of one that is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from pydicom import Dataset

from dicomnode.encoded import Limits, read_dataset, wrap_part10
from dicomnode.errors import KeyStoreError, StorageError, StudyError
from dicomnode.events import Emit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, RecordMetadata
from dicomnode.workflow.damage import set_aside
from dicomnode.workflow.ports import Clock
from dicomnode.workflow.sameness import headers_differ


class Records:
    """Reads records.

    Parameters
    ----------
    spool, ledger
        Where they lie, and where it is noted that one is set aside.
    limits
        Of what is read.
    remember
        Told of a study whose inputs changed though nothing came of it.
    """

    def __init__(
        self,
        spool: Spool,
        ledger: Ledger,
        limits: Limits,
        *,
        remember: Callable[[str], None],
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._spool = spool
        self._ledger = ledger
        self._limits = limits
        self._remember = remember
        self._clock = clock
        self._emit = emit

    def read(self, row: InstanceRow) -> Dataset:
        """The Data Set of an instance, as it was received.

        Raises
        ------
        StorageError
            ``sealed-damaged`` where it was damaged since it came, and the same bytes came no second time; it is set
            aside then.
        StudyError
            Where it is none.
        """
        metadata, encoded = self._record(row)
        return read_dataset(encoded, metadata.transfer_syntax_uid, self._limits)

    def file(self, row: InstanceRow) -> bytes:
        """An instance as a file (PS3.10 7.1); errors as `read`."""
        metadata, encoded = self._record(row)
        return wrap_part10(
            encoded,
            sop_class_uid=metadata.sop_class_uid,
            sop_instance_uid=metadata.sop_instance_uid,
            transfer_syntax_uid=metadata.transfer_syntax_uid,
        )

    def set_aside(self, row: InstanceRow, error: StudyError) -> None:
        """Note that an instance cannot be read; its study goes on without it."""
        self._emit("object.unreadable", level="warning", study=row.study_key, reason=error.code)
        self._ledger.quarantine(row.study_key, "instance", error.code, self._clock(), address=row.address)

    def _record(self, row: InstanceRow) -> tuple[RecordMetadata, bytes]:
        """A record; one that was damaged since it came is named and set aside.

        The work goes on with the same bytes where they came twice, else it ends with that.
        """
        try:
            return self._spool.read(row.study_key, row.address)
        except KeyStoreError:  # also of a key that was damaged: no record's fault
            raise
        except StorageError as error:
            if error.code != "sealed-damaged":
                raise
            heir = self._damaged(row)
            if heir is None or heir.digest != row.digest:
                raise
        return self._record(heir)

    def _damaged(self, row: InstanceRow) -> InstanceRow | None:
        """Name a damaged record and set it aside; what takes its place."""
        self._emit(
            "segment.damaged",
            level="error",
            study=row.study_key,
            segment=row.address.segment_id,
            kind="damaged",
            record=row.address.number,
            reason="sealed-damaged",
        )
        aside = set_aside(
            self._ledger,
            row,
            at=self._clock(),
            is_whole=self._is_whole,
            differ=partial(differ, self._spool, self._limits),
        )
        if aside.is_new:
            self._emit("object.restored", level="warning", study=row.study_key)
        if aside.is_open:
            self._remember(row.study_key)
        return aside.heir

    def _is_whole(self, row: InstanceRow) -> bool:
        try:
            self._spool.read(row.study_key, row.address)
        except StorageError as error:
            if error.may_pass:
                raise
            return False
        return True


def differ(spool: Spool, limits: Limits, one: InstanceRow, other: InstanceRow) -> bool:
    """Whether the headers of two instances are proved to differ: what cannot be read proves nothing.

    Raises
    ------
    StorageError
        Where they cannot be read for now.
    """
    try:
        first, second = (
            read_dataset(encoded, metadata.transfer_syntax_uid, limits)
            for metadata, encoded in (spool.read(row.study_key, row.address) for row in (one, other))
        )
    except StudyError:
        return False
    except StorageError as error:
        if error.may_pass:
            raise
        return False
    return headers_differ(first, second)


def study_instance_uid(spool: Spool, rows: Iterable[InstanceRow]) -> str | None:
    """Study Instance UID out of the first record that can be read; None where none ever can be.

    Raises
    ------
    StorageError
        Where none can be read for now.
    """
    fault: StorageError | None = None
    for row in rows:
        try:
            return spool.read(row.study_key, row.address)[0].study_instance_uid
        except StorageError as error:
            fault = error if error.may_pass else fault
    if fault is not None:
        raise fault
    return None
