"""Whatever happens to a segment's bytes, what is believed is what was appended, and what was not touched is kept."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.errors import StorageError
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.spool import Spool
from dicomnode.study import RecordAddress
from tests.unit.storage.samples import STUDY, encoded, intake, metadata

SIZES = (0, 10, 5000, 9000, 40_000, 100)


class Written:
    """A closed segment of six records, and its bytes."""

    def __init__(self, folder: Path) -> None:
        self.spool = Spool(folder, intake("append"), MemoryKeys())
        self.records: dict[RecordAddress, tuple[object, bytes]] = {}
        for number, size in enumerate(SIZES):
            data = encoded(number, size)
            found = metadata(data, number)
            self.records[self.spool.append(STUDY, found, data)] = (found, data)
        self.spool.close()
        (self.path,) = [path for path in folder.rglob("*") if path.is_file()]
        self.whole = self.path.read_bytes()
        starts = [address.offset for address in self.records]
        self.ends = [*starts[1:], len(self.whole) - 4096]

    def believed(self, data: bytes) -> set[RecordAddress]:
        """Addresses that recovery finds in changed bytes, each checked by reading it.

        A whole record at another place is still that record: its number is bound, its place is not.
        """
        self.path.write_bytes(data)
        by_number = {address.number: content for address, content in self.records.items()}
        found = set()
        for _, address, told in self.spool.recover(on_damage=lambda _: None):
            assert by_number[address.number][0] == told
            assert self.spool.read(STUDY, address) == by_number[address.number]
            found.add(address)
        for address in self.records.keys() - found:
            with contextlib.suppress(StorageError):  # the first copy of a number counts; another may read well too
                assert self.spool.read(STUDY, address) == self.records[address]
        return found

    def untouched(self, start: int, end: int) -> set[RecordAddress]:
        """Records with no byte in a range; none where the header is in it."""
        if start < 4096:
            return set()
        spans = zip(self.records, self.ends, strict=True)
        return {address for address, stop in spans if stop <= start or end <= address.offset}


@pytest.fixture(scope="module")
def written() -> Iterator[Written]:
    with tempfile.TemporaryDirectory() as folder:
        yield Written(Path(folder))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_overwritten(written: Written, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(written.whole) - 1))
    junk = data.draw(st.one_of(st.binary(min_size=1, max_size=64), st.integers(1, 30_000).map(bytes)))
    changed = (written.whole[:start] + junk + written.whole[start + len(junk) :])[: len(written.whole)]
    found = written.believed(changed)
    assert written.untouched(start, start + len(junk)) <= found


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_cut(written: Written, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(written.whole)))
    assert written.untouched(end, len(written.whole)) <= written.believed(written.whole[:end])


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_blocks_moved(written: Written, data: st.DataObject) -> None:
    blocks = [written.whole[start : start + 4096] for start in range(0, len(written.whole), 4096)]
    order = data.draw(st.permutations(range(1, len(blocks))))
    written.believed(blocks[0] + b"".join(blocks[index] for index in order))
