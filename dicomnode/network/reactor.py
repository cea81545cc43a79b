"""Where the reactor of pynetdicom 3.0.4 is paused while a request of ours waits for its response. Nothing else."""

from __future__ import annotations

import threading

from pynetdicom.association import Association


class Gate:
    """The event at which pynetdicom's reactor is paused; unlike a bare one, `clear` returns when it does stand still.

    With `threading.Event` the reactor may have passed `wait` and not yet said so: it then goes round once more, takes
    the response off the queue and drops it, and whoever waits for the response waits in vain.
    """

    def __init__(self, association: Association) -> None:
        self._association = association
        self._open = True
        self._parked = False
        self._changed = threading.Condition()

    def is_set(self) -> bool:
        """Whether the reactor may run."""
        return self._open

    def set(self) -> None:
        """Let the reactor run."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Stop the reactor; returns when it stands at `wait` or has ended."""
        with self._changed:
            self._open = False
            if threading.current_thread() is not self._association:
                while not (self._parked or self._open) and self._association.is_alive():
                    self._changed.wait(0.05)

    def wait(self, timeout: float | None = None) -> bool:
        """Stand here until the gate is open."""
        with self._changed:
            self._parked = not self._open
            self._changed.notify_all()
            passed = self._changed.wait_for(self.is_set, timeout)
            self._parked = False
            return passed
