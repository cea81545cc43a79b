from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage import files
from dicomnode.storage.spool_identity import identity_of, prove_spool

FIRST, OTHER = "ab" * 16, "cd" * 16


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    folder.mkdir()
    return folder


def lay(folder: Path, name: str) -> None:
    """A name as a node lays it, or none."""
    folder.mkdir(exist_ok=True)
    if name:
        (folder / "spool.id").write_text(f"{name}\n")


def prove(state: Path, *, is_used: bool, accept: bool = False) -> str:
    return prove_spool(state, state / "spool", is_used=is_used, accept=accept)


@pytest.mark.parametrize("is_used", [False, True])
def test_the_first_start_names_both_and_the_next_ones_change_nothing(state: Path, is_used: bool) -> None:
    name = prove(state, is_used=False)
    assert identity_of(state) == identity_of(state / "spool") == name
    assert prove(state, is_used=is_used) == name


def test_a_spool_of_an_earlier_release_is_named_where_it_holds_studies(state: Path) -> None:
    (state / "spool" / "ab" / FIRST).mkdir(parents=True)
    name = prove(state, is_used=True)
    assert identity_of(state) == identity_of(state / "spool") == name


@pytest.mark.parametrize(("known", "found"), [("", ""), (FIRST, ""), (FIRST, OTHER)])
@pytest.mark.parametrize("is_made", [False, True])
def test_a_spool_that_is_not_there_or_another_one_is_refused_and_nothing_is_written(
    state: Path, known: str, found: str, is_made: bool
) -> None:
    """The mount point may be gone as well, and a disk that was never used holds its own folder."""
    lay(state, known)
    if is_made or found:
        lay(state / "spool", found)
        (state / "spool" / "lost+found").mkdir()
    before = sorted(state.rglob("*"))
    for _ in range(2):
        with pytest.raises(StorageError, match="spool-missing"):
            prove(state, is_used=True)
    assert sorted(state.rglob("*")) == before


@pytest.mark.parametrize(("known", "found"), [("", ""), (FIRST, ""), (FIRST, OTHER)])
@pytest.mark.parametrize(("is_used", "accept"), [(True, True), (False, False)])
def test_a_spool_that_is_accepted_or_of_which_nothing_is_known_is_taken_as_it_is(
    state: Path, known: str, found: str, is_used: bool, accept: bool
) -> None:
    """A disk that comes to light again later is another one by then."""
    lay(state, known)
    lay(state / "spool", found)
    name = prove(state, is_used=is_used, accept=accept)
    assert name == found or name not in {"", FIRST}
    assert prove(state, is_used=True) == name


@pytest.mark.parametrize("known", ["", FIRST])
def test_a_kill_between_the_two_names_is_gone_on_with(state: Path, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(state, known)
    replace_file = files.replace_file

    def killed(path: Path, *what: object) -> None:
        if path.parent == state:
            raise KeyboardInterrupt
        replace_file(path, *what)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace_file", killed)
        with pytest.raises(KeyboardInterrupt):
            prove(state, is_used=bool(known), accept=True)
    assert prove(state, is_used=True, accept=bool(known)) == identity_of(state / "spool")


def test_a_name_that_is_no_text_is_another_one(state: Path) -> None:
    lay(state, FIRST)
    lay(state / "spool", "")
    (state / "spool" / "spool.id").write_bytes(b"\xff\x00")
    with pytest.raises(StorageError, match="spool-missing"):
        prove(state, is_used=True)
    name = prove(state, is_used=True, accept=True)
    assert prove(state, is_used=True) == name


def test_what_the_disk_does_not_give_is_told_as_that(state: Path) -> None:
    (state / "spool").write_bytes(b"")
    with pytest.raises(StorageError, match="storage-failed"):
        prove(state, is_used=False)


def test_a_spool_of_another_node_is_refused_though_nothing_is_known(state: Path) -> None:
    """Disks were changed over, or a ledger of an empty day was restored."""
    lay(state, FIRST)
    lay(state / "spool", OTHER)
    (state / "spool" / "ab").mkdir()
    with pytest.raises(StorageError, match="spool-missing"):
        prove(state, is_used=False)
    assert (identity_of(state), identity_of(state / "spool")) == (FIRST, OTHER)
    assert prove(state, is_used=False, accept=True) == OTHER


def test_what_root_names_belongs_to_whom_the_folder_does(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.append((path, user, group)))
    prove(state, is_used=False)
    owner = state.stat().st_uid, state.stat().st_gid
    assert given == [(folder / "spool.id", *owner) for folder in (state / "spool", state)]
