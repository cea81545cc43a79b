"""Memory that was freed, memory that stays, and none that leaves: what the C library may keep of it, what Python need not look through, no core dumps.

glibc keeps what threads have freed for the next time they ask (a hundred megabytes after one study), apart for up to
eight times as many threads as there are cores; a node beside other services waits for hours between studies.
"""

from __future__ import annotations

import ctypes
import gc
import resource
from contextlib import suppress
from typing import Final

_M_ARENA_MAX: Final = -8  # mallopt(3)
_ARENAS: Final = 2
#: No file of a core is as small, and the kernel hands none to a program (core_pattern begins with |), which it does at 0: core(5).
_NO_CORE: Final = 1


def keep_little() -> None:
    """From now on threads share two stocks of freed memory; to be called before they begin. Nothing without glibc.

    The interpreter lets one thread at a time ask for memory, but for a few that compute outside it.
    """
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    if choose is not None:
        choose(_M_ARENA_MAX, _ARENAS)


def leave_no_core() -> None:
    """From now on this process and those that it starts leave no core dump: memory holds keys, names and images."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with suppress(ValueError, OSError):  # no more than 0 is allowed here
        resource.setrlimit(resource.RLIMIT_CORE, (_NO_CORE, _NO_CORE))


def give_back() -> None:
    """Hand freed memory back; nothing where the C library keeps none (musl)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def stay() -> None:
    """What there is now stays for good; to be called when a start is over.

    The collector of reference cycles would look through all of it again and again (some hundred thousand objects), and
    every thread waits meanwhile.
    """
    gc.collect()
    gc.freeze()
