"""A fast sender: prebuilt PDUs, one `sendall` an object. Run as a process of its own: `python -m tests.benchmarks.sender`.

It sends `count` objects over `associations` associations and prints, as JSON, the seconds from the first byte sent to
the last response, with every status counted. `frames` sends one object of so many frames instead, made as it goes;
`setups` opens and releases so many associations and gives the milliseconds of each, from the call to the answer.
"""

from __future__ import annotations

import json
import random
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import AllStoragePresentationContexts, build_context

from dicomnode.service.promptness import take_short_turns

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
IMPLICIT_LITTLE = "1.2.840.10008.1.2"
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.7.3"
PDU_BYTES = 131072


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is sent."""

    port: int
    count: int
    pixel_bytes: int
    associations: int = 1
    studies: int = 1
    sop_class_uid: str = CT
    called: str = "ANY-SCP"
    seed: int = 0
    per_association: int = 0  # objects of one association; 0: all of a thread's
    frames: int = 0
    setups: int = 0
    contexts: int = 1
    host: str = "127.0.0.1"
    pdu_bytes: int = PDU_BYTES
    waits: bool = False  # says that it is ready, and sends when it reads a line
    tls: dict[str, str] = field(default_factory=dict)


def associate_request(called: str, sop_class_uid: str, contexts: int = 1, calling: str = "BENCH") -> bytes:
    """A-ASSOCIATE-RQ with one context and one transfer syntax; where there are more, each of another Storage SOP Class with two."""
    proposed = [build_context(sop_class_uid, [EXPLICIT_LITTLE])]
    others = [
        str(one.abstract_syntax) for one in AllStoragePresentationContexts if one.abstract_syntax != sop_class_uid
    ]
    proposed += [build_context(one, [EXPLICIT_LITTLE, IMPLICIT_LITTLE]) for one in others[: contexts - 1]]
    if len(proposed) != contexts:
        raise ValueError(f"{len(proposed)} contexts are all that there are")
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID("1.2.840.10008.3.1.1.1")
    primitive.calling_ae_title = calling
    primitive.called_ae_title = called
    primitive.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = PDU_BYTES
    implementation.implementation_class_uid = UID("1.2.826.0.1.3680043.9.3811.1")
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
    """Explicit VR Little Endian element."""
    pad = b"\0" if vr == b"UI" else b" "
    value += pad * (len(value) % 2)
    if vr in {b"OW", b"OB"}:
        return struct.pack("<HH2sHL", group, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", group, number, vr, len(value)) + value


def data_set(load: Load, study: int, number: int, pixels: bytes, frames: int = 0) -> bytes:
    """An object as a scanner would write it, its pixels random (nothing in the way compresses).

    Of one that has `frames`, all but their bytes.
    """
    uid = f"1.2.826.0.1.3680043.9.3811.7.{load.seed}"
    side = int((load.pixel_bytes / 2) ** 0.5)
    elements = [
        (8, 5, b"CS", b"ISO_IR 100"), (8, 8, b"CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
        (8, 0x16, b"UI", load.sop_class_uid.encode()), (8, 0x18, b"UI", f"{uid}.{study}.1.{number}".encode()),
        (8, 0x20, b"DA", b"20260101"), (8, 0x30, b"TM", b"101112"), (8, 0x50, b"SH", b""), (8, 0x60, b"CS", b"CT"),
        (8, 0x70, b"LO", b"BENCH"), (8, 0x90, b"PN", b""), (8, 0x1030, b"LO", b"Chest"),
        (0x10, 0x10, b"PN", b"Bench^Mark"), (0x10, 0x20, b"LO", f"B{study}".encode()), (0x10, 0x30, b"DA", b""),
        (0x10, 0x40, b"CS", b"O"), (0x18, 0x50, b"DS", b"1.0"), (0x18, 0x60, b"DS", b"120"),
        (0x20, 0x0D, b"UI", f"{uid}.{study}".encode()), (0x20, 0x0E, b"UI", f"{uid}.{study}.1".encode()),
        (0x20, 0x10, b"SH", b"1"), (0x20, 0x11, b"IS", b"1"), (0x20, 0x13, b"IS", str(number).encode()),
        (0x20, 0x32, b"DS", f"-100\\-100\\{number}".encode()), (0x20, 0x37, b"DS", b"1\\0\\0\\0\\1\\0"),
        (0x20, 0x52, b"UI", f"{uid}.{study}.9".encode()),
        (0x28, 2, b"US", b"\x01\x00"), (0x28, 4, b"CS", b"MONOCHROME2"),
        *([(0x28, 8, b"IS", str(frames).encode())] if frames else []),
        (0x28, 0x10, b"US", struct.pack("<H", side)),
        (0x28, 0x11, b"US", struct.pack("<H", side)), (0x28, 0x30, b"DS", b"0.7\\0.7"),
        (0x28, 0x100, b"US", b"\x10\x00"), (0x28, 0x101, b"US", b"\x10\x00"), (0x28, 0x102, b"US", b"\x0f\x00"),
        (0x28, 0x103, b"US", b"\x01\x00"), (0x28, 0x1052, b"DS", b"-1024"), (0x28, 0x1053, b"DS", b"1"),
    ]  # fmt: skip
    head = b"".join(element(*one) for one in elements)
    if frames:
        return head + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 2 * side * side * frames)
    return head + element(0x7FE0, 0x10, b"OW", pixels[: 2 * side * side])


def command(load: Load, message_id: int, sop_instance_uid: bytes) -> bytes:
    """C-STORE-RQ (PS3.7 9.3.1.1)."""

    def part(number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0, number, len(value)) + value

    def uid(value: bytes) -> bytes:
        return value + b"\0" * (len(value) % 2)

    body = (
        part(2, uid(load.sop_class_uid.encode()))
        + part(0x100, b"\x01\x00")
        + part(0x110, struct.pack("<H", message_id))
        + part(0x700, b"\0\0")
        + part(0x800, b"\x01\x00")
        + part(0x1000, uid(sop_instance_uid))
    )
    return part(0, struct.pack("<L", len(body))) + body


def part_10(sop_class_uid: str, sop_instance_uid: bytes) -> bytes:
    """What stands before a Data Set in a file (PS3.10 7.1)."""
    meta = b"".join(
        (
            element(2, 1, b"OB", b"\0\1"),
            element(2, 2, b"UI", sop_class_uid.encode()),
            element(2, 3, b"UI", sop_instance_uid),
            element(2, 0x10, b"UI", EXPLICIT_LITTLE.encode()),
            element(2, 0x12, b"UI", b"1.2.826.0.1.3680043.9.3811.1"),
        )
    )
    return bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<L", len(meta))) + meta


def pdus(load: Load, data: bytes, control: int, *, more: bool = False) -> list[bytes]:
    """P-DATA-TF of one part of a message; `more` of it is to follow."""
    size = load.pdu_bytes - 6
    pieces = []
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        last = 2 if start + size >= len(data) and not more else 0
        pieces += [struct.pack(">BxLLBB", 4, len(piece) + 6, len(piece) + 2, 1, control | last), piece]
    return pieces


def objects(load: Load, thread: int) -> list[bytes]:
    """Whole requests of one thread, built before the clock runs."""
    requests = []
    for index, (uid, encoded) in enumerate(data_sets(load, thread)):
        requests.append(b"".join([*pdus(load, command(load, index % 60000 + 1, uid), 1), *pdus(load, encoded, 0)]))
    return requests


def data_sets(load: Load, thread: int) -> Iterator[tuple[bytes, bytes]]:
    """SOP Instance UID and Data Set of each object of one thread: the same for the same load."""
    pixels = bytearray(random.Random(load.seed).randbytes(load.pixel_bytes))
    for index in range(load.count // load.associations):
        number = thread * 1_000_000 + index
        study = index % load.studies
        pixels[:8] = struct.pack("<Q", number)
        uid = f"1.2.826.0.1.3680043.9.3811.7.{load.seed}.{study}.1.{number}".encode()
        yield uid, data_set(load, study, number, bytes(pixels))


def say_ready(load: Load) -> float:
    """Everything is made and open: wait for the word; CPU seconds until then."""
    if load.waits:
        print("ready", flush=True)
        sys.stdin.readline()
    return time.process_time()


def send_frames(load: Load) -> dict[str, Any]:
    """Send one object of many frames, each the same bytes: nothing of it has to be held."""
    load = agreed(load)
    uid = f"1.2.826.0.1.3680043.9.3811.7.{load.seed}.0.1.0".encode()
    frame = random.Random(load.seed).randbytes(load.pixel_bytes)
    head = data_set(load, 0, 0, b"", load.frames)
    association = Association(load, associate_request(load.called, load.sop_class_uid))
    say_ready(load)
    began = time.perf_counter()
    association.socket.sendall(b"".join([*pdus(load, command(load, 1, uid), 1), *pdus(load, head, 0, more=True)]))
    whole = b"".join(pdus(load, frame, 0, more=True))
    for _ in range(load.frames - 1):
        association.socket.sendall(whole)
    status = association.send(b"".join(pdus(load, frame, 0)))
    seconds = time.perf_counter() - began
    association.release()
    return {"seconds": seconds, "bytes": load.frames * len(frame), "statuses": {status: 1}}


def set_up(load: Load) -> dict[str, Any]:
    """Milliseconds from the call to the answer: of requests that were never seen before, and of one again and again."""
    times: dict[str, list[float]] = {"new": [], "again": []}
    requests = {
        kind: [
            associate_request(load.called, load.sop_class_uid, load.contexts, f"B{number if kind == 'new' else 0}")
            for number in range(load.setups)
        ]
        for kind in times
    }
    say_ready(load)
    for kind, asked in requests.items():
        for request in asked:
            began = time.perf_counter()
            association = Association(load, request)
            times[kind].append(1000 * (time.perf_counter() - began))
            association.release()
    return {"milliseconds": times}


class Association:
    """One association of the sender."""

    def __init__(self, load: Load, request: bytes) -> None:
        raw = socket.create_connection((load.host, load.port), 60)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket: socket.socket = raw
        if load.tls:
            context = ssl.create_default_context(cafile=load.tls["authority"])
            context.check_hostname = False
            context.load_cert_chain(load.tls["certificate"], load.tls["key"])
            self.socket = context.wrap_socket(raw, server_hostname=load.host)
        self.socket.sendall(request)
        answer = self._pdu()
        if answer[0] != 2:
            raise RuntimeError("the association was not accepted")
        self.longest = _longest(answer)

    def send(self, request: bytes) -> int:
        """Send one object; its status."""
        self.socket.sendall(request)
        response = self._pdu()
        position = 12  # behind the headers of the PDU and of its item
        while True:
            _, number, length = struct.unpack_from("<HHL", response, position)
            if number == 0x900:
                return int(struct.unpack_from("<H", response, position + 8)[0])
            position += 8 + length

    def release(self) -> None:
        """Release and close."""
        self.socket.sendall(bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0)))
        self._pdu()
        self.socket.close()

    def _pdu(self) -> bytes:
        data = self.socket.recv(65536)
        while len(data) < 6 or len(data) < 6 + struct.unpack_from(">L", data, 2)[0]:
            more = self.socket.recv(65536)
            if not more:
                raise RuntimeError("the connection ended")
            data += more
        return data


def _longest(answer: bytes) -> int:
    """Bytes of a PDU that the peer takes, header apart (PS3.8 D.1); what it does not bound, this sender does."""
    position = 74  # PS3.8 Table 9-17: the first item
    while position + 4 <= len(answer):
        kind, length = struct.unpack_from(">BxH", answer, position)
        position += 4
        if kind == 0x51:
            return int(struct.unpack_from(">L", answer, position)[0]) or PDU_BYTES
        position += 0 if kind == 0x50 else length  # into the user information
    return PDU_BYTES


def agreed(load: Load) -> Load:
    """The same in PDUs that the peer takes, as an association of its own tells."""
    association = Association(load, associate_request(load.called, load.sop_class_uid))
    association.release()
    return replace(load, pdu_bytes=min(PDU_BYTES, association.longest))


def run(load: Load) -> dict[str, Any]:
    """Send; what came of it."""
    load = agreed(load)
    request = associate_request(load.called, load.sop_class_uid)
    work = [objects(load, thread) for thread in range(load.associations)]
    statuses: Counter[int] = Counter()
    spans: list[tuple[float, float]] = []
    used: list[float] = []
    lock, start = threading.Lock(), threading.Barrier(load.associations, action=lambda: used.append(say_ready(load)))

    def send(requests: list[bytes]) -> None:
        association = Association(load, request)
        start.wait()
        began = time.perf_counter()
        counted: Counter[int] = Counter()
        for index, one in enumerate(requests):
            if load.per_association and index and index % load.per_association == 0:
                association.release()
                association = Association(load, request)
            counted[association.send(one)] += 1
        ended = time.perf_counter()
        association.release()
        with lock:
            statuses.update(counted)
            spans.append((began, ended))

    threads = [threading.Thread(target=send, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(spans) != load.associations:
        raise RuntimeError("an association failed")
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    total = sum(len(one) for requests in work for one in requests)
    cpu = time.process_time() - used[0]
    span = {"cpu": cpu, "began": min(one for one, _ in spans), "ended": max(one for _, one in spans)}
    return {"seconds": seconds, "bytes": total, "statuses": dict(statuses), **span}


def main() -> None:
    """Do what the load on standard input says."""
    take_short_turns()  # it stands for another machine, which has a core for it
    load = Load(**json.loads(sys.stdin.readline()))
    act = set_up if load.setups else send_frames if load.frames else run
    print(json.dumps(act(load)))


if __name__ == "__main__":
    main()
