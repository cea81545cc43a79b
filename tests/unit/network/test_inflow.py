from __future__ import annotations

from dicomnode.network.inflow import Inflow


def test_what_was_read_counts_no_more() -> None:
    inflow = Inflow(lambda: 100, 2)
    for _ in range(10):
        assert inflow.came([bytes(60)], all_read=True)
        assert inflow.came([bytes(20), bytes(20)], all_read=True)
        inflow.ended()
    assert not inflow.is_over


def test_what_lies_unread_counts() -> None:
    inflow = Inflow(lambda: 100, 9)
    assert inflow.came([bytes(60)], all_read=True)
    inflow.ended()
    assert not inflow.came([bytes(41)], all_read=False)
    assert inflow.is_over


def test_a_message_without_end_is_over_though_all_before_it_was_read() -> None:
    inflow = Inflow(lambda: 100, 9)
    assert [inflow.came([bytes(40)], all_read=True) for _ in range(4)] == [True, True, False, False]


def test_messages_count_whatever_their_size() -> None:
    inflow = Inflow(lambda: 100, 2)
    for _ in range(2):
        assert inflow.came([b"1"], all_read=False)
        inflow.ended()
    assert not inflow.came([b"1"], all_read=False)


def test_what_is_kept_counts_though_it_was_read() -> None:
    inflow = Inflow(lambda: 100, 9, keeps=True)
    for _ in range(2):
        assert inflow.came([bytes(50)], all_read=True)
        inflow.ended()
    assert not inflow.came([b"1"], all_read=True)


def test_the_bound_is_asked_anew() -> None:
    left = [100]
    inflow = Inflow(lambda: left[0], 9)
    assert inflow.came([bytes(60)], all_read=True)
    inflow.ended()
    left[0] = 40
    assert not inflow.came([bytes(60)], all_read=True)
