"""The cache of engines: what it keeps it gives back, and nothing that anybody else put there."""

from __future__ import annotations

import os
import threading
from dataclasses import fields, replace
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.inference.engine_cache import EngineCache, EngineKey
from dicomnode.inference.standin_device import FACTS

KEY = EngineKey(
    model_sha256="a" * 64,
    derived_sha256="b" * 64,
    recipe="1",
    precision="fp16",
    library="tensorrt",
    library_version="11.4.0.106",
    device=FACTS,
    profile=((1, 1, 16, 16, 16), (4, 1, 16, 16, 16)),
    flags=("tf32",),
)
SECRET = bytes(range(32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "engines"


@pytest.fixture
def cache(folder: Path) -> EngineCache:
    return EngineCache(folder, SECRET)


def files(folder: Path, ending: str = ".engine") -> list[Path]:
    return sorted(folder.glob(f"*{ending}"))


def test_gives_back_what_was_kept(cache: EngineCache, folder: Path) -> None:
    assert cache.engine(KEY) is None
    assert cache.timing(KEY) == b""
    cache.keep_engine(KEY, b"native code")
    cache.keep_timing(KEY, b"measurements")
    again = EngineCache(folder, SECRET)
    assert again.engine(KEY) == b"native code"
    assert again.timing(KEY) == b"measurements"
    cache.keep_engine(KEY, b"newer")
    assert again.engine(KEY) == b"newer"
    assert sorted(path.suffix for path in folder.iterdir()) == [".engine", ".timing"]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("name", [field.name for field in fields(EngineKey)])
def test_everything_of_the_key_makes_another_engine(cache: EngineCache, name: str) -> None:
    other: dict[str, object] = {
        "device": replace(FACTS, driver="1"),
        "profile": ((1, 1, 16, 16, 16), (8, 1, 16, 16, 16)),
        "flags": (),
    }
    cache.keep_engine(KEY, b"native code")
    assert cache.engine(replace(KEY, **{name: other.get(name, "other")})) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [field.name for field in fields(FACTS)])
def test_everything_of_the_device_makes_another_engine(cache: EngineCache, name: str) -> None:
    other: dict[str, object] = {"capability": (9, 0), "multiprocessors": 7, "memory_bytes": 1}
    device = replace(FACTS, **{name: other.get(name, "other")})  # type: ignore[arg-type]
    cache.keep_engine(KEY, b"native code")
    cache.keep_timing(KEY, b"measurements")
    assert cache.engine(replace(KEY, device=device)) is None
    assert cache.timing(replace(KEY, device=device)) == b""


def test_measurements_serve_every_model_of_the_device(cache: EngineCache) -> None:
    cache.keep_timing(KEY, b"measurements")
    assert cache.timing(replace(KEY, model_sha256="c" * 64, precision="bf16")) == b"measurements"
    assert cache.timing(replace(KEY, library_version="11.5")) == b""


def test_every_flipped_bit_is_seen(cache: EngineCache, folder: Path) -> None:
    cache.keep_engine(KEY, b"code")
    (path,) = files(folder)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert cache.engine(KEY) is None
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert cache.engine(KEY) is None
    path.write_bytes(whole + b"\0")
    assert cache.engine(KEY) is None
    path.write_bytes(whole)
    assert cache.engine(KEY) == b"code"


def test_an_engine_under_another_name_or_key_is_none(cache: EngineCache, folder: Path) -> None:
    cache.keep_engine(KEY, b"code")
    cache.keep_engine(replace(KEY, recipe="2"), b"other code")
    first, second = files(folder)
    second.write_bytes(first.read_bytes())
    kept = [cache.engine(KEY), cache.engine(replace(KEY, recipe="2"))]
    assert kept.count(None) == 1
    assert EngineCache(folder, bytes(32)).engine(KEY) is None


def test_a_link_is_not_followed(cache: EngineCache, folder: Path, tmp_path: Path) -> None:
    cache.keep_engine(KEY, b"code")
    (path,) = files(folder)
    moved = path.rename(tmp_path / "elsewhere")
    path.symlink_to(moved)
    assert cache.engine(KEY) is None
    cache.keep_engine(KEY, b"new")
    assert cache.engine(KEY) == b"new"
    assert moved.read_bytes().endswith(b"code")


def test_a_pipe_in_place_of_an_engine_does_not_stall(cache: EngineCache, folder: Path) -> None:
    cache.keep_engine(KEY, b"code")
    (path,) = files(folder)
    path.unlink()
    os.mkfifo(path)
    assert cache.engine(KEY) is None


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    for mode in (0o750, 0o701, 0o777):
        shared = tmp_path / f"shared{mode:o}"
        shared.mkdir()
        shared.chmod(mode)
        with pytest.raises(StorageError) as caught:
            EngineCache(shared, SECRET)
        assert caught.value.facts == {"cause": "engine-cache-not-private"}
    (tmp_path / "own").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "own")
    (tmp_path / "file").write_bytes(b"")
    for name in ("link", "file"):
        with pytest.raises(StorageError):
            EngineCache(tmp_path / name, SECRET)


def test_a_short_key_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        EngineCache(folder, b"short")


def test_what_cannot_be_written_is_told(cache: EngineCache, folder: Path) -> None:
    folder.rename(folder.with_name("gone"))
    with pytest.raises(StorageError) as caught:
        cache.keep_engine(KEY, b"code")
    assert caught.value.code == "storage-failed"
    with pytest.raises(StorageError), cache.building(KEY):
        pass
    assert cache.entries() == ()


def test_the_engines_used_longest_ago_go_first(cache: EngineCache, folder: Path) -> None:
    keys = [replace(KEY, recipe=str(number)) for number in range(4)]
    for number, key in enumerate(keys):
        cache.keep_engine(key, bytes(1000))
        os.utime(folder / f"{key.digest}.engine", (number, number))
    assert [entry.name for entry in cache.entries()] == [key.digest for key in reversed(keys)]
    assert cache.engine(keys[0]) is not None  # which is a use
    assert cache.purge(2 * cache.entries()[0].size) == 2
    assert [cache.engine(key) is not None for key in keys] == [True, False, False, True]
    cache.drop(keys[0])
    cache.drop(keys[0])
    assert cache.engine(keys[0]) is None


def test_who_comes_second_waits_and_finds_it_built(folder: Path) -> None:
    first, second = EngineCache(folder, SECRET), EngineCache(folder, SECRET)
    found: list[bytes | None] = []
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        with second.building(KEY):
            found.append(second.engine(KEY))

    waiting = threading.Thread(target=wait)
    with first.building(KEY):
        waiting.start()
        assert begun.wait(10)
        assert not found
        first.keep_engine(KEY, b"code")
    waiting.join(10)
    assert found == [b"code"]
