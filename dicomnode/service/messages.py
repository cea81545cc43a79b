"""What is said over the channel of a receiver, as plain values and back: rows, peers, requests and their replies. Pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from dicomnode.network.dimse import Command
from dicomnode.network.intake import Peer
from dicomnode.network.negotiation import Agreed
from dicomnode.network.session import Call, Reply
from dicomnode.network_sections import PeerRule
from dicomnode.study import InstanceRow, RecordAddress

#: How often a receiver says that it lives.
PULSE_SECONDS: Final = 1.0


def plain_row(row: InstanceRow) -> list[Any]:
    """A row that nobody has judged yet."""
    address = row.address
    return [
        row.study_key,
        row.series_key,
        row.instance_key,
        row.sop_class_uid,
        row.transfer_syntax_uid,
        row.digest,
        row.length,
        [address.segment_id, address.number, address.offset],
        row.received_at.isoformat(),
    ]


def row_of_plain(plain: list[Any]) -> InstanceRow:
    """As `plain_row` wrote it."""
    study_key, series_key, instance_key, sop_class_uid, transfer_syntax_uid, digest, length, place, received_at = plain
    segment_id, number, offset = place
    return InstanceRow(
        study_key=study_key,
        series_key=series_key,
        instance_key=instance_key,
        sop_class_uid=sop_class_uid,
        transfer_syntax_uid=transfer_syntax_uid,
        digest=digest,
        length=length,
        address=RecordAddress(segment_id=segment_id, number=number, offset=offset),
        received_at=datetime.fromisoformat(received_at),
    )


def plain_call(call: Call) -> list[Any]:
    """A request other than C-STORE; of its peer's rule the name."""
    peer = call.peer
    return [
        asdict(call.command),
        call.context.abstract_syntax,
        call.context.transfer_syntax,
        plain_bytes(call.data_set),
        [peer.calling_ae_title, peer.called_ae_title, peer.address, peer.association_id],
        peer.rule.name if peer.rule else None,
    ]


def call_of_plain(plain: list[Any], rules: Mapping[str, PeerRule]) -> Call:
    """As `plain_call` wrote it."""
    command, abstract_syntax, transfer_syntax, data_set, (calling, called, address, association_id), rule = plain
    peer = Peer(
        calling_ae_title=calling,
        called_ae_title=called,
        address=address,
        association_id=association_id,
        rule=rules[rule] if rule is not None else None,
    )
    context = Agreed(abstract_syntax=abstract_syntax, transfer_syntax=transfer_syntax)
    return Call(Command(**command), context, bytes_of_plain(data_set), peer)


def plain_reply(reply: Reply) -> list[Any]:
    """A response."""
    return [reply.status, None if reply.data_set is None else plain_bytes(reply.data_set), reply.sop_instance_uid]


def reply_of_plain(plain: list[Any]) -> Reply:
    """As `plain_reply` wrote it."""
    status, data_set, sop_instance_uid = plain
    return Reply(status, None if data_set is None else bytes_of_plain(data_set), sop_instance_uid)


def plain_bytes(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def bytes_of_plain(text: str) -> bytes:
    """As `plain_bytes` wrote them."""
    return base64.b64decode(text)
