"""Holds a coverage report (`coverage json`, branches on) against the floors of the house; exits 1 with what is missing.

`make coverage` calls it: ``python tests/coverage_floors.py build/coverage.json``.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

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
#: Reviewed: modules that no floor holds, and why.
LEFT_OUT: dict[str, str] = {
    "__main__": "one call; every test that starts a node in its own process runs it",
}


def main(arguments: list[str]) -> int:
    """Print a table of rooms, then every module below its floor; returns the exit status."""
    report = json.loads(Path(arguments[0]).read_text("utf-8"))
    if not report["meta"]["branch_coverage"]:
        sys.stderr.write("the report holds no branches: run with --cov-branch\n")
        return 1
    files = {module_of(path): entry for path, entry in report["files"].items() if module_of(path) not in LEFT_OUT}
    for room, modules in sorted(rooms_of(files).items()):
        summaries = [files[module]["summary"] for module in modules]
        least = min(percent(files[module]["summary"]) for module in modules)
        sys.stdout.write(f"{room:<20}{len(modules):>3} modules {share(summaries):>6.1f} %   least {least:>6.1f} %\n")
    sys.stdout.write(
        f"{'all':<20}{len(files):>3} modules {share([one['summary'] for one in files.values()]):>6.1f} %\n"
    )
    faults = [*below(files), *stale(report["files"])]
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


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
