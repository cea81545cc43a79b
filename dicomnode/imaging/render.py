"""The key image: one page that shows what was found, where, and the numbers; without any identity of the patient.

May live here: layout, PNG. May not: which planes are shown (views), letters (typeface), DICOM objects. Texts come in as
a table, so that a site may have them in its language.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dicomnode import coding
from dicomnode.findings import Findings, Measurement
from dicomnode.imaging.chart import Curves, curves_picture, distributions, draw_frame, position
from dicomnode.imaging.contour import Polyline, area_mm2, contour, key_slices, spread_slices
from dicomnode.imaging.measure import LAA_THRESHOLD_HU
from dicomnode.imaging.tally import Tally, take_tally
from dicomnode.imaging.typeface import drawable, font
from dicomnode.imaging.views import LUNG_WINDOW, NAMES, Colour, Picture, Planes, View, Views, paint
from dicomnode.imaging.volume import Volume

__all__ = ["Polyline", "Texts", "area_mm2", "contour", "key_image", "key_slices", "png", "spread_slices"]

Box = tuple[int, int, int, int]

WIDTH, HEIGHT = 1280, 960
_MARGIN: Final = 24
_GAP: Final = 10
_HEADER, _FOOTER = 76, 44
_PANEL: Final = 372
_CHART: Final = 170
_FILLING_STEPS: Final = 3
#: Size of the letters of orientation; sides of a picture from which it has them, and height at which a caption fits over.
_LETTER, _LEAST, _LEAST_WITH_CAPTION = 17, 60, 100
_UNDER_CAPTION: Final = 28
_DEEPER_MM: Final = 40.0  # more would be air and table
_BACKGROUND: Final[Colour] = (10, 12, 16)
_CARD: Final[Colour] = (21, 25, 33)
_RULE: Final[Colour] = (52, 60, 74)
_TEXT: Final[Colour] = (232, 236, 242)
_DIM: Final[Colour] = (152, 162, 178)
_WARNING: Final[Colour] = (255, 190, 92)
#: Columns of the table: concept, head (a field of `Texts`, or as it is), unit, decimals.
_COLUMNS: Final = (
    (coding.VOLUME, "volume", "ml", 0),
    (coding.MEAN_LUNG_DENSITY, "mean", "HU", 0),
    (coding.LAA_950, "LAA-950", "%", 1),
    (coding.PERC15, "Perc15", "HU", 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The words of the page."""

    headline: str = "AI analysis"
    subtitle: str = ""
    measurements: str = "Measurements"
    remarks: str = "Remarks"
    distribution: str = "Density distribution"
    nothing_found: str = "Nothing found"
    not_reviewed: str = "AI result, not reviewed by a physician"
    research_only: str = "RESEARCH USE ONLY"
    lower_bound: str = "cut by the scan or field of view: lower bound"
    caveat: str = "see remarks"
    window: str = "W"
    level: str = "L"
    volume: str = "Volume"
    mean: str = "Mean"
    planes: tuple[str, str, str] = NAMES


def key_image(
    volume: Volume,
    labels: npt.NDArray[np.uint8],
    findings: Findings,
    *,
    texts: Texts | None = None,
    window: tuple[float, float] = LUNG_WINDOW,
    tally: Tally | None = None,
) -> Picture:
    """Page of 1280 x 960 pixels: a coronal and a sagittal view, three axial ones, table, remarks.

    Parameters
    ----------
    labels
        (slices, rows, columns) on the volume's grid: numbers of `findings.segments`.
    window
        Centre and width of the views, HU.
    tally
        Of labels and volume, where it was taken before.

    Returns
    -------
    ndarray
        uint8 (960, 1280, 3), RGB. Holds no patient identity.

    Raises
    ------
    ValueError
        If volume and labels differ in shape.
    """
    if labels.shape != volume.values.shape:
        raise ValueError("volume and labels differ in shape")
    words, tally = texts or Texts(), tally or take_tally(volume.values, labels, volume.padding)
    page = _Page(words, {segment.number: segment.colour for segment in findings.segments}, window)
    page.header(f"{words.window} {window[1]:.0f}  {words.level} {window[0]:.0f}")
    left, top, right, bottom = _MARGIN, _HEADER, WIDTH - _MARGIN - _PANEL - _GAP, HEIGHT - _FOOTER
    planes = Planes(volume, labels, axials=3, names=words.planes, census=tally.census)
    views, split = _arranged(planes, (right - left, bottom - top))
    page.row((views.coronal, views.sagittal), (left, top, right, top + split))
    page.row(views.axials, (left, top + split + _GAP, right, bottom))
    page.panel(findings, _curves(tally, findings), (right + _GAP, top, WIDTH - _MARGIN, bottom))
    page.footer(findings)
    return np.asarray(page.image).copy()


def _curves(tally: Tally, findings: Findings) -> Curves:
    """Distributions of the segments where density was measured; else none."""
    if not _measured(findings, coding.MEAN_LUNG_DENSITY):
        return {}
    return distributions(tally, [segment.number for segment in findings.segments])


def _measured(findings: Findings, concept: coding.CodedConcept) -> bool:
    return any(item.concept == concept for region in findings.regions for item in region.measurements)


def png(rgb: Picture) -> bytes:
    """PNG file of an RGB picture, without any metadata."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def _arranged(planes: Planes, size: tuple[int, int]) -> tuple[Views, int]:
    """Views and the height of the upper row; where height is left, the views show more of the scan."""
    taller = deeper = 0.0
    views = planes.views(empty=True)
    for _ in range(_FILLING_STEPS):
        upper, lower = (views.coronal, views.sagittal), views.axials
        split = _split(upper, lower, size)
        scales = _scale(upper, (size[0], split)), _scale(lower, (size[0], size[1] - _GAP - split))
        spare = (
            size[1]
            - _GAP
            - sum(s * max(v.size_mm[1] for v in row) for s, row in zip(scales, (upper, lower), strict=True))
        )
        taller, deeper = taller + spare / 4 / scales[0], min(deeper + spare / 4 / scales[1], _DEEPER_MM)
        views = planes.views(taller_mm=taller, deeper_mm=deeper, empty=True)
    views = planes.views(taller_mm=taller, deeper_mm=deeper)
    return views, _split((views.coronal, views.sagittal), views.axials, size)


def _split(upper: tuple[View, ...], lower: tuple[View, ...], size: tuple[int, int]) -> int:
    """Height of the upper row with which the pictures cover most of the page; neither row falls below a quarter."""

    def covered(height: int) -> float:
        total = 0.0
        for views, space in ((upper, height), (lower, size[1] - _GAP - height)):
            scale = _scale(views, (size[0], space))
            total += scale**2 * sum(view.size_mm[0] * view.size_mm[1] for view in views)
        return round(total)

    heights = range(size[1] // 4, size[1] * 3 // 4, 4)
    areas = [covered(height) for height in heights]
    equal = [height for height, area in zip(heights, areas, strict=True) if area > 0.999 * max(areas)]
    return equal[len(equal) // 2]


def _scale(views: tuple[View, ...], space: tuple[int, int]) -> float:
    """Pixels per millimetre at which views fit side by side."""
    width = space[0] - _GAP * (len(views) - 1)
    return min(width / sum(view.size_mm[0] for view in views), space[1] / max(view.size_mm[1] for view in views))


class _Page:
    """A page being drawn."""

    def __init__(self, texts: Texts, colours: dict[int, Colour], window: tuple[float, float]) -> None:
        self.image = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
        self._draw = ImageDraw.Draw(self.image)
        self._texts, self._colours, self._window = texts, colours, window

    def text(self, at: tuple[float, float], words: str, size: int, colour: Colour = _TEXT, anchor: str = "ls") -> None:
        """Draw one line; `anchor` as in Pillow."""
        self._draw.text(at, drawable(words), font=font(size), fill=colour, anchor=anchor)

    def header(self, window: str) -> None:
        """Headline at the left, window at the right."""
        self.text((_MARGIN, 42), self._texts.headline, 28)
        self.text((_MARGIN, 64), self._texts.subtitle, 15, _DIM)
        self.text((WIDTH - _MARGIN, 64), window, 15, _DIM, "rs")
        if self._texts.not_reviewed:
            self._chip((WIDTH - _MARGIN, 40), self._texts.not_reviewed, _WARNING)

    def _chip(self, right_middle: tuple[int, int], words: str, colour: Colour) -> None:
        width = font(15).getlength(drawable(words))
        x, y = right_middle
        self._draw.rounded_rectangle((x - width - 24, y - 27, x, y + 1), radius=14, outline=colour, width=2)
        self.text((x - 12, y - 8), words, 15, colour, "rs")

    def row(self, views: tuple[View, ...], box: Box) -> None:
        """Views side by side at one scale, centred in a box."""
        left, top, right, bottom = box
        scale = _scale(views, (right - left, bottom - top))
        sizes = [(max(1, int(w * scale)), max(1, int(h * scale))) for w, h in (view.size_mm for view in views)]
        spare = (right - left - sum(width for width, _ in sizes) - _GAP * (len(views) - 1)) // (len(views) + 1)
        x = left + spare
        # Where a caption reaches the middle of one picture, the letters at the top of all stand under it.
        narrow = any(
            font(14).getlength(drawable(view.caption)) + 34 > width // 2
            for view, (width, _) in zip(views, sizes, strict=True)
        )
        lowered = _UNDER_CAPTION if narrow else 6
        for view, size in zip(views, sizes, strict=True):
            y = top + (bottom - top - size[1]) // 2
            self._view(view, (x, y, x + size[0], y + size[1]), scale, lowered)
            x += size[0] + _GAP + spare

    def _view(self, view: View, box: Box, scale: float, lowered: int) -> None:
        left, top, right, bottom = box
        picture = Image.fromarray(paint(view, (right - left, bottom - top), self._colours, self._window))
        self.image.paste(picture, (left, top))
        self._levels(view, box)
        if min(right - left, bottom - top) < _LEAST:
            return
        captioned = lowered < _UNDER_CAPTION or bottom - top >= _LEAST_WITH_CAPTION
        if captioned:
            self._label((left + 8, top + 7), view.caption, 14, "la")
        middle, centre = (top + bottom) // 2, (left + right) // 2
        places = (
            (left + 8, middle, "lm"),
            (right - 8, middle, "rm"),
            (centre, top + (lowered if captioned else 6), "ma"),
            (centre, bottom - 6, "md"),
        )
        for letter, (x, y, anchor) in zip(view.letters, places, strict=True):
            self._label((x, y), letter, _LETTER, anchor)
        bar = 50 * scale
        if bar < (right - left) / 3:
            self._draw.rectangle((right - 11 - bar, bottom - 12, right - 9, bottom - 7), fill=_BACKGROUND)
            self._draw.rectangle((right - 10 - bar, bottom - 11, right - 10, bottom - 8), fill=_TEXT)
            self._label((right - 10 - bar / 2, bottom - 14), "5 cm", 12, "md")

    def _levels(self, view: View, box: Box) -> None:
        left, top, right, bottom = box
        for height, name in view.levels if right - left >= _LEAST else ():
            y = round(top + height * (bottom - top))
            for x in range(left + 22, right - 22, 9):
                self._draw.line((x, y, x + 2, y), fill=_DIM)
            self._label((right - 30, y - 3), name, 12, "rd")

    def _label(self, at: tuple[float, float], words: str, size: int, anchor: str) -> None:
        self._draw.text(
            at, drawable(words), font=font(size), fill=_TEXT, anchor=anchor, stroke_width=2, stroke_fill=_BACKGROUND
        )

    def panel(self, findings: Findings, curves: Curves, box: Box) -> None:
        """Legend, table, remarks, and a chart where room is left."""
        left, top, right, bottom = box
        self._draw.rounded_rectangle((left, top, right, bottom), radius=10, fill=_CARD)
        y = top + 34
        if findings.regions:
            y = self._table(findings, (left + 18, y, right - 18, bottom))
        else:
            self.text((left + 18, y + 4), self._texts.nothing_found, 22, _WARNING)
            y += 40
        if findings.remarks:
            y = self._remarks(findings.remarks, (left + 18, y + 12, right - 18, bottom - 14))
        if curves and bottom - y > _CHART + 70:
            self._chart(curves, findings, (left + 18, bottom - _CHART - 34, right - 18, bottom - 34))

    def _chart(self, curves: Curves, findings: Findings, box: Box) -> None:
        left, top, right, bottom = box
        self.text((left, top - 16), self._texts.distribution, 18)
        threshold = LAA_THRESHOLD_HU if _measured(findings, coding.LAA_950) else None
        size = (right - left, bottom - top)
        picture = curves_picture(curves, size, self._colours, threshold=threshold, background=_CARD)
        self.image.paste(picture, (left, top))
        if threshold is not None:
            x = left + position(threshold) * (right - left)
            for y in range(top + 4, bottom, 7):
                self._draw.line((x, y, x, y + 3), fill=_TEXT)
        for place, tick in draw_frame(self._draw, box, _DIM, ticks=(-950, -800, -700, -600, -500, -400)):
            self.text((place, bottom + 18), str(tick), 12, _DIM, "ms")
        self.text((right, top + 12), "HU", 12, _DIM, "rs")

    def _table(self, findings: Findings, box: Box) -> int:
        left, y, right, bottom = box
        self.text((left, y), self._texts.measurements, 18)
        used = {measurement.concept for region in findings.regions for measurement in region.measurements}
        columns = [column for column in _COLUMNS if column[0] in used]
        edges = [right - 66 * (len(columns) - 1 - n) for n in range(len(columns))]
        y += 34
        for (_, name, unit, _), edge in zip(columns, edges, strict=True):
            self.text((edge, y), getattr(self._texts, name, name), 13, _DIM, "rs")
            self.text((edge, y + 17), unit, 13, _DIM, "rs")
        y += 28
        marks: set[str] = set()
        regions = findings.regions[: max(1, (bottom - y) // 2 // 34)]
        for region in regions:
            self._draw.line((left, y, right, y), fill=_RULE)
            y += 34
            swatch = self._colours.get(region.segments[0], _TEXT) if len(region.segments) == 1 else None
            if swatch:
                self._draw.rounded_rectangle((left, y - 21, left + 13, y - 8), radius=3, fill=swatch)
            self.text(
                (left + (20 if swatch else 0), y - 9),
                _fitted(region.label, (edges[0] - 58 if edges else right) - left),
                15,
            )
            for (concept, _, _, decimals), edge in zip(columns, edges, strict=True):
                found = next((item for item in region.measurements if item.concept == concept), None)
                words = _number(found, decimals)
                if found is not None and concept == coding.VOLUME and region.truncated:
                    words, marks = f">{words}", marks | {">"}
                if found is not None and found.caveat:
                    words, marks = f"{words}*", marks | {"*"}
                self.text((edge, y - 9), words, 16, _TEXT if found else _DIM, "rs")
        return self._notes(left, y, marks)

    def _notes(self, left: int, y: int, marks: set[str]) -> int:
        for mark, words in ((">", self._texts.lower_bound), ("*", self._texts.caveat)):
            if mark in marks:
                y += 20
                self.text((left, y), f"{mark} {words}", 13, _DIM)
        return y + 22

    def _remarks(self, remarks: tuple[str, ...], box: Box) -> int:
        left, y, right, bottom = box
        self.text((left, y + 14), self._texts.remarks, 18)
        y += 42
        for remark in remarks:
            lines = _wrapped(remark, right - left - 16)
            if y + 20 * len(lines) > bottom:
                self.text((left, y), "...", 15, _DIM)
                return bottom
            self._draw.ellipse((left, y - 9, left + 7, y - 2), fill=_WARNING)
            for line in lines:
                self.text((left + 16, y), line, 15)
                y += 20
            y += 7
        return y

    def footer(self, findings: Findings) -> None:
        """Model at the left; what it may be used for at the right."""
        algorithm = findings.algorithm
        self.text((_MARGIN, HEIGHT - 16), f"{algorithm.title} · {algorithm.name} {algorithm.version}", 15, _DIM)
        if algorithm.research_only:
            self.text((WIDTH - _MARGIN, HEIGHT - 16), self._texts.research_only, 16, _WARNING, "rs")


def _number(measurement: Measurement | None, decimals: int) -> str:
    return "-" if measurement is None else f"{measurement.value:.{decimals}f}"


def _fitted(words: str, width: float) -> str:
    """Words, cut with dots where they are wider than so many pixels."""
    cut = drawable(words)
    while cut and font(15).getlength(cut) > width:
        cut = cut[:-1]
    return cut if cut == drawable(words) else f"{cut[:-1].rstrip()}.."


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
