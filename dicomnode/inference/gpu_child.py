"""The process that has a GPU: it opens one package's engine and answers, and its end is nobody else's.

A sticky error of CUDA, a hang, memory that ran out: the process ends, or is ended, and the node goes on. Run as a module
it is that process: ``python -m dicomnode.inference.gpu_child DESCRIPTOR``, the descriptor being its end of a socket. May
not live here: what the node does when it fails (`gpu_guard`).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from dicomnode.errors import NodeError
from dicomnode.heap import leave_no_core
from dicomnode.imaging.volume import Volume
from dicomnode.inference.engine import Batch, EngineInfo
from dicomnode.inference.gpu_wire import Ended, Message, Shared, geometry_of, info_message, receive, send
from dicomnode.inference.segment import Seen


class Served(Protocol):
    """What a GPU process serves: an engine that goes the whole way, too."""

    @property
    def info(self) -> EngineInfo:
        """Description."""
        ...

    def run(self, batch: Batch) -> Batch:
        """As `Engine.run`."""
        ...

    def see(self, volume: Volume, progress: Callable[[float], None]) -> Seen:
        """As `segment.VolumeEngine.see`."""
        ...

    def rest(self) -> None:
        """As `Engine.rest`."""
        ...


Opener = Callable[[Message], Served]


def serve(link: socket.socket, opener: Opener) -> None:
    """Open what the first message asks for, then answer until the other side is gone.

    Parameters
    ----------
    opener
        Makes the engine of a first message; a `NodeError` of its is told to the other side.
    """
    try:
        message, _ = receive(link)
        try:
            served = opener(message)
        except NodeError as error:
            send(link, _failed(error))
            return
        send(link, {"state": "ready", "info": info_message(served.info)})
        while True:
            message, descriptor = receive(link)
            signal.setitimer(signal.ITIMER_REAL, float(message["seconds"]))  # in case nobody is left to end it
            try:
                answer = _answer(served, message, descriptor, link)
            except NodeError as error:
                answer = _failed(error)
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            send(link, answer)
            served.rest()
    except Ended:
        return


def _answer(served: Served, message: Message, descriptor: int | None, link: socket.socket) -> Message:
    """Do what is asked; arrays come and go in the shared memory."""
    if descriptor is None:
        raise Ended
    shared = Shared(message["layout"], descriptor)
    try:
        source, *targets = shared.arrays
        if message["ask"] == "run":
            targets[0][:] = served.run(source)
            return {"state": "done", "info": info_message(served.info)}
        volume = Volume(values=source, geometry=geometry_of(message["geometry"]), padding=None, sop_instance_uids=())
        seen = served.see(volume, lambda share: send(link, {"state": "going", "share": share}))
        targets[0][:] = seen.labels
        if seen.probability is not None:
            targets[1][:] = seen.probability
        return {"state": "done", "info": info_message(seen.engine)}
    finally:
        shared.close()


def _failed(error: NodeError) -> Message:
    return {"state": "failed", "cause": str(error.facts.get("cause", error.code))}


def end_with(link: socket.socket) -> None:
    """End this process as soon as the other side is gone, whatever it is at: nobody would hear the answer."""

    def watch() -> None:
        poller = select.poll()
        poller.register(link, select.POLLRDHUP)
        poller.poll()
        os._exit(1)

    threading.Thread(target=watch, name="gpu-watch", daemon=True).start()


def _main(arguments: list[str]) -> None:  # pragma: no cover - runs in the child
    from dicomnode.inference.gpu_open import open_package

    leave_no_core()
    with socket.socket(fileno=int(arguments[0])) as link:
        end_with(link)
        serve(link, open_package)
    sys.stdout.flush()
    os._exit(0)  # libraries of drivers have crashed at the end of processes that were done


if __name__ == "__main__":  # pragma: no cover - runs in the child
    _main(sys.argv[1:])
