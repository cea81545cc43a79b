"""The spool's own decisions: which segment, when it ends, what is believed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage import segment, writer
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, RecordAddress, RecordMetadata, blind_key
from tests.unit.storage.samples import OTHER_STUDY, STUDY, encoded, intake, metadata


class Bench:
    """A spool, and what a test does to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = MemoryKeys()
        self.opened: list[Spool] = []

    def spool(self, free_bytes: Callable[[], int] | None = None, **changes: int) -> Spool:
        self.opened.append(Spool(self.folder, intake("append", **changes), self.keys, free_bytes=free_bytes))
        return self.opened[-1]

    def append(self, spool: Spool, count: int, study_key: str = STUDY, size: int = 3000) -> list[RecordAddress]:
        return [spool.append(study_key, metadata(encoded(n, size), n), encoded(n, size)) for n in range(count)]

    def files(self, suffix: str = "") -> list[Path]:
        return sorted(path for path in self.folder.rglob(f"*{suffix}") if path.is_file())

    def recover(self, spool: Spool) -> tuple[list[int], list[tuple[str, int]]]:
        """Numbers of the records that are believed; kinds and numbers of the damages."""
        damages: list[Damage] = []
        found = [address.number for _, address, _ in spool.recover(on_damage=damages.append)]
        return found, [(damage.kind, damage.number) for damage in damages]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "spool")
    yield made
    for spool in made.opened:
        spool.close()


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


# Which segment


def test_a_segment_belongs_to_one_study_and_goes_on(bench: Bench) -> None:
    spool = bench.spool()
    ours = bench.append(spool, 3)
    other = bench.append(spool, 1, OTHER_STUDY)
    ours += bench.append(spool, 1)
    assert len({address.segment_id for address in ours}) == 1
    assert other[0].segment_id != ours[0].segment_id
    assert [address.number for address in ours] == [0, 1, 2, 3]
    assert all(address.offset % 4096 == 0 for address in ours)


@pytest.mark.parametrize("size", [0, 1, 3000, 4096, 8192, 20_000, 70_000, 90_000, 400_000])
@pytest.mark.parametrize("most", [0, 100, 4096, 9000, 100_000])
def test_the_head_of_a_record_is_its_beginning(bench: Bench, size: int, most: int) -> None:
    spool = bench.spool()
    _, address = bench.append(spool, 2, size=size)
    assert spool.head(STUDY, address, most) == (metadata(encoded(1, size), 1), encoded(1, size)[:most])


def test_of_a_head_what_is_read_is_proven_and_nothing_else(bench: Bench) -> None:
    spool = bench.spool()
    (address,) = bench.append(spool, 1, size=400_000)
    (path,) = bench.files()
    before = path.read_bytes()
    flip(path, address.offset + 200_000)
    assert spool.head(STUDY, address, 5000)[1] == encoded(0, 5000)
    with pytest.raises(StorageError, match="sealed-damaged"):
        spool.read(STUDY, address)
    for place in (address.offset + 3000, address.offset + 390_000):
        path.write_bytes(before)
        flip(path, place)
        with pytest.raises(StorageError, match="sealed-damaged"):
            spool.head(STUDY, address, 5000)
    path.write_bytes(before[:300_000])
    with pytest.raises(StorageError, match="sealed-damaged"):
        spool.head(STUDY, address, 5000)
    path.write_bytes(before)
    with pytest.raises(StorageError, match="sealed-damaged"):
        spool.head(STUDY, replace(address, number=1), 5000)


def test_names_and_bytes_say_nothing(bench: Bench) -> None:
    spool = bench.spool()
    data = b"DOE^JANE" * 100
    spool.append(STUDY, metadata(data), data)
    (path,) = bench.files()
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"DOE" not in path.read_bytes()
    assert b"2.25." not in path.read_bytes()


def test_a_full_segment_is_closed(bench: Bench) -> None:
    spool = bench.spool(segment_bytes=1 << 20)
    addresses = bench.append(spool, 7, size=300_000)
    assert [address.number for address in addresses] == [0, 1, 2, 3, 0, 1, 2]
    assert len(bench.files(".closed")) == 1


def test_the_least_recently_used_is_closed(bench: Bench) -> None:
    spool = bench.spool(open_segments=2)
    studies = [f"{number:032x}" for number in range(3)]
    first = [bench.append(spool, 1, study)[0] for study in studies]
    assert [path.stem for path in bench.files(".closed")] == [first[0].segment_id]
    assert bench.append(spool, 1, studies[1])[0].segment_id == first[1].segment_id
    assert bench.append(spool, 1, studies[0])[0].segment_id != first[0].segment_id


def test_a_closed_study_goes_on_in_a_new_segment(bench: Bench) -> None:
    spool = bench.spool()
    first, other = bench.append(spool, 2), bench.append(spool, 1, OTHER_STUDY)
    spool.close_study(STUDY)
    spool.close_study("ef" * 16)
    assert [path.stem for path in bench.files(".closed")] == [first[0].segment_id]
    assert bench.append(spool, 1)[0].segment_id != first[0].segment_id
    assert bench.append(spool, 1, OTHER_STUDY)[0].segment_id == other[0].segment_id


def during(spool: Spool, data: bytes, act: Callable[[], None]) -> RecordAddress:
    """Append, and act while the segment is in use."""

    def buffers() -> Iterator[bytes]:
        yield data[:100]
        act()
        yield data[100:]

    return spool.append(STUDY, metadata(data), buffers())


def test_a_study_closed_while_it_is_written_ends_with_that_record(bench: Bench) -> None:
    spool = bench.spool()
    address = during(spool, encoded(1), lambda: spool.close_study(STUDY))
    assert [path.stem for path in bench.files(".closed")] == [address.segment_id]


def test_a_spool_closed_while_it_is_written(bench: Bench) -> None:
    spool = bench.spool()
    address = during(spool, encoded(1), spool.close)
    assert [path.stem for path in bench.files(".closed")] == [address.segment_id]
    with pytest.raises(StorageError) as caught:
        bench.append(spool, 1)
    assert caught.value.code == "storage-failed"


def test_what_is_purged_while_it_is_written_is_not_acknowledged(bench: Bench) -> None:
    spool = bench.spool()
    with pytest.raises(StorageError) as caught:
        during(spool, encoded(1), lambda: spool.purge(STUDY))
    assert caught.value.code == "storage-failed"
    assert bench.files() == []


def test_two_at_once_have_a_segment_each(bench: Bench) -> None:
    spool = bench.spool()
    inner: list[RecordAddress] = []
    outer = during(spool, encoded(1), lambda: inner.extend(bench.append(spool, 1)))
    assert inner[0].segment_id != outer.segment_id
    assert {address.segment_id for address in bench.append(spool, 2)} <= {inner[0].segment_id, outer.segment_id}


# Failing disks


def test_too_little_space_is_told_before_anything_is_written(bench: Bench) -> None:
    spool = bench.spool(free_bytes=lambda: 5000, minimum_free_bytes=3000)
    assert spool.append(STUDY, metadata(encoded(0, 2000)), encoded(0, 2000))
    before = bench.files()[0].stat()
    with pytest.raises(StorageError) as caught:
        bench.append(spool, 1, size=2001)
    assert caught.value.code == "storage-full"
    assert bench.files()[0].stat() == before


@pytest.mark.parametrize(
    ("function", "number", "code"),
    [
        ("pwrite", errno.ENOSPC, "storage-full"),
        ("pwrite", errno.EIO, "storage-failed"),
        ("fdatasync", errno.EIO, "storage-failed"),
    ],
)
def test_a_failed_write_is_told_and_never_believed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, function: str, number: int, code: str
) -> None:
    spool = bench.spool()
    first = bench.append(spool, 2)

    def fails(*_: object) -> None:
        raise OSError(number, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fails)
        with pytest.raises(StorageError) as caught:
            bench.append(spool, 1)
    assert caught.value.code == code
    assert bench.recover(spool) == ([0, 1], [])
    assert bench.append(spool, 1)[0].segment_id != first[0].segment_id


def test_a_short_write_is_told_and_never_believed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = bench.spool()
    bench.append(spool, 2)
    pwrite = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:512], at))
        with pytest.raises(StorageError) as caught:
            bench.append(spool, 1)
        assert caught.value.code == "storage-full"
    assert bench.recover(spool) == ([0, 1], [])


def test_where_the_torn_end_cannot_be_cut_off_it_is_not_believed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = bench.spool()
    bench.append(spool, 2, size=9000)
    pwrite = os.pwrite

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:4096], at))
        patch.setattr(os, "ftruncate", fails)
        with pytest.raises(StorageError):
            bench.append(spool, 1, size=9000)
    assert bench.recover(spool) == ([0, 1], [("torn", 2)])


def test_a_segment_that_cannot_be_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = bench.spool()

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", fails)
        with pytest.raises(StorageError) as caught:
            bench.append(spool, 1)
    assert caught.value.code == "storage-full"
    assert bench.files() == []


def test_a_segment_that_cannot_be_closed_stays_readable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = bench.spool()
    bench.append(spool, 2)

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fails)
        spool.close()
    assert bench.files(".closed") == []
    assert bench.recover(spool) == ([0, 1], [])


# What is believed


@pytest.mark.parametrize("closed", [True, False])
def test_a_flipped_bit_costs_one_record_and_is_named(bench: Bench, closed: bool) -> None:
    spool = bench.spool()
    addresses = bench.append(spool, 4, size=9000)
    if closed:
        spool.close()
    (path,) = bench.files()
    flip(path, addresses[1].offset + 5000)
    assert bench.recover(spool) == ([0, 2, 3], [("damaged", 1)])
    with pytest.raises(StorageError) as caught:
        spool.read(STUDY, addresses[1])
    assert caught.value.code == "sealed-damaged"
    with pytest.raises(StorageError):
        list(spool.recover())


def test_damage_has_a_place_and_a_code(bench: Bench) -> None:
    spool = bench.spool()
    addresses = bench.append(spool, 3)
    flip(bench.files()[0], addresses[1].offset + 200)
    damages: list[Damage] = []
    list(spool.recover(on_damage=damages.append))
    assert [(damage.study_key, damage.address, damage.reason) for damage in damages] == [
        (STUDY, addresses[1], "sealed-damaged")
    ]


@pytest.mark.parametrize("place", [0, 4, 36, 40])
def test_a_flipped_bit_in_a_prefix(bench: Bench, place: int) -> None:
    """Magic, segment, number, length."""
    spool = bench.spool()
    addresses = bench.append(spool, 4)
    flip(bench.files()[0], addresses[1].offset + place)
    assert bench.recover(spool) == ([0, 2, 3], [("damaged", 1)])


def test_a_torn_end_is_not_believed(bench: Bench) -> None:
    spool = bench.spool()
    addresses = bench.append(spool, 3, size=9000)
    (path,) = bench.files()
    for cut in (addresses[2].offset + 8000, addresses[2].offset + 100):
        os.truncate(path, cut)
        assert bench.recover(spool) == ([0, 1], [("torn", 2)])
    os.truncate(path, addresses[2].offset)
    assert bench.recover(spool) == ([0, 1], [])
    assert [address for _, address, _ in spool.recover()] == addresses[:2]


def test_a_closed_segment_is_whole_or_named(bench: Bench) -> None:
    spool = bench.spool()
    addresses = bench.append(spool, 3)
    spool.close()
    (path,) = bench.files()
    whole = path.read_bytes()
    assert bench.recover(spool) == ([0, 1, 2], [])
    path.write_bytes(whole[: addresses[2].offset])
    assert bench.recover(spool) == ([0, 1], [("not-closed", 2)])
    path.write_bytes(whole[:-4096])
    assert bench.recover(spool) == ([0, 1, 2], [("not-closed", 3)])
    path.write_bytes(whole)
    flip(path, len(whole) - 4096 + 60)
    assert bench.recover(spool) == ([0, 1, 2], [("damaged", 3), ("not-closed", 3)])
    path.write_bytes(whole)
    flip(path, addresses[2].offset + 100)
    assert bench.recover(spool) == ([0, 1], [("damaged", 2)])


def test_records_do_not_move_between_segments_or_places(bench: Bench) -> None:
    spool = bench.spool()
    one = bench.append(spool, 3)
    spool.close_study(STUDY)
    bench.append(spool, 3)
    first = next(path for path in bench.files() if path.stem == one[0].segment_id)
    second = next(path for path in bench.files() if path.stem != one[0].segment_id)
    data = bytearray(second.read_bytes())
    data[one[1].offset : one[2].offset] = first.read_bytes()[one[1].offset : one[2].offset]
    second.write_bytes(data)
    with pytest.raises(StorageError):
        spool.read(STUDY, replace(one[1], segment_id=second.stem))
    damages: list[Damage] = []
    found = [(address.segment_id, address.number) for _, address, _ in spool.recover(on_damage=damages.append)]
    assert (second.stem, 1) not in found
    assert [(damage.segment_id, damage.number) for damage in damages] == [(second.stem, 1)]
    with pytest.raises(StorageError):
        spool.read(STUDY, replace(one[1], number=2))


@pytest.mark.parametrize("content", [b"", b"no segment" * 1000])
def test_a_file_that_is_no_segment(bench: Bench, content: bytes) -> None:
    spool = bench.spool()
    addresses = bench.append(spool, 1)
    path = bench.files()[0]
    path.with_name("ef" * 16 + ".closed").write_bytes(content)
    path.with_name("ee" * 16 + ".closed").write_bytes(path.read_bytes())
    path.with_name("note.txt").write_bytes(b"of somebody")
    assert bench.recover(spool) == ([0], [("unreadable", 0), ("unreadable", 0)])
    with pytest.raises(StorageError):
        spool.read(STUDY, replace(addresses[0], segment_id="ef" * 16))


def test_without_its_key_a_segment_is_named(bench: Bench) -> None:
    spool = bench.spool()
    addresses = bench.append(spool, 1)
    bench.keys.shred(STUDY)
    damages: list[Damage] = []
    assert list(spool.recover(on_damage=damages.append)) == []
    assert [damage.reason for damage in damages] == ["key-missing"]
    with pytest.raises(KeyStoreError):
        spool.read(STUDY, addresses[0])


def test_wrong_root_keys_stop_the_recovery(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = bench.spool()
    bench.append(spool, 1)

    def wrong(*_: object) -> None:
        raise KeyStoreError("key-wrong")

    monkeypatch.setattr(bench.keys, "get", wrong)
    with pytest.raises(KeyStoreError):
        list(spool.recover(on_damage=lambda _: None))


def test_what_the_index_knows_is_not_read_again(bench: Bench) -> None:
    spool = bench.spool()
    addresses = bench.append(spool, 4)
    spool.close()
    flip(bench.files()[0], addresses[0].offset + 100)
    known = {addresses[0].segment_id: 2}
    found = [address.number for _, address, _ in spool.recover(known=lambda segment_id: known[segment_id])]
    assert found == [2, 3]


@pytest.mark.parametrize("into", [0, 5000])
def test_an_end_that_the_index_knows_is_damaged_not_torn(bench: Bench, into: int) -> None:
    spool = bench.spool()
    addresses = bench.append(spool, 4, size=9000)
    os.truncate(bench.files()[0], addresses[2].offset + into)
    for known in (2, 3, 4):
        damages: list[Damage] = []
        assert list(spool.recover(known=lambda _, known=known: known, on_damage=damages.append)) == []  # type: ignore[misc]
        lost = [("damaged", number) for number in range(2, known)]
        assert [(each.kind, each.number) for each in damages] == (lost or ([("torn", 2)] if into else []))


def test_the_index_is_rebuilt_from_the_segments(bench: Bench, tmp_path: Path) -> None:
    def row(study_key: str, address: RecordAddress, found: RecordMetadata) -> InstanceRow:
        return InstanceRow(
            study_key=study_key,
            series_key=blind_key(bytes(32), "series", found.series_instance_uid),
            instance_key=blind_key(bytes(32), "instance", found.sop_instance_uid),
            sop_class_uid=found.sop_class_uid,
            transfer_syntax_uid=found.transfer_syntax_uid,
            digest=found.digest,
            length=found.length,
            address=address,
            received_at=found.received_at,
        )

    spool = bench.spool(segment_bytes=1 << 20)
    rows = []
    for number in range(12):
        study_key = (STUDY, OTHER_STUDY)[number % 2]
        data = encoded(number % 9, 120_000)
        found = metadata(data, number % 9)
        rows.append(row(study_key, spool.append(study_key, found, data), found))
    with Ledger.open(tmp_path / "old.sqlite3") as old, Ledger.open(tmp_path / "new.sqlite3") as new:
        for each in rows:
            old.record_instances([each])
        new.record_instances([row(*each) for each in spool.recover()])
        for study_key in (STUDY, OTHER_STUDY):
            assert set(new.instances(study_key, None)) == set(old.instances(study_key, None))
        assert new.studies() == old.studies()
        assert list(spool.recover(known=new.known_records)) == []


# Trial


def test_auto_takes_direct_where_it_works(disk: Path) -> None:
    assert writer.try_modes(disk, "auto").name in ("direct", "append")
    assert writer.try_modes(disk, "append") == writer.WriteMode("append", 4096)
    assert list(disk.iterdir()) == []


def without_direct(monkeypatch: pytest.MonkeyPatch, allowed: int | None = None) -> None:
    def refuse(path: Path, mode: writer.WriteMode, extent_bytes: int, *_ahead: object) -> None:
        if mode.alignment != allowed:
            raise OSError(errno.EINVAL, "no O_DIRECT here")
        real(path, mode, extent_bytes)

    real = writer.DirectWriter
    if allowed is None:
        monkeypatch.setattr(writer, "DirectWriter", refuse)
    else:
        monkeypatch.setattr(
            writer,
            "DirectWriter",
            lambda path, mode, extent, *_ahead: (
                real(path, mode, extent) if mode.alignment == allowed else refuse(path, mode, extent)
            ),
        )


def test_without_direct_writes_append_serves(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_direct(monkeypatch)
    assert writer.try_modes(disk, "auto").name == "append"
    with pytest.raises(StorageError) as caught:
        writer.try_modes(disk, "direct")
    assert caught.value.code == "storage-not-durable"
    assert list(disk.iterdir()) == []


def test_a_disk_with_large_blocks(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_direct(monkeypatch, 16384)
    assert writer.try_modes(disk, "direct") == writer.WriteMode("direct", 16384)
    with Spool(disk / "spool", intake("direct"), MemoryKeys()) as spool:
        addresses = [spool.append(STUDY, metadata(encoded(n, 99_999), n), encoded(n, 99_999)) for n in range(3)]
        assert all(address.offset % 16384 == 0 for address in addresses)
        assert spool.read(STUDY, addresses[2])[1] == encoded(2, 99_999)


def test_a_disk_that_cannot_flush_is_refused(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_direct(monkeypatch)

    def fails(*_: object) -> None:
        raise OSError(errno.EINVAL, "no flush")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(StorageError) as caught:
        Spool(disk / "spool", intake(), MemoryKeys())
    assert caught.value.code == "storage-not-durable"


def test_a_full_disk_is_no_bad_disk(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", fails)
    with pytest.raises(StorageError) as caught:
        writer.try_modes(disk, "auto")
    assert caught.value.code == "storage-full"


def test_a_disk_that_lies_is_refused(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: len(data))
    with pytest.raises(StorageError) as caught:
        writer.try_modes(disk, "auto")
    assert caught.value.code == "storage-not-durable"


@pytest.mark.parametrize("kind", [writer.DirectWriter, writer.AppendWriter])
def test_a_writer_asserts_its_alignment(
    disk: Path, kind: type[writer.DirectWriter] | type[writer.AppendWriter]
) -> None:
    """A tmpfs takes unaligned direct writes that a disk refuses: so the writer itself does."""
    held = kind(disk / "segment", writer.WriteMode("direct", 4096), 1 << 16)
    block = memoryview(writer.aligned_buffer(8192))
    try:
        for data, offset in ((block, 512), (block[:512], 0)):
            with pytest.raises(ValueError, match="aligned"):
                held.write(data, offset)
    finally:
        held.close()
        held.close()


# Other processes


def test_a_segment_closed_while_the_folder_is_listed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = bench.spool()
    addresses = bench.append(spool, 2)
    listed = spool._segments()
    gone = listed[0].with_name("ef" * 16 + ".open")
    monkeypatch.setattr(spool, "_segments", lambda *_: [*listed, gone])
    spool.close()
    assert bench.recover(spool) == ([0, 1], [])
    assert spool.read(STUDY, addresses[0])


def test_a_purge_while_a_segment_is_begun_is_waited_out(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = bench.spool()
    begin = spool._open._begin
    purges = iter([True, False])

    def purged(study_key: str, stage: memoryview) -> object:
        begun = begin(study_key, stage)
        if next(purges, always):
            spool.purge(study_key)
        return begun

    always = False
    monkeypatch.setattr(spool._open, "_begin", purged)
    (address,) = bench.append(spool, 1)
    assert spool.read(STUDY, address)[1] == encoded(0)
    spool.close_study(STUDY)
    always = True
    with pytest.raises(StorageError) as caught:
        bench.append(spool, 1)
    assert caught.value.code == "storage-failed"


def test_a_disk_that_is_unmounted_is_no_damage_and_nothing_is_written_in_its_place(bench: Bench) -> None:
    bench.folder.mkdir()
    (bench.folder / "spool.id").write_text("ab" * 16)
    spool = Spool(bench.folder, intake("append"), bench.keys, identity="ab" * 16)
    bench.opened.append(spool)
    (address,) = bench.append(spool, 1)
    spool.close_study(STUDY)
    bench.folder.rename(bench.folder.with_name("disk"))
    (bench.folder / "ef").mkdir(parents=True)
    with pytest.raises(StorageError, match="storage-failed"):
        spool.read(STUDY, address)
    with pytest.raises(StorageError, match="storage-failed"):
        bench.append(spool, 1, OTHER_STUDY)
    with pytest.raises(StorageError, match="storage-failed"):
        spool.purge(STUDY)  # its keys would be shredded next, and its segments are still on the disk
    with pytest.raises(StorageError, match="storage-failed"):
        Spool(
            bench.folder, intake("append"), bench.keys, identity="ab" * 16
        )  # a receiver that takes another one's place
    assert bench.files() == []
    shutil.rmtree(bench.folder)
    bench.folder.with_name("disk").rename(bench.folder)
    assert spool.read(STUDY, address)[1] == encoded(0)
    assert len(bench.append(spool, 1, OTHER_STUDY)) == 1


def test_an_empty_segment_is_not_kept(bench: Bench) -> None:
    spool = bench.spool()
    with pytest.raises(ValueError, match="length"):
        spool.append(STUDY, metadata(b"x"), b"xy")
    assert bench.files() == []


def test_space_can_be_asked_for_before_an_association_is_let_in(bench: Bench) -> None:
    free = [3000]
    spool = bench.spool(free_bytes=lambda: free[0], minimum_free_bytes=3000)
    spool.check_space()
    free[0] -= 1
    with pytest.raises(StorageError) as caught:
        spool.check_space()
    assert caught.value.code == "storage-full"


def test_a_close_record_that_does_not_fit_its_records_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealed with the right key, naming the right count, but closing other records."""
    spool = bench.spool()
    bench.append(spool, 3)
    with monkeypatch.context() as patch:
        patch.setattr(segment.Chain, "digest", lambda self: "00" * 32)
        spool.close_study(STUDY)
    assert bench.files(".closed")
    found, damages = bench.recover(bench.spool())
    assert found == [0, 1, 2]
    assert ("not-closed", 3) in damages
