from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pydicom.datadict import tag_for_keyword

from dicomnode.identity import IDENTITY_KEYWORDS, SourceIdentity, is_valid_uid

IDENTITY = SourceIdentity(
    attributes={"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Müller^Jürgen"}]}}, uids={"2.25.1": "1.2.3"}
)


def test_an_identity_survives_json_whole() -> None:
    assert SourceIdentity.from_json(json.loads(json.dumps(IDENTITY.to_json()))) == IDENTITY


def test_an_identity_does_not_show_itself() -> None:
    assert repr(IDENTITY) == "SourceIdentity()"


def test_every_keyword_is_of_the_standard_and_stands_once() -> None:
    assert all(tag_for_keyword(keyword) for keyword in IDENTITY_KEYWORDS)
    assert len(set(IDENTITY_KEYWORDS)) == len(IDENTITY_KEYWORDS)


@pytest.mark.parametrize("uid", ["1.2", "0.0", "2.25.0", "1.2.840.10008.5.1.4.1.1.2", "1." + "2" * 62])
def test_a_uid(uid: str) -> None:
    assert is_valid_uid(uid)


@pytest.mark.parametrize("uid", ["", "1", "1.", ".1", "1..2", "1.02", "01.2", "1.00", "1.a", "1.2\n", "1." + "2" * 63])
def test_no_uid(uid: str) -> None:
    assert not is_valid_uid(uid)


def test_the_uids_of_a_source_that_break_the_rule_are_counted() -> None:
    assert IDENTITY.invalid_uids == 0
    assert replace(IDENTITY, uids={"2.25.1": "1.2.3", "2.25.2": "1.2.03", "2.25.3": "1.2.04"}).invalid_uids == 2
