"""The panel of the key image: legend and table, what else was found, remarks; and the pen that writes on the page.

May live here: words, numbers and where they stand. May not: pictures of the patient (views), DICOM objects. What there is
no room for is counted on the page, never left out in silence.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Final

from dicomnode import coding
from dicomnode.findings import Detection, Evaluation, Findings, Measurement, Region
from dicomnode.imaging.typeface import drawable, font
from dicomnode.imaging.views import NAMES, Colour

Box = tuple[int, int, int, int]

RULE: Final[Colour] = (52, 60, 74)
TEXT: Final[Colour] = (232, 236, 242)
DIM: Final[Colour] = (152, 162, 178)
WARNING: Final[Colour] = (255, 190, 92)
#: Columns of the table: concept, head (a field of `Texts`, or as it is), unit, decimals.
_COLUMNS: Final = (
    (coding.VOLUME, "volume", "ml", 0),
    (coding.MEAN_LUNG_DENSITY, "mean", "HU", 0),
    (coding.LAA_950, "LAA-950", "%", 1),
    (coding.PERC15, "Perc15", "HU", 0),
)
_COLUMN_WIDTH: Final = 66
_SWATCH, _SPACE = 20, 8  # what a colour takes; between a name and its first number
_ROW, _NAME_LINE, _COMPACT = 34, 20, 22  # a row; the line of its own of a long name; a row where there are many
_FIGURES: Final = 3  # of a volume: what is small does not become zero
_MOST_DECIMALS: Final = 4
#: Marks of the table: volume cut, number with a caveat, region that no view shows.
_CUT, _CAVEAT, _UNSEEN = ">", "*", "†"


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The words of the page; `more` has a blank, ``{count}``."""

    headline: str = "AI analysis"
    subtitle: str = ""
    measurements: str = "Measurements"
    findings: str = "Findings"
    remarks: str = "Remarks"
    distribution: str = "Density distribution"
    nothing_found: str = "Nothing found"
    not_reviewed: str = "AI result, not reviewed by a physician"
    research_only: str = "RESEARCH USE ONLY"
    lower_bound: str = "cut by the scan or field of view: lower bound"
    caveat: str = "see remarks"
    unseen: str = "in none of these views"
    more: str = "and {count} more"
    window: str = "W"
    level: str = "L"
    volume: str = "Volume"
    mean: str = "Mean"
    planes: tuple[str, str, str] = NAMES


class Pen:
    """Writes lines."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def text(self, at: tuple[float, float], words: str, size: int, colour: Colour = TEXT, anchor: str = "ls") -> None:
        """Draw one line; `anchor` as in Pillow."""
        self._draw.text(at, drawable(words), font=font(size), fill=colour, anchor=anchor)


class Panel(Pen):
    """Legend, table, findings without a region, and remarks, from top to bottom.

    Parameters
    ----------
    unseen
        Numbers of the segments that no view shows.
    """

    def __init__(self, draw: Any, texts: Texts, colours: Mapping[int, Colour], unseen: AbstractSet[int]) -> None:
        super().__init__(draw)
        self._texts, self._colours, self._unseen = texts, colours, unseen

    def write(self, findings: Findings, box: Box) -> int:
        """Everything; where it ends."""
        left, top, right, bottom = box
        others = [*map(_judged, findings.evaluations), *map(_found, findings.detections)]
        y = top
        if findings.regions:
            share = 0.5 if findings.remarks or others else 1.0
            y = self._table(findings.regions, box, top + int((bottom - top) * share) - 60)
        elif not others:
            self.text((left, y + 4), self._texts.nothing_found, 22, WARNING)
            y += 40
        if others:
            end = (y + bottom) // 2 if findings.remarks else bottom - 14
            y = self._list(self._texts.findings, others, (left, y + 12, right, end), TEXT) + 8
        if findings.remarks:
            y = self._list(self._texts.remarks, findings.remarks, (left, y + 12, right, bottom - 14), WARNING)
        return y

    def _table(self, regions: Sequence[Region], box: Box, end: int) -> int:
        left, y, right, _ = box
        self.text((left, y), self._texts.measurements, 18)
        used = {measurement.concept for region in regions for measurement in region.measurements}
        columns = [column for column in _COLUMNS if column[0] in used]
        edges = [right - _COLUMN_WIDTH * (len(columns) - 1 - n) for n in range(len(columns))]
        y += 34
        for (_, name, unit, _), edge in zip(columns, edges, strict=True):
            self.text((edge, y), getattr(self._texts, name, name), 13, DIM, "rs")
            self.text((edge, y + 17), unit, 13, DIM, "rs")
        y += 28
        rooms = [_room(region, columns[0], edges[0] - left) if edges else right - left - _SWATCH for region in regions]
        longer = sum(not _fits(self._name(region), room) for region, room in zip(regions, rooms, strict=True))
        full = _ROW * len(regions) + _NAME_LINE * longer
        compact = y + full > end
        shown = regions[: max(1, (end - y) // _COMPACT - 1)] if compact else regions
        marks: set[str] = set()
        for region, room in zip(shown, rooms, strict=False):
            self._draw.line((left, y, right, y), fill=RULE)
            y = self._row(region, (left, y, right), int(room), compact=compact)
            for column, edge in zip(columns, edges, strict=True):
                words = _cell(region, column[0], column[3])
                marks |= {mark for mark in (_CUT, _CAVEAT) if mark in words}
                self.text(
                    (edge, y - 9 + 3 * compact), words, 13 if compact else 16, DIM if words == "-" else TEXT, "rs"
                )
            marks |= {_UNSEEN} if self._is_unseen(region) else set()
        if len(shown) < len(regions):
            y += _COMPACT
            self.text((left, y - 4), self._texts.more.format(count=len(regions) - len(shown)), 15, WARNING)
        return self._notes(left, y, marks)

    def _row(self, region: Region, place: tuple[int, int, int], room: int, *, compact: bool) -> int:
        """Colour and name of a region; the base line of its numbers."""
        left, y, right = place
        name, size = self._name(region), 13 if compact else 15
        swatch = self._colours.get(region.segments[0], TEXT) if len(region.segments) == 1 else None
        x = left + (_SWATCH if swatch else 0)
        long = not compact and not _fits(name, room)
        y += _COMPACT if compact else _ROW - 2 * long
        if swatch:
            low = y - (5 if compact else 8)
            self._draw.rounded_rectangle((left, low - 13, left + 13, low), radius=3, fill=swatch)
        self.text((x, y - 9 + 3 * compact), _fitted(name, right - x if long else room, size), size)
        return y + (_NAME_LINE + 2) * long

    def _name(self, region: Region) -> str:
        return f"{region.label} {_UNSEEN}" if self._is_unseen(region) else region.label

    def _is_unseen(self, region: Region) -> bool:
        return len(region.segments) == 1 and region.segments[0] in self._unseen

    def _notes(self, left: int, y: int, marks: AbstractSet[str]) -> int:
        notes = ((_CUT, self._texts.lower_bound), (_CAVEAT, self._texts.caveat), (_UNSEEN, self._texts.unseen))
        for mark, words in notes:
            if mark in marks:
                y += 20
                self.text((left, y), f"{mark} {words}", 13, DIM)
        return y + 22

    def _list(self, head: str, sentences: Sequence[str], box: Box, colour: Colour) -> int:
        left, y, right, bottom = box
        self.text((left, y + 14), head, 18)
        y += 42
        for place, sentence in enumerate(sentences):
            lines = _wrapped(sentence, right - left - 16)
            if y + 20 * (len(lines) + (place + 1 < len(sentences))) > bottom:
                self.text((left, y), self._texts.more.format(count=len(sentences) - place), 15, WARNING)
                return bottom
            self._draw.ellipse((left, y - 9, left + 7, y - 2), fill=colour)
            for line in lines:
                self.text((left + 16, y), line, 15)
                y += 20
            y += 7
        return y


def _judged(one: Evaluation) -> str:
    return f"{one.concept.meaning}: {one.value.meaning}{_sure(one.probability)}"


def _found(one: Detection) -> str:
    size = "" if one.diameter_mm is None else f" {one.diameter_mm:.1f} mm"
    return f"{one.label}: {one.finding.meaning}{size}{_sure(one.probability)}"


def _sure(probability: float | None) -> str:
    return "" if probability is None else f" ({100 * probability:.0f} %)"


def _room(region: Region, column: tuple[coding.CodedConcept, str, str, int], edge: float) -> float:
    """Width that a name has before the first of its numbers, which ends at an edge."""
    swatch = _SWATCH if len(region.segments) == 1 else 0
    return edge - float(font(16).getlength(_cell(region, column[0], column[3]))) - _SPACE - swatch


def _cell(region: Region, concept: coding.CodedConcept, decimals: int) -> str:
    """A number of the table with its marks."""
    found = next((item for item in region.measurements if item.concept == concept), None)
    if found is None:
        return "-"
    cut = _CUT if concept == coding.VOLUME and region.truncated else ""
    return f"{cut}{_number(found, decimals)}{_CAVEAT if found.caveat else ''}"


def _number(measurement: Measurement, decimals: int) -> str:
    """A value with so many decimals; a volume with as many as its figures need."""
    if measurement.concept == coding.VOLUME and measurement.value > 0:
        decimals = min(max(decimals, _FIGURES - 1 - math.floor(math.log10(measurement.value))), _MOST_DECIMALS)
        if measurement.value < 0.5 * 10**-_MOST_DECIMALS:
            return f"<{10**-_MOST_DECIMALS:.{_MOST_DECIMALS}f}"
    return f"{measurement.value:.{decimals}f}"


def _fits(words: str, width: float) -> bool:
    return bool(font(15).getlength(drawable(words)) <= width)


def _fitted(words: str, width: float, size: int = 15) -> str:
    """Words, with dots in their middle where they are wider than so many pixels: names differ at their ends."""
    whole = drawable(words)
    return next(cut for cut in _shortened(whole) if font(size).getlength(cut) <= width or len(cut) <= 3)


def _shortened(words: str) -> Iterator[str]:
    yield words
    for kept in range(len(words) - 1, 0, -1):
        tail = kept // 2
        yield f"{words[: kept - tail].rstrip()}..{words[len(words) - tail :].lstrip() if tail else ''}"
    yield ""


def _wrapped(words: str, width: int) -> list[str]:
    lines = [""]
    for word in _words(drawable(words)):
        longer = f"{lines[-1]}{word}"
        if lines[-1].strip() and font(15).getlength(longer.rstrip()) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return [line.strip() for line in lines]


def _words(text: str) -> list[str]:
    """What may stand on a line of its own: words, and every letter of scripts without spaces."""
    return re.findall(r"[^\s\u3000-\uffee]+\s*|[\u3000-\uffee]\s*", text)
