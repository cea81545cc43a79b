"""Recipe of the tables in dicomnode/deidentification/tables: facts of the standard in the form that the engine reads.

Usage: python deploy/recipes/deidentification_tables.py FACTS, where FACTS is the folder with the CSV files that
tables/README names. Needs highdicom (for the attribute types) and dciodvfy (for the terms of Code Strings).
"""

from __future__ import annotations

import csv
import importlib
import json
import pkgutil
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import EnumMeta
from importlib import resources
from pathlib import Path

import highdicom
from pydicom.datadict import DicomDictionary, keyword_for_tag

TABLES = Path(__file__).resolve().parents[2] / "dicomnode" / "deidentification" / "tables"
#: Columns of the options in Table E.1-1, with the letter that stands for each in our table.
OPTIONS = {
    "rtnSafePrivOpt": "p",
    "rtnUIDsOpt": "u",
    "rtnDevIdOpt": "d",
    "rtnInstIdOpt": "i",
    "rtnPatCharsOpt": "c",
    "rtnLongFullDatesOpt": "f",
    "rtnLongModifDatesOpt": "m",
    "cleanDescOpt": "e",
    "cleanStructContOpt": "s",
    "cleanGraphOpt": "g",
}
CONTENT_OPTIONS = {
    "Rtn. UIDs Opt.": "u",
    "Rtn. Dev. Id. Opt.": "d",
    "Rtn. Inst. Id. Opt.": "i",
    "Rtn. Pat. Chars. Opt.": "c",
    "Rtn. Long. Full Dates Opt.": "f",
    "Rtn. Long. Modif. Dates Opt.": "m",
    "Clean Desc. Opt.": "e",
}
#: Rows of edition 2025c that 2024e lacks.
ADDED = (("00102161", "X", ""), ("00102162", "X", ""))
TEXT_VRS = frozenset({"LO", "LT", "SH", "ST", "UT", "UC", "UR", "PN", "AE", "CS", "DS", "IS", "AS", "DA", "DT", "TM"})
#: Parts of a coded concept: the engine treats the concept as a whole.
CODE_KEYWORDS = frozenset(
    {
        "CodeValue",
        "LongCodeValue",
        "URNCodeValue",
        "CodeMeaning",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "MappingResource",
        "ContextIdentifier",
    }
)
#: Strings of constants of a program, from zero byte to zero byte, that have the form of a term.
CODE_STRING = re.compile(r"[A-Z][A-Z0-9_ ]{1,15}")
TERM = re.compile(rb"(?<=\x00)[A-Z][A-Z0-9_ ]{1,14}[A-Z0-9](?=\x00)")


def write(name: str, header: str, rows: Iterable[tuple[str, ...]]) -> None:
    """Write one table, sorted, with Unix line ends."""
    lines = [header, *sorted({";".join(row) for row in rows})]
    (TABLES / name).write_text("\n".join(lines) + "\n", "utf-8")


def options(row: dict[str, str], columns: dict[str, str]) -> str:
    """Letters of the options that say something about a row: upper case for K, lower case for C."""
    letters = (letter.upper() if row[column] == "K" else letter for column, letter in columns.items() if row[column])
    return "".join(letters)


def profile(facts: Path) -> Iterator[tuple[str, str, str]]:
    """Rows of Table E.1-1: tag pattern, action, options."""
    with (facts / "ps315_E1-1_2024e.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            tag = "private" if "odd" in row["tag"] else row["tag"].lower()
            yield tag, row["basicProfile"], options(row, OPTIONS)
    yield from ADDED


def safe_private(facts: Path) -> Iterator[tuple[str, str, str, str]]:
    """Rows of Table E.3.10-1: creator, group, element, VR."""
    with (facts / "safe_private_E3.10_2023b.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            group, element = re.fullmatch(r"\(([0-9A-F]{4}),xx([0-9A-Fa-f]{2})\)", row["Data Element"].strip()).groups()
            yield row["Private Creator"].strip(), group.lower(), element.lower(), row["VR"].strip()


def content(facts: Path) -> Iterator[tuple[str, str, str, str, str]]:
    """Rows of Table E.3.4-1: scheme, code, value type, action, options."""
    with (facts / "sr_content_E3.4-1_2023b.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            parts = (row["Coding Scheme Designator"], row["Code Value"], row["Value Type"], row["Basic Prof."])
            yield (*(part.strip() for part in parts), options(row, CONTENT_OPTIONS))


def wanted(facts: Path) -> set[str]:
    """Keywords whose type the engine asks for: rows with X, and everything that can carry text."""
    keywords = {
        keyword_for_tag(int(tag, 16))
        for tag, action, _ in profile(facts)
        if "X" in action and tag.isalnum() and "x" not in tag and tag != "private"
    }
    keywords |= {entry[4] for tag, entry in DicomDictionary.items() if entry[0] in TEXT_VRS and tag >> 16 >= 8}
    return keywords - CODE_KEYWORDS - {""}


def types(keywords: set[str]) -> Iterator[tuple[str, str, str, str]]:
    """Attributes of Type 1 or 2: sequence they stand in, keyword, type, SOP Classes ("*" where all agree)."""
    folder = resources.files("highdicom") / "_standard"
    modules, iods, classes = (
        json.loads((folder / f"{name}.json").read_text())
        for name in ("module_attribute_map", "iod_module_map", "sop_class_iod_map")
    )
    found: dict[tuple[str, str], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for sop_class, iod in classes.items():
        strictest: dict[tuple[str, str], str] = {}
        for module in iods[iod]:
            for attribute in modules.get(module["key"], []):
                if attribute["keyword"] in keywords and attribute["type"][:1] in ("1", "2", "3"):
                    key = ((attribute["path"] or [""])[-1], attribute["keyword"])
                    strictest[key] = min(strictest.get(key, "3"), attribute["type"][0])
        for key, kind in strictest.items():
            found[key][kind].add(sop_class)
    for (path, keyword), kinds in found.items():
        for kind, sop_classes in kinds.items():
            if kind != "3":
                where = (
                    "*"
                    if len(kinds) == 1
                    else " ".join(sorted(uid.rpartition("1.2.840.10008.5.1.4.")[2] for uid in sop_classes))
                )
                yield path, keyword, kind, where


def terms() -> Iterator[tuple[str]]:
    """Terms that dciodvfy, DCMTK and highdicom know: the defined and enumerated terms of Code Strings, and a few more."""
    program = shutil.which("dciodvfy") or sys.exit("needs dciodvfy (dicom3tools)")
    libraries = sorted(Path("/usr/lib").glob("*/libdcm*.so.*"))
    for path in (Path(program), *libraries):
        for text in TERM.findall(path.read_bytes()):
            yield (text.decode(),)
    for module in pkgutil.walk_packages(highdicom.__path__, "highdicom."):
        if module.name.endswith("enum"):
            for kind in vars(importlib.import_module(module.name)).values():
                if isinstance(kind, EnumMeta):
                    yield from ((str(member.value),) for member in kind if CODE_STRING.fullmatch(str(member.value)))


def main(facts: Path) -> None:
    """Write every table."""
    write("profile.csv", "tag;action;options", profile(facts))
    write("safe_private.csv", "creator;group;element;vr", safe_private(facts))
    write("content.csv", "scheme;code;value_type;action;options", content(facts))
    write("types.csv", "path;keyword;type;sop_classes", types(wanted(facts)))
    write("terms.csv", "term", terms())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
