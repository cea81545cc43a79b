"""Gates: places at which a node and its children stand still until a journey lets them go on, and a GPU process without a GPU.

A gate is a file, shut by the journey before anybody comes: who comes first renames it, and waits until it is gone. What comes
later passes. Run as a module it is the GPU process: ``python -m tests.journey.gates DESCRIPTOR``.
"""

from __future__ import annotations

import itertools
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from dicomnode.imaging.volume import Volume
from dicomnode.inference import gpu_child
from dicomnode.inference.gpu_engine import GpuEngine
from dicomnode.inference.gpu_guard import GuardedEngine
from dicomnode.inference.gpu_remote import RemoteEngine
from dicomnode.inference.segment import Seen
from dicomnode.inference.standin import StandInEngine
from dicomnode.inference.standin import package as stand_in
from dicomnode.inference.standin_device import StandInDevice, StandInNetwork

#: In the middle of the network's course: the GPU process itself stands there.
NETWORK = "network"
#: Where it is looked whether a study is to be begun.
LOOK = "look"
#: Before every so many images that are de-identified while others come, and that are read: `making 1`, `reading 1` and so on.
IMAGES = 8
#: Ends the name of a gate at which somebody stands.
HELD = ".held"
#: Nobody waits for longer; the journey finds no gate then, and says so.
_LONGEST_SECONDS = 120.0
_PAUSE_SECONDS = 0.01
_MIDDLE = 0.3


def stand_still(folder: Path, place: str) -> bool:
    """Wait at a gate, if it is shut and nobody came before; whether it was so."""
    held = folder / f"{place}{HELD}"
    try:
        (folder / place).rename(held)
    except FileNotFoundError:
        return False
    until = time.monotonic() + _LONGEST_SECONDS
    while held.exists() and time.monotonic() < until:
        time.sleep(_PAUSE_SECONDS)
    held.unlink(missing_ok=True)
    return True


# ---- in the node ----


def alter(folder: Path) -> None:
    """Gates at events, among images and before studies are looked at; the stand-in runs in a GPU process.

    Receivers may die often, and no codec is ended because nobody asks it.
    """
    from dicomnode.deidentification import frames
    from dicomnode.deidentification.children import Children
    from dicomnode.imaging import gathering
    from dicomnode.inference import choice
    from dicomnode.service import foreground, receivers
    from dicomnode.workflow.beforehand import Beforehand
    from dicomnode.workflow.completion import Completion

    engines: list[GuardedEngine] = []

    def passing(place: str) -> None:
        """A GPU process that was killed meanwhile is opened again, as it would be with the next study."""
        if stand_still(folder, place):
            for seat in (seat for engine in engines for seat in engine.seats):
                while seat.ready() is None:
                    seat.reopened()

    def make(package: Any, _threads: int) -> GuardedEngine:
        engines.append(_on_device(folder))
        return engines[-1]

    def told(emit: Callable[..., None], name: str, /, *, level: str = "info", **facts: Any) -> None:
        emit(name, level=level, **facts)
        passing(f"{name} {facts['stage']}" if name.startswith("stage.") else name)

    def among(name: str, number: int) -> None:
        if number and not number % IMAGES:
            passing(f"{name} {number // IMAGES}")

    def adding(gathering: Any, image: Any) -> None:
        among("reading", len(gathering._datasets))
        add(gathering, image)

    def making(beforehand: Any, study: Any, row: Any) -> Any:
        among("making", next(made))
        return make_early(beforehand, study, row)

    def looking(completion: Any) -> float:
        passing(LOOK)
        return look(completion)

    add, make_early, made = gathering.Gathering.add, Beforehand._make, itertools.count()
    look, serve = Completion.look, foreground._serve
    altered: Mapping[tuple[Any, str], Any] = {
        (receivers, "_FREE_DEATHS"): sys.maxsize,
        (choice, "_NAMED"): {"stand-in": choice.Kind(absence=lambda: None, make=make)},
        (foreground, "_serve"): lambda tree, environment, emit: serve(tree, environment, partial(told, emit)),
        (frames, "_children"): Children(idle_seconds=_LONGEST_SECONDS),
        (gathering.Gathering, "add"): adding,
        (Beforehand, "_make"): making,
        (Completion, "look"): looking,
    }
    for (where, name), what in altered.items():
        setattr(where, name, what)


def _on_device(folder: Path) -> GuardedEngine:
    manifest = stand_in().manifest
    command = (sys.executable, "-P", "-m", "tests.journey.gates")

    def start() -> RemoteEngine:
        return RemoteEngine(manifest, {"folder": str(folder)}, environment={}, command=command)

    cpu = StandInEngine(manifest)
    return GuardedEngine([start], cpu, manifest, tell=lambda *_: None, clock=time.monotonic)


# ---- in the GPU process ----


class _OnDevice(GpuEngine):
    """The stand-in network on the stand-in device, with a gate in its middle."""

    def __init__(self, folder: Path) -> None:
        manifest = stand_in().manifest
        super().__init__(StandInDevice(), StandInNetwork(StandInEngine(manifest), manifest.channels), manifest)
        self._folder = folder

    def see(self, volume: Volume, progress: Callable[[float], None]) -> Seen:
        def told(share: float) -> None:
            if share > _MIDDLE:
                stand_still(self._folder, NETWORK)
            progress(share)

        return super().see(volume, told)


def _main(descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as link:
        gpu_child.end_with(link)
        gpu_child.serve(link, lambda message: _OnDevice(Path(message["folder"])))


if __name__ == "__main__":
    _main(int(sys.argv[1]))
