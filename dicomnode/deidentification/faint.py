"""Faint letters: lines of them in a grey picture, brighter or darker than what is around, of any strength, size and angle. Pure.

What is narrower than a few pixels is taken out of its surroundings, cut off at several strengths, and asked whether parts of
it stand as letters do (`lines`). That takes some hundredths of a second: too long for every slice of a scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicomnode.deidentification.lines import Line, lines

_NARROW: Final = 7  # pixels: what is narrower may be a stroke
_LEVELS: Final = (0.6, 0.4, 0.25, 0.15, 0.08, 0.04)  # of the strongest that there is
_STRONGEST: Final = 99.95
_USUAL: Final = 75
_ABOVE: Final = 1.2  # times what is usual: below all is noise
_SAMPLED: Final = 3
_MOST_COVERED: Final = 0.2
#: Letters of a line, those of them that are no bars, and the share of what stands there that is theirs.
_TEXTURE: Final = 0.01  # of a range: what is usual in an image in which letters of three times that stand out
_LETTERS: Final = (5, 3, 0.8)
_HALVED: Final = 160  # rows and columns from which on larger letters are looked for in half the size
_STEPS: Final = (1, 2)

Wide = NDArray[np.int32]


def faint_lines(image: NDArray[Any]) -> Iterator[Line]:
    """Lines of letters in an image, shape (rows, columns), however faint; their boxes are those of its pixels."""
    fewest, turning, clean = _LETTERS
    for step in _STEPS:
        if step > 1 and min(image.shape) < _HALVED:
            return
        wide = _scaled(image, step)
        for narrow in (wide - _opened(wide), -wide - _opened(-wide)):
            for mask in _masks(narrow):
                for line in lines(mask, fewest, narrow):
                    if line.turning >= turning and line.clean >= clean:
                        x0, y0, x1, y1 = (value * step for value in line.box)
                        yield line._replace(box=(x0, y0, x1 + step - 1, y1 + step - 1))


def is_even(image: NDArray[Any], span: float) -> bool:
    """Whether an image, shape (rows, columns), has so little texture that letters of a thirtieth of a range stand out from it."""
    wide = _scaled(image, 1)
    narrow = wide - _opened(wide), -wide - _opened(-wide)
    usual = max(float(np.percentile(one[::_SAMPLED, ::_SAMPLED], _USUAL)) for one in narrow)
    return usual <= _TEXTURE * span


def _scaled(image: NDArray[Any], step: int) -> Wide:
    """Whole numbers, every so manyth mean; floats over sixteen bits."""
    values = image
    if image.dtype.kind == "f":
        low, high = float(image.min()), float(image.max())
        values = (image - low) * (65535 / (high - low or 1.0))
    wide = values.astype(np.int32)
    if step == 1:
        return wide
    rows, columns = (size // step * step for size in wide.shape)
    return np.asarray(
        wide[:rows, :columns].reshape(rows // step, step, columns // step, step).sum(axis=(1, 3)) // step, np.int32
    )


def _masks(narrow: Wide) -> Iterator[NDArray[np.bool_]]:
    """What is narrow, cut off at several strengths; none at which it is everywhere."""
    sample = narrow[::_SAMPLED, ::_SAMPLED]
    usual, strongest = float(np.percentile(sample, _USUAL)), float(np.percentile(narrow, _STRONGEST))
    for level in _LEVELS:
        least = max(level * strongest, 1.0)
        if least < _ABOVE * usual:
            return
        mask = narrow > least
        if np.count_nonzero(mask) > _MOST_COVERED * mask.size:
            return
        yield mask


def _opened(image: Wide) -> Wide:
    """An image without what is bright and narrow."""
    padded = np.pad(image, _NARROW - 1, mode="edge")
    for combine in (np.minimum, np.maximum):
        padded = np.ascontiguousarray(_along(combine, padded).T)
        padded = np.ascontiguousarray(_along(combine, padded).T)
    return padded


def _along(combine: Any, image: Wide) -> Wide:
    """Least or greatest of a pixel and those to its right, as many as a stroke is wide at most."""
    done = 1
    while done < _NARROW:
        shift = min(done, _NARROW - done)
        image = combine(image[:, :-shift], image[:, shift:])
        done += shift
    return image
