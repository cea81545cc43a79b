"""Rows that somebody has to decide on, one after the other: those of one study in their order, none before what holds it up.

What cannot be decided for now is tried again, later and later, while those of other studies go on. May live here: whose turn
it is, and when a record that cannot be read counts as lost.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.pulses import FAR_SECONDS, Pulse
from dicomnode.study import InstanceRow

_FIRST_SECONDS: Final = 1.0
_LONGEST_SECONDS: Final = 30.0
_DOUBLINGS: Final = 5
#: Tries after which a record that the disk does not give counts as lost: a minute.
_TRIES: Final = 6
#: What may be said of one record; anything else is said of disk or ledger, and passes for all records or for none.
_OF_ONE_RECORD: Final = "storage-failed"


@dataclass(slots=True)
class _Held:
    """Rows of one study whose first cannot be decided for now."""

    rows: deque[InstanceRow] = field(default_factory=deque)
    tries: int = 0
    due: float = 0.0


class Judging:
    """Rows on their way to a decision; `run` is a thread's.

    Parameters
    ----------
    decide
        Decides on a row; a retryable NodeError says that it cannot be done for now.
    give_up
        Decides on a row that cannot be read, however often; never raises.
    closed
        Told of rows that are decided, or left to the next start.
    ended
        Set when nothing is tried any more.
    emit
        Where events go.
    """

    def __init__(
        self,
        decide: Callable[[InstanceRow], None],
        give_up: Callable[[InstanceRow], None],
        *,
        closed: Callable[[Sequence[InstanceRow]], None],
        ended: threading.Event,
        emit: Emit,
    ) -> None:
        self._decide = decide
        self._give_up = give_up
        self._closed = closed
        self._ended = ended
        self._emit = emit
        self._rows: queue.Queue[InstanceRow | None] = queue.Queue()
        self._held: dict[str, _Held] = {}
        self.pulse = Pulse("conflicts", FAR_SECONDS)

    def put(self, row: InstanceRow | None) -> None:
        """Hand over a row; None: no more will come."""
        self._rows.put(row)

    def holds_up(self, study_key: str) -> bool:
        """Whether a study's first row was tried and could not be decided; may be called from any thread."""
        held = self._held.get(study_key)
        return held is not None and held.tries > 0

    def run(self) -> None:
        """Decide until no more comes; what is not decided then is left to the next start."""
        while True:
            try:
                row = self._rows.get(timeout=self._rest())
            except queue.Empty:
                pass
            else:
                if row is None:
                    break
                self._add(row)
            for study_key in [key for key, held in self._held.items() if time.monotonic() >= held.due]:
                with self.pulse:
                    self._go_on(study_key)
        for held in self._held.values():
            self._closed(held.rows)

    def _rest(self) -> float | None:
        """Seconds until something that is held up is due; None where nothing is."""
        if not self._held:
            return None
        return max(min(held.due for held in self._held.values()) - time.monotonic(), 0.0)

    def _add(self, row: InstanceRow) -> None:
        held = self._held.setdefault(row.study_key, _Held())
        held.rows.append(row)

    def _go_on(self, study_key: str) -> None:
        """Decide on a study's rows until one cannot be decided for now."""
        held = self._held[study_key]
        while held.rows:
            if self._ended.is_set() or not self._settle(held.rows[0], held.tries):
                held.due = time.monotonic() + min(_FIRST_SECONDS * 2 ** min(held.tries, _DOUBLINGS), _LONGEST_SECONDS)
                held.tries += 1
                return
            held.tries = 0
            self._closed([held.rows.popleft()])
        del self._held[study_key]

    def _settle(self, row: InstanceRow, tries: int) -> bool:
        """Decide on one; False where disk or ledger stand in the way for now."""
        self.pulse.beat()
        try:
            self._decide(row)
        except NodeError as error:
            self._emit("index.failed", level="error", study=row.study_key, reason=error.code, rows=1)
            if not error.retryable:
                return True
            if error.code != _OF_ONE_RECORD or tries + 1 < _TRIES:
                return False
            self._give_up(row)
        except Exception as error:  # noqa: BLE001 - the border: the thread must outlive it; the row stays in quarantine
            self._emit("index.fault", level="error", study=row.study_key, kind=type(error).__name__, reason="internal")
        return True
