"""The keeper of the receivers: starts them, speaks to all of them, buries those that die, and starts others.

What the acceptor is to a node that receives by itself, this is to one whose receivers are processes.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import dicomnode
from dicomnode.config import Config
from dicomnode.encoded import Limits
from dicomnode.errors import NodeError, StorageError
from dicomnode.network.acceptor import Listeners, open_listeners
from dicomnode.network.asking import Event
from dicomnode.network.association import service_context
from dicomnode.network.inlets import address_of, open_web_listener
from dicomnode.network.places import Places, open_table
from dicomnode.network.tls import Certificates
from dicomnode.pulses import Pulse
from dicomnode.service.messages import plain_bytes
from dicomnode.service.seat import House, Seat
from dicomnode.service.watch import Watch
from dicomnode.storage.writer import WriteMode

_START_SECONDS: Final = 120.0
_BAR_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 10.0  # a drain's, for closing segments
_SHORT_SECONDS: Final = 60.0
_FREE_DEATHS: Final = 3
_LONGEST_PAUSE_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 1.0


def pause_after(deaths: Sequence[float], now: float) -> float:
    """Seconds to wait before another receiver is started: none for the first deaths of a minute, then ever more.

    Parameters
    ----------
    deaths
        Monotonic seconds of the last deaths, the last one included.
    """
    late = sum(now - death < _SHORT_SECONDS for death in deaths) - _FREE_DEATHS
    return 0.0 if late <= 0 else min(2.0**late, _LONGEST_PAUSE_SECONDS)


class Receivers:
    """Receivers of a node.

    Parameters
    ----------
    tree
        Configuration.
    count
        How many.
    limits
        Budget of the header scan.
    spool
        Folder of the spool.
    write_mode
        How the trial showed that it is written durably: a receiver makes none of its own, since the disk may be full.
    identity
        Name of the spool; a receiver that finds another one there does not start.
    derivation_key
        Key of the blind keys and of digests.
    house
        What the node does for them.
    command
        What is started, before the number of the channel's descriptor.
    """

    def __init__(
        self,
        tree: Config,
        count: int,
        *,
        limits: Limits,
        spool: Path,
        write_mode: WriteMode,
        identity: str = "",
        derivation_key: bytes,
        house: House,
        command: Sequence[str] = (sys.executable, "-P", "-m", "dicomnode.service.receiver"),
    ) -> None:
        self._tree = tree
        self._house = house
        self._command = tuple(command)
        self._plain: dict[str, Any] = {
            "tree": tree.model_dump(mode="json", exclude_defaults=True),
            "derivation_key": derivation_key.hex(),
            "limits": asdict(limits),
            "spool": str(spool),
            "services": [list(one) for one in house.services],
            "write_mode": [write_mode.name, write_mode.alignment],
            "identity": identity,
        }
        self._listeners: Listeners = (None, None)
        self._web: socket.socket | None = None
        self._table = -1
        self._still = threading.Lock()  # no receiver is started or buried, and no study purged, but by its holder
        self._changed = threading.Condition()
        self._seats: dict[int, Seat | None] = dict.fromkeys(range(1, count + 1))
        self._listening: set[Seat] = set()
        self._unread: set[Seat] = set()  # dead, and disk or ledger refuse what they made durable
        self._died = False
        self._ending = threading.Event()
        self._watch = Watch(self._live, house.monotonic, house.emit)
        self._threads = [
            threading.Thread(target=self._watch.run, args=(self._ending,), name="watch", daemon=True),
            *(threading.Thread(target=self._keep, args=(one,), name="receiver", daemon=True) for one in self._seats),
        ]

    def start(self) -> tuple[str, int]:
        """Bind, start all of them, and wait until they listen; address and port as of `Acceptor.start`.

        Raises
        ------
        ConfigError
            ``port-unavailable``, or ``tls-failed``.
        StorageError
            ``receiver-failed`` if one of them cannot start.
        """
        settings = self._tree.listen
        if settings.tls is not None:
            Certificates(settings.tls, self._house.emit)
        if self._tree.stow.enabled and self._tree.stow.tls is not None:
            Certificates(self._tree.stow.tls, self._house.emit)
        self._web = open_web_listener(self._tree)
        self._listeners = open_listeners(settings)
        self._table = open_table(settings.maximum_connections)
        self._places = Places(settings.maximum_connections, owner=0, descriptor=self._table)
        for thread in self._threads:
            thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._died or len(self._listening) == len(self._seats), _START_SECONDS)
            whole = len(self._listening) == len(self._seats)
        if not whole:
            self.drain(0.0)
            raise StorageError("receiver-failed", listening=len(self._listening))
        name = next(one for one in self._listeners if one is not None).getsockname()
        return str(name[0]), int(name[1])

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the watch, and of the threads that do what the receivers ask for."""
        return (self._watch.pulse, *(seat.channel.pulse for seat in self._live()))

    @property
    def web_address(self) -> tuple[str, int] | None:
        """Address and port of STOW-RS, once it listens; None where it is not enabled."""
        return address_of(self._web)

    def _doors(self) -> tuple[socket.socket | None, ...]:
        return (*self._listeners, self._web)

    def reload_certificates(self) -> None:
        """Have them read the files of TLS anew."""
        for seat in self._live():
            self._tell(seat, "reload")

    def report(self, association_id: str, event: Event, seconds: float) -> int | None:
        """Send an N-EVENT-REPORT in an association that is open; the peer's status, None where there is none.

        Raises
        ------
        PeerError
            As `Session.report`.
        """
        syntaxes = [str(one) for one in service_context(event.sop_class_uid).transfer_syntax or ()]
        encoded = {syntax: plain_bytes(event.encode(syntax)) for syntax in syntaxes}
        plain = [event.sop_class_uid, event.sop_instance_uid, event.event_type_id]
        for seat in self._live():
            if association_id in seat.associations:
                try:
                    status = seat.channel.ask("report", association_id, plain, encoded, seconds, seconds=seconds + 5)
                except StorageError:  # it died, and the association with it
                    return None
                return None if status is None else int(status)
        return None

    def close_study(self, study_key: str) -> None:
        """Have them close their segments of a study."""
        for seat in self._live():
            if study_key in seat.studies:
                self._tell(seat, "close", study_key)

    @contextmanager
    def barred(self, study_key: str) -> Iterator[bool]:
        """Keep new instances of a study waiting in every process; False where anything of it is under way already.

        Their segments of it are let go of. Whoever dies meanwhile, or is being started, counts as at work on it.
        """
        with self._still, ExitStack() as stack:
            unread = any(study_key in seat.studies for seat in self._unread)
            free = not unread and all(self._bar(seat, study_key, stack) for seat in self._all())
            # the receivers have told all that they knew by now
            here = stack.enter_context(self._house.activity.closed(study_key))
            yield free and here
            if free and here:
                for seat in self._live():
                    seat.studies.discard(study_key)

    def drain(self, timeout: float) -> bool:
        """Have them stop listening, let what is open finish, then abort the rest; whether all ended by itself."""
        self._ending.set()
        with self._still:
            seats = self._live()
        for listener in self._doors():
            if listener is not None:
                listener.close()
        for seat in seats:
            self._tell(seat, "drain", timeout)
        deadline = time.monotonic() + timeout + _LAST_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(deadline - time.monotonic(), 0.0))
        for seat in self._live():
            seat.process.kill()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        if self._table >= 0:
            os.close(self._table)
            self._table = -1
        return all(seat.clean for seat in seats)

    def _keep(self, number: int) -> None:
        """Keep one seat taken, until the end."""
        deaths: deque[float] = deque(maxlen=64)
        while not self._ending.is_set():
            seat = self._open(number)
            if seat is not None:
                self._attend(seat)
            deaths.append(time.monotonic())
            pause = pause_after(deaths, time.monotonic())
            if pause and not self._ending.is_set():
                self._house.emit(
                    "receiver.braked", level="error", receiver=number, deaths=len(deaths), seconds=pause,
                    reason="receiver-failed",
                )  # fmt: skip
                self._ending.wait(pause)

    def _open(self, number: int) -> Seat | None:
        """Start a receiver; None where that cannot be, or the end has begun."""
        with self._still:
            if self._ending.is_set():
                return None
            ours, theirs = socket.socketpair()
            passed = [theirs.fileno(), self._table, *(one.fileno() for one in self._doors() if one is not None)]
            root = Path(dicomnode.__file__).resolve().parent.parent
            try:
                process = subprocess.Popen(  # noqa: S603 (our own program)
                    [*self._command, str(theirs.fileno())],
                    pass_fds=passed,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # what the interpreter writes about a fault may quote a value
                    env={"PYTHONPATH": str(root)},
                    start_new_session=True,  # a terminal's interrupt is the node's alone: it drains them
                )
            except OSError:
                ours.close()
                self._lost(number)
                return None
            finally:
                theirs.close()
            seat = Seat(self._house, number, secrets.token_hex(4), process, end=ours, ready=lambda: self._ready(seat))
            listeners = [None if one is None else one.fileno() for one in self._doors()]
            self._tell(
                seat, "start",
                {**self._plain, "number": number, "mark": seat.mark, "table": self._table, "listeners": listeners},
            )  # fmt: skip
            self._seats[number] = seat
        self._house.emit("receiver.started", receiver=number, pid=process.pid)
        return seat

    def _attend(self, seat: Seat) -> None:
        """Do what a receiver asks for as long as it lives, and then bury it."""
        try:
            seat.channel.run()
        except Exception as error:  # noqa: BLE001 (whatever it said: it is ended, and what it wrote is read)
            kind = type(error).__name__
            self._house.emit("receiver.fault", level="error", receiver=seat.number, kind=kind, reason="internal")
            seat.process.kill()
        seat.channel.pulse.work()  # until nobody is in this seat
        if self._ending.is_set():
            self._wait_for(seat)
        seat.process.kill()  # before its segments are read
        status = seat.process.wait()
        with self._still:
            self._places.free_all_of(seat.number)
            associations, records = seat.bury(), self._read(seat)
            self._seats[seat.number] = None
            if records is None:
                self._unread.add(seat)
                self._threads.append(
                    threading.Thread(target=self._read_later, args=(seat,), name="unread", daemon=True)
                )
                self._threads[-1].start()
        seat.channel.close()
        if not (self._ending.is_set() and status == 0):
            self._house.emit(
                "receiver.died", level="error", receiver=seat.number, exit=status, associations=associations,
                records=records or 0, reason="receiver-failed",
            )  # fmt: skip
            self._lost(seat.number)

    def _read(self, seat: Seat) -> int | None:
        """Read what a dead receiver could not tell; None where that cannot be now: its studies do not settle until then."""
        try:
            return seat.take_up()
        except NodeError as error:
            level = "debug" if error.code == "index-behind" else "error"
            self._house.emit("index.failed", level=level, reason=error.code, receiver=seat.number)
        except Exception as error:  # noqa: BLE001 (the border: acknowledged objects are read, however often it takes)
            kind = type(error).__name__
            self._house.emit("index.fault", level="error", receiver=seat.number, kind=kind, reason="internal")
        return None

    def _read_later(self, seat: Seat) -> None:
        """Again and again, after growing pauses; what is left at the end, the next start of the node reads."""
        pause = _AGAIN_SECONDS
        while not self._ending.wait(pause):
            with self._still:
                records = self._read(seat)
                if records is not None:
                    self._unread.discard(seat)
            if records is not None:
                self._house.emit("index.rebuilt", records=records, receiver=seat.number)
                return
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _wait_for(self, seat: Seat) -> None:
        try:
            seat.process.wait(_LAST_SECONDS)
        except subprocess.TimeoutExpired:
            self._house.emit("receiver.fault", level="error", receiver=seat.number, reason="timeout")

    def _lost(self, number: int) -> None:
        with self._changed:
            self._died = True
            self._changed.notify_all()

    def _ready(self, seat: Seat) -> None:
        with self._changed:
            self._listening.add(seat)
            self._changed.notify_all()

    def _bar(self, seat: Seat | None, study_key: str, stack: ExitStack) -> bool:
        if seat is None:
            return False
        stack.callback(self._tell, seat, "unbar", study_key)  # also where its answer comes too late
        try:
            return bool(seat.channel.ask("bar", study_key, seconds=_BAR_SECONDS))
        except StorageError:
            return False

    def _all(self) -> tuple[Seat | None, ...]:
        return tuple(self._seats.values())

    def _live(self) -> tuple[Seat, ...]:
        return tuple(seat for seat in self._all() if seat is not None)

    def _tell(self, seat: Seat, name: str, *arguments: Any) -> None:
        try:
            seat.channel.tell(name, *arguments)
        except StorageError:  # it died: whoever attends it sees to that
            return
