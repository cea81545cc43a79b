"""Images that no flag calls suspicious: projections, on which markers are common, and what looks written on.

Pure, but for compressed frames, which a child process decodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.deidentification.changes import chosen
from dicomnode.deidentification.children import DecodingLimits
from dicomnode.deidentification.faint import faint_lines
from dicomnode.deidentification.frames import frames_of
from dicomnode.deidentification.inks import has_ink
from dicomnode.deidentification.kinds import MASKS, PROJECTED, PROJECTIONS, SLICES, Kind, kind_of
from dicomnode.deidentification.letters import has_letters
from dicomnode.deidentification.stored import (
    BIG_ENDIAN,
    FLOATS,
    NATIVE,
    PIXEL_DATA,
    number_of,
    syntax_of,
    word_of,
    words_of,
)
from dicomnode.deidentification.strokes import has_strokes
from dicomnode.errors import StudyError

_MOST_LABELS: Final = 1024  # a picture of more is no label map
_MOST_COMPARED: Final = 1 << 28  # bytes
_MOST_LOOKED_AT: Final = 28
_SEGMENTATION_TYPE: Final = 0x00620001


def suspicion(
    dataset: Dataset, sop_class_uid: str, limits: DecodingLimits, *, reads: bool, closely: bool = False
) -> str:
    """Why an image without any flag is read: it is a projection, on which markers are common; it shows strokes; or each is.

    Parameters
    ----------
    limits
        Of decoding.
    reads
        Whether somebody reads: else projections are judged by strokes alone.
    closely
        Whether each image is read but masks; where nobody reads, searched for faint letters.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where nothing here decodes them in time and memory, or has samples of their size: what nobody
        has seen may show text.
    """
    projected = sop_class_uid in PROJECTED or word_of(dataset, 0x00080060) in PROJECTIONS
    mask = is_mask(dataset)
    if reads and projected and not mask and kind_of(sop_class_uid) is Kind.ORDINARY:
        return "projection"
    if mask:
        return "strokes" if has_writing(_images(dataset, limits), dataset) else ""
    inverted = word_of(dataset, 0x00280004) == "MONOCHROME1"
    images = list(_images(dataset, limits))
    found = any(has_strokes(_inverted(image) if inverted else image) for image in images)
    if not found and images:
        found = _is_searched(images, ordinary=not closely and is_ordinary(dataset, sop_class_uid))
    if not found and closely and reads and PIXEL_DATA in dataset:
        return "closely"
    return "strokes" if found else ""


def _is_searched(images: list[NDArray[Any]], *, ordinary: bool) -> bool:
    """Whether letters are found that are not the brightest: those of one value; faint ones, too, but in ordinary slices."""
    if _are_inked(images):
        return True
    return not ordinary and any(next(faint_lines(images[number]), None) is not None for number in _closely(images))


def stays_written(images: NDArray[Any], dataset: Dataset) -> bool:
    """Whether frames that were read and blanked, shape (frames, rows, columns), still show letters for certain."""
    return has_writing(images, dataset) if is_mask(dataset) else _are_inked(images)


def _are_inked(images: Iterable[NDArray[Any]]) -> bool:
    return any(has_ink(image.astype(image.dtype.newbyteorder("="))) for image in images if image.dtype.itemsize == 2)


def _closely(images: list[NDArray[Any]]) -> list[int]:
    """Numbers of the frames that are looked at closely; of very many those that are spread over all."""
    if sum(image.nbytes for image in images) <= _MOST_COMPARED:
        return sorted(chosen(np.stack(images)[..., None]))
    return list(range(0, len(images), -(-len(images) // _MOST_LOOKED_AT)))


def is_ordinary(dataset: Dataset, sop_class_uid: str) -> bool:
    """Whether an image is a slice as a scanner made it, of which there are hundreds; or tissue of a slide.

    Their strokes are looked for, and letters of one value. Whatever else is searched for faint letters, too.
    """
    if kind_of(sop_class_uid) is Kind.SLIDE:
        return True
    words = words_of(dataset, 0x00080008)
    original = words[:2] == ["ORIGINAL", "PRIMARY"] and "LOCALIZER" not in words
    plain = number_of(dataset, 0x00280008, 1) <= 1 and number_of(dataset, 0x00280100, 16) == 16
    return original and plain and sop_class_uid in SLICES


def is_mask(dataset: Dataset) -> bool:
    """Whether an image has one bit a pixel, or is a segmentation."""
    return str(dataset.get("SOPClassUID")) in MASKS or number_of(dataset, 0x00280100, 16) == 1


def has_writing(images: Iterable[NDArray[Any]], dataset: Dataset) -> bool:
    """Whether a frame of a mask shows letters."""
    fractional = word_of(dataset, _SEGMENTATION_TYPE) == "FRACTIONAL"
    return any(_is_written_on(image, fractional=fractional) for image in images)


def _is_written_on(image: NDArray[Any], *, fractional: bool) -> bool:
    """Whether a mask has letters: in each of its labels by itself, in all of them, or in what of it is full and what is not empty.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where it has more labels than anybody draws.
    """
    if image.dtype == np.uint8 and image.max(initial=0) <= 1:
        return has_letters(image > 0)
    if fractional:
        return has_strokes(image) or any(map(has_letters, (image > 0, image == image.max())))
    labels = np.unique(image)
    if len(labels) > _MOST_LABELS:
        raise StudyError("withheld-pixels", because="strokes")
    return has_letters(image > 0) or any(has_letters(image == label) for label in labels if label)


def _inverted(image: NDArray[Any]) -> NDArray[Any]:
    """Stored values of MONOCHROME1, in which writing is lowest, the other way round."""
    wide = image.astype(np.float64 if image.dtype.kind == "f" else np.int64)
    return cast("NDArray[Any]", wide.max() - wide)


def _images(dataset: Dataset, limits: DecodingLimits) -> Iterator[NDArray[Any]]:
    """Samples of every frame, each as an image of its own; of slides, of some frames."""
    rows, columns = number_of(dataset, 0x00280010), number_of(dataset, 0x00280011)
    if floats := [tag for tag in FLOATS if tag in dataset]:
        value, kind = dataset.get_item(floats[0]).value, f"f{FLOATS[floats[0]]}"
    elif PIXEL_DATA in dataset:
        value, allocated = dataset.get_item(PIXEL_DATA).value, number_of(dataset, 0x00280100, 16)
        if allocated not in (1, 8, 16, 32):
            raise StudyError("withheld-pixels", because="bits")
        if allocated == 1 and syntax_of(dataset) in NATIVE and isinstance(value, bytes):
            of_words = syntax_of(dataset) == BIG_ENDIAN and dataset.get_item(PIXEL_DATA).VR == "OW"
            yield from _masks(_swapped(value) if of_words else value, rows, columns)
            return
        if syntax_of(dataset) not in NATIVE or number_of(dataset, 0x00280002, 1) != 1:
            yield from np.moveaxis(frames_of(dataset, limits).values, 3, 1).reshape(-1, rows, columns)
            return
        kind = f"{'i' if number_of(dataset, 0x00280103) == 1 else 'u'}{allocated // 8}"
    else:
        return
    size = rows * columns * int(kind[1:])
    if not size or not isinstance(value, bytes) or len(value) < size:
        return
    order = ">" if syntax_of(dataset) == BIG_ENDIAN else "<"
    frames = np.frombuffer(value[: len(value) // size * size], order + kind).reshape(-1, rows, columns)
    yield from map(_finite, frames) if floats else frames


def _swapped(value: bytes) -> bytes:
    """Bytes of big endian words in the order of their pixels (PS3.5 D.1)."""
    return np.frombuffer(value[: len(value) // 2 * 2], ">u2").astype("<u2").tobytes()


def _masks(value: bytes, rows: int, columns: int) -> Iterator[NDArray[np.uint8]]:
    """Frames of one bit a pixel, which follow one another without a gap (PS3.5 8.1.1, D.1); eight begin with a byte."""
    size = rows * columns
    for start in range(0, len(value) if size else 0, max(size, 1)):
        bits = np.unpackbits(np.frombuffer(value[start : start + size], np.uint8), bitorder="little")
        yield from bits[: len(bits) // size * size].reshape(-1, rows, columns)


def _finite(frame: NDArray[Any]) -> NDArray[Any]:
    """A frame of floats whose infinite samples are far brighter than all others, and those that are no numbers dark."""
    known = frame[np.isfinite(frame)].astype(np.float64)
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    above = high + max(high - low, 1.0)
    return np.nan_to_num(frame.astype(np.float64), nan=low, neginf=low, posinf=above)
