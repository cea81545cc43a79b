"""Codes that machines read, letters aslant and dim letters in pictures that are read: found, and blanked."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset

from dicomnode.deidentification import burned
from dicomnode.deidentification.barcodes import barcodes
from dicomnode.deidentification.frames import Frames
from dicomnode.deidentification.reader import Box, Picture, RapidReader, Text, installed_reader
from tests import pace

#: Code 39 (ISO/IEC 16388): wide and narrow bars and spaces.
_CODE_39 = {"*": "nwnnwnwnn", "1": "wnnwnnnnw", "2": "nnwwnnnnw", "7": "nnnwnnwnw", "8": "wnnwnnwnn", "A": "wnnnnwnnw"}
RNG = np.random.default_rng(5)


def code_39(text: str, module: int = 2, high: int = 60) -> Picture:
    picture = np.full((200, 480), 60, np.uint8) + RNG.integers(0, 9, (200, 480), np.uint8)
    picture[60 : 80 + high, 5:475] = 250
    x = 20
    for letter in text:
        for place, width in enumerate(_CODE_39[letter]):
            wide = module * (3 if width == "w" else 1)
            if place % 2 == 0:
                picture[70 : 70 + high, x : x + wide] = 5
            x += wide
        x += module
    return np.repeat(picture[..., None], 3, axis=2)


def square_code(module: int = 6, quiet: int = 0) -> Picture:
    modules = RNG.integers(0, 2, (25, 25)).astype(np.uint8)
    finder = np.ones((8, 8), np.uint8)
    finder[:7, :7], finder[1:6, 1:6], finder[2:5, 2:5] = 0, 1, 0
    modules[:8, :8], modules[:8, -8:], modules[-8:, :8] = finder, finder[:, ::-1], finder[::-1]
    modules = np.pad(modules, quiet, constant_values=1)
    code = np.kron(modules * 255, np.ones((module, module), np.uint8)).astype(np.uint8)
    picture = np.full((360, 480), 30, np.uint8) + RNG.integers(0, 9, (360, 480), np.uint8)
    picture[100 : 100 + len(code), 100 : 100 + len(code)] = code
    return np.repeat(picture[..., None], 3, axis=2)


def data_matrix(rows: int, columns: int, module: int, *, margin: int = 1) -> Picture:
    """Edges as ISO/IEC 16022 has them, regions of 24 modules at most, and whatever within."""
    modules = RNG.integers(0, 2, (rows, columns)).astype(np.uint8)
    for top in range(0, rows, min(rows, 24)):
        for left in range(0, columns, min(columns, 24)):
            region = modules[top : top + 24, left : left + 24]
            region[0, ::2], region[0, 1::2], region[::-2, -1], region[-2::-2, -1] = 0, 1, 0, 1
            region[-1], region[:, 0] = 0, 0
    code = np.kron(np.pad(modules, margin, constant_values=1) * 240, np.ones((module, module), np.uint8)).astype(
        np.uint8
    )
    picture = np.full((400, 500), 20, np.uint8) + RNG.integers(0, 9, (400, 500), np.uint8)
    picture[60 : 60 + len(code), 80 : 80 + code.shape[1]] = code
    return np.repeat(picture[..., None], 3, axis=2)


SIZES = [(10, 10), (14, 14), (24, 24), (48, 48), (8, 18), (12, 36)]


@pytest.mark.parametrize(
    ("rows", "columns", "module", "margin"),
    pace.cases(
        [(10, 10, 2, 4), (14, 14, 5, 1), (24, 24, 3, 4), (48, 48, 2, 1), (8, 18, 3, 1), (12, 36, 5, 4)],
        [(*size, module, margin) for size, module, margin in product(SIZES, (2, 3, 5), (1, 4))],
    ),
)
def test_data_matrix_codes_any_way_round(rows: int, columns: int, module: int, margin: int) -> None:
    picture = data_matrix(rows, columns, module, margin=margin)
    top, left = 60 + margin * module, 80 + margin * module
    where = slice(top, top + rows * module), slice(left, left + columns * module)
    shown = np.zeros(picture.shape[:2], bool)
    shown[where] = True
    for turns in range(4):
        for mirrored in (False, True):
            for seen, place in ((picture, shown), (255 - picture, shown)):
                turned, there = (np.rot90(one, turns) for one in (seen, place))
                if mirrored:
                    turned, there = turned[:, ::-1], there[:, ::-1]
                mask = np.zeros(there.shape, bool)
                for x0, y0, x1, y1 in barcodes(np.ascontiguousarray(turned)):
                    mask[y0 : y1 + 1, x0 : x1 + 1] = True
                assert mask[there].mean() > 0.98


def covered(boxes: list[Box], rows: slice, columns: slice) -> float:
    mask = np.zeros((400, 500), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return float(mask[rows, columns].mean())


@pytest.mark.parametrize("module", [1, 2, 3])
def test_bars_upright_and_turned(module: int) -> None:
    picture = code_39("*778812A*", module)
    end = min(20 + 9 * 16 * module, 460)
    assert covered(barcodes(picture), slice(72, 128), slice(22, end - 10)) > 0.9
    turned = barcodes(np.ascontiguousarray(picture.transpose(1, 0, 2)))
    assert covered(turned, slice(22, end - 10), slice(72, 128)) > 0.9


@pytest.mark.parametrize(("module", "quiet"), [(3, 0), (4, 2), (6, 0), (6, 4)])
@pytest.mark.parametrize("inverted", [False, True])
def test_square_codes(module: int, quiet: int, inverted: bool) -> None:
    picture = square_code(module, quiet)
    boxes = barcodes(255 - picture if inverted else picture)
    start = 100 + quiet * module
    assert covered(boxes, slice(start, start + 25 * module), slice(start, start + 25 * module)) > 0.99


def test_grids_noise_and_anatomy_are_no_codes() -> None:
    grid = np.zeros((300, 300), np.uint8)
    grid[:, ::8] = grid[::8] = 255
    noise = RNG.integers(0, 256, (300, 300), np.uint8)
    y, x = np.mgrid[:300, :300]
    soft = (127 + 120 * np.sin(x / 9) * np.cos(y / 11)).astype(np.uint8)
    text = Image.new("L", (300, 300))
    for row in range(0, 300, 20):
        ImageDraw.Draw(text).text((3, row), "THE QUICK BROWN FOX 1234", fill=255, font=ImageFont.load_default(16))
    for picture in (grid, noise, soft, np.asarray(text), np.zeros((10, 10), np.uint8)):
        assert barcodes(np.repeat(picture[..., None], 3, axis=2)) == []


class Blind:
    """A reader that finds no text."""

    def read(self, picture: Picture) -> list[Text]:
        return []


def test_codes_are_blanked_on_every_frame() -> None:
    frames = Frames(values=np.stack([code_39("*778812A*")] * 3)[..., :1], photometric_interpretation="MONOCHROME2")
    assert burned.blank_text(frames, Dataset(), Blind(), frozenset(), sure_alone=True).boxes > 0
    assert np.ptp(frames.values[:, 72:128, 22:300]) == 0


def test_a_line_aslant_is_a_line() -> None:
    """Its box is as high as wide; what is recognised is as long as the line, and upright."""
    reader, shapes = RapidReader(), []
    corners = np.array([[(67, 237), (231, 72), (252, 93), (88, 258)]], float)

    def engine(picture: Picture, *, use_det: bool, use_cls: bool, use_rec: bool) -> SimpleNamespace:
        shapes.append(picture.shape)
        return (
            SimpleNamespace(boxes=corners, scores=[0.9]) if use_det else SimpleNamespace(txts=("M61",), scores=(0.2,))
        )

    reader._engine = engine
    (line,) = reader.read(np.zeros((360, 480, 3), np.uint8))
    assert line.is_sure
    assert shapes[-1] == (30, 233, 3)


def dim(above: int) -> Frames:
    values = np.full((200, 300), 100) + RNG.integers(-2, 3, (200, 300))
    values[150:190, 200:290] = 3000
    pen = Image.new("L", (300, 200))
    ImageDraw.Draw(pen).text((20, 40), "SMITH ADAM", fill=255, font=ImageFont.load_default(28))
    values[np.asarray(pen) > 128] += above
    return Frames(values=values.astype(np.uint16)[None, ..., None], photometric_interpretation="MONOCHROME2")


@pytest.mark.parametrize("windowed", [False, True])
def test_dim_letters_beside_something_bright_are_shown(windowed: bool) -> None:
    ds = Dataset()
    if windowed:
        ds.WindowCenter, ds.WindowWidth, ds.RescaleSlope, ds.RescaleIntercept = [120, 40], [60, 400], 2, -80
    shown = burned.pictures(dim(20), ds)
    letters = dim(20).values[0, ..., 0] > 110
    letters[150:190, 200:290] = False
    assert max(float(picture[letters].mean()) - float(picture[:30, :30].mean()) for picture in shown) > 60


def test_windows_that_are_none_say_nothing() -> None:
    ds = Dataset()
    ds.WindowCenter, ds.WindowWidth, ds.RescaleSlope = 40, 0, 0
    assert len(burned.pictures(dim(20), ds)) == len(burned.pictures(dim(20), Dataset()))
    ds.add_new(0x00281050, "LO", "forty")
    assert len(burned.pictures(dim(20), ds)) == len(burned.pictures(dim(20), Dataset()))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_letters_aslant_are_blanked() -> None:
    pen = Image.new("L", (300, 40))
    ImageDraw.Draw(pen).text((5, 5), "SMITH ADAM 1951", fill=255, font=ImageFont.load_default(26))
    picture = Image.fromarray(RNG.normal(30, 3, (360, 480)).clip(0, 255).astype(np.uint8))
    picture.paste(235, (60, 20), pen.rotate(45, expand=True))
    reader = installed_reader()
    assert reader is not None
    values = np.asarray(picture)[None, ..., None]
    frames = Frames(values=values, photometric_interpretation="MONOCHROME2")
    assert burned.blank_text(frames, Dataset(), reader, frozenset()).boxes > 0
    assert (frames.values > 150).sum() < 0.02 * (values > 150).sum()
