"""The kernels' own sources, compiled for the host by g++ and run thread by thread: a stand-in device that computes with them."""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from dicomnode.inference import kernels
from dicomnode.inference.device import Argument, Stream
from dicomnode.inference.standin_device import HostBuffer, StandInDevice
from tests.tools import require

_GRID = Path(__file__).with_name("host_grid.cpp")
_TYPES: dict[str, Any] = {"P": ctypes.c_void_p, "i": ctypes.c_int32, "q": ctypes.c_int64, "f": ctypes.c_float}


@cache
def library() -> ctypes.CDLL:
    """The kernels as a library, with every warning an error and nothing fused."""
    compiler = require("g++", setup="apt-get install g++")
    folder = Path(tempfile.mkdtemp(prefix="dicomnode-kernels-"))
    with resources.as_file(resources.files(kernels)) as sources:
        files = [str(Path(sources) / f"{file}.cu") for file in kernels.FILES]
        subprocess.run(
            [compiler, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-ffp-contract=off",
             "-fPIC", "-shared", "-x", "c++", *files, str(_GRID), "-o", str(folder / "kernels.so")],
            check=True,
        )  # fmt: skip
    found = ctypes.CDLL(str(folder / "kernels.so"))
    for name, kernel in kernels.KERNELS.items():
        getattr(found, name).argtypes = [_TYPES[letter] for letter in kernel.types]
        getattr(found, name).restype = None
    return found


class CompiledDevice(StandInDevice):
    """The stand-in, its kernels being the real sources, each launch a grid of so many blocks and threads."""

    def __init__(self, *, blocks: int = 2, threads: int = 3, memory_bytes: int = 2**34) -> None:
        super().__init__(memory_bytes)
        self._grid = blocks, threads
        self._library = library()

    def launch(self, kernel: str, count: int, arguments: Sequence[Argument], stream: Stream) -> None:
        self._require_open()
        given = [one.address if isinstance(one, HostBuffer) else one for one in arguments]
        assert len(given) == len(kernels.KERNELS[kernel].types)
        blocks, threads = self._grid
        for block in range(blocks):
            for thread in range(threads):
                self._library.place(block, blocks, thread, threads)
                getattr(self._library, kernel)(*given)
