"""A peer that writes its PDUs by hand (PS3.8 9.3), well formed unless it is told otherwise: for attacks and fuzzing."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

from dicomnode.network import dimse, pdu
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE

VERIFICATION = "1.2.840.10008.1.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
STUDY = "1.2.826.0.1.3680043.9.3811.5.7041776"
PATIENT = "Planted^Ludmilla"
RELEASE_REQUEST = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
ABORT = bytes((7, 0, 0, 0, 0, 4, 0, 0, 0, 0))
STORE_CONTEXT, ECHO_CONTEXT = 1, 3
SECONDS = 60.0  # patience with a loaded machine; nothing waits so long by itself


def item(kind: int, value: bytes) -> bytes:
    """Item of an A-ASSOCIATE PDU."""
    return struct.pack(">BxH", kind, len(value)) + value


def proposed(context_id: int, abstract_syntax: str, *transfer_syntaxes: str) -> bytes:
    """Presentation context item."""
    body = bytes((context_id, 0, 0, 0)) + item(0x30, abstract_syntax.encode())
    return item(0x20, body + b"".join(item(0x40, one.encode()) for one in transfer_syntaxes or (EXPLICIT_LITTLE,)))


def user_information(*more: bytes, longest: int = 16384) -> bytes:
    """User information item."""
    return item(
        0x50, item(0x51, struct.pack(">L", longest)) + item(0x52, b"1.2.826.0.1.3680043.9.3811.1") + b"".join(more)
    )


def whole(kind: int, body: bytes) -> bytes:
    """A PDU of a type."""
    return struct.pack(">BxL", kind, len(body)) + body


def associate_request(
    *items: bytes, calling: bytes = b"SCANNER", called: bytes = b"DICOMNODE", version: int = 1
) -> bytes:
    """A-ASSOCIATE-RQ; without items, one for Secondary Capture and Verification."""
    usual = (
        item(0x10, APPLICATION_CONTEXT.encode()),
        proposed(STORE_CONTEXT, SECONDARY_CAPTURE),
        proposed(ECHO_CONTEXT, VERIFICATION),
        user_information(),
    )
    fixed = struct.pack(">HH", version, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    return whole(1, fixed + b"".join(items or usual))


def value(data: bytes) -> bytes:
    """A UID's bytes, of even length."""
    return data + b"\0" * (len(data) % 2)


def command_set(**fields: int | str | bytes) -> bytes:
    """Command set of the named elements (PS3.7 E.1), whatever they hold."""
    numbers = {
        "affected_sop_class_uid": 0x0002,
        "command_field": 0x0100,
        "message_id": 0x0110,
        "message_id_responded": 0x0120,
        "priority": 0x0700,
        "data_set_type": 0x0800,
        "status": 0x0900,
        "affected_sop_instance_uid": 0x1000,
    }
    body = b""
    for name, content in fields.items():
        if isinstance(content, int):
            encoded = struct.pack("<H", content)
        else:
            encoded = value(content.encode() if isinstance(content, str) else content)
        body += struct.pack("<HHL", 0, numbers[name], len(encoded)) + encoded
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def store_command(sop_instance_uid: str | bytes, message_id: int = 1, **other: int | str | bytes) -> bytes:
    """C-STORE-RQ."""
    usual: dict[str, int | str | bytes] = {
        "affected_sop_class_uid": SECONDARY_CAPTURE,
        "command_field": dimse.C_STORE_RQ,
        "message_id": message_id,
        "priority": 0,
        "data_set_type": 1,
        "affected_sop_instance_uid": sop_instance_uid,
    }
    return command_set(**{**usual, **other})


def echo_command(message_id: int = 1) -> bytes:
    """C-ECHO-RQ."""
    return command_set(
        affected_sop_class_uid=VERIFICATION,
        command_field=dimse.C_ECHO_RQ,
        message_id=message_id,
        data_set_type=dimse.NO_DATA_SET,
    )


def fragment(context_id: int, data: bytes, *, command: bool, last: bool) -> bytes:
    """Presentation data value item."""
    return struct.pack(">LBB", len(data) + 2, context_id, command | last << 1) + data


def data_pdu(*fragments: bytes) -> bytes:
    """P-DATA-TF."""
    return whole(pdu.P_DATA_TF, b"".join(fragments))


def echo(message_id: int = 1) -> bytes:
    """C-ECHO-RQ in its PDU."""
    return data_pdu(fragment(ECHO_CONTEXT, echo_command(message_id), command=True, last=True))


def element(group: int, number: int, vr: bytes, content: bytes) -> bytes:
    """Explicit VR Little Endian element."""
    content += (b"\0" if vr == b"UI" else b" ") * (len(content) % 2)
    if vr in {b"OB", b"OW", b"UN", b"SQ"}:
        return struct.pack("<HH2sxxL", group, number, vr, len(content)) + content
    return struct.pack("<HH2sH", group, number, vr, len(content)) + content


def data_set(sop_instance_uid: str | bytes, pixels: bytes = bytes(64), study: str | bytes = STUDY) -> bytes:
    """A Secondary Capture, patient and all, encoded."""
    uid = sop_instance_uid.encode() if isinstance(sop_instance_uid, str) else sop_instance_uid
    named = study.encode() if isinstance(study, str) else study
    return b"".join(
        (
            element(0x0008, 0x0016, b"UI", SECONDARY_CAPTURE.encode()),
            element(0x0008, 0x0018, b"UI", uid),
            element(0x0008, 0x0060, b"CS", b"OT"),
            element(0x0010, 0x0010, b"PN", PATIENT.encode()),
            element(0x0020, 0x000D, b"UI", named),
            element(0x0020, 0x000E, b"UI", named + b".1"),
            element(0x7FE0, 0x0010, b"OB", pixels),
        )
    )


def store(
    sop_instance_uid: str, data: bytes | None = None, *, message_id: int = 1, pdu_bytes: int = 16384
) -> list[bytes]:
    """PDUs of one C-STORE."""
    data = data_set(sop_instance_uid) if data is None else data
    pdus = [data_pdu(fragment(STORE_CONTEXT, store_command(sop_instance_uid, message_id), command=True, last=True))]
    for start in range(0, len(data), pdu_bytes):
        last = start + pdu_bytes >= len(data)
        piece = data[start : start + pdu_bytes]
        pdus.append(data_pdu(fragment(STORE_CONTEXT, piece, command=False, last=last)))
    return pdus


class Peer:
    """One connection to a port of loopback, from an address of loopback."""

    def __init__(self, port: int, address: str = "127.0.0.1", connection: socket.socket | None = None) -> None:
        self.socket = connection or socket.create_connection(("127.0.0.1", port), SECONDS, (address, 0))
        self.socket.settimeout(SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, *data: bytes) -> bool:
        """Send all; False where the other side has closed by then."""
        try:
            self.socket.sendall(b"".join(data))
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def pdu(self) -> tuple[int, bytes] | None:
        """Type and body of the next PDU; None where the connection ended before it."""
        header = self._exactly(pdu.HEADER_BYTES)
        if header is None:
            return None
        kind, length = struct.unpack(">BxL", header)
        body = self._exactly(length)
        assert body is not None, "the connection ended within a PDU"
        return kind, body

    def associate(self, request: bytes | None = None) -> Self:
        """Ask for an association, and get it."""
        self.send(request or associate_request())
        answer = self.pdu()
        assert answer is not None
        assert answer[0] == pdu.A_ASSOCIATE_AC, answer
        return self

    def status(self) -> int:
        """Status of the next response."""
        answer = self.pdu()
        assert answer is not None, "the connection ended"
        assert answer[0] == pdu.P_DATA_TF, answer
        return dimse.parse_command(answer[1][pdu.ITEM_BYTES :]).status

    def release(self) -> None:
        """Release, and wait for the end."""
        self.send(RELEASE_REQUEST)
        assert self.pdu() == (pdu.A_RELEASE_RP, bytes(4))
        self.socket.shutdown(socket.SHUT_WR)
        assert self.pdu() is None

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                more = self.socket.recv(count - len(data))
            except ConnectionResetError:
                return None
            if not more:
                return None
            data += more
        return data
