"""Text on one frame of many: the frame is named, whatever moves on the others; so it is read, and blanked."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.changes import differing
from dicomnode.deidentification.policy import AI, EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.reader import Picture, Text
from dicomnode.encoded import Limits, read_part10
from tests import pace
from tests.unit.deidentification import planted
from tests.unit.deidentification.pictures import capture

ROWS, COLUMNS, COUNT = 160, 224, 60
MOST = 16
Cine = NDArray[np.uint8]


def flash() -> Cine:
    return np.stack([np.full((ROWS, COLUMNS), 250 if n % 2 else 0, np.uint8) for n in range(COUNT)])


def noise() -> Cine:
    return np.random.default_rng(1).integers(0, 256, (COUNT, ROWS, COLUMNS)).astype(np.uint8)


def waves() -> Cine:
    ramp = np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) * 3
    return np.stack([abs((ramp + n * 17) % 510 - 255).astype(np.uint8) for n in range(COUNT)])


def speckle() -> Cine:
    values = gaussian_filter(np.random.default_rng(2).normal(size=(COUNT, ROWS, COLUMNS)), (0, 1.2, 1.2))
    return ((values - values.min()) / np.ptp(values) * 255).astype(np.uint8)


def anatomy() -> Cine:
    rng = np.random.default_rng(3)
    wide = gaussian_filter(rng.normal(size=(ROWS, COLUMNS + COUNT)), 6)
    wide = (wide - wide.min()) / np.ptp(wide) * 200
    moved = np.stack([wide[:, n : n + COLUMNS] for n in range(COUNT)])
    return np.clip(moved + rng.normal(0, 6, moved.shape), 0, 255).astype(np.uint8)


def bars() -> Cine:
    rng = np.random.default_rng(4)
    wide = np.zeros((ROWS, COLUMNS + COUNT))
    for _ in range(20):
        start = int(rng.integers(0, COLUMNS + COUNT))
        wide[:, start : start + int(rng.integers(1, 6))] = rng.integers(60, 200)
    wide = gaussian_filter(wide, 1) + 40
    moved = np.stack([wide[:, n : n + COLUMNS] for n in range(COUNT)])
    return np.clip(moved + rng.normal(0, 4, moved.shape), 0, 255).astype(np.uint8)


def written(frame: NDArray[np.uint8], fill: int, size: int) -> NDArray[np.uint8]:
    image = Image.fromarray(frame)
    ImageDraw.Draw(image).text((8, 60), "DOE JANE 1951", fill=fill, font=ImageFont.load_default(size))
    return np.asarray(image)


@pytest.mark.parametrize("make", [flash, noise, waves, speckle, anatomy, bars], ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    ("place", "fill", "size"),
    pace.cases([(3, 255, 24), (58, 200, 18)], [(58, 255, 24), (3, 200, 18), (31, 255, 24), (31, 200, 18)]),
)
def test_the_frame_with_text_is_named(make: object, place: int, fill: int, size: int) -> None:
    frames = make()  # type: ignore[operator]
    frames[place] = written(frames[0], fill, size)
    for values in (frames[..., None], frames.astype(np.int16)[..., None] * 4 - 500, np.repeat(frames[..., None], 3, 3)):
        named = differing(values, MOST)
        assert place in named
        assert len(named) <= MOST


def test_a_page_among_noise_is_named_alone() -> None:
    frames = noise()
    frames[20] = written(np.zeros((ROWS, COLUMNS), np.uint8), 255, 18)
    assert differing(frames[..., None], MOST) == [20]


def test_frames_that_differ_alike_are_named_once() -> None:
    frames = flash() * 0
    frames[10:20] = written(frames[0], 255, 20)
    named = differing(frames[..., None], MOST)
    assert len(named) == 1
    assert 10 <= named[0] < 20


def test_frames_that_are_all_the_same_or_few_or_small() -> None:
    assert differing(np.zeros((5, 64, 64, 1), np.uint8), MOST) == []
    assert differing(np.zeros((2, 64, 64, 1), np.uint8), MOST) == []
    assert differing(np.eye(8, dtype=np.uint8)[None, ..., None].repeat(4, 0), MOST) == []


def test_the_cost_of_a_frame_is_bounded() -> None:
    values = np.random.default_rng(5).integers(0, 4096, (8, 512, 512, 1)).astype(np.uint16)
    start = time.process_time()
    differing(values, MOST)
    assert time.process_time() - start < 8 * 0.1


class OfWaves:
    """A reader that finds what is sharp in the rows where text is written; waves are soft."""

    def __init__(self) -> None:
        self.asked = 0

    def read(self, picture: Picture) -> list[Text]:
        self.asked += 1
        part = picture[62:86, 8:200, 0].astype(int)
        sharp = abs(np.diff(part, axis=1)) > 60
        return [Text(box=(8, 60, 210, 90), says="DOE JANE", score=0.9)] if sharp.sum() > 40 else []


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
def test_text_on_one_frame_of_many_is_blanked(policy: object) -> None:
    frames = np.concatenate([waves()[:, :, :160]] * 4)
    frames[0], frames[1] = 255, 0  # so that the brightest and darkest of each pixel say nothing
    frames[131] = written(frames[131], 128, 20)
    ds = capture(list(frames))
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7.2"
    reader = OfWaves()
    source = read_part10(planted.encoded(ds), Limits())
    done = Deidentifier(policy, Pseudonyms(bytes(range(32)), "project"), reader=reader).deidentify(source).dataset  # type: ignore[arg-type]
    values = np.frombuffer(done.PixelData, np.uint8).reshape(240, ROWS, 160)
    assert len(np.unique(values[131, 60:90, 8:])) == 1
    assert np.array_equal(values[:, 110:], frames[:, 110:])
    assert reader.asked <= 2 * 30 * 2
