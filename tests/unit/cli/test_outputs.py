"""Where the offline twins write: nothing through a link, and one run alone into a folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicomnode.cli import outputs
from dicomnode.cli.main import app
from dicomnode.encoded import encode_part10
from dicomnode.errors import ConfigError, NodeError
from tests.unit.workflow.samples import EXPLICIT, tiny_series


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "0.dcm").write_bytes(encode_part10(tiny_series()[0], transfer_syntax_uid=EXPLICIT))
    return folder


def deidentify(source: Path, output: Path, *words: str) -> Any:
    state = source.with_name("state")
    return CliRunner().invoke(app, ["deidentify", str(source), str(output), "--state", str(state), *words])


@pytest.mark.parametrize("there", [True, False], ids=["file", "nothing"])
def test_the_list_of_what_is_withheld_is_not_written_through_a_link(tmp_path: Path, source: Path, there: bool) -> None:
    """Whoever may write beside the output could else have any file of its user's overwritten."""
    precious = tmp_path / "precious"
    if there:
        precious.write_text("precious")
    listed = tmp_path / "out.withheld.json"
    listed.symlink_to(precious)
    assert deidentify(source, tmp_path / "out").exit_code == 0
    assert (precious.read_text() if there else None) == ("precious" if precious.exists() else None)
    assert not listed.is_symlink()
    assert json.loads(listed.read_text()) == {}


def test_the_list_is_its_owners_alone_whatever_was_there(tmp_path: Path, source: Path) -> None:
    """Names of files may be a patient's."""
    listed = tmp_path / "out.withheld.json"
    listed.write_text("{}")
    listed.chmod(0o666)
    assert deidentify(source, tmp_path / "out").exit_code == 0
    assert listed.stat().st_mode & 0o777 == 0o600


def test_a_pipe_in_the_place_of_the_list_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "list.json")
    outputs.write_json(tmp_path / "list.json", {"one": "reason"})
    assert json.loads((tmp_path / "list.json").read_text()) == {"one": "reason"}


def test_a_list_that_cannot_be_put_in_place_leaves_nothing_else_behind(tmp_path: Path) -> None:
    (tmp_path / "list.json").mkdir()
    with pytest.raises(NodeError, match="output-failed"):
        outputs.write_json(tmp_path / "list.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["list.json"]


def test_a_map_is_written_where_its_user_said(tmp_path: Path, source: Path) -> None:
    """A link that the user named: to an older map, or to a device."""
    (tmp_path / "older.json").write_text("{}")
    (tmp_path / "map.json").symlink_to(tmp_path / "older.json")
    assert deidentify(source, tmp_path / "out", "--map", str(tmp_path / "map.json")).exit_code == 0
    assert list(json.loads((tmp_path / "older.json").read_text())) == ["0.dcm"]
    assert deidentify(source, tmp_path / "out2", "--map", "/dev/null").exit_code == 0
    assert not Path("/dev/null").is_file()


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, source: Path) -> None:
    """The second one's list of what was withheld took the place of the first one's, and its files that of files of the same UID."""
    (tmp_path / "link").symlink_to(tmp_path / "out")
    listed = tmp_path / "out.withheld.json"
    with outputs.new_output(tmp_path / "out"):
        listed.write_text('{"a": "reason"}')
        for output in ("out", "link"):
            result = deidentify(source, tmp_path / output)
            assert isinstance(result.exception, ConfigError)
            assert result.exception.code == "output-not-empty"
        assert json.loads(listed.read_text()) == {"a": "reason"}
    assert deidentify(source, tmp_path / "out").exit_code == 0


def test_a_folder_that_cannot_be_locked_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some shares know no locks."""
    numbers = iter((errno.ENOLCK, errno.EIO))

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(next(numbers), "no lock")

    monkeypatch.setattr(fcntl, "flock", flock)
    with outputs.new_output(tmp_path / "out"):
        pass
    with pytest.raises(ConfigError), outputs.new_output(tmp_path / "out"):
        pass
