"""Which lines and branches of the package a process runs: Python imports this file at its start, where the path leads to it.

`DICOMNODE_MEASURED` names a folder, into which each process writes at its end what it ran; without it, nothing is done.
slipcover counts by probes in the code itself, which cost next to nothing: a tracer made the suite twice as slow. Its other
half, code without the probes that have done their duty, is left out: it puts functions in others' place while threads run.
`tests/coverage_floors.py` adds the files up. Alone in a folder, as what else lies there would be found by every import.
"""

from __future__ import annotations

import ast
import atexit
import json
import os
import time
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn


def measure(folder: Path) -> None:
    """Count from now on, in modules that are imported from now on."""
    from slipcover import FileMatcher, ImportManager, Slipcover
    from slipcover.importer import SlipcoverLoader, wrap_spec_from_file_location

    found = Slipcover(branch=True, d_miss_threshold=1 << 30, exclude_lines=[])
    matcher = FileMatcher(sources=[Path(__file__).parents[2] / "dicomnode"])
    ImportManager(found, matcher).__enter__()
    wrap_spec_from_file_location(found, matcher)  # Alembic's way to its revisions
    SlipcoverLoader.get_code = code_of  # `python -m` and `runpy` ask for the code, and run it themselves
    end = os._exit

    def ended(status: int) -> NoReturn:
        write(found, folder)
        end(status)

    os._exit = ended
    atexit.register(write, found, folder)


def code_of(loader: Any, _name: str) -> CodeType:
    """A module's code with probes."""
    from slipcover.branch import preinstrument

    code = compile(preinstrument(ast.parse(loader.origin.read_bytes())), str(loader.origin), "exec")
    probed: CodeType = loader.sci.instrument(code)
    return probed


def write(found: Any, folder: Path) -> None:
    """Write what ran so far into a file of its own, whole or not at all."""
    files = found.get_coverage()["files"]
    ran = {str(Path(path).resolve()): [one["executed_lines"], one["executed_branches"]] for path, one in files.items()}
    if ran:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{os.getpid()}-{time.monotonic_ns()}.part"
        part.write_text(json.dumps(ran), "utf-8")
        part.replace(part.with_suffix(".json"))


if os.environ.get("DICOMNODE_MEASURED"):
    measure(Path(os.environ["DICOMNODE_MEASURED"]))
