"""Frames that may show text which the others do not: found by their strokes, window by window, at a bounded cost. Pure.

Letters are narrow and stand out from both sides, and their stems go on over some rows. How much of that a window of the
picture holds is counted on every frame; a frame counts that has far more or less in one than is usual there.
"""

from __future__ import annotations

from functools import reduce
from itertools import zip_longest
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_WIDEST: Final = 8  # columns of a stroke, one less
_STEM: Final = (1, 1)  # rows more: a stroke goes on over four at least
_EVEN: Final = 10  # of 256: how much it changes from row to row
_CONTRAST: Final = 20  # of 256: how far a stroke stands out
_WINDOW: Final = (16, 32)
_FEWEST: Final = (6.0, 3.0)  # pixels of strokes more than usual in a window, by kind
_AS_IT_IS: Final = 1.1
_SPREAD: Final = 4.0  # how many times the usual deviation
_SAMPLED: Final = 4  # every so manyth pixel tells the range of a frame
_PERCENTILES: Final = (0.5, 99.5)
_ALIKE: Final = 0.9  # cosine of two frames that show the same
_FRAMES_SPREAD: Final = 12
_FRAMES_DIFFERING: Final = 16

Bytes = NDArray[np.uint8]


def chosen(values: NDArray[Any]) -> set[int]:
    """Numbers of the frames that are looked at closely: some spread over all, and those that may show text of their own."""
    count = len(values)
    spread = {round(n * (count - 1) / (_FRAMES_SPREAD - 1)) for n in range(_FRAMES_SPREAD)}
    return spread.union(differing(values, _FRAMES_DIFFERING))


def looks_at_all(count: int) -> bool:
    """Whether of so many frames each is looked at closely, whatever they show."""
    return count <= _FRAMES_SPREAD


def differing(values: NDArray[Any], most: int) -> list[int]:
    """Numbers of the frames that may show text of their own, the most conspicuous first.

    Parameters
    ----------
    values
        Shape (frames, rows, columns, samples).
    most
        How many are named at most.

    Notes
    -----
    Some five milliseconds for each frame of 512 x 512. Of frames that differ from the usual in the same way one is named.
    """
    if len(values) < 3:
        return []
    counts = np.stack([_strokes(frame) for frame in values])  # frames, two kinds, windows
    named = [_most(counts[:, kind], _FEWEST[kind], most // 2) for kind in (0, 1)]
    return list(dict.fromkeys(number for pair in zip_longest(*named) for number in pair if number is not None))


def _most(counts: NDArray[np.float32], fewest: float, most: int) -> list[int]:
    """Frames that have a count which is not usual in some window."""
    usual = np.median(counts, axis=0)
    deviation = np.median(abs(counts - usual), axis=0)
    excess = np.maximum(abs(counts - usual) - _SPREAD * deviation - fewest, 0)
    named: list[int] = []
    scores = excess.max(axis=1, initial=0)
    while len(named) < most and scores.max() > 0:
        best = int(scores.argmax())
        named.append(best)
        lengths = np.linalg.norm(excess, axis=1) * np.linalg.norm(excess[best])
        scores[excess @ excess[best] >= _ALIKE * np.maximum(lengths, 1e-6)] = 0
        scores[best] = 0
    return named


def _strokes(frame: NDArray[Any]) -> NDArray[np.float32]:
    """Pixels in each window, which overlap by half: of stems; and of stems or of strokes across, whichever are fewer.

    Edges and vessels go one way, letters both; small letters have little but stems.
    """
    planes = [np.ascontiguousarray(frame[..., sample]) for sample in range(frame.shape[2])]
    bright, dark = reduce(np.maximum, planes), reduce(np.minimum, planes)
    low, high = np.percentile(bright[::_SAMPLED, ::_SAMPLED], _PERCENTILES)
    if high - low < 2:
        low, high = float(dark.min()), float(bright.max())
    counted = [_counted(one) for one in (_eight(bright, low, high), 255 - _eight(dark, low, high))]
    return np.maximum(*counted)


def _eight(picture: NDArray[Any], low: float, high: float) -> Bytes:
    scale = 255.0 / max(float(high) - float(low), 1.0)
    if picture.dtype == np.uint8 and scale < _AS_IT_IS:
        return picture
    scaled: Bytes = np.clip((picture.astype(np.float32) - float(low)) * scale, 0, 255).astype(np.uint8)
    return scaled


def _counted(picture: Bytes) -> NDArray[np.float32]:
    upright, across = _stems(picture), _stems(np.ascontiguousarray(picture.T)).T
    stems = _windowed(upright, picture.shape)
    return np.stack([stems, np.minimum(stems, _windowed(across, picture.shape))]).astype(np.float32)


def _stems(picture: Bytes) -> NDArray[np.bool_]:
    """Pixels of bright structures that are narrow along their row, and go on over some rows."""
    picture = np.pad(picture, ((0, 0), (_WIDEST, _WIDEST)), mode="edge")
    opened = _along(np.minimum, picture, _WIDEST)
    opened = _along(np.maximum, opened, _WIDEST)  # as wide as before: what is wide is what it was
    picture = picture[:, _WIDEST:-_WIDEST]
    mask = picture - opened > _CONTRAST  # opened is never greater
    up, down = picture[:-1], picture[1:]
    mask = mask[:-1] & mask[1:] & (np.maximum(up, down) - np.minimum(up, down) <= _EVEN)
    for shift in _STEM:
        mask = mask[:-shift] & mask[shift:]
    return mask


def _along(combine: Any, picture: Bytes, width: int) -> Bytes:
    """Least or greatest of a pixel and so many to its right."""
    shift = 1
    while shift <= width // 2:
        picture = combine(picture[:, :-shift], picture[:, shift:])
        shift *= 2
    return np.asarray(combine(picture[:, :-1], picture[:, 1:]))


def _windowed(mask: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.float64]:
    """Pixels in each window of a mask that lacks the last rows or columns of a picture of that size."""
    mask = np.pad(mask, [(0, whole - part) for whole, part in zip(size, mask.shape, strict=True)])
    rows, columns = (size // 2 for size in _WINDOW)
    height, width = mask.shape[0] // rows * rows, mask.shape[1] // columns * columns
    blocks = mask[:height, :width].reshape(height // rows, rows, width // columns, columns).sum(axis=(1, 3))
    pairs = blocks[:-1] + blocks[1:]
    return np.asarray(pairs[:, :-1] + pairs[:, 1:], np.float64).ravel()
