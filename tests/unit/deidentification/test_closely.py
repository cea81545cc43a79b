"""`look_at_every_image = "closely"`: slices as scanners make them are read too, and found in them is what the quick search passes by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.config import parse
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.inks import has_ink
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.reader import Picture, Reader, Text, installed_reader
from dicomnode.deidentification.strokes import has_strokes
from dicomnode.encoded import Limits, read_part10
from dicomnode.errors import StudyError
from dicomnode.service.policies import notes_of_policies, policy_of
from tests.unit.deidentification import planted
from tests.unit.deidentification.pictures import Silent
from tests.unit.deidentification.test_inks import SIZE, Slice, ink_of, slice_of, tissue, written

CLOSELY = replace(EXPORT, closely=True)
#: Letters that are dim, smooth and let tissue through: legible, and of no value of their own.
TISSUE = tissue(3, noise=4)
SHARE = ink_of("DOE^JANE 1951", 18)
LEGIBLE: Slice = np.asarray((TISSUE + 0.6 * SHARE * (1400.0 - TISSUE)).round(), np.uint16)


def output(image: Slice, policy: Policy, reader: Reader | None) -> Dataset:
    engine = FileDeidentifier(Deidentifier(policy, Pseudonyms(bytes(range(32)), "project"), reader=reader), Limits())
    return read_part10(engine.deidentify(planted.encoded(slice_of(image))).data, Limits())


def pixels(dataset: Dataset) -> Slice:
    return np.frombuffer(dataset.PixelData, "<u2").reshape(SIZE, SIZE)


def test_what_the_quick_search_passes_by_is_read_and_blanked() -> None:
    reader = installed_reader()
    assert not has_strokes(LEGIBLE)
    assert not has_ink(LEGIBLE)
    assert np.array_equal(pixels(output(LEGIBLE, EXPORT, reader)), LEGIBLE)
    left = pixels(output(LEGIBLE, CLOSELY, reader))
    assert len(np.unique(left[SHARE > 0.5])) == 1
    assert np.array_equal(left[:60], LEGIBLE[:60])
    assert np.array_equal(left[180:], LEGIBLE[180:])


def test_where_nobody_reads_lines_of_letters_hold_it_back() -> None:
    with pytest.raises(StudyError) as caught:
        output(LEGIBLE, CLOSELY, None)
    assert (caught.value.code, caught.value.facts["because"]) == ("withheld-pixels", "strokes")
    assert np.array_equal(pixels(output(TISSUE, CLOSELY, None)), TISSUE)


def test_every_slice_is_read_whatever_went_before_it() -> None:
    class Counting(Silent):
        asked = 0

        def read(self, picture: Picture) -> list[Text]:
            Counting.asked += 1
            return super().read(picture)

    for policy, least in ((CLOSELY, 3), (EXPORT, 0)):
        Counting.asked = 0
        engine = FileDeidentifier(
            Deidentifier(policy, Pseudonyms(bytes(range(32)), "project"), reader=Counting()), Limits()
        )
        done = [engine.deidentify(planted.encoded(slice_of(tissue(seed)))) for seed in (1, 2, 3)]
        assert Counting.asked >= least
        assert (Counting.asked > 0, done[-1].quick) == ((least > 0), not least)


def test_letters_that_a_reader_leaves_are_blanked_as_lines() -> None:
    left = pixels(output(written(1400, size=20, smooth=True, on=TISSUE), CLOSELY, Silent()))
    assert len(np.unique(left[ink_of("DOE^JANE 1951", 20) > 0.5])) == 1


@pytest.mark.parametrize("name", ["ai", "export"])
def test_a_site_asks_for_it(name: str) -> None:
    policy = policy_of(parse({"deidentification": {name: {"look_at_every_image": "closely"}}}), name)
    assert (policy.look_at_every_image, policy.closely, policy.settings["look_at_every_image"]) == (
        True,
        True,
        "closely",
    )
    searched = policy_of(parse({"deidentification": {name: {"look_at_every_image": True}}}), name)
    assert (searched.closely, searched.settings["look_at_every_image"]) == (False, True)


def test_a_network_that_sees_other_images_gives_results_of_its_own() -> None:
    assert replace(AI, look_at_every_image=True, closely=True).changes(reads=True) == {"look_at_every_image": "closely"}


def test_a_site_is_told_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = parse({"deidentification": {"export": {"look_at_every_image": "closely"}}})
    for reads in (True, False):
        monkeypatch.setattr(
            "dicomnode.service.policies.installed_reader", lambda reads=reads: object() if reads else None
        )
        assert any("nobody reads (extra ocr)" in note for note in notes_of_policies(tree)) is not reads
