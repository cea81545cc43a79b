"""The answers to a C-FIND, read while they come and bounded: a peer may answer without end.

May live here: reading and bounding of matches. Who is asked, and what for, stands in `requestor`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom.association import Association

from dicomnode.network.inflow import Inflow
from dicomnode.network.status import error_of
from dicomnode.network.transport import bound, broken

_PENDING: Final = frozenset({0xFF00, 0xFF01})  # PS3.4 Table C.4-1
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST: Final = 65_536


def bound_for_matches(association: Association) -> Inflow:
    """Bound what comes from now on: all of it counts, since it is kept."""
    inflow = Inflow(lambda: _MOST_BYTES, _MOST, keeps=True)
    bound(association, inflow)
    return inflow


def read_matches(
    association: Association,
    responses: Iterator[tuple[Dataset, Dataset | None]],
    inflow: Inflow,
    asked: frozenset[str],
) -> list[dict[str, str]]:
    """Matches, each keyword to value, of what was asked for alone: whoever answers may say more.

    Raises
    ------
    PeerError
        If the peer says that it failed, breaks off, or answers without end.
    """
    matches = []
    for status, identifier in responses:
        if inflow.is_over or "Status" not in status:
            raise broken(association)
        if int(status.Status) in _PENDING and identifier is not None:
            matches.append(
                {element.keyword: _text(element.value) for element in identifier if element.keyword in asked}
            )
        elif (error := error_of(int(status.Status))) is not None:
            raise error
    return matches


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue":
        return "\\".join(str(one) for one in value)
    return str(value)
