"""What a screenshot of a viewport shows: images, colours and lines, found by their pixels. Pure.

May live here: measures of pictures against what ought to be drawn, each with no opinion on how much is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tests.viewer.browser import Picture

Mask = NDArray[np.bool_]
#: A pixel whose channels differ by more than this has a colour: images of CT have none.
_COLOUR: Final = 25
#: How far apart two hues may be and still be the same, degrees.
_SAME_HUE: Final = 12.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Where an image lies in a viewport that shows the whole of it, in its middle, as large as it can be.

    Attributes
    ----------
    scale
        Screen pixels for each image pixel.
    left, top
        Of the image, screen pixels.
    """

    rows: int
    columns: int
    scale: float
    left: float
    top: float

    @classmethod
    def of(cls, picture: Picture, rows: int, columns: int) -> Fit:
        """Fit of an image of square pixels."""
        height, width = picture.shape[:2]
        scale = min(height / rows, width / columns)
        return cls(
            rows=rows,
            columns=columns,
            scale=scale,
            left=(width - columns * scale) / 2,
            top=(height - rows * scale) / 2,
        )

    def to_screen(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Screen coordinates of image-relative ones, (x, y) of a top left corner each."""
        return points * self.scale + (self.left, self.top)

    def enlarge(self, image: NDArray[Any], picture: Picture) -> tuple[NDArray[Any], Mask]:
        """An image as the screen would show it, pixel by pixel, and where on the screen it is."""
        height, width = picture.shape[:2]
        rows = np.floor((np.arange(height) + 0.5 - self.top) / self.scale).astype(int)
        columns = np.floor((np.arange(width) + 0.5 - self.left) / self.scale).astype(int)
        there = ((rows >= 0) & (rows < self.rows))[:, None] & ((columns >= 0) & (columns < self.columns))[None]
        shown = image[np.clip(rows, 0, self.rows - 1)[:, None], np.clip(columns, 0, self.columns - 1)[None]]
        return shown, there


def lit(picture: Picture) -> float:
    """Share of the picture that is not black."""
    return float((picture.max(axis=2) > 30).mean())


def coloured(picture: Picture) -> Mask:
    """Pixels that have a colour."""
    return np.asarray(np.ptp(picture.astype(int), axis=2) > _COLOUR)


def of_hue(picture: Picture, colour: tuple[int, int, int]) -> Mask:
    """Pixels that have the hue of a colour, laid over any grey as thinly as may be."""
    difference = np.abs(_hue(picture) - _hue(np.array(colour, np.uint8)[None, None]))
    return coloured(picture) & (np.minimum(difference, 360 - difference) < _SAME_HUE)


def _hue(picture: Picture) -> NDArray[np.float64]:
    """Hue of each pixel, degrees."""
    red, green, blue = np.moveaxis(picture.astype(float), 2, 0)
    return np.asarray(np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)) % 360)


def likeness(picture: Picture, image: NDArray[Any], fit: Fit) -> float:
    """Correlation of what a viewport shows with an image, grey or colour, over the image's place."""
    wanted, there = fit.enlarge(image, picture)
    shown = picture.astype(float)[there]
    given = wanted.astype(float)[there]
    if given.ndim == 1:
        plain = ~coloured(picture)[there]
        shown, given = shown.mean(axis=1)[plain], given[plain]
    return float(np.corrcoef(shown.ravel(), given.ravel())[0, 1])


def covered(picture: Picture, mask: Mask, colour: tuple[int, int, int], fit: Fit) -> tuple[float, float]:
    """Shares of the mask's inside that have a colour's hue, and of its outside that have it too.

    The mask's own edge, a pixel and a half to either side, is left out: there the outline is drawn.
    """
    inside, _ = fit.enlarge(ndimage.binary_erosion(mask, iterations=2), picture)
    near, there = fit.enlarge(ndimage.binary_dilation(mask, iterations=2), picture)
    hue = of_hue(picture, colour)
    return float(hue[inside & there].mean()), float(hue[~near & there].mean())


def place_of(
    picture: Picture, planes: NDArray[np.bool_], colour: tuple[int, int, int], fit: Fit
) -> tuple[tuple[int, int, int], float]:
    """Which of some masks a colour covers best, and moved by how many image pixels: (mask, down, right), and Dice."""
    seen = of_hue(picture, colour)
    total, best = int(seen.sum()), ((-1, 0, 0), 0.0)
    for index, plane in enumerate(planes):
        for down, right in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)):
            wanted, there = fit.enlarge(np.roll(plane, (down, right), (0, 1)), picture)
            wanted = wanted & there
            dice = 2 * int((seen & wanted).sum()) / max(total + int(wanted.sum()), 1)
            if dice > best[1]:
                best = (index, down, right), dice
    return best


def line_pixels(picture: Picture) -> Mask:
    """Pixels of annotations, which OHIF draws in pure yellow or, where they are chosen, in pure green."""
    _, green, blue = np.moveaxis(picture.astype(int), 2, 0)
    return np.asarray((green > 170) & (blue < 100) & (green - blue > 110))


def along(polyline: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Points of a polyline, a step apart."""
    parts = []
    for start, end in pairwise(polyline):
        count = max(1, int(np.hypot(*(end - start)) / step))
        parts.append(start + np.linspace(0, 1, count, endpoint=False)[:, None] * (end - start))
    return np.concatenate(parts)


def best_shift(picture: Picture, polyline: NDArray[np.float64], fit: Fit, reach: int = 12) -> tuple[int, int, float]:
    """Shift of a polyline, in screen pixels (x, y), at which most of it is drawn, and how much of it is.

    A dashed line is drawn to about a half at best.
    """
    drawn = np.pad(line_pixels(picture), reach)
    points = np.floor(fit.to_screen(along(polyline, 0.5 / fit.scale))).astype(int) + reach
    shifts = ((x, y) for y in range(-reach, reach + 1) for x in range(-reach, reach + 1))
    return max(_hits(drawn, points, shifts), key=lambda found: found[2])


def _hits(
    drawn: Mask, points: NDArray[np.int64], shifts: Iterator[tuple[int, int]]
) -> Iterator[tuple[int, int, float]]:
    for x, y in shifts:
        yield x, y, float(drawn[points[:, 1] + y, points[:, 0] + x].mean())


def nearest_line(picture: Picture, point: NDArray[np.float64], fit: Fit) -> float:
    """Distance of an image-relative point to the next pixel of an annotation, screen pixels."""
    rows, columns = np.nonzero(line_pixels(picture))
    x, y = fit.to_screen(point)
    return float(np.hypot(columns + 0.5 - x, rows + 0.5 - y).min()) if len(rows) else float("inf")
