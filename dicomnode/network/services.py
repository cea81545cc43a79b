"""DIMSE services other than C-STORE, each a function from a call to its replies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from pydicom.dataset import Dataset

from dicomnode.encoded import Limits, encode_dataset, read_dataset
from dicomnode.encoded.quiet import hushed
from dicomnode.network import dimse
from dicomnode.network.session import Call, Reply, Service
from dicomnode.network.status import SUCCESS

STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
_PENDING: Final = 0xFF00  # PS3.4 Table C.4-1


class Finder(Protocol):
    """Whoever answers C-FIND; the node itself does not, the small archive does."""

    def find(self, level: str, query: Dataset) -> Iterator[Dataset]:
        """Identifiers of what matches."""
        ...


def echo(_call: Call) -> Iterator[Reply]:
    """C-ECHO (PS3.7 9.1.5)."""
    yield Reply(SUCCESS)


def find_services(finder: Finder, limits: Limits) -> dict[tuple[str, int], Service]:
    """C-FIND in the Study Root model (PS3.4 C.4.1), by SOP Class and Command Field."""
    return {(STUDY_ROOT_FIND, dimse.C_FIND_RQ): _finding(finder, limits)}


def _finding(finder: Finder, limits: Limits) -> Service:

    def find(call: Call) -> Iterator[Reply]:
        syntax = call.context.transfer_syntax
        with hushed():
            query = read_dataset(call.data_set, syntax, limits)
            level = str(query.get("QueryRetrieveLevel", "STUDY"))
            for match in finder.find(level, query):
                yield Reply(_PENDING, encode_dataset(match, syntax))
        yield Reply(SUCCESS)

    return find
