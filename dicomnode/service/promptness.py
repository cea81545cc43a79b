"""Short turns on a core for a process that waits often: it is woken when what it waits for is there, not at the next tick.

A receiver waits for the socket and the disk several times for each object. On a kernel that does not preempt (the
default of servers) each wait lasts up to 4 ms longer where other processes are at work. A shorter turn, which any
process may ask for since Linux 6.12 (sched(7)), takes nothing from its share or theirs. Elsewhere nothing changes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import Final

TURN_NANOSECONDS: Final = 100_000  # the least that the kernel takes
#: struct sched_attr (sched_setattr(2)): size, policy, flags, nice, priority, runtime, deadline, period.
_ATTRIBUTES: Final = struct.Struct("=IIQiIQQQ")
_CALLS: Final = {"x86_64": (314, 315), "aarch64": (274, 275)}  # sched_setattr, sched_getattr


def take_short_turns() -> bool:
    """For the calling thread and those that it starts; whether the kernel took it. One of another policy stays as it is."""
    found = attributes()
    if found is None or found[1] != os.SCHED_OTHER:
        return False
    size, policy, flags, nice, priority, _, deadline, period = found
    wanted = _ATTRIBUTES.pack(size, policy, flags, nice, priority, TURN_NANOSECONDS, deadline, period)
    return _call(0, wanted, 0) is not None


def attributes() -> tuple[int, ...] | None:
    """Scheduling attributes of the calling thread; None where they cannot be had."""
    found = _call(1, bytes(_ATTRIBUTES.size), _ATTRIBUTES.size, 0)
    return None if found is None else _ATTRIBUTES.unpack(found)


def _call(which: int, data: bytes, *more: int) -> bytes | None:
    """Do one of the two calls on the calling thread; what is in the structure then, None where it failed."""
    numbers = _CALLS.get(platform.machine())
    if numbers is None:
        return None
    place = ctypes.create_string_buffer(data, len(data))
    done = ctypes.CDLL(None).syscall(numbers[which], 0, place, *more)
    return place.raw if done == 0 else None
