"""Pseudonymous copies of a series, and the identity that they lost.

What the engine of `deidentification` makes of each image, file by file; where the copies go is their user's matter.
"""

from __future__ import annotations

from pydicom import Dataset

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.vault import source_identity
from dicomnode.encoded import Limits, read_part10
from dicomnode.errors import StudyError
from dicomnode.identity import SourceIdentity
from dicomnode.workflow.selection import without_pixels


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
        self._first: Dataset | None = None
        self._uids: dict[str, str] = {}

    def copy(self, file: bytes) -> bytes:
        """De-identify one image: a Part 10 file in, one out.

        Raises
        ------
        StudyError
            ``withheld-*`` when it cannot be de-identified; ``object-malformed``.
        """
        done = self._files.deidentify(file)
        self._uids.update(done.uids)
        if self._first is None:
            self._first = without_pixels(read_part10(file, self._limits))
        return done.data

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
        return source_identity([self._first], self._uids)
