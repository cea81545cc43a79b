"""`dicomnode demo`: one study all the way, as in a hospital, with everything on loopback, told while it happens."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from pydicom import Dataset
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from dicomnode.cli.demo_pacs import Orthanc, ShippedArchive, free_port, open_pacs
from dicomnode.config import Config, Destination
from dicomnode.encoded import Limits, encode_part10, read_file
from dicomnode.errors import REASONS, ConfigError, NodeError, PeerError, StudyError
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import ct_series
from dicomnode.imaging.render import png
from dicomnode.network.requestor import Requestor
from dicomnode.service.status import read_studies
from dicomnode.study import FINAL_STATES, WorkRow, WorkState, stages_in_order

_QUIET_SECONDS = 3.0
_MARKER = ".made-by-dicomnode-demo"
_WAIT_SECONDS = 900.0
_PHANTOM_SEED = 7
#: Concept names of TID 1500 and 1410 (PS3.16).
_MEASUREMENT_GROUP, _TRACKING_IDENTIFIER, _AREA = "125007", "112039", "42798000"
_SAID = {
    WorkState.QUEUED: "waiting for its turn",
    WorkState.PREPARING: "de-identifying, sealing the pseudonymous copy",
    WorkState.INFERRING: "volume, network, measurements",
    WorkState.ENCODING: "writing Segmentation, Structured Report and key image",
    WorkState.READY: "results ready; waiting until the study is surely whole",
    WorkState.DELIVERING: "sending the results to the PACS",
}


def run_demo(study: Path | None, folder: Path, console: Console) -> None:
    """Start a PACS and a node, send a study, wait for its results and show them.

    Raises
    ------
    NodeError
        When any part of the way fails; the node's log is in the folder.
    """
    folder = folder.absolute()
    began = time.monotonic()
    given = None if study is None else _images(study)
    _clear(folder, study)
    paths = given or _images(_make_phantom(folder / "study", console))
    with open_pacs(folder) as pacs:
        console.print(f"PACS    {pacs.name}, AE title {pacs.ae_title}, port {pacs.port}", soft_wrap=True)
        with _node(folder, pacs, console) as (tree, port):
            uid = _send(paths, port, console)
            work = _wait(tree, console)
            _show_stages(work, console)
            if work.state is not WorkState.DONE:
                _explain(work, folder, console)
            _show_results(pacs, uid, folder, console)
    console.print(f"\nDone in {time.monotonic() - began:.0f} s.", soft_wrap=True)


def _clear(folder: Path, study: Path | None) -> None:
    """Remove what an earlier demo made in its folder, and nothing else.

    Raises
    ------
    ConfigError
        ``output-not-empty`` where a folder that no demo made stands in the way, or holds the study.
    """
    marker = folder / _MARKER
    parts = [folder / part for part in ("node", "orthanc", "archive", "study")]
    present = [part for part in parts if part.exists()]
    source = None if study is None else study.absolute().resolve()
    inside = source is not None and any(source.is_relative_to(part.resolve()) for part in parts)
    if inside or (present and not marker.is_file()):
        raise ConfigError("output-not-empty")
    for part in present:
        shutil.rmtree(part)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text("This folder was made by `dicomnode demo`, which clears it at its next run.\n", "utf-8")


def _make_phantom(folder: Path, console: Console) -> Path:
    with console.status("Drawing a chest phantom"):
        phantom = chest_phantom(np.random.default_rng(_PHANTOM_SEED))
        folder.mkdir(parents=True)
        for index, image in enumerate(ct_series(phantom.hu, phantom.spacing), 1):
            (folder / f"{index:04}.dcm").write_bytes(encode_part10(image, transfer_syntax_uid="1.2.840.10008.1.2.1"))
    console.print(
        f"Study   a chest CT of a phantom, {index} images, drawn by this project (make demo STUDY=<folder> takes yours)",
        soft_wrap=True,
    )
    return folder


def _images(source: Path) -> list[Path]:
    paths = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    if not paths:
        raise ConfigError("source-not-found")
    return paths


@contextmanager
def _node(folder: Path, pacs: Orthanc | ShippedArchive, console: Console) -> Iterator[tuple[Config, int]]:
    """A node of its own process on embedded defaults; ended by SIGTERM, as systemd would."""
    port, state = free_port(11112), folder / "node"
    log = folder / "node.log"
    command = [sys.executable, "-P", "-m", "dicomnode", "serve", "--state", str(state), "--port", str(port)]
    command += ["--quiet-seconds", str(_QUIET_SECONDS), "--deliver-to", f"{pacs.ae_title}@127.0.0.1:{pacs.port}"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)  # noqa: S603 - our own arguments
    try:
        with console.status("Starting the node"):
            _until_it_answers(process, port, log)
        console.print(
            f"Node    DICOMNODE on port {port}, embedded defaults, keys made in {state / 'keys'}", soft_wrap=True
        )
        tree = Config()
        yield tree.model_copy(update={"node": tree.node.model_copy(update={"state": state})}), port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(90)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    peer = Requestor(_address(port), "DEMO")
    deadline = time.monotonic() + 60
    while True:
        try:
            peer.echo()
        except PeerError:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.stderr.write(log.read_text("utf-8", "replace"))
                raise
            time.sleep(0.2)
        else:
            return


def _address(port: int) -> Destination:
    return Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=port)


def _send(paths: list[Path], port: int, console: Console) -> str:
    """Send by C-STORE; returns the Study Instance UID of what was sent."""
    uid = _study_uid(paths)
    peer = Requestor(_address(port), "DEMO")
    columns = (TextColumn("Sending"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} files"))
    began = time.monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(paths))
        outcomes = peer.send_files(paths, lambda sent: progress.update(task, completed=sent))
    stored = sum(outcome.status == 0 for outcome in outcomes)
    if not stored:
        raise next((outcome.error for outcome in outcomes if outcome.error), PeerError("peer-aborted"))
    seconds = time.monotonic() - began
    console.print(
        f"Sent    {stored} of {len(paths)} files by C-STORE in {seconds:.1f} s, each sealed on disk before its 0x0000",
        soft_wrap=True,
    )
    return uid


def _study_uid(paths: list[Path]) -> str:
    for path in paths:
        try:
            uid = str(read_file(path, Limits()).get("StudyInstanceUID") or "")
        except StudyError:
            continue
        if uid:
            return uid
    raise ConfigError("source-unreadable", files=len(paths))


def _wait(tree: Config, console: Console) -> WorkRow:
    deadline = time.monotonic() + _WAIT_SECONDS
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("waiting until the association is over", total=None)
        while time.monotonic() < deadline:
            for row in read_studies(tree, 1):
                for work in row.works:
                    if work.state in FINAL_STATES and work.state is not WorkState.SUPERSEDED:
                        return work
                    progress.update(task, description=_SAID.get(work.state, work.state.value))
            time.sleep(0.2)
    raise NodeError("timeout", seconds=_WAIT_SECONDS)


def _show_stages(work: WorkRow, console: Console) -> None:
    times = " · ".join(f"{name} {seconds:.1f} s" for name, seconds in stages_in_order(work.stages).items())
    console.print(f"Stages  {times}", soft_wrap=True)
    for delivery in work.deliveries:
        status = "no answer" if delivery.status is None else f"0x{delivery.status:04X}"
        console.print(f"Result  {delivery.role.value} → {delivery.destination}: {delivery.state.value} ({status})")


def _explain(work: WorkRow, folder: Path, console: Console) -> None:
    console.print(f"No result. The node's log is {folder / 'node.log'}", soft_wrap=True)
    raise StudyError(work.reason if work.reason and work.reason in REASONS else "internal")


def _show_results(pacs: Orthanc | ShippedArchive, uid: str, folder: Path, console: Console) -> None:
    peer = Requestor(Destination(name="pacs", ae_title=pacs.ae_title, host="127.0.0.1", port=pacs.port), "DEMO")
    series = peer.find(
        "SERIES", {"StudyInstanceUID": uid, "Modality": "", "SeriesDescription": "", "SeriesInstanceUID": ""}
    )
    console.print(f"\nThe PACS now holds, found by C-FIND in {pacs.name}:", soft_wrap=True)
    for item in series:
        console.print(f"  {item.get('Modality', ''):4} {escape(item.get('SeriesDescription', ''))}", soft_wrap=True)
    for report in pacs.objects(uid, "SR"):
        console.print(_measurements(report))
    for picture in pacs.objects(uid, "OT"):
        path = folder / "key-image.png"
        shape = (picture.Rows, picture.Columns, 3)
        path.write_bytes(png(np.frombuffer(picture.PixelData, np.uint8)[: shape[0] * shape[1] * 3].reshape(shape)))
        console.print(f"\nThe picture: [bold]{path}[/]", soft_wrap=True)


def _measurements(report: Dataset) -> Table:
    """Numbers of a TID 1500 report, as they stand in the PACS: a row for each region."""
    regions: dict[str, dict[str, str]] = {}
    for group in _nodes(report.ContentSequence, _MEASUREMENT_GROUP):
        region = next((str(item.TextValue) for item in group if _code(item) == _TRACKING_IDENTIFIER), "")
        for item in group:
            if item.ValueType == "NUM" and _code(item) != _AREA:
                measured = item.MeasuredValueSequence[0]
                unit = _readable(str(measured.MeasurementUnitsCodeSequence[0].CodeValue))
                name = str(item.ConceptNameCodeSequence[0].CodeMeaning)
                regions.setdefault(region, {})[name] = f"{float(measured.NumericValue):.1f} {unit}"
    names = list(dict.fromkeys(name for values in regions.values() for name in values))
    table = Table("", *names, title="\nWhat was found (AI result, not reviewed)", title_justify="left")
    for region, values in regions.items():
        table.add_row(escape(region), *(escape(values.get(name, "")) for name in names))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _readable(unit: str) -> str:
    return {"[hnsf'U]": "HU"}.get(unit, unit)


def _nodes(items: list[Dataset], code: str) -> Iterator[list[Dataset]]:
    for item in items:
        children = list(item.get("ContentSequence") or ())
        if _code(item) == code:
            yield children
        yield from _nodes(children, code)


def _code(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""
