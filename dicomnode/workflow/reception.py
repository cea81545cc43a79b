"""Receiving: what the acceptor hands over is made durable, then indexed; only then does the sender hear success.

Knows the spool and the index; decides nothing about models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from copy import copy
from functools import lru_cache
from typing import Protocol

from dicomnode.errors import LimitError, NodeError, StudyError
from dicomnode.events import Emit
from dicomnode.network.intake import Peer, ReceivedObject
from dicomnode.network_sections import PeerRule
from dicomnode.pulses import NEAR_SECONDS, Tries
from dicomnode.study import PRIORITIES, InstanceRow, RecordAddress, RecordMetadata, blind_key
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.ports import Clock, Monotonic


class ArrivalPort(Protocol):
    """One instance on its way into the spool."""

    @property
    def length(self) -> int:
        """Bytes of the Data Set so far."""
        ...

    def window(self) -> memoryview:
        """Place for the next bytes."""
        ...

    def advance(self, count: int) -> None:
        """So many bytes were put into the window."""
        ...

    def head(self) -> memoryview:
        """What came so far, until `begin`."""
        ...

    def complete(self) -> None:
        """All bytes came; the digest is of all of them."""
        ...

    def begin(self, study_key: str) -> None:
        """It is known to which study it belongs."""
        ...

    def finish(self, metadata: Callable[[], RecordMetadata]) -> RecordAddress:
        """All bytes came; the record is durable on return."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class DigestPort(Protocol):
    """Digest of one object's content."""

    def update(self, data: memoryview, /, *, last: bool = False) -> None:
        """More bytes, and no more where it is said that they are the last."""
        ...

    def hexdigest(self) -> str:
        """Digest of all of them."""
        ...


class SpoolPort(Protocol):
    """The part of the spool that receiving needs."""

    def check_space(self) -> None:
        """Raise ``storage-full`` when less than the minimum is free."""
        ...

    def arrival(self, digest: DigestPort) -> ArrivalPort:
        """Begin to take an instance; every byte of it is told to the digest."""
        ...


class RowsPort(Protocol):
    """Whoever keeps the index."""

    def add(self, row: InstanceRow) -> None:
        """A record is durable."""
        ...


class AllowedPort(Protocol):
    """One instance that its peer may send; used by one thread."""

    def weigh(self, size: int) -> None:
        """Its bytes are known now; StudyError where they are too many."""
        ...

    def keep(self) -> None:
        """It is durable."""
        ...

    def close(self) -> None:
        """It has come, or not."""
        ...


class AllowancesPort(Protocol):
    """What each peer may send."""

    def begin(self, rule: PeerRule, study_key: str) -> AllowedPort:
        """One instance of a study comes; LimitError or StudyError where that is one too many."""
        ...

    def stored(self, study_key: str, instance_key: str, /) -> Collection[str]:
        """Digests of what is stored of an instance."""
        ...


class Reception:
    """Implements what `network.intake` expects of a receiver.

    Parameters
    ----------
    spool
        Where records go.
    digest
        Begins the digest of one object's content.
    indexer
        Whoever keeps the index.
    activity
        Table that completion reads.
    derivation_key
        Key of the blind keys.
    allowances
        What each configured peer may send; none: as much as it likes.
    is_asked
        Whether what comes was asked for, of studies that are here: they wait for it, and no others come with it.
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
        digest: Callable[[], DigestPort],
        indexer: RowsPort,
        activity: ActivityTable,
        derivation_key: bytes,
        allowances: AllowancesPort | None = None,
        is_asked: bool = False,
        wake: Callable[[], None],
        clock: Clock,
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self.spool = spool
        self._digest = digest
        self._indexer = indexer
        self.activity = activity
        self.allowances = allowances
        self._is_asked = is_asked
        self._key = derivation_key
        self._study_keys = lru_cache(1024)(lambda uid: blind_key(derivation_key, "study", uid))
        self._series_keys = lru_cache(1024)(lambda study, series: blind_key(derivation_key, "series", study, series))
        self._wake = wake
        self._clock = clock
        self._monotonic = monotonic
        self._emit = emit
        #: Objects that are being made durable now.
        self.writing = Tries("writing", NEAR_SECONDS)

    def admit(self, peer: Peer) -> None:
        """Let an association in.

        Raises
        ------
        StorageError
            When the disk is too full to take anything.
        LimitError
            ``queue-late`` when studies of senders as urgent as this one wait for too long already.
        """
        self.spool.check_space()
        priority = peer.rule.priority if peer.rule is not None else "routine"
        if not self._is_asked and PRIORITIES.index(priority) >= self.activity.refused_from:
            raise LimitError("queue-late")

    def opened(self, peer: Peer) -> None:
        """An association was accepted."""
        self._emit("association.opened", association=peer.association_id, address=peer.address)

    def study_key(self, study_instance_uid: str) -> str:
        """Blind key of a study."""
        return self._study_keys(study_instance_uid)

    def instance_key(self, sop_instance_uid: str) -> str:
        """Blind key of an instance."""
        return blind_key(self._key, "instance", sop_instance_uid)

    def sink(self) -> Arriving:
        """Place for one object."""
        return Arriving(self, self._digest())

    def closed(self, peer: Peer, *, aborted: bool) -> None:
        """An association ended; what was acknowledged stays, however it ended."""
        carried = self.activity.ended(peer.association_id, self._monotonic())
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

    def seal(self, arriving: Arriving, received: ReceivedObject, study_key: str) -> None:
        """Make an object durable and known; returning means success (PS3.4 B.2.3)."""
        metadata: RecordMetadata | None = None

        def describe() -> RecordMetadata:
            nonlocal metadata
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
                digest=arriving.digest.hexdigest(),
                length=arriving.arrival.length,
            )
            return metadata

        address = arriving.arrival.finish(describe)
        assert metadata is not None
        series_key = self._series_keys(received.study_instance_uid, received.series_instance_uid)
        self._indexer.add(row_of(self._key, study_key, address, metadata, series_key))
        self.activity.received(study_key, received.peer.association_id, self._monotonic())


class Arriving:
    """One object on its way; implements what `network.intake` expects of a sink.

    Its methods raise a NodeError with the status that the sender gets.
    """

    def __init__(self, reception: Reception, digest: DigestPort) -> None:
        self._reception = reception
        self.digest = digest
        self.arrival = reception.spool.arrival(digest)
        self.window = self.arrival.window
        self.advance = self.arrival.advance
        self.head = self.arrival.head
        self._received: ReceivedObject | None = None
        self._study_key = ""  # while the study is kept from being shredded
        self._allowed: AllowedPort | None = None
        self._beyond: NodeError | None = None  # the quota that is used up
        self._stored: Collection[str] = ()  # where one is: digests of what it may be all the same

    def begin(self, received: ReceivedObject, /) -> None:
        """Keep the study from being shredded while this comes, and begin to seal under its key."""
        reception, rule = self._reception, received.peer.rule
        study_key = reception.study_key(received.study_instance_uid)
        reception.activity.arrives(study_key)
        self._received, self._study_key = received, study_key
        if reception.allowances is not None and rule is not None:
            try:
                self._allowed = reception.allowances.begin(rule, study_key)
            except (LimitError, StudyError) as error:
                self._exceed(reception.allowances, error)
        self.arrival.begin(study_key)

    def finish(self) -> None:
        """Make the object durable and known; beyond a quota it has to be so already."""
        assert self._received is not None
        allowances = self._reception.allowances
        if self._allowed is not None and allowances is not None:
            try:
                self._allowed.weigh(self.arrival.length)
            except (LimitError, StudyError) as error:
                self._exceed(allowances, error)
        if self._beyond is not None:
            self.arrival.complete()
            if self.digest.hexdigest() not in self._stored:
                raise copy(self._beyond)
            return
        with self._reception.writing.one(study=self._study_key):
            self._reception.seal(self, self._received, self._study_key)
        if self._allowed is not None:
            self._allowed.keep()

    def _exceed(self, allowances: AllowancesPort, error: NodeError) -> None:
        """A quota is used up: what comes is taken only if it is stored already; raises the error where nothing of its name is."""
        assert self._received is not None
        instance_key = self._reception.instance_key(self._received.sop_instance_uid)
        self._stored = allowances.stored(self._study_key, instance_key)
        if not self._stored:
            raise error
        self._beyond = copy(error)  # without its traceback, which holds this sink

    def close(self) -> None:
        """Give back what is held."""
        allowed, self._allowed = self._allowed, None
        study_key, self._study_key = self._study_key, ""
        try:
            if allowed is not None:
                allowed.close()
        finally:
            try:
                if study_key:
                    self._reception.activity.arrived(study_key)
            finally:
                self.arrival.close()
