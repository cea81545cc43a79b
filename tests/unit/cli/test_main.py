from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from dicomnode import __version__
from dicomnode.cli import main as cli
from dicomnode.config import Config, ConfigErrors
from dicomnode.errors import ConfigError, NodeError, StorageError


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit status of the command line."""
    monkeypatch.setattr(sys, "argv", ["dicomnode", *arguments])
    monkeypatch.setattr(cli, "leave", sys.exit)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


def fails_with(error: BaseException) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    return fail


def test_the_version_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ConfigErrors(("listen.port: too large", "node.x: no such setting")), 2, ["listen.port: too large", "node.x"]),
        (ConfigError("node-running"), 2, ["node-running: another node", "stop it first"]),
        (StorageError("storage-failed"), 1, ["storage-failed: the disk", "look at the disk"]),
        (NodeError("internal", stage="x"), 1, ["internal: a fault of the node (stage x)", "report it"]),
        (KeyboardInterrupt(), 130, []),
    ],
)
def test_an_error_is_a_line_with_advice_and_a_status(
    *, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Any, status: int, said: list[str]
) -> None:
    monkeypatch.setattr(cli, "app", fails_with(error))
    assert call(monkeypatch) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    for part in said:
        assert part in captured.err


def test_a_configuration_is_written_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "node.toml"
    assert call(monkeypatch, "init", str(path)) == 0
    written = path.read_text("utf-8")
    assert call(monkeypatch, "init", str(path)) == 2
    assert "exists already; it was not touched" in capsys.readouterr().err
    assert path.read_text("utf-8") == written
    assert call(monkeypatch, "init", str(tmp_path / "none" / "node.toml")) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_what_is_written_is_accepted_by_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[models]\nengine = "stand-in"\n[listen]\nport = 0\n', "utf-8")
    assert call(monkeypatch, "check", "--config", str(path), "--state", str(tmp_path / "state")) == 0
    captured = capsys.readouterr()
    assert "ok    " in captured.out
    assert "note  " in captured.out
    path.write_text('[models]\nfolder = "/nowhere"\n', "utf-8")
    assert call(monkeypatch, "check", "-c", str(path), "--state", str(tmp_path / "state")) == 2
    assert "error" in capsys.readouterr().err


def test_the_state_folder_of_an_option_goes_before_the_configured_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[node]\nstate = "/configured"\n', "utf-8")
    assert cli.read_config(path).node.state == Path("/configured")
    assert cli.read_config(path, Path("/given")).node.state == Path("/given")
    monkeypatch.setenv("STATE_DIRECTORY", "/systemd")
    assert cli.read_config(None).node.state == Path("/systemd")
    monkeypatch.chdir(tmp_path)
    assert cli.read_config(None, Path("here")).node.state == tmp_path / "here"


@pytest.mark.parametrize("command", ["check", "studies", "serve"])
def test_a_state_folder_that_no_disk_can_hold_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert call(monkeypatch, command, "--state", "x" * 300) == 2
    assert capsys.readouterr().err.startswith("error node.state: a path ")


def test_serve_lays_its_options_over_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ran: list[Config] = []
    monkeypatch.setattr("dicomnode.service.foreground.run", lambda tree, environment: ran.append(tree) or 0)
    options = ["--port", "4711", "--quiet-seconds", "3", "--deliver-to", "ORTHANC@127.0.0.1:4242"]
    assert call(monkeypatch, "serve", "--state", str(tmp_path), *options) == 0
    (tree,) = ran
    assert (tree.listen.port, tree.completion.quiet_seconds, tree.node.state) == (4711, 3.0, tmp_path)
    (destination,) = tree.destinations
    assert (destination.name, destination.ae_title, destination.host, destination.port) == (
        "orthanc",
        "ORTHANC",
        "127.0.0.1",
        4242,
    )


def test_no_option_changes_nothing(tmp_path: Path) -> None:
    tree = cli.read_config(None, tmp_path)
    assert cli.with_options(tree, None, None, []) == tree


def test_destinations_of_options_join_the_configured_ones_under_names_of_their_own() -> None:
    tree = Config.model_validate({"destinations": [{"name": "pacs", "ae_title": "A", "host": "h", "port": 1}]})
    found = cli.with_options(tree, None, None, ["PACS@h:2", "PACS@[::1]:3", "1_2@h:4", "CT 1@h:5"]).destinations
    assert [one.name for one in found] == ["pacs", "pacs-2", "pacs-3", "destination", "ct"]
    assert found[2].host == "::1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PACS",
        "PACS@host",
        "@host:1",
        "PACS@:1",
        "PACS@host:",
        "PACS@host:x",
        "host:1",
        "A@h:²",
        "A@h:٣",
        "A@h:-1",
        "A@h:" + "9" * 5000,
    ],
)
def test_a_destination_that_is_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        cli.with_options(Config(), None, None, [text])
    assert "write it AE@HOST:PORT" in caught.value.problems[0]


@pytest.mark.parametrize("title", ["LONG_AE_TITLE_16", "A", "1", "PACS-2"])
def test_any_number_of_destinations_of_one_title_get_names_that_are_valid_and_differ(title: str) -> None:
    tree = Config.model_validate({"destinations": [{"name": "pacs-3", "ae_title": "A", "host": "h", "port": 1}]})
    found = cli.with_options(tree, None, None, [f"{title}@h:{port}" for port in range(1, 120)]).destinations
    assert len({one.name for one in found}) == 120


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 1e12])
def test_a_quiet_time_without_end_is_refused(seconds: float) -> None:
    with pytest.raises(ConfigErrors) as caught:
        cli.with_options(Config(), None, seconds, [])
    assert caught.value.problems[0].startswith("completion.quiet_seconds: ")


def _deep(text: str) -> None:
    raise ValueError(text)


def test_what_nobody_foresaw_is_one_coded_line_with_its_place_and_without_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda: cli.read_config(Path("Mueller^Juergen")))
    monkeypatch.setattr(cli.config, "load", lambda path: _deep(str(path)))
    assert call(monkeypatch) == 70
    captured = capsys.readouterr()
    assert captured.out == ""
    first, advice = captured.err.splitlines()
    assert first.startswith("error internal: a fault of the node (ValueError at ")
    assert "main.py:" in first
    assert "report it with the log" in advice
    assert "Mueller" not in captured.err
    assert "Traceback" not in captured.err


def test_a_destination_must_also_be_valid() -> None:
    with pytest.raises(ConfigErrors) as caught:
        cli.with_options(Config(), None, None, ["PACS@host:70000"])
    assert caught.value.problems[0].startswith("destinations.0.port")


@pytest.mark.parametrize(("sound", "status"), [(True, 0), (False, 1)])
def test_infer_says_by_its_exit_status_whether_the_node_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, sound: bool, status: int
) -> None:
    monkeypatch.setattr("dicomnode.cli.offline.infer_folder", lambda *_, **__: sound)
    assert call(monkeypatch, "infer", "in", "out", "--state", str(tmp_path)) == status


def test_commands_hand_over_what_they_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def remember(name: str) -> Any:
        return lambda *arguments, **options: calls.append((name, arguments[1:], options)) is None

    monkeypatch.setattr("dicomnode.cli.offline.infer_folder", remember("infer"))
    monkeypatch.setattr("dicomnode.cli.offline.deidentify_folder", remember("deidentify"))
    monkeypatch.setattr("dicomnode.cli.listing.list_studies", remember("studies"))
    monkeypatch.setattr("dicomnode.cli.demo.run_demo", remember("demo"))
    state = ["--state", str(tmp_path)]
    assert call(monkeypatch, "infer", "in", "out", "--model", "ct-lung", *state) == 0
    assert call(monkeypatch, "deidentify", "in", "out", "--policy", "ai", "--map", "m.json", *state) == 0
    assert call(monkeypatch, "studies", "--json", "--limit", "3", *state) == 0
    assert call(monkeypatch, "demo", "--folder", str(tmp_path)) == 0
    (infer, deidentify, studies, demo) = calls
    assert infer[1] == (Path("in"), Path("out"))
    assert infer[2]["model"] == "ct-lung"
    assert (deidentify[2]["policy"], deidentify[2]["map_file"]) == ("ai", Path("m.json"))
    assert (studies[2]["as_json"], studies[2]["limit"]) == (True, 3)
    assert demo[1][0] == tmp_path
