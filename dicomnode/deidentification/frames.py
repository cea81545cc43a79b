"""Frames of any image as an array, and an array as native Pixel Data: for what must be looked at or blanked.

Frames are decoded in a child process, which has limits on memory and time and may die of them.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID

from dicomnode.deidentification.bits import checked_bits_of
from dicomnode.deidentification.children import Children, DecodingLimits
from dicomnode.deidentification.stored import NATIVE, RLE, syntax_of
from dicomnode.encoded import encode_part10
from dicomnode.errors import NodeError, StudyError

EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
_PIXEL_DATA: Final = 0x7FE00010
_KEYWORDS: Final = (
    "SOPClassUID", "SOPInstanceUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
)  # fmt: skip
_COLOURS: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT", "YBR_PARTIAL_420"})
#: What says nothing of the pixels, but of the machine.
_NO_VERDICT: Final = MappingProxyType({TimeoutError: "late", ChildProcessError: "ended"})
_children: Final = Children()


@dataclass(slots=True, kw_only=True)
class Frames:
    """Decoded frames.

    Attributes
    ----------
    values
        Shape (frames, rows, columns, samples); colour is RGB. Unused bits are clean (PS3.5 8.1.1).
    hid
        Whether something stood in these bits.
    """

    values: NDArray[Any]
    photometric_interpretation: str
    hid: bool = False

    @property
    def is_colour(self) -> bool:
        """Whether a pixel has three samples."""
        return bool(self.values.shape[3] == 3)

    def write(self, target: Dataset) -> None:
        """Make them the Pixel Data of a Data Set, native and little endian (PS3.5 8.1)."""
        count, rows, columns, samples = self.values.shape
        target.Rows, target.Columns, target.SamplesPerPixel = rows, columns, samples
        target.PhotometricInterpretation = self.photometric_interpretation
        if samples > 1:
            target.PlanarConfiguration = 0
        elif "PlanarConfiguration" in target:
            del target.PlanarConfiguration
        if count > 1 or "NumberOfFrames" in target:
            target.NumberOfFrames = str(count)
        allocated = target.BitsAllocated
        if allocated == 1:
            data = np.packbits(self.values.ravel().astype(bool), bitorder="little").tobytes()
        else:
            little = self.values.astype(self.values.dtype.newbyteorder("<"), copy=False)
            data = little.tobytes()
            target.BitsAllocated = self.values.dtype.itemsize * 8
        element = DataElement(
            Tag(_PIXEL_DATA), "OW" if target.BitsAllocated > 8 else "OB", data + b"\0" * (len(data) % 2)
        )
        target[_PIXEL_DATA] = element
        for keyword in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if keyword in target:
                delattr(target, keyword)


def frames_of(dataset: Dataset, limits: DecodingLimits) -> Frames:
    """Every frame of an image.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where they cannot be decoded; its fact ``because`` tells apart what no codec decodes
        (``undecodable``), what took too long (``late``) and whose process ended (``ended``): these may pass another time.
    """
    slim = Dataset()
    for keyword in _KEYWORDS:
        if keyword in dataset:
            slim[keyword] = dataset[keyword]
    slim.file_meta = FileMetaDataset()
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    slim.file_meta.TransferSyntaxUID = UID(syntax)
    try:
        data = encode_part10(slim, transfer_syntax_uid=syntax)
        name, _, array = _children.ask(data, limits).partition(b"\n")
        values = np.load(io.BytesIO(array), allow_pickle=False)
    except (OSError, ValueError, NodeError) as error:
        because = next((word for kind, word in _NO_VERDICT.items() if isinstance(error, kind)), "undecodable")
        raise StudyError("withheld-pixels", because=because) from None
    return _checked(dataset, values, name.decode("ascii", "replace"))


def _checked(dataset: Dataset, values: NDArray[Any], photometric_interpretation: str) -> Frames:
    """The child ran foreign code on foreign data: nothing that it says is believed."""
    wanted = (int(dataset.get("NumberOfFrames") or 1), dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
    colour = wanted[3] == 3
    known = photometric_interpretation == "RGB" if colour else photometric_interpretation not in _COLOURS
    if values.shape != wanted or values.dtype.kind not in "ui" or not known or len(photometric_interpretation) > 16:
        raise StudyError("withheld-pixels", because="undecodable")
    clean = _cleaned(dataset, values)
    return Frames(values=clean, photometric_interpretation=photometric_interpretation, hid=clean is not values)


def _cleaned(dataset: Dataset, values: NDArray[Any]) -> NDArray[Any]:
    """Values without unused bits. Samples of a stream stand at the low end of their words whatever High Bit says."""
    bits = checked_bits_of(dataset)
    if bits.high + 1 == bits.stored or syntax_of(dataset) in {*NATIVE, RLE}:
        return bits.cleaned(values)
    if replace(bits, high=bits.stored - 1).cleaned(values) is not values:
        raise StudyError("withheld-pixels", because="bits")
    return values


# ---- in the child ----


def decoded(data: bytes) -> bytes:
    """Photometric interpretation, a line feed, and the frames in NumPy's format."""
    from pydicom.pixels.decoders.base import get_decoder

    dataset = dcmread(io.BytesIO(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values, properties = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array(
            dataset, raw=False, correct_unused_bits=cast("Any", False)
        )
    count = int(dataset.get("NumberOfFrames") or 1)
    shape = (count, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
    stream = io.BytesIO()
    np.save(stream, values.reshape(shape), allow_pickle=False)
    return str(properties["photometric_interpretation"]).encode() + b"\n" + stream.getvalue()
