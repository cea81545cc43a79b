"""Geometry that round-trips: the frames of an object, put where their positions say, are what it was made of.

May live here: proofs on decoded objects, in every form of segmentation, and of maps. Nothing is mended here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.imaging.census import slice_counts
from dicomnode.results.sources import SourceSeries, positions, read_sources

#: Tolerance of a position that went through a DS of 16 characters, mm.
_POSITION_TOLERANCE: Final = 1e-4


def prove_segmentation(segmentation: Dataset, labels: NDArray[np.uint8], sources: Sequence[Dataset]) -> None:
    """The frames of a segmentation are the label map, voxel by voxel.

    Parameters
    ----------
    labels
        uint8 (slices, rows, columns) in source order, with the values that the segmentation was made from.
    sources
        Headers in source order.

    Raises
    ------
    StudyError
        ``result-geometry-differs``.
    """
    series = read_sources(sources)
    _prove_plane(segmentation, series)
    counts = slice_counts(labels)
    values = dict(enumerate((int(value) for value in np.flatnonzero(counts.any(axis=0)) if value), start=1))
    seen = set()
    indices = _indices(segmentation, series)
    for group, index, frame in zip(_groups(segmentation), indices, _frames(segmentation), strict=True):
        for number, mask in _masks(segmentation, group, frame):
            if number not in values or (number, index) in seen:
                raise StudyError("result-geometry-differs", check="position")
            seen.add((number, index))
            if not np.array_equal(mask, labels[index] == values[number]):
                raise StudyError("result-geometry-differs", check="mask")
    if len(seen) != np.count_nonzero(counts[:, 1:]):
        raise StudyError("result-geometry-differs", check="frames")


def prove_map(parametric: Dataset, stored: NDArray[np.uint16], sources: Sequence[Dataset]) -> None:
    """The frames of a Parametric Map are the values that it was made of.

    Raises
    ------
    StudyError
        ``result-geometry-differs``.
    """
    series = read_sources(sources)
    _prove_plane(parametric, series)
    indices = _indices(parametric, series)
    size = series.shape[1] * series.shape[2]
    data = np.frombuffer(parametric.PixelData, dtype="<u2")[: len(indices) * size]
    if len(set(indices)) != len(stored) or len(data) != len(indices) * size:
        raise StudyError("result-geometry-differs", check="frames")
    frames = data.reshape(len(indices), *series.shape[1:])
    if any(not np.array_equal(frame, stored[index]) for index, frame in zip(indices, frames, strict=True)):
        raise StudyError("result-geometry-differs", check="values")


def _prove_plane(result: Dataset, series: SourceSeries) -> None:
    if (result.Rows, result.Columns) != series.shape[1:]:
        raise StudyError("result-geometry-differs", check="size")
    if not series.in_space:
        return
    shared, source = result.SharedFunctionalGroupsSequence[0], series.headers[0]
    pairs = (
        (shared.PixelMeasuresSequence[0].PixelSpacing, source.PixelSpacing),
        (shared.PlaneOrientationSequence[0].ImageOrientationPatient, source.ImageOrientationPatient),
    )
    for written, given in pairs:
        if not np.allclose(np.array(written, dtype=float), np.array(given, dtype=float), rtol=0, atol=1e-6):
            raise StudyError("result-geometry-differs", check="plane")


def _groups(result: Dataset) -> Any:
    return result.PerFrameFunctionalGroupsSequence


def _indices(result: Dataset, series: SourceSeries) -> list[int]:
    """For each frame the index, in source order, of the plane that lies where it lies."""
    groups = _groups(result)
    if not series.in_space:
        return [0] * len(groups)
    places = positions(series.headers)
    found = []
    for group in groups:
        position = np.array([float(value) for value in group.PlanePositionSequence[0].ImagePositionPatient])
        distances = np.abs(places - position).max(axis=1)
        if distances.min() > _POSITION_TOLERANCE:
            raise StudyError("result-geometry-differs", check="position")
        found.append(int(distances.argmin()))
    return found


def _masks(segmentation: Dataset, group: Dataset, frame: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Segment Numbers of a frame, with what belongs to each."""
    if segmentation.SegmentationType == "LABELMAP":
        yield from ((int(number), frame == number) for number in np.unique(frame) if number)
    elif segmentation.SegmentationType == "FRACTIONAL":
        full = segmentation.MaximumFractionalValue
        if not np.isin(frame, (0, full)).all():
            raise StudyError("result-geometry-differs", check="fractions")
        yield _number(group), frame == full
    else:
        yield _number(group), frame.astype(bool)


def _number(group: Dataset) -> int:
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _frames(segmentation: Dataset) -> Iterator[NDArray[Any]]:
    """Frames, of bytes or of bits from the least significant (PS3.5 8.1.1)."""
    rows, columns, count = segmentation.Rows, segmentation.Columns, int(segmentation.NumberOfFrames)
    size, bits = rows * columns, int(segmentation.BitsAllocated)
    data = np.frombuffer(segmentation.PixelData, dtype=np.uint8)
    needed = -(-size * count * bits // 8)
    if len(data) != needed + needed % 2 or (needed % 2 and data[-1]):
        raise StudyError("result-geometry-differs", check="length")
    for index in range(count):
        first, last = index * size, (index + 1) * size
        if bits == 8:
            yield data[first:last].reshape(rows, columns)
            continue
        unpacked = np.unpackbits(data[first // 8 : -(-last // 8)], bitorder="little")
        yield unpacked[first % 8 : first % 8 + size].reshape(rows, columns)
