"""Attack: paths, NULs and control characters where UIDs and AE titles belong. No file is named after them, no log line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicomnode.network import pdu
from tests.network.raw import Peer, associate_request, data_set, store
from tests.security.siege import Expected, Siege, assert_aborted, failed, refused

NAMES = [
    b"../../../../etc/cron.d/x",
    b"/etc/passwd",
    b"1.2.3/../../4",
    b"1.2\x00.3",
    b"1.2.3\r\nevent: node.ready",
    b"1.2\x1b[2J.3",
    b"1.2.\xff\xfe",
    b"${jndi:ldap://x}",
    b"1.2.3' OR 1=1 --",
    b"1" * 65,
]
TITLES = [b"\x00EVIL", b"A\x1b[2J", b"A\nB", b"\xff\xfe\xfd", b"A\\B", b"../../x"]


def files(siege: Siege) -> set[Path]:
    state = siege.receiver.tree.node.state
    assert state is not None
    return {path for path in state.parent.rglob("*") if path.suffix != ".open"}


@pytest.mark.parametrize("name", NAMES)
def test_an_object_that_is_named_so(siege: Siege, name: bytes) -> None:
    """In the command and in the Data Set alike, as its instance and as its study: refused, never a name of a file."""
    text = name.decode("latin-1")
    siege.serve_a_friend()  # whose study has its place before, not between
    before = files(siege)
    with siege.attack(refused("object-malformed", 2), secrets=(text,)), siege.peer() as peer:
        peer.associate()
        peer.send(*store("1.2.3.4", data_set("1.2.3.4", study=name)))
        assert peer.status() == 0xC000
        peer.send(*store("1.2.3.4", data_set(name)))
        assert peer.status() == 0xC000
        peer.release()
    assert files(siege) == before


@pytest.mark.parametrize("name", [one for one in NAMES if one.isascii()])
def test_a_command_that_is_named_so(siege: Siege, name: bytes) -> None:
    with siege.attack(refused("object-uid-mismatch"), secrets=(name.decode("latin-1"),)), siege.peer() as peer:
        peer.associate()
        peer.send(*store(name.decode("ascii"), data_set("1.2.3.4")))
        assert peer.status() == 0xA900
        peer.release()


def accepted_or_aborted(peer: Peer) -> bool:
    answer = peer.pdu()
    assert answer is not None
    if answer[0] == pdu.A_ASSOCIATE_AC:
        peer.release()
        return True
    assert answer == (pdu.A_ABORT, bytes((0, 0, 2, pdu.INVALID_PARAMETER)))
    assert peer.pdu() is None
    return False


@pytest.mark.parametrize("title", TITLES)
def test_an_ae_title_that_is_none(siege: Siege, title: bytes) -> None:
    """PS3.5 6.2: printable, no backslash. What is a title after all does no harm either."""
    legal = title == b"../../x"
    expected: Expected = {} if legal else failed("ae-title", times=2)
    with siege.attack(expected, secrets=(title.decode("latin-1"),)):
        for request in (associate_request(calling=title), associate_request(called=title)):
            with siege.peer() as peer:
                peer.send(request)
                assert accepted_or_aborted(peer) is legal


@pytest.mark.parametrize("title", [b" " * 16, bytes(16)])
def test_an_ae_title_of_nothing(siege: Siege, title: bytes) -> None:
    with siege.attack(failed("ae-title")), siege.peer() as peer:
        peer.send(associate_request(calling=title))
        assert_aborted(peer, pdu.INVALID_PARAMETER)
