"""A node in the foreground: it runs until a signal ends it, and tells systemd how it is."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Final

from dicomnode.config import Config
from dicomnode.events import Emit
from dicomnode.heap import leave_no_core, stay
from dicomnode.pulses import LOOK_SECONDS
from dicomnode.service import rooms
from dicomnode.service.faults import caught
from dicomnode.service.node import DRAIN_SECONDS, Node
from dicomnode.service.notify import Notifier
from dicomnode.service.stalls import Stalls
from dicomnode.service.telemetry import configure, report_fault

#: Beside the numbers of signals: a stage of the node does not end, or a thread that it cannot work without.
_HUNG: Final = 0
_HANGING_SECONDS: Final = 10.0
#: After which a node is gone that drains, beside the seconds for that: what hangs may hold up its end as well, and a part of
#: the end goes by the wall clock, which may be set back. systemd waits for longer.
REST_SECONDS: Final = 100.0


def run(tree: Config, environment: Mapping[str, str]) -> int:
    """Run a node in the foreground until SIGTERM or SIGINT, then drain it; SIGHUP has it read its certificates anew.

    Returns
    -------
    int
        Exit status: 1 where it ended because something in it hangs, so that systemd starts it again.
    """
    leave_no_core()
    emit = configure(tree.logging, journal="JOURNAL_STREAM" in environment)
    with caught(partial(report_fault, emit)):
        said = _serve(tree, environment, emit)
    emit.end()
    return 1 if said == _HUNG else 0


def _serve(tree: Config, environment: Mapping[str, str], emit: Emit) -> int:
    """Serve until something ends it: which signal, or `_HUNG`."""
    notifier = Notifier(environment)
    told: SimpleQueue[int] = SimpleQueue()

    def tell(number: int, _frame: FrameType | None) -> None:
        told.put(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, tell)
    node = Node(tree, environment, emit, hung=partial(told.put, _HUNG))
    host, port = node.start()
    stay()
    notifier.ready(f"{tree.node.ae_title} listens on {host} port {port}")
    stalls = Stalls(rooms.Layout.of(tree).stalls, clock=rooms.now, monotonic=time.monotonic, emit=emit)
    while (said := _next(told, min(notifier.watchdog_seconds or LOOK_SECONDS, LOOK_SECONDS))) in (None, signal.SIGHUP):
        notifier.alive()
        if said is not None:
            node.reload()
        if stalls.look(node.pulses):
            told.put(_HUNG)
    notifier.stopping()
    emit("node.draining")
    seconds = _HANGING_SECONDS if said == _HUNG else DRAIN_SECONDS  # what hangs is not waited for
    last = threading.Timer(seconds + REST_SECONDS, os._exit, (1,))
    last.daemon, last.name = True, "deadline"
    last.start()
    node.stop(seconds)
    last.cancel()
    if said != _HUNG:
        stalls.end()
    return said


def _next(told: SimpleQueue[int], seconds: float | None) -> int | None:
    """The next signal; None when none came in time."""
    try:
        return told.get(timeout=seconds)
    except Empty:
        return None
