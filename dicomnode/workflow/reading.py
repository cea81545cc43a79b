"""From the pseudonymous copies of a series to its volume, while the copies still come.

May live here: which planes of a series are taken, and what is decoded meanwhile. May not: what a network makes of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydicom import Dataset

from dicomnode.config import ReadingSection
from dicomnode.errors import StudyError
from dicomnode.imaging import frames, volume
from dicomnode.imaging.ahead import DecodingAhead
from dicomnode.imaging.volume import Volume
from dicomnode.inference.cores import usable_cores
from dicomnode.workflow.selection import image_type


def read_volume(
    copies: Iterable[Dataset], limits: ReadingSection, excluded_image_types: Collection[str]
) -> tuple[Volume, list[Dataset]]:
    """Volume of a series, and its planes in source order.

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
        kept, left = [], []
        for plane in (plane for copy in copies for plane in frames.planes((copy,))):
            if excluded & set(image_type(plane)):
                left.append(plane)
            else:
                decoder.begin(plane)
                kept.append(plane)
        planes = kept or left
        try:
            built = volume.build(planes, decoder=decoder)
        except MemoryError:
            raise StudyError("memory-too-large", slices=len(planes)) from None
    return built, [planes[index] for index in built.geometry.order]
