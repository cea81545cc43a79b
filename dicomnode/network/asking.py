"""Requests that the acceptor itself makes in an association: N-EVENT-REPORT (PS3.7 10.1.1), and their answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import NamedTuple

from dicomnode.errors import PeerError
from dicomnode.network import dimse, pdu
from dicomnode.network.dimse import Command
from dicomnode.network.negotiation import Agreed


class Event(NamedTuple):
    """What an N-EVENT-REPORT says; `encode` gives its Data Set in a transfer syntax."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type_id: int
    encode: Callable[[str], bytes]


class Asking:
    """Our requests in one association. `report` is called from any thread, the rest by the one that owns the socket.

    Parameters
    ----------
    send
        Sends whole messages.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._waiting: dict[int, SimpleQueue[int | None]] = {}
        self._late: set[int] = set()  # message ids of requests that nobody waits for any more, and that may be answered
        self._last = 0
        self._ended = False

    def report(self, event: Event, contexts: Mapping[int, Agreed], longest: int, seconds: float) -> int | None:
        """Send an N-EVENT-REPORT; the peer's status, None where none came in time.

        Raises
        ------
        PeerError
            ``peer-context-refused`` if the association has no context for it; what sending raises.
        """
        fitting = [
            (one, context) for one, context in contexts.items() if context.abstract_syntax == event.sop_class_uid
        ]
        if not fitting:
            raise PeerError("peer-context-refused")
        context_id, context = fitting[0]
        data = event.encode(context.transfer_syntax)
        answer: SimpleQueue[int | None] = SimpleQueue()
        with self._lock:
            if self._ended:
                return None
            self._last = self._last % 0xFFFF + 1
            message_id = self._last
            self._late.discard(message_id)
            self._waiting[message_id] = answer
        command = dimse.event_report(message_id, event.sop_class_uid, event.sop_instance_uid, event.event_type_id)
        try:
            self._send(
                pdu.data_pdus(context_id, command, command=True, longest=longest)
                + pdu.data_pdus(context_id, data, command=False, longest=longest)
            )
            return answer.get(timeout=seconds)
        except Empty:
            with self._lock:
                self._late.add(message_id)
            return None
        finally:
            with self._lock:
                self._waiting.pop(message_id, None)

    def answered(self, command: Command) -> bool:
        """A response came; whether it is one to a request of ours, be it too late."""
        if command.command_field != dimse.N_EVENT_REPORT_RQ | dimse.RESPONSE:
            return False
        message_id = command.message_id_responded
        with self._lock:
            asked = self._waiting.get(message_id)
            if asked is None:
                is_late = message_id in self._late
                self._late.discard(message_id)
                return is_late
        asked.put(command.status)
        return True

    def end(self) -> None:
        """The association ended: whoever waits need not."""
        with self._lock:
            self._ended = True
            for answer in self._waiting.values():
                answer.put(None)
