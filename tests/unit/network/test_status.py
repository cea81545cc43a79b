"""What statuses and rejections mean."""

from __future__ import annotations

import pytest

from dicomnode.errors import PeerRefusal
from dicomnode.network.status import (
    CALLING_AE_TITLE_NOT_RECOGNISED,
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    Rejection,
    StatusKind,
    classify,
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
