"""The offline twins on folders of which a part cannot be looked into: told by its code, and the exit status is 1."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicomnode.cli.main import app
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import encode_part10
from dicomnode.errors import KeyStoreError, StudyError
from dicomnode.storage import audit
from tests.unit.workflow.samples import EXPLICIT, tiny_series

CODE = "path-unreadable"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose state is its own."""
    path = tmp_path / "dicomnode.toml"
    path.write_text(
        f'[node]\nstate = "{tmp_path / "state"}"\n[intake]\nminimum_free_bytes = 0\n[models]\nengine = "stand-in"\n'
    )
    return path


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study, a folder beside it that may not be listed, and a file that may not be read: root may both."""
    folder = tmp_path / "source"
    for name in ("images", "closed"):
        (folder / name).mkdir(parents=True)
    for index, image in enumerate(tiny_series()):
        (folder / "images" / f"{index:02}.dcm").write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    (folder / "closed" / "00.dcm").write_bytes((folder / "images" / "00.dcm").read_bytes())
    (folder / "mine.dcm").write_bytes((folder / "images" / "00.dcm").read_bytes())
    scan, access = os.scandir, os.access

    def scandir(path: str | Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "x", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(
        os, "access", lambda path, mode, **more: Path(path).name != "mine.dcm" and access(path, mode, **more)
    )
    return folder


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_infer_tells_what_it_did_not_look_into(config: Path, source: Path, tmp_path: Path) -> None:
    done = run("infer", source, tmp_path / "out", "--config", config)
    assert done.exit_code == 1
    assert done.output.count(CODE) == 1
    record = json.loads((tmp_path / "out" / "_outcome.json").read_text("utf-8"))
    assert record["unreadable"] == {"closed": CODE, "mine.dcm": CODE}
    assert not any(study["fault"] for study in record["studies"])
    assert any(study["files"] for study in record["studies"])


def test_deidentify_tells_what_it_did_not_look_into(config: Path, source: Path, tmp_path: Path) -> None:
    done = run("deidentify", source, tmp_path / "out", "--policy", "ai", "--config", config)
    assert done.exit_code == 1
    assert done.output.count(CODE) == 1
    assert json.loads((tmp_path / "out.withheld.json").read_text("utf-8")) == {"closed": CODE, "mine.dcm": CODE}
    assert len(list((tmp_path / "out").iterdir())) == len(list((source / "images").iterdir()))


def test_reidentify_tells_what_it_did_not_look_into(config: Path, source: Path, tmp_path: Path) -> None:
    state = tmp_path / "keys"
    run("deidentify", source / "images", tmp_path / "first", "--policy", "ai", "--config", config)
    done = run("keys", "export-public", "--config", config)
    assert done.exit_code == 0, state
    back = run("reidentify", source / "closed", tmp_path / "back", "--config", config)
    assert back.exit_code == 1
    assert back.output.count(CODE) == 1
    assert [one["event"] for one in audit.events(tmp_path / "state", "reidentify")] == ["reidentify"], (
        "by the node's own key"
    )
    assert (tmp_path / "back").stat().st_mode & 0o077 == 0, "what comes names patients"


def test_a_key_that_is_a_pipe_is_none(config: Path, source: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o400)
    back = run("reidentify", source / "images", tmp_path / "back", "--config", config, "--key", tmp_path / "pipe")
    assert isinstance(back.exception, KeyStoreError)
    assert back.exception.code == "key-wrong"


def test_a_folder_of_nothing_else_is_told_too(config: Path, source: Path, tmp_path: Path) -> None:
    done = run("deidentify", source / "closed", tmp_path / "out", "--config", config)
    assert done.exit_code == 1
    assert CODE in done.output


def test_a_folder_that_can_be_read_leaves_zero(config: Path, source: Path, tmp_path: Path) -> None:
    done = run("deidentify", source / "images", tmp_path / "out", "--policy", "ai", "--config", config)
    assert done.exit_code == 0
    assert CODE not in done.output


def test_links_that_are_not_followed_are_told(config: Path, source: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "folder").symlink_to(source / "images")
    (linked / "nothing").symlink_to(tmp_path / "nothing")
    (linked / "circle").symlink_to(linked / "circle")
    (linked / "image.dcm").symlink_to(source / "images" / "00.dcm")
    os.mkfifo(linked / "pipe")
    done = run("deidentify", linked, tmp_path / "out", "--policy", "ai", "--config", config)
    assert done.exit_code == 1
    assert json.loads((tmp_path / "out.withheld.json").read_text("utf-8")) == dict.fromkeys(
        ("folder", "nothing", "circle"), CODE
    )
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_folder_whose_name_looks_like_markup(config: Path, source: Path, tmp_path: Path) -> None:
    output = tmp_path / "a[" / "red]x"  # "[/red]" closes what nobody opened
    done = run("deidentify", source / "images", output, "--policy", "ai", "--config", config)
    assert done.exit_code == 0
    assert str(output) in done.output
    run("keys", "export-public", "--config", config)
    back = run("reidentify", source / "images", tmp_path / "b[" / "red]x", "--config", config)
    assert back.exit_code == 0
    assert str(tmp_path / "b[" / "red]x") in back.output


def test_a_file_that_memory_does_not_hold_costs_itself_alone(
    config: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == "03.dcm":
            raise MemoryError
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    done = run("deidentify", source / "images", tmp_path / "out", "--policy", "ai", "--config", config)
    assert done.exit_code == 0
    assert json.loads((tmp_path / "out.withheld.json").read_text("utf-8")) == {"03.dcm": "object-too-large"}
    assert len(list((tmp_path / "out").iterdir())) == len(list((source / "images").iterdir())) - 1
    told = run("deidentify", "--explain", source / "images" / "03.dcm", "--config", config)
    assert isinstance(told.exception, StudyError)
    assert told.exception.code == "object-too-large"


def test_what_memory_does_not_hold_while_it_is_worked_on(
    config: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deidentify(_engine: object, _data: bytes) -> None:
        raise MemoryError

    monkeypatch.setattr(FileDeidentifier, "deidentify", deidentify)
    done = run("deidentify", source / "images", tmp_path / "out", "--policy", "ai", "--config", config)
    assert done.exit_code == 0
    assert set(json.loads((tmp_path / "out.withheld.json").read_text("utf-8")).values()) == {"object-too-large"}
