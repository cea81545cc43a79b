"""What the tests need of others, programs and files: found, or the test is skipped with a reason (or failed where all must be there)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, NoReturn

import pytest

_EXTRA = ("/usr/sbin", "/usr/lib/dcmtk", "/usr/local/sbin")

#: Tests, by the beginning of their node id, that may be skipped where everything else must run, and why.
MAY_BE_SKIPPED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "tests/unit/service/test_promptness.py::": "another processor, or a container, may not have sched_getattr",
        "tests/unit/inference/test_kernels.py::test_nvcc_makes": "nvcc comes with a CUDA toolkit alone; the PTX is kept",
        "tests/unit/inference/test_kernels.py::test_the_ptx_assembles": "ptxas comes with a CUDA toolkit alone",
        "tests/journey/test_systemd.py::": "boots a container for minutes: `make prove-systemd`",
        "tests/contracts/test_systemd_unit.py::test_systemd_finds_no_fault": "needs a machine with systemd: `make prove-systemd` runs it",
    }
)
#: Marks of tests that may be skipped there, too, and why.
MARKS_MAY_BE_SKIPPED: Final[Mapping[str, str]] = MappingProxyType({"gpu": "no machine of CI's has a CUDA device"})


def find(program: str) -> str | None:
    """Path of a program, or None."""
    return shutil.which(program) or shutil.which(program, path=os.pathsep.join(_EXTRA))


def require(program: str, *, setup: str = "make setup") -> str:
    """Path of a program; skips the test where it is missing, fails it under DICOMNODE_REQUIRE_TOOLS=1."""
    path = find(program)
    if path is None:
        _lacks(f"the program {program}: run `{setup}` as root")
    return path


def require_of_a_toolkit(program: str) -> str:
    """Path of a program that no package of the distribution brings; skips the test where it is missing, everywhere."""
    path = find(program)
    if path is None:
        pytest.skip(f"needs the program {program}, of a CUDA toolkit")
    return path


def require_file(path: str | Path, *, setup: str) -> Path:
    """A file that a setup step puts there; skips or fails the test like `require` where it is missing."""
    if not Path(path).is_file():
        _lacks(f"{Path(path).name}: run `{setup}`")
    return Path(path)


def all_must_run() -> bool:
    """Whether a test that lacks something fails: DICOMNODE_REQUIRE_TOOLS=1, as `.ci/run` sets it."""
    return os.environ.get("DICOMNODE_REQUIRE_TOOLS") == "1"


def forbid_skip(report: pytest.TestReport) -> None:
    """Make a failure of a skip that `MAY_BE_SKIPPED` does not name, where everything must run."""
    if report.skipped and all_must_run() and not report.nodeid.startswith(tuple(MAY_BE_SKIPPED)):
        if hasattr(report, "wasxfail") or any(mark in report.keywords for mark in MARKS_MAY_BE_SKIPPED):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped where everything must run (DICOMNODE_REQUIRE_TOOLS=1): {reason}"


def _lacks(what: str) -> NoReturn:
    if all_must_run():
        pytest.fail(f"needs {what}")
    pytest.skip(f"needs {what}")


def shared_data_folder() -> Path | None:
    """Folder of real DICOM files, beside the checkout or named by DICOMNODE_TEST_DATA."""
    named = os.environ.get("DICOMNODE_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    return folder if folder.is_dir() else None


def shared_data_set(name: str) -> Path:
    """One set of the real files; skips or fails the test like `require` where it is absent."""
    folder = shared_data_folder()
    if folder is None or not (folder / name).is_dir():
        _lacks(f"the real files of {name}: ../shared/data or $DICOMNODE_TEST_DATA")
    return folder / name


@cache
def fetched_chests() -> Path:
    """Folder of the two chests that the recipe of ct-lung fetches with pip; skips or fails the test where they cannot be had."""
    root = Path(__file__).resolve().parents[1]
    folder, fetch = root / "build" / "train" / "chests", root / "models" / "ct-lung" / "train" / "chests.py"
    done = subprocess.run([sys.executable, str(fetch), str(folder)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        _lacks(f"two chests of another package: `python {fetch.relative_to(root)} {folder.relative_to(root)}`")
    return folder
