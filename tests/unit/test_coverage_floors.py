"""What several processes ran is added up against the sources, and what none of them ran stands below its floor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.coverage_floors import added_up, below, entry_of, module_of, percent

ROOT = Path(__file__).parents[2]
MODULE = '''"""A module."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import json


def bigger(one, other):
    if one > other:
        return one
    return other
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "dicomnode"
    folder.mkdir()
    (folder / "some.py").write_text(MODULE)
    (folder / "never.py").write_text(MODULE)
    return folder


def seen(package: Path, *ran: tuple[list[int], list[tuple[int, int]]]) -> dict[str, Any]:
    """What is added up where processes ran these lines and branches of the first module."""
    measured = package.parent / "measured"
    measured.mkdir()
    for number, one in enumerate(ran):
        (measured / f"{number}.json").write_text(json.dumps({str(package / "some.py"): one}))
    (measured / "killed.part").write_text("{")
    return {module_of(path): entry for path, entry in added_up(measured, package).items()}


def test_what_two_processes_ran_is_added_up_and_no_more(package: Path) -> None:
    found = seen(package, ([1, 3, 5, 9, 10, 11], [(10, 11)]), ([6, 10, 99], []))["some"]
    assert found["missing_lines"] == [12]
    assert [tuple(one) for one in found["missing_branches"]] == [(10, 12)]
    assert found["summary"] == {"num_statements": 6, "covered_lines": 5, "num_branches": 2, "covered_branches": 1}


def test_what_no_process_imported_counts_as_never_run(package: Path) -> None:
    found = seen(package)
    assert sorted(found) == ["never", "some"]
    assert {percent(one["summary"]) for one in found.values()} == {0.0}


def test_a_module_below_its_floor_is_told_with_what_is_missing() -> None:
    entry = entry_of([1, 2, 3], [(2, 3), (2, 0)], {1, 2}, {(2, 3)})
    assert below({"pulses": entry}) == ["pulses: 60.0 % of 100 %; lines 3; branches 2→0"]
    assert below({"pulses": entry_of([1, 2], [(1, 2)], {1, 2}, {(1, 2)})}) == []
    assert module_of("/elsewhere/dicomnode/storage/keys.py") == "storage/keys"


@pytest.mark.parametrize("end", ["", "import os; os._exit(0)"])
@pytest.mark.parametrize(
    "begin", ["from dicomnode.pulses import Pulse", "Pulse = run_module('dicomnode.pulses', alter_sys=True)['Pulse']"]
)
def test_a_process_writes_what_it_ran_of_the_package(tmp_path: Path, begin: str, end: str) -> None:
    program = f"from runpy import run_module\n{begin}\nPulse('a', 1.0).work()\n{end}"
    environment = os.environ | {
        "DICOMNODE_MEASURED": str(tmp_path),
        "PYTHONPATH": f"{ROOT / 'tests' / 'measured'}{os.pathsep}{ROOT}",
    }
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, timeout=60)
    (ran,) = [json.loads(one.read_text())[str(ROOT / "dicomnode" / "pulses.py")] for one in tmp_path.glob("*.json")]
    source = (ROOT / "dicomnode" / "pulses.py").read_text().splitlines()
    assert source.index("        self.is_at_work = True") + 1 in ran[0]
    assert max(at for at, line in enumerate(source, 1) if "self.is_at_work = False" in line) not in ran[0], (
        "nothing rested"
    )
