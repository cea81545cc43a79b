"""Faint, dark, small, slanted letters where images are looked at closely: found; scans, noise and grids without any are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from dicomnode.deidentification import burned
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.faint import faint_lines
from dicomnode.deidentification.frames import Frames
from dicomnode.deidentification.policy import EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import Limits
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted
from tests.unit.deidentification.hands import GROUNDS, ground, put, written_by_hand
from tests.unit.deidentification.pictures import Silent

WORDS = ["HANNA BERNER", "Renner 1471", "KOSTAS ROMANO", "Ranne Arena"]


def found(image: NDArray[np.float64]) -> bool:
    return next(faint_lines(np.round(image).astype(np.int16)), None) is not None


def planted_set(seed: int, count: int) -> list[tuple[NDArray[np.float64], float]]:
    """Words of strokes, of 9 to 28 pixels, at any angle, bright and dark, of 5 to 40 % of the range beside what is there."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        image = ground(GROUNDS[number % len(GROUNDS)], number)
        high = int(rng.integers(9, 28))
        word = written_by_hand(
            WORDS[number % len(WORDS)], high, angle=float(rng.integers(0, 360)), smooth=bool(rng.integers(2))
        )
        if max(word.shape) >= len(image):
            word = written_by_hand(WORDS[number % len(WORDS)], 10, angle=float(rng.integers(0, 360)), smooth=True)
        rows, columns = (int(rng.integers(0, len(image) - size)) for size in word.shape)
        part = image[rows : rows + word.shape[0], columns : columns + word.shape[1]]
        contrast = float(rng.uniform(100, 800)) * (1 if rng.integers(2) else -1)
        put(image, word, float(np.median(part)) + contrast, (rows, columns))
        made.append((image, abs(contrast) / max(float(part.std()), 1.0)))
    return made


def test_words_of_no_font_however_faint_at_any_angle() -> None:
    """Of those that stand out from what is behind them nearly all; noise and edges as strong as the letters hide some."""
    clear = [image for image, ratio in planted_set(11, 40) if ratio > 2]
    assert len(clear) > 15
    assert sum(map(found, clear)) >= 0.85 * len(clear)


@pytest.mark.parametrize("kind", GROUNDS)
def test_nothing_is_found_where_nobody_wrote(kind: str) -> None:
    assert not any(found(ground(kind, seed)) for seed in range(20, 23))


def test_grids_and_speckle_are_no_letters() -> None:
    grid = np.zeros((256, 256))
    grid[::8] = grid[:, ::8] = 300
    speckle = np.random.default_rng(3).rayleigh(60, (256, 256))
    assert not found(grid)
    assert not found(speckle)


def derived(image: NDArray[np.float64], kind: str = "DERIVED") -> Dataset:
    ds = planted.slice_of_ct(*image.shape)
    ds.ImageType = [kind, "PRIMARY", "AXIAL"]
    ds.PixelData = np.round(image).clip(0, 4095).astype("<u2").tobytes()
    return ds


def reason(ds: Dataset, files: FileDeidentifier) -> object:
    try:
        files.deidentify(planted.encoded(ds))
    except StudyError as error:
        return error.facts["because"]
    return None


def test_what_is_no_slice_of_a_scanner_is_looked_at_closely_in_whatever_order() -> None:
    """A program drew it: the quick way is not for it, also behind slices that went it."""
    image = ground("body", 5)
    put(image, written_by_hand("HANNA BERNER", 14), 300, (240, 20))
    plain = ground("body", 6)
    for order in ((0, 1, 2), (2, 1, 0)):
        files = FileDeidentifier(Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")), Limits())
        objects = [derived(plain, "ORIGINAL"), derived(plain), derived(image)]
        assert [reason(objects[number], files) for number in order] == [
            ("strokes" if number == 2 else None) for number in order
        ]


def test_letters_as_bright_as_what_is_behind_them_are_blanked() -> None:
    """Colours of equal brightness: no reader finds them in grey."""
    picture = np.full((200, 260, 3), 110, np.uint8)
    pen = Image.new("L", (260, 200))
    ImageDraw.Draw(pen).text((20, 60), "SMITH ADAM 1951", fill=255, font=ImageFont.load_default(18))
    ink = np.asarray(pen) > 127
    picture[ink] = (190, 30, 110)
    frames = Frames(values=picture[None].copy(), photometric_interpretation="RGB")
    assert burned.blank_text(frames, Dataset(), Silent(), frozenset()).boxes > 0
    assert (frames.values[0][ink] == (190, 30, 110)).all(axis=1).mean() < 0.02
    shown = burned.pictures(Frames(values=picture[None], photometric_interpretation="RGB"), Dataset())
    assert max(abs(float(one[ink].mean()) - float(one[:30].mean())) for one in shown) > 150


def test_dim_and_dark_letters_in_captures_are_blanked_though_the_reader_is_silent() -> None:
    for contrast in (60, -60):
        image = ground("noise", 4)
        word = written_by_hand("KOSTAS ROMANO", 12, angle=30, smooth=True)
        put(image, word, 900 + 3 * contrast, (40, 40))
        frames = Frames(values=image.astype(np.uint16)[None, ..., None], photometric_interpretation="MONOCHROME2")
        assert burned.blank_text(frames, Dataset(), Silent(), frozenset()).boxes > 0
