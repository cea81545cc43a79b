"""Words of a source in disguise: letters apart, figures for letters, bytes in hexadecimal or base64, escapes. Pure.

For words of four letters and more: fewer are met by chance.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator
from typing import Final

SHORTEST: Final = 4
#: Letters or figures that stand apart, three and more.
_APART: Final = re.compile(r"(?<![^\W_])[^\W_](?:[\W_]{1,3}[^\W_]){2,}(?![^\W_])")
_TOKEN: Final = re.compile(r"[^\W_]+")
#: A letter and a figure side by side.
_MIXED: Final = re.compile(r"\d[^\W\d_]|[^\W\d_]\d")
#: Letters and the figures that are written for them; both become one.
_FIGURES: Final = str.maketrans("oilzeasgqtb6", "011234599789")
#: Bytes in hexadecimal, with what is written before each of them.
_BYTES: Final = re.compile(r"(?:(?:%|\\x|0x|&#x)?[0-9a-f]{2}[;:, ]?){4,}[0-9a-f]?", re.IGNORECASE)
_PREFIXES: Final = re.compile(r"%|\\x|0x|&#x|[;:, ]", re.IGNORECASE)
#: Base64 (RFC 4648) of four bytes and more, in either of its alphabets.
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-]{6,}")
_QUANTUM: Final = 4  # signs that are decoded together
_OTHER_ALPHABET: Final = str.maketrans("-_", "+/")
_WIDE: Final = ("utf-16-le", "utf-16-be")
#: Text of ASCII among decoded bytes, long enough for a date.
_TEXT: Final = re.compile(rb"[ -~]{6,}")
_ENCODED: Final = re.compile(r"[A-Za-z0-9+/]{8,}")
#: A letter that is escaped within a word: in URLs, in mail, in programs; HTML has its own.
_ESCAPE: Final = re.compile(r"(?:[%=]|\\x|[%\\]u00)([0-9a-f]{2})")
#: A number that is none of a letter, and may be longer than Python reads.
_NO_LETTER: Final = re.compile(r"&#[0-9]{8,}")


def leet(word: str) -> str:
    """A casefolded word with the figures that people write for its letters (J0HN, Sm1th)."""
    return word.translate(_FIGURES)


def is_leet(token: str) -> bool:
    """Whether a token may be a word with figures for letters: more than half of it are letters."""
    return _MIXED.search(token) is not None and 2 * sum(map(str.isalpha, token)) > len(token)


def undisguised(text: str) -> Iterator[str]:
    """Casefolded texts that stand in a casefolded one, letters apart, escaped, or bytes in hexadecimal."""
    for match in _APART.finditer(text):
        yield "".join(_TOKEN.findall(match[0]))
    for match in _BYTES.finditer(text):
        digits = _PREFIXES.sub("", match[0])
        for begin in (0, 1):
            even = digits[begin:][: (len(digits) - begin) // 2 * 2]
            yield from _read(bytes.fromhex(even))
    plain = html.unescape(_NO_LETTER.sub("", _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)))
    if plain != text:
        yield from (plain.casefold(), plain.encode("iso8859", "ignore").decode("utf-8", "replace").casefold())


def _read(data: bytes) -> Iterator[str]:
    """Bytes as text, casefolded: of one byte a letter and, where there are enough, of two, which something else may be joined to."""
    yield data.decode("utf-8", "replace").casefold()
    if len(data) >= 2 * SHORTEST:
        yield from (data[begin:].decode(encoding, "replace").casefold() for encoding in _WIDE for begin in (0, 1))


def decoded(text: str) -> Iterator[str]:
    """Casefolded texts that stand in a text, letter case and all, as base64."""
    for match in _BASE64.finditer(text):
        run = match[0].translate(_OTHER_ALPHABET)
        for digits in (run[begin:] for begin in range(_QUANTUM)):  # something else may be joined before it
            yield from _read(base64.b64decode(digits[: len(digits) - (len(digits) % _QUANTUM == 1)] + "=="))


def encoded(text: str) -> Iterator[tuple[tuple[int, int], str]]:
    """Where a text has bytes in base64 or hexadecimal, and the texts of ASCII, casefolded, that they are."""
    for match in _ENCODED.finditer(text):
        word = match[0].isalpha() and (match[0].islower() or match[0].isupper() or match[0].istitle())
        for begin in range(0 if word else _QUANTUM):
            digits = match[0][begin:]
            data = base64.b64decode(digits[: len(digits) - (len(digits) % _QUANTUM == 1)] + "==")
            yield from ((match.span(), one) for one in _texts(data))
    for match in _BYTES.finditer(text):
        digits = _PREFIXES.sub("", match[0])
        for begin in (0, 1):
            data = bytes.fromhex(digits[begin:][: (len(digits) - begin) // 2 * 2])
            yield from ((match.span(), one) for one in _texts(data))


def _texts(data: bytes) -> Iterator[str]:
    """Texts of ASCII among bytes, of one or two a letter."""
    for view in (data, data[::2], data[1::2]) if b"\0" in data else (data,):
        yield from (found[0].decode("ascii").casefold() for found in _TEXT.finditer(view))


def stand_in(text: str, words: frozenset[str], figured: frozenset[str]) -> bool:
    """Whether a text holds one of the words in disguise.

    Parameters
    ----------
    words
        Casefolded.
    figured
        The same as `leet` gives them.
    """
    if any(word in hidden for hidden in decoded(text) for word in words):
        return True
    folded = text.casefold()
    if any(word in hidden for hidden in undisguised(folded) for word in words):
        return True
    return any(is_leet(token) and leet(token) in figured for token in _TOKEN.findall(folded))
