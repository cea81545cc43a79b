"""How many threads suit a process: affinity, siblings and every kind of cgroup, on folders made for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicomnode.inference.cores import usable_cores


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eight processors, two on each core."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for cpu in range(8):
        put(tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 4},{cpu % 4 + 4}\n")
    return tmp_path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_one_for_each_core_that_the_process_may_use(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores(machine) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 4, 5})
    assert usable_cores(machine) == 2


def test_processors_count_where_nothing_is_said_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert usable_cores(tmp_path) == 3


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"sys/fs/cgroup/system.slice/node.service/cpu.max": "150000 100000\n"}, 2),
        ({"sys/fs/cgroup/system.slice/cpu.max": "100000 100000\n"}, 1),  # the slice above counts too
        ({"sys/fs/cgroup/system.slice/node.service/cpu.max": "max 100000\n"}, 4),
        ({"sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),  # a container that sees its own cgroup as the root
        ({"sys/fs/cgroup/system.slice/node.service/cpu.max": "many\n"}, 4),
        ({"sys/fs/cgroup/system.slice/node.service/cpu.max": "900000 0\n"}, 4),
    ],
)
def test_a_quota_of_the_unified_hierarchy_is_kept(machine: Path, limits: dict[str, str], expected: int) -> None:
    put(machine / "proc/self/cgroup", "0::/system.slice/node.service\n")
    for path, text in limits.items():
        put(machine / path, text)
    assert usable_cores(machine) == expected


@pytest.mark.parametrize(("quota", "expected"), [("250000", 3), ("-1", 4)])
def test_a_quota_of_the_older_hierarchy_is_kept(machine: Path, quota: str, expected: int) -> None:
    put(machine / "proc/self/cgroup", "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n")
    put(machine / "sys/fs/cgroup/memory/docker/x/cpu.max", "1 100000\n")  # another controller's folder
    put(machine / "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", f"{quota}\n")
    put(machine / "sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000\n")
    assert usable_cores(machine) == expected


def test_this_machine_has_some() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))
