"""Storage Commitment as requestor (PS3.4 J): ask the PACS to commit, and tell an asker what became of its request."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from io import BytesIO
from queue import Empty, SimpleQueue

from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.presentation import build_context, build_role

from dicomnode.encoded import Limits, encode_dataset, read_dataset
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import NodeError, PeerError, StudyError
from dicomnode.network.association import is_answer, quiet
from dicomnode.network.commitment import (
    REQUEST_COMMITMENT,
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    CommitmentRequest,
    Reported,
    read_report,
    write_report,
    write_request,
)
from dicomnode.network.requestor import Requestor
from dicomnode.network.status import INVALID_ARGUMENT, PROCESSING_FAILURE, SUCCESS, error_of
from dicomnode.network.transport import broken

_SYNTAXES = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]


class CommitmentRequestor(Requestor):
    """A system that commits, or that wants to know what was committed."""

    def request(
        self, request: CommitmentRequest, seconds: float, others: Sequence[Reported] = ()
    ) -> CommitmentReport | None:
        """N-ACTION; the report, where it comes in the same association within so many seconds.

        Parameters
        ----------
        others
            Told of what else is reported meanwhile: of other transactions, and of this one after that time.

        Raises
        ------
        PeerError
            If the request was not taken.
        """
        context = build_context(STORAGE_COMMITMENT, _SYNTAXES)
        with self._association([context]) as association, quiet(association):
            return _ask(association, request, seconds, others)

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


class _Hearing:
    """Reports that come in an association: one of a transaction is waited for, those of others go to whoever asked.

    A peer that got a success repeats nothing: none is answered so unless somebody keeps it.
    """

    def __init__(self, transaction_uid: str, others: Sequence[Reported]) -> None:
        self._uid = transaction_uid
        self._others = tuple(others)
        self._reports: SimpleQueue[CommitmentReport] = SimpleQueue()
        self._over = False
        self._lock = threading.Lock()

    def take(self, report: CommitmentReport) -> int:
        """Status (PS3.7 10.1.1.1.8) of the response to a report."""
        with self._lock:
            if report.transaction_uid == self._uid and not self._over:
                self._reports.put(report)
                return SUCCESS
        try:
            return SUCCESS if any(one.reported(report) for one in self._others) else INVALID_ARGUMENT
        except NodeError:  # it cannot be kept now
            return PROCESSING_FAILURE

    def wait(self, seconds: float) -> CommitmentReport | None:
        """The report that is waited for; None where it does not come in time."""
        with suppress(Empty):
            return self._reports.get(timeout=seconds)
        with self._lock:
            self._over = True
            return None if self._reports.empty() else self._reports.get()


def _ask(
    association: Association, request: CommitmentRequest, seconds: float, others: Sequence[Reported]
) -> CommitmentReport | None:
    """Send a request and take its response; the report may come before it, after it, or not at all."""
    (context,) = association.accepted_contexts
    syntax = str(context.transfer_syntax[0])
    asked = N_ACTION()
    asked.MessageID = 1
    asked.RequestedSOPClassUID, asked.RequestedSOPInstanceUID = STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
    asked.ActionTypeID = REQUEST_COMMITMENT
    asked.ActionInformation = BytesIO(encode_dataset(write_request(request), syntax))
    hearing = _Hearing(request.transaction_uid, others)

    def serve(message: object, context_id: int) -> None:
        # pynetdicom 3.0.4 calls this in a thread of its own as soon as an N-EVENT-REPORT is there; its stock code marks
        # a reactor that stands still as running, and the release then waits for ever.
        if isinstance(message, N_EVENT_REPORT):
            _hear(association, context_id, message, syntax, hearing)

    association._serve_request = serve
    association.dimse.send_msg(asked, context.context_id)
    _, response = association.dimse.get_msg(block=True)
    if not is_answer(response, asked):
        raise broken(association)
    _check(int(response.Status))
    return hearing.wait(seconds)


def _hear(association: Association, context_id: int, message: N_EVENT_REPORT, syntax: str, hearing: _Hearing) -> None:
    """Read a report, hand it on, and answer it."""
    try:
        with hushed():
            report = read_report(read_dataset(message.EventInformation.getvalue(), syntax, Limits()))
    except StudyError:
        report = None
    answer = N_EVENT_REPORT()
    answer.MessageIDBeingRespondedTo = message.MessageID
    answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID = STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE
    answer.EventTypeID = message.EventTypeID
    answer.Status = PROCESSING_FAILURE if report is None else hearing.take(report)
    association.dimse.send_msg(answer, context_id)


def _check(status: int) -> None:
    if (error := error_of(status)) is not None:
        raise error
