from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage import keys, sealed
from dicomnode.storage.keys import KEY_NAMES, KeyRing
from dicomnode.study import World
from tests.unit.storage.samples import OTHER_STUDY, STUDY


def ring(seed: int = 0) -> KeyRing:
    return KeyRing(**{name: bytes([seed * 8 + number] * 32) for number, name in enumerate(KEY_NAMES)})


def code_of(call: object) -> str:
    with pytest.raises(StorageError) as caught:
        call()  # type: ignore[operator]
    return caught.value.code


def test_made_once_then_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "keys"
    first = keys.open_keys(folder, create=True)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        f"{name}.key": 0o400 for name in KEY_NAMES
    }
    assert [path.name for path in folder.parent.iterdir()] == ["keys"]
    assert keys.open_keys(folder).derivation == first.derivation
    assert keys.open_keys(folder, create=True).derivation == first.derivation
    wrapped = first.wrap(World.IDENTITY, STUDY, bytes(32))
    assert keys.open_keys(folder).unwrap(World.IDENTITY, STUDY, wrapped) == bytes(32)


def test_made_in_a_folder_that_is_there_and_empty(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o700)
    assert keys.open_keys(tmp_path / "keys", create=True).derivation


def test_two_that_start_at_once_get_the_same_keys(tmp_path: Path) -> None:
    found: list[bytes] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        barrier.wait()
        found.append(keys.open_keys(tmp_path / "keys", create=True).derivation)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_never_made_anew_beside_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").touch()
    folder = tmp_path / "keys"
    assert code_of(lambda: keys.open_keys(folder, create=True, sealed_with=[tmp_path / "ledger.sqlite3"])) == (
        "key-missing"
    )
    assert not folder.exists()
    assert code_of(lambda: keys.open_keys(folder)) == "key-missing"


@pytest.mark.parametrize("name", KEY_NAMES)
def test_one_that_is_missing_is_never_made_anew(tmp_path: Path, name: str) -> None:
    keys.open_keys(tmp_path / "keys", create=True)
    (tmp_path / "keys" / f"{name}.key").unlink()
    assert code_of(lambda: keys.open_keys(tmp_path / "keys", create=True)) == "key-missing"
    assert not (tmp_path / "keys" / f"{name}.key").exists()


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o420])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    keys.open_keys(tmp_path / "keys", create=True)
    (tmp_path / "keys" / "identity.key").chmod(mode)
    assert code_of(lambda: keys.open_keys(tmp_path / "keys")) == "key-permissions"


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    keys.open_keys(tmp_path / "keys", create=True)
    (tmp_path / "keys").chmod(0o750)
    assert code_of(lambda: keys.open_keys(tmp_path / "keys")) == "key-permissions"


@pytest.mark.parametrize("content", [b"", b"zz" * 32, b"ab" * 31, b"\xff" * 33])
def test_a_file_that_holds_no_key(tmp_path: Path, content: bytes) -> None:
    keys.open_keys(tmp_path / "keys", create=True)
    path = tmp_path / "keys" / "pseudonym.key"
    path.chmod(0o600)
    path.write_bytes(content)
    path.chmod(0o400)
    assert code_of(lambda: keys.open_keys(tmp_path / "keys")) == "key-wrong"


def test_a_folder_in_the_place_of_a_key_is_no_key(tmp_path: Path) -> None:
    keys.open_keys(tmp_path / "keys", create=True)
    (tmp_path / "keys" / "pseudonym.key").unlink()
    (tmp_path / "keys" / "pseudonym.key").mkdir()
    assert code_of(lambda: keys.open_keys(tmp_path / "keys")) == "key-wrong"


def test_what_is_wrong_says_which_key_it_is(tmp_path: Path) -> None:
    """Of three files, or six: whoever mends it has to find it."""
    keys.open_keys(tmp_path / "keys", create=True)
    path = tmp_path / "keys" / "pseudonym.key"
    tries: list[tuple[Callable[[], object], str]] = [
        (lambda: path.chmod(0o440), "pseudonym.key"),
        (path.unlink, "pseudonym.key"),
        (lambda: (path.write_text("nonsense"), path.chmod(0o400)), "pseudonym.key"),
        (lambda: (tmp_path / "keys").chmod(0o755), "folder"),
    ]
    for spoil, name in tries:
        spoil()
        with pytest.raises(KeyStoreError) as caught:
            keys.open_pseudonym_keys(tmp_path / "keys")
        assert caught.value.facts["key"] == name
        assert "nonsense" not in str(caught.value)


def test_a_key_file_that_is_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    keys.open_keys(tmp_path / "keys", create=True)
    (tmp_path / "keys" / "pseudonym.key").unlink()
    os.mkfifo(tmp_path / "keys" / "pseudonym.key", 0o400)
    assert code_of(lambda: keys.open_keys(tmp_path / "keys")) == "key-wrong"


def test_a_folder_that_we_may_not_look_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.open_keys(tmp_path / "keys", create=True)

    def refuse(path: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "no", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    for attempt in (
        lambda: keys.open_keys(tmp_path / "keys"),
        lambda: keys.open_credentials(tmp_path / "keys"),
        lambda: keys.has_credentials(tmp_path / "keys"),
        lambda: keys.make_following(tmp_path / "keys", World.IDENTITY),
    ):
        assert code_of(attempt) in ("key-permissions", "key-missing")
    assert code_of(lambda: keys.open_keys(tmp_path / "keys")) == "key-permissions"
    monkeypatch.undo()
    assert code_of(lambda: keys.open_keys(tmp_path / ("k" * 300))) == "storage-failed"


@pytest.mark.parametrize("content", [b"error: token not logged in 12345", b"0" * 32, b"a" * 31 + b"\n"])
def test_letters_are_no_key(content: bytes) -> None:
    """A program's message, or half a key in hexadecimal digits, has 32 bytes too."""
    assert len(content) == 32
    assert code_of(lambda: keys.parse_key(content)) == "key-wrong"
    assert keys.parse_key(bytes(range(32))) == bytes(range(32))


@pytest.mark.parametrize("content", [bytes(32), b"0" * 64 + b"\n", b"ab" * 32, b"\xff\0" * 16, b"deadbeef" * 8])
def test_zeros_and_what_repeats_are_no_key(content: bytes, tmp_path: Path) -> None:
    """A crash leaves zeros of a file, a template has a pattern: whoever guesses it opens everything."""
    assert code_of(lambda: keys.parse_key(content)) == "key-wrong"
    keys.open_keys(tmp_path / "keys", create=True)
    file = tmp_path / "keys" / "derivation.key"
    file.unlink()
    file.write_bytes(content)
    file.chmod(0o400)
    assert code_of(lambda: keys.open_keys(tmp_path / "keys")) == "key-wrong"


def test_a_place_where_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert code_of(lambda: keys.open_keys(tmp_path / "file" / "keys", create=True)) == "storage-failed"
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "something").touch()
    assert code_of(lambda: keys.open_keys(tmp_path / "keys", create=True)) == "storage-failed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "keys"]


def test_credentials_of_systemd(tmp_path: Path) -> None:
    assert not keys.has_credentials(None)
    assert not keys.has_credentials(tmp_path)
    for number, name in enumerate(KEY_NAMES):
        path = tmp_path / f"dicomnode.{name}"
        key = bytes(range(number, number + 32))
        path.write_bytes(key if number else key.hex().encode() + b"\n")
        path.chmod(0o440)  # what the mask of systemd's ACL shows
    assert keys.has_credentials(tmp_path)
    assert keys.open_credentials(tmp_path).derivation == bytes(range(2, 34))
    (tmp_path / "dicomnode.identity").chmod(0o444)
    assert code_of(lambda: keys.open_credentials(tmp_path)) == "key-permissions"
    (tmp_path / "dicomnode.identity").unlink()
    assert code_of(lambda: keys.open_credentials(tmp_path)) == "key-missing"


def test_equal_credentials_are_refused(tmp_path: Path) -> None:
    for name in KEY_NAMES:
        (tmp_path / f"dicomnode.{name}").write_bytes(bytes(range(32)))
        (tmp_path / f"dicomnode.{name}").chmod(0o400)
    assert code_of(lambda: keys.open_credentials(tmp_path)) == "key-wrong"


def test_a_ring_checks_its_keys() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyRing(identity=b"", pseudonym=bytes(32), derivation=bytes(32))
    with pytest.raises(ValueError, match="differ"):
        KeyRing(identity=bytes(32), pseudonym=bytes(32), derivation=bytes([1] * 32))
    assert repr(ring()) == "KeyRing()"


@pytest.mark.parametrize("world", World)
def test_wrapping(world: World) -> None:
    data_key = bytes(range(32))
    wrapped = ring().wrap(world, STUDY, data_key)
    assert ring().unwrap(world, STUDY, wrapped) == data_key
    assert wrapped.key_id == sealed.key_id(data_key)
    assert data_key not in wrapped.wrapped
    assert "wrapped=" not in repr(wrapped)
    assert ring().wrap(world, STUDY, data_key) != wrapped


def test_a_wrapped_key_opens_nowhere_else() -> None:
    wrapped = ring().wrap(World.IDENTITY, STUDY, bytes(32))
    flipped = wrapped.wrapped[:-1] + bytes([wrapped.wrapped[-1] ^ 1])
    for holder, world, study, given, code in (
        (ring(1), World.IDENTITY, STUDY, wrapped, "key-wrong"),
        (ring(), World.PSEUDONYM, STUDY, wrapped, "key-wrong"),
        (ring(), World.IDENTITY, OTHER_STUDY, wrapped, "sealed-damaged"),
        (ring(), World.IDENTITY, STUDY, replace(wrapped, wrapped=flipped), "sealed-damaged"),
        (ring(), World.IDENTITY, STUDY, replace(wrapped, wrapped=b"short"), "sealed-damaged"),
        (ring(), World.IDENTITY, STUDY, replace(wrapped, wrapped=b""), "sealed-damaged"),
        (ring(), World.IDENTITY, STUDY, replace(wrapped, key_id=bytes(8)), "sealed-damaged"),
    ):
        with pytest.raises(KeyStoreError) as caught:
            holder.unwrap(world, study, given)
        assert caught.value.code == code
        assert caught.value.facts.get("study") == (None if code == "key-wrong" else f"key-{study[:16]}")


def test_rewrapping_keeps_the_data_key() -> None:
    wrapped = ring().wrap(World.PSEUDONYM, STUDY, bytes(32))
    again = ring().rewrap(STUDY, wrapped, ring(1))
    assert again.wrapping_key_id != wrapped.wrapping_key_id
    assert ring(1).unwrap(World.PSEUDONYM, STUDY, again) == bytes(32)


def test_a_key_that_this_user_may_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.open_keys(tmp_path / "keys", create=True)

    def refuse(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr("os.open", refuse)
    assert code_of(lambda: keys.open_keys(tmp_path / "keys")) == "key-permissions"


def owned_by(patch: pytest.MonkeyPatch, owner: int, place: Path) -> None:
    """A file or folder belongs to somebody; the node is nobody's root."""
    real = {name: getattr(os, name) for name in ("stat", "fstat")}
    inode = place.stat().st_ino

    def told(name: str) -> Callable[..., object]:
        def look(*arguments: Any, **options: Any) -> object:
            found = real[name](*arguments, **options)
            if found.st_ino != inode:
                return found
            return SimpleNamespace(st_mode=found.st_mode, st_uid=owner, st_ino=inode)

        return look

    for name in real:
        patch.setattr(os, name, told(name))


@pytest.mark.parametrize("name", ["", *(f"{name}.key" for name in KEY_NAMES)])
def test_keys_and_a_folder_of_another_owner_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "keys"
    first = keys.open_keys(folder, create=True)
    me = os.geteuid()
    for owner, accepted in ((0, True), (me, True), (me + 4711, False)):
        with monkeypatch.context() as patch:
            owned_by(patch, owner, folder / name)
            if accepted:
                assert keys.open_keys(folder).derivation == first.derivation
            else:
                assert code_of(lambda: keys.open_keys(folder)) == "key-permissions"


def test_credentials_of_another_owner_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(KEY_NAMES):
        path = tmp_path / f"dicomnode.{name}"
        path.write_bytes(bytes(range(number, number + 32)))
        path.chmod(0o400)
    assert keys.open_credentials(tmp_path).derivation
    owned_by(monkeypatch, os.geteuid() + 4711, tmp_path / "dicomnode.derivation")
    assert code_of(lambda: keys.open_credentials(tmp_path)) == "key-permissions"
