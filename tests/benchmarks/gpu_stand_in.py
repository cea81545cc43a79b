"""The GPU's process over the stand-in device: for `make bench-gpu` on a machine without a GPU."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from dicomnode.inference import gpu_child
from dicomnode.inference.gpu_engine import GpuEngine
from dicomnode.inference.gpu_wire import Message
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.package import load
from dicomnode.inference.standin_device import StandInDevice, StandInNetwork


def opener(message: Message) -> GpuEngine:
    """The package's network by ONNX Runtime."""
    package = load(Path(message["folder"]))
    engine = OnnxEngine.from_package(package, threads=int(message["threads"]))
    return GpuEngine(StandInDevice(), StandInNetwork(engine, package.manifest.channels), package.manifest)


def main(descriptor: int) -> None:
    """Serve until the other side is gone."""
    with socket.socket(fileno=descriptor) as link:
        gpu_child.end_with(link)
        gpu_child.serve(link, opener)


if __name__ == "__main__":
    main(int(sys.argv[1]))
