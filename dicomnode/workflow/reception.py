"""Receiving: what the acceptor hands over is made durable, then indexed; only then does the sender hear success.

Knows the spool and the index; decides nothing about models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

from dicomnode.events import Emit
from dicomnode.network.intake import Peer, ReceivedObject
from dicomnode.study import RecordAddress, RecordMetadata, blind_key
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.indexing import Indexer, row_of
from dicomnode.workflow.ports import Clock, Monotonic


class SpoolPort(Protocol):
    """The part of the spool that receiving needs."""

    def check_space(self) -> None:
        """Raise ``storage-full`` when less than the minimum is free."""
        ...

    def append(self, study_key: str, metadata: RecordMetadata, encoded: memoryview) -> RecordAddress:
        """Seal and write one record; durable on return."""
        ...


class Reception:
    """Implements what `network.intake` expects of a receiver.

    Parameters
    ----------
    spool
        Where records go.
    indexer
        Thread that keeps the index.
    activity
        Table that completion reads.
    derivation_key
        Key of the blind keys.
    wake
        Called when an association ended.
    clock, monotonic
        Wall clock in UTC, and seconds for intervals.
    emit
        Where events go.
    """

    def __init__(
        self,
        *,
        spool: SpoolPort,
        indexer: Indexer,
        activity: ActivityTable,
        derivation_key: bytes,
        wake: Callable[[], None],
        clock: Clock,
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self._spool = spool
        self._indexer = indexer
        self._activity = activity
        self._key = derivation_key
        self._wake = wake
        self._clock = clock
        self._monotonic = monotonic
        self._emit = emit

    def admit(self, peer: Peer) -> None:
        """Let an association in.

        Raises
        ------
        StorageError
            When the disk is too full to take anything.
        """
        self._spool.check_space()

    def opened(self, peer: Peer) -> None:
        """An association was accepted."""
        self._emit("association.opened", association=peer.association_id, address=peer.address)

    def store(self, received: ReceivedObject) -> None:
        """Make an object durable; returning means success (PS3.4 B.2.3).

        Raises
        ------
        NodeError
            With the status that the sender gets.
        """
        study_key = blind_key(self._key, "study", received.study_instance_uid)
        encoded = memoryview(received.encoded)
        metadata = RecordMetadata(
            sop_class_uid=received.sop_class_uid,
            sop_instance_uid=received.sop_instance_uid,
            study_instance_uid=received.study_instance_uid,
            series_instance_uid=received.series_instance_uid,
            transfer_syntax_uid=received.transfer_syntax_uid,
            calling_ae_title=received.peer.calling_ae_title,
            called_ae_title=received.peer.called_ae_title,
            peer_address=received.peer.address,
            received_at=self._clock(),
            digest=hashlib.sha256(encoded).hexdigest(),
            length=len(encoded),
        )
        with self._activity.arriving(study_key):
            address = self._spool.append(study_key, metadata, encoded)
            self._indexer.add(row_of(self._key, study_key, address, metadata))
            self._activity.received(study_key, received.peer.association_id, self._monotonic())

    def closed(self, peer: Peer, *, aborted: bool) -> None:
        """An association ended; what was acknowledged stays, however it ended."""
        carried = self._activity.ended(peer.association_id, self._monotonic())
        self._emit(
            "association.closed",
            association=peer.association_id,
            address=peer.address,
            aborted=aborted,
            studies=len(carried),
        )
        for study_key in carried:
            self._emit("study.arrived", study=study_key)
        self._wake()
