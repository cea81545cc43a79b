"""What is to be done after a transaction is done when it is committed, once, and not where it is rolled back."""

from __future__ import annotations

import pytest

from dicomnode.storage.database import after_commit
from dicomnode.storage.ledger import Ledger


def test_it_is_done_once_and_when_others_can_see_what_was_written(ledger: Ledger) -> None:
    done: list[str] = []
    with ledger.transaction() as connection:
        after_commit(connection, lambda: done.append("first"))
        after_commit(connection, lambda: done.append("second"))
        assert done == []
    assert done == ["first", "second"]
    with ledger.transaction():
        pass
    assert done == ["first", "second"]


def test_it_is_not_done_where_nothing_was_written(ledger: Ledger) -> None:
    done: list[str] = []

    def fails() -> None:
        with ledger.transaction() as connection:
            after_commit(connection, lambda: done.append("done"))
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    with ledger.transaction():
        pass
    assert done == []
