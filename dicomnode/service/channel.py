"""The channel between the node and one of its receivers: messages in their order over a pair of sockets, and questions.

A message is a JSON array behind its length. What messages there are, neither end knows here.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Final

from dicomnode import errors
from dicomnode.errors import NodeError, StorageError
from dicomnode.pulses import FAR_SECONDS, Pulse

#: A Data Set of one MiB, the largest that is sent along, in base64, with room for what stands around it.
_LONGEST_BYTES: Final = 4 * 1024 * 1024
_READ_BYTES: Final = 256 * 1024
_ANSWER_SECONDS: Final = 60.0
_RECENT_SECONDS: Final = 0.1
_HEAD: Final = struct.Struct(">L")
_TELL, _ASK, _ANSWER, _REFUSAL = range(4)


class Channel:
    """One end; `run` reads in one thread, everything else may be called from any.

    Parameters
    ----------
    end
        Socket of this end, connected.
    tells
        What is done when the other end tells something, in the order in which it told it.
    asks
        What answers its questions; a NodeError goes back as itself, anything else as ``internal``.
    quick
        Names of questions that are answered in their order too, before anything after them is read. Each other one
        gets a thread of its own.
    patience
        Seconds that are let pass between two reads, so that much is read at once: waking up for every message costs
        more than the message. Not where anything was asked a moment ago: somebody waits for the next answer too.
    posting
        Whether what the reading thread itself says goes out by another one, in its place among what is said. One of two
        ends must do so: where both have much to say, and each waits until it has said that before it reads on, neither
        reads any more.
    """

    def __init__(
        self,
        end: socket.socket,
        tells: Mapping[str, Callable[..., None]],
        asks: Mapping[str, Callable[..., Any]],
        *,
        quick: Collection[str] = (),
        patience: float = 0.0,
        posting: bool = False,
    ) -> None:
        self._end = end
        self._tells = tells
        self._asks = asks
        self._quick = frozenset(quick)
        self._patience = patience
        self._heard = float("-inf")  # when the last question or answer came
        self.pulse = Pulse("receiver", FAR_SECONDS)  # at work while it does what the other end said
        self.reads = 0  # times that anything was read
        self.reading = False  # whether `run` waits for the other end to say anything, and is not busy with what it said
        self._sending = threading.Lock()
        self._held = bytearray()
        self._posting = posting
        self._reader: threading.Thread | None = None
        self._posted: deque[bytes] = deque()  # said by the reading thread, and not sent yet
        self._post: SimpleQueue[bool] = SimpleQueue()
        self._waiting: dict[int, SimpleQueue[tuple[int, Any]]] = {}
        self._asked = 0
        self._ended = False
        self._state = threading.Lock()

    def tell(self, name: str, *arguments: Any, hold: bool = False) -> None:
        """Send a message; with `hold`, together with the next one.

        Raises
        ------
        StorageError
            ``receiver-failed`` if the other end is gone.
        """
        self._send([_TELL, name, arguments], hold=hold)

    def ask(self, name: str, *arguments: Any, seconds: float = _ANSWER_SECONDS) -> Any:
        """Ask, and wait for the answer; all that the other end told before it has been done on return.

        Raises
        ------
        NodeError
            What the other end raised; ``receiver-failed`` if it is gone or does not answer in time.
        """
        answer: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        with self._state:
            if self._ended:
                raise StorageError("receiver-failed")
            self._asked += 1
            number = self._asked
            self._waiting[number] = answer
        try:
            self._send([_ASK, number, name, arguments])
            kind, value = answer.get(timeout=seconds)
        except Empty:
            raise StorageError("receiver-failed") from None
        finally:
            with self._state:
                self._waiting.pop(number, None)
        if kind == _ANSWER:
            return value
        raise _error(value)

    def run(self) -> None:
        """Read until the other end is gone. What a `tells` raises ends it as well, and is raised."""
        came = bytearray()
        if self._posting:
            self._reader = threading.current_thread()
            threading.Thread(target=self._send_posted, name="posting", daemon=True).start()
        try:
            while data := self._read():
                self.reads += 1
                came += data
                with self.pulse:
                    self._take(came)
                if self._patience and time.monotonic() - self._heard > _RECENT_SECONDS:
                    time.sleep(self._patience)
        finally:
            self._end_all()

    def end(self) -> None:
        """Nothing is sent or read any more; `run` returns."""
        try:
            self._end.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other end was first
            self._ended = True

    def close(self) -> None:
        """Give the socket back; after `run`."""
        self._end.close()

    def _read(self) -> bytes:
        self.reading = True
        try:
            return self._end.recv(_READ_BYTES)
        except OSError:
            return b""
        finally:
            self.reading = False

    def _take(self, came: bytearray) -> None:
        """Act on all messages that are whole."""
        place = 0
        while len(came) - place >= _HEAD.size:
            (length,) = _HEAD.unpack_from(came, place)
            if length > _LONGEST_BYTES:
                raise StorageError("receiver-failed", length=length)
            if len(came) - place < _HEAD.size + length:
                break
            place += _HEAD.size
            self._act(*json.loads(came[place : place + length]))
            place += length
        del came[:place]

    def _act(self, kind: int, *rest: Any) -> None:
        if kind == _TELL:
            name, arguments = rest
            self._tells[name](*arguments)
            return
        self._heard = time.monotonic()
        if kind == _ASK:
            number, name, arguments = rest
            if name in self._quick:
                self._answer(number, name, arguments)
            else:
                threading.Thread(target=self._answer, args=(number, name, arguments), name=name, daemon=True).start()
        else:
            with self._state:
                answer = self._waiting.get(rest[0])
            if answer is not None:
                answer.put((kind, rest[1]))

    def _answer(self, number: int, name: str, arguments: list[Any]) -> None:
        message: list[Any]
        try:
            message = [_ANSWER, number, self._asks[name](*arguments)]
        except NodeError as error:
            message = [_REFUSAL, number, [_class_of(error), error.code, error.facts]]
        except Exception:  # noqa: BLE001 (whoever asked is told, and tells it)
            message = [_REFUSAL, number, ["NodeError", "internal", {}]]
        try:
            self._send(message)
        except StorageError:  # nobody waits for it any more
            self._ended = True

    def _send(self, message: list[Any], *, hold: bool = False) -> None:
        body = json.dumps(message, separators=(",", ":")).encode()
        packed = _HEAD.pack(len(body)) + body
        if threading.current_thread() is self._reader:
            self._posted.append(packed)
            self._post.put(True)
            return
        with self._sending:
            self._hold_posted()
            self._held += packed
            if not hold:
                self._send_held()

    def _send_posted(self) -> None:
        """Send what the reading thread said, unless another thread that says something takes it along first."""
        while self._post.get():
            with self._sending, suppress(StorageError):  # the other end is gone: who reads ends soon
                self._hold_posted()
                self._send_held()

    def _hold_posted(self) -> None:
        while self._posted:
            self._held += self._posted.popleft()

    def _send_held(self) -> None:
        try:
            self._end.sendall(self._held)
        except OSError:
            raise StorageError("receiver-failed") from None
        finally:
            self._held.clear()

    def _end_all(self) -> None:
        """Whoever waits for an answer need not; what this thread says from now on, it says itself."""
        self._reader = None
        self._post.put(False)
        with self._state:
            self._ended = True
            for answer in self._waiting.values():
                answer.put((_REFUSAL, ["StorageError", "receiver-failed", {}]))


def _class_of(error: NodeError) -> str:
    """The family's own class: what a room made of it stays in that process."""
    return next(one.__name__ for one in type(error).__mro__ if one.__module__ == errors.__name__)


def _error(plain: list[Any]) -> NodeError:
    name, code, facts = plain
    kind: type[NodeError] = getattr(errors, name)
    return kind(code, **facts)
