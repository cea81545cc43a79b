"""One flipped bit anywhere in a segment: found, named, set aside, and dear to no record but its own.

A seeded sample of all bits of a segment, open and closed; every bit of its headers. `DICOMNODE_FLIPS` widens it.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.events import silent
from dicomnode.storage import segment
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from dicomnode.study import RecordAddress
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.recovery import Recovery
from tests.unit.storage.samples import STUDY, at, encoded, intake, metadata

SEED = int(os.environ.get("DICOMNODE_FLIP_SEED", "1"))
FLIPS = int(os.environ.get("DICOMNODE_FLIPS", "400"))
SIZES = (100, 5000, 9000, 20_000, 1)
ALIGNMENT = 4096


class Written:
    """A segment of five records, as a crash or a close left it."""

    def __init__(self, folder: Path, state: str) -> None:
        self.keys = MemoryKeys()
        self.addresses: list[RecordAddress] = []
        self.ends: list[int] = []
        spool = Spool(folder / "spool", intake("append"), self.keys)
        for number, size in enumerate(SIZES):
            data = encoded(number, size)
            self.addresses.append(spool.append(STUDY, metadata(data, number), data))
        (path,) = [one for one in folder.rglob("*") if one.suffix == ".open"]
        if state == "closed":
            spool.close()
            path = path.with_suffix(".closed")
        self.spool = Spool(folder / "spool", intake("append"), self.keys)
        self.path, self.closed = path, state == "closed"
        self.whole = path.read_bytes()
        for address in self.addresses:
            found = segment.parse_prefix(self.whole[address.offset :], address.segment_id)
            assert found is not None
            self.ends.append(address.offset + segment.PREFIX_BYTES + found.sealed_bytes)
        self.close_end = len(self.whole)
        if self.closed:
            found = segment.parse_prefix(self.whole[self.close_offset :], self.addresses[0].segment_id)
            assert found is not None
            assert found.closing
            self.close_end = self.close_offset + segment.PREFIX_BYTES + found.sealed_bytes

    @property
    def close_offset(self) -> int:
        """Where the close record begins, or the preallocated rest."""
        return segment.round_up(self.ends[-1], ALIGNMENT)

    def flip(self, bit: int) -> None:
        changed = bytearray(self.whole)
        changed[bit // 8] ^= 1 << bit % 8
        self.path.write_bytes(changed)

    def record_at(self, byte: int) -> int | None:
        """Number of the record whose bytes these are; None for headers, padding and close record."""
        for number, (address, end) in enumerate(zip(self.addresses, self.ends, strict=True)):
            if address.offset <= byte < end:
                return number
        return None

    def recover(self) -> tuple[set[int], list[Damage]]:
        damages: list[Damage] = []
        found = set()
        for _, address, told in self.spool.recover(on_damage=damages.append):
            data = encoded(address.number, SIZES[address.number])
            assert told == metadata(data, address.number)
            assert self.spool.read(STUDY, address)[1] == data
            found.add(address.number)
        return found, damages


@pytest.fixture(scope="module", params=["open", "closed"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Written]:
    one = Written(tmp_path_factory.mktemp("flips"), request.param)
    yield one
    one.spool.close()


def sample(written: Written) -> list[int]:
    """Bits: of every header and prefix all, of the rest a sample."""
    chance = random.Random(SEED)
    starts = [0, *(address.offset for address in written.addresses)]
    if written.closed:
        starts.append(written.close_offset)
    fixed = [8 * start + bit for start in starts for bit in range(8 * segment.PREFIX_BYTES)]
    chosen = chance.sample(fixed, min(len(fixed), FLIPS // 2))
    return chosen + [chance.randrange(8 * written.close_end) for _ in range(FLIPS - len(chosen))]


def test_a_flipped_bit_costs_at_most_its_record(written: Written) -> None:
    everything = set(range(len(SIZES)))
    outcomes: Counter[str] = Counter()
    for bit in sample(written):
        written.flip(bit)
        found, damages = written.recover()
        kinds = [damage.kind for damage in damages]
        own = written.record_at(bit // 8)
        where = f"SEED={SEED}, bit {bit} of byte {bit // 8}, record {own}: {damages}"
        if bit // 8 < segment.HEADER_BYTES and kinds:
            assert (found, kinds) == (set(), ["unreadable"]), where
        elif own is not None:
            assert found == everything - {own}, where
            named = [damage.number for damage in damages if damage.kind != "not-closed"]
            assert named == [own] or (own == len(SIZES) - 1 and not written.closed), where
            assert set(kinds) <= {"damaged", "torn"}, where
        else:
            assert found == everything, where
            assert set(kinds) <= {"not-closed", "damaged", "torn"}, where
        outcomes["header" if kinds == ["unreadable"] else "record" if own is not None else f"else {kinds}"] += 1
    print(written.path.suffix, dict(outcomes))  # noqa: T201 (what a proof ran)


def test_what_was_indexed_is_named_wherever_it_was_flipped(written: Written) -> None:
    """Also in the last record of an open segment, which without an index is taken for a torn one; no flip goes unseen."""
    chance = random.Random(SEED)
    for number, (address, end) in enumerate(zip(written.addresses, written.ends, strict=True)):
        for byte in chance.sample(range(address.offset, end), min(20, end - address.offset)):
            written.flip(8 * byte + chance.randrange(8))
            with pytest.raises(StorageError) as caught:
                written.spool.read(STUDY, address)
            assert caught.value.code == "sealed-damaged", (number, byte)


def test_it_is_set_aside_and_the_alarm_names_it(written: Written, tmp_path: Path) -> None:
    """As a start of the node does it: an event, a row of quarantine, and the other records in the index."""
    number = 2
    written.flip(8 * (written.addresses[number].offset + 100) + 3)
    events: list[tuple[str, dict[str, object]]] = []

    def emit(name: str, /, *, level: str = "info", **facts: object) -> None:
        events.append((name, facts | {"level": level}))

    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        recovery = Recovery(
            ledger,
            written.spool,
            ActivityTable(),
            None,  # type: ignore[arg-type]
            conflict=lambda row: None,
            later=lambda rows: None,
            derivation_key=b"k" * 32,
            clock=lambda: at(0),
            monotonic=lambda: 0.0,
            emit=emit,
        )
        recovery.rebuild_index()
        rows = ledger.instances(STUDY)
        (aside,) = ledger.quarantined(STUDY)
    damaged = [facts for name, facts in events if name == "segment.damaged"]
    assert [(one["record"], one["level"], one["segment"]) for one in damaged] == [
        (number, "error", written.addresses[number].segment_id)
    ]
    assert (aside.address, aside.reason) == (written.addresses[number], "sealed-damaged")
    assert [row.address.number for row in rows] == [one for one in range(len(SIZES)) if one != number]


def test_a_record_that_the_index_knew_and_that_is_flipped_now_is_found_when_it_is_read(
    written: Written, tmp_path: Path
) -> None:
    """The scan at a start skips what the index has: the read tells."""
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger.record_instances(
            [
                row_of(b"k" * 32, STUDY, address, metadata(encoded(number, SIZES[number]), number))
                for number, address in enumerate(written.addresses)
            ]
        )
        written.flip(8 * (written.addresses[1].offset + 200))
        damages: list[Damage] = []
        assert list(written.spool.recover(known=ledger.known_records, on_damage=damages.append)) == []
        with pytest.raises(StorageError):
            written.spool.read(STUDY, written.addresses[1])
    assert silent is not None
