"""Attack: PDUs whose length is a lie. Nothing of the announced size is set aside, and the peer is told."""

from __future__ import annotations

import struct

import pytest

from dicomnode.network import pdu
from tests.network.raw import associate_request, echo, fragment
from tests.security.siege import Siege, assert_aborted, broken, failed

FOUR_GIGABYTES = 0xFFFFFFFF


@pytest.mark.parametrize("length", [FOUR_GIGABYTES, 0x7FFFFFFF, 1 << 20])
def test_an_association_request_of_gigabytes(siege: Siege, length: int) -> None:
    with siege.attack(failed("pdu-length")), siege.peer() as peer:
        peer.send(struct.pack(">BxL", pdu.A_ASSOCIATE_RQ, length), bytes(100_000))
        assert_aborted(peer, pdu.INVALID_PARAMETER)


@pytest.mark.parametrize("kind", [pdu.P_DATA_TF, pdu.A_RELEASE_RQ, pdu.A_ABORT, pdu.A_ASSOCIATE_RQ])
def test_a_pdu_of_gigabytes_in_an_association(siege: Siege, kind: int) -> None:
    with siege.attack(broken("pdu-length")), siege.peer() as peer:
        peer.associate()
        peer.send(struct.pack(">BxL", kind, FOUR_GIGABYTES), bytes(100_000))
        assert_aborted(peer, pdu.INVALID_PARAMETER)


def test_a_pdu_one_byte_longer_than_we_advertised(siege: Siege) -> None:
    longest = siege.receiver.tree.intake.maximum_pdu_bytes
    with siege.attack(broken("pdu-length")), siege.peer() as peer:
        peer.associate()
        peer.send(struct.pack(">BxL", pdu.P_DATA_TF, longest + 1))
        assert_aborted(peer, pdu.INVALID_PARAMETER)


@pytest.mark.parametrize("length", [0, 3, 5, 100_000])
@pytest.mark.parametrize("kind", [pdu.A_RELEASE_RQ, pdu.A_ABORT])
def test_a_release_or_abort_of_another_length(siege: Siege, kind: int, length: int) -> None:
    with siege.attack(broken("pdu-length")), siege.peer() as peer:
        peer.associate()
        peer.send(struct.pack(">BxL", kind, length), bytes(length))
        assert_aborted(peer, pdu.INVALID_PARAMETER)


@pytest.mark.parametrize("length", range(6))
def test_a_data_pdu_too_short_for_an_item(siege: Siege, length: int) -> None:
    with siege.attack(broken("pdu-empty")), siege.peer() as peer:
        peer.associate()
        peer.send(struct.pack(">BxL", pdu.P_DATA_TF, length), bytes(length))
        peer.send(bytes(6))
        assert_aborted(peer, pdu.INVALID_PARAMETER)


@pytest.mark.parametrize("kind", [0x00, 0x08, 0x47, 0xFF])
def test_a_type_that_is_none(siege: Siege, kind: int) -> None:
    with siege.attack({**failed("pdu-type"), **broken("pdu-type")}), siege.peer() as peer, siege.peer() as other:
        peer.send(struct.pack(">BxL", kind, 4), bytes(4))
        assert_aborted(peer, pdu.UNRECOGNISED_PDU)
        other.associate()
        other.send(struct.pack(">BxL", kind, 4), bytes(4))
        assert_aborted(other, pdu.UNRECOGNISED_PDU)


@pytest.mark.parametrize("kind", [pdu.A_ASSOCIATE_AC, pdu.A_ASSOCIATE_RJ, pdu.A_RELEASE_RP])
def test_a_type_that_comes_from_acceptors_alone(siege: Siege, kind: int) -> None:
    expected = {**failed("pdu-before-association"), **broken("pdu-in-association")}
    with siege.attack(expected), siege.peer() as peer, siege.peer() as other:
        peer.send(struct.pack(">BxL", kind, 4), bytes(4))
        assert_aborted(peer, pdu.UNEXPECTED_PDU)
        other.associate()
        other.send(struct.pack(">BxL", kind, 4), bytes(4))
        assert_aborted(other, pdu.UNEXPECTED_PDU)


def test_a_second_association_request(siege: Siege) -> None:
    with siege.attack(broken("pdu-in-association")), siege.peer() as peer:
        peer.associate()
        peer.send(associate_request())
        assert_aborted(peer, pdu.UNEXPECTED_PDU)


def test_data_before_an_association(siege: Siege) -> None:
    with siege.attack(failed("pdu-before-association")), siege.peer() as peer:
        peer.send(echo())
        assert_aborted(peer, pdu.UNEXPECTED_PDU)


@pytest.mark.parametrize("cut", [1, 5, 11, 40])
def test_a_pdu_that_is_cut_off(siege: Siege, cut: int) -> None:
    with siege.attack(broken(None, "peer-aborted")), siege.peer() as peer:
        peer.associate()
        peer.send((echo() + fragment(1, bytes(64), command=False, last=False))[:cut])
