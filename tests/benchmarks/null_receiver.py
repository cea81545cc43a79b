"""The node's network side alone: acceptor, sessions and intake into a sink that forgets. Its port on standard output.

`python -m tests.benchmarks.null_receiver` ends when its standard input does.
"""

from __future__ import annotations

import sys

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits
from dicomnode.network.acceptor import Acceptor
from dicomnode.network.intake import Peer, ReceivedObject
from dicomnode.network_sections import ListenSection

_SETTINGS = IntakeSection()


class Forgetting:
    """Sink that keeps the head of an object until it is looked through, and nothing else."""

    def __init__(self, free: list[Forgetting]) -> None:
        self._buffer = memoryview(bytearray(_SETTINGS.header_scan_bytes + _SETTINGS.chunk_bytes))
        self._free = free
        self._filled = 0
        self._begun = False

    def window(self) -> memoryview:
        return self._buffer[: _SETTINGS.chunk_bytes] if self._begun else self._buffer[self._filled :]

    def advance(self, count: int) -> None:
        self._filled += 0 if self._begun else count

    def head(self) -> memoryview:
        return self._buffer[: self._filled]

    def begin(self, received: ReceivedObject, /) -> None:
        self._begun = True

    def finish(self) -> None:
        return

    def close(self) -> None:
        self._filled, self._begun = 0, False
        self._free.append(self)


class Nowhere:
    """Reception without a disk; sinks are used again."""

    def __init__(self) -> None:
        self._free: list[Forgetting] = []

    def admit(self, peer: Peer) -> None:
        return

    def opened(self, peer: Peer) -> None:
        return

    def closed(self, peer: Peer, *, aborted: bool) -> None:
        return

    def sink(self) -> Forgetting:
        try:
            return self._free.pop()
        except IndexError:
            return Forgetting(self._free)


def main() -> None:
    listen = ListenSection(port=0, maximum_associations=1000, associations_per_address=1000)
    acceptor = Acceptor(listen, _SETTINGS, "DICOMNODE", Limits(), Nowhere())
    _, port = acceptor.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    acceptor.stop()


if __name__ == "__main__":
    main()
