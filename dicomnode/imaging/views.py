"""Views of a volume for people: coronal, sagittal and axial pictures in radiological convention, windowed and outlined.

May live here: which planes are shown, their cut, window and overlay. May not: the page around them (render), DICOM.

Radiological convention: the patient's right lies at the viewer's left, the head up, the front up (axial) or at the left
(sagittal).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from dicomnode.imaging.census import Box, Census, box_of, take_census
from dicomnode.imaging.contour import spread
from dicomnode.imaging.geometry import VolumeGeometry, canonical_axes
from dicomnode.imaging.straighten import straighten
from dicomnode.imaging.volume import Volume, canonical

Array = npt.NDArray[Any]
Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
Span = tuple[int, int]
AlongAxes = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]

#: Lung window: centre and width, HU.
LUNG_WINDOW: Final = (-600.0, 1500.0)
_MARGIN_MM: Final = 18.0
_BODY_HU: Final = -300
_BODY_SHARE: Final = 0.05  # of the largest count along an axis: a table is less
_SLAB_MM: Final = 2.0
_LINE_PIXELS: Final = 2.0
_FILL: Final = 0.16
_SMALL_PIECE: Final = 8  # voxels of a view
_LOW_PEAK: Final = 0.75  # of a mask that smoothing has taken from
_TRUNCATE: Final = 4.0  # standard deviations at which the smoothing filter ends
#: Letters along x, y and z of the patient, against and with each (PS3.3 C.7.6.1.1.1).
_LETTERS: Final = (("R", "L"), ("A", "P"), ("F", "H"))
#: Cosine from which an oblique direction is told by this letter, too: 15 degrees out of a plane of the patient.
_OBLIQUE: Final = 0.26
#: Share of its largest area from which a label is seen well enough.
_SEEN: Final = 0.25
#: What the planes across each canonical axis are called.
NAMES: Final = ("Axial", "Coronal", "Sagittal")
_SIGNS: Final = (("I", "S"), ("A", "P"), ("R", "L"))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A plane of the patient, cut to what matters.

    Attributes
    ----------
    values, labels
        (rows, columns): HU and segment numbers.
    size_mm
        Width and height.
    letters
        Orientation at left, right, top and bottom: where the patient's sides are; of an oblique view several each, the
        nearest first.
    levels
        Heights (0 top, 1 bottom) of other views' planes, with their captions' first words.
    """

    values: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    size_mm: tuple[float, float]
    letters: tuple[str, str, str, str]
    caption: str
    levels: tuple[tuple[float, str], ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """The planes of one page."""

    coronal: View
    sagittal: View
    axials: tuple[View, ...]


class Planes:
    """The planes to show: coronal and sagittal where most is labelled, axial ones spread over what is labelled.

    Parameters
    ----------
    labels
        (slices, rows, columns) on the source grid, like the volume.
    axials
        Axial planes, at most.
    names
        What axial, coronal and sagittal planes are called.
    census
        Of the labels, where it was taken before.
    """

    def __init__(
        self,
        volume: Volume,
        labels: npt.NDArray[np.uint8],
        *,
        axials: int,
        names: tuple[str, str, str] = NAMES,
        census: Census | None = None,
    ) -> None:
        self._names = names
        grid = straighten(volume.geometry)
        straight = grid.labels(labels)
        if census is None or straight is not labels:
            census = take_census(straight)
        counts = _turned(census, grid.geometry)
        self._geometry = grid.geometry
        self._values = canonical(grid.volume(volume).values, grid.geometry)
        self._labels = canonical(straight, grid.geometry)
        self._spacing = canonical_axes(grid.geometry).spacing
        self._spans, self._coronal_at, self._sagittal_at = _extent(counts, self._values, self._spacing)
        self._grid = grid
        self._levels = sorted(covering(self._areas(census), axials), reverse=True)

    def _areas(self, census: Census) -> npt.NDArray[np.int64]:
        """Voxels of every label on every axial plane: int64 (planes, labels)."""
        axes = canonical_axes(self._geometry)
        if axes.permutation[0] == 0:
            areas = census.counts[:, 1:]
            return areas[::-1] if axes.flips[0] else areas
        return np.stack([np.bincount(plane.reshape(-1), minlength=256)[1:] for plane in self._labels])

    @property
    def source_slices(self) -> tuple[int, ...]:
        """Indices in source order of the slices that the views show as they were taken."""
        axes = canonical_axes(self._geometry)
        axis = axes.inverse_permutation[0]
        planes = (self._levels, [self._coronal_at], [self._sagittal_at])[axis]
        places = [axes.shape[axis] - 1 - at if axes.flips[axis] else at for at in planes]
        return tuple(sorted({int(index) for index in self._grid.nearest_source()[places]}))

    def views(self, *, taller_mm: float = 0.0, deeper_mm: float = 0.0, empty: bool = False) -> Views:
        """Views cut to the labels with a margin.

        Parameters
        ----------
        taller_mm
            More at the top and bottom of the coronal and sagittal view, each, where the scan has it.
        deeper_mm
            More at the front and back of axial views, each.
        empty
            Whether sizes are enough, and no voxel is looked at.
        """
        z, y, x = self._spans
        tall = self._wider(z, 0, taller_mm)
        levels = list(enumerate(self._levels, start=1))
        marks = tuple((1 - (at - tall[0] + 0.5) / (tall[1] - tall[0]), str(number)) for number, at in levels)
        deep = [z, self._wider(y, 1, deeper_mm), x]
        return Views(
            coronal=self._view(1, self._coronal_at, [tall, y, x], marks, empty=empty),
            sagittal=self._view(2, self._sagittal_at, [tall, y, x], marks, empty=empty),
            axials=tuple(self._view(0, at, deep, number=number, empty=empty) for number, at in levels),
        )

    def _wider(self, span: Span, axis: int, millimetres: float) -> Span:
        more = int(millimetres / self._spacing[axis])
        return max(span[0] - more, 0), min(span[1] + more, self._values.shape[axis])

    def _letters(self, rows: int, columns: int) -> tuple[str, str, str, str]:
        """Of a view whose rows and columns run along canonical axes: the head is up, else the back down."""
        axes = canonical_axes(self._geometry)
        ways = self._geometry.affine()[:3, list(axes.permutation)] / axes.spacing
        ways = np.where(axes.flips, -ways, ways)
        down, across = -ways[:, rows] if rows == 0 else ways[:, rows], ways[:, columns]
        return letters_of(-across), letters_of(across), letters_of(-down), letters_of(down)

    def _view(
        self,
        axis: int,
        at: int,
        spans: list[Span],
        levels: tuple[tuple[float, str], ...] = (),
        *,
        number: int = 0,
        empty: bool,
    ) -> View:
        """Plane across a canonical axis: a slab of 2 mm where voxels are thinner."""
        rows, columns = ((1, 2), (0, 2), (0, 1))[axis]
        height, width = (spans[side][1] - spans[side][0] for side in (rows, columns))
        area = [slice(0) if empty else slice(*span) for span in spans]
        half = int(_SLAB_MM / 2 / self._spacing[axis])
        area[axis] = slice(max(at - half, 0), at + half + 1)
        values = self._values[tuple(area)].mean(axis=axis, dtype=np.float32)
        area[axis] = slice(at, at + 1)
        labels = self._labels[tuple(area)].squeeze(axis)
        if rows == 0:  # the head is up
            values, labels = values[::-1], labels[::-1]
        name = f"{self._names[axis]} {number}" if number else self._names[axis]
        return View(
            values=np.ascontiguousarray(values),
            labels=np.ascontiguousarray(labels),
            size_mm=(width * self._spacing[columns], height * self._spacing[rows]),
            letters=self._letters(rows, columns),
            caption=f"{name} · {_place(self._geometry, axis, at)}",
            levels=levels,
        )


def covering(areas: npt.NDArray[np.int64], count: int) -> tuple[int, ...]:
    """Up to `count` planes, with equal shares of what is labelled between them.

    Where one of the labels would then hardly be seen: those that together show most of each.

    Parameters
    ----------
    areas
        Voxels of every label on every plane.
    """
    even = spread(areas.sum(axis=1), count)
    present = areas[:, areas.any(axis=0)]
    shares = present / np.maximum(present.max(axis=0), 1)
    if not present.size or (shares[list(even)].max(axis=0) >= _SEEN).all():
        return even
    chosen: set[int] = set()
    best = np.zeros(shares.shape[1])
    for _ in range(count):
        gains = np.maximum(shares, best).sum(axis=1)
        equal = np.flatnonzero(gains >= gains.max() * (1 - 1e-9))
        at = int(equal[len(equal) // 2])
        chosen.add(at)
        best = np.maximum(best, shares[at])
    return tuple(sorted(chosen))


def letters_of(direction: npt.NDArray[np.float64]) -> str:
    """Where a direction of the patient leads: the letter of its nearest axis, then those that it leans to."""
    axes = sorted(range(3), key=lambda axis: -round(abs(float(direction[axis])), 6))
    told = [axis for axis in axes if abs(direction[axis]) >= _OBLIQUE]
    return "".join(_LETTERS[axis][int(direction[axis] > 0)] for axis in told)


def _place(geometry: VolumeGeometry, axis: int, at: int) -> str:
    """Patient coordinate of a canonical plane's middle: for instance ``S 12 mm``."""
    axes = canonical_axes(geometry)
    index = [(size - 1) / 2 for size in axes.shape]
    index[axis] = at
    turned = [axes.shape[k] - 1 - index[k] if axes.flips[k] else index[k] for k in range(3)]
    source = [turned[k] for k in axes.inverse_permutation]
    millimetres = float((geometry.affine() @ [*source, 1.0])[2 - axis])
    return f"{_SIGNS[axis][int(millimetres >= 0)]} {abs(millimetres):.0f} mm"


def _turned(census: Census, geometry: VolumeGeometry) -> AlongAxes:
    """Labelled voxels along the canonical axes."""
    axes = canonical_axes(geometry)
    along = [census.along[axis] for axis in axes.permutation]
    z, y, x = (count[::-1] if flip else count for count, flip in zip(along, axes.flips, strict=True))
    return z, y, x


def _extent(counts: AlongAxes, values: Array, spacing: tuple[float, float, float]) -> tuple[list[Span], int, int]:
    """Spans along z, y, x with a margin, and the y and x to show.

    Of the labels, where most is labelled; without any, of the body and its middle; without one, of everything.
    """
    found = bool(counts[0].any())
    if not found:
        z, y, x = (np.where(count > count.max() * _BODY_SHARE, count, 0) for count in _counts(values, _BODY_HU))
        counts = z, y, x
    if not counts[0].any():
        z, y, x = (np.ones(size, np.int64) for size in values.shape)
        counts = z, y, x
    spans = []
    for count, step in zip(counts, spacing, strict=True):
        where = np.flatnonzero(count)
        margin = round(_MARGIN_MM / step)
        spans.append((max(int(where[0]) - margin, 0), min(int(where[-1]) + margin + 1, len(count))))
    if found:
        return spans, int(counts[1].argmax()), int(counts[2].argmax())
    return spans, sum(spans[1]) // 2, sum(spans[2]) // 2


def _counts(array: Array, above: int) -> AlongAxes:
    """Voxels above a value for each index of each axis."""
    depth, height, width = array.shape
    present, in_rows, in_columns = (np.zeros(size, np.int64) for size in (depth, height, width))
    for z, plane in enumerate(array):
        inside = plane > above
        rows = np.count_nonzero(inside, axis=1)
        present[z] = rows.sum()
        if present[z]:
            in_rows += rows
            in_columns += np.count_nonzero(inside, axis=0)
    return present, in_rows, in_columns


def paint(view: View, size: tuple[int, int], colours: Mapping[int, Colour], window: tuple[float, float]) -> Picture:
    """RGB picture (height, width, 3) of a view: windowed, labels tinted and outlined.

    Parameters
    ----------
    size
        Width and height, pixels.
    window
        Centre and width, HU (PS3.3 C.11.2.1.2).
    """
    centre, width = window
    gray = np.clip((view.values - (centre - width / 2)) / width, 0, 1) * 255
    image = Image.fromarray(gray.astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)
    picture = np.repeat(np.asarray(image, np.float32)[:, :, None], 3, axis=2)
    for number in np.unique(view.labels[view.labels > 0]):
        mask = (view.labels == number).astype(np.float32)
        place, fill, line = _overlay(mask, size)
        colour = np.array(colours.get(int(number), (255, 255, 255)), np.float32)
        part = picture[place]
        for alpha in (fill * _FILL, line):
            part += (colour - part) * alpha[:, :, None]
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _overlay(mask: npt.NDArray[np.float32], size: tuple[int, int]) -> tuple[Box, Array, Array]:
    """Opacity of the inside and of an antialiased outline, from the distance to the half level of the smooth mask.

    Given for the part of the picture beyond which there is neither.
    """
    whole = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR), np.float32)
    sigma = [max(0.7, 0.6 * size[1 - axis] / mask.shape[axis]) for axis in (0, 1)]
    place = _around(whole, [int(_TRUNCATE * one + 0.5) + 2 for one in sigma])
    smooth = ndimage.gaussian_filter(whole[place], sigma, mode="nearest", truncate=_TRUNCATE)
    if _has_small_pieces(mask):
        smooth = _raised(smooth, whole[place] > 0, [2 * math.ceil(3 * one) + 1 for one in sigma])
    down, across = (np.gradient(smooth, axis=axis) if smooth.shape[axis] > 1 else 0 * smooth for axis in (0, 1))
    distance = (smooth - 0.5) / np.maximum(np.hypot(down, across), 0.02)
    return place, np.clip(distance + 0.5, 0, 1), np.clip((_LINE_PIXELS + 1) / 2 - np.abs(distance), 0, 1)


def _has_small_pieces(mask: npt.NDArray[np.float32]) -> bool:
    """Whether a piece of a mask is so small that smoothing may take all of it."""
    pieces, count = ndimage.label(mask[box_of(mask != 0)])
    return bool(count and np.bincount(pieces.reshape(-1))[1:].min() <= _SMALL_PIECE)


def _raised(smooth: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_], reach: list[int]) -> Array:
    """A smooth mask in which the peak of a small piece is 1, as that of a large one is."""
    peaks = ndimage.maximum_filter(np.where(inside, smooth, np.float32(0)), reach)
    small = (peaks > 0) & (peaks < _LOW_PEAK)
    return np.asarray(np.divide(smooth, peaks, out=smooth.copy(), where=small))


def _around(smooth: npt.NDArray[np.float32], margins: list[int]) -> Box:
    """Rows and columns that hold something, and so many more on each side as the filter reaches."""
    box = box_of(smooth != 0)
    rows, columns = (
        slice(max(span.start - margin, 0), span.stop + margin) for span, margin in zip(box, margins, strict=True)
    )
    return rows, columns
