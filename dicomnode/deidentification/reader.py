"""Reading text in pictures: where it stands, what it says, and whether it says a name that the header has.

The only place that imports rapidocr (extra `ocr`), whose models lie in its own wheel: nothing is fetched. Without the
extra there is no reader, and pixels that may show text are withheld (see pixels).
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import StudyError

Picture = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_SURE: Final = 0.5
_CERTAIN: Final = 0.85
_ASLANT: Final = 1.5  # times as large as the rectangle in it is the box
_LINE: Final = 2  # times as long as high
#: Tiles in which the detector finds letters of 12 pixels (in 1200 it finds none of 24), and the longest strips that it takes.
_TILE: Final = 800
_OVERLAP: Final = 128
_NARROWEST: Final = 96
_STRIP: Final = 6
_TURNED: Final = 1.5
_SHORTEST_SEED: Final = 4
_ERROR_PER: Final = 5  # one letter in so many may be misread
#: What readers take for another letter: zero for O, one for I and l, and so on.
_CONFUSED: Final = str.maketrans(
    {
        "0": "o",
        "1": "i",
        "|": "i",
        "!": "i",
        "l": "i",
        "5": "s",
        "$": "s",
        "8": "b",
        "2": "z",
        "6": "g",
        "9": "g",
        "q": "g",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A piece of text in a picture.

    Attributes
    ----------
    box
        Columns and rows (x0, y0, x1, y1), inclusive.
    certain
        How certain it is that there is text, whatever it says.
    sides
        Length and height of the line itself, which may stand aslant in its box; those of the box by default.
    """

    box: Box
    says: str = field(repr=False)
    score: float
    certain: float = 0.0
    sides: tuple[float, float] | None = None

    @property
    def is_sure(self) -> bool:
        """Whether it is text for certain: two letters or digits, read with some confidence; or a line that nobody can read."""
        x0, y0, x1, y1 = self.box
        sides = self.sides or (x1 - x0, y1 - y0)
        longer, shorter = max(sides), min(sides)
        return self.is_read or (self.certain >= _CERTAIN and longer >= _LINE * shorter)

    @property
    def is_read(self) -> bool:
        """Whether it was read with some confidence, two letters or digits at least."""
        return self.score >= _SURE and sum(char.isalnum() for char in self.says) > 1


class Reader(Protocol):
    """Whatever reads text."""

    def read(self, picture: Picture) -> list[Text]:
        """Text in a picture of shape (rows, columns, 3)."""


class RapidReader:
    """Text by rapidocr's detector and recogniser, on the CPU, loaded at the first picture; calls take turns."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._turn = threading.Lock()

    def read(self, picture: Picture) -> list[Text]:
        """Text in a picture; a box that was found and could not be read says nothing and counts all the same.

        The library shrinks what is large, and passes over strips and over what it finds and cannot read: it is shown
        tiles of a size and shape that it takes, its detector is asked first, and each box is recognised by itself.

        Raises
        ------
        StudyError
            ``withheld-pixels`` where the library fails.
        """
        try:
            with self._turn:
                self._engine = self._engine or _engine()
                return list(self._everywhere(picture))
        except Exception:  # noqa: BLE001 - whatever a library does with a stranger's pixels
            raise StudyError("withheld-pixels", because="reader") from None

    def _everywhere(self, picture: Picture) -> Iterator[Text]:
        """Text in every tile, and in all of a large picture: letters may be larger than a tile."""
        for x, y in _corners(picture):
            yield from self._tile(picture[y : y + _TILE, x : x + _TILE], x, y)
        step = -(-max(picture.shape) // _TILE)
        if step > 1:
            for text in self._tile(_shrunk(picture, step), 0, 0):
                x0, y0, x1, y1 = text.box
                yield replace(text, box=(x0 * step, y0 * step, (x1 + 1) * step - 1, (y1 + 1) * step - 1))

    def _tile(self, tile: Picture, left: int, top: int) -> Iterator[Text]:
        padded = _padded(tile)
        found = self._engine(padded, use_det=True, use_cls=False, use_rec=False)
        if found.boxes is None:
            return
        rows, columns = tile.shape[:2]
        for corners, certain in zip(found.boxes, found.scores, strict=True):
            x0, y0, x1, y1 = _box(corners)
            x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, columns - 1), min(y1, rows - 1)
            if x0 > x1 or y0 > y1:
                continue  # in the padding
            sides = _sides(corners)
            aslant = (x1 - x0) * (y1 - y0) > _ASLANT * sides[0] * sides[1]
            piece = _straight(padded, corners, sides) if aslant else padded[y0 : y1 + 1, x0 : x1 + 1]
            says, score = self._recognised(piece)
            box = (left + x0, top + y0, left + x1, top + y1)
            text = Text(box=box, says=says, score=score, certain=float(certain), sides=sides)
            all_of_it = x1 - x0 >= columns - 2 and y1 - y0 >= rows - 2  # what the detector says where it sees nothing
            if text.is_read or not all_of_it:
                yield text

    def _recognised(self, piece: Picture) -> tuple[str, float]:
        """What one piece says, and how certain that is; what is higher than wide is turned."""
        upright = piece if piece.shape[0] < _TURNED * piece.shape[1] else np.ascontiguousarray(np.rot90(piece))
        read = self._engine(upright, use_det=False, use_cls=False, use_rec=True)
        return (str(read.txts[0]), float(read.scores[0])) if read.txts else ("", 0.0)


def _corners(picture: Picture) -> list[tuple[int, int]]:
    """Columns and rows where tiles begin that overlap, and cover a picture."""
    rows, columns = (range(0, max(size - _OVERLAP, 1), _TILE - _OVERLAP) for size in picture.shape[:2])
    return [(x, y) for y in rows for x in columns]


def _shrunk(picture: Picture, step: int) -> Picture:
    """A picture of means over squares; what is left over at its edges is dropped."""
    rows, columns = (max(size // step, 1) for size in picture.shape[:2])
    squares = picture[: rows * step, : columns * step].reshape(
        rows, -1, columns, min(step, picture.shape[1]), picture.shape[2]
    )
    shrunk: Picture = squares.mean(axis=(1, 3)).astype(np.uint8)
    return shrunk


def _padded(tile: Picture) -> Picture:
    """A tile that is no narrower than the detector takes, with plain grey beside what is there."""
    rows, columns = tile.shape[:2]
    least = max(_NARROWEST, max(rows, columns) // _STRIP)
    below, beside = max(least - rows, 0), max(least - columns, 0)
    if not below and not beside:
        return np.ascontiguousarray(tile)
    return np.pad(tile, ((0, below), (0, beside), (0, 0)), constant_values=int(np.median(tile)))


def _engine() -> Any:
    from rapidocr import RapidOCR

    # Nothing is thrown away for being read badly: a box that was found is told of.
    return RapidOCR(params={"Global.log_level": "critical", "Global.text_score": 0.0})


@cache
def installed_reader() -> Reader | None:
    """The reader of the extra `ocr`; None where it is not installed."""
    if importlib.util.find_spec("rapidocr") is None:
        return None
    return RapidReader()


def _box(corners: NDArray[Any]) -> Box:
    x, y = corners[:, 0], corners[:, 1]
    return int(np.floor(x.min())), int(np.floor(y.min())), int(np.ceil(x.max())), int(np.ceil(y.max()))


def _sides(corners: NDArray[Any]) -> tuple[float, float]:
    """Lengths of two sides that meet of a rectangle, which may stand aslant."""
    first, second = corners[1] - corners[0], corners[2] - corners[1]
    return float(np.hypot(*first)), float(np.hypot(*second))


def _straight(picture: Picture, corners: NDArray[Any], sides: tuple[float, float]) -> Picture:
    """A rectangle that stands aslant in a picture, upright."""
    from PIL import Image

    size = max(round(sides[0]), 1), max(round(sides[1]), 1)
    quad = tuple(float(value) for corner in corners[[0, 3, 2, 1]] for value in corner)
    piece = Image.fromarray(picture).transform(size, Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)
    upright: Picture = np.asarray(piece)
    return upright


def says_seed(text: str, seeds: Iterable[str]) -> bool:
    """Whether a text as read holds one of the header's values, letters that readers confuse being equal."""
    plain = folded(text)
    return any(_within(folded(seed), plain) for seed in seeds)


def folded(text: str) -> str:
    """Letters and digits alone, those that look alike made one."""
    return "".join(char for char in text.casefold().translate(_CONFUSED) if char.isalnum())


def _within(seed: str, text: str) -> bool:
    """Whether a seed stands in a text with at most one error in so many letters."""
    if len(seed) < _SHORTEST_SEED:
        return False
    if seed in text:
        return True
    most = len(seed) // _ERROR_PER
    return most > 0 and _best_distance(seed, text) <= most


def _best_distance(seed: str, text: str) -> int:
    """Least number of letters to change, add or drop that makes some part of the text the seed."""
    row = [0] * (len(text) + 1)
    for number, char in enumerate(seed, 1):
        last, row[0] = row[0], number
        for place, other in enumerate(text, 1):
            change = last + (char != other)
            last = row[place]
            row[place] = min(change, row[place] + 1, row[place - 1] + 1)
    return min(row)
