"""The chart of the key image: how the voxels of each segment are distributed over Hounsfield units.

May live here: counting into coarse bins and drawing the curves. May not: measurements that a result carries (measure).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dicomnode.imaging.tally import Tally

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
Curves = dict[int, npt.NDArray[np.float64]]

#: Range and width of the bins, HU.
LOW_HU, HIGH_HU, STEP_HU = -1020, -380, 10
_SMOOTHING: Final = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9
_OVERSAMPLING: Final = 3


def distributions(tally: Tally, numbers: Sequence[int]) -> Curves:
    """Share of each segment's voxels (without padding) per bin, smoothed; segments without a voxel are left out.

    Values outside the range count towards the whole, not towards a bin.
    """
    bins = (HIGH_HU - LOW_HU) // STEP_HU
    start, stop = (min(max(edge - tally.first, 0), tally.histogram.shape[1]) for edge in (LOW_HU, HIGH_HU))
    place = (np.arange(start, stop) + (tally.first - LOW_HU)) // STEP_HU
    curves = {}
    for number in numbers:
        counts = tally.histogram[number] if number < len(tally.histogram) else np.zeros(0, np.int64)
        if counts.any():
            shares = np.bincount(place, weights=counts[start:stop], minlength=bins) / counts.sum()
            curves[number] = np.convolve(shares, _SMOOTHING, mode="same")
    return curves


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
