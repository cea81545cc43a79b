"""What every way of writing a segment keeps to, on a real disk; also when the process is killed in the middle."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from dicomnode.study import RecordAddress
from tests.unit.storage.samples import OTHER_STUDY, STUDY, disk_folder, encoded, intake, metadata

KILLS = 5


@pytest.fixture
def disk() -> Iterator[Path]:
    with disk_folder() as folder:
        yield folder


@pytest.fixture(params=["direct", "append"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def spool(disk: Path, mode: str) -> Iterator[Spool]:
    with Spool(disk / "spool", intake(mode), MemoryKeys()) as opened:
        yield opened


def fill(spool: Spool, count: int, study_key: str = STUDY) -> dict[RecordAddress, bytes]:
    """Records of many sizes: within a block, of exactly whole chunks, larger than the stage."""
    sizes = (0, 1, 3000, 4096, 8192, 20_000, 70_000)
    found = {}
    for number in range(count):
        data = encoded(number, sizes[number % len(sizes)])
        found[spool.append(study_key, metadata(data, number), data)] = data
    return found


def recovered(spool: Spool, damages: list[Damage] | None = None) -> dict[RecordAddress, str]:
    told = None if damages is None else damages.append
    return {address: found.digest for _, address, found in spool.recover(on_damage=told)}


def test_what_was_appended_is_read(spool: Spool, mode: str) -> None:
    assert spool.write_mode.name == mode
    records = fill(spool, 30)
    assert [address.number for address in records] == list(range(30))
    for number, (address, data) in enumerate(records.items()):
        assert spool.read(STUDY, address) == (metadata(data, number), data)
    spool.close()
    for address, data in records.items():
        assert spool.read(STUDY, address)[1] == data


def test_recovery_finds_all_before_and_after_the_close(spool: Spool) -> None:
    records = fill(spool, 14)
    wanted = {address: metadata(data, n).digest for n, (address, data) in enumerate(records.items())}
    assert recovered(spool) == wanted
    spool.close()
    damages: list[Damage] = []
    assert recovered(spool, damages) == wanted
    assert damages == []


@pytest.mark.parametrize("size", [1, 4096, 300_000])
def test_buffers_without_a_known_length(spool: Spool, size: int) -> None:
    data = encoded(1, 600_000)
    asked: list[int] = []

    def buffers() -> Iterator[bytes]:
        for start in range(0, len(data), max(size, 100)):
            asked.append(start)
            yield data[start : start + max(size, 100)]

    address = spool.append(STUDY, lambda: metadata(data, asked[0]), buffers())
    assert spool.read(STUDY, address) == (metadata(data, 0), data)


def test_a_large_object_takes_little_memory(spool: Spool) -> None:
    import tracemalloc

    block = encoded(1, 1 << 16)
    count = 64  # 4 MiB
    found = replace(metadata(block), length=len(block) * count)
    tracemalloc.start()
    try:
        address = spool.append(STUDY, found, (block for _ in range(count)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    assert spool.read(STUDY, address)[1] == block * count
    assert list(recovered(spool)) == [address]


def test_a_source_that_breaks_off_leaves_nothing_believed(spool: Spool) -> None:
    records = fill(spool, 3)

    def broken() -> Iterator[bytes]:
        yield encoded(9, 200_000)
        raise ConnectionResetError("peer")

    def rude() -> Iterator[bytes]:
        yield encoded(9, 200_000)
        raise KeyError("a fault of the caller")

    with pytest.raises(ConnectionResetError):
        spool.append(STUDY, metadata(b""), broken())
    with pytest.raises(KeyError):
        spool.append(STUDY, metadata(b""), rude())
    records |= (more := fill(spool, 2))  # a peer that vanishes spoils no segment
    assert {each.segment_id for each in more} <= {each.segment_id for each in records}
    with pytest.raises(ValueError, match="length"):
        spool.append(STUDY, metadata(b"x"), b"xy")
    after = fill(spool, 3)
    assert {each.segment_id for each in after}.isdisjoint({each.segment_id for each in records})
    damages: list[Damage] = []
    assert set(recovered(spool, damages)) == {*records, *after}
    assert damages == []


def test_many_associations_at_once(disk: Path, mode: str) -> None:
    failures: list[BaseException] = []
    records: dict[tuple[str, RecordAddress], bytes] = {}
    with Spool(disk / "spool", intake(mode, open_segments=2, segment_bytes=1 << 20), MemoryKeys()) as spool:

        def associate(number: int) -> None:
            try:
                study_key = f"{number % 3:032x}"
                for address, data in fill(spool, 8, study_key).items():
                    records[study_key, address] = data
            except StorageError as error:
                failures.append(error)

        threads = [threading.Thread(target=associate, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(records) == 48
        for (study_key, address), data in records.items():
            assert spool.read(study_key, address)[1] == data
        assert {(study, address) for study, address, _ in spool.recover()} == set(records)


def test_purged_is_gone(spool: Spool, disk: Path) -> None:
    gone = fill(spool, 3)
    kept = fill(spool, 3, OTHER_STUDY)
    spool.purge(STUDY)
    spool.purge(STUDY)
    assert not (disk / "spool" / STUDY[:2] / STUDY).exists()
    with pytest.raises(StorageError) as caught:
        spool.read(STUDY, next(iter(gone)))
    assert caught.value.code == "sealed-damaged"
    assert set(recovered(spool)) == set(kept)
    again = fill(spool, 1)
    assert set(recovered(spool)) == {*kept, *again}


CHILD = """
import sys
from pathlib import Path
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from tests.unit.storage.samples import encoded, intake, metadata
state, mode, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
ledger = Ledger.open(state / "ledger.sqlite3")
spool = Spool(state / "spool", intake(mode), DataKeys(ledger, open_keys(state / "keys", create=True)))
number = first
while True:
    data = encoded(number, 1000 + number * 7919 % 90_000)
    address = spool.append("ab" * 16, metadata(data, number), data)
    print(number, address.segment_id, address.number, address.offset, flush=True)
    number += 1
"""


def test_a_killed_receiver_loses_nothing_that_it_acknowledged(disk: Path, mode: str) -> None:
    """kill -9 in the middle of an append, several times over one folder."""
    random_source = random.Random(mode)
    acknowledged: dict[int, RecordAddress] = {}
    root = Path(__file__).resolve().parents[2]
    for kill in range(KILLS):
        command = [sys.executable, "-c", CHILD, str(disk), mode, str(kill * 10_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) as child:
            assert child.stdout is not None
            enough = random_source.randint(1, 12)
            for count, line in enumerate(child.stdout):
                number, segment_id, record, offset = line.split()
                acknowledged[int(number)] = RecordAddress(segment_id=segment_id, number=int(record), offset=int(offset))
                if count == enough:  # what comes meanwhile was acknowledged too: the pipe is read to its end
                    os.kill(child.pid, signal.SIGKILL)
        assert child.returncode == -signal.SIGKILL
    with Ledger.open(disk / "ledger.sqlite3") as ledger:
        spool = Spool(disk / "spool", intake(mode), DataKeys(ledger, open_keys(disk / "keys")))
        damages: list[Damage] = []
        found = {address: metadata for _, address, metadata in spool.recover(on_damage=damages.append)}
        assert len({address.segment_id for address in acknowledged.values()}) >= KILLS
        for number, address in acknowledged.items():
            data = encoded(number, 1000 + number * 7919 % 90_000)
            assert spool.read(STUDY, address) == (metadata(data, number), data)
            assert found.pop(address) == metadata(data, number)
        assert len(found) <= KILLS  # whole, but killed before it could say so
        assert {damage.kind for damage in damages} <= {"torn"}
        spool.close()
