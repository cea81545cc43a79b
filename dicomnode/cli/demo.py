"""`dicomnode demo`: one study all the way, as in a hospital, with everything on loopback, told while it happens."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dicomnode.cli.demo_pacs import Orthanc, ShippedArchive, free_port, open_pacs
from dicomnode.cli.demo_results import explain, show_results, show_stages
from dicomnode.cli.demo_source import Source, files_of, survey
from dicomnode.config import Config
from dicomnode.encoded import encode_part10
from dicomnode.errors import REASONS, ConfigError, NodeError, PeerError, PeerRefusal, StudyError
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import ct_series
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.service.rooms import Layout, open_key_ring
from dicomnode.service.status import read_studies
from dicomnode.storage.files import disk_errors
from dicomnode.study import FINAL_STATES, StudyRow, WorkRow, WorkState, blind_key

_QUIET_SECONDS = 3.0
_MARKER = ".made-by-dicomnode-demo"
_WAIT_SECONDS = 900.0
#: By then every study is settled: what has no work will get none, and what is refused stays so.
_SETTLED_SECONDS = 4 * _QUIET_SECONDS
_PHANTOM_SEED = 7
#: Whoever shows it a folder of old studies means each of them.
_SETTINGS = "[flood_guard]\nburst_studies = 0\n"
_SAID = {
    WorkState.QUEUED: "waiting for its turn",
    WorkState.PREPARING: "de-identifying, sealing the pseudonymous copy",
    WorkState.INFERRING: "volume, network, measurements",
    WorkState.ENCODING: "writing Segmentation, Structured Report and key image",
    WorkState.READY: "results ready; waiting until the study is surely whole",
    WorkState.DELIVERING: "sending the results to the PACS",
}


def run_demo(study: Path | None, folder: Path, console: Console) -> None:
    """Start a PACS and a node, send every study of a folder, wait for their results and show them, study by study.

    Raises
    ------
    NodeError
        When any part of the way fails, or no study came to a result; the node's log is in the folder.
    """
    with _ended_by_signals():
        _run(study, folder.absolute(), console)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A signal that would end the program ends what it started first: Orthanc and the node do not outlive a terminal."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(study: Path | None, folder: Path, console: Console) -> None:
    began = time.monotonic()
    source = None if study is None else survey(files_of(study), console)
    _clear(folder, study)
    if source is None:
        with disk_errors():
            source = survey(files_of(_make_phantom(folder / "study", console)), console)
    with open_pacs(folder) as pacs:
        console.print(f"PACS    {pacs.name}, AE title {pacs.ae_title}, port {pacs.port}", soft_wrap=True)
        with _node(folder, pacs, console) as (tree, port):
            uids = _send(source, port, console)
            rows = _wait(tree, uids, console)
            reasons = [_show(rows, uid, source, pacs=pacs, folder=folder, console=console) for uid in source.studies]
    if None not in reasons:
        console.print(f"\nThe node's log is {folder / 'node.log'}", soft_wrap=True)
        raise StudyError(reasons[0] or "internal")
    console.print(f"\nDone in {time.monotonic() - began:.0f} s.", soft_wrap=True)


def _show(
    rows: Mapping[str, StudyRow | None],
    uid: str,
    source: Source,
    *,
    pacs: Orthanc | ShippedArchive,
    folder: Path,
    console: Console,
) -> str | None:
    """What came of one study; the code of why it has no result, or None where it has one."""
    number = list(source.studies).index(uid) + 1
    picture = folder / "key-image.png"
    if len(source.studies) > 1:
        paths = source.studies[uid]
        title = f"Study {number} of {len(source.studies)}: {len(paths)} files, the first {paths[0].parent.name}/{paths[0].name}"
        console.print(f"\n[bold]{escape(title)}[/]", soft_wrap=True)
        picture = folder / f"key-image-study-{number}.png"
    works = _latest(rows.get(uid))
    for work in works:
        show_stages(work, console)
        if work.state is not WorkState.DONE:
            explain(_reason(work), console)
    if any(work.state is WorkState.DONE for work in works):
        show_results(pacs, uid, picture, console)
        return None
    if works:
        return _reason(works[0])
    reason = "no-suitable-series" if uid in rows else "peer-refused-object"
    explain(reason, console)
    return reason


def _reason(work: WorkRow) -> str:
    return work.reason if work.reason and work.reason in REASONS else "internal"


def _latest(row: StudyRow | None) -> tuple[WorkRow, ...]:
    """Works of a study's latest revision."""
    return () if row is None else tuple(work for work in row.works if work.key.revision == row.revision)


def _clear(folder: Path, study: Path | None) -> None:
    """Remove what an earlier demo made in its folder, and nothing else.

    Raises
    ------
    ConfigError
        ``output-not-empty`` where a folder that no demo made stands in the way, or holds the study, or where nothing
        can be written.
    """
    marker = folder / _MARKER
    parts = [folder / part for part in ("node", "orthanc", "archive", "study")]
    try:
        present = [part for part in parts if part.exists()]
        source = None if study is None else study.absolute().resolve()
        inside = source is not None and any(source.is_relative_to(part.resolve()) for part in parts)
        if inside or (present and not marker.is_file()):
            raise ConfigError("output-not-empty")
        for part in present:
            shutil.rmtree(part)
        for picture in folder.glob("key-image*.png") if marker.is_file() else ():
            picture.unlink()
        folder.mkdir(parents=True, exist_ok=True)
        marker.write_text("This folder was made by `dicomnode demo`, which clears it at its next run.\n", "utf-8")
    except OSError:
        raise ConfigError("output-not-empty") from None


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


@contextmanager
def _node(folder: Path, pacs: Orthanc | ShippedArchive, console: Console) -> Iterator[tuple[Config, int]]:
    """A node of its own process on embedded defaults; ended by SIGTERM, as systemd would."""
    port, state = free_port(11112), folder / "node"
    log = folder / "node.log"
    command = [sys.executable, "-P", "-m", "dicomnode", "serve", "--state", str(state), "--port", str(port)]
    settings = folder / "node.toml"
    with disk_errors():
        settings.write_text(_SETTINGS, "utf-8")
    command += [
        "--config",
        str(settings),
        "--quiet-seconds",
        str(_QUIET_SECONDS),
        "--deliver-to",
        f"{pacs.ae_title}@127.0.0.1:{pacs.port}",
    ]
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


def _send(source: Source, port: int, console: Console) -> list[str]:
    """Send by C-STORE; returns the Study Instance UIDs of which the node took anything."""
    peer, paths = Requestor(_address(port), "DEMO"), source.paths
    columns = (TextColumn("Sending"), BarColumn(), TextColumn("{task.completed:.0f} of {task.total:.0f} files"))
    began = time.monotonic()
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(paths))
        outcomes = peer.send_files(paths, lambda sent: progress.update(task, completed=sent))
    stored = {outcome.result_id for outcome in outcomes if outcome.status == 0}
    for status, count in Counter(outcome.status for outcome in outcomes if outcome.status).items():
        console.print(f"[yellow]{count} file(s) refused by the node[/] with status 0x{status:04X}", soft_wrap=True)
    if not stored:
        raise next((outcome.error for outcome in outcomes if outcome.error), PeerRefusal("peer-refused-object"))
    seconds = time.monotonic() - began
    studies = "" if len(source.studies) == 1 else f", {len(source.studies)} studies,"
    console.print(
        f"Sent    {len(stored)} of {len(paths)} files{studies} by C-STORE in {seconds:.1f} s, each sealed on disk before "
        "its 0x0000",
        soft_wrap=True,
    )
    return [uid for uid, files in source.studies.items() if any(str(path) in stored for path in files)]


def _wait(tree: Config, uids: Sequence[str], console: Console) -> dict[str, StudyRow | None]:
    """Rows of the studies when everything that the node does for them has ended.

    Raises
    ------
    NodeError
        ``timeout``.
    """
    derivation = open_key_ring(tree, Layout.of(tree), {}, create=False).derivation
    keys = {blind_key(derivation, "study", uid): uid for uid in uids}
    began = time.monotonic()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("waiting until the association is over", total=None)
        while (waited := time.monotonic() - began) < _WAIT_SECONDS * len(uids):
            found = {keys[row.study_key]: row for row in read_studies(tree, 100_000) if row.study_key in keys}
            rows = {uid: found.get(uid) for uid in uids}
            open_works = [work for row in rows.values() for work in _latest(row) if work.state not in FINAL_STATES]
            if not open_works and (waited > _SETTLED_SECONDS or all(map(_delivered, rows.values()))):
                return rows
            for work in open_works[:1]:
                progress.update(task, description=_SAID.get(work.state, work.state.value))
            time.sleep(0.2)
    raise NodeError("timeout", seconds=_WAIT_SECONDS * len(uids))


def _delivered(row: StudyRow | None) -> bool:
    """Whether results went out, which no study's do before it is settled."""
    works = _latest(row)
    return bool(works) and all(work.state is WorkState.DONE for work in works)
