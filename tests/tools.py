"""Programs of others that the tests run: found, or the test is skipped with a reason (or failed where all must be there)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_EXTRA = ("/usr/sbin", "/usr/lib/dcmtk", "/usr/local/sbin")


def find(program: str) -> str | None:
    """Path of a program, or None."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(_EXTRA))


def require(program: str) -> str:
    """Path of a program; skips the test where it is missing, fails it under DICOMNODE_REQUIRE_TOOLS=1."""
    path = find(program)
    if path is None:
        message = f"needs the program {program}: run `make setup` as root"
        if os.environ.get("DICOMNODE_REQUIRE_TOOLS") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


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
