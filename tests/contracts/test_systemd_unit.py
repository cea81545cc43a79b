"""What the units promise, held against the code: credentials, folders, times, sandbox. Needs nothing but the files."""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from typer.main import get_command

from dicomnode.cli.main import app
from dicomnode.config import Config, default_state_folder
from dicomnode.service.foreground import REST_SECONDS
from dicomnode.service.node import DRAIN_SECONDS
from dicomnode.service.rooms import Layout
from dicomnode.storage.keys import KEY_NAMES, has_credentials, open_credentials
from tests import tools

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = REPOSITORY / "systemd"
Unit = dict[str, list[str]]

#: What the sandbox must hold, with the value of each directive.
SANDBOX = {
    "AmbientCapabilities": "",
    "CapabilityBoundingSet": "",
    "KeyringMode": "private",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateIPC": "yes",
    "PrivateTmp": "yes",
    "PrivateUsers": "yes",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "UMask": "0077",
}


def read(name: str) -> Unit:
    """Directives of a unit, in order."""
    found: Unit = defaultdict(list)
    for line in (UNITS / name).read_text("utf-8").splitlines():
        if line and not line.startswith(("#", "[")):
            key, value = line.split("=", 1)
            found[key].append(value)
    return found


def seconds(text: str) -> float:
    """A time span of systemd.time(7) with one unit."""
    match = re.fullmatch(r"(\d+)(min|h|s)?", text)
    assert match, text
    return int(match[1]) * {"h": 3600, "min": 60, "s": 1, None: 1}[match[2]]


@pytest.fixture(params=["dicomnode.service", "dicomnode@.service"])
def unit(request: pytest.FixtureRequest) -> Unit:
    return read(str(request.param))


def test_says_when_it_is_ready_and_alive(unit: Unit) -> None:
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert seconds(unit["WatchdogSec"][0]) > 0
    assert seconds(unit["TimeoutStartSec"][0]) >= 600  # the index may have to be rebuilt first


def test_has_time_to_drain(unit: Unit) -> None:
    """Open associations and running stages get DRAIN_SECONDS each; the watchdog bites neither of them."""
    assert unit["KillSignal"] == ["SIGTERM"]
    assert unit["KillMode"] == ["mixed"]  # the decoding child ends with its parent, not before
    stop = seconds(unit["TimeoutStopSec"][0])
    assert stop >= 2 * DRAIN_SECONDS + 30
    assert stop > DRAIN_SECONDS + REST_SECONDS  # what does not end ends itself
    assert seconds(unit["WatchdogSec"][0]) > stop


def test_restarts_after_a_crash_but_not_for_ever(unit: Unit) -> None:
    assert unit["Restart"] == ["on-failure"]
    times = int(unit["StartLimitBurst"][0])
    assert 5 * 60 < times * seconds(unit["RestartSec"][0]) < seconds(unit["StartLimitIntervalSec"][0])


def test_sandbox(unit: Unit) -> None:
    assert {name: unit[name] for name in SANDBOX} == {name: [value] for name, value in SANDBOX.items()}
    assert unit["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert "ReadWritePaths" not in unit  # StateDirectory is all that it may write


def test_no_library_reports_to_its_maker(unit: Unit) -> None:
    """ONNX Runtime 1.29 and newer does, unless this stands in the environment before it loads."""
    assert unit["Environment"] == ["ORT_DISABLE_TELEMETRY=1"]


def test_runs_as_the_user_that_sysusers_makes(unit: Unit) -> None:
    (line,) = [line for line in (UNITS / "dicomnode.sysusers.conf").read_text().splitlines() if line.startswith("u ")]
    user = line.split()[1]
    assert (unit["User"], unit["Group"]) == ([user], [user])
    assert "DynamicUser" not in unit


def test_credentials_are_those_that_the_node_opens(unit: Unit, tmp_path: Path) -> None:
    given = dict(line.split(":", 1) for line in unit["LoadCredential"])
    assert len(given) == len(KEY_NAMES)
    for name in given:
        (tmp_path / name).write_text(f"{os.urandom(32).hex()}\n")
        (tmp_path / name).chmod(0o400)
    assert has_credentials(tmp_path)
    open_credentials(tmp_path)
    folder = "/etc/dicomnode/keys/%i/" if "%i" in unit["ExecStart"][0] else "/etc/dicomnode/keys/"
    assert set(given.values()) == {f"{folder}{name}.key" for name in KEY_NAMES}


def test_starts_a_command_that_there_is(unit: Unit) -> None:
    program, command, option, path = unit["ExecStart"][0].split()
    assert program == "/opt/dicomnode/bin/dicomnode"
    assert command in {entry.callback.__name__ for entry in app.registered_commands if entry.callback}
    assert option == "--config"
    assert path in {"/etc/dicomnode/dicomnode.toml", "/etc/dicomnode/%i.toml"}


def test_state_is_the_folder_that_the_node_takes(unit: Unit) -> None:
    (name,), (mode,) = unit["StateDirectory"], unit["StateDirectoryMode"]
    assert mode == "0700"
    folder = f"/var/lib/{name}"
    assert default_state_folder({"STATE_DIRECTORY": folder, "HOME": "/root"}) == Path(folder)
    assert unit["WorkingDirectory"] == [folder]
    layout = Layout.of(Config.model_validate({"node": {"state": folder}}))
    assert unit["RequiresMountsFor"] == [f"{layout.spool} {layout.objects}"], "and of all above them"


def test_instance_differs_in_its_places_alone() -> None:
    one, many = read("dicomnode.service"), read("dicomnode@.service")
    assert list(one) == list(many)
    differ = {name for name in one if one[name] != many[name]}
    places = {"Description", "RequiresMountsFor", "ExecStart", "WorkingDirectory", "StateDirectory", "LoadCredential"}
    assert differ == places


def test_port_104_gives_one_capability() -> None:
    drop_in = read("port-104.conf")
    assert drop_in["CapabilityBoundingSet"] == drop_in["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]
    assert drop_in["PrivateUsers"] == ["no"]


def test_a_gpu_opens_its_devices_and_no_others() -> None:
    drop_in, unit = read("gpu.conf"), read("dicomnode.service")
    opened = {name: (unit[name], drop_in[name]) for name in drop_in if name in unit and name not in ("Wants", "After")}
    assert opened == {"PrivateDevices": (["yes"], ["no"]), "MemoryDenyWriteExecute": (["yes"], ["no"])}
    assert drop_in["DevicePolicy"] == ["closed"]
    assert all(line.startswith("char-nvidia") for line in drop_in["DeviceAllow"])


def test_command_line_of_root_runs_as_the_service_does() -> None:
    """deploy/dicomnode-as-service.sh repeats what the unit says of user, folder and keys."""
    script = (REPOSITORY / "deploy" / "dicomnode-as-service.sh").read_text("utf-8")
    unit = read("dicomnode.service")
    for name in ("User", "Group", "UMask", "Environment", "StateDirectory", "StateDirectoryMode"):
        assert f"-p {name}={unit[name][0]} " in script
    for line in unit["LoadCredential"]:
        assert f'-p "LoadCredential={line.replace("/etc/dicomnode/keys", "$keys")}"' in script


def commands() -> dict[str, bool]:
    """Every command, and whether it works on a state that is there."""
    found = {}
    for name, one in get_command(app).commands.items():  # type: ignore[attr-defined]
        found |= {f"{name} {sub}": it for sub, it in getattr(one, "commands", {}).items()} | {name: one}
    return {
        words: any("--config" in option.opts for option in command.params)
        and words not in ("serve", "send", "reidentify")
        for words, command in found.items()
    }


@pytest.mark.parametrize(("words", "on_the_state"), commands().items())
def test_every_command_of_root_on_the_state_runs_as_the_service_does(
    words: str, on_the_state: bool, tmp_path: Path
) -> None:
    """With a program in the place of systemd-run, and one that says that root calls."""
    for name, says in (
        ("systemd-run", 'printf "%s\\n" service "$@"'),
        ("id", "echo 0"),
        ("dicomnode", 'printf "%s\\n" itself "$@"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{says}\n")
        (tmp_path / name).chmod(0o755)
    script = (REPOSITORY / "deploy" / "dicomnode-as-service.sh").read_text("utf-8")
    program, keys = str(tmp_path / "dicomnode"), tmp_path / "keys"
    script = script.replace("/opt/dicomnode/bin/dicomnode", program).replace("/etc/dicomnode/keys", str(keys))

    def said() -> list[str]:
        done = subprocess.run(
            ["sh", "-c", script, "dicomnode", *words.split(), "--days", "7 d"],
            check=True, capture_output=True, text=True, timeout=60, env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        )  # fmt: skip
        return done.stdout.splitlines()

    if not on_the_state:
        assert said() == ["itself", *words.split(), "--days", "7 d"]
        return
    first, *rest = said()
    assert first == "service"
    tail = [program, *words.split(), "--config", "/etc/dicomnode/dicomnode.toml", "--days", "7 d"]
    assert rest[-len(tail) :] == tail
    keys.mkdir()
    (keys / "identity.next.key").touch()
    assert set(said()) - {first, *rest} == {f"LoadCredential=dicomnode.identity.next:{keys}/identity.next.key"}


@pytest.mark.parametrize(
    "file", ["dicomnode.service", "dicomnode@.service", "dicomnode.sysusers.conf", "dicomnode.tmpfiles.conf"]
)
def test_installer_installs_every_file(file: str) -> None:
    assert f"systemd/{file}" in (REPOSITORY / "deploy" / "install.sh").read_text("utf-8")


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    """`systemd-analyze verify`, where it is there, with a program in place of the node's."""
    program = tools.find("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze; `make prove-systemd` runs it in its container")
    for name in ("dicomnode.service", "dicomnode@.service"):
        text = (UNITS / name).read_text("utf-8").replace("/opt/dicomnode/bin/dicomnode", "/bin/true")
        (tmp_path / name).write_text(re.sub(r"file:/opt/\S+", "man:systemd(1)", text))
    paths = [str(tmp_path / name) for name in ("dicomnode.service", "dicomnode@one.service")]
    done = subprocess.run(
        [program, "verify", "--man=no", *paths], check=False, capture_output=True, text=True, timeout=60
    )
    said = [line for line in done.stderr.splitlines() if "dicomnode" in line]
    assert (done.returncode, said) == (0, [])
