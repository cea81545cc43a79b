"""A GPU process without a GPU, for tests: it serves the stand-in network over the stand-in device, and fails as it is told.

``python -m tests.unit.inference.gpu_program DESCRIPTOR``; the first message says how to fail, and in how many processes.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dicomnode.errors import ModelError
from dicomnode.inference import gpu_child, standin
from dicomnode.inference.gpu_engine import GpuEngine
from dicomnode.inference.standin import StandInEngine
from dicomnode.inference.standin_device import StandInDevice, StandInNetwork
from dicomnode.manifest import Manifest, Wanted


def manifest() -> Manifest:
    """The stand-in's, in several tiles and with a map: a process that imports little is there soon."""
    base = standin.package().manifest
    network = replace(base.network, tile=(16, 16, 16))
    return replace(base, network=network, results=Wanted(parametric_map=True))


class Failing(GpuEngine):
    """Fails in its own way at a third of a study."""

    def __init__(self, how: str, link: socket.socket, memory_bytes: int) -> None:
        network = StandInNetwork(StandInEngine(manifest()), manifest().channels)
        super().__init__(StandInDevice(memory_bytes), network, manifest())
        self._how, self._link = how, link

    def see(self, volume: Any, progress: Callable[[float], None]) -> Any:
        def told(share: float) -> None:
            if share > 0.3:
                fail(self._how, self._link)
            progress(share)

        return super().see(volume, told)


def fail(how: str, link: socket.socket) -> None:
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "hang":
        time.sleep(3600)
    if how == "raise":
        raise ModelError("inference-failed", cause="device-failed")
    if how == "garbage":
        link.sendall(b"\xff" * 100)
    if how == "leave":
        os._exit(0)


def main(descriptor: int) -> None:
    with socket.socket(fileno=descriptor) as link:
        gpu_child.end_with(link)

        def opener(message: dict[str, Any]) -> Failing:
            how, marker = message["how"], Path(message["marker"])
            with marker.open("a") as file:
                file.write("opened\n")
            if len(marker.read_text().splitlines()) > int(message.get("times", 99)):
                how = "good"
            if how.startswith("open-"):
                fail(how.removeprefix("open-"), link)
            return Failing(how, link, int(message.get("memory", 2**34)))

        gpu_child.serve(link, opener)


if __name__ == "__main__":
    main(int(sys.argv[1]))
