"""Receiving, beside others: `make bench-receive`. Prints how it was run, a table and JSON; never a test.

The node (sealing, durable before it answers), DCMTK's storescp tuned (TCP_NODELAY, PDUs of 128 KB; plain files, never
flushed) and as it comes, and Orthanc take turns, `--pairs` times, each time a fresh one on an empty folder of the same
disk; the order moves on by one with each turn. Before each of them everything that others left unwritten is flushed, and
a few objects warm it up; it has three seconds, and has come to rest, when the clock starts. All of a turn get the same bytes, from `sender.py`
(the clock runs from the first byte of an object to the last response, associations being open) and from DCMTK's storescu
(the clock runs from its start to its end). A ratio is the node's rate divided by the peer's of the same turn; what is
printed is the median of the turns and its 95 % interval (bootstrap). CPU is that of all processes of a receiver while
objects are sent; memory, of any one of them above its rest. `new` and `again`: association requests that were never seen
before, and one that was. Beside them the bounds of `bounds.py`, in the same turns: the node's rate divided by the disk's or
the socket's own is the share of it that is reached.

    python -m tests.benchmarks.receive [--pairs 5] [--cases ct-1,small-4] [--share 1.0] [--senders fast,dcmtk]
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests import tools
from tests.benchmarks import bounds, sender
from tests.benchmarks.cases import CASES, Case
from tests.benchmarks.comparison import Interval, Row, interval, ratios, table, verdict
from tests.benchmarks.receivers import RECEIVERS, Running, Use, come_to_rest, receivers_setting

_PATIENCE_SECONDS = 1800
REST_SECONDS = 3.0  # for whatever a receiver does when nothing comes


def load_of(case: Case, seed: int) -> dict[str, Any]:
    """What `sender.py` is told, port and TLS apart."""
    if case.kind == "frames":
        return {
            "count": 1,
            "frames": case.count,
            "pixel_bytes": case.pixel_bytes,
            "sop_class_uid": sender.MULTI_FRAME,
            "seed": seed,
        }
    load = {"count": case.count, "pixel_bytes": case.pixel_bytes, "associations": case.associations, "seed": seed}
    if case.kind == "setup":
        return {**load, "setups": case.count, "contexts": case.contexts}
    return {**load, "per_association": case.per_association, "studies": case.studies}


def send_fast(running: Running, case: Case, seed: int, begin: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Send from a process of its own; `begin` is called when it is ready to."""
    load = {**load_of(case, seed), "port": running.port, "waits": True}
    if running.tls is not None:
        files = running.tls
        load["tls"] = {
            "authority": str(files.trusted_certificates),
            "certificate": str(files.certificate),
            "key": str(files.private_key),
        }
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.sender"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(load) + "\n")
        process.stdin.flush()
        if process.stdout.readline() == "ready\n":
            begin()
            process.stdin.write("go\n")
        said, errors = process.communicate(timeout=_PATIENCE_SECONDS)
    if process.returncode:
        raise RuntimeError(errors)
    result: dict[str, Any] = json.loads(said)
    if set(result.get("statuses", {"0"})) != {"0"}:
        raise RuntimeError(f"not everything was taken: {result['statuses']}")
    return result


def send_dcmtk(running: Running, case: Case, material: Path, begin: Callable[[], None]) -> dict[str, Any]:
    """Send by one storescu for each association, all at once; where each image has its own, one after the other."""
    options = ["--max-send-pdu", "131072", "-R"]
    if running.tls is not None:
        files = running.tls
        options += ["+tls", str(files.private_key), str(files.certificate), "+cf", str(files.trusted_certificates)]
    call = [tools.require("storescu"), *options, "127.0.0.1", str(running.port)]
    folders = sorted(material.iterdir())
    begin()
    began = time.perf_counter()
    processes = []
    for folder in folders:
        arguments = [call[0], "+sd", *call[1:], str(folder)]
        if case.per_association:
            arguments = [
                "sh",
                "-c",
                'folder=$0; for f in "$folder"/*; do "$@" "$f" || exit 1; done',
                str(folder),
                *call,
            ]
        processes.append(
            subprocess.Popen(
                arguments,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, "TCP_NODELAY": "1"},
            )
        )
    for process in processes:
        _, said = process.communicate(timeout=_PATIENCE_SECONDS)
        if process.returncode:
            raise RuntimeError(said)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "bytes": sum(path.stat().st_size for path in material.rglob("*.dcm"))}


def write_material(folder: Path, case: Case, seed: int) -> Path:
    """The objects of a case as files, a folder for each association."""
    load = sender.Load(port=0, **load_of(case, seed))
    for thread in range(case.associations):
        place = folder / f"{thread:02}"
        place.mkdir(parents=True)
        for number, (uid, encoded) in enumerate(sender.data_sets(load, thread)):
            (place / f"{number:05}.dcm").write_bytes(sender.part_10(load.sop_class_uid, uid) + encoded)
    return folder


def bound(name: str, case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """One of `bounds.BOUNDS` under the load."""
    os.sync()
    if name in bounds.DISK:
        return _rates(case, bounds.disk(case, folder, bounds.DISK[name]))
    with bounds.socket_receiver() as running:
        send_fast(running, case.warm(), 900_000 + seed)
        used = Use(running.pid)
        result = send_fast(running, case, seed, used.begin)
        return {
            **_rates(case, case.count / result["seconds"]),
            "cpu_per_gigabyte": used.cpu_seconds() / (result["bytes"] / 1e9),
        }


def _rates(case: Case, per_second: float) -> dict[str, Any]:
    return {"per_second": per_second, "megabytes_per_second": per_second * case.pixel_bytes / 1e6}


def one_after_the_other(turns: dict[str, list[dict[str, Any]]], case: Case) -> list[dict[str, Any]]:
    """Turn by turn, what passes the socket and then the disk, with nothing between and nothing at a time."""
    both = zip(turns["socket"], turns["disk"], strict=True)
    return [_rates(case, 1 / (1 / one["per_second"] + 1 / other["per_second"])) for one, other in both]


def turn(name: str, case: Case, seed: int, asked: argparse.Namespace, material: Path | None) -> dict[str, Any]:
    """One receiver, fresh, under the load."""
    if name in bounds.BOUNDS:
        return bound(name, case, seed, asked.folder)
    place = Path(tempfile.mkdtemp(dir=asked.folder))
    os.sync()  # what others left unwritten is not on this one's account
    try:
        with RECEIVERS[name](place, case, asked.receivers) as running:
            warm = Case(count=4, pixel_bytes=min(case.pixel_bytes, 1 << 20), tls=case.tls)
            send_fast(running, warm, 900_000 + seed)
            time.sleep(REST_SECONDS)
            come_to_rest(running.pid)
            use = Use(running.pid)
            with use.watched():
                result = (
                    send_dcmtk(running, case, material, use.begin)
                    if material
                    else send_fast(running, case, seed, use.begin)
                )
            send_fast(running, Case(count=1, kind="setup", tls=case.tls), 0)  # storescp waits for children at a call
            used = use.cpu_seconds()
    finally:
        shutil.rmtree(place)
    if case.kind == "setup":
        return {kind: median(times) for kind, times in result["milliseconds"].items()}
    return {
        "per_second": (1 if case.kind == "frames" else case.count) / result["seconds"],
        "megabytes_per_second": result["bytes"] / 1e6 / result["seconds"],
        "cpu_per_gigabyte": used / (result["bytes"] / 1e9),
        "memory_grown_mb": use.memory_mb,
    }


def measure(name: str, by: str, case: Case, asked: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """All turns of one case and one sender, by receiver."""
    names = [case.node, *(peer for peer in case.peers if peer in asked.peers.split(","))]
    if by == "fast" and case.kind == "speed" and not case.tls:
        names += bounds.BOUNDS
    turns: dict[str, list[dict[str, Any]]] = {one: [] for one in names}
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        material = write_material(Path(scratch) / "material", case, 1) if by == "dcmtk" else None
        for number in range(asked.pairs):
            step = number % len(names)
            for receiver in [*names[step:], *names[:step]]:
                turns[receiver].append(turn(receiver, case, number + 1, asked, material))
                print(f"  {name} {by} turn {number + 1} {receiver}: {turns[receiver][-1]}", flush=True)
    if "socket" in turns and case.associations == 1:
        turns["socket+disk"] = one_after_the_other(turns, case)
    return turns


def rows_of(name: str, by: str, case: Case, turns: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Lines of the table."""
    rows = []
    for receiver, done in turns.items():
        least, aim = case.floor(receiver)
        ours = receiver == case.node
        if case.kind == "setup":
            values = {kind: interval([one[kind] for one in done]) for kind in ("new", "again")}
            most = case.milliseconds_most if ours else None
            text = ", ".join(f"{_milliseconds(found, most)} {kind}" for kind, found in values.items())
            rows.append(Row(case=name, sender=by, receiver=receiver, value=text))
            continue
        compared = None if ours else interval(ratios(_column(turns[case.node]), _column(done)))
        rows.append(
            Row(
                case=name,
                sender=by,
                receiver=receiver,
                value=f"{median(_column(done)):.4g} /s, {median(_column(done, 'megabytes_per_second')):.0f} MB/s",
                ratio=compared,
                least=least,
                aim=aim,
                cpu=interval(_column(done, "cpu_per_gigabyte")) if "cpu_per_gigabyte" in done[0] else None,
                cpu_most=case.cpu_most if ours else None,
                memory=interval(_column(done, "memory_grown_mb")) if "memory_grown_mb" in done[0] else None,
                memory_most=case.memory_most if ours else None,
            )
        )
    return rows


def _column(done: Sequence[dict[str, Any]], name: str = "per_second") -> list[float]:
    return [float(one[name]) for one in done]


def _milliseconds(found: Interval, most: float | None) -> str:
    return f"{found} ms" + (f" (≤ {most:g}: {verdict(found, most=most)})" if most else "")


def beside_the_plain(found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]]) -> list[str]:
    """Cases that have to be as fast as another one, where both were run: the node's rates, turn by turn."""
    lines = []
    for (name, by), turns in found.items():
        plain = found.get((CASES[name].like, by))
        if plain is not None:
            compared = interval(ratios(_column(turns["node"]), _column(plain["node"])))
            lines.append(f"the node, {name} ÷ {CASES[name].like}, {by}: {compared}, {verdict(compared, least=1.0)}")
    return lines


def durable_megabytes_per_second(folder: Path) -> float:
    """What the disk takes in writes of 1 MiB that are durable one by one: the bound of whoever answers only then."""
    size, count = 1 << 20, 64
    with tempfile.NamedTemporaryFile(dir=folder) as file, mmap.mmap(-1, size) as block:
        block.write(os.urandom(size))
        file.write(bytes(size * count))
        file.flush()
        os.fsync(file.fileno())
        try:
            descriptor = os.open(file.name, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
        except OSError:
            return float("nan")  # no such writes here
        try:
            began = time.perf_counter()
            for number in range(count):
                os.pwrite(descriptor, block, number * size)
            return size * count / 1e6 / (time.perf_counter() - began)
        finally:
            os.close(descriptor)


def how(asked: argparse.Namespace) -> dict[str, Any]:
    """How it was run."""
    programs = {}
    for program in ("storescp", "Orthanc"):
        path = tools.find(program)
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout if path else ""
        programs[program] = said.splitlines()[0] if said else "not there"
    return {
        "platform": platform.platform(),
        "python": sys.version.split()[0],
        "cores": os.cpu_count(),
        "load": [round(one, 1) for one in os.getloadavg()],
        "durable_megabytes_per_second": round(durable_megabytes_per_second(asked.folder)),
        "pairs": asked.pairs,
        "share": asked.share,
        "receivers": receivers_setting(asked.receivers) or "as configured by default",
        **programs,
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--peers", default="dcmtk,dcmtk-default,dcmtk-ignore,orthanc")
    parser.add_argument("--senders", default="fast,dcmtk")
    parser.add_argument("--share", type=float, default=1.0, help="of the objects of each case")
    parser.add_argument("--receivers", default="", help="intake.receivers of the node; default: its own")
    parser.add_argument("--folder", type=Path, default=Path("build/bench"))
    parser.add_argument("--json", type=Path, default=Path("build/bench-receive.json"))
    asked = parser.parse_args()
    asked.folder = asked.folder.resolve()
    asked.folder.mkdir(parents=True, exist_ok=True)
    about = how(asked)
    print("\n".join([*(__doc__ or "").splitlines()[2:-2], *(f"{name}: {value}" for name, value in about.items())]))
    if asked.pairs < 5 or asked.share < 1:
        print("A trial: a result needs five pairs and the whole load.")
    found: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    rows: list[Row] = []
    for name in asked.cases.split(","):
        case = CASES[name].scaled(asked.share)
        for by in case.senders:
            if by in asked.senders.split(","):
                found[name, by] = measure(name, by, case, asked)
                rows += rows_of(name, by, case, found[name, by])
    print(table(rows))
    print("\n".join(beside_the_plain(found)))
    about["load at the end"] = [round(one, 1) for one in os.getloadavg()]
    turns = [{"case": name, "sender": by, "turns": done} for (name, by), done in found.items()]
    asked.json.write_text(json.dumps({"how": about, "table": [row.cells() for row in rows], "cases": turns}, indent=1))
    print(f"load at the end: {about['load at the end']}\nJSON: {asked.json}")


if __name__ == "__main__":
    main()
