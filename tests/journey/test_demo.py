"""The demo, really run: a node of its own, a PACS of its own, and at the end the numbers and a picture."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from pydicom import Dataset
from rich.console import Console

from dicomnode.cli import demo
from dicomnode.cli.demo_pacs import ShippedArchive
from tests import tools
from tests.journey.studies import write_study
from tests.neighbours import run, wait_for

ROOT = Path(__file__).resolve().parents[2]


def prove(text: str, folder: Path) -> None:
    """What a stranger has to see."""
    for modality in ("SEG", "SR", "OT"):
        assert re.search(rf"^  {modality} +AI ", text, re.MULTILINE), text
    stages = re.search(r"^Stages  (.*)$", text, re.MULTILINE)
    assert stages, text
    assert {"receive", "prepare", "infer", "encode", "deliver"} <= set(re.findall(r"(\w+) [\d.]+ s", stages[1]))
    assert text.count("confirmed (0x0000)") == 4, text
    assert "Volume" in text
    volumes = [float(number) for number in re.findall(r"([\d.]+) ml", text)]
    assert volumes, text
    assert min(volumes) > 0
    with Image.open(folder / "key-image.png") as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", (1280, 960), "RGB")
        assert len(set(picture.convert("L").tobytes())) > 16, "an empty page"
    assert re.search(r"^Done in \d+ s\.$", text, re.MULTILINE)


def test_the_demo_with_a_phantom_and_orthanc(tmp_path: Path) -> None:
    tools.require("Orthanc")
    command = [sys.executable, "-m", "dicomnode", "demo", "--folder", str(tmp_path)]
    environment = {**os.environ, "COLUMNS": "160", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "found by C-FIND in Orthanc" in done.stdout
    prove(done.stdout, tmp_path)
    assert "Traceback" not in done.stderr


def test_the_demo_with_a_study_of_ones_own_and_the_archive_that_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path / "study", "own")
    stream = io.StringIO()
    monkeypatch.setattr(demo, "open_pacs", lambda folder: ShippedArchive(folder / "archive"))
    demo.run_demo(tmp_path / "study", tmp_path / "demo", Console(file=stream, width=160))
    assert "found by C-FIND in the archive that ships" in stream.getvalue()
    prove(stream.getvalue(), tmp_path / "demo")


def test_every_study_of_a_folder_is_shown_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def magnetic(_: int, image: Dataset) -> None:
        image.Modality, image.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"

    write_study(tmp_path / "study" / "a", "chest", patient_id="A")
    write_study(tmp_path / "study" / "z", "head", patient_id="Z", change=magnetic)
    (tmp_path / "study" / "note.txt").write_text("no DICOM")
    stream = io.StringIO()
    monkeypatch.setattr(demo, "open_pacs", lambda folder: ShippedArchive(folder / "archive"))
    demo.run_demo(tmp_path / "study", tmp_path / "demo", Console(file=stream, width=160))
    text = stream.getvalue()
    assert "1 file(s) left out object-malformed" in text
    assert "80 of 80 files, 2 studies, by C-STORE" in text
    _, chest, head = re.split(r"^Study [12] of 2: ", text, flags=re.MULTILINE)
    assert chest.startswith("40 files, the first a/000.dcm")
    assert chest.count("confirmed (0x0000)") == 4
    assert "Volume" in chest
    assert head.startswith("40 files, the first z/000.dcm")
    assert "No result no-suitable-series" in head
    assert "Volume" not in head
    assert (tmp_path / "demo" / "key-image-study-1.png").is_file()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_demo_whose_terminal_closes_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    """Neither the PACS nor the node outlives it, and the PACS tells strangers nothing."""
    tools.require("Orthanc")
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "dicomnode", "demo", "--folder", str(folder)]
    # Not measured: a signal that ends the program within the measuring's own lock would leave it locked.
    environment = {name: value for name, value in os.environ.items() if name != "DICOMNODE_MEASURED"}
    environment["HOME"] = str(tmp_path)
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    log = folder / "node.log"
    wait_for(lambda: log.is_file() and "association.opened" in log.read_text("utf-8", "replace"), 120, what="the node")
    pacs = json.loads((folder / "orthanc" / "orthanc.json").read_text())
    stranger = run("echoscu", "-aet", "EVIL", "-aec", "ORTHANC", "127.0.0.1", str(pacs["DicomPort"]))
    assert stranger.returncode != 0
    process.send_signal(number)
    assert process.wait(120) == 128 + number
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(folder).encode() in commands(path)]
    assert left == []


def commands(path: Path) -> bytes:
    """Command line of a process; nothing where it has ended meanwhile."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
