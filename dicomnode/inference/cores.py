"""How many threads suit this process: one for each core that it may use, as affinity, siblings and cgroups say.

May live here: reading what the kernel says of cores. May not: engines. A second thread on one core's siblings brings a
network nothing, and threads beyond a quota only stop one another.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

_ROOT: Final = Path("/")
_SIBLINGS: Final = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
_OF_PROCESS: Final = "proc/self/cgroup"
_MOUNT: Final = "sys/fs/cgroup"


def usable_cores(root: Path = _ROOT) -> int:
    """Cores that the process may use at once, at least 1.

    Parameters
    ----------
    root
        Where ``/proc`` and ``/sys`` lie.
    """
    cores = {_text(root / _SIBLINGS.format(cpu)) or str(cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min([len(cores), *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Cores of every quota above the process: cgroups nest, and the smallest counts.

    A container may see its own cgroup as the root; a path that names nothing there is passed over.
    """
    for line in (_text(root / _OF_PROCESS) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / _MOUNT / controllers
        steps = PurePosixPath(path.lstrip("/"))
        for folder in (steps, *steps.parents):
            yield from _quota(top / folder)


def _quota(folder: Path) -> Iterator[float]:
    unified = (_text(folder / "cpu.max") or "").split()
    older = [_text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period")]
    for numbers in (unified, older):
        if len(numbers) == 2 and all(number.isdecimal() and int(number) for number in numbers):
            yield int(numbers[0]) / int(numbers[1])


def _text(path: Path) -> str | None:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return None
