"""What one message may cost: tiny fragments, trickling bytes and messages without an end are given up."""

from __future__ import annotations

import pytest

from dicomnode.errors import PeerError
from dicomnode.network.pace import Pace
from dicomnode.network.pdu import Violation


def pace(longest_bytes: int = 1 << 40) -> Pace:
    return Pace(fragment_bytes=64, bytes_per_second=100, seconds=10, longest_bytes=longest_bytes)


def test_a_thousand_fragments_may_be_tiny_and_then_their_mean_counts() -> None:
    one = pace()
    for _ in range(1024):
        one.fragment(0, 0.0)
    with pytest.raises(Violation) as caught:
        one.fragment(0, 0.0)
    assert caught.value.facts == {"what": "fragments-tiny"}
    one.next_message()
    for _ in range(5000):
        one.fragment(64, 0.0)


def test_bytes_must_come_while_we_wait() -> None:
    one = pace()
    one.fragment(10, 1000.0)
    one.fragment(10, 1010.0)
    with pytest.raises(PeerError) as caught:
        one.fragment(10, 1010.5)
    assert (caught.value.code, caught.value.facts) == ("timeout", {"what": "message-too-slow"})


def test_a_slow_line_is_no_attack() -> None:
    one = pace()
    for second in range(100):
        one.fragment(101, float(second))


def test_the_time_between_messages_does_not_count() -> None:
    one = pace()
    one.fragment(10, 0.0)
    one.next_message()
    one.fragment(10, 3600.0)
    one.fragment(10, 3601.0)


def test_a_message_has_an_end() -> None:
    one = pace(longest_bytes=1000)
    one.fragment(1000, 0.0)
    with pytest.raises(Violation):
        one.fragment(1, 0.0)
