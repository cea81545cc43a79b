"""What no receiver can pass: the disk itself and the socket itself, under the bytes of a case of `make bench-receive`.

``disk``: as many objects as the case has, one durable write (O_DIRECT|O_DSYNC) each, over blocks that are there, by a
loop that does nothing else; as many loops as associations. ``disk-8mb``: the same bytes in pieces of 8 MB. ``socket``: a
receiver that puts what comes into one buffer, whole PDUs at a time, and answers each object with the same bytes; it is
sent to as any other. ``socket+disk``: an object that is received and then written, one after the other, without a step
between: what one association comes to where nothing overlaps.

    python -m tests.benchmarks.bounds    the receiver; its port on standard output, ends when standard input does
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dicomnode.network import dimse, pdu
from dicomnode.service.promptness import take_short_turns
from tests.benchmarks.cases import Case
from tests.benchmarks.receivers import Running, program

DISK = {"disk": 0, "disk-8mb": 8 * 1024 * 1024}
BOUNDS = (*DISK, "socket")
_BLOCK = 4096
_HEADS = 2048  # of a Data Set and of a record: all that an object has beside its pixels, nearly
_REGION_BYTES = 64 * 1024 * 1024
_RELEASE_BYTES = 10
_DATA_HEAD = 12
_ACCEPTED = struct.pack(">BxL", pdu.A_ASSOCIATE_AC, 68) + bytes(68)  # the sender looks at nothing else


def object_bytes(case: Case) -> int:
    """Bytes of an object on the disk."""
    return -(-(case.pixel_bytes + _HEADS) // _BLOCK) * _BLOCK


def disk(case: Case, folder: Path, piece_bytes: int = 0) -> float:
    """Objects a second of plain loops; `piece_bytes` of a write, 0: an object.

    Raises
    ------
    OSError
        Where the folder takes no such writes.
    """
    size = object_bytes(case)
    piece = piece_bytes or size
    each = -(-case.count // case.associations)
    writes = max(1, round(each * size / piece))
    start = threading.Barrier(case.associations + 1)

    def write() -> None:
        take_short_turns()  # else it is the scheduler's bound where others are at work
        with tempfile.NamedTemporaryFile(dir=folder) as file, mmap.mmap(-1, piece) as block:
            block.write(os.urandom(piece))
            places = max(1, min(writes, _REGION_BYTES // piece))
            for place in range(places):  # not the clock's: the blocks are there when it begins
                os.pwrite(file.fileno(), bytes(piece), place * piece)
            os.fsync(file.fileno())
            descriptor = os.open(file.name, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
            try:
                start.wait()
                for number in range(writes):
                    os.pwrite(descriptor, block, number % places * piece)
                start.wait()
            finally:
                os.close(descriptor)

    threads = [threading.Thread(target=write, daemon=True) for _ in range(case.associations)]
    for thread in threads:
        thread.start()
    start.wait(60)
    began = time.perf_counter()
    start.wait(1800)
    seconds = time.perf_counter() - began
    for thread in threads:
        thread.join()
    return case.associations * writes * piece / size / seconds


@contextmanager
def socket_receiver() -> Iterator[Running]:
    """The receiver of ``socket``, in a process of its own."""
    with program("tests.benchmarks.bounds") as running:
        yield running


def answer() -> bytes:
    """Response to any C-STORE."""
    asked = dimse.Command(command_field=dimse.C_STORE_RQ, message_id=1, data_set_type=1)
    return pdu.data_pdus(1, dimse.response(asked, 0), command=True, longest=0)


def take(connection: socket.socket) -> None:
    """Serve one association: no byte of it is looked at but lengths and ends of fragments."""
    place = memoryview(bytearray(1024 * 1024))
    response = answer()

    def read(count: int, at: int = 0) -> None:
        if connection.recv_into(place[at : at + count], count, socket.MSG_WAITALL) != count:
            raise ConnectionError

    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            read(pdu.HEADER_BYTES)
            read(struct.unpack_from(">L", place, 2)[0])
            connection.sendall(_ACCEPTED)
            while True:
                read(_RELEASE_BYTES)
                length = struct.unpack_from(">L", place, 2)[0]
                if place[0] != pdu.P_DATA_TF:
                    connection.sendall(pdu.RELEASE_RESPONSE)
                    return
                last, end = 0, length + pdu.HEADER_BYTES - _RELEASE_BYTES + _DATA_HEAD
                while not last:  # each fragment with the headers of the next one
                    read(end)
                    length, control = struct.unpack_from(">LxxxxxB", place, end - _DATA_HEAD + 2)
                    last = control & pdu.LAST
                    end = length - pdu.ITEM_BYTES + (0 if last else _DATA_HEAD)
                read(end)
                connection.sendall(response)
        except ConnectionError:
            return


def main() -> None:
    """Receive until standard input ends."""
    take_short_turns()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=take, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        sys.stdin.read()


if __name__ == "__main__":
    main()
