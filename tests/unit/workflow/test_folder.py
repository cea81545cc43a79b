from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dicomnode.encoded import Limits, encode_part10
from dicomnode.errors import StorageError
from dicomnode.network.intake import Intake
from dicomnode.sections import FolderSection
from dicomnode.storage.digest import ContentDigests
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow
from dicomnode.workflow import folder as module
from dicomnode.workflow import folder_files
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.folder import FolderIntake, Settling
from dicomnode.workflow.folder_files import Stamp, list_files, open_file
from dicomnode.workflow.reception import Reception
from tests.unit.workflow.samples import EXPLICIT, KEY, Events, Time, study_key_of, tiny_series

IMAGES = tiny_series(seed="folder")


def whole(number: int = 0) -> bytes:
    return encode_part10(IMAGES[number], transfer_syntax_uid=EXPLICIT)


class World:
    """A watched folder over a real spool."""

    def __init__(self, root: Path, spool: Spool, time: Time, events: Events, **settings: Any) -> None:
        self.root = root
        root.mkdir(exist_ok=True)
        self.time = time
        self.events = events
        self.rows: list[InstanceRow] = []
        self.activity = ActivityTable()
        self.spool = spool
        reception = Reception(
            spool=spool,
            digest=ContentDigests(KEY).begin,
            indexer=self,
            activity=self.activity,
            derivation_key=KEY,
            wake=lambda: None,
            clock=time.now,
            monotonic=time.monotonic,
            emit=events,
        )
        self.reception = reception
        intake = Intake(reception, limits=Limits(), maximum_object_bytes=1 << 20, emit=events)
        self.folder = FolderIntake(
            FolderSection.model_validate({"name": "inbox", "path": root, "settle_seconds": 5, **settings}),
            intake,
            called_ae_title="DICOMNODE",
            private_sop_classes=(),
            monotonic=time.monotonic,
            emit=events,
        )

    def add(self, row: InstanceRow) -> None:
        self.rows.append(row)

    def write(self, name: str, data: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def settle(self) -> int:
        self.folder.look()
        self.time.forward(5)
        return self.folder.look()

    @property
    def left(self) -> set[str]:
        return {path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file()}


@pytest.fixture
def world(tmp_path: Path, spool: Spool, time: Time, events: Events, ledger: Ledger) -> World:
    return World(tmp_path / "in", spool, time, events)


def test_a_settled_file_is_sealed_as_it_is_and_then_put_away(world: World) -> None:
    world.write("study/1.dcm", whole())
    assert world.folder.look() == 0
    assert world.rows == []
    world.time.forward(5)
    assert world.folder.look() == 1
    (row,) = world.rows
    metadata, encoded = world.spool.read(row.study_key, row.address)
    assert bytes(encoded) == bytes(module.split_part10(whole())[1])
    assert row.study_key == study_key_of(IMAGES[0])
    assert (metadata.calling_ae_title, metadata.called_ae_title) == ("FOLDER", "DICOMNODE")
    assert world.left == {"taken/study/1.dcm"}
    assert world.events.facts("folder.taken") == [{"folder": "inbox", "objects": 1, "refused": 0}]
    (activity,) = world.activity.snapshot()
    assert activity.open_associations == 0
    assert world.settle() == 0


def test_a_file_that_still_grows_is_waited_for_and_an_object_without_its_end_too(world: World) -> None:
    data = whole()
    for end in (len(data) // 3, len(data) // 2, len(data) - 1):
        path = world.write("1.dcm", data[:end])
        os.utime(path, ns=(end, end))
        assert world.settle() == 0
    world.write("1.dcm", data)
    assert world.settle() == 1
    assert world.left == {"taken/1.dcm"}


def test_an_object_that_ends_before_its_pixels_is_not_whole(world: World) -> None:
    image = tiny_series(seed="folder")[0]
    del image.PixelData
    world.write("1.dcm", encode_part10(image, transfer_syntax_uid=EXPLICIT))
    assert world.settle() == 0
    assert world.left == {"1.dcm"}


def test_what_stays_no_object_is_put_away_as_refused_and_told(world: World) -> None:
    world.write("notes.txt", b"Mueller^Juergen")
    world.write("half.dcm", whole()[:-1])
    world.settle()
    assert world.left == {"notes.txt", "half.dcm"}
    world.time.forward(100)
    world.folder.look()
    assert world.left == {"refused/notes.txt", "refused/half.dcm"}
    assert world.events.facts("folder.taken") == [{"folder": "inbox", "objects": 0, "refused": 2}]
    assert {fact["reason"] for fact in world.events.facts("object.refused")} == {"object-malformed"}
    assert "Mueller" not in str(world.events.seen)


def test_unfinished_names_links_and_other_things_are_left_alone(world: World, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.dcm"
    elsewhere.write_bytes(whole())
    (world.root / "link.dcm").symlink_to(elsewhere)
    (world.root / "folder-link").symlink_to(tmp_path)
    os.mkfifo(world.root / "pipe.dcm")
    for name in (".hidden.dcm", "1.dcm.part", "2.TMP", ".git/1.dcm", "taken/1.dcm", "refused/1.dcm"):
        world.write(name, whole())
    assert list_files(world.root).files == {}
    assert world.settle() == 0


def test_a_disk_that_is_full_leaves_the_file_where_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.write("1.dcm", whole())

    def full() -> None:
        raise StorageError("storage-full")

    monkeypatch.setattr(world.spool, "check_space", full)
    assert world.settle() == 0
    assert world.events.facts("folder.waiting") == [{"folder": "inbox", "reason": "storage-full", "kind": "admission"}]
    monkeypatch.undo()

    def fails(*_: object) -> None:
        raise StorageError("storage-failed")

    monkeypatch.setattr(world.reception, "seal", fails)
    assert world.folder.look() == 0
    assert world.left == {"1.dcm"}
    monkeypatch.undo()
    assert world.folder.look() == 0, "it is tried again after a while, not all the time"
    world.time.forward(15)
    assert world.folder.look() == 1


def test_a_kill_between_sealing_and_putting_away_takes_the_file_again_and_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("1.dcm", whole())

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(world.folder, "_put_away", killed)
    with pytest.raises(Killed):
        world.settle()
    monkeypatch.undo()
    assert world.left == {"1.dcm"}
    assert world.folder.look() == 1
    assert len(world.rows) == 2
    assert world.rows[0].digest == world.rows[1].digest, "so the index knows it for a duplicate"


def test_a_folder_that_is_gone_is_told_once_and_looked_at_again(world: World) -> None:
    world.root.rmdir()
    world.folder.look()
    world.folder.look()
    failure = {"folder": "inbox", "reason": "storage-failed", "kind": "FileNotFoundError"}
    assert world.events.facts("folder.failed") == [failure]
    world.root.mkdir()
    world.write("1.dcm", whole())
    assert world.settle() == 1


def test_a_folder_in_which_nothing_can_be_put_away_says_so_and_ends_its_association(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("1.dcm", whole())

    def refuses(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(world.folder, "_put_away", refuses)
    world.settle()
    assert world.events.facts("folder.failed")[0]["kind"] == "PermissionError"
    assert "association.closed" in world.events.names


def test_files_of_one_name_do_not_overwrite_each_other(world: World) -> None:
    for number in range(3):
        world.write("same.dcm", whole(number))
        assert world.settle() == 1
    assert world.left == {"taken/same.dcm", "taken/same.dcm.2", "taken/same.dcm.3"}


def test_files_are_deleted_where_the_site_wants_it_and_only_when_they_are_sealed(
    tmp_path: Path, spool: Spool, time: Time, events: Events
) -> None:
    world = World(tmp_path / "in", spool, time, events, after="delete")
    world.write("1.dcm", whole())
    world.write("big.dcm", whole(1) + bytes(1 << 20))
    assert world.settle() == 1
    assert world.left == {"big.dcm"}
    time.forward(100)
    world.folder.look()
    assert world.left == {"refused/big.dcm"}
    assert world.events.facts("object.refused")[0]["reason"] == "object-too-large"


def test_kinds_that_are_not_stored_are_refused(world: World) -> None:
    image = tiny_series(seed="folder")[0]
    image.SOPClassUID = "1.2.840.10008.1.3.10"  # Media Storage Directory
    world.write("DICOMDIR", encode_part10(image, transfer_syntax_uid=EXPLICIT))
    world.settle()
    world.time.forward(100)
    world.folder.look()
    assert world.left == {"refused/DICOMDIR"}


def test_reading_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with open_file(tmp_path, Path("folder")) as file, pytest.raises(module.StudyError, match="object-malformed"):
        file.read_whole(100)


def test_a_file_that_changes_while_it_is_read_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "1.dcm"
    path.write_bytes(whole())
    real, calls = os.fstat, list[int]()

    def changing(descriptor: int) -> os.stat_result:
        calls.append(descriptor)
        if len(calls) == 2:
            os.utime(path, ns=(1, 1))
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", changing)
    with open_file(tmp_path, Path("1.dcm")) as file, pytest.raises(module.StudyError, match="object-malformed"):
        file.read_whole(1 << 20)


def test_a_look_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_files, "_MOST_FILES", 3)
    monkeypatch.setattr(folder_files, "_DEEPEST", 2)
    for number in range(5):
        (tmp_path / f"{number}.dcm").write_bytes(b"1")
    assert len(list_files(tmp_path).files) == 3
    deep = tmp_path / "d" / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (deep / "1.dcm").write_bytes(b"1")
    monkeypatch.setattr(folder_files, "_MOST_FILES", 100)
    assert len(list_files(tmp_path).files) == 5


def test_settling_is_pure() -> None:
    settling, path = Settling(5), Path("/a")
    assert settling.look({path: Stamp(1, 1, 1)}, 0.0) == {}
    assert settling.look({path: Stamp(1, 2, 1)}, 4.0) == {}
    assert settling.look({path: Stamp(1, 2, 1)}, 8.9) == {}
    assert settling.look({path: Stamp(1, 2, 1)}, 9.0) == {path: 5.0}
    assert settling.look({}, 10.0) == {}
    assert settling.look({path: Stamp(1, 2, 1)}, 11.0) == {}


@pytest.mark.parametrize(("depth", "found"), [(16, True), (17, False)])
def test_what_lies_too_deep_is_told(tmp_path: Path, depth: int, *, found: bool) -> None:
    place = tmp_path.joinpath(*["d"] * depth)
    place.mkdir(parents=True)
    (place / "a.dcm").write_bytes(b"x")
    listing = list_files(tmp_path)
    assert (bool(listing.files), listing.faults) == (found, set() if found else {"TooDeep"})
