"""What `way` is held against: the same slices by pydicom alone, and compressed frames by its own decoders in process."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
from pydicom.pixels import compress
from pydicom.uid import UID, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.imaging.decode import Decoder

EXPLICIT = UID("1.2.840.10008.1.2.1")
CODECS = {
    "RLE": RLELossless,
    "JPEG-LS": JPEGLSLossless,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG 2000": JPEG2000Lossless,
}
_GDCM = {
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
}


def plain_volume(copies: Iterable[bytes]) -> Any:
    """As a script does it: read, scale, sort along z, stack."""
    slices = []
    for copy in copies:
        image = pydicom.dcmread(io.BytesIO(copy))
        hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        slices.append((float(image.ImagePositionPatient[2]), hu.astype(np.int16)))
    return np.stack([values for _, values in sorted(slices, key=lambda one: one[0])])


def recoded(file: bytes, syntax: UID) -> bytes:
    """A file in another transfer syntax; by GDCM where pydicom has no encoder."""
    if syntax not in _GDCM:
        whole = read_part10(file, Limits())
        compress(whole, syntax, generate_instance_uid=False)
        return encode_part10(whole, transfer_syntax_uid=syntax)
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.dcm", Path(folder) / "target.dcm"
        source.write_bytes(file)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        if not reader.Read():
            raise ValueError("GDCM does not read it")
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(_GDCM[syntax]))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise ValueError("GDCM does not encode it")
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        if not writer.Write():
            raise ValueError("GDCM does not write it")
        return target.read_bytes()


def by_pydicom(files: Iterable[bytes]) -> int:
    """Stored values in process, by whichever decoder pydicom takes first; how many."""
    return sum(pydicom.dcmread(io.BytesIO(file)).pixel_array.size for file in files)


def by_child(files: Iterable[bytes]) -> int:
    """The same in one child that may be killed, its start included."""
    with Decoder(timeout_seconds=60, memory_bytes=2**31) as decoder:
        return sum(decoder.pixels(read_part10(file, Limits())).size for file in files)


def same(files: Iterable[bytes]) -> Iterator[bool]:
    """Whether both ways give the same stored values."""
    with Decoder(timeout_seconds=60, memory_bytes=2**31) as decoder:
        for file in files:
            given = pydicom.dcmread(io.BytesIO(file)).pixel_array
            yield bool(np.array_equal(given, decoder.pixels(read_part10(file, Limits()))))
