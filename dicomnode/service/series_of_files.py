"""Files by series, and what a series says of a head: what policies need that let no face out. Headers alone are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset

from dicomnode.deidentification.contexts import context_key
from dicomnode.deidentification.heads import Head, look, outlines_a_body
from dicomnode.deidentification.slices import split
from dicomnode.encoded import Limits, read_part10
from dicomnode.errors import StudyError
from dicomnode.service.offline import bytes_of

_SERIES: Final = 0x0020000E


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesOfFiles:
    """Files of one series.

    Attributes
    ----------
    head
        What their headers say of a head, of all the most.
    """

    head: Head
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Said:
    study: str
    head: Head
    outlines: bool


class Survey:
    """Looks at the headers of files."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[tuple[bytes, ...], _Said] = {}

    def series(self, paths: Iterable[Path]) -> list[SeriesOfFiles]:
        """Files by series, in the order of the first of each; what cannot be read is a series of its own.

        Segmentations and structure sets of a study that shows a head draw its skin: they count as heads too.
        """
        groups: dict[tuple[str, ...], list[Path]] = defaultdict(list)
        said: dict[tuple[str, ...], list[_Said]] = defaultdict(list)
        for path in paths:
            try:
                series, one = self._look(path)
            except StudyError:  # it is refused with its own code when it is its turn
                groups[str(path), ""].append(path)
                continue
            key = one.study, series or str(path)
            groups[key].append(path)
            said[key].append(one)
        with_heads = {
            one.study for many in said.values() for one in many if one.head >= Head.STUDY and not one.outlines
        }
        return [
            SeriesOfFiles(head=_most(said[key], with_heads), paths=tuple(members)) for key, members in groups.items()
        ]

    def _look(self, path: Path) -> tuple[str, _Said]:
        """Series Instance UID, and what the header says; files alike are read once."""
        data = bytes_of(path)
        elements = split(data)
        if elements is None:
            dataset = read_part10(data, self._limits)
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
