"""When the orders to one export are tried: after a wait of their own, or, where nobody is let in, all of them after one.

Pure: times are told. May live here: how tries fared, and which order is due. What a try does, and when an order is given up,
is `exporting`'s.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from dicomnode.storage.rows import OrderRow


@dataclass(slots=True)
class Lane:
    """How the tries for one export fared; one thread at a time looks at it.

    Attributes
    ----------
    failed
        Tries that failed of each order, and when the next is due.
    silent
        Whether the last try came to nothing for want of an answer.
    silences
        Tries that came to that one after the other.
    shut
        Until when it is left alone, since nobody is let in or none answers, and which orders that concerns: those given
        until then. None: it is not.
    """

    failed: dict[OrderRow, tuple[int, float]] = field(default_factory=dict)
    silent: bool = False
    silences: int = 0
    shut: tuple[float, datetime] | None = None

    def keep(self, given: Collection[OrderRow]) -> None:
        """Forget orders that there are no more."""
        self.failed = {one: self.failed[one] for one in given if one in self.failed}

    def tries(self, order: OrderRow) -> int:
        """Tries of an order that failed."""
        return self.failed.get(order, (0, 0.0))[0]

    def due(self, order: OrderRow) -> float:
        """When an order is due; the time before all times where it was not tried."""
        return self.failed.get(order, (0, float("-inf")))[1]

    def ready(self, given: Sequence[OrderRow], now: float, *, old: datetime) -> list[OrderRow]:
        """Orders that may be tried now.

        Where it is left alone, none is before its time, but for what was ordered since: somebody may have mended it. What was
        given before `old` is tried all the same: it is given up if that fails.
        """
        return [one for one in given if self.due(one) <= now and (one.at <= old or not self._is_shut_to(one, now))]

    def put_off(self, order: OrderRow, until: float) -> None:
        """A try of an order failed."""
        self.failed[order] = self.tries(order) + 1, until

    def shut_until(self, until: float, *, order: OrderRow, now: float, at: datetime) -> None:
        """A try of an order failed because nobody is let in: those given until `at` wait with it."""
        self.put_off(order, now)  # due as soon as somebody is let in
        self.shut = until, at
        self.silent = True

    def rest(self, until: float, *, at: datetime) -> None:
        """None answers: those given until `at` wait together, or each would be made ready for it in vain."""
        self.shut = until if self.shut is None else max(until, self.shut[0]), at

    def opened(self, order: OrderRow) -> None:
        """A try of an order went well."""
        self.failed.pop(order, None)
        self.silent, self.silences, self.shut = False, 0, None

    def _is_shut_to(self, order: OrderRow, now: float) -> bool:
        return self.shut is not None and now < self.shut[0] and order.at <= self.shut[1]
