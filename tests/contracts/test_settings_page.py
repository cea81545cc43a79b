"""`settings.md` says of each setting that it names the default that the code has, and its examples are configurations.

So do the other papers' examples; and every row of a table has as many cells as its head.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest
from pydantic import BaseModel

from dicomnode.cli.template import BLOCKS
from dicomnode.config import Config, DeidentificationSection, parse
from dicomnode.deidentification.policy import POLICIES
from dicomnode.site_rules import DeviceRule

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "deploy" / "docs"
PAGE = (DOCS / "settings.md").read_text("utf-8")
PAPERS = sorted({*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("models/*/*.md"), *ROOT.glob("systemd/*.md")})
#: Sections of which the page names every setting.
WHOLE = {"[completion]", "[retrieval]", "[delivery]", "[retention]", "[loop_guard]", "[flood_guard]"}
#: The table whose defaults are those of the two policies.
POLICY_TABLE = "of `[deidentification.ai]` and `[deidentification.export]`"
UNITS: Final[Mapping[str, int]] = MappingProxyType(
    {"minute": 60, "hour": 3600, "day": 86_400, "MiB": 1 << 20, "GiB": 1 << 30}
)


def cells(row: str) -> list[str]:
    """Cells of a row of a table, as Markdown divides it."""
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def tables(text: str) -> Iterator[list[str]]:
    """Tables of a paper, each as its rows; what stands in a block of code is none."""
    lines = iter(re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL).splitlines())
    for line in lines:
        if line.startswith("|"):
            yield [line, *takewhile(lambda one: one.startswith("|"), lines)]


def section(head: str) -> type[BaseModel]:
    """The model of a section that is named as in a configuration."""
    name = head.strip("[]")
    blocks = {**BLOCKS, "deidentification.devices": DeviceRule}
    model = blocks[name] if head.startswith("[[") else Config.model_fields[name].annotation
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return model


def rows() -> dict[str, dict[str, str]]:
    """What the page says: section, setting, cell of the default."""
    found: dict[str, dict[str, str]] = {}
    for table in tables(PAGE):
        head = cells(table[0])[0].strip("`")
        if head == POLICY_TABLE.strip("`"):
            continue
        found.setdefault(head, {}).update({cells(row)[0].strip("`"): cells(row)[1] for row in table[2:]})
    return found


def test_the_default_of_each_setting_is_that_of_the_code() -> None:
    assert sum(map(len, rows().values())) > 50
    for head, settings in rows().items():
        fields = section(head).model_fields
        for name, said in settings.items():
            match = re.fullmatch(r"`(.+?)`(?: \(([0-9]+) (\w+)\))?|none", said)
            assert match, (head, name, said)
            default = list(fields[name].default) if isinstance(fields[name].default, tuple) else fields[name].default
            assert (tomllib.loads(f"value = {match[1]}")["value"] if match[1] else None) == default, (head, name)
            if match[3]:
                assert int(match[2]) * UNITS[match[3].removesuffix("s")] == default, (head, name)


def test_no_setting_of_these_sections_is_left_out() -> None:
    assert set(rows()) >= WHOLE
    for head in WHOLE:
        assert set(rows()[head]) == set(section(head).model_fields), head


def test_the_settings_of_policies_are_those_of_the_code() -> None:
    (table,) = (one for one in tables(PAGE) if cells(one[0])[0] == POLICY_TABLE)
    names = [name.strip("`") for name in cells(table[0])[1:3]]
    said = {
        name: {cells(row)[0].strip("`"): json.loads(cells(row)[column].strip("`")) for row in table[2:]}
        for column, name in enumerate(names, 1)
    }
    assert said == {name: policy.settings for name, policy in POLICIES.items()}
    assert set(rows()["[deidentification]"]) | set(names) == set(DeidentificationSection.model_fields)


@pytest.mark.parametrize("name", ["settings.md", "install.md"])
def test_examples_are_configurations(name: str) -> None:
    examples = re.findall(r"^```toml\n(.*?)^```", (DOCS / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(examples) > 4
    first = re.findall(r"^```toml\n(.*?)^```", (DOCS / "install.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]
    for example in examples:
        given = tomllib.loads(example.replace('"…"', f'"{64 * "0"}"'))  # the digest of a token
        base = {} if example == first else tomllib.loads(first)
        for what in base.keys() & given.keys():  # further blocks of the same kind, or the same block with more in it
            if isinstance(base[what], list):
                named = {block["name"] for block in given[what]}
                given[what] = [block for block in base[what] if block["name"] not in named] + given[what]
        parse({**base, **given})


def test_who_installs_the_node_finds_the_page() -> None:
    assert "(deploy/docs/settings.md)" in (ROOT / "README.md").read_text("utf-8")
    assert "(settings.md)" in (DOCS / "install.md").read_text("utf-8")


@pytest.mark.parametrize("paper", PAPERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_rows_of_a_table_have_as_many_cells_as_its_head(paper: Path) -> None:
    for table in tables(paper.read_text("utf-8")):
        assert [row for row in table if len(cells(row)) != len(cells(table[0]))] == []
