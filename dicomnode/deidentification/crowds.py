"""Small smooth letters in a slice: where steep edges follow one another in a row, closely and up and down by turns. Pure, fast.

Of letters below some 14 pixels a renderer smooths all: no value is the brightest, and none is that of several strokes. But a
line of them has more steep edges side by side than tissue has. Only around these it is asked whether letters stand there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicomnode.deidentification.faint import faint_lines

_STEEP: Final = 0.3  # of the range of most pixels
_CLOSE: Final = 6  # pixels from an edge to the next one
_TURNS: Final = 10  # of a crowd, from up to down or back
_MOST: Final = 6  # places that are looked at, those with the most turns first: each costs some milliseconds
_AROUND: Final = 24  # rows and columns


def has_small_letters(
    image: NDArray[Any], steps: NDArray[Any], sizes: NDArray[Any], *, step: int, edge: int, most: int
) -> bool:
    """Whether a line of letters stands around a crowd of edges.

    Parameters
    ----------
    image
        Shape (rows, columns).
    steps, sizes
        From each pixel to the next one of every so manyth row, one row after the other; and without their sign.
    edge, most
        By more than what neighbours usually differ by, and the range of most pixels.
    """
    steep = min(max(math.ceil(_STEEP * most), edge), int(np.iinfo(sizes.dtype).max))
    steeps = sizes > steep
    if not _may_crowd(steeps):
        return False
    edges = steeps.nonzero()[0]
    seen: list[tuple[int, int, int]] = []
    for first, last in _crowds(edges, steps[edges] > 0):
        row, start = divmod(first, image.shape[1])
        row, end = row * step, start + last - first
        if any(abs(row - other) < _AROUND // 2 and left <= start and end <= right for other, left, right in seen):
            continue
        if len(seen) == _MOST:
            return False
        left, right = max(start - _AROUND, 0), end + _AROUND
        seen.append((row, left, right))
        if next(faint_lines(image[max(row - _AROUND, 0) : row + _AROUND, left : right + 1]), None) is not None:
            return True
    return False


def _may_crowd(steeps: NDArray[np.bool_]) -> bool:
    """Whether anywhere as many edges lie together as make a crowd: a quick count by 64 pixels, and the next 64."""
    words = np.packbits(steeps)
    counts = np.bitwise_count(words[: len(words) // 8 * 8].view(np.uint64))
    return len(counts) < 2 or bool((counts[1:] + counts[:-1]).max() >= _TURNS)


def _crowds(edges: NDArray[np.intp], upward: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and last edge of each crowd, those with the most turns first."""
    near = edges[1:] - edges[:-1] <= _CLOSE
    turns = np.concatenate(([0], np.cumsum(near & (upward[1:] != upward[:-1]))))
    if turns[-1] < _TURNS:
        return
    cuts = (~near).nonzero()[0]
    starts, ends = np.concatenate(([0], cuts + 1)), np.concatenate((cuts, [len(edges) - 1]))
    counts = turns[ends] - turns[starts]
    enough = (counts >= _TURNS).nonzero()[0]
    for number in enough[np.argsort(-counts[enough], kind="stable")].tolist():
        yield int(edges[starts[number]]), int(edges[ends[number]])
