"""Telling systemd how the service is (sd_notify(3)): ready, stopping, alive. Does nothing where systemd does not listen."""

from __future__ import annotations

import socket
from collections.abc import Mapping


class Notifier:
    """Writes to the socket that systemd names in ``NOTIFY_SOCKET``.

    Parameters
    ----------
    environment
        The process's environment.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        interval = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(interval) / 2e6 if interval.isdigit() and int(interval) > 0 else None

    def ready(self, status: str) -> None:
        """The service listens."""
        self._send(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """The service drains."""
        self._send("STOPPING=1\nSTATUS=Draining")

    def alive(self) -> None:
        """The service is not stuck."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(text.encode(), self._address)
            except OSError:
                self._address = ""  # nobody listens any more: that is no reason to stop serving
