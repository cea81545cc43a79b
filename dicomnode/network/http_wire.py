"""HTTP/1.1 on a connection (RFC 9112): requests in, answers out, in bounded time and memory. Nothing of DICOM is known here.

h11 reads and writes HTTP, `wire` the socket; what h11 or we refuse becomes one `Unacceptable`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import h11

from dicomnode.errors import PeerError
from dicomnode.network.multipart import Unacceptable
from dicomnode.network.pace import Pace
from dicomnode.network.pdu import Violation
from dicomnode.network.wire import Wire

_READ_BYTES: Final = 256 * 1024
_LONGEST_HEAD: Final = 16 * 1024
#: Of these a request has one at most: two could be read in two ways (RFC 9112 6.3, 11.2).
_ONCE: Final = frozenset({"host", "content-length", "transfer-encoding", "content-type", "authorization", "expect"})


class Head:
    """A request's head: method, target, and its header fields, names in lower case."""

    def __init__(self, request: h11.Request) -> None:
        self.method = request.method.decode("ascii")
        self.target = request.target.decode("latin-1")
        self.header: dict[str, str] = {}
        if len(request.target) + sum(len(raw) + len(value) for raw, value in request.headers) > _LONGEST_HEAD:
            raise Unacceptable(431, "http-head")  # h11 bounds only what has not come whole
        for raw, value in request.headers:
            name = raw.decode("ascii")
            if name in self.header and name in _ONCE:
                raise Unacceptable(400, "http-repeated-field")
            text = value.decode("latin-1")
            self.header[name] = f"{self.header[name]}, {text}" if name in self.header else text
        if {"content-length", "transfer-encoding"} <= set(self.header):
            raise Unacceptable(400, "http-framing")

    @property
    def length(self) -> int | None:
        """Bytes that are announced; None where none are, since it comes in chunks."""
        if "transfer-encoding" in self.header:
            return None
        return int(self.header.get("content-length", "0"))


class HttpWire:
    """One connection.

    Parameters
    ----------
    wire
        Its bytes.
    silence_seconds
        Silence in a request that is borne.
    head_seconds, idle_seconds
        Time for the head of a request, and until it begins.
    """

    def __init__(self, wire: Wire, *, silence_seconds: float, head_seconds: float, idle_seconds: float) -> None:
        self._wire = wire
        self._silence_seconds = silence_seconds
        self._head_seconds = head_seconds
        self._idle_seconds = idle_seconds
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        self._method = b""
        self._ended = False
        self._place = memoryview(bytearray(_READ_BYTES))

    def request(self) -> Head | None:
        """The next request; None where the peer has none.

        Raises
        ------
        Unacceptable
            What came is no HTTP that is taken.
        PeerError
            ``timeout``, ``peer-aborted``.
        """
        begun = self._wire.waited if self._http.trailing_data[0] else None
        self._wire.wait_at_most(self._idle_seconds if begun is None else self._head_seconds)
        while True:
            event = self._next_event()
            if isinstance(event, h11.Request):
                self._wire.wait_at_most(self._silence_seconds)
                self._method = event.method
                return Head(event)
            if isinstance(event, h11.ConnectionClosed):
                return None
            if begun is not None and self._wire.waited - begun > self._head_seconds:
                raise PeerError("timeout", what="http-head-too-slow")
            try:
                self._read()
            except PeerError:
                if begun is None:  # nothing had begun: it has no more to ask
                    return None
                raise
            if begun is None:
                begun = self._wire.waited
                self._wire.wait_at_most(self._head_seconds)

    def body(self, pace: Pace) -> Iterator[bytes]:
        """The body of the request, piece by piece; who waits to be told so is told that it may send it.

        Raises
        ------
        Unacceptable, PeerError
            As `request`; also what `pace` says.
        """
        if self._http.they_are_waiting_for_100_continue:
            self._send(h11.InformationalResponse(status_code=100, headers=[]))
        try:
            yield from self._pieces(pace)
        except Violation as violation:
            what = str(violation.facts["what"])
            raise Unacceptable(413 if what == "message-length" else 400, what) from None

    def _pieces(self, pace: Pace) -> Iterator[bytes]:
        while True:
            event = self._next_event()
            if isinstance(event, h11.Data):
                pace.fragment(len(event.data), self._wire.waited)
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return
            else:
                self._read()
                pace.fragment(0, self._wire.waited)

    def answer(self, status: int, header: Mapping[str, str], body: bytes, *, last: bool = False) -> None:
        """Answer the request; with `last`, nothing is read after it.

        Raises
        ------
        PeerError
            ``timeout``, ``peer-aborted``.
        """
        fields = [*header.items(), ("Content-Length", str(len(body)))]
        if last:
            fields.append(("Connection", "close"))
        said = [h11.Data(data=body)] if self._method != b"HEAD" else []
        self._send(h11.Response(status_code=status, headers=fields), *said, h11.EndOfMessage())

    def renew(self) -> bool:
        """Get ready for another request; whether there can be one."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    def _next_event(self) -> object:
        try:
            return self._http.next_event()
        except h11.RemoteProtocolError as error:
            if self._ended:
                raise PeerError("peer-aborted") from None
            status = error.error_status_hint
            raise Unacceptable(status, "http-head" if status == 431 else "http") from None

    def _read(self) -> None:
        count = self._wire.read_some(self._place, 1)
        self._ended = not count
        self._http.receive_data(bytes(self._place[:count]))

    def _send(self, *events: h11.Event) -> None:
        try:
            data = b"".join(self._http.send(event) or b"" for event in events)
        except h11.LocalProtocolError:  # it has been answered, or is gone
            raise PeerError("peer-aborted") from None
        self._wire.send(data)
