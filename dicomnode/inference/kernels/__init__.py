"""The node's own kernels: their sources (``.cu``), the PTX made of them, and a table of what each one takes.

Pure: names, types and bytes. A device launches them (`dicomnode.inference.device`), numpy twins say what they compute
(`dicomnode.inference.twins`). ``make kernels`` writes the PTX anew; it is for compute capability 7.5, which the driver
compiles for whatever is newer, and begins with the digest of the sources that it was made of.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final, NamedTuple

#: Least compute capability that the PTX is for.
LEAST_CAPABILITY: Final = (7, 5)
_SHARED: Final = "shared.cuh"
_MARK: Final = "// dicomnode sources "


class Kernel(NamedTuple):
    """Where a kernel stands, and what it takes.

    Attributes
    ----------
    file
        Source without its ending.
    types
        One letter a parameter, as pycuda's ``prepare`` and `struct` have them: ``P`` address, ``i`` int32, ``q`` int64,
        ``f`` float32.
    """

    file: str
    types: str


_RESAMPLE: Final = "PP" + "qqqq" + "iii" + "iii" + "PP" + "iii" + "iii" + "ffff" + "i"
_FINE: Final = "iii" + "iii" + "ii" + "qqqq" + "PP"
KERNELS: Final = {
    "resample_i16": Kernel("volume", _RESAMPLE),
    "resample_f32": Kernel("volume", _RESAMPLE),
    "gather": Kernel("tiles", "PPP" + "i" + "ii" + "iii"),
    "accumulate": Kernel("tiles", "PPPPP" + "q" + "i" + "iii" + "iii" + "iii"),
    "argmax": Kernel("labels", "PP" + "i" + "qq"),
    "agree": Kernel("labels", "PP" + "i" + "qq" + "f"),
    "foreground": Kernel("labels", "PP" + "i" + "qq"),
    "labels_back": Kernel("labels", "PPP" + "iq" + _FINE),
    "shares_back": Kernel("labels", "PP" + _FINE),
}
FILES: Final = tuple(dict.fromkeys(kernel.file for kernel in KERNELS.values()))


def source(file: str) -> str:
    """Text of a source, or of what all of them include."""
    return (resources.files(__name__) / file).read_text("utf-8")


def digest(file: str) -> str:
    """SHA-256, in hex, of everything that the PTX of a source is made of."""
    parts = (source(f"{file}.cu"), source(_SHARED))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def ptx(file: str) -> bytes:
    """PTX of a source, ended by a zero byte as the driver wants it."""
    return (resources.files(__name__) / f"{file}.ptx").read_bytes() + b"\0"


def headed(file: str, text: str) -> str:
    """PTX as it is kept: the digest of its sources first."""
    return f"{_MARK}{digest(file)}\n{text}"


def digest_of_ptx(file: str) -> str:
    """Digest of the sources that the kept PTX was made of."""
    first = ptx(file).split(b"\n", 1)[0].decode()
    return first.removeprefix(_MARK)
