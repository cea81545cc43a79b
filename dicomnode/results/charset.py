"""Which character set a result is written in: the source's, where every text encodes in it, else UTF-8 (PS3.5 6.1).

May live here: the trial of encoding. It decides, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pydicom import charset as tables
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from dicomnode.encoded.quiet import hushed

UTF_8: Final = "ISO_IR 192"
_TEXT_VRS: Final = frozenset({"SH", "LO", "ST", "LT", "UC", "UT", "PN"})
#: Resets of code extensions (PS3.5 6.1.2.5.3).
_DELIMITERS: Final = frozenset({0x0A, 0x0C, 0x0D})


def choose(source: Sequence[str], texts: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Specific Character Set of a result.

    Parameters
    ----------
    source
        Terms of (0008,0005) of the source; empty: the default repertoire.
    texts
        (VR, value) of everything that is to be written.

    Returns
    -------
    tuple of str
        Terms to write; empty: the attribute is absent.
    """
    distinct = set(texts)
    if all(_is_plain(text) for _, text in distinct) and _known(source):
        return tuple(source)
    if not _known(source) or not _any_named(source):
        return (UTF_8,)
    encodings = tables.convert_encodings(list(source))
    default_first = source[0] in ("", "ISO_IR 6", "ISO 2022 IR 6")
    with hushed():
        survive = all(_survives(vr, text, encodings, default_first=default_first) for vr, text in distinct)
    return tuple(source) if survive else (UTF_8,)


def texts_of(dataset: Dataset) -> set[tuple[str, str]]:
    """(VR, value) of every text that is not plain ASCII or has an escape in it, sequences included."""
    found: set[tuple[str, str]] = set()
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                found |= texts_of(item)
        elif element.VR in _TEXT_VRS and element.value:
            values = [element.value] if isinstance(element.value, str | PersonName) else element.value
            found |= {(element.VR, str(value)) for value in values if not _is_plain(str(value))}
    return found


def _is_plain(text: str) -> bool:
    return text.isascii() and "\x1b" not in text


def _known(source: Sequence[str]) -> bool:
    return all(term in tables.python_encoding for term in source)


def _any_named(source: Sequence[str]) -> bool:
    return any(term not in ("", "ISO_IR 6", "ISO 2022 IR 6") for term in source)


def _survives(vr: str, text: str, encodings: list[str], *, default_first: bool) -> bool:
    if default_first and any("\x80" <= letter <= "\xff" for letter in text):
        return False  # the library would write them raw, in a repertoire that has none of them
    try:
        if vr == "PN":
            raw = PersonName(text).encode(encodings)
            again = str(PersonName(raw, encodings))
        else:
            raw = tables.encode_string(text, encodings)
            again = tables.decode_bytes(raw, encodings, set(_DELIMITERS))
        # a second byte that is a backslash would part the value for readers that part before they decode
        return again == text and raw.count(b"\\") == text.count("\\")
    except (UnicodeError, LookupError, ValueError):
        return False
