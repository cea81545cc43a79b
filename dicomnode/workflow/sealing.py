"""Copies that are sealed when nobody waits for it: when the results are on their way, or beside a network that takes long.

May live here: a thread for each, when it goes on, and who waits for it. What is sealed stands in `handover`. Until it is,
the copies are in memory alone: after a kill, and where sealing failed, whoever needs them makes them of the records again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import Final

from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.heap import give_back
from dicomnode.pulses import FAR_SECONDS, Pulse, Tries
from dicomnode.study import WorkKey
from dicomnode.workflow.ports import Monotonic

#: For how long it stands back for what is made of the copies.
PATIENCE_SECONDS: Final = 2.0


@dataclass(slots=True, eq=False)
class _One:
    key: WorkKey
    copies: deque[bytes] = field(repr=False)
    size: int
    due: float
    is_hurried: bool = False


class Sealing:
    """Seals the copies of works, each in a thread of its own that stands back for what is more urgent.

    Parameters
    ----------
    put
        Seals the copies of a work.
    places
        Of how many works copies are held at a time.
    report
        Told of an exception that nobody foresaw.
    """

    def __init__(
        self,
        put: Callable[[WorkKey, Iterable[bytes]], None],
        *,
        places: int,
        monotonic: Monotonic,
        report: Callable[[str, BaseException], None],
        emit: Emit,
    ) -> None:
        self._put = put
        self._places = places
        self._monotonic = monotonic
        self._report = report
        self._emit = emit
        self._changed = Condition()
        self._held: dict[WorkKey, _One] = {}
        self._tries = Tries("seal", FAR_SECONDS)

    def begin(self, key: WorkKey, copies: deque[bytes]) -> None:
        """Take the copies of a work over; those of works before it are sealed first where there is no room for more.

        Parameters
        ----------
        copies
            Taken out one by one.
        """
        self.finish(key)
        while (before := self._first_of_too_many()) is not None:
            self.finish(before)
        one = _One(key, copies, sum(map(len, copies)), self._monotonic() + PATIENCE_SECONDS)
        with self._changed:
            self._held[key] = one
        # Not one that the interpreter's end would wait for.
        thread = Thread(target=self._run, args=(one,), name="seal", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there is no room for one
            one.is_hurried = True
            self._run(one)

    def stand_back(self, key: WorkKey, seconds: float = PATIENCE_SECONDS) -> None:
        """What else is done for a work is more urgent from now on, for so long."""
        with self._changed:
            if (one := self._held.get(key)) is not None:
                one.due = self._monotonic() + seconds
                self._changed.notify_all()

    def finish(self, key: WorkKey, seconds: float | None = None) -> None:
        """Seal what is held of a work without standing back, and wait for its end; None: however long it takes."""
        with self._changed:
            if (one := self._held.get(key)) is not None:
                one.is_hurried = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._held.get(key) is not one, seconds)

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the threads that seal, each copy of which is a step."""
        return self._tries.pulses

    @property
    def held_bytes(self) -> int:
        """Bytes of the copies of works that are not sealed yet."""
        with self._changed:
            return sum(one.size for one in self._held.values())

    def holds(self, study_key: str) -> bool:
        """Whether copies of a study are still to be sealed."""
        with self._changed:
            return any(key.study_key == study_key for key in self._held)

    def close(self, seconds: float) -> None:
        """Seal what is held, and wait for so long at most."""
        until = self._monotonic() + seconds
        with self._changed:
            keys = tuple(self._held)
        for key in keys:
            self.finish(key, max(until - self._monotonic(), 0.0))

    def _first_of_too_many(self) -> WorkKey | None:
        with self._changed:
            return next(iter(self._held)) if len(self._held) >= self._places else None

    def _run(self, one: _One) -> None:
        try:
            with self._tries.one(work=one.key.workflow_id) as pulse:
                self._wait(one)
                self._put(one.key, self._paced(one, pulse))
        except NodeError as error:
            self._emit("copies.unsealed", level="warning", work=one.key.workflow_id, reason=error.code)
        except Exception as error:  # noqa: BLE001 - the border: whoever waits for the end must not wait for ever
            self._report("seal", error)
        finally:
            one.copies.clear()
            with self._changed:
                del self._held[one.key]
                self._changed.notify_all()
            give_back()

    def _paced(self, one: _One, pulse: Pulse) -> Iterator[bytes]:
        while one.copies:
            self._wait(one)
            pulse.beat()
            yield one.copies.popleft()

    def _wait(self, one: _One) -> None:
        """Stand back for as long as that is asked for."""
        with self._changed:
            while not one.is_hurried and (left := one.due - self._monotonic()) > 0:
                self._changed.wait(left)
