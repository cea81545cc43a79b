"""What goes wrong with one file of a watched folder, by chance or with intent: it costs that file alone, and loses none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomnode.network.intake import Transfer
from dicomnode.workflow import folder_files
from dicomnode.workflow.folder_files import list_files, open_file
from tests.unit.workflow.test_folder import World, whole, world

__all__ = ["world"]


def opened(world: World) -> int:
    """Associations so far."""
    return world.events.names.count("association.closed")


def failures(world: World) -> list[str]:
    return [str(fact["kind"]) for fact in world.events.facts("folder.failed")]


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Do something once when the first object is sealed."""

    def at_first_end(act: Callable[[], object]) -> None:
        real, done = Transfer.end, list[int]()

        def end(transfer: Transfer) -> int:
            status = real(transfer)
            if not done:
                done.append(1)
                act()
            return status

        monkeypatch.setattr(Transfer, "end", end)

    return at_first_end


def test_a_folder_of_the_name_of_a_file_that_was_taken_is_put_away_beside_it(world: World) -> None:
    world.write("1", whole(0))
    assert world.settle() == 1
    world.write("1/a.dcm", whole(1))
    world.write("2/b.dcm", whole(2))
    assert world.settle() == 2
    assert world.left == {"taken/1", "taken/1.2/a.dcm", "taken/2/b.dcm"}


def test_a_long_name_that_comes_twice_gets_another(world: World) -> None:
    for number in range(2):
        world.write("x" * 251 + ".dcm", whole(number))
        assert world.settle() == 1
    names = {Path(name).name for name in world.left}
    assert len(names) == 2
    assert "x" * 251 + ".dcm" in names


def refuse_moves_out_of(monkeypatch: pytest.MonkeyPatch, world: World, name: str) -> None:
    """As of a folder of another user: what lies in it cannot be renamed, and root could."""
    real, inode = os.rename, (world.root / name).stat().st_ino

    def rename(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        if os.fstat(src_dir_fd).st_ino == inode:
            raise PermissionError(13, "x")
        real(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(os, "rename", rename)


def test_what_cannot_be_put_away_is_sealed_once_told_once_and_tried_again_seldom(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("a/1.dcm", whole(1))
    world.write("b/2.dcm", whole(2))
    refuse_moves_out_of(monkeypatch, world, "a")
    assert world.settle() == 2
    assert world.left == {"a/1.dcm", "taken/b/2.dcm"}
    tries = list[float]()
    real = world.folder._put_away_again

    def again(path: Path) -> None:
        tries.append(world.time.monotonic())
        real(path)

    monkeypatch.setattr(world.folder, "_put_away_again", again)
    for _ in range(2000):
        world.time.forward(5)
        world.folder.look()
    assert 6 < len(tries) < 13
    assert tries[-1] - tries[-2] >= 3600
    assert (len(world.rows), opened(world), failures(world)) == (2, 1, ["PermissionError"])
    monkeypatch.setattr(os, "rename", os.rename)
    monkeypatch.undo()
    world.time.forward(3700)
    world.folder.look()
    assert world.left == {"taken/a/1.dcm", "taken/b/2.dcm"}
    assert (len(world.rows), opened(world)) == (2, 1)


def test_what_could_not_be_put_away_and_is_another_by_now_is_sealed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("a/1.dcm", whole(1))
    refuse_moves_out_of(monkeypatch, world, "a")
    assert world.settle() == 1
    (world.root / "a" / "1.dcm").unlink()
    world.write("a/1.dcm", whole(3))
    monkeypatch.undo()
    assert world.settle() == 1
    assert len({row.instance_key for row in world.rows}) == 2
    assert world.left == {"taken/a/1.dcm"}


def test_a_fault_that_went_and_comes_again_is_told_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        world.write(f"{name}/1.dcm", whole(1))
        refuse_moves_out_of(monkeypatch, world, name)
        world.settle()
        monkeypatch.undo()
        world.time.forward(3700)
        world.folder.look()
    assert failures(world) == ["PermissionError"] * 2


@pytest.mark.parametrize("call", ["open", "stat"])
def test_a_sub_folder_that_may_not_be_entered_costs_itself_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """As of another user's folder, that may not be listed (mode 000), or listed and not entered (744); root may both."""
    world.write("a/1.dcm", whole(1))
    world.write("b/2.dcm", whole(2))
    real, inode = getattr(os, call), (world.root / "a").stat().st_ino

    def refusing(name: str, *rest: int, dir_fd: int | None = None, **options: bool) -> object:
        if name == "a" and call == "open":
            raise PermissionError(13, "x")
        if dir_fd is not None and os.fstat(dir_fd).st_ino == inode:
            raise PermissionError(13, "x")
        return real(name, *rest, dir_fd=dir_fd, **options)

    monkeypatch.setattr(os, call, refusing)
    assert world.settle() == 1
    assert world.settle() == 0
    monkeypatch.undo()
    assert world.left == {"a/1.dcm", "taken/b/2.dcm"}
    assert failures(world) == ["PermissionError"]


def test_a_file_that_may_not_be_read_is_left_told_once_and_does_not_stop_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.write("1.dcm", whole(1))
    world.write("2.dcm", whole(2))
    real = os.open

    def refusing(path: str, flags: int, *rest: int, dir_fd: int | None = None) -> int:
        if path == "1.dcm":
            raise PermissionError(13, "x")
        return real(path, flags, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refusing)
    assert world.settle() == 1
    for _ in range(1000):
        world.time.forward(5)
        world.folder.look()
    assert world.left == {"1.dcm", "taken/2.dcm"}
    assert failures(world) == ["PermissionError"]
    assert opened(world) < 12


def test_files_that_wait_do_not_keep_others_from_being_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_files, "_MOST_FILES", 2)
    for number in range(5):
        (tmp_path / f"{number}.dcm").write_bytes(b"1")
    assert [path.name for path in list_files(tmp_path).files] == ["0.dcm", "1.dcm"]
    waiting = {Path("0.dcm"), Path("1.dcm")}
    assert [path.name for path in list_files(tmp_path, waiting).files] == [f"{number}.dcm" for number in range(4)]


@pytest.mark.parametrize("after", ["move", "delete"])
def test_a_file_that_is_replaced_while_its_predecessor_is_sealed_is_sealed_too(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    meanwhile: Callable[[Callable[[], object]], None],
    after: str,
) -> None:
    spool, time, events = (request.getfixturevalue(name) for name in ("spool", "time", "events"))
    world = World(tmp_path / "in", spool, time, events, after=after)
    path = world.write("export.dcm", whole(0))

    def replace() -> None:
        world.write(".export.new", whole(1)).rename(path)

    meanwhile(replace)
    assert world.settle() == 1
    assert world.left == {"export.dcm"}
    assert world.settle() == 1
    assert len({row.instance_key for row in world.rows}) == 2
    assert world.left == ({"taken/export.dcm"} if after == "move" else set())


def test_a_file_that_is_written_on_while_it_is_sealed_is_left(
    world: World, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    path = world.write("1.dcm", whole(0))
    meanwhile(lambda: path.write_bytes(whole(1)))
    assert world.settle() == 1
    assert world.left == {"1.dcm"}
    assert world.settle() == 1
    assert world.left == {"taken/1.dcm"}


def test_a_file_that_is_replaced_before_it_is_read_settles_anew(
    world: World, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    world.write("1.dcm", whole(0))
    path = world.write("2.dcm", whole(1))
    meanwhile(lambda: world.write(".2.new", whole(2)).rename(path))
    assert world.settle() == 1
    assert world.left == {"taken/1.dcm", "2.dcm"}
    assert world.settle() == 1


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(
    world: World, tmp_path: Path, meanwhile: Callable[[Callable[[], object]], None]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    world.write("a/1.dcm", whole(0))
    os.link(world.write("b/x.dcm", whole(1)), outside / "x.dcm")  # the very file, so that no stamp tells

    def swap() -> None:
        (world.root / "b").rename(tmp_path / "gone")
        (world.root / "b").symlink_to(outside)

    meanwhile(swap)
    assert world.settle() == 1
    assert [path.name for path in outside.iterdir()] == ["x.dcm"]
    assert world.left == {"taken/a/1.dcm"}


def test_our_own_folder_that_is_a_link_takes_nothing_out_of_the_house(world: World, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (world.root / "taken").symlink_to(outside)
    world.write("1.dcm", whole(0))
    assert world.settle() == 1
    assert list(outside.iterdir()) == []
    assert "taken.2/1.dcm" in world.left


def test_no_link_is_opened_and_no_pipe_waited_for(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(b"1")
    (tmp_path / "link.dcm").symlink_to(tmp_path / "1.dcm")
    (tmp_path / "folder").symlink_to(tmp_path)
    for name in ("link.dcm", "folder/1.dcm"):
        with pytest.raises(OSError), open_file(tmp_path, Path(name)):  # noqa: PT011 (which one, is the kernel's)
            pass
    os.mkfifo(tmp_path / "pipe.dcm")
    done = threading.Event()

    def look() -> None:
        with open_file(tmp_path, Path("pipe.dcm")):
            done.set()

    threading.Thread(target=look, daemon=True).start()
    waited = done.wait(10)
    if not waited:  # the thread that hangs gets its other end
        os.close(os.open(tmp_path / "pipe.dcm", os.O_WRONLY | os.O_NONBLOCK))
    assert waited
