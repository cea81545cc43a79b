"""The rest of the way to the labels, timed: `make bench-way`. Prints how it was run; never a test.

CPU seconds on 500 slices of 512 × 512: sealed copies to Data Sets and a volume, beside a script over pydicom that does
the same; compressed slices to a volume, and frame by frame beside pydicom's own decoders; the resampling to 1.5 mm, the
statistics of 100 regions. Rounds in one process, ways in turn; medians, of ratios too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy import ndimage

from dicomnode.config import Config, ReadingSection
from dicomnode.encoded import Limits, SeriesReader, encode_part10
from dicomnode.imaging.measure import Acquisition, measure
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import ct_series
from dicomnode.imaging.resample import resample
from dicomnode.imaging.tally import take_tally
from dicomnode.imaging.volume import Volume
from dicomnode.inference import standin
from dicomnode.manifest import Density
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.study import Purpose, World
from dicomnode.workflow.handover import cut, framed
from dicomnode.workflow.reading import Coming, read_volume
from tests.benchmarks.way_peers import CODECS, EXPLICIT, by_child, by_pydicom, plain_volume, recoded, same

SLICES = 500
SPACING = (0.8, 0.75, 0.75)
FLOORS = {"volume of sealed slices": 0.2, "resample to 1.5 mm": 0.4, "statistics of 100 regions": 0.5}
STUDY = "ab" * 16


def cpu(act: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds of a call, its children's included; wall seconds; and what it returned."""

    def used() -> float:
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system

    began, wall = used(), time.perf_counter()
    result = act()
    return used() - began, time.perf_counter() - wall, result


def images(count: int) -> Iterator[bytes]:
    """Slices of a chest with noise, as uncompressed files."""
    phantom = chest_phantom(
        np.random.default_rng(7), shape=(count // 4, 128, 128), spacing=tuple(4 * mm for mm in SPACING)
    )
    hu = ndimage.zoom(phantom.hu.astype(np.float32), (4, 4, 4), order=1)
    hu += np.random.default_rng(8).normal(0, 12, hu.shape).astype(np.float32)
    for image in ct_series(hu, SPACING):
        yield encode_part10(image, transfer_syntax_uid=EXPLICIT)


class Sealed:
    """Copies as the stage before leaves them, under a key of their own."""

    def __init__(self, folder: Path) -> None:
        tree = Config.model_validate({"node": {"state": folder}})
        layout = Layout.of(tree)
        rooms.make_state_folder(layout)
        ring = rooms.open_key_ring(tree, layout, {}, create=True)
        self._ledger = Ledger.open(layout.ledger)
        self._counts: dict[str, int] = {}
        self._objects = Objects(layout.objects, DataKeys(self._ledger, ring))

    def put(self, name: str, copies: Iterator[bytes], count: int) -> None:
        """Seal copies under a name."""
        self._counts[name] = count
        self._objects.put(STUDY, World.PSEUDONYM, name, Purpose.COPY, framed(copies))

    def copies(self, name: str) -> Iterator[bytes]:
        """Open them, one after the other."""
        return cut(self._objects.stream(STUDY, World.PSEUDONYM, name, Purpose.COPY))

    def volume(self, name: str) -> Volume:
        """What the stage does: open, read, decode, build."""
        images = map(SeriesReader(Limits()).read, self.copies(name))
        return read_volume(Coming(images, self._counts[name]), ReadingSection(), ())[0]

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


def regions(values: np.ndarray, count: int) -> np.ndarray:
    """Boxes all over a volume, each a label; together about a quarter of it, as organs are."""
    labels = np.zeros(values.shape, np.uint8)
    z, y, x = (size // 5 for size in values.shape)
    for number in range(count):
        a, b, c = number // 25 % 5, number // 5 % 5, number % 5
        box = (slice(at * size, at * size + size * 2 // 3) for at, size in ((a, z), (b, y), (c, x)))
        labels[tuple(box)] = number + 1
    return labels


def statistics(volume: Volume, labels: np.ndarray) -> Any:
    """Count once, and measure every region."""
    segment = standin.package().manifest.segments[0]
    segments = tuple(replace(segment, number=number) for number in range(1, int(labels.max()) + 1))
    tally = take_tally(volume.values, labels, volume.padding, len(segments) + 1)
    return measure(
        volume.values,
        labels,
        volume.padding,
        volume.geometry,
        segments,
        density=Density(),
        acquisition=Acquisition(slice_thickness_mm=1.0, kernel="B31f", contrast=False),
        tally=tally,
    )


def in_turns(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """CPU and wall seconds of ways to the same end, in turns; ``ratio``: of the last one's CPU seconds to each one's."""
    turns: dict[str, list[tuple[float, float]]] = {title: [] for title in ways}
    for _ in range(rounds):
        for title, act in ways.items():
            turns[title].append(cpu(act)[:2])
    peer = [seconds for seconds, _ in list(turns.values())[-1]]
    return {
        title: {
            "cpu s": median(one for one, _ in found),
            "least": min(one for one, _ in found),
            "wall s": median(one for _, one in found),
            "ratio": median(other / max(one, 1e-3) for (one, _), other in zip(found, peer, strict=True)),
        }
        for title, found in turns.items()
    }


def codecs(sealed: Sealed, count: int, rounds: int) -> dict[str, dict[str, float]]:
    """Compressed slices: to a volume, and frame by frame in a child beside pydicom in process."""
    plain = list(images(count))
    found: dict[str, dict[str, float]] = {}
    for title, syntax in CODECS.items():
        files = [recoded(file, syntax) for file in plain]
        if not all(same(files[:4])):
            raise SystemExit(f"{title}: the two ways differ")
        sealed.put(title, iter(files), count)
        ways: dict[str, Callable[[], Any]] = {
            f"{title}, volume of {count}": lambda title=title: sealed.volume(title),
            f"{title}, {count} frames, a child": lambda files=files: by_child(files),
            f"{title}, 1 frame, a child": lambda files=files: by_child(files[:1]),
            f"{title}, {count} frames, pydicom": lambda files=files: by_pydicom(files),
        }
        found |= in_turns(ways, rounds)
    return found


def main() -> None:
    """Run, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--compressed", type=int, default=48, help="slices of each compressed series; 0: none")
    chosen = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        sealed = Sealed(Path(name) / "state")
        sealed.put("plain", images(chosen.slices), chosen.slices)
        ways: dict[str, Callable[[], Any]] = {
            "opened alone (AES-GCM)": lambda: sum(len(copy) for copy in sealed.copies("plain")),
            "opened and read": lambda: sum(1 for _ in map(SeriesReader(Limits()).read, sealed.copies("plain"))),
            "volume of sealed slices": lambda: sealed.volume("plain"),
            "volume by a script": lambda: plain_volume(sealed.copies("plain")),
        }
        found |= in_turns(ways, chosen.rounds)
        volume = sealed.volume("plain")
        if not np.array_equal(volume.values, plain_volume(sealed.copies("plain"))):
            raise SystemExit("the two volumes differ")
        labels = regions(volume.values, 100)
        for title, act in {
            "resample to 1.5 mm": lambda: resample(volume.values, SPACING, (1.5, 1.5, 1.5)),
            "statistics of 100 regions": lambda: statistics(volume, labels),
        }.items():
            found |= in_turns({title: act}, chosen.rounds)
        if chosen.compressed:
            found |= codecs(sealed, chosen.compressed, chosen.rounds)
        sealed.close()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )
    print(
        f"{chosen.slices} slices of 512 x 512, medians of {chosen.rounds} rounds (least); ratio: to the last of a group"
    )
    for title, row in found.items():
        print(
            f"  {title:32} CPU s {row['cpu s']:6.3f} ({row['least']:.3f})   wall s {row['wall s']:6.3f}   "
            f"ratio {row['ratio']:5.2f}   floor {FLOORS.get(title, '')}"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
