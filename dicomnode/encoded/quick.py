"""The UIDs of an ordinary object, found fast: little endian, elements in order, no undefined length before the UIDs.

Pure. Whatever is not ordinary is left to the walk in `walk`, which takes all the turns.
"""

from __future__ import annotations

import struct
from typing import Final

WANTED: Final = {
    0x00080016: "sop_class_uid",
    0x00080018: "sop_instance_uid",
    0x00080060: "modality",
    0x0020000D: "study_instance_uid",
    0x0020000E: "series_instance_uid",
}
SERIES_INSTANCE_UID: Final = 0x0020000E
NEEDED: Final = frozenset(WANTED.values()) - {"modality"}
LONGEST_VALUE: Final = 256  # bytes of a UID or code that are looked at
_EXPLICIT: Final = struct.Struct("<HHHH").unpack_from
_IMPLICIT: Final = struct.Struct("<HHL").unpack_from
_LONG: Final = struct.Struct("<L").unpack_from
_UNDEFINED: Final = 0xFFFFFFFF
#: PS3.5 7.1.2: VRs whose length has 16 bits, and those whose length has 32, behind two reserved bytes; as numbers.
_SHORT_VRS: Final = frozenset(
    int.from_bytes(vr, "little") for vr in b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split()
)
_LONG_VRS: Final = frozenset(int.from_bytes(vr, "little") for vr in b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


def quick_header(data: memoryview, *, implicit: bool) -> dict[str, bytes] | None:
    """Values of `WANTED` by name, when the walk came past all of them; None where it takes the full walk to say."""
    found: dict[str, bytes] = {}
    position, size, before = 0, len(data), 0
    while position + 12 <= size:
        start = position + 8
        if implicit:
            group, element, length = _IMPLICIT(data, position)
        else:
            group, element, vr, length = _EXPLICIT(data, position)
            if vr not in _SHORT_VRS:
                if vr not in _LONG_VRS:
                    return None
                length = _LONG(data, start)[0]
                start += 4
        tag = group << 16 | element
        if tag <= before or length == _UNDEFINED:
            return None
        before = tag
        if tag in WANTED:
            if length > LONGEST_VALUE or start + length > size:
                return None
            found[WANTED[tag]] = bytes(data[start : start + length])
        if tag >= SERIES_INSTANCE_UID:
            return found if found.keys() >= NEEDED else None
        position = start + length
    return None
