"""Writes deploy/docs/licences.md: what the base install brings along, and under which licence each part stands."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: Where the metadata says too little, what the licence files in the package say.
SAID_IN_FILES = {
    "colorama": "BSD-3-Clause",
}


def licence(found: Distribution) -> str:
    """Licence as the package's metadata tell it."""
    meta = found.metadata
    classifiers = [line.split(" :: ")[-1] for line in meta.get_all("Classifier") or [] if line.startswith("License ::")]
    text = (
        meta.get("License-Expression") or "; ".join(classifiers) or (meta.get("License") or "").strip().split("\n")[0]
    )
    return SAID_IN_FILES.get(str(meta["Name"]).lower(), text or "see its files")


def rows() -> list[tuple[str, str, str]]:
    """Name, version and licence of every locked package that is installed here."""
    locked = (ROOT / "requirements.lock").read_text("utf-8")
    found = []
    for name, version in sorted(set(re.findall(r"^([A-Za-z0-9_.-]+)==([^ ;\\\n]+)", locked, re.MULTILINE))):
        try:
            found.append((name, version, licence(distribution(name))))
        except PackageNotFoundError:  # for another system or Python than this one
            found.append((name, version, SAID_IN_FILES.get(name, "not installed on this system")))
    return found


def main() -> None:
    """Write the page."""
    lines = ["# Licences of the base install", "", "Written by `make licences` out of the packages' own metadata.", ""]
    lines += ["| package | version | licence |", "|-|-|-|"]
    lines += [f"| {name} | {version} | {text} |" for name, version, text in rows()]
    (ROOT / "deploy" / "docs" / "licences.md").write_text("\n".join(lines) + "\n", "utf-8")


main()
