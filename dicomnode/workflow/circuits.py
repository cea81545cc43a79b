"""Circuit breakers: a destination that fails again and again is left alone, asked whether it is back, and then gets all.

Closed: results are sent. Open: they wait, and a thread of the destination's own asks by C-ECHO. Half-open: it answered, so
what waits is tried, the most urgent first; the first object that it takes closes the circuit, failures open it again for
longer. The ledger shows the state to whoever looks; a start of the node begins with closed circuits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

from dicomnode.config import DeliverySection
from dicomnode.errors import NodeError, PeerError
from dicomnode.events import Emit
from dicomnode.network.requestor import StoreOutcome
from dicomnode.pulses import FAR_SECONDS, Pulse
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import CircuitRow
from dicomnode.study import CircuitState
from dicomnode.workflow.ports import Clock

#: What is wrong with a destination, not with an object.
FAULTS: Final = frozenset(
    {"peer-unreachable", "peer-rejected", "peer-aborted", "peer-out-of-resources", "tls-failed", "timeout"}
)
#: Refusals that end when somebody mends an AE title, a password or a certificate: results and exports wait for that.
MENDED_BY_PEOPLE: Final = frozenset({"peer-rejected", "tls-failed"})
#: Of a wait, so much at most is taken off at random: what failed together is not tried again together.
JITTER: Final = 0.25


class Answering(Protocol):
    """A destination that can be asked whether it is there."""

    def echo(self) -> None:
        """Raises PeerError unless it answers."""
        ...


def wait_before(attempt: int, settings: DeliverySection) -> float:
    """Seconds to wait before try number `attempt` (2 is the first repetition): doubled each time, up to the longest."""
    doublings = min(max(attempt - 2, 0), 32)
    return float(min(settings.first_retry_seconds * 2**doublings, settings.longest_retry_seconds))


def fault_of(outcomes: Sequence[StoreOutcome]) -> PeerError | None:
    """What is wrong with the destination by what became of some objects; None where it dealt with any of them."""
    faults = [one.error for one in outcomes if one.error is not None and one.error.code in FAULTS]
    return faults[0] if faults and len(faults) == len(outcomes) else None


@dataclass(slots=True)
class _Circuit:
    row: CircuitRow
    pulse: Pulse
    thread: threading.Thread | None = None
    wake: threading.Event = field(default_factory=threading.Event)


class Circuits:
    """One circuit for each destination; every method may be called from any thread.

    Parameters
    ----------
    ledger
        Where their state is shown.
    destinations
        By name.
    hasten
        Lets everything that waits for a destination run, the most urgent first; how much there was.
    settings
        Number of failures, and waits.
    jitter
        A number from 0 to 1, another one each time.
    kind
        What stands before the dot in the names of all circuits of this kind; "": they have no dot. The ledger shows all.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        destinations: Mapping[str, Answering],
        hasten: Callable[[str], int],
        settings: DeliverySection,
        jitter: Callable[[], float],
        clock: Clock,
        emit: Emit,
        kind: str = "",
    ) -> None:
        self._ledger = ledger
        self._destinations = destinations
        self._kind = kind
        self._hasten = hasten
        self._settings = settings
        self._jitter = jitter
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._asking = False
        self._circuits: dict[str, _Circuit] = {}
        #: Of the threads that ask, also of those that asked once.
        self.pulses: list[Pulse] = []

    def begin(self) -> None:
        """After a start: every circuit is closed, and what waits is tried; what is down is soon known to be again."""
        self._asking = True
        for row in self._ledger.circuits().values():
            if (
                row.destination.rpartition(".")[0] != self._kind
            ):  # others begin those, and may have heard of them by now
                continue
            with self._lock:
                known = self._of(row.destination).row.state  # one may have opened since the queue was launched
                if row.state is not CircuitState.CLOSED and known is CircuitState.CLOSED:
                    self._ledger.put_circuit(self._fresh(row.destination))
        for destination in self._destinations:
            if not self.is_open(destination):
                self._hasten(destination)

    def end(self, timeout: float) -> None:
        """Ask no more; waits up to `timeout` seconds for the questions that are under way."""
        self._ended.set()
        with self._lock:
            threads = [one.thread for one in self._circuits.values() if one.thread is not None]
            for circuit in self._circuits.values():
                circuit.wake.set()
        until = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0))

    def hurry(self, destination: str) -> None:
        """Ask a destination that is left alone now: somebody says that it is mended."""
        with self._lock:
            self._of(destination).wake.set()

    def is_open(self, destination: str) -> bool:
        """Whether nothing is to be sent now; then somebody asks, whenever it was opened."""
        with self._lock:
            is_open = self._of(destination).row.state is CircuitState.OPEN
        if is_open and self._asking:
            self._watch(destination, self._settings.first_retry_seconds)
        return is_open

    def heard(self, destination: str, outcomes: Sequence[StoreOutcome]) -> None:
        """Something was sent: what became of it says how the destination fares."""
        if not outcomes:
            return
        error = fault_of(outcomes)
        if error is None:
            self._well(destination)
        else:
            self._failed(destination, error)

    def ask(self, destination: str) -> float | None:
        """Ask a destination that is left alone whether it is there; seconds until it is to be asked again, None where it is."""
        try:
            self._destinations[destination].echo()
        except PeerError as error:
            if error.code in FAULTS:  # whoever refuses to be asked is there
                return self._open(destination, error)
        with self._lock:
            row = self._of(destination).row
            self._put(replace(row, state=CircuitState.HALF_OPEN, failures=0, since=self._clock(), due_at=None))
        self._emit("circuit.half-opened", destination=destination, deliveries=self._hasten(destination))
        return None

    def lengthen(self, seconds: float) -> float:
        """A wait, less a bit at random."""
        return seconds * (1 - JITTER * self._jitter())

    def _well(self, destination: str) -> None:
        with self._lock:
            row = self._of(destination).row
            if row.state is CircuitState.CLOSED:
                self._circuits[destination].row = self._fresh(destination)
                return
            self._put(self._fresh(destination))
        self._emit("circuit.closed", destination=destination, deliveries=self._hasten(destination))

    def _failed(self, destination: str, error: PeerError) -> None:
        with self._lock:
            circuit = self._of(destination)
            row = circuit.row = replace(circuit.row, failures=circuit.row.failures + 1, reason=error.code)
            if row.failures < self._settings.circuit_failures and error.retryable:
                return
        seconds = self._open(destination, error)
        if self._asking:
            self._watch(destination, seconds)

    def _open(self, destination: str, error: PeerError) -> float:
        """Leave a destination alone; seconds until it is asked. For as long as ever where only people can mend it."""
        with self._lock:
            row = self._of(destination).row
            longest = self._settings.longest_retry_seconds
            seconds = self.lengthen(wait_before(row.openings + 2, self._settings) if error.retryable else longest)
            now = self._clock()
            self._put(
                replace(
                    row,
                    state=CircuitState.OPEN,
                    openings=row.openings + 1,
                    reason=error.code,
                    since=row.since if row.state is CircuitState.OPEN else now,
                    due_at=now + timedelta(seconds=seconds),
                )
            )
        self._emit(
            "circuit.opened",
            level="error",
            destination=destination,
            reason=error.code,
            openings=row.openings + 1,
            seconds=round(seconds, 1),
        )
        return seconds

    def _watch(self, destination: str, seconds: float) -> None:
        """Have a thread ask until the destination is there: no other destination waits for it."""
        with self._lock:
            circuit = self._of(destination)
            if circuit.thread is not None or self._ended.is_set():
                return
            run = partial(self._run, destination, seconds)
            thread = threading.Thread(target=run, name="circuit", daemon=True)
            with suppress(RuntimeError):  # there is no room for one: `is_open` tries again
                thread.start()
                circuit.thread = thread

    def _run(self, destination: str, seconds: float) -> None:
        with self._lock:
            circuit = self._of(destination)
            wake = circuit.wake
        while not self._ended.is_set():
            wake.wait(seconds)
            wake.clear()
            if self._ended.is_set():
                return
            circuit.pulse.work()
            try:
                wait = self.ask(destination)
            except NodeError as error:
                self._emit("circuit.failed", level="error", destination=destination, reason=error.code)
                wait = self._settings.first_retry_seconds
            except Exception as error:  # noqa: BLE001 - the border: without this thread nobody asks any more
                self._emit("circuit.failed", level="error", destination=destination, kind=type(error).__name__)
                wait = self._settings.first_retry_seconds
            circuit.pulse.rest()
            with self._lock:
                if wait is None and self._of(destination).row.state is not CircuitState.OPEN:
                    self._circuits[destination].thread = None
                    return
            seconds = self._settings.first_retry_seconds if wait is None else wait  # None: it failed again meanwhile

    def _of(self, destination: str) -> _Circuit:
        if (found := self._circuits.get(destination)) is None:
            self.pulses.append(Pulse("circuit", FAR_SECONDS, destination=destination))
            found = self._circuits[destination] = _Circuit(self._fresh(destination), self.pulses[-1])
        return found

    def _fresh(self, destination: str) -> CircuitRow:
        return CircuitRow(destination=destination, state=CircuitState.CLOSED, since=self._clock())

    def _put(self, row: CircuitRow) -> None:
        """What counts is what this process knows; that the ledger cannot be written hinders nothing."""
        self._circuits[row.destination].row = row
        with suppress(NodeError):
            self._ledger.put_circuit(row)
