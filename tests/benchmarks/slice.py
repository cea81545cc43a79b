"""Stages of one study, timed: `make bench-slice`. Prints how it was run; never a test.

One process, one thread, a phantom of 300 slices of 512 × 512. Peer for reading: `highdicom.get_volume_from_series`
on the same files, in the same run, pair by pair.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import highdicom
import numpy as np
import pydicom
from scipy import ndimage

from dicomnode.config import Config
from dicomnode.encoded import Limits, encode_part10, read_file, read_part10
from dicomnode.imaging import volume
from dicomnode.imaging.decode import Decoder
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import ct_series
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage.ledger import Ledger
from dicomnode.texts import Words
from dicomnode.workflow.copying import Copier
from dicomnode.workflow.picture import picture_of

PAIRS = 3


def cpu(act: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, its children's included, and what it returned."""

    def used() -> float:
        own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

    began = used()
    result = act()
    return used() - began, result


def write_files(folder: Path) -> list[Path]:
    """300 slices of 512 × 512 as Explicit VR Little Endian files."""
    phantom = chest_phantom(np.random.default_rng(7), shape=(100, 256, 256), spacing=(3.0, 1.4, 1.4))
    fine = ndimage.zoom(phantom.hu, (3, 2, 2), order=1)
    paths = []
    for index, image in enumerate(ct_series(fine, (1.0, 0.7, 0.7))):
        paths.append(folder / f"{index:04}.dcm")
        paths[-1].write_bytes(encode_part10(image, transfer_syntax_uid="1.2.840.10008.1.2.1"))
    return paths


def ours(paths: list[Path]) -> volume.Volume:
    """Files to volume, our way."""
    with Decoder(timeout_seconds=60, memory_bytes=2**32) as decoder:
        return volume.build([read_file(path, Limits()) for path in paths], decoder=decoder)


def theirs(paths: list[Path]) -> Any:
    """Files to volume, highdicom's way."""
    return highdicom.get_volume_from_series([pydicom.dcmread(path) for path in paths])


def stages(tree: Config, paths: list[Path]) -> dict[str, float]:
    """CPU seconds of each stage of one study."""
    layout = Layout.of(tree)
    rooms.make_state_folder(layout)
    ring = rooms.open_key_ring(tree, layout, {}, create=True)
    ledger = Ledger.open(layout.ledger)
    (analyst,) = rooms.open_analysts(tree, ring, ledger).values()
    seconds: dict[str, float] = {}
    copier = Copier(analyst.deidentifier, Limits())
    seconds["deidentify"], copies = cpu(lambda: [copier.copy(path.read_bytes()) for path in paths])
    seconds["read"], datasets = cpu(lambda: [read_part10(copy, Limits()) for copy in copies])
    seconds["infer and measure"], analysis = cpu(lambda: analyst.analyse(datasets))
    seconds["key image"], picture = cpu(lambda: picture_of(analysis, Words()))
    seconds["encode and prove"], _ = cpu(
        lambda: analyst.encode(analysis, picture, identity=copier.identity, input_digest="bench")
    )
    analyst.close()
    ledger.close()
    return seconds


def main() -> None:
    """Run, and print a table and JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "files").mkdir()
        paths = write_files(folder / "files")
        tree = Config.model_validate({"node": {"state": folder / "state"}, "models": {"threads": 1}})
        found: dict[str, Any] = {"stages": stages(tree, paths)}
        pairs = [(cpu(lambda: ours(paths))[0], cpu(lambda: theirs(paths))[0]) for _ in range(PAIRS)]
    found["read and volume, ours"] = median(pair[0] for pair in pairs)
    found["read and volume, highdicom"] = median(pair[1] for pair in pairs)
    found["ratio"] = median(pair[1] / pair[0] for pair in pairs)
    found["total"] = sum(found["stages"].values())
    found["peak memory MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )
    print(f"300 slices of 512 x 512, one thread; CPU seconds; peer: highdicom {highdicom.__version__}, {PAIRS} pairs")
    for stage, seconds in found["stages"].items():
        print(f"  {stage:20} {seconds:6.2f}")
    print(f"  {'all stages':20} {found['total']:6.2f}   (floor of the issue: 30)")
    print(f"read and volume: {found['read and volume, ours']:.2f}, highdicom {found['read and volume, highdicom']:.2f}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
