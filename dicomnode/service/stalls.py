"""What is done about threads that hang: told once, shown to whoever asks, and where nothing works without one the node ends.

May live here: what a verdict on pulses leads to. Nothing here waits for a disk but a thread of its own: it may be the disk
that hangs.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dicomnode.errors import StorageError
from dicomnode.events import Emit
from dicomnode.pulses import Judge, Pulse, Verdict
from dicomnode.storage.files import disk_errors, replace_file
from dicomnode.workflow.ports import Clock, Monotonic

_REASON: Final = "thread-stalled"


class Stalls:
    """Judges pulses, and says so.

    Parameters
    ----------
    path
        File of what hangs, for `dicomnode status`; there is none while nothing does.
    clock, monotonic
        Wall clock, for what is shown, and the clock of the judge.
    emit
        Where events go.
    """

    def __init__(self, path: Path, *, clock: Clock, monotonic: Monotonic, emit: Emit) -> None:
        self._path = path
        self._clock = clock
        self._monotonic = monotonic
        self._emit = emit
        self._judge = Judge(monotonic())
        self._hanging: tuple[Pulse, ...] = ()
        self._plain: list[dict[str, str]] = []
        self._shown: list[dict[str, str]] | None = None  # what a node before this one left may be there
        self._writer: threading.Thread | None = None

    def look(self, pulses: Iterable[Pulse]) -> bool:
        """Tell who hangs, and who goes on; whether the node is to be given up. Waits for nothing."""
        verdict = self._judge.look(pulses, self._monotonic())
        tell(verdict, self._emit)
        if verdict.stalled or verdict.again:
            now = self._clock()
            self._plain = [_plain(pulse, now - timedelta(seconds=seconds)) for pulse, seconds in verdict.hanging]
        self._show()
        if verdict.hung is not None:
            self._emit("node.hung", level="error", thread=verdict.hung.name, reason=_REASON, **verdict.hung.about)
        return verdict.hung is not None

    def end(self) -> None:
        """The node ended in order: nothing hangs any more."""
        self._plain = []
        self._show()
        if self._writer is not None:
            self._writer.join(1.0)

    def _show(self) -> None:
        """Have it written, unless that is so or under way; what the disk refuses is tried at the next look."""
        if self._shown == self._plain or (self._writer is not None and self._writer.is_alive()):
            return
        self._writer = threading.Thread(target=self._write, args=(self._plain,), name="stalls", daemon=True)
        try:
            self._writer.start()
        except RuntimeError:  # there is no room for one
            self._writer = None

    def _write(self, plain: list[dict[str, str]]) -> None:
        try:
            with disk_errors():
                if plain:
                    replace_file(self._path, [json.dumps(plain).encode()])
                else:
                    self._path.unlink(missing_ok=True)
        except StorageError:
            return
        self._shown = plain


def tell(verdict: Verdict, emit: Emit) -> None:
    """Say who hangs since this look, and who goes on."""
    for pulse, seconds in verdict.stalled:
        emit("thread.stalled", level="error", thread=pulse.name, seconds=round(seconds), reason=_REASON, **pulse.about)
    for pulse, seconds in verdict.again:
        emit("thread.again", level="warning", thread=pulse.name, seconds=round(seconds), **pulse.about)


def read_stalls(path: Path) -> tuple[dict[str, str], ...]:
    """What hangs in a node, or did when it was ended by force; none where that cannot be read."""
    try:
        plain: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return ()
    rows = plain if isinstance(plain, list) else []
    return tuple({str(name): str(fact) for name, fact in row.items()} for row in rows if isinstance(row, dict))


def _plain(pulse: Pulse, since: datetime) -> dict[str, str]:
    return {"thread": pulse.name, **pulse.about, "since": since.astimezone(UTC).isoformat(timespec="seconds")}
