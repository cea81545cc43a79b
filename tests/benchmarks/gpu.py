"""A GPU, all that is asked of it in one run: `make bench-gpu`. Prints a table and JSON, and how it was run; never a test.

From a volume to its labels by the node's course (TensorRT, else TensorRT-RTX) and by PyTorch in fp16, in turns; the
network alone beside the roofline that this device attains in the same turns; shares of the time; memory; labels that differ.
Each part is a process of its own: what fails is a line of the table, and the others go on.

``python -m tests.benchmarks.gpu`` needs no installed dicomnode, but these: numpy, scipy, pydicom, pydantic, cryptography;
for the node's course pycuda, tensorrt or tensorrt_rtx, onnx (fp16 is derived by it) and onnxruntime (engines are held to it);
for the peer and the roofline torch and onnx; monai where it is there, else a sliding window of torch alone; for the CPU
onnxruntime. Whatever of these is missing is said in the table. Without TensorRT the node's course runs torch's network.
``--stand-in`` puts the stand-in device and the CPU in the GPU's place, ``--small`` makes small studies of all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.benchmarks import gpu_table
from tests.benchmarks.gpu_worker import PartError, Worker, in_a_line

NEEDED = ("numpy", "scipy", "pydicom", "pydantic", "cryptography")
SAID = ("tensorrt", "tensorrt-rtx", "tensorrt-rtx-cu13", "pycuda", "torch", "monai", "onnxruntime", "onnx", "numpy")
_PARTS = ("course", "node", "course-torch", "torch", "torch-contiguous", "roofline", "cpu")
_WARM = 2
_GPU = {"CUDA_CACHE_DISABLE": "1", "CUDA_MODULE_LOADING": "LAZY", "ORT_DISABLE_TELEMETRY": "1"}

Found = dict[str, Any]


def studies(*, small: bool) -> dict[str, Any]:
    """The shipped model, and a network as nnU-Net plans it, on 500 slices (or a few) of a chest."""
    from tests.benchmarks.studies import Study

    if small:
        one = Study(name="ct-lung", shape=(40, 64, 64), coarse=(38, 60, 60), spacing_mm=3.0)
        other = Study(
            name="unet", shape=(40, 64, 64), coarse=(22, 24, 24), spacing_mm=6.0, tile=(16, 16, 16), widths=(4, 8)
        )
        return {one.name: one, other.name: other}
    shape = (500, 512, 512)
    one = Study(name="ct-lung", shape=shape, coarse=(167, 134, 134), spacing_mm=3.0)
    widths = (16, 32, 64, 128, 160)
    other = Study(
        name="unet", shape=shape, coarse=(240, 192, 192), spacing_mm=2.0, tile=(96, 96, 96), labels=9, widths=widths
    )
    return {one.name: one, other.name: other}


class Session:
    """One study through all parts.

    Parameters
    ----------
    opened
        Opens a part by its name.
    seconds
        For an answer.
    """

    def __init__(self, opened: Callable[[str], Worker], *, seconds: float) -> None:
        self._opened, self._seconds = opened, seconds
        self.workers: dict[str, Worker] = {}
        self.found: Found = {"failed": {}, "facts": {}, "seconds": {}, "network": {}, "shipped": {}, "spent": {}}
        self.found |= {"peaks": [], "memory": {}, "labels": {}, "differing": {}, "predicted": False, "stand_in": False}

    def open(self, parts: Sequence[str], *, all_: bool) -> None:
        """Open the parts; the course with torch's network where it is wished by name or the node's own failed."""
        for part in parts:
            if part == "course-torch" and not all_ and "course" in self.workers:
                continue
            begun = time.monotonic()
            try:
                self.workers[part] = self._opened(part)
                self.found["facts"][part] = self.workers[part].facts
            except PartError as error:
                self.found["failed"][part] = str(error)
            print(f"{part}: {time.monotonic() - begun:.0f} s to open", file=sys.stderr, flush=True)

    def run(self, rounds: int, folder: Path) -> None:
        """Turns, each part after the other, the order turned round each time; then what is asked once."""
        for number in range(_WARM + rounds):
            parts = [part for part in self.workers if part not in ("roofline", "cpu")]
            for part in parts if number % 2 == 0 else parts[::-1]:
                answer = self._ask(part, "turn")
                if answer and number >= _WARM:
                    self.found["seconds"].setdefault(part, []).append(answer["seconds"])
            self._ask_more(number >= _WARM)
        self._drop_halves(rounds)
        answer = self._ask("cpu", "turn")
        if answer:
            self.found["seconds"]["cpu"] = [answer["seconds"]]
        for part in list(self.workers):
            if part != "roofline":
                answer = self._ask(part, "keep", str(folder / f"{part}.npy"))
                if answer:
                    self.found["labels"][part] = answer["found"]
        for part in ("course", "course-torch", *gpu_table.PEERS):
            answer = self._ask(part, "memory")
            if answer is not None:
                self.found["memory"][part] = answer

    def close(self) -> None:
        """End all parts."""
        for worker in self.workers.values():
            worker.close()

    def _ask_more(self, counts: bool) -> None:
        """The rest of a round: the network alone, the device's peaks beside it, and shares."""
        for part in ("course", "course-torch", *gpu_table.PEERS):
            self._collect("network", part, self._ask(part, "network"), counts)
        peaks = self._ask("roofline", "peaks")
        if peaks and counts:
            self.found["peaks"].append(peaks)
        for part in ("course", "course-torch"):
            kinds = self.found["facts"].get(part, {}).get("manifests", ())
            for which in kinds:
                spent = self._ask(part, "spent", which)
                if spent and counts:
                    self.found["spent"].setdefault(f"{part}/{which}", []).append(spent)
            if "shipped" in kinds:
                self._collect("shipped", part, self._ask(part, "shipped"), counts)

    def _collect(self, what: str, part: str, answer: Found | None, counts: bool) -> None:
        if answer and counts:
            self.found[what].setdefault(part, []).append(answer["seconds"])

    def _ask(self, part: str, act: str, *given: Any) -> Found | None:
        """The answer; nothing where the part is not there any more."""
        if part not in self.workers:
            return None
        try:
            return self.workers[part].ask(act, *given, seconds=self._seconds)
        except PartError as error:
            del self.workers[part]
            self.found["failed"][part] = f"{act}: {error}"
            return None

    def _drop_halves(self, rounds: int) -> None:
        """What ended on its way has not all turns: there is nothing to pair it with."""
        for what in ("seconds", "network", "shipped", "spent"):
            whole = {key: turns for key, turns in self.found[what].items() if len(turns) == rounds}
            self.found[what] = whole
        if len(self.found["peaks"]) != rounds:
            self.found["peaks"] = []


def differing(folder: Path) -> dict[str, float]:
    """Share of the labels that differ, of each two of the parts that kept theirs."""
    import numpy as np

    pairs = [("course", other) for other in ("node", "cpu", *gpu_table.PEERS)]
    pairs += [("course-torch", "course"), ("course-torch", "cpu"), ("course-torch", "torch"), ("torch", "cpu")]
    kept = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
    names = gpu_table.NAMES
    return {
        f"{names[one]}, {names[other]}": float(np.mean(kept[one] != kept[other]))
        for one, other in pairs
        if one in kept and other in kept
    }


def counted(study: Any, folder: Path, batch: int) -> Any:
    """A whole study's batches as one network that is as large."""
    from tests.benchmarks import roofline
    from tests.benchmarks.gpu_parts import Task

    task = Task(study=study, folder=folder)
    package = task.package
    layout = task.layout(package)
    runs = roofline.batches(layout.count, batch)
    each = {patches: roofline.count(package.model_bytes(), (patches, 1, *layout.tile)) for patches in set(runs)}
    return roofline.joined([each[patches] for patches in runs])


def one_study(study: Any, folder: Path, chosen: argparse.Namespace) -> tuple[Found, list[gpu_table.Line]]:
    """Everything of a study."""

    def opened(part: str) -> Worker:
        task = {"study": asdict(study), "folder": str(folder), "stand_in": chosen.stand_in, "size": chosen.size}
        return Worker(
            part,
            {**task, "precision": chosen.precision},
            log=folder / f"{study.name}-{part}.log",
            seconds=chosen.seconds,
            environment=_GPU if part in gpu_table.OURS else None,
        )

    session = Session(opened, seconds=chosen.seconds)
    kept = folder / f"{study.name}-labels"
    kept.mkdir()
    network = None
    try:
        study.write(folder)
        session.open(chosen.parts.split(","), all_=chosen.parts != ",".join(_PARTS))
        session.run(chosen.rounds, kept)
    except Exception as error:  # noqa: BLE001 - a line of the table; the other study goes on
        session.found["failed"]["study"] = in_a_line(error)
    finally:
        session.close()
    found = session.found
    found |= {"predicted": study.is_shipped and not chosen.small, "stand_in": chosen.stand_in}
    try:
        batch = next((facts["batch"] for facts in found["facts"].values() if "batch" in facts), 1)
        network = counted(study, folder, batch)
        found["differing"] = differing(kept)
    except Exception as error:  # noqa: BLE001 - as above
        found["failed"]["count"] = in_a_line(error)
    if network is not None:
        found["counted"] = {"flops": network.flops, "bytes in fp16": network.bytes_at(2), "weights": network.weights}
    return found, gpu_table.lines(found, network)


def versions() -> dict[str, str]:
    """Of the libraries that are there."""

    def each() -> Iterator[tuple[str, str]]:
        for name in SAID:
            try:
                yield name, version(name)
            except PackageNotFoundError:
                continue

    return dict(each())


def said_of(found: Mapping[str, Found]) -> Iterator[str]:
    """What the parts said of the device, once."""
    facts = [one for study in found.values() for one in study["facts"].values()]
    devices = [one["device"] for one in facts if isinstance(one.get("device"), dict)]
    for one in devices[:1]:
        major, minor = one["capability"]
        memory = f"{one['memory_bytes'] / 2**30:.0f} GiB"
        yield f"{one['name']}, compute capability {major}.{minor}, {memory}, driver {one['driver']}"
    for one in [one for one in facts if "torch" in one][:1]:
        yield ", ".join(f"{name} {value}" for name, value in one.items() if name not in ("batch", "precision"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="ct-lung,unet")
    parser.add_argument("--parts", default=",".join(_PARTS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--seconds", type=float, default=300, help="that a part may take for one answer")
    parser.add_argument("--json", type=Path, help="file for the JSON, too")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--stand-in", action="store_true")
    chosen = parser.parse_args(arguments)
    chosen.size = 256 if chosen.small else 8192
    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking:
        print(f"needs {', '.join(lacking)}", file=sys.stderr)
        return 2
    how = {"versions": versions(), "rounds": chosen.rounds, "warm": _WARM, "python": platform.python_version()}
    how |= {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "stand_in": chosen.stand_in}
    result: Found = {"how": how, "cases": {}}
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as place:
        known = studies(small=chosen.small)
        for name in chosen.cases.split(","):
            study = known[name]
            found, rows = one_study(study, Path(place), chosen)
            result["cases"][name] = found
            print(f"{name}: {study.shape} to {study.coarse} at {study.spacing_mm:g} mm")
            print(gpu_table.table(rows) + "\n", flush=True)
            if chosen.json:  # after each study: a run that is stopped leaves what it had
                chosen.json.write_text(json.dumps(result), "utf-8")
    print("\n".join(said_of(result["cases"])))
    if chosen.stand_in:
        print("On the stand-in device and the CPU: what this command prints, and no measure of any GPU.")
    print(", ".join(f"{name} {one}" for name, one in how["versions"].items()))
    print(f"{chosen.rounds} rounds in turns after {_WARM} to warm up, Python {how['python']}, {how['date']}")
    print("Times: median [least, greatest]; what has a floor: median over rounds of what ran in the same one [95 %]")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
