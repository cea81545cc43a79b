from __future__ import annotations

import json

from pydicom.datadict import tag_for_keyword

from dicomnode.identity import IDENTITY_KEYWORDS, SourceIdentity

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
