"""Receiving, beside others: `make bench-receive`. Prints how it was run, a table and JSON; never a test.

The node (sealing, durable before it answers), DCMTK's storescp tuned (TCP_NODELAY, PDUs of 128 KB; plain files, never
flushed) and as it comes, and Orthanc take turns, `PAIRS` times, each time a fresh one on an empty folder of the same
disk. The sender is `sender.py`, and DCMTK's own for the first case. A ratio is the node's rate divided by the peer's of
the same turn; what is printed is the median of the turns and its 95 % interval by the sign test's order statistics.

    python -m tests.benchmarks.receive [--pairs 5] [--cases ct-1,small-4] [--share 1.0] [--folder build/bench]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests import tools
from tests.neighbours import Orthanc, free_port, listens, wait_for

DCMTK_TUNED = ("+B", "--max-pdu", "131072")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of load."""

    count: int
    pixel_bytes: int
    associations: int = 1
    per_association: int = 0
    studies: int = 1
    fork: bool = False
    least: float = 0.0  # of the ratio to tuned DCMTK
    aim: float = 0.0


CASES = {
    "ct-1": Case(count=500, pixel_bytes=524288, least=1.0, aim=1.2),
    "ct-4": Case(count=500, pixel_bytes=524288, associations=4, fork=True, least=1.1, aim=1.4),
    "ct-8": Case(count=500, pixel_bytes=524288, associations=8, fork=True, least=1.1, aim=1.4),
    "small-1": Case(count=5000, pixel_bytes=32768, fork=True, least=2.5, aim=3.5),
    "small-4": Case(count=5000, pixel_bytes=32768, associations=4, fork=True, least=3.5, aim=5.0),
    "mammograms": Case(count=20, pixel_bytes=30_000_000, least=1.0, aim=1.2),
    "one-per-image": Case(count=500, pixel_bytes=524288, per_association=1, fork=True),
    "several-studies": Case(count=500, pixel_bytes=524288, studies=5),
    "study-over-16": Case(count=512, pixel_bytes=524288, associations=16, fork=True),
}


@dataclass(frozen=True)
class Running:
    """A receiver that listens."""

    port: int
    pid: int
    log: Path | None = None


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


@contextmanager
def _process(arguments: list[str], port: int, folder: Path, **environment: str) -> Iterator[Running]:
    log = folder / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, env=_environment(**environment))
    try:
        wait_for(lambda: process.poll() is None and listens(port), what=arguments[0])
        yield Running(port, process.pid, log)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


@contextmanager
def node(folder: Path, _case: Case) -> Iterator[Running]:
    """The node as it is served, with a stand-in for the network that has nothing to do meanwhile."""
    port = free_port()
    settings = folder / "dicomnode.toml"
    settings.write_text(
        f'[node]\nstate = "{folder}/state"\n[listen]\nport = {port}\n[models]\nengine = "stand-in"\n'
        "[completion]\nquiet_seconds = 3600\nstart_early = false\n",
        "utf-8",
    )
    with _process([sys.executable, "-m", "dicomnode", "serve", "-c", str(settings)], port, folder) as running:
        yield running


@contextmanager
def dcmtk(folder: Path, case: Case) -> Iterator[Running]:
    """DCMTK, tuned."""
    port = free_port()
    fork = ("--fork",) if case.fork else ()
    arguments = [tools.require("storescp"), *DCMTK_TUNED, *fork, "-od", str(folder), str(port)]
    with _process(arguments, port, folder, TCP_NODELAY="1") as running:
        yield running


@contextmanager
def dcmtk_default(folder: Path, case: Case) -> Iterator[Running]:
    """DCMTK as it comes."""
    port = free_port()
    fork = ("--fork",) if case.fork else ()
    with _process([tools.require("storescp"), *fork, "-od", str(folder), str(port)], port, folder) as running:
        yield running


@contextmanager
def orthanc(folder: Path, _case: Case) -> Iterator[Running]:
    """Orthanc as the tests start it."""
    archive = Orthanc(folder / "orthanc").start()
    try:
        assert archive._process is not None
        yield Running(archive.dicom_port, archive._process.pid)
    finally:
        archive.stop()


RECEIVERS: dict[str, Callable[[Path, Case], Any]] = {
    "node": node,
    "dcmtk": dcmtk,
    "dcmtk-default": dcmtk_default,
    "orthanc": orthanc,
}


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def peak_kilobytes(pid: int) -> int:
    """Largest resident memory of a process so far."""
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    return 0


def send(running: Running, case: Case, seed: int) -> dict[str, Any]:
    """Send the load from a process of its own."""
    load = {
        "port": running.port,
        "count": case.count,
        "pixel_bytes": case.pixel_bytes,
        "associations": case.associations,
        "per_association": case.per_association,
        "studies": case.studies,
        "seed": seed,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.sender"],
        input=json.dumps(load),
        capture_output=True,
        text=True,
        check=True,
        timeout=900,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    if set(result["statuses"]) != {"0"}:
        raise RuntimeError(f"not everything was taken: {result['statuses']}")
    return result


def turn(name: str, case: Case, folder: Path, seed: int) -> dict[str, float]:
    """One receiver, fresh, under the load."""
    place = Path(tempfile.mkdtemp(dir=folder))
    try:
        with RECEIVERS[name](place, case) as running:
            warm = Case(count=4, pixel_bytes=case.pixel_bytes, fork=case.fork)
            send(running, warm, seed=90000 + seed)
            before, memory = cpu_seconds(running.pid), peak_kilobytes(running.pid)
            result = send(running, case, seed)
            used = cpu_seconds(running.pid) - before
            grown = peak_kilobytes(running.pid) - memory
    finally:
        shutil.rmtree(place)
    return {
        "per_second": case.count / result["seconds"],
        "cpu_per_gigabyte": used / (result["bytes"] / 1e9),
        "memory_grown_mb": grown / 1024,
    }


def interval(values: list[float]) -> tuple[float, float, float]:
    """Median, and the bounds that hold it with at least 95 % where there are enough values: else the extremes."""
    ordered = sorted(values)
    count = len(ordered)
    inside = 0
    while inside + 1 < (count + 1) // 2 and _outside(count, inside + 1) <= 0.05:
        inside += 1
    return median(ordered), ordered[inside], ordered[count - 1 - inside]


def _outside(count: int, inside: int) -> float:
    """Chance that the true median lies outside the order statistics `inside` from both ends."""
    total, term = 0.0, 0.5**count
    for index in range(inside + 1):
        total += term
        term = term * (count - index) / (index + 1)
    return 2 * total


def measure(name: str, case: Case, pairs: int, folder: Path, peers: list[str]) -> dict[str, Any]:
    """All turns of one case."""
    turns: dict[str, list[dict[str, float]]] = {peer: [] for peer in ("node", *peers)}
    for number in range(pairs):
        order = ["node", *peers] if number % 2 == 0 else [*peers, "node"]
        for receiver in order:
            turns[receiver].append(turn(receiver, case, folder, seed=number + 1))
            print(f"  {name} turn {number + 1} {receiver}: {turns[receiver][-1]['per_second']:.0f} /s", flush=True)
    rows = {}
    for receiver, done in turns.items():
        ratios = [ours["per_second"] / theirs["per_second"] for ours, theirs in zip(turns["node"], done, strict=True)]
        rows[receiver] = {
            "per_second": median(one["per_second"] for one in done),
            "cpu_per_gigabyte": median(one["cpu_per_gigabyte"] for one in done),
            "memory_grown_mb": max(one["memory_grown_mb"] for one in done),
            "ratio": interval(ratios),
        }
    return {"case": name, "least": case.least, "aim": case.aim, "receivers": rows}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--peers", default="dcmtk,dcmtk-default,orthanc")
    parser.add_argument("--share", type=float, default=1.0, help="of the objects of each case")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {sys.version.split()[0]}")
    print(f"disk {asked.folder.resolve().stat().st_dev}, {asked.pairs} turns each, {asked.share:.0%} of the objects")
    found = []
    for name in asked.cases.split(","):
        case = CASES[name]
        count = max(case.associations * 4, int(case.count * asked.share) // case.associations * case.associations)
        case = Case(**{**case.__dict__, "count": count})
        found.append(measure(name, case, asked.pairs, asked.folder, asked.peers.split(",")))
        for receiver, row in found[-1]["receivers"].items():
            middle, low, high = row["ratio"]
            print(
                f"{name:<16}{receiver:<15}{row['per_second']:>8.0f} /s {row['cpu_per_gigabyte']:>6.2f} CPU s/GB "
                f"{row['memory_grown_mb']:>6.0f} MB   node ÷ it {middle:.2f} [{low:.2f}, {high:.2f}]"
                + (f"   least {case.least}, aim {case.aim}" if receiver == "dcmtk" and case.least else ""),
                flush=True,
            )
    target = Path("build/bench-receive.json")
    target.write_text(json.dumps({"load": os.getloadavg(), "cases": found}, indent=1), "utf-8")
    print(f"JSON: {target}")


if __name__ == "__main__":
    main()
