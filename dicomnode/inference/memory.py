"""Memory that was freed, handed back to the system. Nothing else lives here.

glibc keeps what threads have freed for the next time they ask (a hundred megabytes after one study); a node beside
other services waits for hours between studies.
"""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Hand freed memory back; nothing where the C library keeps none (musl)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
