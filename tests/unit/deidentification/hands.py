"""Letters of no font: strokes in a square of 4 by 6, drawn at any angle, width and spacing; and grounds to draw them on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

GROUNDS = ("even", "slope", "noise", "cells", "body")
_FINE = 4  # smooth letters are drawn so many times larger
_STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "A": [[(0, 6), (2, 0), (4, 6)], [(0.8, 4), (3.2, 4)]],
    "B": [[(0, 0), (0, 6), (3, 6), (4, 4.5), (3, 3), (0, 3)], [(3, 3), (3.6, 1.5), (3, 0), (0, 0)]],
    "D": [[(0, 0), (0, 6), (2.5, 6), (4, 4), (4, 2), (2.5, 0), (0, 0)]],
    "E": [[(4, 0), (0, 0), (0, 6), (4, 6)], [(0, 3), (3, 3)]],
    "H": [[(0, 0), (0, 6)], [(4, 0), (4, 6)], [(0, 3), (4, 3)]],
    "I": [[(2, 0), (2, 6)]],
    "K": [[(0, 0), (0, 6)], [(4, 0), (0, 3.2), (4, 6)]],
    "M": [[(0, 6), (0, 0), (2, 3.5), (4, 0), (4, 6)]],
    "N": [[(0, 6), (0, 0), (4, 6), (4, 0)]],
    "O": [[(1.2, 0), (0, 1.5), (0, 4.5), (1.2, 6), (2.8, 6), (4, 4.5), (4, 1.5), (2.8, 0), (1.2, 0)]],
    "R": [[(0, 6), (0, 0), (3, 0), (4, 1.5), (3, 3), (0, 3)], [(1.8, 3), (4, 6)]],
    "S": [[(4, 0.8), (3, 0), (1, 0), (0, 1.5), (1, 3), (3, 3), (4, 4.5), (3, 6), (1, 6), (0, 5.2)]],
    "T": [[(0, 0), (4, 0)], [(2, 0), (2, 6)]],
    "a": [[(0.5, 2.4), (2, 2), (3.4, 2.8), (3.4, 6)], [(3.4, 3.8), (1, 3.8), (0, 4.9), (1, 6), (3.4, 5.2)]],
    "e": [[(0, 4), (4, 4), (3, 2.2), (1.4, 2), (0, 3.4), (0, 4.8), (1.4, 6), (4, 5.4)]],
    "n": [[(0, 2), (0, 6)], [(0, 3.2), (1.6, 2), (3.4, 2.6), (3.4, 6)]],
    "r": [[(0, 2), (0, 6)], [(0, 3.4), (1.4, 2), (3, 2.4)]],
    "1": [[(0.8, 1.2), (2, 0), (2, 6)]],
    "4": [[(3, 6), (3, 0), (0, 4), (4, 4)]],
    "7": [[(0, 0), (4, 0), (1.5, 6)]],
}


def written_by_hand(
    word: str, high: int, *, angle: float = 0.0, width: int = 0, spaced: float = 1.4, smooth: bool = False
) -> NDArray[np.float64]:
    """A word, shape (rows, columns), 1 where a stroke is; turned by degrees."""
    fine = _FINE if smooth else 1
    unit = high * fine / 6
    long = int((len(word) * (4 + spaced) + 4) * unit)
    middle, radians = long / 2, np.radians(angle)
    pen = Image.new("L", (long, long))
    draw = ImageDraw.Draw(pen)
    for place, letter in enumerate(word):
        for line in _STROKES.get(letter, []):
            across = [((place - len(word) / 2) * (4 + spaced) + x) * unit for x, _ in line]
            down = [(y - 3) * unit for _, y in line]
            points = [
                (middle + x * np.cos(radians) - y * np.sin(radians), middle + x * np.sin(radians) + y * np.cos(radians))
                for x, y in zip(across, down, strict=True)
            ]
            draw.line(points, fill=255, width=(width or max(high // 8, 1)) * fine, joint="curve")
    shown = np.asarray(pen.resize((long // fine, long // fine), Image.Resampling.BOX)) / 255.0
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    return np.asarray(shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def put(ground: NDArray[np.float64], word: NDArray[np.float64], value: float, place: tuple[int, int]) -> None:
    """Write a word into a picture, as far as it is strong."""
    part = ground[place[0] : place[0] + word.shape[0], place[1] : place[1] + word.shape[1]]
    word = word[: part.shape[0], : part.shape[1]]
    part += word * (value - part)


def ground(kind: str, seed: int, size: int = 256) -> NDArray[np.float64]:
    """What is written on: an even or sloping one, a noisy one, soft cells, a body with spine, vessels and couch."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    if kind == "even":
        return np.full((size, size), 900.0)
    if kind == "slope":
        return 400 + 1200 * x * y
    if kind == "noise":
        return rng.normal(900, 25, (size, size))
    if kind == "cells":
        return 900 + 3000 * ndimage.gaussian_filter(rng.normal(size=(size, size)), 6)
    picture = np.where(np.hypot((x - 0.5) / 0.42, (y - 0.5) / 0.32) < 1, 1040.0, 24.0)
    for side in (0.32, 0.68):
        lung = np.hypot((x - side) / 0.13, (y - 0.47) / 0.2) < 1
        picture[lung] = 180
        vessels = ndimage.gaussian_filter((rng.random((size, size)) > 0.985) * 9.0, 1.2)
        picture[lung] += (400 * vessels)[lung]
    picture[np.hypot(x - 0.5, (y - 0.68) * 1.2) < 0.06] = 1500
    picture[int(0.88 * size) : int(0.9 * size)] = 700
    return np.asarray(ndimage.gaussian_filter(picture, 0.9) + rng.normal(0, 8, (size, size)))
