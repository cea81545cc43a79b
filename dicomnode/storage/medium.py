"""What a folder lies on, as Linux tells it: some file systems keep nothing over a restart. Nothing is written here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_MOUNTS: Final = Path("/proc/self/mountinfo")
#: File systems in memory.
_VOLATILE: Final = frozenset({"tmpfs", "ramfs", "devtmpfs"})
IN_MEMORY: Final = "the state folder lies in memory; what it holds, studies and keys, does not survive a restart"


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Type of the file system that holds a folder (proc(5), mountinfo); empty where the system does not tell."""
    try:
        device = folder.stat().st_dev
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        place, _, kind = line.partition(" - ")
        if place.split(" ")[2:3] == [wanted]:
            return kind.split(" ")[0]
    return ""


def is_kernels(folder: Path) -> bool:
    """Whether a folder belongs to a file system of the kernel's own, where nothing can be kept."""
    return any(folder.is_relative_to(root) for root in ("/proc", "/sys"))


def is_volatile(folder: Path) -> bool:
    """Whether a folder lies in memory."""
    return file_system(folder) in _VOLATILE
