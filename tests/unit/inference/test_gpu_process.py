"""A GPU process that crashes, hangs, lies or leaves costs its own life: the study is asked once more, then the CPU does it."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.volume import Volume
from dicomnode.inference import gpu_wire, segment
from dicomnode.inference.engine import EngineInfo
from dicomnode.inference.gpu_guard import GuardedEngine
from dicomnode.inference.gpu_remote import RemoteEngine, Times
from dicomnode.inference.gpu_wire import Ended, Shared, receive, send
from dicomnode.inference.standin import StandInEngine
from tests.descriptors import descriptors
from tests.unit.inference.chests import chest, geometry
from tests.unit.inference.gpu_program import manifest

COMMAND = (sys.executable, "-m", "tests.unit.inference.gpu_program")
MANIFEST = manifest()
VOLUME = chest(geometry((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), spacing=(6.0, 3.0, 4.0)))
SOON = Times(opening=60, silence=3, study=30)


def expected() -> segment.Seen:
    return segment.compute(VOLUME, MANIFEST, StandInEngine(MANIFEST), lambda _: None)


def cause(error: pytest.ExceptionInfo[ModelError]) -> Any:
    return error.value.facts["cause"]


class Starter:
    """Starts processes that fail as told, and remembers them."""

    def __init__(self, folder: Path, how: str = "good", **more: Any) -> None:
        self.first = {"how": how, "marker": str(folder / "marker"), **more}
        self.remotes: list[RemoteEngine] = []
        self.times = SOON

    def __call__(self) -> RemoteEngine:
        remote = RemoteEngine(MANIFEST, self.first, environment={}, times=self.times, command=COMMAND)
        self.remotes.append(remote)
        return remote


@pytest.fixture
def starter(tmp_path: Path) -> Any:
    made: list[Starter] = []

    def make(how: str = "good", **more: Any) -> Starter:
        made.append(Starter(tmp_path, how, **more))
        return made[-1]

    yield make
    for remote in (remote for one in made for remote in one.remotes):
        remote.close()


def test_a_process_computes_what_the_cpu_computes(starter: Any) -> None:
    remote = starter()()
    shares: list[float] = []
    for volume in (
        VOLUME,
        Volume(values=VOLUME.values.astype(np.float32), geometry=VOLUME.geometry, padding=None, sop_instance_uids=()),
    ):
        seen = remote.see(volume, shares.append)
        want = expected()
        assert np.array_equal(seen.labels, want.labels)
        assert seen.probability is not None
        assert want.probability is not None
        assert np.abs(seen.probability.astype(int) - want.probability).max() <= 1
        assert seen.engine == remote.info
    assert len(shares) > 6
    batch = np.random.default_rng(1).normal(size=(3, 1, 16, 16, 16)).astype(np.float32)
    assert np.array_equal(remote.run(batch), StandInEngine(MANIFEST).run(batch))
    assert remote.alive
    remote.rest()
    remote.close()
    remote.close()
    assert not remote.alive
    with pytest.raises(ModelError) as caught:
        remote.run(batch)
    assert cause(caught) == "gpu-process-ended"


def test_nothing_stays_open(starter: Any) -> None:
    remote = starter()()
    remote.see(VOLUME, lambda _: None)
    before = descriptors()
    for _ in range(3):
        remote.see(VOLUME, lambda _: None)
    assert descriptors() <= before


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("crash", "gpu-process-ended"),
        ("hang", "gpu-process-ended"),
        ("garbage", "gpu-process-ended"),
        ("leave", "gpu-process-ended"),
        ("raise", "device-failed"),
    ],
)
def test_whatever_a_process_does_is_one_coded_error(starter: Any, how: str, told: str) -> None:
    remote = starter(how)()
    remote._times = Times(opening=60, silence=1.5, study=30)
    begun = time.monotonic()
    with pytest.raises(ModelError) as caught:
        remote.see(VOLUME, lambda _: None)
    assert (caught.value.code, cause(caught)) == ("inference-failed", told)
    assert time.monotonic() - begun < 20
    assert remote.alive == (how == "raise")


def test_a_study_that_takes_too_long_in_all_is_ended(starter: Any) -> None:
    remote = starter("hang")()
    remote._times = Times(opening=60, silence=60, study=1.5)
    with pytest.raises(ModelError):
        remote.see(VOLUME, lambda _: None)
    assert not remote.alive


@pytest.mark.parametrize("how", ["open-crash", "open-garbage", "open-hang", "open-leave"])
def test_a_process_that_does_not_open_is_ended(starter: Any, how: str) -> None:
    start = starter(how)
    start.times = Times(opening=4)
    with pytest.raises(ModelError) as caught:
        start()
    assert cause(caught) == "gpu-process-ended"


def test_why_a_process_cannot_open_is_told(starter: Any) -> None:
    with pytest.raises(ModelError) as caught:
        starter("open-raise")()
    assert cause(caught) == "device-failed"


def test_labels_that_the_model_does_not_have_are_not_believed(starter: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = starter()()
    real = remote._ask

    def lying(question: Any, shared: Shared, progress: Any) -> Any:
        info = real(question, shared, progress)
        shared.arrays[1][0, 0, 0] = 200
        return info

    monkeypatch.setattr(remote, "_ask", lying)
    with pytest.raises(ModelError) as caught:
        remote.see(VOLUME, lambda _: None)
    assert cause(caught) == "output-labels"
    assert not remote.alive


def test_a_process_ends_with_its_node(tmp_path: Path) -> None:
    """Also where it is at something that never ends: here, opening its engine."""
    ours, theirs = socket.socketpair()
    marker, root = tmp_path / "marker", str(Path(__file__).resolve().parents[3])
    process = subprocess.Popen(
        [*COMMAND, str(theirs.fileno())], pass_fds=[theirs.fileno()], env={"PYTHONPATH": root}, cwd="/"
    )
    theirs.close()
    send(ours, {"how": "open-hang", "marker": str(marker)})
    end = time.monotonic() + 60
    while not marker.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    ours.close()
    assert process.wait(30) == 1


# ---- with a guard ----


def test_a_process_that_crashes_is_followed_by_another(starter: Any) -> None:
    """The whole of it, with real processes; what else a guard does is proved with scripted ones."""
    start, told = starter("crash", times=1), []
    cpu = StandInEngine(MANIFEST)
    guarded = GuardedEngine([start], cpu, MANIFEST, tell=lambda event, _: told.append(event), clock=time.monotonic)
    assert guarded.wait_until_open(60)
    seen = segment.look(VOLUME, MANIFEST, guarded)
    assert np.array_equal(seen.labels, expected().labels)
    assert seen.engine.note == ""
    assert told == ["ready", "failed", "ready"]
    assert [remote.alive for remote in start.remotes] == [False, True]
    guarded.close()
    assert [remote.alive for remote in start.remotes] == [False, False]


# ---- the wire ----


@pytest.fixture
def link() -> Any:
    ours, theirs = socket.socketpair()
    for one in (ours, theirs):
        one.settimeout(5)
    with ours, theirs:
        yield ours, theirs


def test_messages_and_arrays_cross(link: Any) -> None:
    ours, theirs = link
    shared = Shared([("int16", (2, 3, 4)), ("uint8", (5,))])
    shared.arrays[0][:] = 7
    send(ours, {"layout": shared.layout, "long": "x" * 30_000}, shared.descriptor)
    message, descriptor = receive(theirs)
    assert len(message["long"]) == 30_000
    other = Shared(message["layout"], descriptor)
    assert (other.arrays[0] == 7).all()
    other.arrays[1][:] = 9
    assert (shared.arrays[1] == 9).all()
    shared.close()
    other.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05\x00",
        struct.pack("<I", 10**9) + b"{}",
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 3) + b"\xff\xfe{",
        struct.pack("<I", 60_000) + b"[" * 60_000,
    ],
)
def test_garbage_is_the_end(link: Any, data: bytes) -> None:
    ours, theirs = link
    ours.sendall(data)
    ours.close()
    with pytest.raises(Ended):
        receive(theirs)


def test_a_descriptor_of_a_refused_message_is_closed(link: Any) -> None:
    ours, theirs = link
    before = descriptors()
    with Path("/dev/null").open("rb") as file:
        socket.send_fds(ours, [struct.pack("<I", 2) + b"[]"], [file.fileno()])
    with pytest.raises(Ended):
        receive(theirs)
    assert descriptors() <= before


def test_who_is_gone_cannot_be_told(link: Any) -> None:
    ours, theirs = link
    theirs.close()
    with pytest.raises(Ended):
        send(ours, {})


@pytest.mark.parametrize(
    "layout",
    [
        [("int16", (2, 3, 5000))],
        [("object", (2,))],
        [("int16", ())],
        [("int16", (0,))],
        [("int16", ("2",))],
        [("float32", (1, 1, 1, 1, 1, 1))],
        [],
    ],
)
def test_memory_that_is_not_as_said_is_refused(layout: Any) -> None:
    memory = os.memfd_create("test")
    os.ftruncate(memory, 4096)
    with pytest.raises(Ended):
        Shared(layout, memory)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(memory)


def test_geometry_and_description_cross_without_who_they_are_of() -> None:
    grid = VOLUME.geometry
    found = gpu_wire.geometry_of(gpu_wire.geometry_message(grid))
    assert isinstance(found, VolumeGeometry)
    assert np.array_equal(found.affine(), grid.affine())
    assert found.frame_of_reference_uid == ""
    info = EngineInfo(name="a", precision="fp16", version="1")
    assert gpu_wire.info_of(gpu_wire.info_message(info)) == info
    with pytest.raises(Ended):
        gpu_wire.info_of({"name": "a"})
