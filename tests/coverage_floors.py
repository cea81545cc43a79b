"""Holds what the tests ran, lines and branches, against the floors of the house; exits 1 with what is missing.

`make coverage` calls it: ``python tests/coverage_floors.py build/measured``, the folder that `tests/measured` wrote into.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from slipcover import Slipcover

PACKAGE = "dicomnode"
#: Percent of statements and branches together that every module has, unless it stands below.
FLOOR = 90.0
#: Pure modules and packages: every statement and every branch.
PURE = (
    "__init__",
    "bounds",
    "coding",
    "config",
    "encoded",
    "errors",
    "events",
    "findings",
    "heap",
    "identity",
    "manifest",
    "patterns",
    "pulses",
    "routing_rules",
    "site_rules",
    "source_reasons",
    "study",
    "imaging/geometry",
    "imaging/measure",
    "imaging/plane",
    "network/dimse",
    "network/multipart",
    "network/pdu",
    "network/stow",
    "network/retrieval",
    "storage/digest",
    "storage/incoming",
    "storage/sealed",
    "deidentification/policy",
    "deidentification/profile",
    "deidentification/rules",
    "workflow/activity",
    "workflow/admission",
    "workflow/completion",
    "workflow/congestion",
    "workflow/memory_queue",
    "workflow/openings",
    "workflow/prior_choice",
    "workflow/provenance",
    "workflow/routing",
    "workflow/sameness",
    "workflow/selection",
    "workflow/standing",
    "workflow/unanswered",
)
#: Reviewed: module → lower floor and why.
LOWERED: dict[str, tuple[float, str]] = {
    "deidentification/quick": (
        85.0,
        "falls back to the full way in many small ways; a property compares both, not each way alone",
    ),
    "network/committing": (85.0, "a PACS that aborts between request and report is not acted out yet"),
    "results/report_places": (85.0, "detections outside the scan are made by no model that ships"),
    "workflow/commitment": (85.0, "faults of the ledger in the middle of a transaction are not acted out yet"),
    "storage/migrations/env": (
        80.0,
        "Alembic alone asks which tables are ours, when a developer lets it compare schemas",
    ),
}
#: Lines that no test need run, with what hangs on them, beside what slipcover leaves out (`pragma: no cover`, TYPE_CHECKING).
EXCLUDED = (r"\.\.\.$", "raise AssertionError")
#: Reviewed: modules that no floor holds, and why.
LEFT_OUT: dict[str, str] = {
    "__main__": "one call; every test that starts a node in its own process runs it",
}


def main(arguments: list[str]) -> int:
    """Print a table of rooms, then every module below its floor; returns the exit status."""
    report = added_up(Path(arguments[0]), Path(__file__).parents[1] / PACKAGE)
    files = {module_of(path): entry for path, entry in report.items() if module_of(path) not in LEFT_OUT}
    for room, modules in sorted(rooms_of(files).items()):
        summaries = [files[module]["summary"] for module in modules]
        least = min(percent(files[module]["summary"]) for module in modules)
        sys.stdout.write(f"{room:<20}{len(modules):>3} modules {share(summaries):>6.1f} %   least {least:>6.1f} %\n")
    sys.stdout.write(
        f"{'all':<20}{len(files):>3} modules {share([one['summary'] for one in files.values()]):>6.1f} %\n"
    )
    faults = [*below(files), *stale(report)]
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


def added_up(folder: Path, package: Path) -> dict[str, Any]:
    """Of every module of the package, by its path: what processes ran, and what none of them did."""
    every = Slipcover(branch=True, source=[str(package)], exclude_also=list(EXCLUDED))
    files = {str(Path(path).resolve()): one for path, one in every.get_coverage()["files"].items()}
    ran: dict[str, tuple[set[int], set[tuple[int, int]]]] = {path: (set(), set()) for path in files}
    for part in folder.glob("*.json"):
        for path, (lines, branches) in json.loads(part.read_text("utf-8")).items():
            ran[path][0].update(lines)
            ran[path][1].update((one, other) for one, other in branches)
    return {path: entry_of(one["missing_lines"], one["missing_branches"], *ran[path]) for path, one in files.items()}


def entry_of(
    lines: list[int], branches: list[tuple[int, int]], ran: set[int], taken: set[tuple[int, int]]
) -> dict[str, Any]:
    """What of a module's lines and branches ran, in numbers, and which did not."""
    missing_lines = [one for one in lines if one not in ran]
    missing_branches = [one for one in branches if one not in taken]
    return {
        "missing_lines": missing_lines,
        "missing_branches": missing_branches,
        "summary": {
            "num_statements": len(lines),
            "covered_lines": len(lines) - len(missing_lines),
            "num_branches": len(branches),
            "covered_branches": len(branches) - len(missing_branches),
        },
    }


def module_of(path: str) -> str:
    """Name of a module within the package, with slashes."""
    parts = PurePosixPath(path.replace("\\", "/")).with_suffix("").parts
    return "/".join(parts[len(parts) - parts[::-1].index(PACKAGE) :])


def rooms_of(files: Mapping[str, Any]) -> dict[str, list[str]]:
    """Modules by room; the floors beneath the rooms each stand for themselves."""
    rooms: dict[str, list[str]] = defaultdict(list)
    for module in files:
        rooms[module.split("/")[0]].append(module)
    return rooms


def floor_of(module: str) -> float:
    """Least percent of a module."""
    if module in LOWERED:
        return LOWERED[module][0]
    pure = any(module == one or module.startswith(f"{one}/") for one in PURE)
    return 100.0 if pure else FLOOR


def below(files: Mapping[str, Any]) -> list[str]:
    """A line for every module below its floor, with the lines and branches that no test ran."""
    faults = []
    for module, entry in sorted(files.items()):
        found = percent(entry["summary"])
        if found < floor_of(module):
            lines = ", ".join(str(line) for line in entry["missing_lines"])
            branches = ", ".join(f"{one}→{other}" for one, other in entry["missing_branches"])
            faults.append(f"{module}: {found:.1f} % of {floor_of(module):.0f} %; lines {lines}; branches {branches}")
    return faults


def stale(files: Mapping[str, Any]) -> list[str]:
    """A line for every name in the lists above that no module has any more."""
    modules = {module_of(path) for path in files}
    known = modules | {name.rsplit("/", 1)[0] for name in modules}
    return [f"{name}: no such module" for name in (*PURE, *LOWERED, *LEFT_OUT) if name not in known]


def percent(summary: Mapping[str, int]) -> float:
    """Statements and branches that ran, of all."""
    return share([summary])


def share(summaries: list[Any]) -> float:
    """Statements and branches that ran, of all, over several modules."""
    ran = sum(one["covered_lines"] + one["covered_branches"] for one in summaries)
    every = sum(one["num_statements"] + one["num_branches"] for one in summaries)
    return 100.0 if every == 0 else 100.0 * ran / every


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
