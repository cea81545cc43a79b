"""Small smooth letters in slices as scanners make them: found where they are clear, on both ways; edges of tissue, wires and textures are not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from pydicom import dcmread

from dicomnode.deidentification import inks
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.inks import has_ink
from dicomnode.deidentification.policy import EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.strokes import has_strokes
from dicomnode.encoded import Limits
from tests import tools
from tests.unit.deidentification.test_inks import SIZE, Slice, ink_of, reason, slice_of, tissue, written

SIZES = (8, 9, 10, 11, 12)


def seen(image: Slice) -> bool:
    return has_strokes(image) or has_ink(image)


@pytest.mark.parametrize("value", [4000, 2200, 0])
@pytest.mark.parametrize("size", SIZES)
def test_small_smooth_letters_that_are_clear_are_found(value: int, size: int) -> None:
    assert all(has_ink(written(value, size=size, smooth=True, on=tissue(3, noise=noise))) for noise in (4, 12, 30))


def test_the_looks_before_this_one_find_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inks, "has_small_letters", lambda *args, **kwargs: False)
    missed = [
        (value, size) for value in (4000, 0) for size in SIZES if not seen(written(value, size=size, smooth=True))
    ]
    assert {(4000, 8), (4000, 9), (0, 8), (0, 9), (0, 10), (0, 11)} <= set(missed)


@pytest.mark.parametrize("row", range(5))
def test_they_are_found_in_any_row_and_at_every_border(row: int) -> None:
    share = ink_of("SMITH ADAM", 9)
    rows, columns = (np.flatnonzero(share.any(axis=axis)) for axis in (1, 0))
    word = share[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    high, wide = word.shape
    for top, left in itertools.product((1 + row, 100 + row, SIZE - high - 6 + row), (1, 90, SIZE - wide - 1)):
        image = tissue(4).astype(float)
        place = image[top : top + high, left : left + wide]
        place += word * (3500 - place)
        assert has_ink(image.round().astype(np.uint16)), (top, left)


def test_textures_wires_and_combs_are_no_letters() -> None:
    rng = np.random.default_rng(11)
    comb, cells, dots = (tissue(seed) for seed in (5, 6, 7))
    comb[60:200, 40:200:4] = rng.normal(3000, 60, (140, 40))
    cells[80:160, 80:160] = np.kron(rng.integers(0, 2, (40, 40)) * 2500, np.ones((2, 2)))
    dots[60:200, 40:200] = np.where(rng.random((140, 160)) < 0.2, rng.normal(3000, 60, (140, 160)), 1000)
    assert not any(map(has_ink, (comb, cells, dots)))
    assert not seen(rng.normal(1000, 300, (SIZE, SIZE)).clip(0, 4095).astype(np.uint16))


def test_signed_and_whole_values() -> None:
    image = written(3500, size=9, smooth=True)
    assert has_ink(image.astype(np.int16) - 1024)
    wide = image.astype(np.int32) * 16
    assert has_ink(wide.clip(0, 65_535).astype(np.uint16))
    assert has_ink((wide - 32_768).clip(-32_768, 32_767).astype(np.int16))


def test_both_ways_withhold_them() -> None:
    files = FileDeidentifier(Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")), Limits())
    clean = slice_of(tissue(9))
    assert [reason(clean, files), reason(clean, files)] == [False, True]  # the second one by the quick way
    assert reason(slice_of(written(3500, size=9, smooth=True)), files) == "strokes"


def test_real_slices_are_not_held_and_letters_in_them_are_found() -> None:
    folder = tools.shared_data_set("ct_thorax_siemens105_rtstruct")
    images = [dcmread(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    slices = [image.pixel_array for image in images if image.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"]
    assert len(slices) == 105
    assert not any(map(has_ink, slices[::4]))
    found = 0
    for number, under in enumerate(slices[2::6]):
        share = ink_of("DOE^JANE 1951", SIZES[number % len(SIZES)])
        image = under.astype(float)
        place = image[:SIZE, :SIZE]
        place += share * (max(int(under.max()), 3000) - place)
        found += seen(image.round().astype(under.dtype))
    assert found >= 15, found  # of 18
