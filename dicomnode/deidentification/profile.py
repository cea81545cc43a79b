"""The tables of PS3.15 Annex E as data: rows by tag, content items by concept, safe private attributes, types.

Reads the package's own files once; decides nothing (see rules).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Final, NamedTuple

from pydicom.datadict import tag_for_keyword

PRIVATE: Final = "private"
_ROOT: Final = "1.2.840.10008.5.1.4."


class Row(NamedTuple):
    """A row of Table E.1-1 or E.3.4-1: the Basic Profile's action and the letters of its options."""

    action: str
    options: str

    @property
    def actions(self) -> frozenset[str]:
        """Parts of a compound action."""
        return frozenset(self.action.removesuffix("*").split("/"))


class SafePrivate(NamedTuple):
    """A row of Table E.3.10-1."""

    creator: str
    group: int
    element: int


def _lines(name: str) -> Iterator[list[str]]:
    text = (resources.files(__package__) / "tables" / name).read_text("utf-8")
    for line in text.splitlines()[1:]:
        yield line.split(";")


@cache
def attributes() -> MappingProxyType[int, Row]:
    """Rows of Table E.1-1 by tag; repeating groups by their first tag, e.g. (6000,3000)."""
    rows: dict[int, Row] = {}
    for tag, action, options in _lines("profile.csv"):
        if tag != PRIVATE and not tag.startswith("50xx"):
            rows[int(tag.replace("x", "0"), 16)] = Row(action, options)
    return MappingProxyType(rows)


@cache
def content() -> MappingProxyType[tuple[str, str, str], Row]:
    """Rows of Table E.3.4-1 by coding scheme, code value and value type."""
    rows = {(scheme, code, kind): Row(action, options) for scheme, code, kind, action, options in _lines("content.csv")}
    return MappingProxyType(rows)


@cache
def safe_private() -> MappingProxyType[SafePrivate, str]:
    """VR of each safe private attribute; the element is the byte within its block."""
    return MappingProxyType(
        {
            SafePrivate(creator, int(group, 16), int(element, 16)): vr
            for creator, group, element, vr in _lines("safe_private.csv")
        }
    )


@cache
def allowed_text() -> MappingProxyType[int, str]:
    """Text attributes outside Table E.1-1 that may survive: tag → how."""
    tags = ((tag_for_keyword(keyword), how) for keyword, how in _lines("text.csv"))
    return MappingProxyType({tag: how for tag, how in tags if tag is not None})


@cache
def _types() -> MappingProxyType[tuple[str, str], tuple[tuple[str, frozenset[str]], ...]]:
    found: dict[tuple[str, str], tuple[tuple[str, frozenset[str]], ...]] = {}
    for sequence, keyword, kind, classes in _lines("types.csv"):
        key = (sequence, keyword)
        found[key] = (*found.get(key, ()), (kind, frozenset(classes.split())))
    return MappingProxyType(found)


def type_of(sequence: str, keyword: str, sop_class_uid: str) -> int:
    """Type of an attribute: 1, 2 or 3 (PS3.5 7.4), a conditional one as if its condition held.

    Parameters
    ----------
    sequence
        Keyword of the sequence that the attribute stands in; empty at the top.
    keyword, sop_class_uid
        The attribute, and the object that it belongs to.
    """
    short = sop_class_uid.removeprefix(_ROOT)
    for kind, classes in _types().get((sequence, keyword), ()):
        if "*" in classes or short in classes:
            return int(kind)
    return 3
