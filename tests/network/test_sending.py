"""`dicomnode send` to a foreign SCP that takes, warns, refuses and vanishes: a verdict on every file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from typer.testing import CliRunner, Result

from dicomnode.cli import sending
from dicomnode.cli.main import app
from dicomnode.encoded import Limits, encode_part10
from dicomnode.errors import ConfigError
from tests.network.test_requestor import EXPLICIT_LITTLE, HOST, STORAGE, destination, free_port
from tests.unit.network.samples import small_object


class Peer:
    """An SCP with an answer for each object; it remembers what came, and who called."""

    def __init__(self) -> None:
        self.answers: dict[str, int] = {}
        self.came: list[str] = []
        self.callers: set[str] = set()
        self.port = 0

    def stored(self, event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        self.came.append(uid)
        self.callers.add(str(event.assoc.requestor.ae_title))
        return self.answers.get(uid, 0x0000)


@pytest.fixture
def peer() -> Iterator[Peer]:
    """It listens."""
    made = Peer()
    with destination([(evt.EVT_C_STORE, made.stored)], STORAGE) as port:
        made.port = port
        yield made


def write(folder: Path, *numbers: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        data = encode_part10(small_object(f"1.2.3.{number}"), transfer_syntax_uid=EXPLICIT_LITTLE)
        (folder / f"{number}.dcm").write_bytes(data)


def send(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["send", *map(str, arguments)], catch_exceptions=False, env={"COLUMNS": "250"})


def verdicts(done: Result) -> dict[str, dict[str, Any]]:
    return {Path(one.pop("file")).name: one for one in json.loads(done.output)}


def test_folders_and_files_are_sent_once_each_and_counted(tmp_path: Path, peer: Peer) -> None:
    write(tmp_path / "study" / "series", 1, 2)
    write(tmp_path, 3)
    done = send(tmp_path / "3.dcm", tmp_path, "--to", f"DEST@{HOST}:{peer.port}", "--calling", "WS1")
    assert done.exit_code == 0, done.output
    assert sorted(peer.came) == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert peer.callers == {"WS1"}
    assert f"DEST@{HOST}:{peer.port}: 3 sent" in done.output


def test_every_object_has_its_own_verdict(tmp_path: Path, peer: Peer) -> None:
    write(tmp_path, 1, 2, 3, 4)
    (tmp_path / "notes.txt").write_text("no DICOM")
    peer.answers = {"1.2.3.2": 0xB000, "1.2.3.3": 0xA700, "1.2.3.4": 0xC123}
    done = send(tmp_path, "--to", f"DEST@{HOST}:{peer.port}", "--json")
    assert done.exit_code == 1
    assert verdicts(done) == {
        "1.dcm": {"verdict": "sent", "status": "0x0000", "reason": None},
        "2.dcm": {"verdict": "sent with a warning", "status": "0xB000", "reason": None},
        "3.dcm": {"verdict": "failed", "status": "0xA700", "reason": "peer-out-of-resources"},
        "4.dcm": {"verdict": "failed", "status": "0xC123", "reason": "peer-refused-object"},
        "notes.txt": {"verdict": "left out", "status": None, "reason": "object-malformed"},
    }
    text = send(tmp_path, "--to", f"DEST@{HOST}:{peer.port}").output
    assert "1 sent, 1 sent with a warning, 1 left out, 2 failed" in text
    assert "failed 0xA700 peer-out-of-resources" in text
    assert "peer-refused-object: the destination refused the object" in text


def test_nobody_there_fails_every_file_and_the_command(tmp_path: Path) -> None:
    write(tmp_path, *range(30))
    done = send(tmp_path, "--to", f"DEST@{HOST}:{free_port()}")
    assert done.exit_code == 1
    assert "30 failed" in done.output
    assert "Nothing is sent again by itself" in done.output
    assert "tries again" not in done.output
    assert "and 10 more" in done.output


def test_a_destination_of_the_configuration_has_its_own_settings(tmp_path: Path, peer: Peer) -> None:
    write(tmp_path / "study", 1)
    toml = tmp_path / "node.toml"
    toml.write_text(
        f'[node]\nae_title = "MINE"\n[[destinations]]\nname = "pacs"\nae_title = "DEST"\nhost = "{HOST}"\nport = {peer.port}\n'
    )
    assert send(tmp_path / "study", "--to", "pacs", "--config", toml).exit_code == 0
    assert peer.callers == {"MINE"}
    with pytest.raises(ConfigError, match="destination-not-found"):
        send(tmp_path / "study", "--to", "archive", "--config", toml)
    with pytest.raises(ConfigError, match="config-invalid"):
        send(tmp_path / "study", "--to", "DEST@host", "--config", toml)
    with pytest.raises(ConfigError, match="source-not-found"):
        send(tmp_path / "nothing", "--to", "pacs", "--config", toml)


def test_folders_that_cannot_be_read_have_a_verdict_and_fail_the_command(
    tmp_path: Path, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another user's folders, that may not be listed, or listed and not entered; root may both."""
    write(tmp_path / "study", 1)
    write(tmp_path / "closed", 2)
    write(tmp_path / "listed", 3)
    real, look = os.scandir, os.stat

    def scandir(path: str | Path) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "x", str(path))
        return real(path)

    def stat(path: Any, **options: Any) -> os.stat_result:
        if Path(str(path)).name == "3.dcm":
            raise PermissionError(13, "x", str(path))
        return look(path, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "stat", stat)
    done = send(tmp_path, "--to", f"DEST@{HOST}:{peer.port}", "--json")
    alone = send(tmp_path / "closed", "--to", f"DEST@{HOST}:{peer.port}")
    with pytest.raises(ConfigError, match="source-not-found"):
        send(tmp_path / "closed", tmp_path / "nothing", "--to", f"DEST@{HOST}:{peer.port}")
    monkeypatch.undo()
    assert (done.exit_code, alone.exit_code) == (1, 1)
    told = verdicts(done)
    assert {name: one["verdict"] for name, one in told.items()} == {
        "closed": "left out",
        "3.dcm": "left out",
        "1.dcm": "sent",
    }
    assert told["closed"]["reason"] == "path-unreadable"
    assert "path-unreadable" in alone.output


def test_files_go_in_associations_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1, 2, 3, 4, 5)
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "gone"]
    size = paths[0].stat().st_size
    monkeypatch.setattr(sending, "_BYTES", 2 * size)
    assert [len(chunk) for chunk in sending.chunks(paths)] == [2, 2, 2]
    monkeypatch.setattr(sending, "_FILES", 1)
    assert [len(chunk) for chunk in sending.chunks(paths)] == [1] * 6
    assert list(sending.chunks([])) == []


def test_what_is_cut_off_or_has_no_pixels_is_left_out_and_fails_the_command(tmp_path: Path, peer: Peer) -> None:
    image = small_object("1.2.3.1")
    image.Rows = image.Columns = 64
    image.PixelData = bytes(range(64)) * 64
    whole = encode_part10(image, transfer_syntax_uid=EXPLICIT_LITTLE)
    (tmp_path / "whole.dcm").write_bytes(whole)
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) - 2000])
    (tmp_path / "ends-before-pixels.dcm").write_bytes(whole[: whole.rindex(b"\xe0\x7f\x10\x00")])
    done = send(tmp_path, "--to", f"DEST@{HOST}:{peer.port}", "--json")
    assert done.exit_code == 1
    left_out = {"verdict": "left out", "status": None, "reason": "object-malformed"}
    sent = {"verdict": "sent", "status": "0x0000", "reason": None}
    assert verdicts(done) == {"cut.dcm": left_out, "ends-before-pixels.dcm": left_out, "whole.dcm": sent}
    assert peer.came == ["1.2.3.1"]


def test_a_file_that_cannot_be_opened_is_none(tmp_path: Path) -> None:
    assert sending.fault_of(tmp_path / "gone", Limits()) == "path-unreadable"
