"""Structure of an association request, looked through before anybody decodes it."""

from __future__ import annotations

import pytest

from dicomnode.network.pdu import Violation
from dicomnode.network.proposal import check_structure
from tests.network.raw import APPLICATION_CONTEXT, VERIFICATION, associate_request, item, proposed, user_information

APPLICATION = item(0x10, APPLICATION_CONTEXT.encode())
USER = user_information()


def test_what_senders_ask_passes() -> None:
    check_structure(associate_request())
    contexts = [proposed(number, VERIFICATION) for number in range(1, 256, 2)]
    check_structure(associate_request(APPLICATION, *contexts, USER))


@pytest.mark.parametrize("items", [0, 1, 2, 3])
def test_an_item_that_says_one_byte_more_than_there_is(items: int) -> None:
    whole = [APPLICATION, proposed(1, VERIFICATION), USER]
    longer = [item(one[0], one[4:] + b"x")[:-1] if number == items else one for number, one in enumerate(whole)]
    if items == len(whole):
        check_structure(associate_request(*longer))
        return
    with pytest.raises(Violation):
        check_structure(associate_request(*longer))


@pytest.mark.parametrize(
    ("context", "what"),
    [
        (item(0x20, b"\1\0\0"), "request-item-length"),
        (item(0x20, bytes((1, 0, 0, 0)) + item(0x30, b"1")), "request-context"),
        (item(0x20, bytes((1, 0, 0, 0)) + item(0x40, b"1")), "request-context"),
        (item(0x20, bytes((1, 0, 0, 0)) + item(0x30, b"1") * 2 + item(0x40, b"1")), "request-context"),
        (proposed(1, VERIFICATION, *["1.2"] * 80), "request-items"),
        (proposed(1, "1" * 129), "request-item-length"),
        (proposed(4, VERIFICATION), "request-context-id"),
    ],
)
def test_a_context_that_cannot_be_meant(context: bytes, what: str) -> None:
    with pytest.raises(Violation) as caught:
        check_structure(associate_request(APPLICATION, context, USER))
    assert caught.value.facts == {"what": what}


@pytest.mark.parametrize("title", [b"A\0B", b"\tA", b"A\\B", b"\x7f", b"", b"\xe4"])
def test_a_title_that_is_none(title: bytes) -> None:
    for request in (associate_request(calling=title), associate_request(called=title)):
        with pytest.raises(Violation) as caught:
            check_structure(request)
        assert caught.value.facts == {"what": "ae-title"}


def test_a_title_may_be_padded_with_nuls() -> None:
    check_structure(associate_request(calling=b"SCANNER\0\0\0\0\0\0\0\0\0"))
