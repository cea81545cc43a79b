"""Storage Commitment as requestor (PS3.4 J): ask the PACS to commit, and tell an asker what became of its request."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from queue import Empty, SimpleQueue

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.presentation import build_context, build_role

from dicomnode.encoded import Limits, encode_dataset, read_dataset
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import PeerError, StudyError
from dicomnode.network.association import quiet
from dicomnode.network.commitment import (
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    CommitmentRequest,
    read_report,
    write_report,
    write_request,
)
from dicomnode.network.requestor import Requestor
from dicomnode.network.status import PROCESSING_FAILURE, SUCCESS, error_of
from dicomnode.network.transport import broken

_SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]


class CommitmentRequestor(Requestor):
    """A system that commits, or that wants to know what was committed."""

    def request(self, request: CommitmentRequest, seconds: float) -> CommitmentReport | None:
        """N-ACTION; the report, where it comes in the same association within so many seconds.

        Raises
        ------
        PeerError
            If the request was not taken.
        """
        context = build_context(STORAGE_COMMITMENT, _SYNTAXES)
        with self._association([context]) as association, quiet(association):
            return _ask(association, request, seconds)

    def tell(self, report: CommitmentReport) -> None:
        """N-EVENT-REPORT in an association of its own, in the role of the provider.

        Raises
        ------
        PeerError
            Unless it was taken.
        """
        context = build_context(STORAGE_COMMITMENT, _SYNTAXES)
        role = build_role(STORAGE_COMMITMENT, scp_role=True)
        with self._association([context], items=[role]) as association, hushed():
            try:
                status, _ = association.send_n_event_report(
                    write_report(report), report.event_type_id, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
                )
            except ValueError:  # the role was not granted
                raise PeerError("peer-context-refused") from None
            if "Status" not in status:
                raise broken(association)
            _check(int(status.Status))


def _ask(association: Association, request: CommitmentRequest, seconds: float) -> CommitmentReport | None:
    """Send a request and take its response; the report may come before it, after it, or not at all."""
    (context,) = association.accepted_contexts
    syntax = str(context.transfer_syntax[0])
    asked = N_ACTION()
    asked.MessageID = 1
    asked.RequestedSOPClassUID, asked.RequestedSOPInstanceUID = STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
    asked.ActionTypeID = REQUEST_COMMITMENT
    asked.ActionInformation = BytesIO(encode_dataset(write_request(request), syntax))
    reports: SimpleQueue[CommitmentReport] = SimpleQueue()

    def serve(message: object, context_id: int) -> None:
        # pynetdicom 3.0.4 calls this in a thread of its own as soon as an N-EVENT-REPORT is there; its stock code marks
        # a reactor that stands still as running, and the release then waits for ever.
        if isinstance(message, N_EVENT_REPORT):
            report = _heard(association, context_id, message, syntax)
            if report is not None and report.transaction_uid == request.transaction_uid:
                reports.put(report)

    association._serve_request = serve
    association.dimse.send_msg(asked, context.context_id)
    _, response = association.dimse.get_msg(block=True)
    if not isinstance(response, N_ACTION) or response.Status is None:
        raise broken(association)
    _check(int(response.Status))
    with suppress(Empty):
        return reports.get(timeout=seconds)
    return None


def _heard(association: Association, context_id: int, message: N_EVENT_REPORT, syntax: str) -> CommitmentReport | None:
    """Answer a report, and read it; None where it is none."""
    try:
        with hushed():
            report = read_report(read_dataset(message.EventInformation.getvalue(), syntax, Limits()))
    except StudyError:
        report = None
    answer = N_EVENT_REPORT()
    answer.MessageIDBeingRespondedTo = message.MessageID
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
    answer.EventTypeID = message.EventTypeID
    answer.Status = SUCCESS if report else PROCESSING_FAILURE
    association.dimse.send_msg(answer, context_id)
    return report


def _check(status: int) -> None:
    if (error := error_of(status)) is not None:
        raise error
