"""A segmentation made ready while the network runs: the header, and the item of every plane, as bytes with two blanks.

May live here: what is prepared, and its completion once the labels are there, to the very bytes that the plain way
(`segmentation.build`, `identity.restore`, `encode_dataset`) gives. Nothing is decided here that is not decided there.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.encoded import Buffer, encode_dataset
from dicomnode.errors import StudyError
from dicomnode.findings import Findings
from dicomnode.identity import SourceIdentity
from dicomnode.imaging.census import Census, take_census
from dicomnode.results import segmentation, stand_in
from dicomnode.results.context import ResultContext
from dicomnode.results.elements import spliced
from dicomnode.results.identity import restore
from dicomnode.results.sources import SourceSeries, read_sources
from dicomnode.study import ResultRole
from dicomnode.texts import Words

_SYNTAX: Final = str(ExplicitVRLittleEndian)
_PER_FRAME: Final = 0x52009230
_PIXEL_DATA: Final = 0x7FE00010
#: Sequences with an item for every image or frame: most of what stands in one stands in the next.
REPEATED: Final = frozenset({0x00081115, 0x00082112, _PER_FRAME})
_ITEM: Final = struct.Struct("<HHI")
_SEQUENCE: Final = struct.Struct("<HH2sHI")
#: Linux's MADV_POPULATE_READ (madvise(2)), which `mmap` has no name for.
_POPULATE_READ: Final = 22


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Item of Per-Frame Functional Groups Sequence for one source plane.

    Attributes
    ----------
    item
        Encoded, without its own tag and length, nothing in the blanks.
    number_at, index_at
        Where the two blanks stand.
    rank
        Place of the plane in the library's order of frames, from 1.
    position
        Image Position (Patient) of the source, mm.
    """

    item: bytes = field(repr=False)
    number_at: int
    index_at: int
    rank: int
    position: tuple[float, ...]

    def is_item(self, item: bytes) -> bool:
        """Whether bytes are this item but for the blanks."""
        if len(item) != len(self.item):
            return False
        blank = bytearray(item)
        struct.pack_into("<H", blank, self.number_at, 0)
        struct.pack_into("<II", blank, self.index_at, 0, 0)
        return blank == self.item

    def filled(self, number: int, rank: int) -> bytes:
        """The item of a segment's frame, with its own tag and length."""
        item = bytearray(self.item)
        struct.pack_into("<H", item, self.number_at, number)
        struct.pack_into("<II", item, self.index_at, number, rank)
        return _ITEM.pack(0xFFFE, 0xE000, len(item)) + item


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """All of a segmentation but its frames, in the order of the sources that it was prepared from.

    Attributes
    ----------
    header
        In pseudonymous space, with every segment of the model.
    bulk, brief
        Encoded elements that `header` lacks, by tag, with the source's identity; and the same with one image.
    minted
        Every UID that was minted for it.
    """

    series: SourceSeries = field(repr=False)
    header: Dataset = field(repr=False)
    bulk: Mapping[int, bytes] = field(repr=False)
    brief: Mapping[int, bytes] = field(repr=False)
    planes: tuple[Plane, ...] = field(repr=False)
    findings: Findings
    context: ResultContext = field(repr=False)
    minted: frozenset[str] = field(default=frozenset(), repr=False)

    def fits(self, sources: Sequence[Dataset], findings: Findings, context: ResultContext) -> bool:
        """Whether it was prepared for exactly these."""
        return (
            [str(source.SOPInstanceUID) for source in sources]
            == [str(header.SOPInstanceUID) for header in self.series.headers]
            and (findings.algorithm, findings.segments) == (self.findings.algorithm, self.findings.segments)
            and replace(context, mint=self.context.mint) == self.context
            and all(context.object_uid(role) == self.context.object_uid(role) for role in ResultRole)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A segmentation whose frames are there.

    Attributes
    ----------
    pseudonymous
        Its header, for what refers to it.
    header
        The same with the source's identity.
    encoded
        The whole object.
    brief
        Its beginning up to the frames, in which what has an item for every image has one.
    frames_at, pixels_at
        Where the first item of its frames, and the first byte of its pixels, stand in `encoded`.
    values
        In the label map, by Segment Number from 1.
    """

    pseudonymous: Dataset = field(repr=False)
    header: Dataset = field(repr=False)
    encoded: Buffer = field(repr=False)
    brief: bytes = field(repr=False)
    frames_at: int
    pixels_at: int
    values: tuple[int, ...]


def prepare(
    sources: Sequence[Dataset], findings: Findings, context: ResultContext, identity: SourceIdentity
) -> Prepared | None:
    """Everything that does not depend on the labels.

    Parameters
    ----------
    sources
        Headers of the pseudonymous copies in source order; pixel data is not needed.
    findings
        Algorithm and segments of the model; what was found is not looked at.

    Returns
    -------
    Prepared or None
        None where the object's form gives no room for blanks: it is then built the plain way.

    Raises
    ------
    StudyError
        ``geometry-attribute-missing`` as the plain way raises it.
    """
    series = read_sources(sources)
    empty = replace(findings, regions=(), remarks=())
    made = stand_in.build(series, empty, context, identity)
    if made is None or max(made.header.keys()) > _PER_FRAME:
        return None
    planes = [
        _plane(item, rank, header) for item, rank, header in zip(made.items, made.ranks, series.headers, strict=True)
    ]
    return Prepared(
        series=series,
        header=made.header,
        bulk=made.bulk,
        brief=made.brief,
        planes=tuple(planes),
        findings=empty,
        context=context,
    )


def _plane(item: bytes, rank: int, source: Dataset) -> Plane:
    position = tuple(float(value) for value in source.ImagePositionPatient)
    number_at, index_at = stand_in.number_at(item), stand_in.index_at(item)
    return Plane(item=item, number_at=number_at, index_at=index_at, rank=rank, position=position)


def complete(
    prepared: Prepared,
    labels: NDArray[np.uint8],
    findings: Findings,
    identity: SourceIdentity,
    census: Census | None = None,
) -> Completed:
    """The segmentation of a label map.

    Parameters
    ----------
    census
        Of the labels, where it was taken before.

    Raises
    ------
    StudyError
        ``nothing-found``, or ``result-invalid`` if map and sources do not fit.
    """
    series = prepared.series
    if labels.shape != series.shape or labels.dtype != np.uint8:
        raise StudyError("result-invalid", check="label-map-shape")
    census = census or take_census(labels)
    counts = census.counts
    numbers = segmentation.numbers_of(counts, findings.segments)
    frames = _frames(prepared, counts, numbers)
    header = _reduced(prepared.header, findings, numbers, prepared.context.words)
    header.NumberOfFrames = len(frames)
    restored = restore(header, identity)
    length = sum(len(prepared.planes[index].item) + _ITEM.size for index, *_ in frames)
    size = segmentation.packed_length(len(frames), labels[0].size)
    head = encode_dataset(restored, _SYNTAX)
    start = spliced(head, prepared.bulk) + _SEQUENCE.pack(*_split(_PER_FRAME), b"SQ", 0, length)
    pixels_at = len(start) + length + _SEQUENCE.size
    whole = _zeros(pixels_at, size)
    pixel_data = _SEQUENCE.pack(*_split(_PIXEL_DATA), b"OB", 0, size)
    items = (prepared.planes[index].filled(number, rank) for index, _, number, rank in frames)
    _place(whole.data, chain([start], items, [pixel_data]))
    segmentation.pack(whole[pixels_at:], labels, [(index, value) for index, value, *_ in frames], census.boxes)
    return Completed(
        pseudonymous=header,
        header=restored,
        encoded=whole.data.toreadonly(),
        brief=spliced(head, prepared.brief),
        frames_at=len(start),
        pixels_at=pixels_at,
        values=tuple(sorted(numbers, key=lambda value: numbers[value])),
    )


def _place(target: memoryview, parts: Iterable[bytes]) -> None:
    """Put parts one behind the other, without a copy of all of them in between."""
    at = 0
    for part in parts:
        target[at : at + len(part)] = part
        at += len(part)


def _zeros(before: int, pixels: int) -> NDArray[np.uint8]:
    """Bytes that no memory stands behind until they are written, the pixels at a multiple of eight.

    Nine in ten of a segmentation's bytes are zero; numpy's own zeros would come in pages of two megabytes. All are the
    one page of zeros until they are written; a file's write that meets a page of which that is not known costs much.
    """
    start = -before % 8
    pages = mmap.mmap(-1, start + before + pixels, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel before 5.14: each page is then looked for when it is first read
        pages.madvise(_POPULATE_READ)
    return np.frombuffer(pages, np.uint8)[start:]


def _split(tag: int) -> tuple[int, int]:
    """Group and element."""
    return tag >> 16, tag & 0xFFFF


def parts(completed: Completed) -> tuple[memoryview, memoryview]:
    """The encoded items of the frames, and the value of Pixel Data."""
    whole = memoryview(completed.encoded)
    return whole[completed.frames_at : completed.pixels_at - _SEQUENCE.size], whole[completed.pixels_at :]


def excerpt(completed: Completed) -> bytes:
    """The object with its first frame and hardly a pixel: everything that is not prepared."""
    (length,) = struct.unpack_from("<I", completed.encoded, completed.frames_at + 4)
    item = bytes(completed.encoded[completed.frames_at : completed.frames_at + _ITEM.size + length])
    return completed.brief + _ending(item)


def sample(prepared: Prepared, identity: SourceIdentity) -> bytes:
    """The object with one frame of each plane and hardly a pixel: everything that is prepared."""
    items = b"".join(plane.filled(1, 1) for plane in prepared.planes)
    head = encode_dataset(restore(prepared.header, identity), _SYNTAX)
    return spliced(head, prepared.bulk) + _ending(items)


def _ending(items: bytes) -> bytes:
    frames = _SEQUENCE.pack(*_split(_PER_FRAME), b"SQ", 0, len(items)) + items
    return frames + _SEQUENCE.pack(*_split(_PIXEL_DATA), b"OB", 0, 2) + b"\1\0"


def _frames(
    prepared: Prepared, counts: NDArray[np.int64], numbers: Mapping[int, int]
) -> list[tuple[int, int, int, int]]:
    """Plane, value, segment and rank of every frame, in the library's order: by segment, then by the rank of the plane."""
    used = sorted(np.flatnonzero(counts[:, 1:].any(axis=1)), key=lambda index: prepared.planes[index].rank)
    ranks = {int(index): rank for rank, index in enumerate(used, start=1)}
    return [
        (index, value, number, rank)
        for value, number in sorted(numbers.items(), key=lambda pair: pair[1])
        for index, rank in ranks.items()
        if counts[index, value]
    ]


def _reduced(prepared: Dataset, findings: Findings, numbers: Mapping[int, int], words: Words) -> Dataset:
    """The header with the segments that have a voxel."""
    header = stand_in.without(prepared, "SegmentSequence", "NumberOfFrames", "ContentDescription")
    described = sorted(segment.number for segment in findings.segments)
    items = []
    for value, item in zip(described, prepared.SegmentSequence, strict=True):
        if value in numbers:
            kept = stand_in.without(item, "SegmentNumber")
            kept.SegmentNumber = numbers[value]
            items.append(kept)
    header.SegmentSequence = items
    segmentation.describe(header, findings, numbers, words)
    return header
