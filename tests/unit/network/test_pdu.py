"""PDUs as bytes: what is read, what is refused, what is written."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_RJ, A_RELEASE_RP, P_DATA_TF

from dicomnode.network import pdu
from dicomnode.network.pdu import Item, Violation
from dicomnode.network.status import CALLING_AE_TITLE_NOT_RECOGNISED


def decoded(kind: type, data: bytes) -> object:
    """As pynetdicom reads it."""
    read = kind()
    read.decode(data)
    return read


@pytest.mark.parametrize(("kind", "length"), [(1, 77), (2, 77), (3, 4), (4, 77), (5, 4), (6, 4), (7, 4)])
def test_a_header_is_type_and_length(kind: int, length: int) -> None:
    assert pdu.parse_header(struct.pack(">BBL", kind, 0, length), 0, 77) == (kind, length)


@pytest.mark.parametrize(("kind", "length"), [(3, 5), (4, 0), (4, 5), (5, 0), (6, 77), (7, 3)])
def test_a_length_that_the_type_cannot_have_is_invalid(kind: int, length: int) -> None:
    with pytest.raises(Violation) as caught:
        pdu.parse_header(struct.pack(">BBL", kind, 0, length), 0, 77)
    assert caught.value.abort_reason == pdu.INVALID_PARAMETER


@pytest.mark.parametrize("kind", [0, 8, 255])
def test_another_type_is_unrecognised(kind: int) -> None:
    with pytest.raises(Violation) as caught:
        pdu.parse_header(struct.pack(">BBL", kind, 0, 1), 0, 100)
    assert (caught.value.abort_reason, caught.value.code) == (pdu.UNRECOGNISED_PDU, "peer-protocol")


def test_a_length_beyond_the_longest_is_invalid() -> None:
    with pytest.raises(Violation) as caught:
        pdu.parse_header(struct.pack(">BBL", 4, 0, 78), 0, 77)
    assert caught.value.abort_reason == pdu.INVALID_PARAMETER


@pytest.mark.parametrize(
    ("control", "command", "last"), [(0, False, False), (1, True, False), (2, False, True), (3, True, True)]
)
def test_an_item_says_what_it_holds(control: int, command: bool, last: bool) -> None:
    data = b"xx" + struct.pack(">LBB", 12, 5, control)
    assert pdu.parse_item(data, 2, 16) == Item(10, 5, command, last)


@pytest.mark.parametrize(("length", "remaining"), [(0, 100), (1, 100), (13, 16), (0xFFFFFFFF, 16)])
def test_an_item_that_does_not_fit_is_invalid(length: int, remaining: int) -> None:
    with pytest.raises(Violation):
        pdu.parse_item(struct.pack(">LBB", length, 1, 2), 0, remaining)


def test_what_is_written_is_what_others_read() -> None:
    rejected = decoded(A_ASSOCIATE_RJ, pdu.reject(CALLING_AE_TITLE_NOT_RECOGNISED))
    assert (rejected.result, rejected.source, rejected.reason_diagnostic) == (1, 1, 3)  # type: ignore[attr-defined]
    aborted = decoded(A_ABORT_RQ, pdu.abort(2, pdu.UNEXPECTED_PDU))
    assert (aborted.source, aborted.reason_diagnostic) == (2, 2)  # type: ignore[attr-defined]
    by_user = decoded(A_ABORT_RQ, pdu.abort(0, 6))
    assert (by_user.source, by_user.reason_diagnostic) == (0, 0)  # type: ignore[attr-defined]
    decoded(A_RELEASE_RP, pdu.RELEASE_RESPONSE)


@given(st.binary(max_size=300), st.booleans(), st.sampled_from([0, 1, 6, 7, 20, 4096]))
def test_a_message_is_cut_as_the_peer_can_take_it(message: bytes, command: bool, longest: int) -> None:
    data = pdu.data_pdus(7, message, command=command, longest=longest)
    whole, flags = b"", []
    while data:
        _, length = pdu.parse_header(data, 0, 1 << 20)
        assert not longest or length <= max(longest, 7)
        one = decoded(P_DATA_TF, data[: 6 + length])
        (item,) = one.presentation_data_value_items  # type: ignore[attr-defined]
        assert item.presentation_context_id == 7
        flags.append(item.presentation_data_value[0])
        whole += item.presentation_data_value[1:]
        data = data[6 + length :]
    assert whole == message
    assert {flag & 1 for flag in flags} == {int(command)}
    assert [flag >> 1 for flag in flags] == [0] * (len(flags) - 1) + [1]


@given(st.binary(min_size=12, max_size=40))
def test_any_bytes_give_a_result_or_a_violation(data: bytes) -> None:
    for act in (lambda: pdu.parse_header(data, 0, 1 << 16), lambda: pdu.parse_item(data, 6, len(data))):
        with suppress(Violation):
            act()


def test_what_is_expected_between_fragments_is_what_stands_there() -> None:
    sent = pdu.data_pdus(7, bytes(1000), command=False, longest=406)
    assert sent[:12] == sent[412:424] == pdu.data_header(400, 7)
    assert sent[824:836] != pdu.data_header(400, 7)  # the last is shorter, and says that it is
    assert pdu.parse_header(pdu.data_header(400, 7), 0, 406) == (pdu.P_DATA_TF, 406)
    assert pdu.parse_item(pdu.data_header(400, 7), 6, 406) == pdu.Item(400, 7, is_command=False, is_last=False)
