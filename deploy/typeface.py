"""Makes the typeface that ships, out of two free ones: `python deploy/typeface.py LATIN.ttf HAN.ttf OUT.ttf`.

Latin, Greek and Cyrillic letters are Roboto's (Debian `fonts-roboto-unhinted`, Apache-2.0), Han letters those of Droid
Sans Fallback (Debian `fonts-droid-fallback`, Apache-2.0), kana and Hangul too. Kept: ISO 8859-1 to -15 letters,
punctuation, kana, Hangul syllables, and the Han letters of GB 2312, of JIS X 0208 and of Big5's frequent ones: what the
names of patients are written in. The result is called "dicomnode Sans", since it is neither of the two. Needs `fonttools`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from fontTools import merge, subset
from fontTools.ttLib import TTFont
from fontTools.ttLib.scaleUpem import scale_upem

_LATIN = [
    *range(0x20, 0x7F),
    *range(0xA0, 0x250),
    *range(0x370, 0x460),
    *range(0x1E00, 0x1F00),
    *range(0x2010, 0x2027),
    0x20AC,
    0x2212,
]
_PUNCTUATION = [*range(0x3001, 0x3012), *range(0xFF01, 0xFF5F)]
_KANA = [*range(0x3041, 0x3097), *range(0x30A0, 0x3100), *range(0xFF61, 0xFFA0)]
_HANGUL = [*range(0x3131, 0x318F), *range(0xAC00, 0xD7A4)]
_UNITS = 1000
_NAMES = {1: "dicomnode Sans", 2: "Regular", 3: "dicomnode Sans 1", 4: "dicomnode Sans", 6: "dicomnodeSans"}
_KEPT_NAMES = {0: "Copyright Google Inc. Merged and cut by the dicomnode project.", 13: "Apache License, Version 2.0"}


def _table(encoding: str, rows: range, offset: int = 0xA0) -> Iterator[int]:
    """Letters of an East Asian set of two bytes, in the rows that are given."""
    for row in rows:
        for cell in range(0x40 if encoding == "big5" else 0xA1, 0xFF):
            letter = bytes((row + offset, cell)).decode(encoding, "ignore")
            if len(letter) == 1:
                yield ord(letter)


def _east_asian() -> list[int]:
    """Han letters of GB 2312 (rows 16 to 87), JIS X 0208 (16 to 84) and Big5 (its first level), kana, Hangul."""
    letters = {*_PUNCTUATION, *_KANA, *_HANGUL, *_table("gb2312", range(16, 88)), *_table("euc_jp", range(16, 85))}
    return sorted(letters | set(_table("big5", range(0xA4, 0xC7), 0)))


def _cut(source: str, letters: list[int], target: Path) -> None:
    font = TTFont(source)
    options = subset.Options(hinting=False, layout_features=[], name_IDs=[], notdef_outline=True, glyph_names=False)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=letters)
    cutter.subset(font)
    scale_upem(font, _UNITS)
    for table in ("GSUB", "GPOS", "GDEF", "kern", "vhea", "vmtx", "VORG"):
        if table in font:
            del font[table]
    font.save(target)


def main(latin: str, han: str, out: str) -> None:
    """Cut, scale, merge, name."""
    with TemporaryDirectory() as folder:
        parts = [Path(folder) / "latin.ttf", Path(folder) / "han.ttf"]
        _cut(latin, _LATIN, parts[0])
        _cut(han, _east_asian(), parts[1])
        merged = merge.Merger().merge([str(part) for part in parts])
    names = merged["name"]
    names.names = []
    for number, text in {**_NAMES, **_KEPT_NAMES}.items():
        names.setName(text, number, 3, 1, 0x409)
    merged["head"].created = merged["head"].modified = 3_600_000_000  # the same fonts, the same bytes
    merged.recalcTimestamp = False
    merged.save(out)


if __name__ == "__main__":
    main(*sys.argv[1:4])
