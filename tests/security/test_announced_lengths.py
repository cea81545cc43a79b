"""Attack: Data Sets that announce gigabytes, and objects that never end. Nothing is set aside for what is only announced."""

from __future__ import annotations

import struct

import pytest

from dicomnode.network import pdu
from tests.network.raw import (
    PATIENT,
    STORE_CONTEXT,
    STUDY,
    data_pdu,
    data_set,
    element,
    fragment,
    store,
    store_command,
)
from tests.security.siege import Siege, assert_aborted, broken, refused

GIGABYTES = 0xFFFFFFFE


def announced(vr: bytes, length: int) -> bytes:
    """Header of an element far ahead of the UIDs, which says that so much follows."""
    return struct.pack("<HH2sxxL", 0x0008, 0x0001, vr, length)


@pytest.mark.parametrize("vr", [b"OB", b"UN", b"UT", b"SQ"])
@pytest.mark.parametrize("length", [GIGABYTES, 0x80000000, 64 << 20])
def test_an_element_of_gigabytes_before_the_uids(siege: Siege, vr: bytes, length: int) -> None:
    """What is not there within the scan is not looked for: not understood, and the association goes on."""
    data = announced(vr, length) + data_set(f"{STUDY}.2.5")
    with siege.attack(refused("object-malformed")), siege.peer() as peer:
        peer.associate()
        peer.send(*store(f"{STUDY}.2.5", data))
        assert peer.status() == 0xC000
        peer.send(*store(f"{STUDY}.2.5", message_id=2))
        assert peer.status() == 0x0000
        peer.release()


def test_pixels_of_four_gigabytes_of_which_a_few_come(siege: Siege) -> None:
    """The header is whole: the object is kept as it came, for whoever reads it to judge."""
    data = data_set(f"{STUDY}.2.6", b"")[:-12] + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OB", GIGABYTES) + bytes(100)
    with siege.attack(), siege.peer() as peer:
        peer.associate()
        peer.send(*store(f"{STUDY}.2.6", data))
        assert peer.status() == 0x0000
        peer.release()


def test_a_patient_name_of_gigabytes(siege: Siege) -> None:
    data = element(0x0008, 0x0016, b"UI", b"1.2") + struct.pack("<HH2sxxL", 0x0010, 0x0010, b"UN", GIGABYTES)
    with siege.attack(refused("object-malformed")), siege.peer() as peer:
        peer.associate()
        peer.send(*store(f"{STUDY}.2.7", data + PATIENT.encode() * 5000))
        assert peer.status() == 0xC000
        peer.release()


def test_an_object_larger_than_any_may_be(siege: Siege) -> None:
    """The limit of this receiver is 4 MiB; what is beyond is dropped as it comes."""
    limit = siege.receiver.tree.intake.maximum_object_bytes
    with siege.attack(refused("object-too-large")), siege.peer() as peer:
        peer.associate()
        peer.send(*store(f"{STUDY}.2.8", data_set(f"{STUDY}.2.8", bytes(limit)), pdu_bytes=100_000))
        assert peer.status() == 0xC000
        peer.release()


def test_an_object_that_never_ends(siege: Siege) -> None:
    """Refused as too large, dropped for as long again, and then aborted."""
    piece = data_pdu(fragment(STORE_CONTEXT, bytes(100_000), command=False, last=False))
    with siege.attack({**refused("object-too-large"), **broken("message-length")}), siege.peer() as peer:
        peer.associate()
        peer.send(data_pdu(fragment(STORE_CONTEXT, store_command(f"{STUDY}.2.9"), command=True, last=True)))
        peer.send(data_pdu(fragment(STORE_CONTEXT, data_set(f"{STUDY}.2.9"), command=False, last=False)))
        for _ in range(2000):
            if not peer.send(piece):
                break
        assert_aborted(peer, pdu.INVALID_PARAMETER)
