from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomnode.errors import ModelError
from dicomnode.inference import package, standin
from dicomnode.manifest import ModelPackageErrors
from tests.unit.inference.models import tiny_model, values, write_package


def problems_of(call: Callable[[], object]) -> tuple[str, ...]:
    with pytest.raises(ModelPackageErrors) as caught:
        call()
    return caught.value.problems


def test_loads_a_package_and_gives_its_bytes(tmp_path: Path) -> None:
    folder = write_package(tmp_path)
    loaded = package.load(folder)
    assert (loaded.manifest.name, loaded.folder) == ("tiny", folder)
    assert loaded.model_bytes() == tiny_model()


def test_the_digest_changes_with_every_byte_of_the_manifest_and_the_network(tmp_path: Path) -> None:
    first = package.load(write_package(tmp_path / "1"))
    other = package.load(write_package(tmp_path / "2", model=tiny_model(batch=1)))
    folder = write_package(tmp_path / "3")
    again = package.load(folder)
    (folder / "model.toml").write_text((folder / "model.toml").read_text() + "# remark\n")
    assert again.digest == first.digest
    assert len({first.digest, other.digest, package.load(folder).digest}) == 3
    manifest = hashlib.sha256((tmp_path / "1" / "tiny" / "model.toml").read_bytes()).digest()
    network = hashlib.sha256(tiny_model()).digest()
    expected = hashlib.sha256(b"dicomnode model package 1\n" + manifest + network).hexdigest()
    assert first.digest == expected


@pytest.mark.parametrize("name", ["model.toml", "model.onnx"])
def test_refuses_a_file_that_is_missing_a_link_or_none(tmp_path: Path, name: str) -> None:
    folder = write_package(tmp_path)
    file, elsewhere = folder / name, tmp_path / "elsewhere"
    file.rename(elsewhere)
    assert problems_of(lambda: package.load(folder)) == (f"{name}: it is missing, unreadable or a link",)
    file.symlink_to(elsewhere)
    assert problems_of(lambda: package.load(folder)) == (f"{name}: it is missing, unreadable or a link",)
    file.unlink()
    file.mkdir()
    assert problems_of(lambda: package.load(folder)) == (f"{name}: it is no regular file, or too large",)
    file.rmdir()
    os.mkfifo(file)
    assert problems_of(lambda: package.load(folder)) == (f"{name}: it is no regular file, or too large",)


def test_refuses_a_manifest_without_end(tmp_path: Path) -> None:
    folder = write_package(tmp_path)
    with (folder / "model.toml").open("ab") as file:
        file.truncate(2 * 1024 * 1024)
    assert problems_of(lambda: package.load(folder)) == ("model.toml: it is no regular file, or too large",)


@pytest.mark.parametrize("content", [b"= 1", b"\xff\xfe", b"a = " + b"[" * 5000])
def test_refuses_what_is_no_toml(tmp_path: Path, content: bytes) -> None:
    folder = write_package(tmp_path)
    (folder / "model.toml").write_bytes(content)
    assert problems_of(lambda: package.load(folder)) == ("model.toml: it is no TOML in UTF-8",)


def test_refuses_a_network_of_another_digest(tmp_path: Path) -> None:
    folder = write_package(tmp_path)
    loaded = package.load(folder)
    (folder / "model.onnx").write_bytes(tiny_model() + b"\x00")
    expected = ("model.onnx: its SHA-256 is not that of the manifest",)
    assert problems_of(lambda: package.load(folder)) == expected
    assert problems_of(loaded.model_bytes) == expected


def test_refuses_a_name_that_is_not_the_folders_and_what_is_no_onnx(tmp_path: Path) -> None:
    folder = write_package(tmp_path, "other", model=b"ORTM")
    folder = folder.rename(tmp_path / "moved")
    assert problems_of(lambda: package.load(folder)) == (
        "this is no ONNX file",
        "name: it differs from the folder's, moved",
    )


def test_loads_all_in_order_or_those_enabled(tmp_path: Path) -> None:
    for name in ("b", "a", "c"):
        write_package(tmp_path, name)
    (tmp_path / "README.md").write_text("no package")
    (tmp_path / "empty").mkdir()
    assert [item.manifest.name for item in package.load_all(tmp_path)] == ["a", "b", "c"]
    assert [item.manifest.name for item in package.load_all(tmp_path, ("c", "a"))] == ["a", "c"]
    assert package.find(package.load_all(tmp_path), "b").manifest.name == "b"
    with pytest.raises(ModelError) as caught:
        package.find(package.load_all(tmp_path, ("a",)), "b")
    assert caught.value.code == "model-not-found"


def test_tells_every_problem_of_every_package(tmp_path: Path) -> None:
    write_package(tmp_path, "a")
    write_package(tmp_path, "b", title="", task="none")
    (write_package(tmp_path, "c") / "model.onnx").unlink()
    problems = problems_of(lambda: package.load_all(tmp_path, ("a", "b", "c", "d")))
    assert [problem.split(": ")[:2] for problem in problems] == [
        ["b", "title"],
        ["b", "task"],
        ["c", "model.onnx"],
        ["d", "no such model is installed"],
    ]


def test_a_folder_of_models_that_is_not_there(tmp_path: Path) -> None:
    assert problems_of(lambda: package.load_all(tmp_path / "none")) == ("none: the folder of models cannot be read",)


def test_an_enabled_name_cannot_leave_the_folder(tmp_path: Path) -> None:
    write_package(tmp_path, "a")
    (tmp_path / "models").mkdir()
    assert problems_of(lambda: package.load_all(tmp_path / "models", ("../a",))) == (
        "../a: no such model is installed",
    )


def test_a_manifest_names_a_file_of_its_own_folder_alone(tmp_path: Path) -> None:
    network = {**values()["network"], "file": "../a/model.onnx"}
    folder = write_package(tmp_path, network=network)
    (problem,) = problems_of(lambda: package.load(folder))
    assert problem.startswith("network.file: ")


def test_shipped_models_lie_beside_the_package() -> None:
    folder = package.shipped_models_folder()
    assert folder.name in {"models", "shipped_models"}
    assert (folder / "ct-lung").is_dir()


def test_a_built_in_package_has_no_file() -> None:
    built_in = standin.package()
    assert problems_of(built_in.model_bytes) == ("built-in.onnx: a built-in package has no file",)
    assert built_in == standin.package()
