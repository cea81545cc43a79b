from __future__ import annotations

import re
import tomllib
from itertools import pairwise

from pydantic import BaseModel

from dicomnode.cli.template import render
from dicomnode.config import Config, parse
from dicomnode.network_sections import PeerRule
from dicomnode.routing_rules import RoutingRule
from dicomnode.sections import Destination, FolderSection

TEXT = render()


def uncommented() -> str:
    """The template with every setting switched on."""
    return re.sub(r"^#(?=\w+ = |\[\[)", "", TEXT, flags=re.MULTILINE)


def test_as_written_it_is_the_defaults() -> None:
    assert parse(tomllib.loads(TEXT)) == Config()


def test_every_setting_uncommented_is_accepted() -> None:
    data = tomllib.loads(uncommented())
    (export,) = data["exports"]
    places = {"into", "s3", "url"} & set(export)
    assert places >= {"into", "url"}
    for place in places:  # an export goes to one of them
        others = places - {place} | ({"authorization_file"} if place != "url" else set())
        alone = {name: value for name, value in export.items() if name not in others}
        tree = parse({**data, "exports": [alone]})
    assert len(tree.destinations) == 1
    assert set(data) == set(Config.model_fields)
    assert set(data["destinations"][0]) == set(Destination.model_fields)
    assert set(data["peers"][0]) == set(PeerRule.model_fields)
    assert set(data["folders"][0]) == set(FolderSection.model_fields)
    assert set(data["rules"][0]) == set(RoutingRule.model_fields)
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            assert set(data[name]) == set(section.model_fields), name


def test_what_is_written_as_a_default_is_the_default() -> None:
    data = tomllib.loads(uncommented())
    for name, field in Config.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            for setting, about in section.model_fields.items():
                if about.default not in (None, ()) and not about.is_required():
                    written = data[name][setting]
                    if isinstance(about.default, BaseModel):
                        written = type(about.default).model_validate(written)
                    if isinstance(about.default, tuple):
                        written = tuple(written)
                    assert written == about.default, f"{name}.{setting}"


def test_every_setting_is_explained_in_the_line_above() -> None:
    lines = TEXT.splitlines()
    for above, line in pairwise(lines):
        if re.match(r"#\w+ = ", line):
            assert above.startswith("# "), line
