"""More receivers, more throughput where cores are free: `make prove-scale`. Two network namespaces, a cable between them.

The node stands in one namespace, the senders, each a process, in the other, so that all bytes cross a virtual cable
instead of loopback. `intake.receivers` and the number of senders vary, on disk and in memory (there the disk bounds
nothing). Cores are split where there are enough: senders on the last ones, the node on the others. Each line says the
throughput and what bounds it: the cores as a whole, one process's core, the senders, or the disk.

    python -m tests.benchmarks.scale [--receivers 1,2,4] [--senders 2,4] [--pairs 3] [--share 1.0]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from dicomnode.config import IntakeSection
from tests.benchmarks.cases import CT_BYTES
from tests.benchmarks.comparison import interval, ratios
from tests.benchmarks.receive import durable_megabytes_per_second
from tests.benchmarks.receivers import Use, come_to_rest, receivers_setting

NODE, SENDERS = "dicomnode-scale-rx", "dicomnode-scale-tx"
ADDRESS, OTHER, PORT = "10.77.241.1", "10.77.241.2", 11112
_PATIENCE_SECONDS = 60.0
_BUSY = 0.9  # of what there is: then that is the bound


@dataclass(frozen=True, kw_only=True)
class Found:
    """One run: MB/s, and what was used, in cores."""

    megabytes_per_second: float
    node_cores: float
    sender_cores: float
    machine_busy: float


def hindrance() -> str:
    """Why it cannot be run here; empty: it can."""
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if shutil.which("ip") is None:
        return "there is no program `ip` (iproute2)"
    name = f"{NODE}-try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespace can be made: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""


@contextmanager
def cable() -> Iterator[None]:
    """Both namespaces, joined."""

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    try:
        for name in (NODE, SENDERS):
            ip("netns", "add", name)
        ip("link", "add", "dn-rx", "netns", NODE, "type", "veth", "peer", "name", "dn-tx", "netns", SENDERS)
        for name, link, address in ((NODE, "dn-rx", ADDRESS), (SENDERS, "dn-tx", OTHER)):
            ip("-n", name, "addr", "add", f"{address}/30", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in (NODE, SENDERS):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def cores(senders: int) -> tuple[list[int], list[int]]:
    """Cores of the node and of the senders: apart where more than two are there, else all for both."""
    there = sorted(os.sched_getaffinity(0))
    if len(there) < 3:
        return there, there
    for_senders = max(1, min(senders, len(there) // 2))
    return there[:-for_senders], there[-for_senders:]


def inside(namespace: str, on: list[int], *arguments: str) -> list[str]:
    """Command in a namespace and on some cores."""
    listed = ",".join(map(str, on))
    return ["ip", "netns", "exec", namespace, "taskset", "-c", listed, *arguments]


@contextmanager
def node(folder: Path, receivers: str, on: list[int]) -> Iterator[int]:
    """The node, with so many receivers; its process id."""
    settings = folder / "dicomnode.toml"
    settings.write_text(
        f'[node]\nstate = "{folder}/state"\n'
        f'[listen]\nhost = "{ADDRESS}"\nport = {PORT}\nmaximum_associations = 200\nassociations_per_address = 200\n'
        f"[intake]\nminimum_free_bytes = 0\n{receivers_setting(receivers)}\n"
        '[models]\nengine = "stand-in"\n[logging]\nformat = "json"\n'
        "[completion]\nquiet_seconds = 3600\nstart_early = false\n",
        "utf-8",
    )
    log = folder / "output.log"
    with log.open("wb") as output:
        arguments = inside(NODE, on, sys.executable, "-m", "dicomnode", "serve", "-c", str(settings))
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while '"node.ready"' not in log.read_text("utf-8"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text("utf-8")[-2000:])
            time.sleep(0.1)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def send(senders: int, count: int, seed: int, on: list[int], begin: Callable[[], None]) -> tuple[float, float, float]:
    """All senders at once, when all are ready; seconds from the first byte to the last response, bytes, CPU seconds."""
    processes = []
    for number in range(senders):
        arguments = inside(SENDERS, on, sys.executable, "-m", "tests.benchmarks.sender")
        process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        load = {"host": ADDRESS, "port": PORT, "count": count, "pixel_bytes": CT_BYTES, "seed": seed * 100 + number}
        _tell(process, json.dumps({**load, "waits": True}))
    if any(_hear(process) != "ready\n" for process in processes):
        raise RuntimeError("a sender failed")
    begin()
    for process in processes:
        _tell(process, "go")
    results: list[dict[str, Any]] = [json.loads(_hear(process)) for process in processes]
    for process in processes:
        process.communicate(timeout=_PATIENCE_SECONDS)
    if any(set(result["statuses"]) != {"0"} for result in results):
        raise RuntimeError(f"not everything was taken: {results}")
    began, ended = min(one["began"] for one in results), max(one["ended"] for one in results)
    return ended - began, sum(one["bytes"] for one in results), sum(one["cpu"] for one in results)


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def run(folder: Path, receivers: str, senders: int, count: int, seed: int) -> Found:
    """One run on a fresh node."""
    ours, theirs = cores(senders)
    place = Path(tempfile.mkdtemp(dir=folder))
    os.sync()
    try:
        with node(place, receivers, ours) as pid:
            come_to_rest(pid)
            use = Use(pid)
            machine: list[tuple[int, int]] = []

            def begin() -> None:
                use.begin()
                machine.append(_machine())

            seconds, size, sent = send(senders, count, seed, theirs, begin)
            used = use.cpu_seconds()
            busy, total = (now - then for now, then in zip(_machine(), machine[0], strict=True))
    finally:
        shutil.rmtree(place)
    return Found(
        megabytes_per_second=size / 1e6 / seconds,
        node_cores=used / seconds,
        sender_cores=sent / seconds,
        machine_busy=busy / total,
    )


def _machine() -> tuple[int, int]:
    """Ticks in which cores were busy, and all of them."""
    line = Path("/proc/stat").read_text("utf-8").splitlines()[0]
    ticks = [int(word) for word in line.split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def bound(found: Found, receivers: int, senders: int, disk: float | None) -> str:
    """What the throughput meets first."""
    if disk is not None and found.megabytes_per_second >= _BUSY * disk:
        return f"the disk ({disk:.0f} MB/s of durable writes)"
    if found.machine_busy >= _BUSY:
        return f"the cores as a whole ({found.machine_busy:.0%} busy)"
    if found.node_cores >= _BUSY * max(receivers, 1):
        return "the node's processes, each at its core"
    if found.sender_cores >= _BUSY * senders:
        return "the senders, each at its core"
    return "waiting: one object at a time per association, from its last byte to its answer"


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--receivers", default="1,2,4")
    parser.add_argument("--senders", default="2,4")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of 200 objects of each sender")
    parser.add_argument("--folders", default="build/bench,/dev/shm")
    asked = parser.parse_args()
    why_not = hindrance()
    if why_not:
        print(f"Skipped: {why_not}.")
        return
    counts = [int(one) for one in asked.receivers.split(",")]
    if "receivers" not in IntakeSection.model_fields:
        print("This node has no `intake.receivers`: it receives in one process, which is what is shown.")
        counts = [0]
    there = len(os.sched_getaffinity(0))
    print(f"{there} cores, load {os.getloadavg()[0]:.1f}, {asked.pairs} turns")
    with cable():
        for name in asked.folders.split(","):
            prove(Path(name), counts, [int(one) for one in asked.senders.split(",")], asked)
    if there < 4:
        print(
            f"With {there} cores the senders and the node share them: more receivers than two cannot show what they add here."
        )


def prove(name: Path, counts: list[int], sending: list[int], asked: argparse.Namespace) -> None:
    """All runs on one medium, the numbers of receivers in turn."""
    with suppress(FileExistsError):
        name.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=name.resolve()) as scratch:
        folder = Path(scratch)
        memory = subprocess.run(["stat", "-f", "-c", "%T", scratch], capture_output=True, text=True, check=True)
        in_memory = memory.stdout.strip() in {"tmpfs", "ramfs"}
        disk = None if in_memory else durable_megabytes_per_second(folder)
        print(f"{'in memory' if in_memory else 'on disk'}: {name}")
        for senders in sending:
            found: dict[int, list[Found]] = {count: [] for count in counts}
            for turn in range(asked.pairs):
                for count in counts[turn % len(counts) :] + counts[: turn % len(counts)]:
                    objects = max(4, int(200 * asked.share))
                    found[count].append(run(folder, str(count), senders, objects, turn + 1))
            for count, done in found.items():
                middle = sorted(done, key=lambda one: one.megabytes_per_second)[len(done) // 2]
                rates = [one.megabytes_per_second for one in done]
                first = [one.megabytes_per_second for one in found[counts[0]]]
                more = f", ÷ {counts[0]}: {interval(ratios(rates, first))}" if count != counts[0] else ""
                print(
                    f"  {senders} senders, {count or 'no'} receivers: {median(rates):.0f} MB/s{more}; node {middle.node_cores:.2f} "
                    f"cores, senders {middle.sender_cores:.2f}; bound by {bound(middle, count, senders, disk)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
