"""Programs of others that the tests run: found, or the test is skipped with a reason (or failed where all must be there)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

_EXTRA = ("/usr/sbin", "/usr/lib/dcmtk", "/usr/local/sbin")


def find(program: str) -> str | None:
    """Path of a program, or None."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(_EXTRA))


def require(program: str) -> str:
    """Path of a program; skips the test where it is missing, fails it under DICOMNODE_REQUIRE_TOOLS=1."""
    path = find(program)
    if path is None:
        _lacks(f"the program {program}: run `make setup` as root")
    return path


def require_file(path: str | Path, *, setup: str) -> Path:
    """A file that a setup step puts there; skips or fails the test like `require` where it is missing."""
    if not Path(path).is_file():
        _lacks(f"{Path(path).name}: run `{setup}`")
    return Path(path)


def _lacks(what: str) -> NoReturn:
    if os.environ.get("DICOMNODE_REQUIRE_TOOLS") == "1":
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


def shared_data_folder() -> Path | None:
    """Folder of real DICOM files, beside the checkout or named by DICOMNODE_TEST_DATA."""
    named = os.environ.get("DICOMNODE_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def shared_data_set(name: str) -> Path:
    """One set of the real files; skips the test where it is absent."""
    folder = shared_data_folder()
    if folder is None or not (folder / name).is_dir():
        pytest.skip(f"needs the real files of {name} (../shared/data or $DICOMNODE_TEST_DATA)")
    return folder / name
