"""What time it surely is: ages after which data is shredded or a delivery is given up are reckoned by this clock alone.

A wall clock is set, and can be wrong. What it gains at a stroke is believed once the node has run for long enough with
it (decision 22). Times that are only written down, or shown, are those of the wall clock.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dicomnode.events import Emit
from dicomnode.storage.files import disk_errors, replace_file
from dicomnode.workflow.ports import Clock, Monotonic

#: Seconds by which the wall clock may leave the monotonic one between two looks: it is set to the right time.
STEP_SECONDS: Final = 3600.0
#: Seconds that a node may have been stopped: a longer stop looks like a clock that is wrong.
STOP_SECONDS: Final = 86400.0
#: Seconds that the node runs with what its wall clock gained before that is believed.
GRACE_SECONDS: Final = 86400.0
_LONGEST_JUMP_SECONDS: Final = 1e10


@dataclass(slots=True)
class _Jump:
    """What the wall clock gained, how long the node has run with that, and whether it gained it while no node ran."""

    seconds: float
    served: float = 0.0
    over_stop: bool = False


class Timekeeper:
    """Implements `ports.Clocks` with a wall clock that is not believed at once; every method may be called from any thread.

    Parameters
    ----------
    path
        File of what must outlive the process: the time that was read last, and jumps that are not believed yet.
    clock, monotonic
        The clocks: wall clock in UTC, and seconds that nobody sets.
    emit
        Where events go.

    Raises
    ------
    StorageError
        ``storage-failed`` where the disk does not give what was written down: a clock that is wrong would be believed.
    """

    def __init__(self, path: Path, *, clock: Clock, monotonic: Monotonic, emit: Emit) -> None:
        self._path = path
        self._clock = clock
        self._monotonic = monotonic
        self._emit = emit
        self._lock = threading.Lock()
        self._wall, self._jumps = self._load() or (clock(), [])
        self._at = monotonic()
        with self._lock:
            self._look(STOP_SECONDS, over_stop=True)

    def now(self) -> datetime:
        """Wall clock, as it is."""
        return self._clock()

    def sure(self) -> datetime:
        """Time in UTC that has come for certain: the wall clock's, less what that gained and is not believed yet."""
        with self._lock:
            self._look(STEP_SECONDS)
            return self._wall - timedelta(seconds=sum(jump.seconds for jump in self._jumps))

    def late(self) -> datetime:
        """Time in UTC that may have come: as `sure`, and what the wall clock gained while no node ran, as over a weekend."""
        sure = self.sure()
        with self._lock:
            return sure + timedelta(seconds=sum(jump.seconds for jump in self._jumps if jump.over_stop))

    def keep(self) -> None:
        """Read the clocks, and write down what must outlive the process.

        Raises
        ------
        StorageError
            ``storage-full``, ``storage-failed``.
        """
        with self._lock:
            self._look(STEP_SECONDS)
            plain = {
                "seen": self._wall.timestamp(),
                "jumps": [[jump.seconds, jump.served, jump.over_stop] for jump in self._jumps],
            }
            with disk_errors():
                replace_file(self._path, [json.dumps(plain).encode()])

    def _look(self, allowed: float, *, over_stop: bool = False) -> None:
        """Read both clocks, and hold the one against the other."""
        wall, at = self._clock(), self._monotonic()
        ran = at - self._at
        gained = (wall - self._wall).total_seconds() - ran
        self._wall, self._at = wall, at
        for jump in self._jumps:
            jump.served += ran
        self._jumps = [jump for jump in self._jumps if jump.served < GRACE_SECONDS]
        if abs(gained) <= allowed:
            return
        if gained > 0:
            self._jumps.append(_Jump(gained, over_stop=over_stop))
        else:
            self._take_back(-gained)
        self._emit("clock.jumped", level="warning", seconds=round(gained))

    def _take_back(self, seconds: float) -> None:
        """The clock was set back: what it gained last is undone first."""
        while self._jumps and seconds > 0:
            undone = min(seconds, self._jumps[-1].seconds)
            seconds -= undone
            self._jumps[-1].seconds -= undone
            if not self._jumps[-1].seconds:
                self._jumps.pop()

    def _load(self) -> tuple[datetime, list[_Jump]] | None:
        """What the last process wrote down; None where there is nothing, or nothing that can be understood."""
        try:
            plain: Any = json.loads(self._read())
            jumps = [_Jump(float(one[0]), float(one[1]), bool([*one, False][2])) for one in plain["jumps"]]
            seen = datetime.fromtimestamp(float(plain["seen"]), UTC)
        except (ValueError, TypeError, LookupError, OverflowError):
            return None
        sane = all(0 <= jump.seconds < _LONGEST_JUMP_SECONDS and jump.served >= 0 for jump in jumps)
        return (seen, jumps) if sane else None

    def _read(self) -> bytes:
        """What the file holds: nothing at a first start alone, not where the disk refuses for now."""
        with disk_errors(), suppress(FileNotFoundError):
            return self._path.read_bytes()
        return b""
