"""Whole sessions of a sender, and what can go wrong with their PDUs. Seeded: the same number is the same session.

Structure-aware: lengths lie where lengths stand, ids and control headers change, PDUs are cut, moved, doubled, spliced
out of other sessions; plain bit flips besides.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from dicomnode.network import dimse
from tests.network.raw import (
    ABORT,
    APPLICATION_CONTEXT,
    ECHO_CONTEXT,
    RELEASE_REQUEST,
    STORE_CONTEXT,
    STUDY,
    VERIFICATION,
    associate_request,
    command_set,
    data_pdu,
    data_set,
    echo,
    echo_command,
    fragment,
    item,
    proposed,
    store,
    store_command,
    user_information,
)
from tests.unit.network.samples import SECONDARY_CAPTURE

_BOUNDARIES = (0, 1, 2, 3, 4, 5, 6, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x20000, 0x7FFFFFFF)
_MORE = (0x80000000, 0xFFFFFFFA, 0xFFFFFFFE, 0xFFFFFFFF)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One session as it is sent.

    Attributes
    ----------
    pdus
        Bytes, one PDU or what became of it each.
    what
        How it was changed, in order.
    """

    pdus: tuple[bytes, ...]
    what: tuple[str, ...]


def case(seed: int, number: int) -> Case:
    """The case of a seed and a number."""
    chance = random.Random(f"{seed}:{number}")
    pdus = list(chance.choice(_sessions()))
    what = []
    for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
        if not pdus:
            break
        mutation = chance.choice(_MUTATIONS)
        index = chance.randrange(len(pdus))
        mutation(pdus, index, chance)
        what.append(f"{mutation.__name__.strip('_')} of PDU {index}")
    return Case(pdus=tuple(pdus), what=tuple(what))


@cache
def _sessions() -> tuple[tuple[bytes, ...], ...]:
    uid = f"{STUDY}.40"
    big = data_set(f"{uid}.1", bytes(range(256)) * 300)
    whole = data_set(f"{uid}.2")
    command = fragment(STORE_CONTEXT, store_command(f"{uid}.2"), command=True, last=True)
    halves = [
        fragment(STORE_CONTEXT, part, command=False, last=index == 1)
        for index, part in enumerate((whole[:90], whole[90:]))
    ]
    split = store_command(f"{uid}.3")
    cancel = command_set(command_field=dimse.C_CANCEL_RQ, message_id_responded=1, data_set_type=dimse.NO_DATA_SET)
    find = command_set(affected_sop_class_uid=VERIFICATION, command_field=0x0020, message_id=9, data_set_type=1)
    rich = associate_request(
        item(0x10, APPLICATION_CONTEXT.encode()),
        proposed(STORE_CONTEXT, SECONDARY_CAPTURE, "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"),
        proposed(ECHO_CONTEXT, VERIFICATION),
        proposed(5, "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.1"),
        user_information(
            item(0x53, struct.pack(">HH", 8, 8)),
            item(0x54, struct.pack(">H", 17) + VERIFICATION.encode() + b"\1\0"),
            item(0x56, struct.pack(">H", 25) + SECONDARY_CAPTURE.encode() + bytes((2, 0, 3, 0, 0, 0))),
            item(0x58, bytes((1, 1)) + struct.pack(">H", 4) + b"user" + struct.pack(">H", 0)),
        ),
    )  # fmt: skip
    return (
        (associate_request(), echo(), echo(2), RELEASE_REQUEST),
        (associate_request(), *store(f"{uid}.0"), *store(f"{uid}.4", message_id=2), RELEASE_REQUEST),
        (rich, *store(f"{uid}.1", big), echo(2), RELEASE_REQUEST),
        (rich, data_pdu(command, *halves), data_pdu(fragment(ECHO_CONTEXT, echo_command(5), command=True, last=True))),
        (
            associate_request(),
            data_pdu(fragment(STORE_CONTEXT, split[:33], command=True, last=False)),
            data_pdu(fragment(STORE_CONTEXT, split[33:], command=True, last=True)),
            *(data_pdu(half) for half in halves),
            ABORT,
        ),
        (
            associate_request(),
            data_pdu(fragment(STORE_CONTEXT, cancel, command=True, last=True)),
            data_pdu(fragment(ECHO_CONTEXT, find, command=True, last=True)),
            data_pdu(fragment(ECHO_CONTEXT, whole, command=False, last=True)),
            echo(3),
            RELEASE_REQUEST,
        ),
    )


def _cut(pdus: list[bytes], index: int, chance: random.Random) -> None:
    pdus[index] = pdus[index][: chance.randrange(len(pdus[index]) + 1)]


def _pdu_length(pdus: list[bytes], index: int, chance: random.Random) -> None:
    one = pdus[index]
    if len(one) >= 6:
        pdus[index] = one[:2] + struct.pack(">L", _lie(len(one) - 6, chance)) + one[6:]


def _inner_length(pdus: list[bytes], index: int, chance: random.Random) -> None:
    """Length of an item or element: wherever a number stands that could be one."""
    one = pdus[index]
    form = chance.choice((">H", "<H", ">L", "<L"))
    size = struct.calcsize(form)
    likely = [place for place in range(6, len(one) - size) if 0 < struct.unpack_from(form, one, place)[0] <= len(one)]
    if likely:
        place = chance.choice(likely)
        lie = _lie(struct.unpack_from(form, one, place)[0], chance) & (0xFFFF if size == 2 else 0xFFFFFFFF)
        pdus[index] = one[:place] + struct.pack(form, lie) + one[place + size :]


def _lie(truth: int, chance: random.Random) -> int:
    lies = (truth + 1, truth - 1, truth + 2, truth * 2, truth // 2, truth + 6, truth - 6, *_BOUNDARIES, *_MORE)
    return chance.choice(lies) & 0xFFFFFFFF


def _flipped_bits(pdus: list[bytes], index: int, chance: random.Random) -> None:
    changed = bytearray(pdus[index])
    for _ in range(chance.choice((1, 1, 2, 8, 64)) if changed else 0):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    pdus[index] = bytes(changed)


def _flipped_bits_in_front(pdus: list[bytes], index: int, chance: random.Random) -> None:
    """Where headers stand."""
    changed = bytearray(pdus[index])
    for _ in range(chance.choice((1, 2, 3)) if changed else 0):
        changed[chance.randrange(min(len(changed), 80))] ^= 1 << chance.randrange(8)
    pdus[index] = bytes(changed)


def _inserted_bytes(pdus: list[bytes], index: int, chance: random.Random) -> None:
    place = chance.randrange(len(pdus[index]) + 1)
    pdus[index] = pdus[index][:place] + chance.randbytes(chance.choice((1, 2, 6, 12, 100))) + pdus[index][place:]


def _removed_bytes(pdus: list[bytes], index: int, chance: random.Random) -> None:
    place = chance.randrange(len(pdus[index]) + 1)
    pdus[index] = pdus[index][:place] + pdus[index][place + chance.choice((1, 2, 6, 12, 100)) :]


def _overwritten_bytes(pdus: list[bytes], index: int, chance: random.Random) -> None:
    place, size = chance.randrange(len(pdus[index]) + 1), chance.choice((1, 4, 16, 64))
    pdus[index] = (
        pdus[index][:place]
        + chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))
        + pdus[index][place + size :]
    )


def _doubled(pdus: list[bytes], index: int, chance: random.Random) -> None:
    pdus[index:index] = [pdus[index]] * chance.choice((1, 1, 2, 20))


def _dropped(pdus: list[bytes], index: int, chance: random.Random) -> None:
    del pdus[index]


def _swapped(pdus: list[bytes], index: int, chance: random.Random) -> None:
    other = chance.randrange(len(pdus))
    pdus[index], pdus[other] = pdus[other], pdus[index]


def _shuffled(pdus: list[bytes], index: int, chance: random.Random) -> None:
    rest = pdus[1:]
    chance.shuffle(rest)
    pdus[1:] = rest


def _spliced(pdus: list[bytes], index: int, chance: random.Random) -> None:
    pdus.insert(index, chance.choice(chance.choice(_sessions())))


def _type(pdus: list[bytes], index: int, chance: random.Random) -> None:
    pdus[index] = bytes((chance.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 255)),)) + pdus[index][1:]


def _context(pdus: list[bytes], index: int, chance: random.Random) -> None:
    if len(pdus[index]) > 11:
        pdus[index] = pdus[index][:10] + bytes((chance.choice((0, 1, 2, 3, 5, 255)),)) + pdus[index][11:]


def _control(pdus: list[bytes], index: int, chance: random.Random) -> None:
    if len(pdus[index]) > 12:
        pdus[index] = pdus[index][:11] + bytes((chance.choice((0, 1, 2, 3, 255)),)) + pdus[index][12:]


def _refragmented(pdus: list[bytes], index: int, chance: random.Random) -> None:
    """The first item of a P-DATA-TF in pieces: nothing is wrong with that."""
    one = pdus[index]
    if len(one) < 14 or one[0] != 4:
        return
    length, context_id, control = struct.unpack_from(">LBB", one, 6)
    data, size = one[12 : 12 + length - 2], chance.choice((1, 2, 7, 100))
    pieces = [data[start : start + size] for start in range(0, len(data), size)][:500]
    pdus[index] = data_pdu(
        *(
            fragment(context_id, piece, command=bool(control & 1), last=bool(control & 2) and number + 1 == len(pieces))
            for number, piece in enumerate(pieces)
        )
    )


_MUTATIONS: tuple[Callable[[list[bytes], int, random.Random], None], ...] = (
    _cut, _pdu_length, _inner_length, _inner_length, _inner_length, _flipped_bits, _flipped_bits_in_front,
    _inserted_bytes, _removed_bytes, _overwritten_bytes, _doubled, _dropped, _swapped, _shuffled, _spliced, _type,
    _context, _control, _refragmented,
)  # fmt: skip
