"""Burned-in text: found in decoded frames, blanked on every frame, looked for again.

Pure but for the reader. Which objects are looked at is decided elsewhere (pixels).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.deidentification.barcodes import barcodes
from dicomnode.deidentification.changes import chosen
from dicomnode.deidentification.frames import Frames
from dicomnode.deidentification.reader import Box, Picture, Reader, Text, says_seed
from dicomnode.deidentification.textures import textured
from dicomnode.deidentification.values import ASCII, texts
from dicomnode.deidentification.written import as_picture, colours_of, in_colours, letter_boxes, tells_all
from dicomnode.errors import StudyError

_ROUNDS: Final = 3
_LINES: Final = 5
#: A line of text beside anatomy: how many times as long as high at least, and which part of the picture it is at most.
_LONG: Final = 2
_HIGHEST: Final = 3
_MARGIN: Final = 3
_CERTAIN: Final = 0.65  # of a detector
_PERCENTILES: Final = (1, 75, 99)
_RAREST: Final = (1, 99)
_FEW_GREYS: Final = 0.25  # of the whole range
_MOST_WINDOWS: Final = 2
_LOWEST: Final = 5  # rows and columns below which nobody can write
_SMALLEST: Final = 8  # below which nobody can read


class Blanked(NamedTuple):
    """How many boxes were blanked, and whether something is left of which nobody knows that it is no text."""

    boxes: int
    doubtful: bool


def keep_regions(frames: Frames, regions: Iterable[Box]) -> None:
    """Blank what lies outside of all regions, on every frame."""
    outside = np.ones(frames.values.shape[1:3], bool)
    for x0, y0, x1, y1 in regions:
        outside[y0 : y1 + 1, x0 : x1 + 1] = False
    _writable(frames)[:, outside] = _fill(frames)


def blank_boxes(frames: Frames, boxes: Iterable[Box]) -> None:
    """Blank rectangles as they are, on every frame."""
    values, fill = _writable(frames), _fill(frames)
    for x0, y0, x1, y1 in boxes:
        values[:, y0 : y1 + 1, x0 : x1 + 1] = fill


def has_letters(frames: Frames, dataset: Dataset) -> bool:
    """Whether lines of letters or codes are found without a reader.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where frames are too small for that, and large enough to be written on.
    """
    if _holds_none(frames):
        return False
    return bool(letter_boxes(frames, dataset)) or any(barcodes(one) for one in pictures(frames, dataset))


def blank_text(
    frames: Frames,
    dataset: Dataset,
    reader: Reader,
    seeds: frozenset[str],
    *,
    sure_alone: bool = False,
    anatomy: bool = False,
    ordinary: bool = False,
) -> Blanked:
    """Find text and blank it on every frame, until none is found.

    Parameters
    ----------
    dataset
        Gives the palette of PALETTE COLOR.
    seeds
        The header's own values.
    sure_alone
        Blank what is text for certain or says a seed, and leave doubtful boxes (speckle of ultrasound) as they are.
    anatomy
        Whether nothing but a wish to look closely says that it may show text: texture is taken for codes, and a body for a letter.
    ordinary
        Whether it is a slice as a scanner made it: noise of air, which narrow contrasts leave two values, is no code.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where text stays readable, or as `has_letters`.
    """
    if _holds_none(frames):
        return Blanked(0, doubtful=False)
    blanked = 0
    for _ in range(_ROUNDS):
        shown = pictures(frames, dataset)
        found = [text for picture in shown for text in reader.read(picture)]
        if anatomy:
            found = [text for text in found if _is_flat(text, frames)]
        boxes = [text.box for text in found if _matters(text, seeds) or (not sure_alone and _is_line(text, frames))]
        if not anatomy:
            boxes += [box for picture in shown for box in barcodes(picture, by_texture=not ordinary)]
        if ordinary and not anatomy:
            boxes += [
                box for picture in shown for box in textured(picture) if _has_two_values(frames.values[0, ..., 0], box)
            ]
        boxes += letter_boxes(frames, dataset)
        if not boxes:
            return Blanked(blanked, doubtful=bool(found) or not tells_all(frames, dataset))
        _blank(frames, boxes)
        blanked += len(boxes)
    left = [text for picture in pictures(frames, dataset) for text in reader.read(picture)]
    if any(_matters(text, seeds) and (not anatomy or _is_flat(text, frames)) for text in left):
        raise StudyError("withheld-pixels", because="text")
    return Blanked(blanked, doubtful=True)  # found each time, and not looked for in every way since


def _has_two_values(image: NDArray[Any], box: Box) -> bool:
    """Whether what looks like a code does so in its own contrast, too, in which no value is cut off but the rarest."""
    x0, y0, x1, y1 = box
    part = image[y0 : y1 + 1, x0 : x1 + 1]
    low, high = np.percentile(part, _RAREST)
    return bool(textured(_as_colour(_eight_bits(part, low, high))))


def _holds_none(frames: Frames) -> bool:
    """Whether frames are too small for any text."""
    size = min(frames.values.shape[1:3])
    if _LOWEST <= size < _SMALLEST:
        raise StudyError("withheld-pixels", because="small")
    return bool(size < _LOWEST)


def _is_line(text: Text, frames: Frames) -> bool:
    """Whether a box that could not be read is of the size of a line of text; one that says nothing at all, a certain one."""
    return bool(text.says.strip() or text.certain >= _CERTAIN) and (text.box[3] - text.box[1]) * _LINES <= int(
        frames.values.shape[1]
    )


def _is_flat(text: Text, frames: Frames) -> bool:
    """Whether a box is a line along one side of the picture, not all of it."""
    high, wide = text.box[3] - text.box[1], text.box[2] - text.box[0]
    rows, columns = frames.values.shape[1:3]
    shorter, longer = sorted((high, wide))
    long = _LONG * shorter <= longer and _HIGHEST * shorter <= (rows if high < wide else columns)
    return bool(long or high * _LINES <= rows or wide * _LINES <= columns)


def _matters(text: Text, seeds: frozenset[str]) -> bool:
    return text.is_sure or says_seed(text.says, seeds)


def pictures(frames: Frames, dataset: Dataset) -> list[Picture]:
    """What is read, each in several contrasts.

    Some frames spread over all, those that may show text of their own (`changes`), and the brightest and darkest of
    every pixel over time: thirty frames at most, whatever their number.
    """
    values = frames.values
    wanted: list[NDArray[Any]] = [values[number] for number in sorted(chosen(values))]
    if len(values) > 1:
        wanted += [values.max(axis=0), values.min(axis=0)]
    found: dict[bytes, Picture] = {}
    for frame in wanted:
        found.update((picture.tobytes(), picture) for picture in _rendered(frame, frames, dataset))
    return list(found.values())


def _rendered(frame: NDArray[Any], frames: Frames, dataset: Dataset) -> list[Picture]:
    if frames.is_colour:
        return [_eight_bits(frame, frame.min(), frame.max()), *map(as_picture, colours_of(frame))]
    flat = frame[..., 0]
    if frames.photometric_interpretation == "PALETTE COLOR":
        colours = in_colours(flat, dataset)
        shown = _eight_bits(colours, colours.min(), colours.max())
        return [shown, _as_colour(_eight_bits(flat, flat.min(), flat.max()))]  # two indices may have one colour
    ranges = [(flat.min(), flat.max()), *_windows(flat, dataset)]
    return [_as_colour(_eight_bits(flat, low, high)) for low, high in dict.fromkeys(ranges)]


def _windows(flat: NDArray[Any], dataset: Dataset) -> Iterator[tuple[float, float]]:
    """Lowest and highest stored value of other contrasts: what viewers show first, and what bright things leave dark.

    The object's own windows (PS3.3 C.11.2.1.2), and the darker pixels alone where all of them have few grey values.
    """
    low, middle, high = (float(value) for value in np.percentile(flat, _PERCENTILES))
    if low > flat.min() or high < flat.max():
        yield low, high
    if 0 < middle - low < _FEW_GREYS * (float(flat.max()) - float(flat.min())):
        yield low, middle
    slope, intercept = _numbers(dataset, 0x00281053) or [1.0], _numbers(dataset, 0x00281052) or [0.0]
    pairs = zip(_numbers(dataset, 0x00281050), _numbers(dataset, 0x00281051), strict=False)
    for centre, width in list(pairs)[:_MOST_WINDOWS]:
        if slope[0] and width >= 1:
            ends = sorted((centre + half * width - intercept[0]) / slope[0] for half in (-0.5, 0.5))
            yield ends[0], ends[1]


def _numbers(dataset: Dataset, tag: int) -> list[float]:
    """Values of a Decimal String; none where one of them is no number."""
    try:
        return [float(value) for value in texts(dataset.get_item(tag), "DS", ASCII)] if tag in dataset else []
    except ValueError:
        return []


def _eight_bits(values: NDArray[Any], low: float, high: float) -> Picture:
    span = max(float(high) - float(low), 1.0)
    scaled = (values.astype(np.float32) - float(low)) * (255.0 / span)
    picture: Picture = np.clip(scaled, 0, 255).astype(np.uint8)
    return picture


def _as_colour(picture: Picture) -> Picture:
    return np.repeat(picture[..., None], 3, axis=2)


def _blank(frames: Frames, boxes: Sequence[Box]) -> None:
    values = _writable(frames)
    for x0, y0, x1, y1 in boxes:
        margin = _MARGIN + (y1 - y0) // 6
        values[:, max(y0 - margin, 0) : y1 + margin + 1, max(x0 - margin, 0) : x1 + margin + 1] = _fill(frames)


def _writable(frames: Frames) -> NDArray[Any]:
    if not frames.values.flags.writeable:
        frames.values = frames.values.copy()
    return frames.values


def _fill(frames: Frames) -> int:
    """Stored value of black."""
    if frames.photometric_interpretation == "MONOCHROME1":
        return int(frames.values.max())
    if frames.photometric_interpretation == "MONOCHROME2":
        return int(frames.values.min())
    return 0
