"""Letters of one value in slices as scanners make them, dim, dark, turned: held on both ways; noise, cut-off air and metal are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from dicomnode.deidentification import burned, inks, unflagged
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.inks import has_ink
from dicomnode.deidentification.policy import AI, EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.strokes import has_strokes
from dicomnode.encoded import Limits
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted
from tests.unit.deidentification.pictures import Silent

SIZE = 256
Slice = NDArray[np.uint16]


def tissue(seed: int = 1, *, noise: float = 12.0) -> Slice:
    """A round body of soft tissue in air, a dense bone in it, air cut off at 0."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    values = np.where(np.hypot(x, y * 1.2) < 110, 1040 + 20 * np.sin(x / 25), 15) + rng.normal(0, noise, (SIZE, SIZE))
    values[np.hypot(x, y - 60) < 12] += 1200
    return values.round().clip(0, 4095).astype(np.uint16)


def ink_of(words: str, size: int, *, turned: bool = False) -> NDArray[np.float64]:
    picture = Image.new("L", (SIZE, SIZE))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(picture).text((60, 110), words, fill=255, font=font)
    ink = np.asarray(picture) / 255.0
    return ink.T if turned else ink


def written(
    value: int, *, size: int = 14, turned: bool = False, smooth: bool = False, on: Slice | None = None
) -> Slice:
    ink = ink_of("DOE^JANE 1951", size, turned=turned)
    share = ink if smooth else (ink > 0.5).astype(float)
    under = tissue() if on is None else on
    return np.asarray((share * value + (1 - share) * under).round(), np.uint16)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("value", "size"), [(1120, 14), (1400, 12), (1400, 20), (2100, 14), (700, 14), (0, 14)])
def test_letters_of_any_one_value_are_found(value: int, size: int, turned: bool) -> None:
    image = written(value, size=size, turned=turned)
    assert not has_strokes(image)  # they are not the brightest
    assert has_ink(image)


@pytest.mark.parametrize("phase", range(6))
def test_small_letters_are_found_in_any_row_and_in_blocks(phase: int) -> None:
    """Letters of six rows and lines a row apart, which few of the rows that are asked first meet."""
    font = ImageFont.load_default_imagefont()
    for lines in (1, 6, 7):
        picture = Image.new("1", (SIZE, SIZE))
        for number in range(lines):
            ImageDraw.Draw(picture).text((50, 90 + phase + 7 * number), "DOE JANE ID 4471 1951", fill=1, font=font)
        ink = np.asarray(picture)
        assert np.flatnonzero(ink.any(axis=1)).tolist()[-1] - 90 - phase <= 7 * lines + 2
        assert has_ink(np.where(ink, 1400, tissue()).astype(np.uint16))
        assert has_ink(np.where(ink.T, 1400, tissue()).astype(np.uint16))


@pytest.mark.parametrize(("value", "size"), [(1500, 14), (1300, 18), (0, 18)])
def test_smooth_letters_have_a_core_of_one_value(value: int, size: int) -> None:
    assert has_ink(written(value, size=size, smooth=True))


def test_signed_slices_and_such_of_all_16_bits() -> None:
    image = written(1400)
    assert has_ink(image.astype(np.int16) - 1024)
    wide = image.astype(np.int32)
    wide[:6, :40] = 65_535
    assert has_ink(wide.astype(np.uint16))
    assert has_ink((wide - 32_768).astype(np.int16))


@pytest.mark.parametrize("divided", [1, 4, 16, 64])
def test_tissue_noise_and_few_greys_are_no_letters(divided: int) -> None:
    grounds = [tissue(seed, noise=noise) for seed, noise in enumerate((3.0, 12.0, 40.0, 150.0))]
    grounds.append(np.random.default_rng(7).normal(1000, 200, (SIZE, SIZE)).clip(0, 4095).astype(np.uint16))
    assert not any(has_ink(ground // divided) for ground in grounds)
    assert not has_ink(np.full((8, 8), 3, np.uint16))
    for shape in ((1, 2), (2, 1), (40, 1), (1, 40), (5, 5)):
        assert not has_ink(np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape))


def test_cut_off_air_beside_bronchi_and_metal_are_no_letters() -> None:
    rng = np.random.default_rng(5)
    lungs = tissue(6)
    lungs[60:200, 60:200] = (rng.normal(150, 60, (140, 140)) * (rng.random((140, 140)) > 0.2)).clip(0).astype(np.uint16)
    metal = tissue(7)
    streaks = rng.integers(20, 236, (60, 2))
    for row, column in streaks:
        metal[row, column : column + 3] = 3000
    stripes = tissue(8)
    stripes[:, 40:216:11] = 1400  # a ruler of wires: strokes beside one another that no line ends
    assert not any(map(has_ink, (lungs, metal, stripes)))


def test_a_slice_of_a_thousand_values_is_not_asked_about_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strokes close together, each group of a value of its own: every question costs a pass over all pixels."""
    image = np.zeros((512, 512), np.uint16)
    image[256:] = 60000
    for row in range(0, 252, 18):
        for column in range(8, 480, 32):
            for stroke in (column, column + 8):
                image[row : row + 18, stroke : stroke + 2] = 30000 + 64 * row + column
    asked: list[object] = []
    monkeypatch.setattr(inks, "_is_written", lambda *some: bool(asked.append(some)))
    assert has_ink(image)
    assert len(asked) <= 32


def slice_of(image: Slice) -> Dataset:
    ds = planted.slice_of_ct(SIZE, SIZE)
    ds.PixelData = image.astype("<u2").tobytes()
    return ds


def reason(ds: Dataset, files: FileDeidentifier) -> object:
    try:
        return files.deidentify(planted.encoded(ds)).quick
    except StudyError as error:
        return error.facts["because"]


@pytest.mark.parametrize("value", [1400, 0])
def test_such_a_slice_is_held_behind_others_that_went_the_quick_way(value: int) -> None:
    files = FileDeidentifier(Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")), Limits())
    order = (written(value), tissue(2), tissue(3), written(value), tissue(4))
    assert [reason(slice_of(image), files) for image in order] == ["strokes", False, True, "strokes", True]
    within = FileDeidentifier(Deidentifier(AI, Pseudonyms(bytes(range(32)), "project")), Limits())
    assert reason(slice_of(written(value)), within) is False  # in the house the patient's result goes first


def test_a_derived_slice_is_searched_no_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unflagged, "faint_lines", lambda image: iter(()))
    files = FileDeidentifier(Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")), Limits())
    for image, expected in ((tissue(2), False), (written(1400), "strokes")):
        ds = slice_of(image)
        ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
        assert reason(ds, files) == expected


def test_big_endian_slices_are_looked_at_alike() -> None:
    engine = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project"))
    files = FileDeidentifier(engine, Limits())
    for image, held in ((written(1400), True), (tissue(2), False)):
        ds = slice_of(image)
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
        ds.PixelData = image.astype(">u2").tobytes()
        data = planted.encoded(ds, "1.2.840.10008.1.2.2")
        if held:
            with pytest.raises(StudyError, match="withheld-pixels"):
                files.deidentify(data)
        else:
            assert files.deidentify(data).data


def test_what_a_reader_leaves_is_withheld(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project"), reader=Silent())
    files = FileDeidentifier(engine, Limits())
    assert reason(slice_of(written(1400)), files) is False  # blanked as lines of letters
    monkeypatch.setattr(burned, "letter_boxes", lambda frames, dataset: [])
    assert reason(slice_of(written(1400)), files) == "strokes"


def test_localizers_are_searched_for_faint_letters_on_both_ways() -> None:
    faint = written(1100, smooth=True)
    files = FileDeidentifier(Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")), Limits())
    ordinary = slice_of(faint)
    assert not has_ink(faint)
    assert [reason(one, files) for one in (ordinary, ordinary)] == [False, True]
    ordinary.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    assert reason(ordinary, files) == "strokes"
    ordinary.PixelData = tissue(9).astype("<u2").tobytes()
    assert reason(ordinary, files) is False
