"""What the demo sends: the files of a folder, study by study, and why the others stay behind. Nothing is sent here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from dicomnode.cli.reasons import what
from dicomnode.encoded import Limits, scan_header, split_part10
from dicomnode.errors import ConfigError, StudyError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder of files.

    Attributes
    ----------
    studies
        Files by Study Instance UID, in the order of the files.
    left_out
        How many files cannot be sent, by the code of why.
    """

    studies: Mapping[str, tuple[Path, ...]] = field(repr=False)
    left_out: Mapping[str, int]

    @property
    def paths(self) -> list[Path]:
        """Every file that can be sent."""
        return [path for paths in self.studies.values() for path in paths]


def files_of(source: Path) -> list[Path]:
    """Files below a folder, or the one file, in a fixed order.

    Raises
    ------
    ConfigError
        ``source-not-found`` when there is none.
    """
    try:
        paths = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    except OSError:  # a name that no file can have
        paths = []
    if not paths:
        raise ConfigError("source-not-found")
    return paths


def survey(paths: list[Path], console: Console) -> Source:
    """Sort files by study, and tell which are left out and why.

    Raises
    ------
    ConfigError
        ``source-unreadable`` when none of them can be sent.
    """
    studies: dict[str, list[Path]] = {}
    left_out: Counter[str] = Counter()
    for path in paths:
        try:
            studies.setdefault(_study_of(path), []).append(path)
        except StudyError as error:
            left_out[error.code] += 1
    for code, count in left_out.items():
        console.print(f"[yellow]{count} file(s) left out[/] {code}: {what(code)}", soft_wrap=True)
    if not studies:
        raise ConfigError("source-unreadable", files=len(paths))
    return Source(studies={uid: tuple(found) for uid, found in studies.items()}, left_out=left_out)


def _study_of(path: Path) -> str:
    try:
        transfer_syntax_uid, encoded = split_part10(path.read_bytes())
    except OSError:
        raise StudyError("object-malformed") from None
    return scan_header(encoded, transfer_syntax_uid, Limits()).study_instance_uid
