"""Fetching by DIMSE: C-GET over the association that asks, C-MOVE to a door of ours (PS3.4 C.4.2, C.4.3).

What comes is offered to `retrieval.Taking` as the bytes that it is; a source that goes on when nothing more is taken, or
that never ends, is cut off.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.presentation import build_context, build_role
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelGet, StudyRootQueryRetrieveInformationModelMove

from dicomnode.encoded.quiet import hushed
from dicomnode.errors import PeerError, PeerRefusal
from dicomnode.network.association import MAXIMUM_CONTEXTS, accepted_contexts
from dicomnode.network.inflow import Inflow
from dicomnode.network.moving import MoveDoor
from dicomnode.network.requestor import Requestor
from dicomnode.network.retrieval import Taking, identifier_of
from dicomnode.network.status import PROCESSING_FAILURE, StatusKind, classify
from dicomnode.network.transport import bound, broken, cut, shut_after
from dicomnode.source_sections import Source

_PENDING: Final = frozenset({0xFF00, 0xFF01})  # PS3.4 Table C.4-2
_NATIVE: Final = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
#: PS3.4 Tables C.4-2 and C.4-3: out of resources, unable to count matches or to perform sub-operations.
_NONE_PERFORMED: Final = 0xA702
_TRANSIENT: Final = frozenset({0xA701, _NONE_PERFORMED})
_LEAST_SECONDS: Final = 0.1
_AROUND_BYTES: Final = 64 * 1024  # commands
_MOST_UNREAD: Final = 1024  # messages


class GetRetriever(Requestor):
    """A source that sends over the association that asks it.

    Parameters
    ----------
    destination, calling_ae_title
        As of `Requestor`.
    maximum_object_bytes
        What one object may have; and never more than may still come.
    """

    def __init__(self, destination: Source, calling_ae_title: str, *, maximum_object_bytes: int = sys.maxsize) -> None:
        super().__init__(destination, calling_ae_title)
        self._maximum_object_bytes = maximum_object_bytes

    def retrieve(self, taking: Taking) -> None:
        """C-GET.

        Raises
        ------
        PeerError
            If the source is not there, refuses, breaks off, or is not through in time.
        """
        model = StudyRootQueryRetrieveInformationModelGet
        classes = taking.wanted.sop_classes
        contexts = [build_context(model, list(_NATIVE)), *_storage_contexts(classes)]
        roles = [build_role(uid, scp_role=True) for uid in classes]
        with (
            self._association(contexts, items=roles) as association,
            hushed(),
            shut_after(association, max(taking.allowance.seconds, _LEAST_SECONDS)),
        ):

            def stored(event: evt.Event) -> int:
                status = _offer(taking, event)
                if taking.is_over:
                    cut(association)
                return status

            def may_come() -> int:
                return min(self._maximum_object_bytes, taking.allowance.size) + _AROUND_BYTES

            bound(association, Inflow(may_come, _MOST_UNREAD))
            association.bind(evt.EVT_C_STORE, stored)
            _finish(association, association.send_c_get(_identifier(taking), model), taking)


class MoveRetriever(Requestor):
    """A source that sends over associations of its own, to a door that is open for it.

    Parameters
    ----------
    source, calling_ae_title
        As of `Requestor`.
    door
        Where what it sends comes in.
    """

    def __init__(self, source: Source, calling_ae_title: str, door: MoveDoor) -> None:
        super().__init__(source, calling_ae_title)
        self._source = source
        self._door = door

    def retrieve(self, taking: Taking) -> None:
        """C-MOVE to the door; raises as `GetRetriever.retrieve`."""
        model = StudyRootQueryRetrieveInformationModelMove
        with (
            self._door.open_for(taking, self._source),
            self._association([build_context(model, list(_NATIVE))]) as association,
            hushed(),
            shut_after(association, max(taking.allowance.seconds, _LEAST_SECONDS)),
        ):
            responses = association.send_c_move(_identifier(taking), self._door.ae_title, model)
            _finish(association, responses, taking)


def _storage_contexts(classes: tuple[str, ...]) -> list[Any]:
    """For each SOP Class one context with the native transfer syntaxes, and one with each other: it comes as it is stored."""
    wanted = [one for one in accepted_contexts() if str(one.abstract_syntax) in classes]
    contexts = [build_context(one.abstract_syntax, list(_NATIVE)) for one in wanted]
    for one in wanted:
        others = [syntax for syntax in one.transfer_syntax if str(syntax) not in _NATIVE]
        contexts += [build_context(one.abstract_syntax, [syntax]) for syntax in others]
    return contexts[: MAXIMUM_CONTEXTS - 1]


def _identifier(taking: Taking) -> Dataset:
    identifier = Dataset()
    for keyword, value in identifier_of(taking.wanted).items():
        setattr(identifier, keyword, value)
    return identifier


def _offer(taking: Taking, event: evt.Event) -> int:
    request = event.request
    if request.DataSet is None:
        return PROCESSING_FAILURE
    return taking.offer(
        str(request.AffectedSOPClassUID or ""),
        str(request.AffectedSOPInstanceUID or ""),
        str(event.context.transfer_syntax),
        request.DataSet.getvalue(),
    )


def _finish(association: Any, responses: Iterator[tuple[Dataset, Dataset | None]], taking: Taking) -> None:
    """Hear the source to its end; what it says of its sub-operations is not believed, what came is counted."""
    for status, _ in responses:
        if "Status" not in status:
            if association.dul.socket.inflow.is_over:
                taking.exhausted = True
                cut(association)
            if taking.is_over and taking.allowance.seconds:  # we cut it off
                return
            raise PeerError("timeout") if not taking.allowance.seconds else broken(association)
        code = int(status.Status)
        if code in _PENDING:
            if taking.is_over:
                cut(association)
        elif code == _NONE_PERFORMED and taking.refusals:  # it was us who refused what it sent
            return
        elif code in _TRANSIENT:
            raise PeerError("peer-out-of-resources", status=f"x{code:04X}")
        elif classify(code) not in (StatusKind.SUCCESS, StatusKind.WARNING):
            raise PeerRefusal("retrieval-refused", status=f"x{code:04X}")
