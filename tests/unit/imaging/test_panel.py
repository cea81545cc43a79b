"""The panel of the key image: every number is true, and what has no room is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dicomnode import coding
from dicomnode.findings import Detection, Evaluation, Measurement
from dicomnode.imaging import panel
from dicomnode.imaging.panel import Panel, Texts
from tests.unit.imaging.test_render import findings_of

BOX = (900, 110, 1240, 916)


class Paper:
    """A drawing that remembers its words."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.lowest = 0.0
        self.colours: list[Any] = []

    def rounded_rectangle(self, _box: Any, *, fill: Any, **_: Any) -> None:
        self.colours.append(fill)

    def text(self, at: Any, words: str, **_: Any) -> None:
        self.words.append(words)
        self.lowest = max(self.lowest, at[1])

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def written(findings: Any, unseen: Any = frozenset()) -> Paper:
    paper = Paper()
    Panel(paper, Texts(), {1: (1, 2, 3), 2: (4, 5, 6)}, unseen).write(findings, BOX)
    assert paper.lowest <= BOX[3]
    return paper


@pytest.mark.parametrize(
    ("volume", "words"),
    [(3133.4, "3133"), (99.96, "100.0"), (19.94, "19.9"), (1.829, "1.83"), (0.1055, "0.105"), (0.0127, "0.0127"),
     (0.00049, "0.0005"), (0.00001, "<0.0001"), (0.0, "0")],
)  # fmt: skip
def test_a_small_volume_does_not_become_zero(volume: float, words: str) -> None:
    one = Measurement(concept=coding.VOLUME, value=volume, unit=coding.MILLILITRE)
    full = findings_of()
    assert words in written(replace(full, regions=(replace(full.regions[0], measurements=(one,)),))).words


def test_regions_without_room_are_counted() -> None:
    full = findings_of()
    many = tuple(replace(full.regions[0], label=f"A vertebra with a name that is long, number {n}") for n in range(100))
    words = written(replace(full, regions=many)).words
    shown = [one for one in words if "vertebra" in one]
    assert len(shown) > 20
    assert len(set(shown)) == len(shown), "cut names can be told apart"
    assert f"and {100 - len(shown)} more" in words


def test_a_long_name_has_a_line_of_its_own_and_a_longer_one_keeps_both_ends() -> None:
    full = findings_of()
    assert "Left lung with an absurdly long name" in written(full).words
    endless = replace(full.regions[0], label="Beginning " + "w" * 50 + " end")
    (name,) = [one for one in written(replace(full, regions=(endless,))).words if one.startswith("Beginning")]
    assert name.endswith("end")
    assert ".." in name


def test_the_legend_has_the_colour_of_each_segment_and_none_of_a_total() -> None:
    assert written(findings_of()).colours == [(1, 2, 3), (4, 5, 6)]


def test_a_region_that_no_view_shows_is_marked() -> None:
    words = written(findings_of(), frozenset({2})).words
    assert "Left lung with an absurdly long name †" in words
    assert "† in none of these views" in words
    assert "Right lung" in words


def test_what_was_found_without_a_region_is_told() -> None:
    bare = findings_of(regions=False)
    judged = Evaluation(concept=coding.LUNG, value=coding.sct("52101004", "Present"), probability=0.934)
    nodule = Detection(
        number=1,
        label="Nodule 1",
        finding=coding.sct("27925004", "Nodule"),
        site=None,
        position=(0, 0, 0),
        diameter_mm=8,
    )
    words = written(replace(bare, evaluations=(judged,), detections=(nodule,))).words
    assert "Nothing found" not in words
    assert "Lung: Present (93 %)" in words
    assert "Nodule 1: Nodule 8.0 mm" in words
    assert "Nothing found" in written(bare).words
    many = replace(findings_of(remarks=("A remark.",)), detections=(nodule,) * 40)
    words = written(many).words
    count = words.count("Nodule 1: Nodule 8.0 mm")
    assert 0 < count < 40
    assert f"and {40 - count} more" in words
    assert "A remark." in words


def test_words_are_cut_to_nothing_in_the_end() -> None:
    assert panel._fitted("wide", 0) == "w.."
    assert panel._fitted("", 10) == ""
