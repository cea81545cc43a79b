"""Values of elements, raw or parsed: their text in any character set, their syntax by VR, and dummies.

Pure. Nothing here knows of rules.
"""

from __future__ import annotations

import re
import unicodedata
from types import MappingProxyType
from typing import Final

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from dicomnode.encoded.quiet import hushed

Element = DataElement | RawDataElement
_CHARACTER_SETS: Final = frozenset(python_encoding)
ASCII: Final = ("ascii",)
TEXT_VRS: Final = frozenset({"LO", "LT", "SH", "ST", "UT", "UC", "UR", "PN", "AE", "UN"})
STRING_VRS: Final = TEXT_VRS | {"CS", "DS", "IS", "AS", "DA", "DT", "TM", "UI"}
BINARY_VRS: Final = frozenset(
    {
        "AT",
        "US",
        "SS",
        "UL",
        "SL",
        "FL",
        "FD",
        "SV",
        "UV",
        "OF",
        "OD",
        "OL",
        "OV",
        "US or SS",
        "US or OW",
        "US or SS or OW",
    }
)
#: Bytes of one value of VRs that are bytes here, where they are not two (PS3.5 6.2).
_WORDS: Final = MappingProxyType({"OF": 4, "OL": 4, "OD": 8, "OV": 8})
BULK_VRS: Final = frozenset({"OB", "OW", "OB or OW"})
#: VRs whose character set Specific Character Set governs (PS3.5 6.1.2.3).
ENCODED_VRS: Final = frozenset({"LO", "LT", "SH", "ST", "UT", "UC", "PN"})
_SINGLE_VRS: Final = frozenset({"LT", "ST", "UT", "UR"})
#: So many marks or blanks in a row say no more than fewer, and take whoever looks for words long.
_LONG_RUN: Final = 32
_RUNS: Final = re.compile(rf"[\W_]{{{_LONG_RUN + 1},}}")
#: Fillers, joiners and selectors that no reader sees and that are no format characters (Unicode category Cf).
_INVISIBLE: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | frozenset(map(chr, range(0xFE00, 0xFE10)))
_DELIMITERS: Final = frozenset(map(ord, "\n\r\t\f\\^="))
_DEFAULT: Final = "iso8859"  # the library's name of the default repertoire
_FRAGMENTS: Final = re.compile(rb"^[^\x1b]+|\x1b[^\x1b]*")
#: Escapes to sets of two bytes beside ASCII, Chinese and Korean: the library's name of each, and what has more letters.
_BESIDE_ASCII: Final = MappingProxyType({b"\x1b$)A": ("iso_ir_58", "gb18030"), b"\x1b$)C": ("euc_kr", "cp949")})
_CHINESE: Final = "\x1b$)A"
_ESCAPE: Final = 0x1B
SYNTAX: Final = MappingProxyType(
    {
        "DS": re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *"),
        # Of 32 bits and twelve characters (PS3.5 6.2), or hardly more; some makers write decimals.
        "IS": re.compile(r" *[+-]?0{0,3}(\d{1,9}|1\d{9}|2[01]\d{8})(\.\d{0,6})? *"),
        "AS": re.compile(r"\d{1,3}[DWMYdwmy]"),
        "TM": re.compile(r"([01]\d|2[0-3])(:?[0-5]\d(:?([0-5]\d|60)(\.\d{1,9})?)?)? *"),
    }
)
_NUMBERS: Final = re.compile(rb"[0-9+\-.eE \\]*\0?")
DUMMIES: Final = MappingProxyType(
    {
        "PN": "DEIDENTIFIED",
        "AE": "REMOVED",
        "CS": "REMOVED",
        "AS": "000Y",
        "DA": "19000101",
        "DT": "19000101",
        "TM": "000000",
        "DS": "0",
        "IS": "0",
        "UR": "urn:removed",
    }
)


def defined_terms(terms: list[str]) -> list[str]:
    """Values of Specific Character Set where all are defined terms (PS3.3 C.12.1.1.2), else none."""
    return terms if all(term in _CHARACTER_SETS for term in terms) and any(terms) else []


def encodings_of(terms: list[str]) -> tuple[str, ...]:
    """Python encodings of the values of Specific Character Set; what is unknown falls back to UTF-8."""
    if not any(terms):
        return ASCII
    try:
        with hushed():
            return tuple(convert_encodings(terms))
    except (LookupError, ValueError):
        return ("utf-8",)


def decoded(raw: bytes, encodings: tuple[str, ...]) -> str:
    """Text of bytes: the declared character set first, then UTF-8, then one that takes every byte."""
    if b"\x1b" not in raw:
        return raw.decode("ascii") if raw.isascii() else _unescaped(raw, encodings)
    try:
        with hushed():
            text = "".join(_fragment(one, encodings) for one in _FRAGMENTS.findall(raw))
    except (UnicodeError, LookupError):
        return raw.decode("iso8859")
    return raw.decode("iso8859") if "\ufffd" in text else text


def _unescaped(raw: bytes, encodings: tuple[str, ...]) -> str:
    """Text of bytes without an escape. The default repertoire has none above ASCII: where others may follow, one of them was meant."""
    first, *others = encodings
    for encoding in (*(others if first == _DEFAULT else ()), *encodings, "utf-8"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    return raw.decode("iso8859")


def _fragment(raw: bytes, encodings: tuple[str, ...]) -> str:
    """Text from an escape to the next one (PS3.5 6.1.2.5.3).

    Sets of two bytes beside ASCII hold until the end where nothing else could: many writers forget to repeat the escape
    behind a delimiter. The library leaves the Chinese escape in the text.
    """
    names = _BESIDE_ASCII.get(raw[:4], ())
    if not names or names[0] not in encodings:
        return (
            str(decode_bytes(raw, list(encodings), set(_DELIMITERS)))
            if raw[0] == _ESCAPE
            else _unescaped(raw, encodings)
        )
    raw, end = raw[4:], len(raw)
    if encodings[0] not in (_DEFAULT, names[0]):
        end = next((place for place, byte in enumerate(raw) if byte in _DELIMITERS), end)
    for name in names:
        try:
            return raw[:end].decode(name) + raw[end:].decode(encodings[0])
        except UnicodeDecodeError:
            continue
    return raw.decode("iso8859")


def texts(element: Element, vr: str, encodings: tuple[str, ...]) -> list[str]:
    """Values of a string element as text in which words can be recognised (`composed`), without padding."""
    return list(map(composed, written(element, vr, encodings)))


def written(element: Element, vr: str, encodings: tuple[str, ...]) -> list[str]:
    """Values of a string element as text, character by character, without padding; an empty element has none."""
    value = element.value
    if isinstance(value, bytes):
        whole = decoded(value, encodings if vr in ENCODED_VRS else ASCII)
        parts = [whole] if vr in _SINGLE_VRS else whole.split("\\")
    elif isinstance(value, MultiValue | list | tuple):
        parts = [_text(item) for item in value]
    else:
        parts = [_text(value)]
    parts = [part.rstrip(" \0") if vr in _SINGLE_VRS else part.strip(" \0") for part in parts]
    return parts if any(parts) else []


def composed(text: str) -> str:
    """A text in which a word can be recognised: letters in one with their marks (NFC), nothing invisible between them.

    Letters and digits of ASCII in another width or style (ＪＯＨＮ, 𝐉𝐨𝐡𝐧) are the plain ones; other characters stay.
    """
    if len(text) > _LONG_RUN:
        text = _RUNS.sub(lambda run: run[0][:_LONG_RUN], text)
    if text.isascii():
        return text
    kept = "".join(char for char in text if unicodedata.category(char) != "Cf" and char not in _INVISIBLE)
    return unicodedata.normalize("NFC", "".join(map(_unstyled, kept)))


def _unstyled(char: str) -> str:
    if char.isascii() or unicodedata.category(char) == "No":
        return char
    plain = unicodedata.normalize("NFKC", char)
    return plain if plain.isascii() and plain.isalnum() and (char.isalnum() or len(plain) == 1) else char


def _text(value: object) -> str:
    if value is None:
        return ""
    text = str(value) if isinstance(value, PersonName) else str(getattr(value, "original_string", None) or value)
    return text.replace(_CHINESE, "")


def numbers_in(value: bytes, vr: str) -> list[str] | None:
    """Numbers of the value of a DS or IS as `texts` gives them, None where `is_number` would be False."""
    if not _NUMBERS.fullmatch(value):
        return None
    parts = [part for part in map(_unpadded, value.decode("ascii").split("\\")) if part]
    return parts if all(map(SYNTAX[vr].fullmatch, parts)) else None


def _unpadded(part: str) -> str:
    return part.strip(" \0")


def is_number(element: Element, vr: str) -> bool:
    """Whether a DS or IS holds numbers and nothing else."""
    value = element.value
    if isinstance(value, bytes) and not _NUMBERS.fullmatch(value):
        return False
    if isinstance(value, MultiValue) and all(isinstance(item, int | float) for item in value):
        return _NUMBERS.fullmatch("".join(map(_text, value)).encode()) is not None  # Python reads nan and 1_9 as well
    parts = texts(element, vr, ASCII)
    return all(SYNTAX[vr].fullmatch(part) for part in parts if part)


def dummy(vr: str) -> str | bytes | int:
    """Value that says nothing, of a VR."""
    if vr in DUMMIES:
        return DUMMIES[vr]
    if vr in STRING_VRS - {"UN"}:
        return "REMOVED"
    return bytes(_WORDS.get(vr, 2)) if vr in BULK_VRS | {"UN", *_WORDS} else 0
