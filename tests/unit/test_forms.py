from __future__ import annotations

import pytest

from dicomnode.forms import (
    CHAIN,
    SOP_CLASSES,
    Form,
    Variant,
    Wishes,
    chain_of,
    choose,
    choose_outcome,
    missed,
    sop_classes,
)
from dicomnode.study import ResultRole

SEG, SR, BASIC, PDF = (SOP_CLASSES[one] for one in (Form.BINARY, Form.COMPREHENSIVE, Form.BASIC_TEXT, Form.PDF))
KO, SC = SOP_CLASSES[Form.KEY_OBJECTS], SOP_CLASSES[Form.CAPTURE]


def names(wishes: Wishes, *refused: str) -> list[str]:
    return [f"{one.role.value}:{one.name}" for one in choose(wishes, frozenset(refused))]


def test_the_default_is_what_viewers_show() -> None:
    assert names(Wishes()) == [
        "segmentation:binary",
        "report:comprehensive+binary",
        "key-image:capture",
        "key-objects:key-objects",
    ]


@pytest.mark.parametrize(
    ("wishes", "refused", "expected"),
    [
        (Wishes(), [SEG], ["report:comprehensive", "key-image:capture", "key-objects:key-objects"]),
        (Wishes(key_image=False), [SEG], ["report:comprehensive", "key-image:capture", "key-objects:key-objects"]),
        (Wishes(), [SR], ["segmentation:binary", "report:basic-text", "key-image:capture", "key-objects:key-objects"]),
        (Wishes(), [SEG, SR, BASIC, KO], ["report:pdf", "key-image:capture"]),
        (
            Wishes(segmentation=Form.LABELMAP, report=Form.COMPREHENSIVE_3D, key_objects=False),
            [SOP_CLASSES[Form.LABELMAP], SOP_CLASSES[Form.COMPREHENSIVE_3D]],
            ["segmentation:binary", "report:comprehensive+binary", "key-image:capture"],
        ),
        (Wishes(segmentation=Form.RTSTRUCT), [], ["segmentation:rtstruct", "report:comprehensive"]),
        (
            Wishes(segmentation=Form.RTSTRUCT, key_image=False),
            [SOP_CLASSES[Form.RTSTRUCT]],
            ["report:comprehensive", "key-image:capture"],
        ),
        (
            Wishes(segmentation=Form.FRACTIONAL, key_image=False),
            [SEG],
            ["report:comprehensive", "key-image:capture"],
        ),
        (Wishes(segmentation=None, report=None, key_image=False, key_objects=False), [], []),
        (Wishes(document=True, key_objects=False), [SR, BASIC], ["segmentation:binary", "report:pdf"]),
        (Wishes(document=True), [], ["segmentation:binary", "report:comprehensive+binary"]),
    ],
)
def test_the_chain_is_followed(wishes: Wishes, refused: list[str], expected: list[str]) -> None:
    assert names(wishes, *refused)[: len(expected)] == expected


def test_without_fallbacks_what_was_wished_is_tried_and_its_refusal_shows() -> None:
    assert names(Wishes(fallbacks=False), SEG, SR, KO) == [
        "segmentation:binary",
        "report:comprehensive",  # no link to what will not be there
        "key-image:capture",
        "key-objects:key-objects",
    ]


def test_a_chain_that_ends_keeps_what_was_wished() -> None:
    assert names(Wishes(key_objects=False), SEG, SC, SR, BASIC, PDF) == [
        "segmentation:binary",
        "report:comprehensive",
        "key-image:capture",
    ]


def test_what_was_missed_is_told_but_a_lost_link_is_not() -> None:
    wishes = Wishes()
    assert [one.role for one in missed(wishes, choose(wishes, frozenset({SEG})))] == [ResultRole.SEGMENTATION]
    assert missed(wishes, choose(wishes)) == ()
    refused = frozenset({BASIC})
    assert [one.form for one in missed(wishes, choose_outcome(wishes, refused), outcome=True)] == [Form.BASIC_TEXT]


def test_every_chain_ends_and_every_form_has_a_class() -> None:
    assert set(SOP_CLASSES) == set(Form)
    assert set(CHAIN) <= set(Form)
    for form in Form:
        assert len(chain_of(form)) == len(set(chain_of(form)))


def test_a_destination_is_probed_for_all_that_may_go_there() -> None:
    asked = set(sop_classes(Wishes()))
    assert asked == {SEG, SC, SR, BASIC, PDF, KO}


@pytest.mark.parametrize("name", ["binary", "comprehensive+labelmap", "pdf"])
def test_names_turn_back(name: str) -> None:
    assert Variant.of(ResultRole.REPORT, name).name == name
