"""Lines of letters in frames that are read: what no reader is asked about, or does not find. Pure.

Masks and maps are asked label by label, greys however faint, colours by their brightness and by what they are beside it:
letters may be as bright as what is behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.processing import apply_color_lut
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.deidentification.changes import chosen, looks_at_all
from dicomnode.deidentification.faint import faint_lines, is_even
from dicomnode.deidentification.frames import Frames
from dicomnode.deidentification.letters import lines_of_few
from dicomnode.deidentification.reader import Box, Picture
from dicomnode.deidentification.stored import swap_words

_COLOURED: Final = 6.0  # of 255: standard deviation from which on colours are looked at beside the brightness
_SAMPLED: Final = 3
#: Descriptors, tables and segmented tables of red, green and blue (PS3.3 C.7.6.3.1.5, C.7.6.3.1.6, C.7.9.2).
_PALETTES: Final = tuple(first + colour for first in (0x00281101, 0x00281201, 0x00281221) for colour in range(3))


def letter_boxes(frames: Frames, dataset: Dataset) -> list[Box]:
    """Columns and rows (x0, y0, x1, y1), inclusive, of lines of letters in the frames that are looked at closely."""
    values = frames.values
    shown = [values[number] for number in sorted(chosen(values))]
    if len(values) > 1:
        shown += [values.max(axis=0), values.min(axis=0)]
    if frames.photometric_interpretation == "PALETTE COLOR":
        shown = [in_colours(frame[..., 0], dataset) for frame in shown]
    return list(dict.fromkeys(box for frame in shown for plane in _planes(frame) for box in _boxes(plane)))


def tells_all(frames: Frames, dataset: Dataset) -> bool:
    """Whether letters of a thirtieth of the range would have been found in frames that were read, each of them.

    None has texture that may hide them, and no colour by itself shows any.
    """
    if not looks_at_all(len(frames.values)):
        return False
    shown = list(frames.values)
    if frames.photometric_interpretation == "PALETTE COLOR":  # two indices may have one colour
        shown += [in_colours(frame[..., 0], dataset) for frame in shown]
    return all(map(_tells_all, shown))


def _tells_all(frame: NDArray[Any]) -> bool:
    wide = frame.astype(np.float64 if frame.dtype.kind == "f" else np.int64)
    span = float(np.ptp(wide))
    first, *others = np.moveaxis(wide, 2, 0)
    planes = [wide.sum(axis=2) / wide.shape[2]]
    if any(np.ptp(first - other) for other in others):
        planes += [first, *others, *(first - other for other in others)]
    return all(is_even(one, span) for one in planes) and not any(map(_has_faintest, planes))


def _has_faintest(plane: NDArray[Any]) -> bool:
    """Whether letters are found in a plane, or in sums of four of its pixels, in which a step of one grey is no edge."""
    sums = plane[1:, 1:] + plane[:-1, 1:] + plane[1:, :-1] + plane[:-1, :-1]
    return any(next(faint_lines(one), None) is not None for one in (plane, sums))


def in_colours(flat: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Stored values of PALETTE COLOR, shape (rows, columns), as red, green and blue; pydicom takes words as little endian."""
    if dataset.original_encoding[1] is False:
        palette = Dataset({Tag(tag): dataset[tag] for tag in _PALETTES if tag in dataset})
        palette.file_meta = FileMetaDataset()
        palette.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        swap_words(palette)
        dataset = palette
    return np.asarray(apply_color_lut(flat, dataset))[..., :3]


def _boxes(plane: NDArray[Any]) -> Iterator[Box]:
    for line in lines_of_few(plane) or ():
        yield line.box
    for line in faint_lines(plane):
        yield line.box


def _planes(frame: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """A frame, shape (rows, columns, samples), as pictures of one value a pixel."""
    if frame.shape[2] == 1:
        yield frame[..., 0]
        return
    yield frame.astype(np.int32).sum(axis=2)
    yield from colours_of(frame)


def colours_of(frame: NDArray[Any]) -> list[NDArray[np.int32]]:
    """What the colours of a frame are beside its brightness: red and blue less green, where they differ."""
    red, green, blue = (frame[..., sample].astype(np.int32) for sample in range(3))
    scale = 255.0 / max(int(frame.max()), 255)
    differences = (red - green, blue - green)
    return [one for one in differences if one[::_SAMPLED, ::_SAMPLED].std() * scale > _COLOURED]


def as_picture(difference: NDArray[np.int32]) -> Picture:
    """A difference of colours as a picture that can be read."""
    low, high = int(difference.min()), int(difference.max())
    grey = ((difference - low) * (255.0 / max(high - low, 1))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
