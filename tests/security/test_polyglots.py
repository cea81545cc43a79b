"""Attack: objects that are also something else: a preamble, a program, a script, an archive, a page.

What is not a Data Set is refused; what is one is sealed, so that no byte of it lies on the disk as it came.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.network.raw import STUDY, data_set, element, store
from tests.security.siege import Siege, refused

MARKERS = {
    "windows": b"MZ\x90\x00" + b"This program cannot be run in DOS mode",
    "elf": b"\x7fELF\x02\x01\x01" + b"/lib64/ld-linux-x86-64.so.2",
    "script": b"#!/bin/sh\necho owned > /tmp/owned-by-a-polyglot\n",
    "archive": b"PK\x03\x04" + b"owned-by-a-polyglot.txt",
    "page": b"<html><script>ownedByAPolyglot()</script></html>",
}


def on_disk(siege: Siege, text: bytes) -> list[Path]:
    state = siege.receiver.tree.node.state
    assert state is not None
    return [path for path in state.rglob("*") if path.is_file() and text in path.read_bytes()]


@pytest.mark.parametrize("kind", MARKERS)
def test_a_whole_file_with_a_preamble_in_place_of_a_data_set(siege: Siege, kind: str) -> None:
    """PS3.10 7.1: preamble and file meta information belong to files; on the network they are no Data Set."""
    marker = MARKERS[kind]
    meta = element(0x0002, 0x0010, b"UI", b"1.2.840.10008.1.2.1")
    whole = marker.ljust(128, b"\0")[:128] + b"DICM" + meta + data_set(f"{STUDY}.8.1")
    with siege.attack(refused("object-malformed")), siege.peer() as peer:
        peer.associate()
        peer.send(*store(f"{STUDY}.8.1", whole))
        assert peer.status() == 0xC000
        peer.release()
    assert on_disk(siege, marker) == []


@pytest.mark.parametrize("kind", MARKERS)
def test_a_data_set_that_hides_something(siege: Siege, kind: str) -> None:
    """In its pixels, where bytes are free: stored whole, and sealed."""
    marker = MARKERS[kind]
    uid = f"{STUDY}.8.2.{list(MARKERS).index(kind)}"
    with siege.attack(), siege.peer() as peer:
        peer.associate()
        peer.send(*store(uid, data_set(uid, marker * 50)))
        assert peer.status() == 0x0000
        peer.release()
    assert on_disk(siege, marker) == []
