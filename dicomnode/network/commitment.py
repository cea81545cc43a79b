"""Storage Commitment, push model (PS3.4 J): requests and reports, as Data Sets and as services. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicomnode.encoded import Limits
from dicomnode.network import dimse
from dicomnode.network.procedures import items, reading
from dicomnode.network.session import Call, Reply, Service
from dicomnode.network.status import (
    INVALID_ARGUMENT,
    MISSING_ATTRIBUTE,
    NO_SUCH_ACTION,
    NO_SUCH_EVENT,
    NO_SUCH_INSTANCE,
    PROCESSING_FAILURE,
    SUCCESS,
)

STORAGE_COMMITMENT: Final = "1.2.840.10008.1.20.1"
#: PS3.4 J.3.5: the one instance of the class.
WELL_KNOWN_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
REQUEST_COMMITMENT: Final = 1  # PS3.4 Table J.3-1
ALL_COMMITTED: Final = 1  # PS3.4 Table J.3-2
SOME_FAILED: Final = 2


class Reference(NamedTuple):
    """An instance."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRequest:
    """Somebody asks whether instances are safe."""

    transaction_uid: str
    references: tuple[Reference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What became of the instances of a request.

    Attributes
    ----------
    failed
        Failure Reason (0008,1197) of each that is not committed.
    retrieve_ae_title
        Where what is committed can be had: Retrieve AE Title (0008,0054).
    """

    transaction_uid: str
    committed: tuple[Reference, ...]
    failed: Mapping[Reference, int]
    retrieve_ae_title: str

    @property
    def event_type_id(self) -> int:
        """Event Type ID that it goes out with."""
        return SOME_FAILED if self.failed else ALL_COMMITTED


class Commitments(Protocol):
    """Whoever keeps requests, durably, and sees to their answers."""

    def ask(self, request: CommitmentRequest, call: Call) -> None:
        """Take a request over; durable on return."""
        ...

    def reported(self, report: CommitmentReport) -> bool:
        """The PACS reports; False where nobody asked it."""
        ...


class Reported(Protocol):
    """Whoever asked somebody to commit."""

    def reported(self, report: CommitmentReport) -> bool:
        """A report came; False where nobody asked for it."""
        ...


def report_services(asked: Sequence[Reported], limits: Limits) -> dict[tuple[str, int], Service]:
    """The service that hears reports, by SOP Class and Command Field: whoever of these asked is told."""

    def hear(call: Call, data: Dataset) -> Reply:
        if call.command.event_type_id not in (ALL_COMMITTED, SOME_FAILED):
            return Reply(NO_SUCH_EVENT)
        report = read_report(data)
        if report is None:
            return Reply(MISSING_ATTRIBUTE)
        return Reply(SUCCESS if any(one.reported(report) for one in asked) else INVALID_ARGUMENT)

    return {(STORAGE_COMMITMENT, dimse.N_EVENT_REPORT_RQ): reading(limits, hear)}


def commitment_services(commitments: Commitments, limits: Limits, *others: Reported) -> dict[tuple[str, int], Service]:
    """The services, by SOP Class and Command Field; reports are for `others` as well."""

    def act(call: Call, data: Dataset) -> Reply:
        if call.command.action_type_id != REQUEST_COMMITMENT:
            return Reply(NO_SUCH_ACTION)
        if call.command.requested_sop_instance_uid != WELL_KNOWN_INSTANCE:
            return Reply(NO_SUCH_INSTANCE)
        request = read_request(data)
        if request is None:
            return Reply(MISSING_ATTRIBUTE)
        commitments.ask(request, call)
        return Reply(SUCCESS)

    reports = report_services((commitments, *others), limits)
    return {(STORAGE_COMMITMENT, dimse.N_ACTION_RQ): reading(limits, act), **reports}


def read_request(data: Dataset) -> CommitmentRequest | None:
    """A request (PS3.4 Table J.3-1); None where it lacks its Transaction UID, an instance, or a UID of one.

    One that is left out would not be among those that failed: its asker would hear that all are committed.
    """
    transaction_uid = str(data.get("TransactionUID", ""))
    named = [reference for reference, _ in _references(data, "ReferencedSOPSequence")]
    if not transaction_uid or not named or len(named) < len(items(data, "ReferencedSOPSequence")):
        return None
    return CommitmentRequest(transaction_uid=transaction_uid, references=tuple(dict.fromkeys(named)))


def write_request(request: CommitmentRequest) -> Dataset:
    """A request as Data Set."""
    data = Dataset()
    data.TransactionUID = UID(request.transaction_uid)
    data.ReferencedSOPSequence = [_item(reference) for reference in request.references]
    return data


def read_report(data: Dataset) -> CommitmentReport | None:
    """A report (PS3.4 Table J.3-2); None where it lacks its Transaction UID."""
    transaction_uid = str(data.get("TransactionUID", ""))
    if not transaction_uid:
        return None
    committed = tuple(reference for reference, _ in _references(data, "ReferencedSOPSequence"))
    failed = {reference: _reason(item) for reference, item in _references(data, "FailedSOPSequence")}
    return CommitmentReport(
        transaction_uid=transaction_uid,
        committed=tuple(one for one in committed if one not in failed),
        failed=failed,
        retrieve_ae_title=str(data.get("RetrieveAETitle") or ""),
    )


def write_report(report: CommitmentReport) -> Dataset:
    """A report as Data Set."""
    data = Dataset()
    data.TransactionUID = UID(report.transaction_uid)
    if report.committed:
        data.RetrieveAETitle = report.retrieve_ae_title
        data.ReferencedSOPSequence = [_item(reference) for reference in report.committed]
    if report.failed:
        data.FailedSOPSequence = [_item(reference, reason) for reference, reason in report.failed.items()]
    return data


def answer(request: CommitmentRequest, pacs: CommitmentReport | None, pacs_ae_title: str) -> CommitmentReport:
    """What the asker is told: success for what the PACS has committed, and for nothing else.

    Parameters
    ----------
    pacs
        Report of the PACS; None where it gave none.
    pacs_ae_title
        Where its instances can be had, unless it names a place itself.
    """
    committed = set(pacs.committed) if pacs else set()
    reasons = pacs.failed if pacs else {}
    otherwise = NO_SUCH_INSTANCE if pacs else PROCESSING_FAILURE
    return CommitmentReport(
        transaction_uid=request.transaction_uid,
        committed=tuple(one for one in request.references if one in committed),
        failed={one: reasons.get(one, otherwise) for one in request.references if one not in committed},
        retrieve_ae_title=(pacs.retrieve_ae_title if pacs else "") or pacs_ae_title,
    )


def _references(data: Dataset, keyword: str) -> Iterator[tuple[Reference, Dataset]]:
    for item in items(data, keyword):
        reference = Reference(str(item.get("ReferencedSOPClassUID", "")), str(item.get("ReferencedSOPInstanceUID", "")))
        if all(reference):
            yield reference, item


def _reason(item: Dataset) -> int:
    value = item.get("FailureReason")
    return int(value) if isinstance(value, int) else PROCESSING_FAILURE


def _item(reference: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = UID(reference.sop_class_uid)
    item.ReferencedSOPInstanceUID = UID(reference.sop_instance_uid)
    if reason is not None:
        item.FailureReason = reason
    return item
