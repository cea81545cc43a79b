"""Pseudonymous copies of a series, and the identity that they lost.

What the engine of `deidentification` makes of each image, file by file; where the copies go is their user's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.vault import source_identity
from dicomnode.encoded import Limits, read_part10_raw
from dicomnode.errors import StudyError
from dicomnode.identity import SourceIdentity

#: Why pixels are withheld that no network could read either → what the sender can do something about.
_BROKEN: Final = MappingProxyType(
    {
        "missing": "pixel-missing",
        "no-bytes": "pixel-missing",
        "length": "pixel-missing",
        "stream": "pixel-undecodable",
        "fragments": "pixel-undecodable",
        "undecodable": "pixel-undecodable",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """A pseudonymous copy: a Part 10 file, and new UID → old UID."""

    data: bytes = field(repr=False)
    uids: dict[str, str] = field(repr=False)


class Copier:
    """Makes pseudonymous copies of the images of one series, and knows the identity that they lost.

    Ordinary slices go the quick way; what it remembers of their identities ends with the copier.

    Parameters
    ----------
    deidentifier
        Of the policy ``ai``.
    limits
        Budgets of reading.
    """

    def __init__(self, deidentifier: Deidentifier, limits: Limits) -> None:
        self._files = FileDeidentifier(deidentifier, limits)
        self._limits = limits
        self._first: SourceIdentity | None = None
        self._uids: dict[str, str] = {}

    def copy(self, file: bytes) -> bytes:
        """De-identify one image: a Part 10 file in, one out; as `make`, and `take` of what that makes."""
        return self.take(self.make(file), lambda: file)

    def make(self, file: bytes) -> Copied:
        """De-identify one image, a Part 10 file; whose it was is not kept.

        Raises
        ------
        StudyError
            ``withheld-*`` when it cannot be de-identified; ``pixel-*`` when that is because its pixels are broken;
            ``object-malformed``; ``identity-unwritable``.
        """
        try:
            done = self._files.deidentify(file)
        except StudyError as error:
            broken = _BROKEN.get(str(error.facts.get("because"))) if error.code == "withheld-pixels" else None
            if broken is None:
                raise
            raise StudyError(broken) from None
        return Copied(data=done.data, uids=done.uids)

    def take(self, copied: Copied, file: Callable[[], bytes]) -> bytes:
        """Keep what an image lost, and give its copy.

        Parameters
        ----------
        copied
            By a copier of the same policy.
        file
            Gives what it was made of: asked of the first image alone.

        Raises
        ------
        StudyError
            ``object-malformed``; ``identity-unwritable``.
        """
        self._uids.update(copied.uids)
        if self._first is None:
            self._first = source_identity([read_part10_raw(file(), self._limits)], {})
        return copied.data

    @property
    def identity(self) -> SourceIdentity:
        """What all of them lost.

        Raises
        ------
        StudyError
            ``no-suitable-series`` where nothing was copied.
        """
        if self._first is None:
            raise StudyError("no-suitable-series")
        return replace(self._first, uids=dict(self._uids))
