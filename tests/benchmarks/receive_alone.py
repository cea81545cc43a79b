"""The code of receiving alone: `make bench-receive-alone`. Prints a table; never a test.

Ways of one receiving process, each fresh, in turn with DCMTK's storescp (tuned, plain files, never flushed):

- ``disk``: acceptor, sealing, spool and index, durable before it answers;
- ``null``: the same, but a write into a segment goes nowhere: everything that is code, and no disk;
- ``network``: the acceptor and a sink that forgets: everything up to the storage room.

A ratio is a way's rate divided by DCMTK's of the same turn. CPU is what the receiving process used, by `getrusage`.

    python -m tests.benchmarks.receive_alone [--cases ct-1,small-1] [--ways disk,null,network,dcmtk] [--turns 3]
        [--share 0.2] [--folder build/bench]
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits
from dicomnode.network.acceptor import Acceptor
from dicomnode.network_sections import ListenSection
from dicomnode.service.promptness import take_short_turns
from dicomnode.storage import open_segment
from dicomnode.storage.digest import ContentDigests
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.spool import Spool
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.indexing import Indexer
from dicomnode.workflow.reception import Reception
from tests.benchmarks.cases import CASES, Case
from tests.benchmarks.null_receiver import Nowhere
from tests.benchmarks.receive import REST_SECONDS, send_fast
from tests.benchmarks.receivers import RECEIVERS, Running, cpu_seconds

_KEY = bytes(range(32))


class NullWriter:
    """A segment's file that is none."""

    def write(self, block: memoryview, offset: int, *, durable: bool = False) -> None:
        """Forget it."""

    def commit(self) -> None:
        """Nothing is there."""

    def begin(self) -> None:
        """Nothing is there."""

    def extend(self) -> None:
        """Nothing is there."""

    def truncate(self, size: int) -> None:
        """Nothing is there."""

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def _node(folder: Path) -> Iterator[Reception]:
    """What the node receives with, joined as it joins it."""
    ledger = Ledger.open(folder / "ledger.sqlite")
    spool = Spool(folder / "spool", IntakeSection(), MemoryKeys())
    indexer = Indexer(ledger, conflict=lambda row: None, emit=lambda *_, **__: None)
    indexer.begin()
    yield Reception(
        spool=spool,
        digest=ContentDigests(_KEY).begin,
        indexer=indexer,
        activity=ActivityTable(),
        derivation_key=_KEY,
        wake=lambda: None,
        clock=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        emit=lambda *_, **__: None,
    )
    indexer.end()


def serve(way: str, folder: Path) -> None:
    """Receive; each line of standard input is answered with the CPU seconds and waits so far."""
    if way == "null":
        open_segment.open_writer = lambda *_: NullWriter()  # type: ignore[assignment]
    take_short_turns()  # as a receiver does
    with _node(folder) as reception:
        taking: Any = Nowhere() if way == "network" else reception
        acceptor = Acceptor(ListenSection(port=0), IntakeSection(), "BENCH", Limits(), taking)
        _, port = acceptor.start()
        print(port, flush=True)
        for _ in sys.stdin:
            used = resource.getrusage(resource.RUSAGE_SELF)
            print(json.dumps([used.ru_utime, used.ru_stime, used.ru_nvcsw, used.ru_nivcsw]), flush=True)
        acceptor.stop()


@contextmanager
def _receiver(way: str, folder: Path) -> Iterator[tuple[int, Callable[[], list[float]]]]:
    """A receiving process: its port, and what gives its user and system seconds and its waits."""
    arguments = [sys.executable, "-m", "tests.benchmarks.receive_alone", "--serve", way, "--folder", str(folder)]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None

    def used() -> list[float]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        return [float(one) for one in json.loads(process.stdout.readline())]

    try:
        yield int(process.stdout.readline()), used
    finally:
        process.stdin.close()
        process.wait(60)


@contextmanager
def _dcmtk(case: Case, folder: Path) -> Iterator[tuple[int, Callable[[], list[float]]]]:
    with RECEIVERS["dcmtk"](folder, case, "") as running:
        yield running.port, lambda: [cpu_seconds(running.pid), 0.0, 0.0, 0.0]


def turn(way: str, case: Case, folder: Path, seed: int) -> dict[str, float]:
    """One way, fresh, under the load."""
    place = Path(tempfile.mkdtemp(dir=folder))
    opened = _dcmtk(case, place) if way == "dcmtk" else _receiver(way, place)
    try:
        with opened as (port, used):
            running = Running(port=port, pid=0)
            send_fast(running, Case(count=40, pixel_bytes=case.pixel_bytes, fork=case.fork), seed=90000 + seed)
            time.sleep(REST_SECONDS)
            before = used()
            result = send_fast(running, case, seed)
            user, system, waits, taken = (after - earlier for after, earlier in zip(used(), before, strict=True))
    finally:
        shutil.rmtree(place)
    return {
        "per_second": case.count / result["seconds"],
        "cpu_per_gigabyte": (user + system) / (result["bytes"] / 1e9),
        "user_us": user / case.count * 1e6,
        "system_us": system / case.count * 1e6,
        "waits": waits / case.count,
        "taken": taken / case.count,
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--cases", default="ct-1,small-1,small-4")
    parser.add_argument("--ways", default="disk,null,network,dcmtk")
    parser.add_argument("--share", type=float, default=0.4, help="of the objects of each case")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        serve(asked.serve, asked.folder)
        return
    asked.folder.mkdir(parents=True, exist_ok=True)
    ways = asked.ways.split(",")
    for name in asked.cases.split(","):
        case = CASES[name]
        count = max(case.associations * 4, int(case.count * asked.share) // case.associations * case.associations)
        case = Case(**{**case.__dict__, "count": count})
        turns: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for number in range(asked.turns):
            for way in ways if number % 2 == 0 else ways[::-1]:
                turns[way].append(turn(way, case, asked.folder, number + 1))
        for way in ways:
            _print(name, way, turns)


def _print(name: str, way: str, turns: dict[str, list[dict[str, float]]]) -> None:
    middle = {key: median(one[key] for one in turns[way]) for key in turns[way][0]}
    ratio = ""
    if "dcmtk" in turns:
        each = zip(turns[way], turns["dcmtk"], strict=True)
        ratio = f"   ÷ dcmtk {median(ours['per_second'] / theirs['per_second'] for ours, theirs in each):.2f}"
    print(
        f"{name:<12}{way:<9}{middle['per_second']:>7.0f} /s {middle['cpu_per_gigabyte']:>6.2f} CPU s/GB  "
        f"{middle['user_us']:>6.0f} + {middle['system_us']:>6.0f} us an object  "
        f"waits {middle['waits']:>5.1f} ({middle['taken']:.1f} taken){ratio}",
        flush=True,
    )


if __name__ == "__main__":
    main()
