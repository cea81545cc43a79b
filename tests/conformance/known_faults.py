"""What validators say of our objects though the standard does not: one reviewed list, each with its clause.

A line of a validator is forgiven only where it contains one of these texts. Errors are never forgiven for what an
object says of its own; those that repeat a source's own faulty value are told apart in the tests, not here.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from pydicom.datadict import tag_for_keyword

from dicomnode.identity import IDENTITY_KEYWORDS

#: Text in a warning of dciodvfy → why the object is right. The version in Debian 12 knows the standard of 2022.
DCIODVFY_WARNINGS: Final = MappingProxyType(
    {
        "(0x0018,0x1002) UI Device UID": "PS3.3 Table C.7-8: Device UID is of General Equipment, type 3",
        "this is a Standard Extended SOP Class": "follows from the line about Device UID",
        "Unrecognized defined term <99DICOMNODE>": "PS3.3 8.2: 99-schemes are private; declared in (0008,0110)",
        "only permitted to be empty when actually unknown": "PS3.3 C.7.3.1: Laterality is type 2C; a montage has none",
        "Unrecognized defined term <QUANTITY>": "PS3.3 C.8.32.2: value 4 of Image Type of a Parametric Map",
    }
)
#: The same, of attributes that stand in a result as its source has them, and of no others.
OF_THE_SOURCE: Final = ("Retired Person Name form", "Value dubious for this VR")
_COPIED: Final = frozenset(tag_for_keyword(keyword) for keyword in IDENTITY_KEYWORDS)
_TAG: Final = re.compile(r"\(0x([0-9a-fA-F]{4}),0x([0-9a-fA-F]{4})\)")
#: Errors of dciodvfy where a Label Map Segmentation is concerned: the version in Debian 12 does not know the SOP Class.
DCIODVFY_LABELMAP: Final = MappingProxyType(
    {
        "Information Object Not found": "PS3.4 B.5: Label Map Segmentation Storage, of 2023",
        "SegmentNumber not monotonically increasing from one by one": "PS3.3 C.8.20.2.3: of a label map any, 0 too",
        "Shall not be present for Referenced SOP Class that is not segmentation": "PS3.3 10.3: it is a segmentation",
    }
)
#: Text in a line of dcentvfy → why the set is right.
DCENTVFY: Final = MappingProxyType(
    dict.fromkeys(
        (
            "Element=<AccessionNumber> IE <Study> versus <Series>",
            "Element=<AccessionNumber> IE <Series> versus <Study>",
        ),
        "PS3.3 C.17.2, 10.6: the request of a report stands in another sequence than an image's",
    )
)


def unexplained(lines: list[str], known: MappingProxyType[str, str]) -> list[str]:
    """Lines that the list does not explain."""
    return [line for line in lines if not any(text in line for text in known) and not _is_of_the_source(line)]


def _is_of_the_source(line: str) -> bool:
    named = _TAG.search(line)
    return (
        any(text in line for text in OF_THE_SOURCE)
        and line.startswith("Warning")
        and named is not None
        and int(named[1] + named[2], 16) in _COPIED
    )
