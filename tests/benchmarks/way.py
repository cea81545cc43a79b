"""The rest of the way to the labels, timed: `make bench-way`. Prints how it was run; never a test.

CPU seconds on 500 slices of 512 × 512: sealed copies to Data Sets and a volume (uncompressed, and compressed in
children), the resampling to 1.5 mm, the statistics of 100 regions. Medians of rounds in one process.
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
from pydicom.pixels import compress
from pydicom.uid import UID, JPEGLSLossless, RLELossless
from scipy import ndimage

from dicomnode.config import Config, ReadingSection
from dicomnode.encoded import Limits, SeriesReader, encode_part10, read_part10
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

SLICES = 500
SPACING = (0.8, 0.75, 0.75)
EXPLICIT = UID("1.2.840.10008.1.2.1")
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


def images(syntax: UID, count: int) -> Iterator[bytes]:
    """Slices of a chest with noise, as files."""
    phantom = chest_phantom(
        np.random.default_rng(7), shape=(count // 4, 128, 128), spacing=tuple(4 * mm for mm in SPACING)
    )
    hu = ndimage.zoom(phantom.hu.astype(np.float32), (4, 4, 4), order=1)
    hu += np.random.default_rng(8).normal(0, 12, hu.shape).astype(np.float32)
    for image in ct_series(hu, SPACING):
        if syntax != EXPLICIT:
            whole = read_part10(encode_part10(image, transfer_syntax_uid=EXPLICIT), Limits())
            compress(whole, syntax, generate_instance_uid=False)
            yield encode_part10(whole, transfer_syntax_uid=syntax)
        else:
            yield encode_part10(image, transfer_syntax_uid=syntax)


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


def main() -> None:
    """Run, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compressed", type=int, default=48, help="slices of each compressed series; 0: none")
    chosen = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        sealed = Sealed(Path(name) / "state")
        sealed.put("plain", images(EXPLICIT, SLICES), SLICES)
        acts: dict[str, Callable[[], Any]] = {
            "opened alone": lambda: sum(len(copy) for copy in sealed.copies("plain")),
            "opened and read": lambda: sum(1 for _ in map(SeriesReader(Limits()).read, sealed.copies("plain"))),
            "volume of sealed slices": lambda: sealed.volume("plain"),
        }
        volume = sealed.volume("plain")
        labels = regions(volume.values, 100)
        acts["resample to 1.5 mm"] = lambda: resample(volume.values, SPACING, (1.5, 1.5, 1.5))
        acts["statistics of 100 regions"] = lambda: statistics(volume, labels)
        for title, syntax in (("RLE", RLELossless), ("JPEG-LS", JPEGLSLossless)) if chosen.compressed else ():
            sealed.put(title, images(syntax, chosen.compressed), chosen.compressed)
            acts[f"{title}, {chosen.compressed} slices"] = lambda title=title: sealed.volume(title)
        for title, act in acts.items():
            turns = [cpu(act)[:2] for _ in range(chosen.rounds)]
            found[title] = {"cpu s": median(one for one, _ in turns), "wall s": median(one for _, one in turns)}
        sealed.close()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )
    print(f"{SLICES} slices of 512 x 512, medians of {chosen.rounds} rounds")
    for title, row in found.items():
        print(f"  {title:28} CPU s {row['cpu s']:6.3f}   wall s {row['wall s']:6.3f}   floor {FLOORS.get(title, '')}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
