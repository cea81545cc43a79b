"""Association negotiation of the acceptor (PS3.8 7.1, PS3.7 D): a request's bytes in, what is agreed and the answer out.

`ordinary` reads and answers what most senders ask; for the rest pynetdicom encodes, decodes and chooses presentation
contexts. No socket and no thread of it is used here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
)
from pynetdicom.presentation import PresentationContext, negotiate_as_acceptor

from dicomnode.encoded import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicomnode.network.ordinary import Ordinary, read_ordinary, user_items
from dicomnode.network.pdu import HEADER_BYTES, INVALID_PARAMETER, Buffer, Violation
from dicomnode.network.proposal import check_structure, understood
from dicomnode.network.status import (
    APPLICATION_CONTEXT_NOT_SUPPORTED,
    PROTOCOL_VERSION_NOT_SUPPORTED,
    Rejection,
)

_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
_ACCEPTED: Final = 0
_LONGEST_AE_TITLE: Final = 16
#: PS3.4 B.3.1: level 2 (full), signatures kept bit for bit, nothing coerced.
_STORAGE_INFORMATION: Final = bytes((2, 0, 3, 0, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """Context that was accepted."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """What was agreed on, and what tells the peer.

    Attributes
    ----------
    contexts
        By presentation context id.
    storage
        SOP Classes that are stored.
    longest_pdu
        Bytes that the peer takes in one PDU, header apart; 0: any number.
    answer
        A-ASSOCIATE-AC.
    """

    contexts: Mapping[int, Agreed]
    storage: frozenset[str]
    longest_pdu: int
    answer: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What the acceptor takes.

    Attributes
    ----------
    contexts
        By abstract syntax.
    storage
        Storage SOP Classes: where extended negotiation asks, they say what storing means here.
    maximum_pdu_bytes
        What is advertised.
    """

    contexts: Mapping[str, PresentationContext]
    storage: frozenset[str]
    maximum_pdu_bytes: int

    def limited_to(self, sop_classes: Sequence[str]) -> Offer:
        """The same with fewer SOP Classes to store; none named: the same. What is no storage stays."""
        if not sop_classes:
            return self
        storage = self.storage.intersection(sop_classes)
        contexts = {uid: one for uid, one in self.contexts.items() if uid in storage or uid not in self.storage}
        return Offer(contexts=contexts, storage=storage, maximum_pdu_bytes=self.maximum_pdu_bytes)


class Request:
    """An A-ASSOCIATE-RQ.

    Parameters
    ----------
    encoded
        The whole PDU.

    Raises
    ------
    Violation
        If it cannot be read.
    """

    def __init__(self, encoded: Buffer) -> None:
        data = bytes(encoded)
        check_structure(data)
        self._version = int.from_bytes(data[HEADER_BYTES : HEADER_BYTES + 2], "big")
        self._ordinary = read_ordinary(data)
        if self._ordinary is not None:
            self.calling_ae_title = self._ordinary.calling_ae_title
            self.called_ae_title = self._ordinary.called_ae_title
            self.longest_pdu = self._ordinary.longest_pdu
            self._application_context = self._ordinary.application_context
        else:
            self._decode(understood(data))

    def _decode(self, data: bytes) -> None:
        try:
            pdu = A_ASSOCIATE_RQ()
            pdu.decode(data)
            self._primitive: A_ASSOCIATE = pdu.to_primitive()
            self._application_context = str(self._primitive.application_context_name)
            self.calling_ae_title = _title(self._primitive.calling_ae_title)
            self.called_ae_title = _title(self._primitive.called_ae_title)
            self._proposed: list[PresentationContext] = self._primitive.presentation_context_definition_list
            self._items = tuple(self._primitive.user_information)
            self.longest_pdu = int(self._primitive.maximum_length_received or 0)
        except Violation:
            raise
        except Exception:  # noqa: BLE001 (pynetdicom raises whatever the bytes make it run into)
            raise Violation(INVALID_PARAMETER, "associate-request") from None

    @property
    def rejection(self) -> Rejection | None:
        """Why nothing in it can be agreed on (PS3.8 9.3.4), or None."""
        if not self._version & 1:
            return PROTOCOL_VERSION_NOT_SUPPORTED
        if self._application_context != _APPLICATION_CONTEXT:
            return APPLICATION_CONTEXT_NOT_SUPPORTED
        return None

    def agree(self, offer: Offer) -> Association:
        """Choose contexts and encode the answer.

        Raises
        ------
        Violation
            If the answer cannot be encoded from what was asked.
        """
        if self._ordinary is not None:
            return _agree(self._ordinary, offer)
        supported, storage = offer.contexts, offer.storage
        try:
            ours = [supported[one.abstract_syntax] for one in self._proposed if one.abstract_syntax in supported]
            chosen, roles = negotiate_as_acceptor(self._proposed, ours, self._roles())
            answer = self._answer(chosen, [*roles, *self._extended(storage)], offer.maximum_pdu_bytes)
        except Exception:  # noqa: BLE001 (as above)
            raise Violation(INVALID_PARAMETER, "associate-contexts") from None
        accepted = {
            int(one.context_id): Agreed(
                abstract_syntax=str(one.abstract_syntax), transfer_syntax=str(one.transfer_syntax[0])
            )
            for one in chosen
            if one.result == _ACCEPTED
        }
        return Association(
            contexts=MappingProxyType(accepted), storage=storage, longest_pdu=self.longest_pdu, answer=answer
        )

    def _roles(self) -> dict[UID, tuple[bool | None, bool | None]]:
        return {
            item.sop_class_uid: (item.scu_role, item.scp_role)
            for item in self._items
            if isinstance(item, SCP_SCU_RoleSelectionNegotiation)
        }

    def _extended(self, storage: frozenset[str]) -> list[SOPClassExtendedNegotiation]:
        """Answers to extended negotiation of storage (PS3.7 D.3.3.5); what is not answered is not supported."""
        answers = []
        for item in self._items:
            if isinstance(item, SOPClassExtendedNegotiation) and item.sop_class_uid in storage:
                answer = SOPClassExtendedNegotiation()
                answer.sop_class_uid = item.sop_class_uid
                answer.service_class_application_information = _STORAGE_INFORMATION
                answers.append(answer)
        return answers

    def _answer(self, chosen: list[PresentationContext], items: list[object], maximum_pdu_bytes: int) -> bytes:
        primitive = A_ASSOCIATE()
        primitive.application_context_name = UID(_APPLICATION_CONTEXT)
        primitive.calling_ae_title = self._primitive.calling_ae_title
        primitive.called_ae_title = self._primitive.called_ae_title
        primitive.result = 0
        primitive.result_source = 1
        primitive.presentation_context_definition_results_list = chosen
        length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
        version = ImplementationVersionNameNotification()
        length.maximum_length_received = maximum_pdu_bytes
        implementation.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        information = [length, implementation, version, *items]
        if any(isinstance(item, AsynchronousOperationsWindowNegotiation) for item in self._items):
            window = AsynchronousOperationsWindowNegotiation()  # PS3.7 D.3.3.3: one operation at a time
            window.maximum_number_operations_invoked = 1
            window.maximum_number_operations_performed = 1
            information.append(window)
        primitive.user_information = information
        pdu = A_ASSOCIATE_AC()
        pdu.from_primitive(primitive)
        return bytes(pdu.encode())


def _agree(asked: Ordinary, offer: Offer) -> Association:
    chosen = asked.choose(offer.contexts)
    extended = [(uid, _STORAGE_INFORMATION) for uid in asked.extended if uid in offer.storage]
    items = user_items(
        offer.maximum_pdu_bytes,
        IMPLEMENTATION_CLASS_UID,
        IMPLEMENTATION_VERSION_NAME,
        extended,
        window=asked.asks_window,
    )
    accepted = {
        one.context_id: Agreed(abstract_syntax=one.abstract_syntax, transfer_syntax=one.transfer_syntax)
        for one in chosen
        if one.result == _ACCEPTED
    }
    return Association(
        contexts=MappingProxyType(accepted),
        storage=offer.storage,
        longest_pdu=asked.longest_pdu,
        answer=asked.answer(chosen, items),
    )


def _title(value: object) -> str:
    """AE title without its padding; anything but printable ASCII is none (PS3.5 6.2)."""
    text = str(value).strip(" \0")
    if len(text) > _LONGEST_AE_TITLE or not text.isascii() or not text.isprintable():
        raise Violation(INVALID_PARAMETER, "ae-title")
    return text
