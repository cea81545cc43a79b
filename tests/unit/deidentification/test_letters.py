"""Letters in masks of one bit and of labels: found; organs, vessels, ribs and noise are none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from scipy import ndimage

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.letters import has_letters
from dicomnode.deidentification.policy import EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, read_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted
from tests.unit.deidentification.hands import put, written_by_hand
from tests.unit.deidentification.pictures import Silent

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
RT_IMAGE = "1.2.840.10008.5.1.4.1.1.481.1"
SIZE = 192
Mask = NDArray[np.bool_]
TEXTS = ["DOE JANE", "Mueller, Hans", "M 03.02.1951", "MRN-778812", "SMITH"]


def organ() -> Mask:
    y, x = np.mgrid[:SIZE, :SIZE]
    return (x - 90) ** 2 / 60**2 + (y - 120) ** 2 / 45**2 < 1


def written(text: str, size: int, *, place: tuple[int, int] = (8, 20), hard: bool = True) -> Mask:
    pen = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(pen)
    draw.fontmode = "1" if hard else "L"
    draw.text(place, text, fill=255, font=ImageFont.load_default(size))
    return np.asarray(pen) > 127


@pytest.mark.parametrize("size", [10, 12, 14, 18, 24])
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "organ"])
def test_letters(text: str, size: int, beside: bool) -> None:
    mask = written(text, size) | (organ() if beside else False)
    assert has_letters(mask)
    assert has_letters(np.rot90(mask))
    assert has_letters(~mask)


@pytest.mark.parametrize("angle", [0, 11, 45, 78, 143, 290])
@pytest.mark.parametrize(
    ("word", "width", "spaced"),
    [("ROMANO", 0, 1.4), ("Renner", 2, 1.6), ("BERN", 3, 1.8), ("KATE", 0, 5), ("RES", 0, 2)],
)
def test_letters_of_no_font_aslant_bold_spaced_small_and_few(word: str, width: int, spaced: float, angle: int) -> None:
    mask = np.zeros((SIZE, SIZE))
    put(mask, written_by_hand(word, 14, angle=angle, width=width, spaced=spaced), 1, (24, 10))
    assert has_letters(mask > 0.5)
    assert has_letters(mask < 0.5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("angle", [0, 30])
def test_letters_that_a_reader_does_not_read_are_blanked(angle: int) -> None:
    """Whatever the reader says, no frame of a mask leaves with letters."""
    frames = np.stack([organ()] * 40).astype(np.uint8)
    put(mask := np.zeros((SIZE, SIZE)), written_by_hand("ROMANO", 14, angle=angle), 1, (4, 60))
    frames[33] |= (mask > 0.5).astype(np.uint8)
    engine = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project"), reader=Silent())
    left = engine.deidentify(segmentation(frames)).dataset.pixel_array
    assert not any(has_letters(frame > 0) for frame in left)
    assert left.any()


@pytest.mark.filterwarnings("ignore")
def test_letters_on_frames_that_are_not_shown_to_the_reader_withhold(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.stack([organ()] * 3).astype(np.uint8)
    frames[1] |= written("DOE JANE 1951", 14).astype(np.uint8)
    monkeypatch.setattr("dicomnode.deidentification.burned.letter_boxes", lambda frames, dataset: [])
    engine = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project"), reader=Silent())
    with pytest.raises(StudyError) as caught:
        engine.deidentify(segmentation(frames))
    assert caught.value.facts["because"] == "strokes"


def test_letters_among_specks() -> None:
    """Hundreds of small parts keep nobody from looking at the letters."""
    specks = np.zeros((SIZE, SIZE), bool)
    specks[60::4, ::4] = True
    assert not has_letters(specks)
    assert has_letters(specks | written("DOE JANE", 18))


def test_letters_cut_out_of_an_organ() -> None:
    assert has_letters(organ() & ~written("DOE JANE", 18, place=(50, 110)))


def ribs() -> Mask:
    y, x = np.mgrid[:SIZE, :SIZE]
    ring = np.hypot((x - 96) / 80, (y - 96) / 60)
    return (abs(ring - 1) < 0.06) & (np.sin(np.arctan2(y - 96, x - 96) * 12) > 0)


def vertebrae() -> Mask:
    mask = np.zeros((SIZE, SIZE), bool)
    for n in range(8):
        mask[8 + 22 * n : 24 + 22 * n, 80:104] = True
    return mask


def vessels(seed: int) -> Mask:
    rng = np.random.default_rng(seed)
    mask = np.zeros((SIZE, SIZE), bool)
    for _ in range(12):
        y, x, angle = *rng.uniform(30, SIZE - 30, 2), rng.uniform(0, 6.3)
        for _ in range(120):
            angle += rng.normal(0, 0.15)
            y, x = y + np.sin(angle), x + np.cos(angle)
            mask[int(np.clip(y, 0, SIZE - 1)), int(np.clip(x, 0, SIZE - 1))] = True
    return np.asarray(ndimage.binary_dilation(mask, iterations=1))


def spots(seed: int) -> Mask:
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIZE, SIZE)), 2)
    return np.asarray(values > 0.12)


@pytest.mark.parametrize(
    "mask",
    [organ(), ribs(), vertebrae(), np.zeros((SIZE, SIZE), bool), np.ones((SIZE, SIZE), bool), *map(vessels, range(12)),
     *map(spots, range(6)), np.random.default_rng(1).random((SIZE, SIZE)) > 0.5],
)  # fmt: skip
def test_what_nobody_wrote(mask: Mask) -> None:
    assert not has_letters(mask)


def segmentation(
    frames: NDArray[np.uint8], sop_class: str = SEGMENTATION, bits: int = 1, kind: str = "BINARY"
) -> Dataset:
    ds = planted.slice_of_ct(*frames.shape[1:])
    ds.SOPClassUID, ds.Modality, ds.SegmentationType = sop_class, "SEG", kind
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.NumberOfFrames = bits - 1, str(len(frames))
    data = np.packbits(frames.ravel(), bitorder="little").tobytes() if bits == 1 else frames.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB"
    return ds


def reason(ds: Dataset) -> object:
    try:
        Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")).deidentify(ds)
    except StudyError as error:
        return error.facts["because"]
    return None


@pytest.mark.parametrize("count", [1, 11])
@pytest.mark.parametrize("columns", [SIZE, SIZE - 3])
def test_one_written_frame_withholds_a_segmentation(count: int, columns: int) -> None:
    """Frames of one bit follow one another without a gap: an odd size begins within a byte."""
    frames = np.stack([organ()[:, :columns]] * count).astype(np.uint8)
    assert reason(segmentation(frames)) is None
    frames[-1] |= written("DOE JANE 1951", 14)[:, :columns].astype(np.uint8)
    assert reason(segmentation(frames)) == "strokes"


def test_a_label_by_itself_and_what_is_full() -> None:
    labels = organ().astype(np.uint8) * 7
    labels[written("DOE JANE", 16)] = 3
    assert reason(segmentation(labels[None], LABEL_MAP, 8, "LABELMAP")) == "strokes"
    assert reason(segmentation(organ().astype(np.uint8)[None] * 7, LABEL_MAP, 8, "LABELMAP")) is None
    shares = np.asarray(ndimage.gaussian_filter(organ() * 200.0, 4)).astype(np.uint8)
    assert reason(segmentation(shares[None], SEGMENTATION, 8, "FRACTIONAL")) is None
    shares[written("DOE JANE", 16)] = 255
    assert reason(segmentation(shares[None], SEGMENTATION, 8, "FRACTIONAL")) == "strokes"


def test_letters_of_a_label_each_and_of_one_behind_many_others() -> None:
    parts, count = ndimage.label(written("DOE JANE", 20))
    assert count > 5
    assert reason(segmentation(parts.astype(np.uint8)[None], LABEL_MAP, 8, "LABELMAP")) == "strokes"
    many = (np.mgrid[:SIZE, :SIZE][0] // 2 + 1).astype(np.uint8)  # 96 labels
    assert reason(segmentation(many[None], LABEL_MAP, 8, "LABELMAP")) is None
    many[written("DOE JANE", 16)] = 200
    assert reason(segmentation(many[None], LABEL_MAP, 8, "LABELMAP")) == "strokes"
    values = np.arange(SIZE * SIZE).reshape(1, SIZE, SIZE).astype(np.uint16)
    assert reason(segmentation(values, LABEL_MAP, 16, "LABELMAP")) == "strokes"


def test_images_of_one_bit_that_are_no_masks() -> None:
    frame = (organ() | written("DOE JANE", 16)).astype(np.uint8)
    assert reason(segmentation(frame[None], RT_IMAGE)) == "strokes"
    ds = segmentation(frame[None])
    ds.PixelData = b""
    assert reason(ds) is None


@pytest.mark.parametrize("vr", ["OB", "OW"])
@pytest.mark.filterwarnings("ignore")
def test_masks_of_big_endian_files(vr: str) -> None:
    """In words of two bytes the first pixel is the last bit of the first word (PS3.5 D.1)."""
    for mask, because in ((organ(), None), (organ() | written("DOE JANE", 14), "strokes")):
        ds = segmentation(mask.astype(np.uint8)[None])
        if vr == "OW":
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        ds["PixelData"].VR = vr
        assert reason(read_part10(planted.encoded(ds, "1.2.840.10008.1.2.2"), Limits())) == because
