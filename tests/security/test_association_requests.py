"""Attack: association requests of thousands of items, lying lengths, ids twice and garbage (PS3.8 9.3.2)."""

from __future__ import annotations

import random
import struct

import pytest

from dicomnode.network import pdu
from tests.network.raw import (
    APPLICATION_CONTEXT,
    VERIFICATION,
    associate_request,
    item,
    proposed,
    user_information,
    whole,
)
from tests.security.siege import Siege, assert_aborted, failed

APPLICATION = item(0x10, APPLICATION_CONTEXT.encode())
CONTEXT = proposed(1, VERIFICATION)
USER = user_information()
TINY = item(0x20, bytes((1, 0, 0, 0)))
SMALL = item(0x20, bytes((1, 0, 0, 0)) + item(0x30, b"1") + item(0x40, b"1"))

REQUESTS = {
    "cut": ("request-cut", whole(1, bytes(67))),
    "of nothing": ("request-cut", whole(1, b"")),
    "without items": ("request-item-missing", associate_request(b"")),
    "without user information": ("request-item-missing", associate_request(APPLICATION, CONTEXT)),
    "without contexts": ("request-item-missing", associate_request(APPLICATION, USER)),
    "without application context": ("request-item-missing", associate_request(CONTEXT, USER)),
    "item longer than the request": (
        "request-item-length",
        associate_request(APPLICATION, CONTEXT, struct.pack(">BxH", 0x50, 60_000)),
    ),
    "item cut": ("request-item-cut", associate_request(APPLICATION, CONTEXT, USER, b"\x21\x00\x00")),
    "an id twice": ("request-context-id", associate_request(APPLICATION, CONTEXT, CONTEXT, USER)),
    "an even id": ("request-context-id", associate_request(APPLICATION, proposed(2, VERIFICATION), USER)),
    "an id of zero": ("request-context-id", associate_request(APPLICATION, proposed(0, VERIFICATION), USER)),
    "25,000 contexts": ("request-context-id", associate_request(APPLICATION, *[SMALL] * 25_000, USER)),
    "13,000 syntaxes": (
        "request-items",
        associate_request(APPLICATION, item(0x20, bytes((1, 0, 0, 0)) + item(0x40, b"1") * 13_000), USER),
    ),
    "13,000 user items": ("request-items", associate_request(APPLICATION, CONTEXT, item(0x50, item(0x55, b"x") * 13_000))),
    "100,000 unknown items": ("request-item-twice", associate_request(APPLICATION, CONTEXT, *[item(0x99, b"")] * 100_000)),
    "two user informations": ("request-item-twice", associate_request(APPLICATION, CONTEXT, USER, USER)),
    "a syntax of 60 KB": (
        "request-item-length",
        associate_request(APPLICATION, proposed(1, VERIFICATION, "1." * 30_000), USER),
    ),
    "a context within a context": ("request-context-id", associate_request(APPLICATION, item(0x20, CONTEXT), USER)),
    "a context of nothing": ("request-context", associate_request(APPLICATION, TINY, USER)),
    "garbage as user information": ("associate-request", associate_request(APPLICATION, CONTEXT, item(0x50, b"\x51\0\0\x01\xff"))),
    "half a role": ("associate-request", associate_request(APPLICATION, CONTEXT, user_information(item(0x54, b"\xff\xff")))),
}  # fmt: skip


@pytest.mark.parametrize("what", REQUESTS)
def test_a_request_that_cannot_be_meant(siege: Siege, what: str) -> None:
    kind, request = REQUESTS[what]
    with siege.attack(failed(kind)), siege.peer() as peer:
        peer.send(request)
        assert_aborted(peer, pdu.INVALID_PARAMETER)


def test_the_most_that_can_be_meant_is_answered(siege: Siege) -> None:
    """128 contexts of 60 transfer syntaxes, a role for each."""
    syntaxes = [f"1.2.840.10008.1.2.4.{number}" for number in range(59)] + ["1.2.840.10008.1.2"]
    contexts = [proposed(number, VERIFICATION, *syntaxes) for number in range(1, 256, 2)]
    roles = [item(0x54, struct.pack(">H", 17) + VERIFICATION.encode() + b"\x01\x01")] * 128
    with siege.attack(), siege.peer() as peer:
        peer.associate(associate_request(APPLICATION, *contexts, user_information(*roles)))
        peer.release()


def test_many_large_requests_are_not_remembered(siege: Siege) -> None:
    """What was agreed on is kept for the next time, within a bound."""
    syntaxes = [f"1.2.840.10008.1.2.4.{number}" for number in range(59)] + ["1.2.840.10008.1.2"]
    with siege.attack():
        for number in range(12):
            contexts = [proposed(one, VERIFICATION, *syntaxes) for one in range(1, 256, 2)]
            title = f"LARGE{number}".encode()
            with siege.peer() as peer:
                peer.associate(associate_request(APPLICATION, *contexts, USER, calling=title))
                peer.release()


@pytest.mark.parametrize("seed", range(20))
def test_garbage_in_a_frame(siege: Siege, seed: int) -> None:
    """A header of an association request, and noise: one abort, or a rejection where the noise begins well."""
    chance = random.Random(seed)
    with siege.attack(failed("ae-title")), siege.peer() as peer:
        peer.send(whole(1, chance.randbytes(chance.randrange(68, 5000))))
        assert_aborted(peer, pdu.INVALID_PARAMETER)


def test_another_version_of_the_protocol(siege: Siege) -> None:
    with siege.attack({("association.rejected", "", None): 1}), siege.peer() as peer:
        peer.send(associate_request(version=2))
        assert peer.pdu() == (pdu.A_ASSOCIATE_RJ, bytes((0, 1, 2, 2)))
        assert peer.pdu() is None


def test_another_application_context(siege: Siege) -> None:
    with siege.attack({("association.rejected", "", None): 1}), siege.peer() as peer:
        peer.send(associate_request(item(0x10, b"1.2.840.10008.3.1.1.2"), CONTEXT, USER))
        assert peer.pdu() == (pdu.A_ASSOCIATE_RJ, bytes((0, 1, 1, 2)))
        assert peer.pdu() is None
