"""The offline commands as a user meets them: exit statuses, files, and never a traceback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from dicomnode import __version__
from dicomnode.cli.main import main
from dicomnode.errors import REASONS
from tests import tools
from tests.journey.studies import write_study
from tests.neighbours import free_port

STAND_IN = '[models]\nengine = "stand-in"\n'
RESULTS = {"key-image.dcm", "key-image.png", "key-objects.dcm", "report.dcm", "segmentation.dcm"}


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`dicomnode` in this process, with a state folder and the stand-in engine; an exception fails the test."""
    (tmp_path / "stand-in.toml").write_text(STAND_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def run(command: str, *arguments: str | Path, plain: bool = False) -> Done:
        options = [] if plain else ["--state", str(tmp_path / "state"), "--config", str(tmp_path / "stand-in.toml")]
        monkeypatch.setattr(sys, "argv", ["dicomnode", command, *map(str, arguments), *options])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".dcm", ".png")}


# infer -----------------------------------------------------------------------------------------------------------


def test_the_same_files_give_the_same_bytes(run: Run, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "offline", name="Müller^Jörg", patient_id="OFF-1")
    first, second = run("infer", "study", "one"), run("infer", "study", "two")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    results = contents(tmp_path / "one")
    assert {name.split("-", 3)[3] for name in results} == RESULTS  # <key>-stand-in-<role>
    assert results == contents(tmp_path / "two")

    (study,) = json.loads((tmp_path / "one" / "_outcome.json").read_text())["studies"]
    assert sorted(study["files"]) == sorted(results)
    assert (study["model"], study["reason"]) == ("stand-in", None)
    assert study["seconds"] > 0
    volumes = {item["region"]: item["value"] for item in study["measurements"] if item["name"] == "Volume"}
    assert set(volumes) == {"Right lung", "Left lung", "Both lungs"}
    assert volumes["Both lungs"] == pytest.approx(volumes["Right lung"] + volumes["Left lung"])
    source = pydicom.dcmread(paths[0])
    for name in results:
        if name.endswith(".dcm"):
            result = pydicom.dcmread(tmp_path / "one" / name)
            assert (result.PatientName, result.PatientID) == (source.PatientName, "OFF-1")
            assert result.StudyInstanceUID == who.uid("study")


def test_a_mixed_folder_gives_a_line_for_each(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    write_study(folder / "a" / "deep" / "er", "mixed-1", patient_id="MIX-1")
    write_study(folder / "b", "mixed-2", patient_id="MIX-2")
    few, _ = write_study(tmp_path / "few", "mixed-3", patient_id="MIX-3")
    (folder / "c").mkdir()
    for path in few[:3]:
        path.rename(folder / "c" / path.name)
    (folder / "notes.xml").write_text("<a><b/></a>")
    (folder / "noise.bin").write_bytes(os.urandom(5000))
    (folder / "empty").write_bytes(b"")
    (folder / "half.dcm").write_bytes((folder / "b" / "000.dcm").read_bytes()[:700])
    (folder / "pointless").symlink_to("nowhere")

    done = run("infer", folder, tmp_path / "out")

    assert done.returncode == 1, done.stderr  # a link leads nowhere: something was not looked at
    outcome = json.loads((tmp_path / "out" / "_outcome.json").read_text())
    assert sorted(str(study["reason"]) for study in outcome["studies"]) == ["None", "None", "geometry-too-few-slices"]
    assert len(contents(tmp_path / "out")) == 10  # of each of two: SEG, SR, key image, key objects, picture
    assert set(outcome["unreadable"]) == {"notes.xml", "noise.bin", "empty", "half.dcm", "pointless"}
    assert outcome["unreadable"]["pointless"] == "path-unreadable"
    assert set(outcome["unreadable"].values()) <= set(REASONS)


@pytest.mark.parametrize("kind", ["missing", "empty", "no DICOM", "a file that is none"])
def test_a_source_without_dicom_is_one_coded_error(run: Run, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "a file that is none":
        source.write_text("hello")
    elif kind != "missing":
        source.mkdir()
    if kind == "no DICOM":
        (source / "notes.xml").write_text("<a/>")
    done = run("infer", source, tmp_path / "out")
    assert done.returncode == 2
    assert "source-" in done.stderr


def test_an_output_that_cannot_be_written_is_one_coded_error(run: Run, tmp_path: Path) -> None:
    write_study(tmp_path / "study", "unwritable")
    (tmp_path / "out").write_text("a file stands here")
    for command in ("infer", "deidentify"):
        done = run(command, "study", "out")
        assert done.returncode == 2
        assert "output-not-empty" in done.stderr


def test_a_model_that_is_not_there_is_named_so(run: Run, tmp_path: Path) -> None:
    write_study(tmp_path / "study", "model")
    done = run("infer", "study", "out", "--model", "no-such")
    assert done.returncode != 0
    assert "model-not-found" in done.stderr


# deidentify ------------------------------------------------------------------------------------------------------


def secrets(paths: list[Path]) -> set[bytes]:
    """Names, ids and UIDs of files: what must not be in their de-identified copies."""
    found: set[bytes] = set()
    for path in paths:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            for element in dataset.iterall():
                found |= _identifying(element.keyword, element.VR, str(element.value))
    return found


def _identifying(keyword: str, vr: str, text: str) -> set[bytes]:
    if vr == "UI" and len(text) > 20 and not text.startswith("1.2.840.10008."):
        return {text.encode()}
    if vr == "PN":
        return {part.encode() for part in text.replace("^", " ").split() if len(part) >= 5}
    if keyword in ("PatientID", "AccessionNumber", "PatientAddress", "PatientTelephoneNumbers") and len(text) >= 5:
        return {text.encode()}
    return set()


@pytest.mark.parametrize("policy", ["ai", "export"])
def test_a_deidentified_folder_holds_no_secret_and_comes_out_alike(run: Run, tmp_path: Path, policy: str) -> None:
    folder = tools.shared_data_set("pseudophi_mr_tcia")
    sources = sorted(path for path in folder.rglob("*") if path.is_file())
    for name in ("one", "two"):
        done = run("deidentify", folder, name, "--policy", policy, "--map", f"{name}.json")
        assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    mapping = json.loads((tmp_path / "one.json").read_text())
    withheld = json.loads((tmp_path / "one.withheld.json").read_text())
    names = {path.relative_to(folder).as_posix() for path in sources}
    assert set(mapping) | set(withheld) == names
    assert not set(mapping) & set(withheld)
    assert sorted(mapping.values()) == sorted(contents(tmp_path / "one"))
    assert len(set(mapping.values())) == len(mapping) > 0

    hidden = secrets(sources)
    assert len(hidden) > len(sources)
    for name, data in contents(tmp_path / "one").items():
        assert [secret for secret in hidden if secret in data or secret in name.encode()] == []
    copies = [pydicom.dcmread(path) for path in (tmp_path / "one").glob("*.dcm")]
    originals = [pydicom.dcmread(folder / name, stop_before_pixels=True) for name in mapping]
    assert len({copy.StudyInstanceUID for copy in copies}) == len({one.StudyInstanceUID for one in originals})
    assert len({copy.SeriesInstanceUID for copy in copies}) == len({one.SeriesInstanceUID for one in originals})
    assert {copy.PatientIdentityRemoved for copy in copies} == {"YES"}


def test_what_cannot_be_proved_clean_is_withheld_and_that_is_no_error(run: Run, tmp_path: Path) -> None:
    def burned_in(index: int, image: Dataset) -> None:
        image.ConversionType = "SD"  # paper: withheld whether text can be read or not

    write_study(tmp_path / "study" / "clean", "clean", name="Quincy^Xavier")
    paths, _ = write_study(tmp_path / "study" / "burned", "burned", change=burned_in)
    for path in paths[3:]:
        path.unlink()
    (tmp_path / "study" / "noise").write_bytes(os.urandom(400))
    done = run("deidentify", "study", "out")
    assert done.returncode == 0, done.stderr
    withheld = json.loads((tmp_path / "out.withheld.json").read_text())
    assert set(withheld) == {"burned/000.dcm", "burned/001.dcm", "burned/002.dcm", "noise"}
    assert withheld["burned/000.dcm"] == "withheld-pixels"
    assert withheld["noise"] in REASONS
    assert len(contents(tmp_path / "out")) == 40


def test_an_output_that_holds_something_is_refused(run: Run, tmp_path: Path) -> None:
    write_study(tmp_path / "study", "not-empty")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.dcm").write_bytes(b"of another run")
    done = run("deidentify", "study", "out")
    assert done.returncode == 2
    assert "output-not-empty" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["old.dcm"]


def test_an_unknown_policy_and_a_map_that_cannot_be_written_are_coded(run: Run, tmp_path: Path) -> None:
    write_study(tmp_path / "study", "policy")
    done = run("deidentify", "study", "out", "--policy", "none-at-all")
    assert done.returncode == 2
    assert "config-invalid" in done.stderr or "policy" in done.stderr
    done = run("deidentify", "study", "out-2", "--map", "no/such/folder/map.json")
    assert done.returncode == 2
    assert "map-unwritable" in done.stderr
    assert not (tmp_path / "out-2").exists()


# init, check, studies, version -----------------------------------------------------------------------------------


def test_init_writes_what_check_takes(run: Run, tmp_path: Path) -> None:
    assert run("init", "new.toml", plain=True).returncode == 0
    again = run("init", "new.toml", plain=True)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    lacking = run("init", "no/such/folder/new.toml", plain=True)
    assert lacking.returncode == 2
    path = tmp_path / "new.toml"
    path.write_text(path.read_text().replace("#port = 11112", f"port = {free_port()}", 1))
    checked = run("check", "--config", "new.toml", "--state", "state", plain=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_check_tells_every_error_at_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        '[listen]\nport = 99999\nhost = "pacs"\n[intake]\nminimum_free_bytes = -1\n[nonsense]\na = 1\n'
        '[node]\nae_title = "much too long for an AE"\n[[destinations]]\nname = "Pacs"\nae_title = "X"\nhost = "h"\n'
    )
    for command in ("check", "studies", "serve"):
        done = run(command, "--config", "bad.toml", plain=True)
        assert done.returncode == 2
        for place in ("listen.port", "intake.minimum_free_bytes", "nonsense", "node.ae_title", "destinations.0.port"):
            assert place in done.stderr, (command, done.stderr)


def test_check_notes_a_port_in_use_and_a_destination_that_is_silent(run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "silent.toml").write_text(
            f"{STAND_IN}[listen]\nport = {taken.getsockname()[1]}\n"
            '[[destinations]]\nname = "pacs"\nae_title = "P"\nhost = "127.0.0.1"\n'
            f"port = {free_port()}\ntimeout_seconds = 2\n"
        )
        done = run("check", "--config", "silent.toml", "--state", "state", plain=True)
    assert done.returncode == 0
    assert "Address already in use" in done.stdout
    assert "destination pacs" in done.stdout
    assert "peer-unreachable" in done.stdout


def test_a_port_that_is_taken_ends_serve_with_one_coded_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "dicomnode", "serve", "--port", port, "--state", str(tmp_path / "state")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "port-unavailable" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["[listen\n", "\0\1", "[listen]\nport = 'x'\n"])
def test_a_configuration_that_is_no_toml_is_one_coded_error(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.toml").write_text(text)
    assert run("check", "--config", "broken.toml", plain=True).returncode == 2
    assert run("check", "--config", "missing.toml", plain=True).returncode == 2


def test_studies_of_a_state_folder_on_which_no_node_ran_are_a_coded_error(run: Run, tmp_path: Path) -> None:
    done = run("studies", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "state-not-found" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_ledger_that_is_none_is_one_coded_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "ledger.sqlite").write_bytes(os.urandom(8192))
    done = run("studies")
    assert done.returncode == 1
    assert "ledger-failed" in done.stderr


def test_version(run: Run) -> None:
    assert run("version", plain=True).stdout.strip() == __version__
