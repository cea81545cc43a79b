"""Places of connections and associations: who has one, and how many there are, in memory that processes may share.

A place is one line of the table. Every change and every count is made under one lock, and the byte that says whom a
line belongs to is written last: a process that is killed at any instruction leaves lines of its own or none, and whoever
looks after it frees them. No socket, no rule: what is too many is decided by who asks.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

_NAME_BYTES: Final = 15
#: Owner (0: free), state, address, name of the peer's rule; the latter two as digests.
_LINE: Final = struct.Struct(f"<BB{_NAME_BYTES}s{_NAME_BYTES}s")
_COUNTER: Final = struct.Struct("<Q")
MOST_OWNERS: Final = 16
_HEAD_BYTES: Final = MOST_OWNERS * _COUNTER.size + 2 * _COUNTER.size
_HIGH: Final = MOST_OWNERS * _COUNTER.size
_LIVE: Final = _HIGH + _COUNTER.size
_WAITS: Final = 1  # has not got its association yet
_ASSOCIATED: Final = 2  # has one, or is being let in


def table_bytes(places: int) -> int:
    """Size of a table of so many places."""
    return _HEAD_BYTES + places * _LINE.size


@dataclass(frozen=True, slots=True)
class Counts:
    """Associations beside the one that asks: in all, of its address, and of its peer's rule."""

    all: int
    of_address: int
    of_peer: int


class Places:
    """A table of places; safe to use from many threads and, over one file, from many processes.

    Parameters
    ----------
    capacity
        Connections at a time.
    owner
        Number of this process, from 1.
    descriptor
        File of `table_bytes`, shared with others; none: memory of this process alone. It may not be closed while the
        table is in use: that would give up the lock.
    """

    def __init__(self, capacity: int, *, owner: int = 1, descriptor: int | None = None) -> None:
        self._capacity = capacity
        self._owner = owner
        self._descriptor = descriptor
        self._threads = threading.Lock()
        self._map = mmap.mmap(-1 if descriptor is None else descriptor, table_bytes(capacity))

    def take(self, address: str, *, waiting_per_address: int) -> Place | int:
        """A place for a connection; the connections of its address that wait, where there is none to be had."""
        name = _digest(address)
        with self._locked():
            free, used, waiting = None, 0, 0
            for number, (owner, state, of, _) in enumerate(self._lines()):
                if not owner:
                    free = number if free is None else free
                    continue
                used += 1
                waiting += bool(state & _WAITS) and of == name
            if waiting >= waiting_per_address or used >= self._capacity:
                return waiting
            if free is None:
                free = self._number(_HIGH)
                self._set(_HIGH, free + 1)
            place = Place(self, free)
            self._write(free, _WAITS, name, bytes(_NAME_BYTES))
            return place

    def associate(self, number: int, peer: str | None) -> Counts:
        """A place has an association from now on; how many others there are."""
        with self._locked():
            own = _LINE.unpack_from(self._map, self._offset(number))
            of_peer = _digest(peer) if peer is not None else bytes(_NAME_BYTES)
            others = [line for line in self._lines() if line[0] and line[1] & _ASSOCIATED]
            self._write(number, own[1] | _ASSOCIATED, own[2], of_peer)
            return Counts(
                len(others),
                sum(line[2] == own[2] for line in others),
                sum(line[3] == of_peer for line in others) if peer is not None else 0,
            )

    def change(self, number: int, *, without: int) -> None:
        """Take a state away."""
        with self._locked():
            offset = self._offset(number) + 1
            self._map[offset] = self._map[offset] & ~without

    def free(self, number: int) -> None:
        """A place may be taken by another."""
        with self._locked():
            self._map[self._offset(number)] = 0

    def free_all_of(self, owner: int) -> None:
        """A process ended: its places may be taken by others, and it is not counted on any more."""
        with self._locked():
            for number, line in enumerate(self._lines()):
                if line[0] == owner:
                    self._map[self._offset(number)] = 0
            self._set(_LIVE, self._number(_LIVE) & ~(1 << owner))

    def begin(self) -> None:
        """Connections are accepted here from now on."""
        with self._locked():
            self._set(_LIVE, self._number(_LIVE) | 1 << self._owner)

    def ahead(self) -> int:
        """How many more connections this process has than that which has fewest; a look without the lock."""
        live = self._number(_LIVE)
        counts = dict.fromkeys((owner for owner in range(1, MOST_OWNERS) if live & 1 << owner), 0)
        if len(counts) < 2:
            return 0
        for line in self._lines():
            if line[0] in counts:
                counts[line[0]] += 1
        return counts.get(self._owner, 0) - min(counts.values())

    def add_bytes(self, count: int) -> None:
        """So many bytes were written here."""
        with self._threads:  # only its owner writes a counter
            offset = self._owner * _COUNTER.size
            self._set(offset, self._number(offset) + count)

    def bytes_added(self) -> int:
        """Bytes that all processes wrote since the table was made."""
        return sum(self._number(owner * _COUNTER.size) for owner in range(MOST_OWNERS))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among threads and processes: a record lock, which ends with its process."""
        with self._threads:
            if self._descriptor is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                if self._descriptor is not None:
                    fcntl.lockf(self._descriptor, fcntl.LOCK_UN)

    def _lines(self) -> Iterator[tuple[int, int, bytes, bytes]]:
        used = self._map[_HEAD_BYTES : self._offset(min(self._number(_HIGH), self._capacity))]
        return _LINE.iter_unpack(used)

    def _write(self, number: int, state: int, address: bytes, peer: bytes) -> None:
        offset = self._offset(number)
        self._map[offset + 1 : offset + _LINE.size] = _LINE.pack(0, state, address, peer)[1:]
        self._map[offset] = self._owner

    def _offset(self, number: int) -> int:
        return _HEAD_BYTES + number * _LINE.size

    def _number(self, offset: int) -> int:
        return int(_COUNTER.unpack_from(self._map, offset)[0])

    def _set(self, offset: int, value: int) -> None:
        _COUNTER.pack_into(self._map, offset, value)


class Place:
    """The place of one connection."""

    def __init__(self, places: Places, number: int) -> None:
        self._places = places
        self._number = number

    def associate(self, peer: str | None) -> Counts:
        """It asks for an association in the name of a peer's rule; how many others there are."""
        return self._places.associate(self._number, peer)

    def entered(self) -> None:
        """It has its association, and waits no more."""
        self._places.change(self._number, without=_WAITS)

    def dissociate(self) -> None:
        """Its association ended, or was not let in."""
        self._places.change(self._number, without=_ASSOCIATED)

    def leave(self) -> None:
        """The connection ended."""
        self._places.free(self._number)


def open_table(capacity: int) -> int:
    """Descriptor of an empty table, to be handed to other processes."""
    descriptor = os.memfd_create("places", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, table_bytes(capacity))
    return descriptor


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=_NAME_BYTES).digest()
