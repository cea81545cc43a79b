"""Carries out orders to export studies: de-identified by the policy `export`, series by series, to where the configuration says.

An order goes from the ledger once every object of its study is at its place, withheld or refused; cut off before, or
where instances came or went meanwhile, it is begun anew: UIDs and bytes are the same. Only current instances of a study
leave, and never the node's own results unless the configuration asks for them. No export waits for another one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from dicomnode.config import DeliverySection
from dicomnode.encoded import Limits, read_part10, scan_header, split_part10
from dicomnode.errors import ConfigError, NodeError, PeerError, StorageError, StudyError
from dicomnode.events import Emit, Fact
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.network.status import DUPLICATE_INSTANCE
from dicomnode.service.deidentifying_series import Deidentified
from dicomnode.service.lanes import Lane
from dicomnode.storage import audit
from dicomnode.storage.exported import clear_unfinished, write_exported
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import OrderRow
from dicomnode.study import InstanceRow
from dicomnode.workflow.circuits import MENDED_BY_PEOPLE, wait_before
from dicomnode.workflow.damage import lost
from dicomnode.workflow.orders import EXPORT
from dicomnode.workflow.ports import STAT, Clocks, Monotonic

_BATCH_OBJECTS: Final = 64
_BATCH_BYTES: Final = 64 << 20
#: Encrypted Attributes Sequence (PS3.3 C.12.1.1.4.1).
_ENCRYPTED: Final = 0x04000500

#: Instances of a study → each as it may leave, or why it may not.
Deidentify = Callable[[Sequence[InstanceRow]], Iterator[Deidentified | StudyError]]


class Outlet(Protocol):
    """Where objects leave the house."""

    def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
        """Send the objects; one outcome each."""
        ...


class Shelf(Protocol):
    """A place that keeps objects by name."""

    def write(
        self, study_instance_uid: str, sop_instance_uid: str, data: bytes, *, same: Callable[[bytes, bytes], bool]
    ) -> bool:
        """Put an object there; StudyError where another content has its name.

        PeerError ``peer-refused-object`` where it is not taken, and others may be.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One export of the configuration: what makes of instances what may leave, and where that goes.

    Attributes
    ----------
    to
        Another system, a folder, or a bucket.
    wait
        Seconds until a study of a priority may leave, the fewest for STAT; what is on its way then goes on.
    sent
        Told of objects that were sent.
    """

    to: Outlet | Path | Shelf
    deidentify: Deidentify
    wait: Callable[[int], float] = lambda _: 0
    sent: Callable[[Sequence[OutgoingObject]], None] = lambda _: None


@dataclass(slots=True)
class Tally:
    """How far an export came.

    Attributes
    ----------
    sent
        Objects that were put at their place, or lay there as they are.
    already_there
        Objects of which a peer said that it has one of that UID: nobody knows whether it is this one.
    withheld, refused
        Objects that did not leave and that were not taken, by code.
    """

    sent: int = 0
    already_there: int = 0
    withheld: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaving:
    """A Part 10 file, and what is said of it where it goes by network."""

    data: bytes = field(repr=False)
    study_instance_uid: str
    outgoing: OutgoingObject = field(repr=False)


class _Ended(Exception):
    """The node stops: the order stays."""


class Exports:
    """Carries out orders to export; each export may be swept in a thread of its own.

    Parameters
    ----------
    ways
        Exports by name.
    state
        Folder of the audit trail.
    limits
        Budgets of reading.
    settings
        How long is waited between two tries, and when an order is given up.
    ready
        Whether nothing of a study is waited for, and all that came stands in the ledger.
    ended
        Whether the node stops.
    report
        Told of faults of the node.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        ways: Mapping[str, Way],
        state: Path,
        limits: Limits,
        settings: DeliverySection,
        ready: Callable[[str], bool],
        ended: Callable[[], bool],
        report: Callable[[str, BaseException], None],
        clocks: Clocks,
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._ways = ways
        self._state = state
        self._limits = limits
        self._settings = settings
        self._ready = ready
        self._ended = ended
        self._report = report
        self._clock, self._sure = clocks.now, clocks.sure
        self._monotonic = monotonic
        self._emit = emit
        self._lanes: defaultdict[str, Lane] = defaultdict(Lane)

    def sweep(self, destination: str) -> None:
        """Carry out what is ordered to one export and due, the most urgent study first.

        What fails for now is tried again, what fails for good is told and ended. Silence costs one time-out a call: the
        next begins with what was not tried for longest. Where nobody is let in, everything waits for people who mend that.
        """
        seen: set[OrderRow] = set()
        while (order := self._next(destination, seen)) is not None:
            seen.add(order)
            if self._ready(order.study_key) and not self._try(order):
                return

    def sweep_others(self) -> None:
        """End and tell orders to exports that nobody names any more."""
        for order in self._ledger.orders():
            if order.verb == EXPORT and order.destination not in self._ways:
                self.sweep(order.destination)

    def _next(self, destination: str, seen: Collection[OrderRow]) -> OrderRow | None:
        lane, way = self._lanes[destination], self._ways.get(destination)
        if way is not None and way.wait(STAT) > 0:
            return None
        ranks = dict(self._ledger.ranked_orders(EXPORT, destination))
        lane.keep(ranks)
        may = {rank for rank in set(ranks.values()) if way is None or way.wait(rank) <= 0}
        left = [one for one, rank in ranks.items() if rank in may and one not in seen]
        due = lane.ready(left, self._monotonic(), is_old=self._is_old)
        due.sort(key=lambda one: (ranks[one], one.at))
        if lane.silent:
            due.sort(key=lane.due)
        return due[0] if due and not self._ended() else None

    def _try(self, order: OrderRow) -> bool:
        """Make one try; False where others for the same export had better wait."""
        lane, tally = self._lanes[order.destination], Tally()
        try:
            self._carry_out(order, tally)
        except _Ended:
            return False
        except NodeError as error:
            silent = isinstance(error, PeerError) and (error.retryable or error.code in MENDED_BY_PEOPLE)
            lane.silent, lane.silences = lane.silent or silent, lane.silences + silent
            self._fail(order, tally, error)
            return not silent
        except Exception as fault:  # noqa: BLE001 - whatever an object does to its export, the others go on
            self._report("export", fault)
            self._fail(order, tally, NodeError("internal", kind=type(fault).__name__))
        else:
            if tally.sent or tally.already_there or tally.refused:  # else nobody was asked
                lane.opened(order)
                if order.failed_at is not None:  # it stays where its instances changed meanwhile
                    self._ledger.mark_order(order, None)
        return True

    def _is_old(self, order: OrderRow) -> bool:
        """Whether an order is given up when its next try fails, however long it waited for its first."""
        since = order.failed_at
        return since is not None and (self._sure() - since).total_seconds() >= self._settings.give_up_seconds

    def _carry_out(self, order: OrderRow, tally: Tally) -> None:
        way = self._ways.get(order.destination)
        if way is None:
            raise ConfigError("destination-not-found", exports=len(self._ways))
        rows = self._ledger.instances(order.study_key)
        if lost(self._ledger, order.study_key):
            raise StorageError("sealed-damaged")  # what is left is not the whole of it; it may be sent again
        if not rows:
            raise StudyError("no-suitable-series")
        if isinstance(way.to, Path):
            clear_unfinished(way.to)
        for batch in self._batches(way.deidentify(rows), tally):
            if not self._goes_on(order, rows, tally):
                return
            self._put(way, batch, tally)
        self._end("export", order, tally, rows)

    def _goes_on(self, order: OrderRow, rows: Sequence[InstanceRow], tally: Tally) -> bool:
        """Whether more may leave; else what left is told: somebody cancelled it, or not all that it began with is current."""
        if not any(one.is_as(order) for one in self._ledger.orders()):
            self._audit("export-stopped", order, tally, reason="cancelled")
            self._emit("export.stopped", level="warning", sent=tally.sent, **_about(order))
            return False
        came, gone = self._changes(order, rows)
        if gone:
            self._audit("export-stopped", order, tally, reason="instances-changed")
            self._emit("export.again", level="warning", sent=tally.sent, came=came, gone=gone, **_about(order))
        return not gone

    def _changes(self, order: OrderRow, rows: Sequence[InstanceRow], connection: Any = None) -> tuple[int, int]:
        """How many instances of its study became current, and how many ceased to be, since an export began with some."""
        began, now = set(rows), set(self._ledger.instances(order.study_key, connection=connection))
        return len(now - began), len(began - now)

    def _batches(self, done: Iterator[Deidentified | StudyError], tally: Tally) -> Iterator[list[_Leaving]]:
        batch: list[_Leaving] = []
        for one in done:
            if self._ended():
                raise _Ended
            try:
                batch.append(self._leaving(one))
            except StudyError as error:
                tally.withheld[error.code] += 1
            if len(batch) == _BATCH_OBJECTS or sum(len(one.data) for one in batch) > _BATCH_BYTES:
                yield batch
                batch = []
        if batch:
            yield batch

    def _leaving(self, one: Deidentified | StudyError) -> _Leaving:
        if isinstance(one, StudyError):
            raise one
        syntax, encoded = split_part10(one.data)
        header = scan_header(encoded, syntax, self._limits)
        outgoing = OutgoingObject(
            result_id=header.sop_instance_uid,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
            transfer_syntax_uid=syntax,
            encoded=encoded,
        )
        return _Leaving(data=one.data, study_instance_uid=header.study_instance_uid, outgoing=outgoing)

    def _put(self, way: Way, batch: Sequence[_Leaving], tally: Tally) -> None:
        to = way.to
        if isinstance(to, Path) or not hasattr(to, "store"):
            for one in batch:
                self._write(to, one, tally)
                way.sent([one.outgoing])
            return
        outcomes, fault = to.store([one.outgoing for one in batch]), None
        answered = {outcome.result_id for outcome in outcomes if outcome.status is not None}
        way.sent([one.outgoing for one in batch if one.outgoing.result_id in answered])
        for outcome in outcomes:
            if outcome.status == DUPLICATE_INSTANCE:
                tally.already_there += 1
            elif outcome.error is None:
                tally.sent += 1
            elif outcome.error.retryable or (outcome.status is None and outcome.error.code != "peer-context-refused"):
                fault = fault or outcome.error
            else:
                tally.refused[outcome.error.code] += 1
        if fault is not None:
            raise fault

    def _write(self, place: Path | Shelf, one: _Leaving, tally: Tally) -> None:
        uids = one.study_instance_uid, one.outgoing.sop_instance_uid
        write = partial(write_exported, place) if isinstance(place, Path) else place.write
        try:
            write(*uids, one.data, same=self._is_same)
        except (StudyError, PeerError) as error:
            if isinstance(error, PeerError) and error.code != "peer-refused-object":
                raise
            tally.refused[error.code] += 1
        else:
            tally.sent += 1

    def _is_same(self, one: bytes, other: bytes) -> bool:
        """Whether two files are one object: an envelope for recipients is never encrypted twice alike."""
        if one == other:
            return True
        parsed = [read_part10(data, self._limits) for data in (one, other)]
        for dataset in parsed:
            dataset.pop(_ENCRYPTED, None)
        return bool(parsed[0] == parsed[1])

    def _fail(self, order: OrderRow, tally: Tally, error: NodeError) -> None:
        """Tell it; until the order is too old it waits for its next try, where people are to let us in with all others."""
        lane, now = self._lanes[order.destination], self._monotonic()
        shut = isinstance(error, PeerError) and error.code in MENDED_BY_PEOPLE
        again = (shut or error.retryable) and not self._is_old(order)
        tries = lane.tries(order) + 1
        facts: dict[str, Fact] = {"reason": error.code, "attempts": tries, "given_up": not again}
        self._emit("export.failed", level="error", **facts, **_about(order))
        if shut:
            lane.shut_until(now + self._settings.longest_retry_seconds, order=order, now=now)
        else:
            lane.put_off(order, now + wait_before(tries + 1, self._settings))
            if isinstance(error, PeerError) and error.retryable:
                lane.rest(now + wait_before(lane.silences + 1, self._settings))
        if not again:
            self._end("export-failed", order, tally, reason=error.code)
            lane.failed.pop(order)
        elif order.failed_at is None or order.failed_at > self._sure():  # by a clock that was set back since
            self._ledger.mark_order(order, self._sure())

    def _end(self, event: str, order: OrderRow, tally: Tally, rows: Sequence[InstanceRow] = (), **reason: str) -> None:
        """Audited before the order goes: cut off in between, it is carried out and told once more."""
        counts = self._audit(event, order, tally, **reason)
        left = tally.withheld.total() + tally.refused.total()
        came, gone = self._close(order, rows)
        for name, codes in (("withheld", tally.withheld), ("refused", tally.refused)):
            for code, count in sorted(codes.items()):
                self._emit(f"export.{name}", level="warning", reason=code, objects=count, **_about(order))
        if not reason:
            self._emit("export.done", level="warning" if left else "info", **counts, **_about(order))
        if came or gone:
            level = "warning" if gone else "info"
            self._emit("export.again", level=level, sent=tally.sent, came=came, gone=gone, **_about(order))

    def _close(self, order: OrderRow, rows: Sequence[InstanceRow]) -> tuple[int, int]:
        """Take an order away that has ended, and tell what changed of its instances meanwhile: then it stays.

        One that was given anew meanwhile is ended with it where all of the study is at its place (`rows`); where the
        export failed, its tries begin.
        """
        with self._ledger.transaction() as connection:
            changes = self._changes(order, rows, connection) if rows else (0, 0)
            if not any(changes):
                given = self._ledger.orders(connection=connection) if rows else (order,)
                for one in given:
                    if one.is_as(order):
                        self._ledger.end_order(one, connection=connection)
        return changes

    def _audit(self, event: str, order: OrderRow, tally: Tally, **reason: str) -> dict[str, int]:
        by_code = {"withheld": tally.withheld, "refused": tally.refused}
        counts = {name: codes.total() for name, codes in by_code.items()}
        came = {"sent": tally.sent, "already_there": tally.already_there}
        audit.append(
            self._state,
            event,
            self._clock(),
            study_key=order.study_key,
            destination=order.destination,
            **came,
            **counts,
            **{f"{name}_{code}": count for name, codes in by_code.items() for code, count in sorted(codes.items())},
            **reason,
        )
        return came | counts


def _about(order: OrderRow) -> dict[str, Fact]:
    return {"study": order.study_key, "destination": order.destination}
