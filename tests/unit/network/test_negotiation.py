"""What is agreed on, read back by pynetdicom."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context

from dicomnode.network.association import accepted_contexts, storage_classes
from dicomnode.network.negotiation import Agreed, Offer, Request
from dicomnode.network.pdu import Violation
from dicomnode.network.status import APPLICATION_CONTEXT_NOT_SUPPORTED, PROTOCOL_VERSION_NOT_SUPPORTED
from tests.network import raw

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT, IMPLICIT, JPEG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.4.50"
SUPPORTED = {str(one.abstract_syntax): one for one in accepted_contexts()}
STORAGE = frozenset(storage_classes())


def asked(*contexts: PresentationContext, items: tuple[Any, ...] = (), longest: int = 16384, **changes: str) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = UID(changes.get("application", "1.2.840.10008.3.1.1.1"))
    primitive.calling_ae_title, primitive.called_ae_title = "CT1 ", "DICOMNODE"
    for number, context in enumerate(contexts):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = list(contexts)
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = longest
    implementation.implementation_class_uid = UID("1.2.3")
    primitive.user_information = [length, implementation, *items]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return bytes(pdu.encode())


def answered(encoded: bytes, maximum_pdu_bytes: int = 131072) -> tuple[Any, A_ASSOCIATE]:
    association = Request(encoded).agree(
        Offer(contexts=SUPPORTED, storage=STORAGE, maximum_pdu_bytes=maximum_pdu_bytes)
    )
    pdu = A_ASSOCIATE_AC()
    pdu.decode(association.answer)
    return association, pdu.to_primitive()


def test_contexts_are_chosen_one_by_one() -> None:
    request = asked(
        build_context(CT, [IMPLICIT, EXPLICIT]), build_context("1.2.3.4", [EXPLICIT]), build_context(CT, ["1.2.9"])
    )
    association, answer = answered(request)
    assert association.contexts == {1: Agreed(abstract_syntax=CT, transfer_syntax=EXPLICIT)}
    results = {one.context_id: one.result for one in answer.presentation_context_definition_results_list}
    assert results == {1: 0, 3: 3, 5: 4}
    assert (association.longest_pdu, answer.maximum_length_received) == (16384, 131072)


def test_the_same_class_twice_is_two_contexts() -> None:
    association, _ = answered(asked(build_context(CT, [JPEG]), build_context(CT, [EXPLICIT])))
    assert [one.transfer_syntax for one in association.contexts.values()] == [JPEG, EXPLICIT]


def test_a_hundred_and_twenty_eight_contexts() -> None:
    classes = sorted(STORAGE)[:128]
    association, _ = answered(asked(*(build_context(one, [EXPLICIT]) for one in classes)))
    assert [one.abstract_syntax for one in association.contexts.values()] == classes


def test_titles_lose_their_padding() -> None:
    request = Request(asked(build_context(VERIFICATION)))
    assert (request.calling_ae_title, request.called_ae_title, request.rejection) == ("CT1", "DICOMNODE", None)


@pytest.mark.parametrize("longest", [0, 4096, 131072, 0xFFFFFFFF])
def test_the_peer_takes_what_it_says(longest: int) -> None:
    assert Request(asked(build_context(VERIFICATION), longest=longest)).longest_pdu == longest


def test_operations_go_one_at_a_time() -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 0, 8
    _, answer = answered(asked(build_context(CT), items=(window,)))
    (found,) = [one for one in answer.user_information if isinstance(one, AsynchronousOperationsWindowNegotiation)]
    assert (found.maximum_number_operations_invoked, found.maximum_number_operations_performed) == (1, 1)


def test_storage_says_what_it_does_and_others_say_nothing() -> None:
    items = []
    for uid in (CT, "1.2.840.10008.5.1.4.1.2.2.1"):
        item = SOPClassExtendedNegotiation()
        item.sop_class_uid, item.service_class_application_information = UID(uid), b"\0"
        items.append(item)
    _, answer = answered(asked(build_context(CT), items=tuple(items)))
    found = [one for one in answer.user_information if isinstance(one, SOPClassExtendedNegotiation)]
    assert [(one.sop_class_uid, one.service_class_application_information) for one in found] == [
        (CT, bytes((2, 0, 3, 0, 0)))
    ]


def test_roles_and_identities_that_are_not_offered_are_not_answered() -> None:
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = UID(CT), True, True
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field, identity.positive_response_requested = 1, b"user", True
    association, answer = answered(asked(build_context(CT), items=(role, identity)))
    assert association.contexts[1].abstract_syntax == CT
    kinds = {type(one).__name__ for one in answer.user_information}
    assert kinds == {
        "MaximumLengthNotification",
        "ImplementationClassUIDNotification",
        "ImplementationVersionNameNotification",
    }


def test_another_application_or_version_is_rejected() -> None:
    assert Request(asked(build_context(CT), application="1.2.3")).rejection == APPLICATION_CONTEXT_NOT_SUPPORTED
    data = bytearray(asked(build_context(CT)))
    data[7] = 2
    assert Request(bytes(data)).rejection == PROTOCOL_VERSION_NOT_SUPPORTED


def test_titles_with_controls_are_a_violation() -> None:
    data = asked(build_context(CT)).replace(b"CT1 ", b"C\n1 ")
    with pytest.raises(Violation):
        Request(data)


@given(st.data())
def test_a_damaged_request_is_agreed_on_or_a_violation(data: st.DataObject) -> None:
    encoded = bytearray(asked(build_context(CT, [EXPLICIT, JPEG]), build_context(VERIFICATION)))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(6, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    del encoded[data.draw(st.integers(10, len(encoded))) :]
    with suppress(Violation):
        request = Request(bytes(encoded))
        if request.rejection is None:
            request.agree(Offer(contexts=SUPPORTED, storage=STORAGE, maximum_pdu_bytes=131072))


def with_user_items(*items: bytes) -> bytes:
    """A request with further sub-items of user information."""
    application = raw.item(0x10, raw.APPLICATION_CONTEXT.encode())
    return raw.associate_request(application, raw.proposed(1, CT, EXPLICIT), raw.user_information(*items))


SKIPPED = {
    "of a later edition": with_user_items(raw.item(0x5A, b"anything")),
    "of a maker": with_user_items(raw.item(0xFF, b"")),
    "an answer": with_user_items(raw.item(0x59, b"\0\0")),
    "an identity of a later kind": with_user_items(raw.item(0x58, b"\x09\1\0\4user\0\0")),
    "an identity of nothing": with_user_items(raw.item(0x58, b"")),
    "half a common extended negotiation": with_user_items(raw.item(0x57, b"\0")),
    "an item of its own": raw.associate_request(
        raw.item(0x10, raw.APPLICATION_CONTEXT.encode()),
        raw.proposed(1, CT, EXPLICIT),
        raw.user_information(),
        raw.item(0x60, b"anything"),
    ),
    "in a context": raw.associate_request(
        raw.item(0x10, raw.APPLICATION_CONTEXT.encode()),
        raw.item(0x20, raw.proposed(1, CT, EXPLICIT)[4:] + raw.item(0x41, b"anything")),
        raw.user_information(),
    ),
}


@pytest.mark.parametrize("what", SKIPPED)
def test_items_that_nobody_knows_are_skipped(what: str) -> None:
    """PS3.8 9.3: unrecognized types shall be ignored and skipped; D.2: an association is not rejected for them."""
    association, answer = answered(SKIPPED[what])
    assert association.contexts == {1: Agreed(abstract_syntax=CT, transfer_syntax=EXPLICIT)}
    assert len(answer.user_information) == 3
