"""When the orders to one export are tried: after a wait of their own, or, where nobody is let in, all of them after one.

Pure: times are told, by a clock that nobody sets. May live here: how tries fared, and which order is due. What a try does,
and when an order is given up, is `exporting`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dicomnode.storage.rows import OrderRow


class Failed(NamedTuple):
    """Tries of an order that failed: how many, and when the next is due."""

    tries: int
    due: float


@dataclass(slots=True)
class Lane:
    """How the tries for one export fared; one thread at a time looks at it.

    Attributes
    ----------
    given
        Orders that there were at the last look.
    failed
        Tries that failed, by order.
    silent
        Whether the last try came to nothing for want of an answer.
    silences
        Tries that came to that one after the other.
    shut
        Until when it is left alone, since nobody is let in or none answers, and which orders that concerns: those that
        there were. None: it is not.
    """

    given: Collection[OrderRow] = ()
    failed: dict[OrderRow, Failed] = field(default_factory=dict)
    silent: bool = False
    silences: int = 0
    shut: tuple[float, frozenset[OrderRow]] | None = None

    def keep(self, given: Collection[OrderRow]) -> None:
        """Forget orders that there are no more."""
        self.given = given
        self.failed = {one: self.failed[one] for one in given if one in self.failed}

    def tries(self, order: OrderRow) -> int:
        """Tries of an order that failed."""
        return self.failed[order].tries if order in self.failed else 0

    def due(self, order: OrderRow) -> float:
        """When an order is due; the time before all times where it was not tried."""
        return self.failed[order].due if order in self.failed else float("-inf")

    def ready(self, given: Sequence[OrderRow], now: float, *, is_old: Callable[[OrderRow], bool]) -> list[OrderRow]:
        """Orders that may be tried now.

        Where it is left alone, none is before its time, but for what was ordered since: somebody may have mended it. What
        `is_old` is tried all the same: it is given up if that fails.
        """
        due = [one for one in given if self.due(one) <= now]
        return [one for one in due if is_old(one) or not self._is_shut_to(one, now)]

    def put_off(self, order: OrderRow, until: float) -> None:
        """A try of an order failed."""
        self.failed[order] = Failed(self.tries(order) + 1, until)

    def shut_until(self, until: float, *, order: OrderRow, now: float) -> None:
        """A try of an order failed because nobody is let in: all that there are wait with it."""
        self.put_off(order, now)  # due as soon as somebody is let in
        self.shut = until, frozenset(self.given)
        self.silent = True

    def rest(self, until: float) -> None:
        """None answers: all orders that there are wait together, or each would be made ready for it in vain."""
        self.shut = until if self.shut is None else max(until, self.shut[0]), frozenset(self.given)

    def opened(self, order: OrderRow) -> None:
        """A try of an order went well."""
        self.failed.pop(order, None)
        self.silent, self.silences, self.shut = False, 0, None

    def _is_shut_to(self, order: OrderRow, now: float) -> bool:
        return self.shut is not None and now < self.shut[0] and order in self.shut[1]
