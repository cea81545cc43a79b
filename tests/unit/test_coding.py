from __future__ import annotations

import pytest

from dicomnode import coding
from dicomnode.coding import CodedConcept


@pytest.mark.parametrize(
    "parts",
    [
        ("", "SCT", "x"),
        ("1", "", "x"),
        ("1", "SCT", ""),
        ("1" * 17, "SCT", "x"),
        ("1", "S" * 17, "x"),
        ("1", "SCT", "x" * 65),
    ],
)
def test_a_part_that_does_not_fit_its_vr_is_refused(parts: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match="a code's part"):
        CodedConcept(*parts)


def test_the_longest_parts_fit() -> None:
    assert CodedConcept("1" * 16, "S" * 16, "x" * 64).meaning == "x" * 64


def test_each_maker_names_its_scheme() -> None:
    assert coding.sct("1", "x").scheme == "SCT"
    assert coding.dcm("1", "x").scheme == "DCM"
    assert coding.private("1", "x").scheme == "99DICOMNODE"
    assert coding.ucum("mm") == CodedConcept("mm", "UCUM", "mm")
    assert coding.ucum("mm", "millimeter").meaning == "millimeter"


def test_no_two_concepts_of_the_house_share_a_code() -> None:
    concepts = [value for value in vars(coding).values() if isinstance(value, CodedConcept)]
    assert len(concepts) > 10
    assert len({(one.scheme, one.value) for one in concepts}) == len(concepts)
