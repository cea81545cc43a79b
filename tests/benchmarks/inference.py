"""From a volume to its labels on the CPU: `make bench-inference`. Prints a table and JSON, and how it was run; never a test.

The node's way (`inference.segment.look`: resample, tiles, network, labels on the source grid) on ONNX Runtime and on
OpenVINO, beside torch with MONAI's sliding window: the same network, weights, tiles, overlap, window and threads, in
turn in one process, medians over rounds. Rules after the network (largest piece, holes) are off on both sides.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from statistics import median
from typing import Any

import numpy as np

from dicomnode.imaging.volume import Volume
from dicomnode.inference import standin
from dicomnode.inference.cores import usable_cores
from dicomnode.inference.engine import Engine
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.openvino import OpenVinoEngine
from dicomnode.inference.package import load, shipped_models_folder
from dicomnode.inference.preprocess import prepare
from dicomnode.inference.segment import look
from dicomnode.inference.tiles import plan, run
from dicomnode.manifest import Manifest
from tests.benchmarks.networks import UNet
from tests.benchmarks.studies import phantom_volume, without_rules
from tests.benchmarks.torch_path import TorchPath

FLOORS = {"onnxruntime": 1.3, "openvino": 2.0}
LABELS = 9


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network and a volume.

    Attributes
    ----------
    coarse
        Shape of the network's grid before it is padded; its corners lie on the volume's.
    """

    name: str
    model: bytes
    manifest: Manifest
    volume: Volume
    coarse: tuple[int, int, int]


def ct_lung() -> Case:
    """The shipped model on an ordinary chest: one tile."""
    package = load(shipped_models_folder() / "ct-lung")
    manifest = without_rules(package.manifest)
    coarse = (104, 128, 128)
    volume = phantom_volume((320, 512, 512), coarse, 3.0)
    return Case(name="ct-lung", model=package.model_bytes(), manifest=manifest, volume=volume, coarse=coarse)


def unet() -> Case:
    """A network as nnU-Net plans it, in tiles of 96 voxels that overlap by half."""
    network = UNet((16, 32, 64, 128, 160), LABELS)
    base = without_rules(standin.package().manifest)
    manifest = replace(
        base,
        segments=tuple(replace(base.segments[0], number=number) for number in range(1, LABELS)),
        preprocess=replace(base.preprocess, spacing_mm=(2.0, 2.0, 2.0), multiple_of=(network.multiple,) * 3),
        network=replace(base.network, tile=(96, 96, 96), overlap=0.5),
    )
    coarse = (96, 144, 144)
    volume = phantom_volume((192, 512, 512), coarse, 2.0)
    return Case(name="unet", model=network.to_bytes(), manifest=manifest, volume=volume, coarse=coarse)


CASES: Mapping[str, Callable[[], Case]] = {"ct-lung": ct_lung, "unet": unet}


def seconds(act: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and CPU seconds of a call, and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = act()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def network_part(case: Case, engine: Engine) -> Callable[[], Any]:
    """Tiles and network alone, on a prepared volume."""
    spacing = case.volume.geometry.spacing
    inputs, _ = prepare(case.volume.values, spacing, case.manifest.preprocess)
    z, y, x = inputs.shape
    layout = plan((z, y, x), case.manifest.network.tile, case.manifest.network.overlap)
    return lambda: run(inputs, layout, engine.run, channels=case.manifest.channels)


def peers_network_part(case: Case, peer: TorchPath) -> Callable[[], Any]:
    """The same of the peer."""
    inputs, _ = prepare(case.volume.values, case.volume.geometry.spacing, case.manifest.preprocess)
    roi = [min(size, largest) for size, largest in zip(inputs.shape, case.manifest.network.tile, strict=True)]
    return lambda: peer.window(peer.tensor(inputs), roi)


def compare(case: Case, rounds: int, threads: int) -> dict[str, Any]:
    """Every way on one volume, in turn, round after round; the first round warms up and is left out."""
    engines: dict[str, Engine] = {
        "onnxruntime": OnnxEngine(case.model, case.manifest, threads=threads),
        "openvino": OpenVinoEngine(case.model, case.manifest, threads=threads),
    }
    peer = TorchPath(case.model, case.manifest, threads=threads)
    whole: dict[str, Callable[[], Any]] = {"torch": lambda: peer.labels(case.volume.values, case.coarse)}
    network: dict[str, Callable[[], Any]] = {"torch": peers_network_part(case, peer)}
    for name, engine in engines.items():
        whole[name] = lambda engine=engine: look(case.volume, case.manifest, engine).labels
        network[name] = network_part(case, engine)
    took: dict[str, list[tuple[float, float, float]]] = {name: [] for name in whole}
    labels: dict[str, np.ndarray] = {}
    for number in range(rounds + 1):
        for name, act in whole.items():
            wall, cpu, labels[name] = seconds(act)
            part, _, _ = seconds(network[name])
            if number:
                took[name].append((wall, cpu, part))
    return {
        "tiles": plan(_padded(case), case.manifest.network.tile, case.manifest.network.overlap).count,
        "labels": {str(n): int(c) for n, c in enumerate(np.bincount(labels["torch"].ravel()))},
        **{name: _summary(name, took, labels) for name in took},
    }


def _padded(case: Case) -> tuple[int, int, int]:
    z, y, x = (
        -(-size // factor) * factor
        for size, factor in zip(case.coarse, case.manifest.preprocess.multiple_of, strict=True)
    )
    return z, y, x


def _summary(
    name: str, took: Mapping[str, list[tuple[float, float, float]]], labels: Mapping[str, np.ndarray]
) -> dict[str, float]:
    own, theirs = took[name], took["torch"]
    return {
        "wall s": median(wall for wall, _, _ in own),
        "cpu s": median(cpu for _, cpu, _ in own),
        "network s": median(part for _, _, part in own),
        "ratio": median(peer[0] / mine[0] for mine, peer in zip(own, theirs, strict=True)),
        "network ratio": median(peer[2] / mine[2] for mine, peer in zip(own, theirs, strict=True)),
        "differing": float(np.mean(labels[name] != labels["torch"])),
    }


def main() -> None:
    """Run, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    chosen = parser.parse_args()
    versions = {name: version(name) for name in ("torch", "monai", "onnxruntime", "openvino")}
    print(
        f"{platform.machine()}, {chosen.threads} threads, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )
    print(", ".join(f"{name} {one}" for name, one in versions.items()) + f"; medians of {chosen.rounds} rounds in turn")
    found: dict[str, Any] = {"versions": versions, "threads": chosen.threads, "rounds": chosen.rounds}
    for name in chosen.cases.split(","):
        case = CASES[name]()
        result = found[name] = compare(case, chosen.rounds, chosen.threads)
        print(
            f"{name}: {case.volume.values.shape} to {case.coarse}, {result['tiles']} tiles, {case.manifest.channels} labels"
        )
        print(
            f"  {'':12} {'wall s':>8} {'CPU s':>8} {'ratio':>6} {'floor':>6} {'network s':>10} {'ratio':>6} {'labels that differ':>20}"
        )
        for way in ("torch", *FLOORS):
            row = result[way]
            print(
                f"  {way:12} {row['wall s']:8.2f} {row['cpu s']:8.2f} {row['ratio']:6.2f} {FLOORS.get(way, 1.0):6.1f}"
                f" {row['network s']:10.2f} {row['network ratio']:6.2f} {row['differing']:20.5%}"
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
