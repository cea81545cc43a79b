"""What the library makes over a stand-in label map: the header, and the item of every plane, with two blanks.

May live here: that one object, taken apart into bytes. Where all planes are alike, the library looks at a few of them
(`planes`). What the labels decide is filled in by `prepared`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.encoded import encode_dataset
from dicomnode.findings import Findings
from dicomnode.identity import SourceIdentity
from dicomnode.results import segmentation
from dicomnode.results.context import ResultContext
from dicomnode.results.identity import restore
from dicomnode.results.planes import Alike
from dicomnode.results.sources import SourceSeries

_SYNTAX: Final = str(ExplicitVRLittleEndian)
#: Sequences with an item for every image, which the labels do not touch: they are encoded beforehand.
_BULK: Final = ("ReferencedSeriesSequence", "SourceImageSequence")
#: Elements of an item that the labels decide: Referenced Segment Number, and both Dimension Index Values.
NUMBER: Final = struct.pack("<HH2sH", 0x0062, 0x000B, b"US", 2)
INDEX: Final = struct.pack("<HH2sH", 0x0020, 0x9157, b"UL", 8)
#: Rows and columns of the stand-in label map: enough for every value of a map to have a voxel in one plane.
_SIDE: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StandIn:
    """The object, taken apart.

    Attributes
    ----------
    header
        In pseudonymous space, with every segment of the model, without what stands in the others.
    bulk, brief
        Encoded elements with an item for every image, by tag, with the source's identity; and the same with one image.
    items
        Of Per-Frame Functional Groups Sequence, one for each plane: encoded, without tag and length, nothing in the blanks.
    ranks
        Place of each plane in the library's order of frames, from 1.
    """

    header: Dataset = field(repr=False)
    bulk: dict[int, bytes] = field(repr=False)
    brief: dict[int, bytes] = field(repr=False)
    items: list[bytes] = field(repr=False)
    ranks: list[int] = field(repr=False)


def build(series: SourceSeries, findings: Findings, context: ResultContext, identity: SourceIdentity) -> StandIn | None:
    """Build it over a series.

    Returns
    -------
    StandIn or None
        None where an item has no room for blanks.
    """
    alike = Alike.of(series, identity.uids)
    made = None if alike is None else _of_few(alike, findings, context, identity)
    return made or _of_all(series, findings, context, identity)


def _of_few(alike: Alike, findings: Findings, context: ResultContext, identity: SourceIdentity) -> StandIn | None:
    """The same out of a few of the planes; None where the others do not follow from them."""
    few = _of_all(alike.few, findings, context, identity)
    if few is None:
        return None
    items, ranks = alike.items(few.items), alike.ranks(few.ranks)
    bulk = {tag: whole for tag, encoded in few.bulk.items() if (whole := alike.long(encoded)) is not None}
    if items is None or ranks is None or len(bulk) < len(few.bulk):
        return None
    alike.space(few.header)
    return replace(few, items=items, ranks=ranks, bulk=bulk)


def _of_all(
    series: SourceSeries, findings: Findings, context: ResultContext, identity: SourceIdentity
) -> StandIn | None:
    """What the library makes of all planes of a series."""
    header = segmentation.build(_stand_in(len(series.headers), findings), _small(series), findings, context)
    header.Rows, header.Columns = series.shape[1:]
    groups = restore(_only(header, "PerFrameFunctionalGroupsSequence"), identity).PerFrameFunctionalGroupsSequence
    places = segmentation.planes_of(header, series)
    del header.PerFrameFunctionalGroupsSequence, header.PixelData
    found: dict[int, bytes] = {}
    for (index, _), group in zip(places, groups, strict=True):
        if index not in found:
            found[index] = encode_dataset(group, _SYNTAX)
    if len(found) != len(series.headers) or any(
        one.count(NUMBER) != 1 or one.count(INDEX) != 1 for one in found.values()
    ):
        return None
    items = [found[index] for index in sorted(found)]
    bulk, brief = _take_bulk(header, identity)
    ranks = [struct.unpack_from("<I", item, index_at(item) + 4)[0] for item in items]
    return StandIn(header=header, bulk=bulk, brief=brief, items=[_blank(item) for item in items], ranks=ranks)


def number_at(item: bytes) -> int:
    """Where the blank for Referenced Segment Number begins."""
    return item.find(NUMBER) + len(NUMBER)


def index_at(item: bytes) -> int:
    """Where the blank for both Dimension Index Values begins."""
    return item.find(INDEX) + len(INDEX)


def _blank(item: bytes) -> bytes:
    blank = bytearray(item)
    struct.pack_into("<H", blank, number_at(item), 0)
    struct.pack_into("<II", blank, index_at(item), 0, 0)
    return bytes(blank)


def _take_bulk(header: Dataset, identity: SourceIdentity) -> tuple[dict[int, bytes], dict[int, bytes]]:
    """Encode the long sequences, take them out of the header, and encode them again with one image each."""
    bulk, brief = {}, {}
    for keyword in _BULK:
        if keyword in header:
            element = restore(_only(header, keyword), identity)[keyword]
            part = Dataset()
            part.add(element)
            bulk[int(element.tag)] = encode_dataset(part, _SYNTAX)
            del element.value[1:]
            for nested in element.value[0]:
                if nested.VR == "SQ":
                    del nested.value[1:]
            brief[int(element.tag)] = encode_dataset(part, _SYNTAX)
            delattr(header, keyword)
    return bulk, brief


def _stand_in(slices: int, findings: Findings) -> NDArray[np.uint8]:
    """Label map in which every plane has a voxel, and every segment too."""
    labels = np.zeros((slices, _SIDE * _SIDE), dtype=np.uint8)
    numbers = [segment.number for segment in findings.segments]
    for index in range(max(slices, len(numbers))):
        labels[index % slices, index // slices] = numbers[index % len(numbers)]
    return labels.reshape(slices, _SIDE, _SIDE)


def _small(series: SourceSeries) -> SourceSeries:
    """The series with small images: the library builds the same object in less memory."""
    headers = []
    for header in series.headers:
        small = without(header, "Rows", "Columns")
        small.Rows = small.Columns = _SIDE
        headers.append(small)
    return replace(series, headers=tuple(headers))


def _only(dataset: Dataset, keyword: str) -> Dataset:
    """What `restore` needs to give one sequence its identity."""
    part = Dataset()
    for kept in ("SOPClassUID", "StudyInstanceUID", keyword):
        part.add(dataset[kept])
    return part


def without(dataset: Dataset, *keywords: str) -> Dataset:
    """A copy that shares all elements but these, which it lacks: setting one there would change the original."""
    copy = Dataset()
    for element in dataset:
        if element.keyword not in keywords:
            copy.add(element)
    return copy
