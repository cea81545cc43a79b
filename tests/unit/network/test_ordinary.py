"""The quick way agrees on what pynetdicom agrees on, byte for byte; what is not ordinary is left to it."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.network import negotiation
from dicomnode.network.association import accepted_contexts, service_context, storage_classes
from dicomnode.network.negotiation import Association, Offer, Request
from dicomnode.network.ordinary import read_ordinary
from tests.network.raw import APPLICATION_CONTEXT, associate_request, item, proposed, user_information

COMMITMENT = "1.2.840.10008.1.20.1"
OFFER = Offer(
    contexts={
        **{str(one.abstract_syntax): one for one in accepted_contexts(("1.2.3.4.5",))},
        COMMITMENT: service_context(COMMITMENT),
    },
    storage=frozenset(storage_classes(("1.2.3.4.5",))),
    maximum_pdu_bytes=131072,
)
CLASSES = ["1.2.840.10008.1.1", "1.2.3.4.5", "1.2.3.4.6", COMMITMENT, *sorted(OFFER.storage)[:8]]
SYNTAXES = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.95",
    "1.2.3.9",
]
CONTEXT = st.tuples(st.sampled_from(CLASSES), st.lists(st.sampled_from(SYNTAXES), min_size=1, max_size=5))


def extended(uid: str) -> bytes:
    return item(0x56, len(uid).to_bytes(2, "big") + uid.encode() + bytes(6))


OTHERS = st.lists(
    st.sampled_from([item(0x53, b"\0\x08\0\x08"), item(0x55, b"SENDER_1"), *map(extended, CLASSES[:6])]),
    unique=True,
    max_size=5,
)


def slowly(encoded: bytes) -> Association:
    with patch.object(negotiation, "read_ordinary", return_value=None):
        return Request(encoded).agree(OFFER)


@settings(max_examples=300, deadline=None)
@given(
    contexts=st.lists(CONTEXT, min_size=1, max_size=12),
    others=OTHERS,
    longest=st.sampled_from([0, 4096, 16384, 0xFFFFFFFF]),
    title=st.sampled_from([b"SCANNER", b"CT 1", b"A", b"ABCDEFGHIJKLMNOP"]),
    shuffled=st.randoms(use_true_random=False),
)
def test_both_ways_agree_byte_for_byte(
    contexts: list[tuple[str, list[str]]], others: list[bytes], longest: int, title: bytes, shuffled: object
) -> None:
    contexts = [(CLASSES[0], SYNTAXES[:1]), *contexts]  # where nothing is supported, pynetdicom keeps the peer's order
    asked = [proposed(2 * number + 1, uid, *syntaxes) for number, (uid, syntaxes) in enumerate(contexts)]
    shuffled.shuffle(asked)  # type: ignore[attr-defined]
    encoded = associate_request(
        item(0x10, APPLICATION_CONTEXT.encode()), *asked, user_information(*others, longest=longest), calling=title
    )
    assert read_ordinary(encoded) is not None
    quick, slow = Request(encoded), slowly(encoded)
    assert quick.agree(OFFER) == slow
    with patch.object(negotiation, "read_ordinary", return_value=None):
        other = Request(encoded)
    names = ("calling_ae_title", "called_ae_title", "longest_pdu", "rejection")
    assert [getattr(quick, name) for name in names] == [getattr(other, name) for name in names]


def whole(*items: bytes, **titles: bytes) -> bytes:
    return associate_request(
        item(0x10, APPLICATION_CONTEXT.encode()),
        proposed(1, CLASSES[0]),
        *items,
        **titles,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "encoded",
    [
        whole(user_information(item(0x54, b"\0\x111.2.840.10008.1.1\1\1"))),
        whole(user_information(item(0x58, b"\1\0\0\4user\0\0"))),
        whole(user_information(item(0x56, b"\0\x05a.b.c\0"))),
        whole(proposed(3, "1.02.3"), user_information()),
        whole(proposed(3, "1.2." + "3" * 61), user_information()),
        whole(proposed(3, "1.2.3", "1..2"), user_information()),
        whole(item(0x60, b""), user_information()),
        associate_request(item(0x10, b"x.y"), proposed(1, CLASSES[0]), user_information()),
        whole(user_information(), calling=b"    "),
    ],
    ids=["roles", "identity", "extended", "leading-zero", "long", "syntax", "item", "application", "title"],
)
def test_what_is_not_ordinary_is_left_to_the_other_way(encoded: bytes) -> None:
    assert read_ordinary(encoded) is None


def test_where_nothing_is_supported_every_context_is_answered() -> None:
    asked = [proposed(number, "1.2.3.4.6", SYNTAXES[0]) for number in (5, 1, 3)]
    encoded = associate_request(item(0x10, APPLICATION_CONTEXT.encode()), *asked, user_information())
    quick, slow = Request(encoded).agree(OFFER), slowly(encoded)
    assert quick.contexts == slow.contexts == {}
    assert sorted(quick.answer) == sorted(slow.answer)


def test_a_request_of_128_contexts_is_agreed_on_without_an_object_for_each_item() -> None:
    classes = sorted(OFFER.storage)[:128]
    asked = [proposed(2 * number + 1, uid, *SYNTAXES[:4]) for number, uid in enumerate(classes)]
    encoded = associate_request(item(0x10, APPLICATION_CONTEXT.encode()), *asked, user_information())
    with patch.object(negotiation, "A_ASSOCIATE_RQ", None), patch.object(negotiation, "A_ASSOCIATE_AC", None):
        quick = Request(encoded).agree(OFFER)
    assert len(quick.contexts) == 128
    assert quick == slowly(encoded)
