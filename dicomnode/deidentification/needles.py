"""What of a source must not stand in encoded bytes, made ready once to be looked for in many. Pure.

Bytes are searched as they stand, for whatever a decoder might overlook: every alphabet that a name may be written in,
every way of writing a date.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Final

from dicomnode.deidentification.identifiers import Identifiers
from dicomnode.deidentification.values import encodings_of
from dicomnode.deidentification.vocabulary import is_common, is_technical

_UIDS: Final = re.compile(rb"(?<![0-9.])[0-2](?:\.[0-9]+){3,}")
_LONG_ENOUGH: Final = 4
_GLUE: Final = re.compile(rb"[0-9a-z.]")
#: Bytes as zeros, those of ASCII and others; and four characters of ASCII in either order of UTF-16: the shortest word.
_SORTS: Final = b"0" + b"a" * 127 + b"x" * 128
_WIDE: Final = (b"a0" * _LONG_ENOUGH, b"0a" * _LONG_ENOUGH)
#: So many UIDs are looked for one by one before all that stand there are compared.
_FEW: Final = 32
_ALPHABETS: Final = ("utf-8", "iso8859", "utf-16-le", "utf-16-be")


class Needles:
    """Searches bytes for the identifiers of a source.

    Parameters
    ----------
    identifiers
        Of the source.
    uids
        UIDs that were replaced.
    dates
        Dates that nothing of ours wrote, YYYYMMDD.
    ours
        Words that this package wrote itself.
    """

    def __init__(
        self, identifiers: Identifiers, uids: Iterable[str], dates: Iterable[str], ours: Collection[str]
    ) -> None:
        self._uids = frozenset(uid.encode("ascii", "replace") for uid in uids)
        dates = frozenset(dates)
        self._years = tuple({date[:4].encode() for date in dates})  # far sooner looked for than the dates
        written = forms_of(dates).encode()
        self._date = re.compile(written)
        self._date_alone = re.compile(rb"(?<![0-9a-z.])(?:" + written + rb")(?![0-9a-z.](?!\0))")
        self._words = {
            "name": _Words(word for word in identifiers.names if word not in ours),
            "code": _Words(
                word
                for word in identifiers.codes
                if word not in ours and identifiers.spellings.tells(word) and not is_technical(word)
            ),
        }

    def in_element(self, whole: bytes) -> bool:
        """Whether an encoded element of a VR with 16 bits of length is a UID of the source, or holds one of its dates.

        Beside the bytes of all elements each value counts by itself, as for `leakcheck.leaks_of`: there a date needs
        nothing that parts it from what stands beside it.
        """
        value = whole[8:]
        if whole[4:6] == b"UI":
            return not self._uids.isdisjoint(value.rstrip(b" \0").split(b"\\"))
        return self._date.search(value) is not None

    def kinds(self, data: bytes) -> Iterator[str]:
        """Kinds of what stands in the bytes: ``uid``, ``date``, ``name``, ``code``."""
        lower = data.lower()
        few = len(self._uids) <= _FEW
        if not (few and not any(map(data.__contains__, self._uids))) and not self._uids.isdisjoint(_UIDS.findall(data)):
            yield "uid"
        if any(map(data.__contains__, self._years)) and self._date_alone.search(lower):
            yield "date"
        sorts = data.translate(_SORTS)
        wide = _WIDE[0] in sorts or _WIDE[1] in sorts
        for kind, words in self._words.items():
            if words.stand_in(data, lower, wide=wide):
                yield kind


class _Words:
    """Words in every alphabet."""

    def __init__(self, words: Iterable[str]) -> None:
        self._alone: list[bytes] = []  # in lower case, with nothing beside them
        self._wide: list[bytes] = []  # in lower case
        self._foreign: list[bytes] = []  # as they are
        for word in words:
            if is_common(word):
                continue
            if not word.isascii():
                self._foreign += _patterns(word)
            elif len(word) >= _LONG_ENOUGH:
                self._alone.append(word.encode())
                self._wide += [word.encode("utf-16-le"), word.encode("utf-16-be")]

    def stand_in(self, data: bytes, lower: bytes, *, wide: bool) -> bool:
        """Whether one of them does; `wide`: whether there may be text in UTF-16."""
        here = list(filter(lower.__contains__, self._alone))
        return (
            any(_stands(lower, word) for word in here)
            or (wide and any(word in lower for word in self._wide))
            or any(word in data for word in self._foreign)
        )


def hold_foreign(data: bytes, names: frozenset[str]) -> bool:
    """Whether bytes hold a name that is not ASCII, in any character set."""
    return any(pattern in data for pattern in _foreign(names))


@lru_cache(64)
def _foreign(names: frozenset[str]) -> tuple[bytes, ...]:
    return tuple(pattern for name in sorted(names) if not name.isascii() for pattern in sorted(_patterns(name)))


@lru_cache(64)
def forms_of(dates: frozenset[str]) -> str:
    """Pattern of dates YYYYMMDD as DICOM and as people write them; it matches nothing where there are none.

    Four digits for the year, the parts in any usual order, a few marks between them.
    """
    written = []
    for date in sorted(dates):
        year, month, day = map(re.escape, (date[:4], date[4:6], date[6:]))
        for parts in ((year, month, day), (day, month, year), (month, day, year)):
            written.append(r"[\W_]{0,3}".join(part for part in parts if part))
    return "|".join(written) or "(?!)"


def _patterns(word: str) -> set[bytes]:
    """Bytes of a word that is not ASCII, in the character sets of DICOM (PS3.3 C.12.1.1.2), in either case."""
    found = set()
    for form in {word, word.upper(), word.capitalize()}:
        for encoding in (*_ALPHABETS, *_character_sets()):
            try:
                data = form.encode(encoding)
            except UnicodeEncodeError:
                continue
            found.add(data.removeprefix(b"\x1b$B").removesuffix(b"\x1b(B"))
    return {data for data in found if len(data) >= _LONG_ENOUGH}


def _character_sets() -> tuple[str, ...]:
    terms = (
        "ISO_IR 101",
        "ISO_IR 109",
        "ISO_IR 110",
        "ISO_IR 144",
        "ISO_IR 127",
        "ISO_IR 126",
        "ISO_IR 138",
        "ISO_IR 148",
    )
    asian = ("shift_jis", "iso2022_jp", "euc_kr", "gb18030", "gbk", "iso8859_11")
    return (*(encodings_of([term])[0] for term in terms), *asian)


def _stands(data: bytes, word: bytes) -> bool:
    """Whether a word stands in lower-case bytes with no letter, digit or full stop beside it.

    Such a byte with a zero behind it is no letter, but the group of the next element.
    """
    start = data.find(word)
    while start >= 0:
        end = start + len(word)
        if not _GLUE.fullmatch(data[max(start - 1, 0) : start]) and not (
            _GLUE.fullmatch(data[end : end + 1]) and data[end + 1 : end + 2] != b"\0"
        ):
            return True
        start = data.find(word, start + 1)
    return False
