"""Planes that differ in their place and UID alone: the library looks at a few of them, and the others are filled in.

May live here: which series are like that, and what each of their planes has in bytes. Whether the library made of the few
what a mould gives is looked at for each object; where not, it looks at all of them. What it makes stands in `prepared`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

from highdicom.spatial import get_volume_positions
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import DS, format_number_as_ds

from dicomnode.results.mould import Mould
from dicomnode.results.sources import SourceSeries, positions, steps_of

#: Planes from which on a few are looked at.
_FEWEST: Final = 4
#: What those differ in that stand for all: the two first ones say which way the library counts.
_SHOWN: Final = (0, 1, -1)
#: Planes that lie closer are left to the library, mm: by rounding alone it might see them in another order.
_APART: Final = 1e-6
_ALIKE: Final = tuple(
    Tag(keyword)
    for keyword in (
        "SOPClassUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "ImageOrientationPatient",
        "Rows",
        "Columns",
    )
)
_POSITION: Final = Tag("ImagePositionPatient")
_CLASS: Final = Tag("ReferencedSOPClassUID")
_INSTANCE: Final = Tag("ReferencedSOPInstanceUID")
_OPEN: Final = frozenset({int(_POSITION), int(_CLASS), int(_INSTANCE)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """A series of such planes.

    Attributes
    ----------
    series
        All planes.
    few
        The same series with those alone that stand for all.
    """

    series: SourceSeries = field(repr=False)
    few: SourceSeries = field(repr=False)
    _values: tuple[Mapping[int, bytes], ...] = field(repr=False)

    @classmethod
    def of(cls, series: SourceSeries, uids: Mapping[str, str]) -> Self | None:
        """What a series is like; None where its planes differ otherwise, lie in no order, or are few anyway.

        Parameters
        ----------
        uids
            Pseudonymous UID → original UID.
        """
        headers = series.headers
        if len(headers) < _FEWEST or series.framed or not series.in_space:
            return None
        first = [headers[0].get(tag) for tag in _ALIKE]
        if any([header.get(tag) for tag in _ALIKE] != first for header in headers[1:]):
            return None
        steps = steps_of(headers)
        if not (steps > _APART).all():
            return None
        try:
            values = tuple(_values_of(header, uids) for header in headers)
        except ValueError:
            return None
        return cls(series=series, few=replace(series, headers=tuple(headers[at] for at in _SHOWN)), _values=values)

    def items(self, shown: Sequence[bytes]) -> list[bytes] | None:
        """Items of all planes, out of those of the few; None where these are not of one form."""
        mould = Mould.of(shown[0], _OPEN)
        made = [mould.fill(values) for values in self._values]
        return made if [made[at] for at in _SHOWN] == list(shown) else None

    def long(self, shown: bytes) -> bytes | None:
        """An element with an item for each plane, out of that with the few; None where these are not of one form."""
        mould = Mould.of(shown, _OPEN)
        few = [self._values[at] for at in _SHOWN]
        return mould.fill_many(self._values) if mould.fill_many(few) == shown else None

    def ranks(self, shown: Sequence[int]) -> list[int] | None:
        """Places of all planes in the library's order, from 1, out of those of the few; None where it has another order."""
        count = len(self.series.headers)
        upward = {(1, 2, 3): True, (3, 2, 1): False}.get((shown[0], shown[1], shown[2]))
        if upward is None:
            return None
        return list(range(1, count + 1)) if upward else list(range(count, 0, -1))

    def space(self, header: Dataset) -> None:
        """Give an object the distance between slices (0018,0088) that all of them have, or none, as the library does."""
        measures = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.pop("SpacingBetweenSlices", None)
        first = self.series.headers[0]
        spacing, _ = get_volume_positions(
            image_positions=positions(self.series.headers), image_orientation=first.ImageOrientationPatient
        )
        if spacing is not None:
            measures.SpacingBetweenSlices = format_number_as_ds(float(spacing))


def _values_of(header: Dataset, uids: Mapping[str, str]) -> Mapping[int, bytes]:
    """What a plane has of its own, encoded as the library would."""
    place = [DS(value, auto_format=True).original_string for value in header[_POSITION].value]  # type: ignore[union-attr]
    return {
        int(_POSITION): "\\".join(place).encode("ascii"),
        int(_CLASS): _uid(header.SOPClassUID, uids),
        int(_INSTANCE): _uid(header.SOPInstanceUID, uids),
    }


def _uid(value: object, uids: Mapping[str, str]) -> bytes:
    uid = uids.get(str(value), str(value))
    if not uid or "\\" in uid or uid != uid.strip():  # the library has its own way with what is no UID
        raise ValueError("no UID")
    return uid.encode("ascii")
