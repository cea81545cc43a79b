"""Reading text in pictures: where it stands, what it says, and whether it says a name that the header has.

The only place that imports rapidocr (extra `ocr`), whose models lie in its own wheel: nothing is fetched. Without the
extra there is no reader, and pixels that may show text are withheld (see pixels).
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import StudyError

Picture = NDArray[np.uint8]
Box = tuple[int, int, int, int]

_SURE: Final = 0.5
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
    """

    box: Box
    says: str = field(repr=False)
    score: float

    @property
    def is_sure(self) -> bool:
        """Whether it is text for certain: two letters or digits, read with some confidence."""
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

        Raises
        ------
        StudyError
            ``withheld-pixels`` where the library fails.
        """
        try:
            with self._turn:
                self._engine = self._engine or _engine()
                found = self._engine(picture, use_det=True, use_cls=False, use_rec=True)
        except Exception:  # noqa: BLE001 - whatever a library does with a stranger's pixels
            raise StudyError("withheld-pixels", because="reader") from None
        read = [] if found.boxes is None else zip(found.boxes, found.txts, found.scores, strict=True)
        texts = [Text(box=_box(corners), says=str(says), score=float(score)) for corners, says, score in read]
        return [text for text in texts if not _is_all(text.box, picture)]


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


def _is_all(box: Box, picture: Picture) -> bool:
    """Whether a box is the whole picture: what the library reads where its detector found nothing."""
    x0, y0, x1, y1 = box
    return x0 <= 0 and y0 <= 0 and x1 >= picture.shape[1] - 1 and y1 >= picture.shape[0] - 1


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
