"""SEG, SR and key image after the labels are there: `make bench-results`. Prints how it was run; never a test.

500 slices of 512 x 512, 5 and 100 segments, every way in a process of its own, one after the other, in rounds. Peers, which
write the segmentation alone: plain highdicom (`Segmentation` of a label map, `save_as`) and dcmqi (`itkimage2segimage`).
Their objects are compared with ours: pixels and functional groups. Seconds are CPU and wall, medians over the rounds.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import results_ways

SLICES, SIDE = 500, 512
ROUNDS = 3
FLOORS = {5: 0.5, 100: 1.5}
FLOOR_MEGABYTES = 600
RATIOS = {"highdicom": 8.0, "dcmqi": 4.0}


def label_map(segments: int) -> NDArray[np.uint8]:
    """Five long columns, or a hundred balls."""
    labels = np.zeros((SLICES, SIDE, SIDE), np.uint8)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    if segments <= 5:
        for number in range(1, segments + 1):
            for index in range(20, SLICES - 20):
                radius = 35 + 5 * np.sin(index / 40 + number)
                distance = (rows - SIDE / 2) ** 2 / 4 + (columns - SIDE / 2 - (number - 3) * 90) ** 2
                labels[index][distance < radius**2] = number
        return labels
    for number in range(1, segments + 1):
        centre = 30 + (number * 37) % (SLICES - 60), 100 + (number * 61) % 320, 100 + (number * 97) % 320
        for index in range(centre[0] - 20, centre[0] + 20):
            radius = 25 * np.sqrt(1 - ((index - centre[0]) / 20) ** 2)
            distance = (rows - centre[1]) ** 2 + (columns - centre[2]) ** 2
            labels[index][distance < radius**2] = number
    return labels


def spent(arguments: list[str]) -> tuple[float, float]:
    """CPU and wall seconds of a process."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(arguments, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - began


def way(name: str, folder: Path, segments: int) -> dict[str, Any]:
    """What one way reports of itself."""
    command = [sys.executable, "-m", "tests.benchmarks.results_ways", name, str(folder), str(segments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def dcmqi(folder: Path, segments: int) -> dict[str, Any]:
    """dcmqi's converter, as its users call it."""
    program = Path(sysconfig.get_path("scripts")) / "itkimage2segimage"
    arguments = [str(program), "--skip", "1", "--inputDICOMDirectory", str(folder / "ct")]
    arguments += ["--inputImageList", str(folder / f"labels-{segments}.nrrd")]
    arguments += ["--inputMetadata", str(folder / f"labels-{segments}.json")]
    arguments += ["--outputDICOM", str(folder / f"dcmqi-{segments}.dcm")]
    cpu, wall = spent(arguments)
    return {"segmentation": {"cpu": cpu, "wall": wall}}


def ways(folder: Path, segments: int) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Name and act of every way."""
    yield "dicomnode", lambda: way("ours", folder, segments)
    yield "highdicom", lambda: way("highdicom", folder, segments)
    yield "dcmqi", lambda: dcmqi(folder, segments)


def run(folder: Path, segments: int) -> dict[str, Any]:
    """Rounds of all ways over one label map."""
    results_ways.write_labels(folder, label_map(segments), segments)
    rounds: dict[str, list[dict[str, Any]]] = {}
    for _ in range(ROUNDS):
        for name, act in ways(folder, segments):
            rounds.setdefault(name, []).append(act())
    found: dict[str, Any] = {name: middle(many) for name, many in rounds.items()}
    found["ratios of the segmentation, CPU"] = {
        peer: round(
            median(
                theirs["segmentation"]["cpu"] / ours["segmentation"]["cpu"]
                for ours, theirs in zip(rounds["dicomnode"], rounds[peer], strict=True)
            ),
            1,
        )
        for peer in RATIOS
    }
    found["differences"] = results_ways.differences(folder, segments)
    return found


def middle(many: list[dict[str, Any]]) -> dict[str, Any]:
    """Median of each figure."""
    return {
        key: middle([one[key] for one in many])
        if isinstance(value, dict)
        else round(median(one[key] for one in many), 3)
        for key, value in many[0].items()
    }


def tell(segments: int, found: dict[str, Any]) -> None:
    """Print the table of one label map."""
    print(f"\n{segments} segments                       CPU s   wall s   peak MB")
    for name, figures in found.items():
        if name not in {"dicomnode", *RATIOS}:
            continue
        for part, spent_on in figures.items():
            if isinstance(spent_on, dict):
                known = part == "segmentation" and "peak memory MB" in figures
                memory = f"{figures['peak memory MB']:9.0f}" if known else ""
                print(f"  {name:10} {part:22} {spent_on['cpu']:6.2f}   {spent_on['wall']:6.2f}{memory}")
    ratios = found["ratios of the segmentation, CPU"]
    for peer, floor in RATIOS.items():
        print(f"  segmentation, {peer} / dicomnode: {ratios[peer]:.1f}   (wanted: {floor:.0f})")
    ours = found["dicomnode"]
    print(f"  all on disk after the labels: {ours['after the labels']['cpu']:.2f} CPU s (wanted: {FLOORS[segments]})")
    print(f"  peak memory: {ours['peak memory MB']:.0f} MB (wanted: {FLOOR_MEGABYTES})")
    print(f"  differences in pixels and functional groups: {found['differences'] or 'none'}")


def main() -> None:
    """Run, and print tables and JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results_ways.write_series(folder / "ct", SLICES, SIDE)
        found = {segments: run(folder, segments) for segments in FLOORS}
    versions = {peer: importlib.metadata.version(peer) for peer in RATIOS}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}")
    print(f"{SLICES} slices of {SIDE} x {SIDE}; {ROUNDS} rounds, medians; peers: {versions}")
    print(
        "'prepared' runs beside the network; 'segmentation' is made, written and synced; peers neither prove nor sync"
    )
    for segments, figures in found.items():
        tell(segments, figures)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
