"""The key image: one page that shows what was found, where, and the numbers; without any identity of the patient.

May live here: layout, PNG. May not: which planes are shown (views), the table (panel), letters (typeface), DICOM objects. Texts come in as
a table, so that a site may have them in its language.
"""

from __future__ import annotations

import io
from collections.abc import Set as AbstractSet
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from dicomnode import coding
from dicomnode.findings import Findings
from dicomnode.imaging.chart import Curves, curves_picture, distributions, draw_frame, position
from dicomnode.imaging.contour import Polyline, area_mm2, contour, key_slices, spread_slices
from dicomnode.imaging.measure import LAA_THRESHOLD_HU
from dicomnode.imaging.panel import DIM, TEXT, WARNING, Panel, Pen, Texts
from dicomnode.imaging.tally import Tally, take_tally
from dicomnode.imaging.typeface import drawable, font
from dicomnode.imaging.views import LUNG_WINDOW, Colour, Picture, Planes, View, Views, paint
from dicomnode.imaging.volume import Volume

__all__ = ["Polyline", "Texts", "area_mm2", "contour", "key_image", "key_slices", "png", "spread_slices"]

Box = tuple[int, int, int, int]

WIDTH, HEIGHT = 1280, 960
#: Axial views, at most.
AXIALS: Final = 3
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


def key_image(
    volume: Volume,
    labels: npt.NDArray[np.uint8],
    findings: Findings,
    *,
    texts: Texts | None = None,
    window: tuple[float, float] = LUNG_WINDOW,
    tally: Tally | None = None,
    planes: Planes | None = None,
) -> Picture:
    """Page of 1280 x 960 pixels: a coronal and a sagittal view, three axial ones, table, remarks.

    Parameters
    ----------
    labels
        (slices, rows, columns) on the volume's grid: numbers of `findings.segments`.
    window
        Centre and width of the views; a width below 0 shows low values bright.
    tally
        Of labels and volume, where it was taken before.
    planes
        Those to show, where they were chosen before.

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
    page.header(f"{words.window} {_rounded(abs(window[1]))}  {words.level} {_rounded(window[0])}")
    left, top, right, bottom = _MARGIN, _HEADER, WIDTH - _MARGIN - _PANEL - _GAP, HEIGHT - _FOOTER
    planes = planes or Planes(volume, labels, axials=AXIALS, names=words.planes, census=tally.census)
    views, split = _arranged(planes, (right - left, bottom - top))
    page.row((views.coronal, views.sagittal), (left, top, right, top + split))
    page.row(views.axials, (left, top + split + _GAP, right, bottom))
    drawn = (views.coronal, views.sagittal, *views.axials)
    shown = np.flatnonzero(sum(np.bincount(view.labels.reshape(-1), minlength=256) for view in drawn))
    unseen = {segment.number for segment in findings.segments} - set(shown.tolist())
    page.panel(findings, _curves(tally, findings), (right + _GAP, top, WIDTH - _MARGIN, bottom), unseen)
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


def _rounded(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


class _Page(Pen):
    """A page being drawn."""

    def __init__(self, texts: Texts, colours: dict[int, Colour], window: tuple[float, float]) -> None:
        self.image = Image.new("RGB", (WIDTH, HEIGHT), _BACKGROUND)
        super().__init__(ImageDraw.Draw(self.image))
        self._texts, self._colours, self._window = texts, colours, window

    def header(self, window: str) -> None:
        """Headline at the left, window at the right."""
        self.text((_MARGIN, 42), self._texts.headline, 28)
        self.text((_MARGIN, 64), self._texts.subtitle, 15, DIM)
        self.text((WIDTH - _MARGIN, 64), window, 15, DIM, "rs")
        if self._texts.not_reviewed:
            self._chip((WIDTH - _MARGIN, 40), self._texts.not_reviewed, WARNING)

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
            self._draw.rectangle((right - 10 - bar, bottom - 11, right - 10, bottom - 8), fill=TEXT)
            self._label((right - 10 - bar / 2, bottom - 14), "5 cm", 12, "md")

    def _levels(self, view: View, box: Box) -> None:
        left, top, right, bottom = box
        for height, name in view.levels if right - left >= _LEAST else ():
            y = round(top + height * (bottom - top))
            for x in range(left + 22, right - 22, 9):
                self._draw.line((x, y, x + 2, y), fill=DIM)
            self._label((right - 30, y - 3), name, 12, "rd")

    def _label(self, at: tuple[float, float], words: str, size: int, anchor: str) -> None:
        self._draw.text(
            at, drawable(words), font=font(size), fill=TEXT, anchor=anchor, stroke_width=2, stroke_fill=_BACKGROUND
        )

    def panel(self, findings: Findings, curves: Curves, box: Box, unseen: AbstractSet[int]) -> None:
        """Legend, table, remarks, and a chart where room is left."""
        left, top, right, bottom = box
        self._draw.rounded_rectangle((left, top, right, bottom), radius=10, fill=_CARD)
        panel = Panel(self._draw, self._texts, self._colours, unseen)
        y = panel.write(findings, (left + 18, top + 34, right - 18, bottom))
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
                self._draw.line((x, y, x, y + 3), fill=TEXT)
        for place, tick in draw_frame(self._draw, box, DIM, ticks=(-950, -800, -700, -600, -500, -400)):
            self.text((place, bottom + 18), str(tick), 12, DIM, "ms")
        self.text((right, top + 12), "HU", 12, DIM, "rs")

    def footer(self, findings: Findings) -> None:
        """Model at the left; what it may be used for at the right."""
        algorithm = findings.algorithm
        self.text((_MARGIN, HEIGHT - 16), f"{algorithm.title} · {algorithm.name} {algorithm.version}", 15, DIM)
        if algorithm.research_only:
            self.text((WIDTH - _MARGIN, HEIGHT - 16), self._texts.research_only, 16, WARNING, "rs")
