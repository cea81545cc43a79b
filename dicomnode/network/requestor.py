"""What goes out: C-STORE, C-ECHO and C-FIND to a destination; Data Sets leave as the bytes that they are.

Where a destination takes Implicit VR alone, they leave with headers written anew. Each call makes its own
associations and ends them. What the peer does is told in outcomes or `PeerError`, never in pynetdicom's terms.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from dicomnode.encoded import Limits, implicit_parts, scan_header, split_part10
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import NodeError, PeerError, PeerRefusal, StudyError
from dicomnode.network.association import (
    MAXIMUM_CONTEXTS,
    application_entity,
    exchange,
    is_answer,
    unread_rejection,
)
from dicomnode.network.matches import bound_for_matches, read_matches
from dicomnode.network.parts import DataSetParts
from dicomnode.network.status import Rejection, error_of, error_of_rejection
from dicomnode.network.tls import client_tls
from dicomnode.network.transport import broken, cut, shut_after
from dicomnode.sections import Place

_MEDIUM_PRIORITY: Final = 0  # PS3.7 9.3.1.1
_MAXIMUM_PDU: Final = 131072
_ABORT_SECONDS: Final = 2.0
_LONGEST_FIND: Final = 20  # timeouts, for all matches together
_EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
_IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingObject:
    """An object to send: ``encoded`` is its Data Set in ``transfer_syntax_uid``."""

    result_id: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    encoded: bytes | memoryview

    @property
    def contexts(self) -> tuple[tuple[str, str], ...]:
        """Abstract and transfer syntaxes of the presentation contexts in which it can go, the preferred one first.

        What is Explicit VR Little Endian can go as Implicit VR Little Endian, which every peer must take (PS3.5 10.1);
        everything else goes as it is.
        """
        native = (_EXPLICIT_LITTLE, _IMPLICIT_LITTLE)
        syntaxes = native if self.transfer_syntax_uid == _EXPLICIT_LITTLE else (self.transfer_syntax_uid,)
        return tuple((self.sop_class_uid, syntax) for syntax in syntaxes)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOutcome:
    """What became of one object: the peer's status, if it gave one, and what that means, if not success."""

    result_id: str
    status: int | None
    error: PeerError | None
    went_out: bool = True  # wholly or in part: without an answer, nobody knows whether the peer has it


class Requestor:
    """A destination, as the node calls it.

    Parameters
    ----------
    destination
        Whom to call.
    calling_ae_title
        Who calls, where the destination does not say otherwise.

    Raises
    ------
    ConfigError
        ``tls-failed`` if the destination's TLS files cannot be used.
    """

    def __init__(self, destination: Place, calling_ae_title: str) -> None:
        self._destination = destination
        self._entity = application_entity(destination.calling_ae_title or calling_ae_title)
        for timeout in ("connection_timeout", "acse_timeout", "dimse_timeout", "network_timeout"):
            setattr(self._entity, timeout, destination.timeout_seconds)
        self._tls = client_tls(destination.tls) if destination.tls else None

    def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
        """Send objects, in order; one outcome each, whatever happens.

        One association, or more where the objects need more than 128 presentation contexts.
        """
        return tuple(outcome for batch in batches(objects) for outcome in self._store_batch(batch))

    def send_files(
        self, paths: Iterable[Path], progress: Callable[[int], None] | None = None
    ) -> tuple[StoreOutcome, ...]:
        """Send Part 10 files; ``result_id`` is the path, files that are no DICOM objects are left out.

        Parameters
        ----------
        paths
            The files.
        progress
            Told the number of files sent, after each association.
        """
        outcomes: list[StoreOutcome] = []
        for chunk in _chunks(paths, 200):
            outcomes.extend(self.store([one for one in map(_outgoing_file, chunk) if one is not None]))
            if progress is not None:
                progress(len(outcomes))
        return tuple(outcomes)

    def echo(self) -> None:
        """C-ECHO (PS3.7 9.1.5).

        Raises
        ------
        PeerError
            Unless the destination answers with success.
        """
        with self._association([_verification()]) as association:
            status = association.send_c_echo()
            if "Status" not in status:
                raise broken(association)
            error = error_of(int(status.Status))
            if error is not None:
                raise error

    def probe(self, sop_class_uids: Iterable[str]) -> frozenset[str]:
        """Which Storage SOP Classes the destination accepts, in a transfer syntax in which results can be written.

        Raises
        ------
        PeerError
            If the destination is not there or does not let us in.
        """
        wanted = list(dict.fromkeys(sop_class_uids))[: MAXIMUM_CONTEXTS - 1]
        contexts = [build_context(uid, [_EXPLICIT_LITTLE, _IMPLICIT_LITTLE]) for uid in wanted]
        try:
            with self._association([*contexts, _verification()]) as association:
                return frozenset(uid for uid, _ in _accepted(association)) & frozenset(wanted)
        except PeerRefusal as error:
            if error.code != "peer-context-refused":
                raise
            return frozenset()

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        """C-FIND in the Study Root model (PS3.4 C.6.2).

        Parameters
        ----------
        level
            ``STUDY``, ``SERIES`` or ``IMAGE``.
        query
            Keyword to value; an empty value asks for it.
        seconds
            Time for all matches together, where it is less than what the destination's time-out allows.

        Returns
        -------
        list
            One dict per match, keyword to value ("" when empty; several values joined by a backslash), of what was asked for.

        Raises
        ------
        PeerError
            If the destination is not there, refuses, or breaks off; ``peer-too-much`` if it answers without end.
        """
        identifier = Dataset()
        identifier.QueryRetrieveLevel = level
        for keyword, value in query.items():
            setattr(identifier, keyword, value)
        model = StudyRootQueryRetrieveInformationModelFind
        context = build_context(model, [_EXPLICIT_LITTLE, _IMPLICIT_LITTLE])
        longest = min(_LONGEST_FIND * self._destination.timeout_seconds, seconds or float("inf"))
        with self._association([context]) as association, hushed(), shut_after(association, longest):
            inflow = bound_for_matches(association)
            responses = association.send_c_find(identifier, model)
            return read_matches(association, responses, inflow, frozenset(query))

    def _store_batch(self, batch: Sequence[OutgoingObject]) -> Iterator[StoreOutcome]:
        contexts = [build_context(*pair) for pair in dict.fromkeys(pair for one in batch for pair in one.contexts)]
        done, begun = 0, -1
        try:
            with self._association(contexts) as association:
                accepted = _accepted(association)
                for message_id, one in enumerate(batch, 1):
                    if not association.is_established:
                        raise broken(association)
                    begun = done
                    outcome = _store_one(association, accepted, one, message_id % 0xFFFF)
                    yield outcome
                    done += 1
        except PeerError as error:
            for number, one in enumerate(batch[done:], done):
                yield StoreOutcome(result_id=one.result_id, status=None, error=error, went_out=number == begun)

    @contextmanager
    def _association(self, contexts: list[PresentationContext], *, items: Sequence[Any] = ()) -> Iterator[Association]:
        """An established association, released at the end, aborted after an error.

        Parameters
        ----------
        contexts
            What is proposed.
        items
            Further items of the negotiation.

        Raises
        ------
        PeerError
            If none came about.
        """
        connected: list[bool] = []
        target = self._destination
        try:
            association = self._entity.associate(
                target.host,
                target.port,
                contexts=contexts,
                ae_title=target.ae_title,
                max_pdu=_MAXIMUM_PDU,
                tls_args=(self._tls, target.host) if self._tls else None,
                ext_neg=list(items) or None,
                evt_handlers=[(evt.EVT_CONN_OPEN, _without_delay, [connected])],
            )
        except OSError:  # the name does not resolve
            raise PeerError("peer-unreachable") from None
        if not association.is_established:
            cut(association)
            raise self._failure(association, bool(connected))
        try:
            yield association
        except BaseException:
            with shut_after(association, _ABORT_SECONDS):
                association.abort()
            raise
        with shut_after(association, 2 * target.timeout_seconds):
            association.release()
        association.join(target.timeout_seconds)

    def _failure(self, association: Association, connected: bool) -> PeerError:
        """Why there is no association."""
        answer = association.acceptor.primitive if association.is_rejected else unread_rejection(association)
        if answer is not None:
            return error_of_rejection(Rejection(answer.result, answer.result_source, answer.diagnostic))
        if association.rejected_contexts:  # every one of them: pynetdicom then aborts
            return PeerRefusal("peer-context-refused")
        if connected:
            return broken(association)
        if self._tls is not None and _answers(self._destination):
            return PeerError("tls-failed")
        return PeerError("peer-unreachable")


def batches(objects: Sequence[OutgoingObject]) -> Iterator[list[OutgoingObject]]:
    """Objects in order, cut where an association would need more than 128 presentation contexts (PS3.8 9.3.2.2)."""
    batch: list[OutgoingObject] = []
    contexts: set[tuple[str, str]] = set()
    for one in objects:
        if len(contexts.union(one.contexts)) > MAXIMUM_CONTEXTS:
            yield batch
            batch, contexts = [], set()
        batch.append(one)
        contexts.update(one.contexts)
    if batch:
        yield batch


def _verification() -> PresentationContext:
    return build_context(Verification, [_EXPLICIT_LITTLE, _IMPLICIT_LITTLE])


def _accepted(association: Association) -> dict[tuple[str, str], int]:
    return {
        (str(context.abstract_syntax), str(context.transfer_syntax[0])): context.context_id
        for context in association.accepted_contexts
    }


def _store_one(
    association: Association, accepted: Mapping[tuple[str, str], int], one: OutgoingObject, message_id: int
) -> StoreOutcome:
    """Send one object.

    Raises
    ------
    PeerError
        ``peer-aborted`` or ``timeout`` if no response came: the association is then of no use any more.
    """
    context = next((pair for pair in one.contexts if pair in accepted), None)
    data_set = _written_in(one, context)
    if context is None or data_set is None:
        return StoreOutcome(result_id=one.result_id, status=None, error=PeerRefusal("peer-context-refused"))
    request = C_STORE()
    request.MessageID = message_id
    request.Priority = _MEDIUM_PRIORITY
    request.AffectedSOPClassUID = one.sop_class_uid
    request.AffectedSOPInstanceUID = one.sop_instance_uid
    request.DataSet = data_set
    response = exchange(association, request, accepted[context])
    if response is None:
        raise broken(association)
    if not is_answer(response, request):
        raise PeerError("peer-aborted")
    status = int(response.Status)
    return StoreOutcome(result_id=one.result_id, status=status, error=error_of(status))


def _written_in(one: OutgoingObject, context: tuple[str, str] | None) -> BytesIO | None:
    """The Data Set of an object in a context's transfer syntax; None where it cannot be written in it."""
    if context is None:
        return None
    if context[1] == one.transfer_syntax_uid:
        return BytesIO(one.encoded)
    try:
        return DataSetParts(implicit_parts(one.encoded))
    except StudyError:
        return None


def _outgoing_file(path: Path) -> OutgoingObject | None:
    """A file as it is to be sent, or None if it is no DICOM object that can be."""
    try:
        transfer_syntax_uid, encoded = split_part10(path.read_bytes())
        header = scan_header(encoded, transfer_syntax_uid, Limits())
    except (NodeError, OSError):
        return None
    return OutgoingObject(
        result_id=str(path),
        sop_class_uid=header.sop_class_uid,
        sop_instance_uid=header.sop_instance_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        encoded=encoded,
    )


def _chunks(paths: Iterable[Path], size: int) -> Iterator[list[Path]]:
    chunk: list[Path] = []
    for path in paths:
        chunk.append(path)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _without_delay(event: evt.Event, connected: list[bool]) -> None:
    """Mark that the transport is there, and turn Nagle's algorithm off: it costs 40 ms an object."""
    connected.append(True)
    transport = event.assoc.dul.socket.socket
    transport.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _answers(destination: Place) -> bool:
    """Whether there is anybody at the port, TLS or not."""
    try:
        socket.create_connection((destination.host, destination.port), destination.timeout_seconds).close()
    except OSError:
        return False
    return True
