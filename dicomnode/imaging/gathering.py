"""A volume out of images that still come: each is rescaled at once, before it is known in which order they lie.

May live here: what can be done with a slice before its neighbours are known. What `build` says of the result holds here
too; it is the same volume, without the images having been in memory together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.encoded import series_of
from dicomnode.errors import StudyError
from dicomnode.imaging.ahead import DecodingAhead
from dicomnode.imaging.decode import native_pixels, transfer_syntax
from dicomnode.imaging.geometry import arrange
from dicomnode.imaging.plane import Plane, plane_beside, plane_of
from dicomnode.imaging.stored import NATIVE, Integers, PixelFormat, pixel_format
from dicomnode.imaging.volume import Rescale, Slices, Volume, rescale_of

#: All that a slice's place, format and values depend on, besides its position, its UID and its pixels.
DECIDING: Final = tuple(
    Tag(keyword)
    for keyword in (
        "Modality",
        "SliceThickness",
        "ImageOrientationPatient",
        "FrameOfReferenceUID",
        "SamplesPerPixel",
        "PhotometricInterpretation",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "PixelSpacing",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "PixelPaddingValue",
        "PixelPaddingRangeLimit",
        "RescaleIntercept",
        "RescaleSlope",
        "FloatPixelData",
        "DoubleFloatPixelData",
    )
)
_FEW: Final = 16  # slices that room is made for where nobody says how many come


def planes_of(datasets: Iterable[Dataset]) -> list[Plane]:
    """Planes of single-frame images; of those that say what their series says, place and UID alone are looked at.

    Raises
    ------
    StudyError
        As `plane_of`.
    """
    planes: list[Plane] = []
    known: tuple[object, Plane] | None = None
    for dataset in datasets:
        series = series_of(dataset, DECIDING)
        if known is not None and known[0] is series:
            planes.append(plane_beside(known[1], dataset))
            continue
        planes.append(plane_of(dataset))
        known = None if series is None else (series, planes[-1])
    return planes


class _Known(NamedTuple):
    """What is known of an image whose pixels were taken: it holds for others of its series that differ in none of it."""

    series: object
    plane: Plane
    form: PixelFormat
    rule: Rescale


class Gathering:
    """Takes the images of a series, one by one; `finish` gives the volume.

    Parameters
    ----------
    decoder
        Reads their pixels; compressed ones meanwhile.
    expected
        How many are likely to come; 0: nobody knows.

    Notes
    -----
    An image loses its pixels as soon as they were read. What is wrong with pixels is told after what is wrong with the
    geometry, whatever came first.
    """

    def __init__(self, decoder: DecodingAhead, expected: int = 0) -> None:
        self._decoder = decoder
        self._expected = expected or _FEW
        self._datasets: list[Dataset] = []
        self._planes: list[Plane] = []
        self._slices: Slices | None = None
        self._later: list[int] = []
        self._faults: list[StudyError] = []
        self._known: _Known | None = None

    def add(self, dataset: Dataset) -> None:
        """Take an image.

        Raises
        ------
        StudyError
            ``geometry-...`` where it says not where it lies.
        """
        series, known, index = series_of(dataset, DECIDING), self._known, len(self._datasets)
        alike = known if known is not None and known.series is series else None
        self._datasets.append(dataset)
        self._planes.append(plane_of(dataset) if alike is None else plane_beside(alike.plane, dataset))
        if transfer_syntax(dataset) not in NATIVE:
            self._decoder.begin(dataset)
            self._later.append(index)
            return
        self._read(index, alike)
        if alike is None and series is not None and not self._faults:
            rule, form = rescale_of(dataset), pixel_format(dataset)
            self._known = _Known(series=series, plane=self._planes[index], form=form, rule=rule)

    def finish(self) -> tuple[Volume, list[Dataset]]:
        """The volume, and its images in source order.

        Raises
        ------
        StudyError
            As `volume.build`.
        """
        geometry = arrange(self._planes)
        for index in self._later:
            self._read(index)
        if self._faults:
            raise self._faults[0]
        if self._slices is None:  # `arrange` has refused that
            raise StudyError("geometry-too-few-slices", slices=0)
        order, count = list(geometry.order), len(self._planes)
        values, padding = self._slices.values[:count], self._slices.padding
        if padding is not None:
            padding = padding[:count]
        if order != list(range(count)):
            values, padding = values[order], None if padding is None else padding[order]
        uids = tuple(self._planes[index].sop_instance_uid for index in order)
        built = Volume(values=values, geometry=geometry, padding=padding, sop_instance_uids=uids)
        return built, [self._datasets[index] for index in order]

    def _read(self, index: int, alike: _Known | None = None) -> None:
        """Rescale an image into its place; what is wrong with it is kept."""
        dataset = self._datasets[index]
        if not self._faults:
            try:
                if alike is None:
                    self._put(index, self._decoder.pixels(dataset), rescale_of(dataset))
                else:
                    self._put(index, native_pixels(dataset, alike.form), alike.rule)
            except StudyError as fault:
                self._faults.append(fault)
        dataset.pop("PixelData", None)

    def _put(self, index: int, stored: Integers, rule: Rescale) -> None:
        slices = self._slices = self._slices or Slices((self._expected, *stored.shape))
        plane = self._planes[index]
        if not stored.shape == (plane.rows, plane.columns) == slices.values.shape[1:]:
            raise StudyError("pixel-undecodable", rows=stored.shape[0], columns=stored.shape[1])
        if index >= len(slices.values):
            slices.grow(2 * index)
        slices.put(index, rule, stored)
