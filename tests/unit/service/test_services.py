"""Which services the acceptor offers, and who is asked to commit."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dicomnode.config import Config, parse
from dicomnode.encoded import Limits
from dicomnode.errors import ConfigError
from dicomnode.service.services import committing_destination, services


def tree(**services_section: Any) -> Config:
    names = ("pacs", "research")
    destinations = [{"name": one, "ae_title": one.upper(), "host": "127.0.0.1", "port": 104} for one in names]
    return parse({"destinations": destinations, "services": services_section})


def test_the_first_destination_commits_unless_another_is_named() -> None:
    first, second = committing_destination(tree()), committing_destination(tree(commitment_destination="research"))
    assert (first and first.name, second and second.name) == ("pacs", "research")
    assert committing_destination(parse({})) is None


def test_what_is_reached_by_a_url_is_not_asked() -> None:
    """DICOMweb has no storage commitment."""
    web = {"name": "web", "url": "https://127.0.0.1/dicom-web"}
    both = [web, *tree().model_dump(mode="json", exclude_defaults=True)["destinations"]]
    first = committing_destination(parse({"destinations": both}))
    assert first
    assert first.name == "pacs"
    assert committing_destination(parse({"destinations": [web]})) is None
    with pytest.raises(ConfigError):
        committing_destination(parse({"destinations": both, "services": {"commitment_destination": "web"}}))


def test_a_destination_that_there_is_not_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        committing_destination(tree(commitment_destination="nobody"))
    assert caught.value.facts["setting"] == "services.commitment_destination"


def test_what_is_switched_off_is_not_offered() -> None:
    book = cast("Any", None)
    assert services(tree(procedure_steps=False), Limits(), book, None) == {}
    steps = services(tree(procedure_steps=True), Limits(), book, None)
    both = services(tree(procedure_steps=True), Limits(), book, cast("Any", object()))
    assert steps
    assert set(steps) < set(both)
