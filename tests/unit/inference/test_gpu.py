"""Whether there is a GPU is asked in a process of its own; what is not there, crashes or hangs is a word in `check`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from dicomnode.errors import ModelError
from dicomnode.inference import choice, cuda_device, gpu, gpu_probe, standin, tensorrt
from dicomnode.inference.gpu import Found, GpuSettings
from dicomnode.inference.gpu_guard import GuardedEngine
from dicomnode.inference.gpu_remote import Times
from dicomnode.inference.gpu_seat import Patience
from dicomnode.inference.package import load, shipped_models_folder
from dicomnode.inference.standin_device import FACTS

FOUND = Found(library="tensorrt", version="11.4", devices=(FACTS,), problem="")


@pytest.fixture
def settings(tmp_path: Path) -> GpuSettings:
    return GpuSettings(
        devices=("MIG-1",),
        precision="auto",
        cache=tmp_path / "engines",
        cache_key=bytes(32),
        cache_bytes=2**30,
        times=Times(opening=60),
        patience=Patience(),
    )


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "installed", lambda: "tensorrt")


def program(text: str) -> tuple[str, ...]:
    return sys.executable, "-c", text


def test_nothing_is_started_where_nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert gpu.probe(command=("/no/such/program",)) == Found(
        library="", version="", devices=(), problem="not-installed"
    )
    monkeypatch.setattr(gpu, "find_spec", lambda name: name if name != "tensorrt" else None)
    assert gpu.installed() == "tensorrt_rtx"


@pytest.mark.usefixtures("installed")
def test_what_the_process_says_is_what_was_found() -> None:
    said = json.dumps({"version": "11.4", "devices": [asdict(FACTS)], "problem": ""})
    assert gpu.probe("0", command=program(f"print({said!r})")) == FOUND
    none = json.dumps({"version": "11.4", "devices": [], "problem": ""})
    assert gpu.probe(command=program(f"print({none!r})")).problem == "no-device"


@pytest.mark.usefixtures("installed")
def test_the_process_sees_one_device_and_keeps_no_code() -> None:
    text = (
        "import json, os; print(json.dumps({'version': json.dumps(dict(os.environ)), 'devices': [], 'problem': 'x'}))"
    )
    seen = json.loads(gpu.probe("MIG-7", command=program(text)).version)
    assert seen["CUDA_VISIBLE_DEVICES"] == "MIG-7"
    assert seen["CUDA_CACHE_DISABLE"] == "1"
    assert not {"HOME", "PATH", "CREDENTIALS_DIRECTORY"} & set(seen)
    assert "CUDA_VISIBLE_DEVICES" not in gpu.environment("")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "probe-crashed"),
        ("print('no json')", "probe-crashed"),
        ("print('{}')", "probe-crashed"),
        ('print(\'{"version": 1, "problem": "", "devices": [{}]}\')', "probe-crashed"),
        ("import time; time.sleep(60)", "probe-timeout"),
    ],
)
def test_a_look_that_fails_is_a_problem_found(monkeypatch: pytest.MonkeyPatch, text: str, problem: str) -> None:
    monkeypatch.setattr(gpu, "_PROBE_SECONDS", 2.0 if problem == "probe-timeout" else 30.0)
    assert gpu.probe(command=program(text)).problem == problem


def test_the_probe_tells_devices_version_or_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "devices", lambda: (FACTS,))
    monkeypatch.setattr(tensorrt, "library", lambda name: type("Library", (), {"__version__": name}))
    assert gpu_probe.look("tensorrt") == {"version": "tensorrt", "devices": [asdict(FACTS)], "problem": ""}

    def missing() -> Any:
        raise ModelError("inference-failed", cause="pycuda-missing")

    monkeypatch.setattr(cuda_device, "devices", missing)
    assert gpu_probe.look("tensorrt") == {"version": "", "devices": [], "problem": "pycuda-missing"}


def test_a_kind_is_there_where_a_device_is(settings: GpuSettings) -> None:
    looks: list[str] = []

    def look(device: str) -> Found:
        looks.append(device)
        return FOUND if len(looks) == 1 else replace(FOUND, problem="no-device")

    kind = gpu.kind(settings, lambda model: lambda event, facts: None, look=look)
    assert kind.absence() is None
    assert kind.absence() == "no device"
    assert looks == ["MIG-1", "MIG-1"]


def test_auto_takes_the_gpu_first_and_the_cpu_serves_until_it_is_there(settings: GpuSettings) -> None:
    told: list[tuple[str, str, str]] = []

    def teller(model: str) -> Any:
        return lambda event, facts: told.append((model, event, str(facts.get("cause"))))

    kind = gpu.kind(settings, teller, look=lambda device: FOUND)
    package = load(shipped_models_folder() / "ct-lung")
    opened = choice.open_engine(package, "auto", threads=1, kinds={"tensorrt": kind, **choice.KINDS})
    engine = opened.engine
    assert isinstance(engine, GuardedEngine)
    assert opened.why == "auto"
    assert engine.info.precision == "fp32"
    assert not engine.wait_until_open(90)  # there is no such device: a real process was started, and said so
    assert told in ([("ct-lung", "failed", "pycuda-missing")], [("ct-lung", "failed", "device-failed")])
    engine.close()


def test_the_first_message_names_files_and_never_shows_its_key(settings: GpuSettings) -> None:
    package = load(shipped_models_folder() / "ct-lung")
    message = gpu.first_message(settings, package, library="tensorrt", threads=3)
    assert Path(message["folder"]).name == "ct-lung"
    assert message["key"] == "00" * 32
    assert "cache_key" not in repr(settings)
    with pytest.raises(ModelError) as caught:
        gpu.first_message(settings, standin.package(), library="tensorrt", threads=3)
    assert caught.value.facts == {"cause": "package-built-in"}


def test_every_device_gets_an_engine_and_models_share_their_turns(settings: GpuSettings) -> None:
    opened: list[tuple[str, str]] = []
    looked: list[str] = []

    def start(package: Any, first: Any, device: str) -> Any:
        opened.append((package.manifest.name, device))
        raise ModelError("inference-failed", cause="device-failed")

    def look(device: str) -> Found:
        looked.append(device)
        return replace(FOUND, problem="" if device == "7" else "no-device")

    kind = gpu.kind(
        replace(settings, devices=("3", "7")), lambda model: lambda event, facts: None, look=look, start=start
    )
    package = load(shipped_models_folder() / "ct-lung")
    assert kind.absence() is None  # one of them is there
    first, second = (kind.make(package, 1) for _ in range(2))
    assert isinstance(first, GuardedEngine)
    assert isinstance(second, GuardedEngine)
    first.wait_until_open(60)
    second.wait_until_open(60)
    assert looked == ["3", "7"]
    assert first.rooms == (FACTS.memory_bytes, FACTS.memory_bytes)
    assert sorted(opened) == [("ct-lung", "3"), ("ct-lung", "3"), ("ct-lung", "7"), ("ct-lung", "7")]
    assert first._turns is second._turns
    assert first.places == 2
    first.close()
    second.close()


def test_all_devices_are_those_that_are_found() -> None:
    found = replace(FOUND, devices=(FACTS, FACTS, FACTS))
    assert gpu.find_devices(("all",), lambda device: found) == dict.fromkeys(("0", "1", "2"), FOUND)
    nothing = Found(library="", version="", devices=(), problem="not-installed")
    assert gpu.find_devices(("all",), lambda device: nothing) == {}
    assert gpu.find_devices(("1", "2"), lambda device: nothing) == {"1": nothing, "2": nothing}


def test_where_all_are_wished_for_and_none_is_there_it_is_said_why(settings: GpuSettings) -> None:
    nothing = Found(library="", version="", devices=(), problem="not-installed")
    wished = replace(settings, devices=("all",))
    kind = gpu.kind(wished, lambda model: lambda event, facts: None, look=lambda device: nothing)
    assert kind.absence() == "not installed"
