"""The typeface that ships: Latin, Greek, Cyrillic, Han, kana and Hangul letters, for pictures and documents.

May live here: the file and which letters it has. It is made by `deploy/typeface.py`, which names its origin and licence.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from PIL import ImageFont

PATH: Final = Path(__file__).parent / "fonts" / "dicomnode-sans.ttf"
NAME: Final = "dicomnode Sans"


@cache
def font(size: int) -> Any:
    """The typeface at a size in pixels, for Pillow."""
    return ImageFont.truetype(str(PATH), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(4096)
def _has(letter: str) -> bool:
    """Whether there is a glyph: one that is missing is drawn as the same box as every other."""
    return letter == " " or bytes(font(16).getmask(letter)) != _missing()


@cache
def _missing() -> bytes:
    return bytes(font(16).getmask("\ue000"))


@lru_cache(1024)
def is_drawable(words: str) -> bool:
    """Whether the typeface has every letter of them."""
    return all(map(_has, unicodedata.normalize("NFC", words)))


@lru_cache(1024)
def drawable(words: str) -> str:
    """Words in letters that the typeface has: else without their accents, else a question mark."""
    return "".join(letter if _has(letter) else _nearest(letter) for letter in unicodedata.normalize("NFC", words))


def _nearest(letter: str) -> str:
    bare = [one for one in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(one)]
    return "".join(one if _has(one) else "?" for one in bare)
