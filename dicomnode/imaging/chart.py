"""The chart of the key image: how the voxels of each segment are distributed over Hounsfield units.

May live here: counting into coarse bins and drawing the curves. May not: measurements that a result carries (measure).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dicomnode.imaging.census import Box as PlaneBox
from dicomnode.imaging.volume import Volume

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
Curves = dict[int, npt.NDArray[np.float64]]

#: Range and width of the bins, HU.
LOW_HU, HIGH_HU, STEP_HU = -1020, -380, 10
_SMOOTHING: Final = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9
_OVERSAMPLING: Final = 3


def distributions(
    volume: Volume, labels: npt.NDArray[np.uint8], numbers: Sequence[int], boxes: Sequence[PlaneBox] | None = None
) -> Curves:
    """Share of each segment's voxels (without padding) per bin, smoothed; segments without a voxel are left out.

    Values outside the range count towards the whole, not towards a bin.

    Parameters
    ----------
    boxes
        For each slice the rows and columns that hold its labels; None: all.
    """
    bins = (HIGH_HU - LOW_HU) // STEP_HU
    size = max([int(labels.max(initial=0)), *numbers]) + 1
    counts = np.zeros((size, bins + 2), np.int64)
    for index, plane in enumerate(labels):
        box = (slice(None), slice(None)) if boxes is None else boxes[index]
        inside = plane[box] > 0
        if volume.padding is not None:
            inside &= ~volume.padding[index][box]
        value = volume.values[index][box][inside]
        if value.dtype != np.int16:
            value = value.astype(np.int32)
        place = np.clip(value, LOW_HU - STEP_HU, HIGH_HU).astype(np.int16)
        place -= LOW_HU - STEP_HU
        place //= STEP_HU
        place += plane[box][inside] * np.int16(bins + 2)
        counts += np.bincount(place, minlength=counts.size).reshape(counts.shape)
    return {
        number: np.convolve(counts[number, 1:-1] / counts[number].sum(), _SMOOTHING, mode="same")
        for number in numbers
        if counts[number].any()
    }


def curves_picture(
    curves: Curves, size: tuple[int, int], colours: Mapping[int, Colour], *, threshold: float | None, background: Colour
) -> Image.Image:
    """Curves over a transparent tint each, the part below a threshold tinted more; drawn large and scaled down."""
    width, height = (side * _OVERSAMPLING for side in size)
    image = Image.new("RGB", (width, height), background)
    draw = ImageDraw.Draw(image, "RGBA")
    top = max(float(curve.max()) for curve in curves.values()) or 1.0
    for number, curve in curves.items():
        colour = colours.get(number, (255, 255, 255))
        x = (np.arange(len(curve)) + 0.5) / len(curve) * (width - 1)
        y = height - 1 - curve / top * (height - 4 * _OVERSAMPLING)
        points = list(zip(x.tolist(), y.tolist(), strict=True))
        edge = -1.0 if threshold is None else position(threshold) * (width - 1)
        low = [point for point in points if point[0] <= edge]
        for part, alpha in ((points, 30), (low, 90))[: 2 if len(low) > 1 else 1]:
            draw.polygon([(part[0][0], height), *part, (part[-1][0], height)], fill=(*colour, alpha))
        draw.line(points, fill=(*colour, 255), width=2 * _OVERSAMPLING, joint="curve")
    return image.resize(size, Image.Resampling.LANCZOS)


def position(hounsfield: float) -> float:
    """Place of a value along the chart, 0 to 1."""
    return (hounsfield - LOW_HU) / (HIGH_HU - LOW_HU)


def draw_frame(draw: Any, box: Box, colour: Colour, *, ticks: Sequence[int]) -> list[tuple[float, int]]:
    """Base line and ticks of a chart; gives the ticks' columns and values for their labels."""
    left, _, right, bottom = box
    draw.line((left, bottom, right, bottom), fill=colour)
    places = [(left + position(tick) * (right - left), tick) for tick in ticks]
    for x, _ in places:
        draw.line((x, bottom, x, bottom + 4), fill=colour)
    return places
