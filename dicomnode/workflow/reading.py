"""From the pseudonymous copies of a series to its volume, while the copies still come.

May live here: which planes of a series are taken, and what is decoded meanwhile. May not: what a network makes of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from operator import length_hint

from pydicom import Dataset

from dicomnode.config import Config, ReadingSection
from dicomnode.encoded import Limits
from dicomnode.errors import StudyError
from dicomnode.imaging import frames
from dicomnode.imaging.ahead import DecodingAhead
from dicomnode.imaging.gathering import Gathering
from dicomnode.imaging.volume import Volume
from dicomnode.inference.cores import usable_cores
from dicomnode.workflow.selection import image_type


@dataclass(frozen=True, slots=True)
class Coming:
    """Images that are read one after the other, and how many they are likely to be; 0: nobody knows."""

    images: Iterable[Dataset]
    expected: int = 0

    def __iter__(self) -> Iterator[Dataset]:
        """Read them."""
        return iter(self.images)

    def __length_hint__(self) -> int:
        """How many they are likely to be."""
        return self.expected


def read_volume(
    copies: Iterable[Dataset], limits: ReadingSection, excluded_image_types: Collection[str]
) -> tuple[Volume, list[Dataset]]:
    """Volume of a series, and its planes in source order, without their pixels.

    Parameters
    ----------
    copies
        Images of one series, in any order; compressed ones are decoded as they come.
    excluded_image_types
        Planes with any of these are left out, unless no others are there: an image may hold both.

    Raises
    ------
    StudyError
        ``geometry-*``, ``pixel-*``, ``rescale-attribute-missing`` or ``memory-too-large``.
    """
    excluded = {value.upper() for value in excluded_image_types}
    with DecodingAhead(
        children=limits.decode_processes or usable_cores(),
        timeout_seconds=limits.decode_timeout_seconds,
        memory_bytes=limits.decode_memory_bytes,
    ) as decoder:
        gathering = Gathering(decoder, expected=length_hint(copies))
        left: list[Dataset] = []
        taken = False
        try:
            for plane in (plane for copy in copies for plane in frames.planes((copy,))):
                if excluded & set(image_type(plane)):
                    left.append(plane)
                else:
                    gathering.add(plane)
                    taken = True
            for plane in () if taken else left:
                gathering.add(plane)
            return gathering.finish()
        except MemoryError:
            raise StudyError("memory-too-large") from None


def limits_of(tree: Config) -> Limits:
    """Budgets for reading, out of the configuration."""
    return Limits(
        header_scan_bytes=tree.intake.header_scan_bytes,
        maximum_nesting=tree.reading.maximum_nesting,
        maximum_items=tree.reading.maximum_items,
        maximum_inflated_bytes=tree.reading.maximum_inflated_bytes,
    )
