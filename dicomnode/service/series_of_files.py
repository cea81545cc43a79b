"""Files by series, and what a series says of a head: what policies need that let no face out. Headers alone are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from pydicom.dataset import Dataset

from dicomnode.deidentification.contexts import context_key
from dicomnode.deidentification.heads import Head, look, outlines_a_body
from dicomnode.deidentification.slices import split
from dicomnode.encoded import Limits, read_part10
from dicomnode.errors import StudyError

#: What a file is called by whoever reads it.
Name = TypeVar("Name", bound=Hashable)

_SERIES: Final = 0x0020000E


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOfFiles(Generic[Name]):
    """Files of one series.

    Attributes
    ----------
    head
        What their headers say of a head, of all the most.
    """

    head: Head
    names: tuple[Name, ...]


@dataclass(frozen=True, slots=True)
class _Said:
    study: str
    head: Head
    outlines: bool


class Survey(Generic[Name]):
    """Looks at the headers of files.

    Parameters
    ----------
    limits
        Budgets of reading.
    read
        Content of a file.
    """

    def __init__(self, limits: Limits, read: Callable[[Name], bytes]) -> None:
        self._limits = limits
        self._read = read
        self._known: dict[tuple[bytes, ...], _Said] = {}

    def series(self, names: Iterable[Name]) -> list[SeriesOfFiles[Name]]:
        """Files by series, in the order of the first of each; what cannot be read is a series of its own.

        Segmentations and structure sets of a study that shows a head draw its skin: they count as heads too.
        """
        groups: dict[tuple[str, ...], list[Name]] = defaultdict(list)
        said: dict[tuple[str, ...], list[_Said]] = defaultdict(list)
        for name in names:
            try:
                series, one = self._look(name)
            except StudyError:  # it is refused with its own code when it is its turn
                groups[str(name), ""].append(name)
                continue
            key = one.study, series or str(name)
            groups[key].append(name)
            said[key].append(one)
        with_heads = {
            one.study for many in said.values() for one in many if one.head >= Head.STUDY and not one.outlines
        }
        return [
            SeriesOfFiles(head=_most(said[key], with_heads), names=tuple(members)) for key, members in groups.items()
        ]

    def _look(self, name: Name) -> tuple[str, _Said]:
        """Series Instance UID, and what the header says; files alike are read once."""
        data = self._read(name)
        elements = split(data)
        if elements is None:
            dataset = read_part10(data, self._limits, drop_rest=True)
            return str(dataset.get("SeriesInstanceUID") or ""), _said(dataset)
        key = context_key(elements)
        if key not in self._known:
            self._known[key] = _said(read_part10(data, self._limits))
        series = next((one.whole[8:] for one in elements if one.tag == _SERIES), b"")
        return series.rstrip(b" \0").decode("ascii", "replace"), self._known[key]


def _said(dataset: Dataset) -> _Said:
    return _Said(str(dataset.get("StudyInstanceUID") or ""), look(dataset), outlines_a_body(dataset))


def _most(said: list[_Said], with_heads: set[str]) -> Head:
    return max(
        (Head.SERIES if one.outlines and one.study in with_heads else one.head for one in said), default=Head.ELSEWHERE
    )
