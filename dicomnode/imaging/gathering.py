"""A volume out of images that still come: each is rescaled at once, before it is known in which order they lie.

May live here: what can be done with a slice before its neighbours are known. What `build` says of the result holds here
too; it is the same volume, without the images having been in memory together.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.imaging.ahead import DecodingAhead
from dicomnode.imaging.decode import transfer_syntax
from dicomnode.imaging.geometry import Plane, arrange, plane_of
from dicomnode.imaging.stored import NATIVE, Integers
from dicomnode.imaging.volume import Slices, Volume

_FEW = 16  # slices that room is made for where nobody says how many come


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

    def add(self, dataset: Dataset) -> None:
        """Take an image.

        Raises
        ------
        StudyError
            ``geometry-...`` where it says not where it lies.
        """
        self._datasets.append(dataset)
        self._planes.append(plane_of(dataset))
        if transfer_syntax(dataset) in NATIVE:
            self._read(len(self._datasets) - 1)
        else:
            self._decoder.begin(dataset)
            self._later.append(len(self._datasets) - 1)

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

    def _read(self, index: int) -> None:
        """Rescale an image into its place; what is wrong with it is kept."""
        if not self._faults:
            try:
                self._put(index, self._decoder.pixels(self._datasets[index]))
            except StudyError as fault:
                self._faults.append(fault)
        self._datasets[index].pop("PixelData", None)

    def _put(self, index: int, stored: Integers) -> None:
        slices = self._slices = self._slices or Slices((self._expected, *stored.shape))
        plane = self._planes[index]
        if not stored.shape == (plane.rows, plane.columns) == slices.values.shape[1:]:
            raise StudyError("pixel-undecodable", rows=stored.shape[0], columns=stored.shape[1])
        if index >= len(slices.values):
            slices.grow(2 * index)
        slices.put(index, self._datasets[index], stored)
