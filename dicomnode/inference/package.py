"""Model packages on disk: a folder with ``model.toml`` and the ONNX file that it names, read, checked and digested.

May live here: reading and proving a package. May not: running it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicomnode import manifest as manifests
from dicomnode.errors import ModelError
from dicomnode.inference import onnxfile
from dicomnode.manifest import Manifest, ModelPackageErrors

MANIFEST_FILE: Final = "model.toml"
_MANIFEST_BYTES: Final = 1024 * 1024
_MODEL_BYTES: Final = 2 * 1024**3 - 1  # protobuf's own limit
_DIGEST_KIND: Final = b"dicomnode model package 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package that was proved whole.

    Attributes
    ----------
    folder
        Where it lies; None for one that is built in.
    digest
        SHA-256, in hex, over the manifest's bytes and the network's: everything of it that can change a result.
    """

    manifest: Manifest
    folder: Path | None
    digest: str

    def model_bytes(self) -> bytes:
        """Bytes of the ONNX file, proved again to be those of the manifest.

        Raises
        ------
        ModelPackageErrors
            If the file is gone or was changed.
        """
        if self.folder is None:
            raise ModelPackageErrors((f"{self.manifest.network.file}: a built-in package has no file",))
        return _read_model(self.folder, self.manifest)


def load(folder: Path) -> Package:
    """Read and prove one package.

    Raises
    ------
    ModelPackageErrors
        With every problem found.
    """
    data = _read(folder, MANIFEST_FILE, _MANIFEST_BYTES)
    try:
        values = tomllib.loads(data.decode())
    except (ValueError, RecursionError):
        raise ModelPackageErrors((f"{MANIFEST_FILE}: it is no TOML in UTF-8",)) from None
    manifest = manifests.parse(values)
    problems = list(onnxfile.problems(_read_model(folder, manifest)))
    if manifest.name != folder.name:
        problems.append(f"name: it differs from the folder's, {folder.name}")
    if problems:
        raise ModelPackageErrors(tuple(problems))
    return Package(manifest=manifest, folder=folder, digest=digest(data, manifest.network.sha256))


def load_all(folder: Path, enabled: Collection[str] = ()) -> tuple[Package, ...]:
    """Read and prove the enabled packages of a folder, in order of their names.

    Parameters
    ----------
    enabled
        Names of folders; empty: every folder that has a ``model.toml``.

    Raises
    ------
    ModelPackageErrors
        With every problem of every package, each as ``name: where: what``.
    """
    try:
        present = {entry.name for entry in folder.iterdir() if os.path.lexists(entry / MANIFEST_FILE)}
    except OSError:
        raise ModelPackageErrors((f"{folder.name}: the folder of models cannot be read",)) from None
    packages: list[Package] = []
    problems: list[str] = []
    for name in sorted(set(enabled) or present):
        if name not in present:
            problems.append(f"{name}: no such model is installed")
            continue
        try:
            packages.append(load(folder / name))
        except ModelPackageErrors as errors:
            problems.extend(f"{name}: {problem}" for problem in errors.problems)
    if problems:
        raise ModelPackageErrors(tuple(problems))
    return tuple(packages)


def find(packages: Collection[Package], name: str) -> Package:
    """Package of a name.

    Raises
    ------
    ModelError
        ``model-not-found``.
    """
    for package in packages:
        if package.manifest.name == name:
            return package
    raise ModelError("model-not-found")


def shipped_models_folder() -> Path:
    """Folder of the models that ship with the node: inside an installed package, else that of the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "shipped_models"
    return installed if installed.is_dir() else package.parent / "models"


def digest(manifest_bytes: bytes, model_sha256: str) -> str:
    """SHA-256, in hex, of everything of a package that can change a result."""
    return hashlib.sha256(
        _DIGEST_KIND + hashlib.sha256(manifest_bytes).digest() + bytes.fromhex(model_sha256)
    ).hexdigest()


def _read_model(folder: Path, manifest: Manifest) -> bytes:
    data = _read(folder, manifest.network.file, _MODEL_BYTES)
    if hashlib.sha256(data).hexdigest() != manifest.network.sha256:
        raise ModelPackageErrors((f"{manifest.network.file}: its SHA-256 is not that of the manifest",))
    return data


def _read(folder: Path, name: str, limit: int) -> bytes:
    """Bytes of a regular file right inside the folder; a link is not followed."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise ModelPackageErrors((f"{name}: it is missing, unreadable or a link",)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise ModelPackageErrors((f"{name}: it is no regular file, or too large",))
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit + 1)
    except OSError:
        raise ModelPackageErrors((f"{name}: it cannot be read",)) from None
    finally:
        os.close(descriptor)
