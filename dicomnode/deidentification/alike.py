"""Files alike: the header of one differs from that of another in nothing but values of the same length. Pure.

What `slices.split` would find in such a file, and what becomes of all that is the same, is known from the other one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import numpy as np

from dicomnode.deidentification.contexts import Context, Made, feeds_alike
from dicomnode.deidentification.slices import IMAGE_TYPE, NEEDED, SHORT, SOP_INSTANCE, SYNTAX, Element

_SOP_CLASS: Final = 0x00080016
_NUMBER_OF_FRAMES: Final = 0x00280008
#: Elements whose value decides whether a file is ordinary; and those that have elements within.
_DECISIVE: Final = (NEEDED | {IMAGE_TYPE, _NUMBER_OF_FRAMES}) - {SOP_INSTANCE}
_NESTED: Final = frozenset({b"SQ", b"UN"})


class Mould:
    """An ordinary file and what became of it.

    Parameters
    ----------
    data
        The file.
    elements
        What `slices.split` found in it.
    made
        What became of each but the last.
    context
        Theirs.
    form
        As `form_of`.

    Attributes
    ----------
    pieces
        Elements of the new file in their order, empty where one was removed; all but the pixels.
    places
        Index in `pieces` of each element.
    pixels
        Where the element of the pixels begins.
    """

    def __init__(
        self, data: bytes, elements: list[Element], made: list[Made], context: Context, form: tuple[int, int, int]
    ) -> None:
        self.context = context
        self.form = form
        self.pixels = elements[-1].end - len(elements[-1].whole)
        slots = [
            (element.tag, one.data or b"", index)
            for index, (element, one) in enumerate(zip(elements, made, strict=False))
        ]
        slots += [(tag, whole, -1) for tag, whole in context.added]
        slots.sort()
        self.pieces = [whole for _, whole, _ in slots]
        self.places = {index: place for place, (_, _, index) in enumerate(slots)}
        self.sop_class, self.sop_instance = (
            next(place for place, slot in enumerate(slots) if slot[0] == tag) for tag in (_SOP_CLASS, SOP_INSTANCE)
        )
        self._uids = [(index, one.uids) for index, one in enumerate(made) if one.uids]
        first = elements[0]
        self._before = first.end - len(first.whole)  # bytes before the Data Set
        self._elements = elements[:-1]
        self._header = np.frombuffer(data[: elements[-1].start], np.uint8)
        self._starts = np.array([element.start for element in self._elements])
        self._ends = np.array([element.end for element in self._elements])
        self._size = len(data)
        self._meta = data[: self._before]
        self._varying: list[int] = []  # elements that have differed so far, and what stands between them
        self._still: list[tuple[int, bytes]] = []
        self._vary(())

    def changed(self, data: bytes) -> list[tuple[int, Element]] | None:
        """Elements of a file that have another value here, each with its index; None where more differs."""
        if len(data) != self._size or not (data.startswith(self._meta) or self._same_meta(data)):
            return None
        if not all(data.startswith(still, place) for place, still in self._still):
            differing = self._differing(data)
            if differing is None:
                return None
            self._vary(differing)
        found = []
        for index in self._varying:
            before = self._elements[index]
            tag, vr, start, end, whole = before
            if data.startswith(whole, end - len(whole)):
                continue
            now = Element(tag, vr, start, end, data[end - len(whole) : end])
            if tag in _DECISIVE or tag in self.context.asked or vr in _NESTED or not feeds_alike(now, before):
                return None
            found.append((index, now))
        return found

    def _differing(self, data: bytes) -> Collection[int] | None:
        """Elements that have another value; None where something else differs."""
        header = np.frombuffer(data, np.uint8, len(self._header))[self._before :]
        places = np.flatnonzero(header != self._header[self._before :]) + self._before
        which = np.searchsorted(self._starts, places, "right") - 1
        if (which < 0).any() or (places >= self._ends[which]).any():
            return None
        return frozenset(which.tolist())

    def _vary(self, differing: Collection[int]) -> None:
        """Remember which elements differ from file to file: the others are compared in a few long pieces from now on."""
        self._varying = sorted({*self._varying, *differing})
        header = self._header.tobytes()
        edges = [(self._elements[index].start, self._elements[index].end) for index in self._varying]
        begins = [self._before, *(end for _, end in edges)]
        ends = [*(start for start, _ in edges), len(header)]
        self._still = [(begin, header[begin:end]) for begin, end in zip(begins, ends, strict=True)]

    def uids_without(self, changed: Collection[tuple[int, Element]]) -> dict[str, str]:
        """New UID → old UID of all elements but those that changed."""
        gone = {index for index, _ in changed}
        return {new: old for index, uids in self._uids if index not in gone for new, old in uids.items()}

    def _same_meta(self, data: bytes) -> bool:
        """Whether File Meta Information that differs says the same of the Data Set, as `slices.split` reads it."""
        return data[128:144] == self._header[128:144].tobytes() and SYNTAX in data[144 : self._before]


def form_of(elements: list[Element]) -> tuple[int, int, int]:
    """Bits Stored, Pixel Representation and Rows of an ordinary file."""
    by_tag = {element.tag: element.whole[-2:] for element in elements if element.tag in NEEDED}
    stored, signed, rows = (SHORT(by_tag[tag])[0] for tag in (0x00280101, 0x00280103, 0x00280010))
    return stored, signed, rows
