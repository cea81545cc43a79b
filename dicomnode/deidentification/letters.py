"""Letters in masks: whether a picture of two values, as a segmentation has, looks as if somebody had written on it. Pure, reads no text.

Letters are thin for their height, most of them turn, and some of them stand on one line, close together, whichever way it
runs (`lines`). Organs are thick; vessels and ribs are thin, but differ in height, stand on no line, or have others around.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicomnode.deidentification.lines import Line, lines

_FEWEST_PIXELS: Final = 16
#: Letters of a line, those of them that are no bars, and the share of what stands there that is theirs: fewer must stand alone.
_WRITTEN: Final = ((5, 3, 0.7), (4, 1, 0.85), (3, 2, 0.95))
_FEWEST: Final = min(letters for letters, _, _ in _WRITTEN)
_FEW_VALUES: Final = 32


def has_letters(mask: NDArray[np.bool_]) -> bool:
    """Whether a mask, shape (rows, columns), holds written letters, or a hole in it does; at any angle."""
    return next(letter_lines(mask), None) is not None


def letter_lines(mask: NDArray[np.bool_]) -> Iterator[Line]:
    """Lines of letters in a mask, and in holes of it."""
    if np.count_nonzero(mask) < _FEWEST_PIXELS:
        return
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    cut = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    for shown in (cut, ~cut):
        for line in lines(shown, _FEWEST):
            if any(line.letters >= few and line.turning >= turn and line.clean >= own for few, turn, own in _WRITTEN):
                x0, y0, x1, y1 = line.box
                yield line._replace(box=(left + x0, top + y0, left + x1, top + y1))


def lines_of_few(image: NDArray[Any]) -> Iterator[Line] | None:
    """Lines of letters in an image of few values, each of them by itself; None where it has more."""
    values = np.unique(image)
    if len(values) > _FEW_VALUES:
        return None
    shown = values if len(values) > 2 else values[1:]  # of two values each is what the other one leaves
    return (line for value in shown.tolist() for line in letter_lines(image == value))
