"""Walking a Data Set and the items of its sequences without recursion, with the character set that each item has.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_sequence
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicomnode.deidentification.values import ASCII, encodings_of, texts
from dicomnode.errors import StudyError

CHARACTER_SET: Final = 0x00080005
_DEEPEST: Final = 100
_ITEM: Final = b"\xfe\xff\x00\xe0"


@dataclass(frozen=True, slots=True)
class Node:
    """A Data Set or item, and how its text is encoded."""

    dataset: Dataset
    encodings: tuple[str, ...]
    depth: int = 0

    def item(self, dataset: Dataset) -> Node:
        """An item of one of its sequences.

        Raises
        ------
        StudyError
            ``object-too-complex`` where the nesting has no end in sight.
        """
        if self.depth >= _DEEPEST:
            raise StudyError("object-too-complex", nesting=self.depth)
        return Node(dataset, own_encodings(dataset, self.encodings), self.depth + 1)


def own_encodings(dataset: Dataset, inherited: tuple[str, ...] = ASCII) -> tuple[str, ...]:
    """Encodings of a Data Set by its Specific Character Set, else those of the one around it (PS3.5 7.5.3)."""
    if CHARACTER_SET not in dataset:
        return inherited
    element = dataset.get_item(CHARACTER_SET)
    return encodings_of(texts(element, "CS", ASCII))


def items_of(dataset: Dataset, tag: int) -> list[Dataset] | None:
    """Items of a sequence; None where the element cannot be read as one."""
    try:
        element = dataset[tag]
    except RecursionError:
        raise StudyError("object-too-complex") from None
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes make the parser do, they are no sequence
        return None
    if not isinstance(element, DataElement) or not isinstance(element.value, Sequence):
        return None
    return list(element.value)


def items_within(dataset: Dataset, tag: int) -> list[Dataset] | None:
    """Items of a sequence that came as UN, in Implicit VR Little Endian (PS3.5 6.2.2); None where it is none."""
    value = dataset.get_item(tag).value
    if not isinstance(value, bytes) or value[:4] != _ITEM:
        return None
    try:
        items = read_sequence(
            BytesIO(value),
            is_implicit_VR=True,
            is_little_endian=True,
            bytelength=len(value),
            encoding="iso8859",
        )
        for item in items:
            item.set_original_encoding(True, True, "iso8859")
        return list(items)
    except RecursionError:
        raise StudyError("object-too-complex") from None
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes make the parser do, they are no sequence
        return None


def datasets(source: Dataset) -> Iterator[Node]:
    """The Data Set and every item in it, outer before inner."""
    pending = [Node(source, own_encodings(source))]
    while pending:
        node = pending.pop()
        yield node
        for tag in list(node.dataset.keys()):
            if node.dataset.get_item(tag).VR in ("SQ", None, "UN"):
                pending += [node.item(item) for item in _items_if_any(node.dataset, tag)]


def _items_if_any(dataset: Dataset, tag: BaseTag) -> list[Dataset]:
    element = dataset.get_item(tag)
    if tag.is_private and element.VR != "SQ":
        return items_within(dataset, tag) or []
    if element.VR != "SQ" and not (dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"):
        return []
    return items_of(dataset, tag) or []
