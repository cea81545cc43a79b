"""Storage commitment, asked of us: each request is durable, goes on to the PACS, and comes back as what that committed.

A request is sealed under a key of its own and is shredded when its asker knows. The ledger knows a blind key and a time.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from dicomnode.config import DeliverySection
from dicomnode.encoded import encode_dataset
from dicomnode.errors import NodeError, PeerError
from dicomnode.events import Emit
from dicomnode.network.asking import Event
from dicomnode.network.commitment import (
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    CommitmentRequest,
    Reference,
    Reported,
    answer,
    write_report,
)
from dicomnode.network.session import Call
from dicomnode.network_sections import ServicesSection
from dicomnode.pulses import FAR_SECONDS, Pulse
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import CommitmentRow
from dicomnode.study import Purpose, World, blind_key, mint_uid
from dicomnode.workflow.circuits import wait_before
from dicomnode.workflow.ports import Clocks

_OBJECT = "commitment"
#: Stands for the PACS among AE titles, of which none is empty.
_PACS: Final = ""
_LONGEST_NAP_SECONDS = 60.0
_AFTER_A_FAULT = timedelta(seconds=5)
#: Only a process that was killed leaves these two: before its request was kept, and before all of it was gone.
_BEGUN: Final = "begun"
_ENDED: Final = "ended"


class Committer(Protocol):
    """The PACS."""

    def request(
        self, request: CommitmentRequest, seconds: float, others: Sequence[Reported] = ()
    ) -> CommitmentReport | None:
        """Ask; its report, if it comes at once; `others` are told of what else it reports. PeerError if it refuses."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asked: AE title, the name of its rule, the association it asked in."""

    ae_title: str
    peer: str
    association_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    asker: Asker
    request: CommitmentRequest
    report: CommitmentReport | None = None


class CommitmentDesk:
    """Implements what `network.commitment` expects; a thread sees to what is due.

    Parameters
    ----------
    ledger, objects, keys
        Where transactions stand, sealed.
    derivation_key
        Key of blind keys and of the UIDs that the PACS is asked under.
    pacs, pacs_ae_title
        Who commits (None: nobody), and where its instances can be had.
    tell_here
        Sends a report in an open association, by its identifier; the status, None where that is not open any more.
    tell_there
        Sends a report to an asker in an association of its own, False where no address of it is known; PeerError.
    settings, retries
        Times.
    clocks, emit
        Wall clock, and the sure one by which a request grows old; where events go.
    """

    def __init__(
        self,
        ledger: Ledger,
        objects: Objects,
        keys: DataKeys,
        *,
        derivation_key: bytes,
        pacs: Committer | None,
        pacs_ae_title: str,
        tell_here: Callable[[str, Event, float], int | None],
        tell_there: Callable[[Asker, CommitmentReport], bool],
        settings: ServicesSection,
        retries: DeliverySection,
        clocks: Clocks,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._objects = objects
        self._keys = keys
        self._key = derivation_key
        self._pacs = pacs
        self._pacs_ae_title = pacs_ae_title
        self._tell_here = tell_here
        self._tell_there = tell_there
        self._settings = settings
        self._retries = retries
        self._clock = clocks.now
        self._sure = clocks.sure
        self._emit = emit
        self._cases = threading.Lock()  # one reads, changes and writes a case at a time
        self._wake = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commitment", daemon=True)
        self._pulse = Pulse("commitment", FAR_SECONDS)
        self.pulses = (self._pulse,)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end(self) -> None:
        """Stop the thread and wait for it; what is open goes on at the next start."""
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def ask(self, request: CommitmentRequest, call: Call) -> None:
        """Take a request over; durable on return. The same again is told about where it was asked last."""
        peer = call.peer
        key = blind_key(self._key, "commitment", peer.calling_ae_title, request.transaction_uid)
        name = peer.rule.name if peer.rule else ""
        asker = Asker(ae_title=peer.calling_ae_title, peer=name, association_id=peer.association_id)
        with self._cases:
            row = self._ledger.commitment(key)
            if row is not None and row.state in (_BEGUN, _ENDED):
                self._erase(key)
                row = None
            if row is None:
                self._ledger.begin_commitment(key, self._clock())
                self._put(key, _Case(asker=asker, request=request))
                self._ledger.move_commitment(key, "asked", attempts=0, due_at=self._clock())
            else:
                self._put(key, replace(self._get(key), asker=asker))
                self._move(row, row.attempts, self._clock())
        if row is None:
            self._emit("commitment.asked", association=peer.association_id, instances=len(request.references))
        self._wake.set()

    def reported(self, report: CommitmentReport) -> bool:
        """The PACS reports; False where it was not asked, or has answered already."""
        for row in self._ledger.commitments():
            if row.state == "asked" and report.transaction_uid in self._uids(row):
                self._answer(row, report)
                self._wake.set()
                return True
        return False

    def look(self) -> float:
        """See to everything that is due; returns the seconds until something else is.

        Nothing waits for longer than the longest wait: what is due later than that was written down before the clock
        was set back. The PACS is asked once a call, and an asker that cannot be told costs one time-out: in between the
        others are told.
        """
        waited: set[str] = set()
        now, nap = self._clock(), _LONGEST_NAP_SECONDS
        longest = max(self._retries.longest_retry_seconds, _AFTER_A_FAULT.total_seconds())
        for row in self._ledger.commitments():
            self._pulse.beat()
            left = (row.due_at - now).total_seconds()
            if 0 < left <= longest:
                nap = max(min(nap, left), 0.01)
                continue
            try:
                self._advance(row, now, waited)
            except NodeError as error:
                self._emit("commitment.failed", level="error", reason=error.code)
                due = self._clock() + _AFTER_A_FAULT
                self._move(row, row.attempts, due)
            nap = 0.01
        return nap

    def _advance(self, row: CommitmentRow, now: datetime, waited: set[str]) -> None:
        """See to a transaction; `waited`: whose others stay due (the PACS, or the AE title of an asker)."""
        if row.state in (_BEGUN, _ENDED):
            self._sweep(row.transaction_key)
            return
        too_old = (self._sure() - row.created_at).total_seconds() >= self._settings.commitment_give_up_seconds
        if row.state == "asked":
            if too_old or self._pacs is None:
                self._answer(row, None)
            elif _PACS not in waited:
                waited.add(_PACS)
                self._ask_pacs(self._pacs, row, now)
            return
        asker = self._get(row.transaction_key).asker.ae_title
        silent = asker in waited
        if (not silent and self._tell(row)) or too_old:
            self._close(row)
        elif not silent:
            waited.add(asker)
            self._later(row, now)

    def _ask_pacs(self, pacs: Committer, row: CommitmentRow, now: datetime) -> None:
        self._later(row, now)  # before: the report may come while the request is still on its way
        tried = replace(row, attempts=row.attempts + 1)
        request = replace(self._get(row.transaction_key).request, transaction_uid=self._uids(tried)[-1])
        try:
            report = pacs.request(request, self._settings.commitment_wait_seconds, (self,))
        except PeerError as error:
            self._emit("commitment.waiting", level="warning", reason=error.code, attempts=tried.attempts)
            if not error.retryable:
                self._answer(tried, None)
            return
        if report is not None:
            self._answer(tried, report)

    def _answer(self, row: CommitmentRow, pacs: CommitmentReport | None) -> None:
        """Keep what the asker is to be told; the first answer stands."""
        with self._cases:
            case = self._get(row.transaction_key)
            report = case.report or answer(case.request, pacs, self._pacs_ae_title)
            if case.report is None:
                self._put(row.transaction_key, replace(case, report=report))
        self._ledger.move_commitment(row.transaction_key, "answered", attempts=0, due_at=self._clock())
        self._emit("commitment.answered", committed=len(report.committed), failed=len(report.failed))

    def _tell(self, row: CommitmentRow) -> bool:
        """Tell the asker; whether it knows, or can never be told."""
        case = self._get(row.transaction_key)
        report = case.report
        assert report is not None
        event = Event(
            STORAGE_COMMITMENT,
            WELL_KNOWN_INSTANCE,
            report.event_type_id,
            lambda syntax: encode_dataset(write_report(report), syntax),
        )
        reason = "peer-unreachable"
        try:
            status = self._tell_here(case.asker.association_id, event, self._settings.commitment_wait_seconds)
            if status == 0 or (status is None and self._tell_there(case.asker, report)):
                self._emit("commitment.told", committed=len(report.committed), failed=len(report.failed))
                return True
        except PeerError as error:
            reason = error.code
        self._emit("commitment.untold", level="warning", reason=reason, attempts=row.attempts + 1)
        return False

    def _later(self, row: CommitmentRow, now: datetime) -> None:
        attempts = row.attempts + 1
        due = now + timedelta(seconds=wait_before(attempts + 1, self._retries))
        self._move(row, attempts, due)

    def _move(self, row: CommitmentRow, attempts: int, due: datetime) -> None:
        """Look at it again later, unless an answer came meanwhile."""
        self._ledger.move_commitment(row.transaction_key, row.state, attempts=attempts, due_at=due, was=row.state)

    def _close(self, row: CommitmentRow) -> None:
        with self._cases:
            self._ledger.move_commitment(row.transaction_key, _ENDED, attempts=row.attempts, due_at=self._clock())
            self._erase(row.transaction_key)

    def _sweep(self, key: str) -> None:
        with self._cases:  # whoever begins one holds the lock until it is asked
            row = self._ledger.commitment(key)
            if row is not None and row.state in (_BEGUN, _ENDED):
                self._erase(key)

    def _erase(self, key: str) -> None:
        """The row goes last: whatever a kill on the way leaves, the next look takes away."""
        self._objects.purge(key)
        self._keys.shred(key)
        self._ledger.end_commitment(key)

    def _uids(self, row: CommitmentRow) -> list[str]:
        """Transaction UIDs that the PACS was asked under, one for each try."""
        return [
            mint_uid(self._key, "commitment", row.transaction_key, str(attempt))
            for attempt in range(1, row.attempts + 1)
        ]

    def _put(self, key: str, case: _Case) -> None:
        data = json.dumps(_plain(case)).encode()
        self._objects.put(key, World.IDENTITY, _OBJECT, Purpose.COMMITMENT, data)

    def _get(self, key: str) -> _Case:
        return _case(json.loads(self._objects.get(key, World.IDENTITY, _OBJECT, Purpose.COMMITMENT)))

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                with self._pulse:
                    nap = self.look()
            except NodeError as error:
                self._emit("commitment.failed", level="error", reason=error.code)
                nap = _AFTER_A_FAULT.total_seconds()
            except Exception as error:  # noqa: BLE001 - the border: the thread must outlive whatever happens
                self._emit("commitment.failed", level="error", kind=type(error).__name__, reason="internal")
                nap = _AFTER_A_FAULT.total_seconds()
            self._wake.wait(nap)
            self._wake.clear()


def _plain(case: _Case) -> dict[str, Any]:
    asker, request, report = case.asker, case.request, case.report
    plain: dict[str, Any] = {
        "ae_title": asker.ae_title,
        "peer": asker.peer,
        "association_id": asker.association_id,
        "transaction_uid": request.transaction_uid,
        "references": list(request.references),
    }
    if report is not None:
        plain["committed"] = list(report.committed)
        plain["failed"] = [[*reference, reason] for reference, reason in report.failed.items()]
        plain["retrieve_ae_title"] = report.retrieve_ae_title
    return plain


def _case(plain: dict[str, Any]) -> _Case:
    uid = plain["transaction_uid"]
    report = None
    if "committed" in plain:
        report = CommitmentReport(
            transaction_uid=uid,
            committed=tuple(Reference(*one) for one in plain["committed"]),
            failed={Reference(one[0], one[1]): one[2] for one in plain["failed"]},
            retrieve_ae_title=plain["retrieve_ae_title"],
        )
    asker = Asker(ae_title=plain["ae_title"], peer=plain["peer"], association_id=plain["association_id"])
    references = tuple(Reference(*one) for one in plain["references"])
    return _Case(asker=asker, request=CommitmentRequest(transaction_uid=uid, references=references), report=report)
