"""What this process has open: a test of leaks asks for what came since, as what others left may be closed meanwhile."""

from __future__ import annotations

import os
from contextlib import suppress


def descriptors(kind: str = "") -> set[tuple[str, str]]:
    """Number and target of every open descriptor whose target begins so: `socket:`, say."""
    found = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (the names alone)
        with suppress(FileNotFoundError):
            found.add((name, os.readlink(f"/proc/self/fd/{name}")))  # noqa: PTH115
    return {one for one in found if one[1].startswith(kind) and not one[1].startswith("/proc/")}
