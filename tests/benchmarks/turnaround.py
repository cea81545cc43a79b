"""From the last C-STORE of a study to its results at the PACS: `make bench-turnaround`. Prints how it was run; never a test.

300 slices of 512 × 512 over one association, to a node in a process of its own and back to a PACS: Orthanc, or a recorder in
Python; a procedure step has named them before they come (evidence of completeness). Beside it, round by round, the network's own time: the same
engine on the same volume with the same threads, its runs alone. What is left is overhead, and the node's events say where.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import UID
from pynetdicom.presentation import build_context
from scipy import ndimage

from dicomnode.encoded import Limits, encode_part10, read_file
from dicomnode.imaging import volume
from dicomnode.imaging.decode import Decoder
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import PhantomPatient, ct_series
from dicomnode.inference import package as packages
from dicomnode.inference import standin
from dicomnode.inference.choice import open_engine
from dicomnode.inference.engine import Batch, Engine
from dicomnode.inference.segment import look
from dicomnode.network.procedures import PROCEDURE_STEP
from dicomnode.network.requestor import Requestor
from dicomnode.network.transport import Entity
from dicomnode.sections import Destination
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.test_kill_any_process import family
from tests.neighbours import Orthanc

EXPLICIT = "1.2.840.10008.1.2.1"
SLICES = 300
FLOOR_SECONDS = 1.0
WAIT_SECONDS = 1800.0
#: What ends each part, in the order in which they come.
PARTS = (
    ("waiting for the study to be whole", "stage.begun", "prepare"),
    ("prepare: read, de-identify, seal", "stage.ended", "prepare"),
    ("infer: volume, network, measurements", "stage.ended", "infer"),
    ("encode: results and their proofs", "stage.ended", "encode"),
    ("deliver", "delivery.confirmed", None),
)


class Timed:
    """An engine whose runs are timed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.seconds = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, batch: Batch) -> Batch:
        """As the engine does."""
        began = time.perf_counter()
        try:
            return self._engine.run(batch)
        finally:
            self.seconds += time.perf_counter() - began


def fine_chest() -> Any:
    """HU of 300 slices of 512 × 512."""
    phantom = chest_phantom(np.random.default_rng(7), shape=(SLICES // 3, 256, 256), spacing=(3.0, 1.4, 1.4))
    return ndimage.zoom(phantom.hu, (3, 2, 2), order=1)


def write_files(folder: Path, hu: Any, who: PhantomPatient) -> list[Path]:
    """As Explicit VR Little Endian files."""
    folder.mkdir()
    paths = []
    for index, image in enumerate(ct_series(hu, (1.0, 0.7, 0.7), who)):
        paths.append(folder / f"{index:04}.dcm")
        paths[-1].write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    return paths


def send(port: int, paths: list[Path], who: PhantomPatient) -> datetime:
    """Begin a step and end it, which names all images; send them; when the last was acknowledged and the association released."""
    announce(port, paths, who)
    peer = Requestor(Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=port), "SCANNER")
    assert {outcome.status for outcome in peer.send_files(paths)} == {0}
    return datetime.now(UTC)


def announce(port: int, paths: list[Path], who: PhantomPatient) -> None:
    """A procedure step from its beginning to its end, over an association of its own."""
    association = Entity("SCANNER").associate("127.0.0.1", port, [build_context(PROCEDURE_STEP)], ae_title="DICOMNODE")
    step, scheduled, uid = Dataset(), Dataset(), who.uid("step")
    scheduled.StudyInstanceUID = UID(who.uid("study"))
    step.PerformedProcedureStepStatus = "IN PROGRESS"
    step.ScheduledStepAttributesSequence, step.PerformedSeriesSequence = [scheduled], []
    assert association.send_n_create(step, PROCEDURE_STEP, uid)[0].Status == 0
    assert association.send_n_set(completed(paths, who), PROCEDURE_STEP, uid)[0].Status == 0
    association.release()


def completed(paths: list[Path], who: PhantomPatient) -> Dataset:
    """Modification list that ends a step (PS3.4 F.7.2.2) and names its images."""
    series = Dataset()
    series.SeriesInstanceUID = UID(who.uid("series", who.series_number))
    series.ReferencedImageSequence, series.ReferencedNonImageCompositeSOPInstanceSequence = [], []
    for path in paths:
        item, image = Dataset(), dcmread(path, stop_before_pixels=True)
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
        series.ReferencedImageSequence.append(item)
    step = Dataset()
    step.PerformedProcedureStepStatus, step.PerformedSeriesSequence = "COMPLETED", [series]
    return step


def cpu_seconds(node: RunningNode) -> float:
    """CPU seconds that a node's processes have used."""
    ticks = 0
    for pid in family(node.pid):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def turn(node: RunningNode, paths: list[Path], who: PhantomPatient) -> dict[str, float]:
    """Wall seconds of each part of one study, and of all."""
    with node._changed:
        node.events.clear()
    began = before = send(node.port, paths, who)
    used, parts = cpu_seconds(node), {}
    for part, name, stage in PARTS:
        event = node.wait_for_event(name, WAIT_SECONDS, **({"stage": stage} if stage else {}))
        at = datetime.fromisoformat(event["timestamp"])
        parts[part] = (at - before).total_seconds()
        before = at
    early = [event["images"] for event in node.events if event.get("event") == "work.prepared-early"]
    return parts | {
        "all": (before - began).total_seconds(),
        "CPU": cpu_seconds(node) - used,
        "early": float(sum(early)),
    }


def network_alone(paths: list[Path], engine: str, threads: int) -> float:
    """Wall seconds of the network's runs on the study, without anything around them."""
    package = standin.package() if engine == "stand-in" else packages.load(packages.shipped_models_folder() / "ct-lung")
    opened = open_engine(package, engine, threads=threads)
    timed = Timed(opened.engine)
    with Decoder(timeout_seconds=60, memory_bytes=2**32) as decoder:
        built = volume.build([read_file(path, Limits()) for path in paths], decoder=decoder)
    look(built, package.manifest, timed)  # type: ignore[arg-type]
    opened.engine.close()
    return timed.seconds


def main() -> None:
    """Run, and print a table and JSON."""
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--engine", default="onnxruntime", help="of the node: onnxruntime, openvino, stand-in")
    options.add_argument("--pacs", default="recorder", choices=("orthanc", "recorder"), help="whom the results go to")
    options.add_argument("--threads", type=int, default=0, help="0: one per core")
    chosen = options.parse_args()
    rounds, alone = [], []
    settings = (
        f'[models]\nengine = "{chosen.engine}"\nenabled = {[] if chosen.engine == "stand-in" else ["ct-lung"]}\n'
        f"threads = {chosen.threads}\n[completion]\nquiet_seconds = 600\n"
    ).replace("'", '"')
    with tempfile.TemporaryDirectory() as name, archive(chosen.pacs, Path(name) / "pacs") as (title, port):
        folder, hu = Path(name), fine_chest()
        with RunningNode(folder / "node", settings + destination("pacs", title, port)) as node:
            for number in range(chosen.rounds):
                who = PhantomPatient(seed=f"turnaround-{number}", patient_id=f"T-{number}")
                paths = write_files(folder / str(number), hu, who)
                rounds.append(turn(node, paths, who))
                alone.append(network_alone(paths, chosen.engine, chosen.threads))
    report(chosen, rounds, alone)


@contextmanager
def archive(kind: str, folder: Path) -> Iterator[tuple[str, int]]:
    """AE title and port of a PACS that runs meanwhile."""
    if kind == "recorder":
        with Recorder() as recorder:
            yield recorder.ae_title, recorder.port
        return
    orthanc = Orthanc(folder).start()
    try:
        yield orthanc.ae_title, orthanc.dicom_port
    finally:
        orthanc.stop()


def report(chosen: argparse.Namespace, rounds: list[dict[str, float]], alone: list[float]) -> None:
    """Medians in a table, everything in JSON."""
    overheads = [one["all"] - network for one, network in zip(rounds, alone, strict=True)]
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}"
    )
    print(
        f"{SLICES} slices of 512 x 512, engine {chosen.engine}, PACS {chosen.pacs}; wall seconds, medians of {chosen.rounds} rounds"
    )
    for part in [part for part, _, _ in PARTS] + ["all"]:
        print(f"  {part:40} {median(one[part] for one in rounds):7.2f}")
    print(f"  {'CPU seconds of the node':40} {median(one['CPU'] for one in rounds):7.2f}")
    print(f"  {'images that were prepared early':40} {median(one['early'] for one in rounds):7.0f}")
    print(f"  {'the network alone':40} {median(alone):7.2f}")
    print(f"  {'overhead':40} {median(overheads):7.2f}   (floor of the issue: {FLOOR_SECONDS})")
    print(json.dumps({"rounds": rounds, "network alone": alone, "overheads": overheads, "floor": FLOOR_SECONDS}))


if __name__ == "__main__":
    main()
