"""What statuses and rejections mean."""

from __future__ import annotations

import itertools

import pytest

from dicomnode.errors import PeerRefusal
from dicomnode.network.status import (
    CALLING_AE_TITLE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    WARNINGS,
    Rejection,
    StatusKind,
    classify,
    classify_rejection,
    error_of,
    error_of_rejection,
)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0x0000, "success"),
        (0xB000, "warning"),
        (0xB006, "warning"),
        (0xB007, "warning"),
        (0x0107, "warning"),
        (0xA700, "transient"),
        (0xA702, "transient"),
        (0x0110, "transient"),
        (0x0213, "transient"),
        (0xA801, "permanent"),
        (0xA900, "permanent"),
        (0xC000, "permanent"),
        (0xCFFF, "permanent"),
        (0x0111, "permanent"),
        (0x0117, "permanent"),
        (0x0122, "permanent"),
        (0x0124, "permanent"),
        (0xFFFF, "permanent"),
        (0x1234, "permanent"),
    ],
)
def test_every_kind_of_status(status: int, kind: str) -> None:
    assert classify(status) is StatusKind(kind)


def test_errors_say_whether_to_try_again() -> None:
    assert error_of(0x0000) is None
    assert error_of(0xB000) is None
    full, refused = error_of(0xA700), error_of(0xA900)
    assert full is not None
    assert refused is not None
    assert (full.code, full.retryable, full.facts) == ("peer-out-of-resources", True, {"status": "xA700"})
    assert (refused.code, refused.retryable) == ("peer-refused-object", False)


@pytest.mark.parametrize(
    ("rejection", "retryable"),
    [
        (CALLING_AE_TITLE_NOT_RECOGNISED, False),
        (TEMPORARY_CONGESTION, True),
        (LOCAL_LIMIT_EXCEEDED, True),
        (Rejection(1, 3, 2), True),
        (Rejection(2, 1, 1), True),
        (Rejection(1, 2, 2), False),
    ],
)
def test_rejections_say_whether_to_try_again(rejection: Rejection, retryable: bool) -> None:
    error = error_of_rejection(rejection)
    assert (error.code, error.retryable) == ("peer-rejected", retryable)
    assert isinstance(error, PeerRefusal) is not retryable


def test_every_status_of_the_table_and_none_beside_has_one_kind() -> None:
    kinds = {status: classify(status) for status in range(0x10000)}
    assert set(kinds.values()) == set(StatusKind)
    assert {status for status, kind in kinds.items() if kind is StatusKind.TRANSIENT} == {
        *range(0xA700, 0xA770), *range(0xA780, 0xA800), 0x0110, 0x0213
    }  # fmt: skip
    assert set(WARNINGS) <= {status for status, kind in kinds.items() if kind is StatusKind.WARNING}


def test_only_the_reasons_of_ps3_8_that_pass_by_themselves_are_tried_again() -> None:
    again = {one for one in itertools.product((1, 2), (1, 2, 3), range(9)) if is_transient(Rejection(*one))}
    assert {one for one in again if one[0] == 2} == set(itertools.product((2,), (1, 2, 3), range(9)))
    assert {one[1:] for one in again if one[0] == 1} == {(3, 0), (3, 1), (3, 2)}


def is_transient(rejection: Rejection) -> bool:
    return classify_rejection(rejection) is StatusKind.TRANSIENT
