"""A mould: an encoded Data Set with some values left open, into which others are filled, with the lengths that follow.

May live here: taking encoded elements apart and putting them together again (Explicit VR Little Endian, every length said).
Which values are left open, and what is filled in, is its user's matter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dicomnode.results.elements import element, head_of, items_of, one_item


@dataclass(frozen=True, slots=True)
class _Open:
    """An element whose value is left open."""

    tag: int
    vr: bytes


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A sequence in which something is left open."""

    tag: int
    items: tuple[Mould, ...]


@dataclass(frozen=True, slots=True)
class Mould:
    """What `of` makes; `fill` gives the bytes."""

    _parts: tuple[bytes | _Open | _Sequence, ...] = field(repr=False)

    @classmethod
    def of(cls, encoded: bytes, tags: Collection[int]) -> Mould:
        """Leave open the values of all elements of some tags, at any depth.

        Raises
        ------
        ValueError
            Where the bytes are no elements, or a length is not said.
        """
        parts: list[bytes | _Open | _Sequence] = []
        at = kept = 0
        while at < len(encoded):
            tag, vr, start, end = head_of(encoded, at)
            made: _Open | _Sequence | None = None
            if tag in tags:
                made = _Open(tag, vr)
            elif vr == b"SQ":
                items = tuple(cls.of(item, tags) for item in items_of(encoded[start:end]))
                made = _Sequence(tag, items) if any(item.is_open for item in items) else None
            if made is not None:
                parts += [encoded[kept:at], made]
                kept = end
            at = end
        return cls(tuple(part for part in (*parts, encoded[kept:]) if part != b""))

    @property
    def is_open(self) -> bool:
        """Whether any value is left open."""
        return any(not isinstance(part, bytes) for part in self._parts)

    def fill(self, values: Mapping[int, bytes]) -> bytes:
        """The Data Set with a value for each tag, unpadded.

        Raises
        ------
        KeyError
            Where a tag has no value.
        StudyError
            As `elements.element`.
        """
        return b"".join([self._filled(part, values) for part in self._parts])

    def fill_many(self, many: Sequence[Mapping[int, bytes]]) -> bytes:
        """The Data Set with as many items as there are values, each like the first, where items have values left open."""
        return b"".join([part if isinstance(part, bytes) else self._repeated(part, many) for part in self._parts])

    @staticmethod
    def _repeated(part: _Open | _Sequence, many: Sequence[Mapping[int, bytes]]) -> bytes:
        if isinstance(part, _Open):
            raise ValueError("no item")  # noqa: TRY004 - it is the values that are wrong
        first = part.items[0]
        if any(isinstance(inner, _Open) for inner in first._parts):
            items = [first.fill(values) for values in many]
        else:
            items = [item.fill_many(many) for item in part.items]
        return element(part.tag, b"SQ", b"".join(map(one_item, items)))

    @staticmethod
    def _filled(part: bytes | _Open | _Sequence, values: Mapping[int, bytes]) -> bytes:
        if isinstance(part, bytes):
            return part
        if isinstance(part, _Open):
            return element(part.tag, part.vr, values[part.tag])
        return element(part.tag, b"SQ", b"".join([one_item(item.fill(values)) for item in part.items]))
