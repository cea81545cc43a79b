"""ICC profiles (ICC.1:2022, PS3.3 C.11.15) made anew: what gives the colours stays as it is, words and whatever else do not.

Pure. A profile that holds nothing else comes back byte for byte the same.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from dicomnode.deidentification.binary import is_text

_HEADER: Final = 128
_MOST_TAGS: Final = 100
_CLASSES: Final = frozenset({b"scnr", b"mntr", b"prtr", b"spac"})
_SPACES: Final = frozenset({b"RGB ", b"GRAY", b"CMYK", b"Lab ", b"XYZ ", b"YCbr"})
_D50: Final = struct.pack(">3l", 63190, 65536, 54061)
_CREATED: Final = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
#: Tags that give the colours, with the types that each may have.
_TRC: Final = frozenset({b"curv", b"para"})
_TABLE: Final = frozenset({b"mft1", b"mft2", b"mAB ", b"mBA "})
_NEEDED: Final = MappingProxyType(
    {
        **dict.fromkeys((b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"bkpt"), frozenset({b"XYZ "})),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC", b"kTRC"), _TRC),
        **dict.fromkeys((b"A2B0", b"A2B1", b"A2B2", b"B2A0", b"B2A1", b"B2A2", b"gamt"), _TABLE),
        b"chad": frozenset({b"sf32"}),
    }
)
_DESCRIPTION: Final = b"desc"
_COPYRIGHT: Final = b"cprt"
#: Words by which profiles that everybody has are called.
_CALLED: Final = frozenset(
    [
        "srgb",
        "iec61966",
        "adobe",
        "rgb",
        "apple",
        "display",
        "p3",
        "dci",
        "rec",
        "bt",
        "itu",
        "romm",
        "prophoto",
        "ecirgb",
        "gray",
        "grey",
        "grayscale",
        "dot",
        "gain",
        "gamma",
        "generic",
        "profile",
        "color",
        "colour",
        "space",
        "built",
        "in",
        "linear",
        "wide",
        "gamut",
        "colormatch",
        "icc",
        "preference",
        "perceptual",
        "black",
        "scaled",
        "d50",
        "d65",
        "cie",
        "lab",
        "xyz",
        "monitor",
        "lcd",
        "srgbz",
        "c2",
        "facebook",
        "hd",
        "hdtv",
        "sdtv",
        "ntsc",
        "pal",
        "secam",
        "smpte",
        "e",
        "version",
        "v2",
        "v4",
        "intent",
        "beta",
        "displayclass",
        "w3c",
        "1998",
        "709",
        "2020",
    ]
)
_WORD: Final = re.compile(r"[^\W_]+")
_NO_NAME: Final = "ICC profile"
_FREE: Final = "No copyright, use freely"
_GREATEST: Final = 16.0  # of a parameter, XYZ value or element of a matrix


class _Tag(NamedTuple):
    signature: bytes
    data: bytes


def rebuilt(profile: bytes) -> bytes | None:
    """A profile of the same colours with nothing else; None where it is none that can be proved to be one.

    Notes
    -----
    Description and copyright, which every profile has, say nothing; the description stays where it is one of those that
    everybody knows (sRGB, Adobe RGB). Dates, makers, models and private tags go.
    """
    tags = _tags(profile)
    if tags is None:
        return None
    kept = [tag for tag in tags if tag.signature in _NEEDED]
    if not kept or not all(_is_sound(tag) for tag in kept):
        return None
    name = next((_text(tag.data) for tag in tags if tag.signature == _DESCRIPTION), "")
    words = [word.casefold() for word in _WORD.findall(name)]
    known = bool(words) and all(word in _CALLED or (word.isdigit() and len(word) < 3) for word in words)
    version = profile[8]
    texts = [
        _Tag(_DESCRIPTION, _described(name.strip() if known else _NO_NAME, version)),
        _Tag(_COPYRIGHT, _multi(_FREE) if version >= 4 else b"text" + bytes(4) + _FREE.encode() + b"\0"),
    ]
    return _assembled(profile, [*texts, *kept])


def _tags(profile: bytes) -> list[_Tag] | None:
    if len(profile) < _HEADER + 4 or profile[36:40] != b"acsp" or profile[8] not in (2, 4):
        return None
    if profile[12:16] not in _CLASSES or profile[16:20] not in _SPACES or profile[20:24] not in (b"XYZ ", b"Lab "):
        return None
    count = int.from_bytes(profile[_HEADER : _HEADER + 4], "big")
    if not 0 < count <= _MOST_TAGS or _HEADER + 4 + 12 * count > len(profile):
        return None
    found = []
    for place in range(_HEADER + 4, _HEADER + 4 + 12 * count, 12):
        offset, size = struct.unpack(">2L", profile[place + 4 : place + 12])
        if offset + size > len(profile) or size < 8:
            return None
        found.append(_Tag(profile[place : place + 4], profile[offset : offset + size]))
    return found


def _fixed(data: bytes) -> bool:
    """Whether all of some bytes are small s15Fixed16 numbers."""
    values = np.frombuffer(data, ">i4") / 65536
    return len(data) % 4 == 0 and bool((abs(values) <= _GREATEST).all())


def _is_curve(data: bytes) -> bool:
    count = int.from_bytes(data[8:12], "big")
    body = data[12:]
    if len(body) < 2 * count or len(body) > 2 * count + 3 or any(body[2 * count :]):
        return False
    steps = np.diff(np.frombuffer(body[: 2 * count], ">u2").astype(np.int32))
    return bool((steps >= 0).all() or (steps <= 0).all())


def _is_parametric(data: bytes) -> bool:
    count = {0: 1, 1: 3, 2: 4, 3: 5, 4: 7}.get(int.from_bytes(data[8:10], "big"), 0)
    return count > 0 and len(data) == 12 + 4 * count and not any(data[10:12]) and _fixed(data[12:])


def _is_sixteenths(data: bytes) -> bool:
    return 8 < len(data) <= 8 + 4 * 9 and _fixed(data[8:])


def _is_table(data: bytes) -> bool:
    size = {b"mft1": 1, b"mft2": 2}.get(data[:4])
    if size is None:
        return not is_text(data[32:])
    channels, outputs, grid = data[8], data[9], data[10]
    start, entries = (48, (256, 256)) if size == 1 else (52, struct.unpack(">2H", data[48:52]))
    length = start + size * (channels * entries[0] + outputs * entries[1] + outputs * grid**channels)
    body = data[start:length]
    whole = channels <= 4 and length <= len(data) <= length + 3 and not any(data[length:])
    return whole and _fixed(data[12:48]) and data[11] == 0 and not is_text(body)


_CHECKS: Final = MappingProxyType[bytes, Callable[[bytes], bool]](
    {
        b"XYZ ": _is_sixteenths,
        b"sf32": _is_sixteenths,
        b"curv": _is_curve,
        b"para": _is_parametric,
        **dict.fromkeys(_TABLE, _is_table),
    }
)


def _is_sound(tag: _Tag) -> bool:
    kind = tag.data[:4]
    return kind in _NEEDED[tag.signature] and not any(tag.data[4:8]) and _CHECKS[kind](tag.data)


def _text(data: bytes) -> str:
    """First text of a description."""
    if data[:4] == b"desc":
        length = int.from_bytes(data[8:12], "big")
        return data[12 : 12 + length].rstrip(b"\0").decode("ascii", "replace")
    if data[:4] == b"mluc" and len(data) >= 28:
        length, offset = struct.unpack(">2L", data[20:28])
        return data[offset : offset + length].decode("utf-16-be", "replace").rstrip("\0")
    return ""


def _described(name: str, version: int) -> bytes:
    """TextDescriptionType (ICC.1:2001 6.5.17), or what took its place in version 4."""
    if version >= 4:
        return _multi(name)
    letters = name.encode("ascii", "replace") + b"\0"
    return b"desc" + bytes(4) + struct.pack(">L", len(letters)) + letters + bytes(78)


def _multi(text: str) -> bytes:
    letters = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">2L", 1, 12) + b"enUS" + struct.pack(">2L", len(letters), 28) + letters


def _assembled(profile: bytes, tags: list[_Tag]) -> bytes:
    start = _HEADER + 4 + 12 * len(tags)
    table, body, places = b"", b"", dict[bytes, int]()
    for tag in tags:
        if tag.data not in places:
            body += bytes(-(start + len(body)) % 4)
            places[tag.data] = start + len(body)
            body += tag.data
        table += tag.signature + struct.pack(">2L", places[tag.data], len(tag.data))
    body += bytes(-(start + len(body)) % 4)
    intent = struct.pack(">L", profile[67] if profile[67] < 4 else 0)
    head = bytes(4) + bytes([profile[8], profile[9] & 0xF0, 0, 0]) + profile[12:24] + _CREATED + b"acsp" + bytes(4 + 4)
    head += bytes(16) + intent + _D50 + bytes(_HEADER - 80)
    return struct.pack(">L", start + len(body)) + head + struct.pack(">L", len(tags)) + table + body
