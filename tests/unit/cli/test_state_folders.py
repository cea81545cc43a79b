"""A state folder that is not there, or is none, is said so by every command; who only reads makes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pydicom import Dataset

from dicomnode.cli import main as cli
from dicomnode.config import parse
from dicomnode.encoded import encode_part10
from dicomnode.service.rooms import Layout, ledger_is_missing
from dicomnode.storage.keys import open_keys
from tests.unit.workflow.samples import EXPLICIT, tiny_series

STUDY = "a" * 64
READERS = {
    "studies": ("studies",),
    "studies --json": ("studies", "--json"),
    "verify": ("verify",),
    "retract": ("retract", STUDY, "--yes"),
    "keys list": ("keys", "list"),
    "keys rotate": ("keys", "rotate"),
    "keys destroy": ("keys", "destroy", STUDY, "--yes"),
    "keys export-public": ("keys", "export-public"),
    "reidentify": ("reidentify", "SOURCE", "OUTPUT"),
}
MAKERS = {
    "serve": ("serve", "--port", "0"),
    "infer": ("infer", "SOURCE", "OUTPUT"),
    "deidentify": ("deidentify", "SOURCE", "OUTPUT"),
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    image: Dataset = tiny_series()[0]
    (folder / "image.dcm").write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    return folder


def call(monkeypatch: pytest.MonkeyPatch, source: Path, words: tuple[str, ...], state: Path) -> int:
    """Exit status of the command line."""
    places = {"SOURCE": str(source), "OUTPUT": str(source.parent / "output")}
    arguments = ["dicomnode", *(places.get(word, word) for word in words), "--state", str(state)]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(cli, "leave", sys.exit)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@pytest.mark.parametrize("there", [False, True], ids=["no folder", "another folder"])
@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_a_state_folder_on_which_no_node_has_run_is_said_and_left_alone(
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: Path,
    words: tuple[str, ...],
    there: bool,
) -> None:
    state = source.parent / "typo"
    if there:
        state.mkdir()
    assert call(monkeypatch, source, words, state) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "state-not-found: no node has run on this state folder" in said.err
    assert "--state" in said.err
    assert state.exists() == there
    assert not there or list(state.iterdir()) == []


@pytest.mark.parametrize("words", [*READERS.values(), *MAKERS.values()], ids=[*READERS, *MAKERS])
def test_a_file_in_place_of_a_state_folder_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: Path, words: tuple[str, ...]
) -> None:
    state = source.parent / "file"
    state.write_text("mine")
    assert call(monkeypatch, source, words, state) == 2
    assert "state-unusable: the state folder is no folder" in capsys.readouterr().err
    assert state.read_text() == "mine"


def test_a_folder_that_cannot_be_looked_into_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: Path
) -> None:
    def forbidden(path: Path, **_: object) -> bool:
        raise PermissionError(13, str(path))

    monkeypatch.setattr(Path, "exists", forbidden)
    assert call(monkeypatch, source, ("studies",), source.parent / "theirs") == 2
    assert "state-unusable" in capsys.readouterr().err


def test_explaining_makes_no_state_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: Path
) -> None:
    state = source.parent / "state"
    words = ("deidentify", str(source / "image.dcm"), "--explain")
    assert call(monkeypatch, source, words, state) == 0
    assert "PatientName" in capsys.readouterr().out
    assert not state.exists()


@pytest.mark.parametrize("words", [("verify",), ("keys", "rotate")], ids=["verify", "rotate"])
def test_a_ledger_that_is_gone_is_said_and_no_other_takes_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: Path, words: tuple[str, ...]
) -> None:
    state = source.parent / "state"
    open_keys(state / "keys", create=True)
    (state / "spool" / "ab").mkdir(parents=True)
    kept = {path: path.read_bytes() for path in (state / "keys").iterdir()}
    assert call(monkeypatch, source, words, state) == 1
    assert "ledger-missing" in capsys.readouterr().err
    assert not (state / "ledger.sqlite").exists()
    assert {path: path.read_bytes() for path in (state / "keys").iterdir()} == kept


def test_a_disk_that_was_never_used_is_no_spool_whose_ledger_is_gone(source: Path) -> None:
    state = source.parent / "state"
    (state / "spool" / "lost+found").mkdir(parents=True)
    (state / "spool" / "spool.id").write_text("ab" * 16)
    layout = Layout.of(parse({"node": {"state": str(state)}}))
    assert not ledger_is_missing(layout)
    (state / "spool" / "ab").mkdir()
    assert ledger_is_missing(layout)
