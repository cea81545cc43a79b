"""The invariant can fail: a receiver that stands still for more than a second is found, during an attack and after it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.security.siege import SERVICE_SECONDS, Served, Siege


@contextmanager
def standing_still(siege: Siege, seconds: float) -> Iterator[None]:
    os.kill(siege.receiver.pid, signal.SIGSTOP)
    timer = threading.Timer(seconds, os.kill, (siege.receiver.pid, signal.SIGCONT))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_a_peer_that_is_served_late_during_an_attack_is_found(siege: Siege) -> None:
    late = pytest.raises(AssertionError, match="C-ECHO was answered after")
    with late, siege.attack(), standing_still(siege, SERVICE_SECONDS + 0.3):
        pass


def test_an_object_that_is_answered_late_is_found(siege: Siege) -> None:
    with standing_still(siege, SERVICE_SECONDS + 0.3), pytest.raises(AssertionError, match="object was answered after"):
        siege.serve_a_friend()


def test_a_peer_that_is_not_served_at_all_is_found(siege: Siege) -> None:
    port, siege.receiver.port = siege.receiver.port, 1
    try:
        with pytest.raises(AssertionError, match=r"Request Failed|refused"), Served(siege.receiver):
            pass
    finally:
        siege.receiver.port = port
