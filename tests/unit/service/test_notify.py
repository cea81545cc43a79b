from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.service.notify import Notifier


@pytest.fixture
def listener() -> Iterator[tuple[str, socket.socket]]:
    """A datagram socket as systemd has one: its name and itself. Names of sockets are short."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        path = str(Path(folder) / "notify")
        channel.bind(path)
        channel.settimeout(10)
        yield path, channel


def test_systemd_hears_how_the_service_is(listener: tuple[str, socket.socket]) -> None:
    path, channel = listener
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000000"})
    assert notifier.watchdog_seconds == 15.0
    notifier.ready("DICOMNODE listens")
    notifier.alive()
    notifier.stopping()
    assert [channel.recv(1000) for _ in range(3)] == [
        b"READY=1\nSTATUS=DICOMNODE listens",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=Draining",
    ]


def test_an_abstract_socket_is_heard_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind("")  # the kernel gives an abstract name
        channel.settimeout(10)
        name = channel.getsockname()
        assert name[:1] == b"\0"
        Notifier({"NOTIFY_SOCKET": "@" + name[1:].decode()}).alive()
        assert channel.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("interval", ["", "0", "-5", "soon"])
def test_no_watchdog_without_an_interval(interval: str) -> None:
    assert Notifier({"WATCHDOG_USEC": interval}).watchdog_seconds is None


def test_nobody_to_tell_is_no_reason_to_stop(listener: tuple[str, socket.socket]) -> None:
    path, channel = listener
    notifier = Notifier({"NOTIFY_SOCKET": path})
    Path(path).unlink()
    notifier.alive()
    notifier.alive()
    channel.setblocking(False)
    with pytest.raises(BlockingIOError):
        channel.recv(100)
    Notifier({}).ready("x")
