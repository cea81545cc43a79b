"""What a question without an answer says of whoever was asked, and how long it is asked again."""

from __future__ import annotations

import pytest

from dicomnode.errors import PeerError, PeerRefusal
from dicomnode.network.dicomweb import _error_of
from dicomnode.network.status import error_of
from dicomnode.workflow.unanswered import Patience, Quiet, Silence, silence_of, told


@pytest.mark.parametrize("status", [0x0118, 0x0122, 0x0124, 0x0211, 0xA900])
def test_a_status_that_refuses_the_question_as_such(status: int) -> None:
    error = error_of(status)
    assert error is not None
    assert silence_of(error) is Silence.UNKNOWN
    assert told(error) is error


@pytest.mark.parametrize("status", [0xC000, 0xC001, 0xCFFF, 0x0112, 0x0001 << 14])
def test_a_status_that_says_that_it_failed_is_told_as_that_and_can_be_tried_again(status: int) -> None:
    error = error_of(status)
    assert error is not None
    assert silence_of(error) is Silence.FAILED
    said = told(error)
    assert (said.code, said.facts, said.retryable) == ("query-failed", {"status": f"x{status:04X}"}, True)


@pytest.mark.parametrize(
    ("status", "silence"),
    [
        (400, Silence.UNKNOWN),
        (404, Silence.UNKNOWN),
        (501, Silence.UNKNOWN),
        (401, Silence.SHUT),
        (403, Silence.SHUT),
        (407, Silence.SHUT),
        (429, Silence.FAILED),
        (500, Silence.FAILED),
        (503, Silence.FAILED),
    ],
)
def test_what_http_says(status: int, silence: Silence) -> None:
    assert silence_of(_error_of(status)) is silence


@pytest.mark.parametrize(
    ("error", "silence"),
    [
        (PeerRefusal("peer-context-refused"), Silence.UNKNOWN),
        (PeerRefusal("peer-rejected", result=1, source=1, rejection_reason=7), Silence.SHUT),
        (PeerError("peer-rejected", result=2, source=3, rejection_reason=1), Silence.FAILED),
        (PeerError("timeout"), Silence.FAILED),
        (PeerError("tls-failed"), Silence.FAILED),
    ],
)
def test_what_an_association_says(error: PeerError, silence: Silence) -> None:
    assert silence_of(error) is silence
    assert told(error) is error


def test_it_takes_the_time_and_three_looks() -> None:
    patience = Patience(60)
    assert [patience.has_lasted("a", now) for now in (0, 10, 30, 59, 60)] == [False, False, False, False, True]
    assert not patience.has_lasted("a", 61), "counted anew"
    assert [patience.has_lasted("b", now) for now in (0, 9000, 18000)] == [False, False, True]


def test_what_is_so_no_more_is_counted_anew() -> None:
    patience = Patience(60)
    assert not patience.has_lasted("a", 0)
    assert not patience.has_lasted("a", 30)
    patience.forget("a")
    patience.forget("never seen")
    assert [patience.has_lasted("a", now) for now in (60, 90, 120)] == [False, False, True]


def test_who_does_not_answer_is_left_in_peace_for_longer_each_time_until_it_does() -> None:
    quiet = Quiet(60, 200)
    assert (quiet.reason("a", 0), quiet.knows("a")) == (None, False)
    for now, length in ((0, 60), (1000, 120), (2000, 200), (3000, 200)):
        quiet.begin("a", now, "timeout")
        assert [quiet.reason("a", now + at) for at in (length - 1, length)] == ["timeout", None]
        assert quiet.knows("a")
    quiet.end("a")
    quiet.end("never seen")
    assert not quiet.knows("a")
    quiet.begin("a", 0, "timeout")
    assert quiet.reason("a", 60) is None
    assert Quiet(60, 1).reason("b", 0) is None
