"""What a node and its GPU process say to each other: small messages over a socket, arrays in memory that both see.

Pure framing, for both sides. Arrays lie in an anonymous file (memfd) whose descriptor goes with the message: nothing of a
study is copied through the socket, or stands on a disk.
"""

from __future__ import annotations

import array
import json
import math
import mmap
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.inference.engine import EngineInfo

Array = npt.NDArray[Any]
Message = dict[str, Any]

_LENGTH: Final = struct.Struct("<I")
_LARGEST: Final = 64 * 1024
_TYPES: Final = frozenset({"int16", "float32", "uint8", "uint16"})
_ALIGNMENT: Final = 4096


class Ended(Exception):
    """The other side is gone, or says what cannot be understood."""


def send(link: socket.socket, message: Message, descriptor: int | None = None) -> None:
    """Send a message, and a descriptor with it.

    Raises
    ------
    Ended
        When the other side is gone, or takes nothing until the socket's time-out.
    """
    body = json.dumps(message).encode()
    data = _LENGTH.pack(len(body)) + body
    with_it = [] if descriptor is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
    try:
        sent = link.sendmsg([data], with_it)
        link.sendall(data[sent:])
    except OSError:
        raise Ended from None


def receive(link: socket.socket) -> tuple[Message, int | None]:
    """The next message, and the descriptor that came with it.

    Raises
    ------
    Ended
        At the end, at a time-out, and at whatever is no message.
    """
    descriptors: list[int] = []
    try:
        size = _LENGTH.unpack(_read(link, _LENGTH.size, descriptors))[0]
        message = json.loads(_read(link, min(size, _LARGEST + 1), descriptors))
    except (OSError, EOFError, ValueError, RecursionError):
        message, size = None, 0
    if isinstance(message, dict) and size <= _LARGEST and len(descriptors) <= 1:
        return message, descriptors[0] if descriptors else None
    for descriptor in descriptors:
        os.close(descriptor)
    raise Ended


def _read(link: socket.socket, size: int, descriptors: list[int]) -> bytes:
    parts: list[bytes] = []
    while size:
        data, found, _, _ = socket.recv_fds(link, size, 1)
        descriptors.extend(found)
        if not data:
            raise EOFError
        parts.append(data)
        size -= len(data)
    return b"".join(parts)


class Shared:
    """Arrays one after the other in memory that two processes see.

    Parameters
    ----------
    layout
        Type and shape of each.
    descriptor
        Of the memory, which then is this object's; None: it is made.

    Raises
    ------
    Ended
        When types, shapes and the memory's size do not fit each other.
    """

    def __init__(self, layout: Sequence[tuple[str, Sequence[int]]], descriptor: int | None = None) -> None:
        own = descriptor is None
        self.descriptor = os.memfd_create("dicomnode-study", os.MFD_CLOEXEC) if descriptor is None else descriptor
        try:
            places, total = _places(layout)
            if own:
                os.posix_fallocate(self.descriptor, 0, total)  # memory that is not there is missed now, not at a touch
            size = os.fstat(self.descriptor).st_size
            self._memory = mmap.mmap(self.descriptor, total if size == total else -1)
        except (OSError, ValueError, TypeError, OverflowError):
            os.close(self.descriptor)
            raise Ended from None
        self.layout = [(kind, [int(size) for size in shape]) for kind, shape in layout]
        self.arrays: list[Array] = [
            np.frombuffer(self._memory, kind, math.prod(shape), place).reshape(shape)
            for (kind, shape), place in zip(self.layout, places, strict=True)
        ]

    def close(self) -> None:
        """Let go of the memory; arrays that somebody still holds keep it."""
        self.arrays = []
        os.close(self.descriptor)


def _places(layout: Sequence[tuple[str, Sequence[int]]]) -> tuple[list[int], int]:
    places, total = [], 0
    for kind, shape in layout:
        if kind not in _TYPES or not 1 <= len(shape) <= 5 or any(not isinstance(n, int) or n < 1 for n in shape):
            raise ValueError
        places.append(total)
        total += -(-math.prod(shape) * np.dtype(kind).itemsize // _ALIGNMENT) * _ALIGNMENT
    return places, total


def geometry_message(geometry: VolumeGeometry) -> Message:
    """An even, straight geometry, without who is on it."""
    names = ("origin", "row_direction", "column_direction", "slice_direction", "spacing", "shape")
    return {name: list(getattr(geometry, name)) for name in names}


def geometry_of(message: Message) -> VolumeGeometry:
    """Geometry out of a message."""
    values = {name: tuple(value) for name, value in message.items()}
    return VolumeGeometry(**values, frame_of_reference_uid="", order=tuple(range(values["shape"][0])))


def info_message(info: EngineInfo) -> Message:
    """Description of an engine."""
    return asdict(info)


def info_of(message: Message) -> EngineInfo:
    """Description out of a message.

    Raises
    ------
    Ended
        When it is none.
    """
    try:
        return EngineInfo(**message)
    except TypeError:
        raise Ended from None
