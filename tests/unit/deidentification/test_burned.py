"""Burned-in text: found, blanked on every frame, in every photometric interpretation and transfer syntax; or withheld."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.sequence import Sequence

from dicomnode.deidentification import frames
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.burned import pictures
from dicomnode.deidentification.children import DecodingLimits
from dicomnode.deidentification.frames import Frames, frames_of
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.reader import Picture, RapidReader, Reader, Text, installed_reader, says_seed
from dicomnode.deidentification.strokes import has_strokes
from dicomnode.deidentification.unflagged import suspicion
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from tests import pace
from tests.unit.deidentification import planted
from tests.unit.deidentification.pictures import (
    JPEG_BASELINE,
    JPEG_LS,
    RLE,
    SIZE,
    capture,
    compressed,
    drawn,
    jpeg,
)

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
BOX = (8, 10, 200, 40)
FORMATS = [
    ("MONOCHROME2", 8, planted.EXPLICIT), ("MONOCHROME2", 16, planted.EXPLICIT), ("MONOCHROME1", 8, planted.EXPLICIT),
    ("MONOCHROME2", 1, planted.EXPLICIT), ("RGB", 8, planted.EXPLICIT), ("YBR_FULL", 8, planted.EXPLICIT),
    ("YBR_FULL_422", 8, planted.EXPLICIT), ("PALETTE COLOR", 8, planted.EXPLICIT), ("RGB", 8, planted.IMPLICIT),
    ("MONOCHROME2", 8, JPEG_BASELINE), ("RGB", 8, JPEG_BASELINE), ("MONOCHROME2", 16, RLE), ("RGB", 8, RLE),
    ("PALETTE COLOR", 8, RLE), ("MONOCHROME2", 16, JPEG_LS), ("RGB", 8, JPEG_LS), ("MONOCHROME1", 8, JPEG_LS),
]  # fmt: skip


class Scripted:
    """A reader that finds what is nearly white, or as black in an inverted picture, in the rows where text is drawn."""

    def __init__(self, says: str = "DOE JANE", score: float = 0.9) -> None:
        self.says, self.score, self.asked = says, score, 0

    def read(self, picture: Picture) -> list[Text]:
        self.asked += 1
        part = picture[BOX[1] : BOX[3], BOX[0] : BOX[2], 0].astype(int)
        soft = abs(np.diff(part, axis=1)).max() < 40
        return [] if soft else [Text(box=BOX, says=self.says, score=self.score)]


def result(ds: Dataset, reader: Reader | None, policy: Policy = EXPORT) -> tuple[Dataset, NDArray[np.generic]]:
    syntax = str(ds.file_meta.TransferSyntaxUID)
    source = read_part10(planted.encoded(ds, syntax), Limits())
    done = Deidentifier(policy, PSEUDONYMS, reader=reader).deidentify(source).dataset
    data = encode_part10(done, transfer_syntax_uid=str(done.file_meta.TransferSyntaxUID))
    output = dcmread(DicomBytesIO(data))
    return output, output.pixel_array


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("photometric", "bits", "syntax", "frames_"),
    [
        *((*one, 1) for one in FORMATS),
        *((*one, 3) for one in pace.cases(FORMATS[3:7:3] + FORMATS[8::2], FORMATS)),
    ],
)
def test_text_is_blanked_on_every_frame(photometric: str, bits: int, syntax: str, frames_: int) -> None:
    pictures = [drawn(size=SIZE) for _ in range(frames_)]
    ds = compressed(capture(pictures, photometric, bits), syntax)
    ds.file_meta.TransferSyntaxUID = syntax
    output, values = result(ds, Scripted())
    values = values.reshape(frames_, SIZE, SIZE, -1)
    x0, y0, x1, y1 = BOX
    assert (values[:, y0 : y1 + 1, x0 : x1 + 1] == values[:, y0 : y0 + 1, x0 : x0 + 1]).all()
    assert len(np.unique(values[:, 60:])) > (1 if bits == 1 else 20) or bits == 1
    if syntax != JPEG_BASELINE and photometric == "MONOCHROME2" and bits > 1:
        assert np.array_equal(values[0, 60:, :, 0], pictures[0][60:].astype(values.dtype) * (16 if bits == 16 else 1))
    assert output.BurnedInAnnotation == "NO"
    assert output.file_meta.TransferSyntaxUID == planted.EXPLICIT or syntax == planted.IMPLICIT
    assert [item.CodeValue for item in output.DeidentificationMethodCodeSequence][1] == "113101"


@pytest.mark.filterwarnings("ignore")
def test_what_lies_close_around_a_text_is_blanked_too() -> None:
    """Soft edges of letters, and accents: three pixels and a sixth of the height."""
    margin = 3 + (BOX[3] - BOX[1]) // 6
    shown = drawn(size=SIZE)
    _, values = result(capture([shown]), Scripted())
    changed = np.argwhere(values != shown)
    inside = np.ones_like(shown, bool)
    inside[max(BOX[1] - margin, 0) : BOX[3] + margin + 1, max(BOX[0] - margin, 0) : BOX[2] + margin + 1] = False
    assert np.array_equal(values[inside], shown[inside])
    assert (values[~inside] == shown.min()).all()
    assert changed.max(axis=0)[0] == BOX[3] + margin


@pytest.mark.parametrize("bright", [True, False])
def test_text_of_which_each_frame_shows_a_part_is_read_as_a_whole(bright: bool) -> None:
    tissue = np.full((3, 64, 64), 100, np.uint8)
    tissue[:, :4], tissue[:, 4:8] = 0, 220  # the contrast is the same in every picture
    for number in range(3):
        tissue[number, 20:40, 10 + 12 * number : 16 + 12 * number] = 200 if bright else 5
    source = capture(list(tissue))
    decoded = Frames(values=tissue[..., None], photometric_interpretation="MONOCHROME2")
    read = [picture[30, [12, 24, 36], 0] for picture in pictures(decoded, source)]
    assert any((parts > 200).all() if bright else (parts < 50).all() for parts in read)


def test_without_a_reader_it_is_withheld() -> None:
    with pytest.raises(StudyError) as caught:
        result(capture([drawn()]), None)
    assert (caught.value.code, caught.value.facts["because"]) == ("withheld-pixels", "kind")


def test_a_site_may_withhold_what_shows_text() -> None:
    with pytest.raises(StudyError) as caught:
        result(capture([drawn()]), Scripted(), replace(EXPORT, blank_text=False))
    assert caught.value.facts["because"] == "text"


def test_text_that_stays_readable_is_withheld() -> None:
    class Stubborn:
        def read(self, picture: Picture) -> list[Text]:
            return [Text(box=BOX, says="D0E JANE", score=0.3)]

    with pytest.raises(StudyError) as caught:
        result(capture([drawn()]), Stubborn())
    assert caught.value.facts["because"] == "text"


def test_a_picture_without_text_keeps_its_bytes() -> None:
    ds = capture([drawn("")])
    output, _ = result(ds, Scripted())
    assert output.PixelData == ds.PixelData
    assert output.BurnedInAnnotation == "NO"


def test_pixels_that_cannot_be_decoded_are_withheld() -> None:
    ds = capture([drawn()])
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    with pytest.raises(StudyError) as caught:
        frames_of(ds, DecodingLimits())
    assert caught.value.facts["because"] == "undecodable"


@pytest.mark.parametrize("reader", [None, Scripted()], ids=["unread", "read"])
def test_what_nobody_could_look_at_does_not_leave_the_house(reader: Reader | None) -> None:
    """No flag and no time to decode it; samples of a size that none has."""
    ds = image_of("CT", drawn("SMITH ADAM 1951").astype(np.uint16) * 16)
    for late in (compressed(deepcopy(ds), RLE), ds):
        if late is ds:
            ds.BitsAllocated, ds.PixelData = 64, np.asarray(drawn()).astype("<u8").tobytes()
        source = read_part10(planted.encoded(late, str(late.file_meta.TransferSyntaxUID)), Limits())
        hurried = Deidentifier(EXPORT, PSEUDONYMS, reader=reader, decoding=DecodingLimits(timeout_seconds=0.001))
        with pytest.raises(StudyError) as caught:
            hurried.deidentify(source)
        assert caught.value.facts["because"] == ("bits" if late is ds else "late")


def test_jpeg_of_twelve_bits_is_withheld_unseen() -> None:
    """No codec here decodes it: nobody knows what it shows."""
    stream = jpeg(capture([drawn()])).PixelData
    at = stream.index(b"\xff\xc0")
    extended = bytearray(stream)
    extended[at + 1], extended[at + 4] = 0xC1, 12
    ds = capture([drawn()])
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.51"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    for data in (extended, stream[: at + 4], stream.replace(b"\xff\xc0", b"\xff\xc3")):
        ds.PixelData = bytes(data)
        with pytest.raises(StudyError, match="withheld-pixels"):
            suspicion(ds, planted.CT, DecodingLimits(), reads=False)


def test_the_child_of_decoding_gives_every_frame() -> None:
    ds = capture([drawn(), drawn("OTHER")], "RGB")
    name, _, values = frames.decoded(planted.encoded(ds)).partition(b"\n")
    assert name == b"RGB"
    assert values.startswith(b"\x93NUMPY")


def ultrasound(pictures: list[NDArray[np.uint8]]) -> Dataset:
    ds = capture(pictures, "RGB")
    ds.SOPClassUID, ds.Modality = "1.2.840.10008.5.1.4.1.1.3.1", "US"
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 100
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 255, 255
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    return ds


@pytest.mark.filterwarnings("ignore")
def test_compressed_ultrasound_keeps_its_regions_alone() -> None:
    ds = compressed(ultrasound([drawn(), drawn()]), JPEG_BASELINE)
    output, values = result(ds, Scripted(), AI)
    assert values.shape == (2, SIZE, SIZE, 3)
    assert not values[:, :100].any()
    assert values[:, 100:].any()
    assert output.BurnedInAnnotation == "NO"


def test_paper_is_withheld_whoever_reads() -> None:
    ds = capture([drawn()])
    ds.ConversionType = "SD"
    with pytest.raises(StudyError) as caught:
        result(ds, Scripted())
    assert caught.value.facts["because"] == "paper"


def image_of(modality: str, values: NDArray[np.generic]) -> Dataset:
    ds = planted.slice_of_ct(*values.shape)
    ds.Modality, ds.PixelData = modality, values.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def written_on(values: NDArray[np.int_]) -> NDArray[np.int_]:
    text = drawn() == 255
    return np.where(text, values.max(), values)


def test_images_without_any_flag_are_searched_for_strokes() -> None:
    rng = np.random.default_rng(7)
    tissue = rng.normal(1000, 60, (SIZE, SIZE)).astype(int).clip(0, 4095)
    tissue[100:140, 100:140] = 3000  # metal: a blob
    assert not has_strokes(tissue)
    assert has_strokes(written_on(tissue))
    assert not has_strokes(np.full((8, 8), 3))
    with pytest.raises(StudyError) as caught:
        result(image_of("CT", written_on(tissue)), None)
    assert caught.value.facts["because"] == "strokes"
    result(image_of("CT", tissue), None)
    result(image_of("CT", written_on(tissue)), None, AI)  # in the house the patient's result goes first
    reader = Scripted()
    result(image_of("MG", tissue), reader)
    assert reader.asked


def float_map(values: NDArray[np.int_]) -> Dataset:
    ds = image_of("MR", values)
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
    del ds.PixelData, ds.PixelRepresentation
    ds.BitsAllocated, ds.FloatPixelData = 32, values.astype("<f4").tobytes()
    return ds


def inverted(values: NDArray[np.int_]) -> Dataset:
    ds = image_of("CT", values.max() - values)
    ds.PhotometricInterpretation = "MONOCHROME1"
    return ds


def of_32_bits(values: NDArray[np.int_]) -> Dataset:
    ds = image_of("RTDOSE", values)
    ds.BitsAllocated = ds.BitsStored = 32
    ds.HighBit, ds.PixelData = 31, values.astype("<u4").tobytes()
    return ds


@pytest.mark.parametrize(
    "make",
    [lambda values: compressed(image_of("CT", values), RLE), float_map, inverted, of_32_bits],
    ids=["rle", "float", "white", "32"],
)
def test_strokes_are_seen_in_pixels_of_every_form(make: Callable[[NDArray[np.int_]], Dataset]) -> None:
    tissue = np.random.default_rng(7).normal(1000, 60, (SIZE, SIZE)).astype(int).clip(0, 4095)
    tissue[100:140, 100:140] = 3000  # metal: a blob
    with pytest.raises(StudyError) as caught:
        result(make(written_on(tissue)), None)
    assert caught.value.facts["because"] == "strokes"
    result(make(tissue), None)


TEXTS = ["DOE JANE", "M 03.02.1951", "DOE^JANE 19510203", "Mueller, Hans"]


@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
@pytest.mark.parametrize("size", [20, 28])
@pytest.mark.parametrize("text", TEXTS)
def test_smooth_letters_are_strokes_too(text: str, size: int, turned: bool) -> None:
    """As every renderer of today draws them: few pixels are as bright as the brightest, and an edge is one pixel wide."""
    y, x = np.mgrid[0:512, 0:512]
    tissue = 1024 + 400 * np.sin(x / 23) * np.cos(y / 31) + np.random.default_rng(3).normal(0, 20, x.shape)
    tissue[300:340, 100:140] = 2600  # metal
    tissue[300:340, 140:144] = np.linspace(2600, 1200, 4)
    picture = Image.new("L", (512, 512), 0)
    ImageDraw.Draw(picture).text((20, 30), text, fill=255, font=ImageFont.load_default(size))
    letters = np.asarray(picture) / 255
    letters = np.rot90(letters) if turned else letters
    for peak in (2600, 3500):
        written = (tissue * (1 - letters) + peak * letters).astype(np.uint16)
        assert has_strokes(written)
        assert has_strokes(written.astype(np.float64))
    assert not has_strokes(tissue.astype(np.uint16))


@pytest.mark.parametrize("sop_class", ["2", "4", "128"])
def test_a_palette_is_colour_in_whatever_class(sop_class: str) -> None:
    ds = capture([drawn()], "PALETTE COLOR")
    ds.SOPClassUID, ds.ImageType = f"1.2.840.10008.5.1.4.1.1.{sop_class}", ["ORIGINAL", "PRIMARY"]
    del ds.ConversionType
    ds.Modality = "CT"
    for policy in (AI, EXPORT):
        with pytest.raises(StudyError) as caught:
            result(ds, None, policy)
        assert caught.value.facts["because"] == "colour"


def test_text_whose_colour_is_that_of_what_is_behind_it_is_read_too() -> None:
    """Another palette shows it."""
    ds = capture([drawn()], "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableData", bytes(512))
    output, pixels = result(ds, Scripted())
    assert len(np.unique(pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]])) == 1
    assert output.BurnedInAnnotation == "NO"


#: Letters of five rows.
TINY = (
    "0110 1110 1111 01 0010",
    "1001 1001 1000 01 0110",
    "1111 1001 1110 01 0010",
    "1001 1001 1000 00 0010",
    "1001 1110 1000 01 0111",
)


@pytest.mark.parametrize("reader", [Scripted(), None], ids=["read", "unread"])
@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
def test_what_is_too_small_to_be_read_but_not_to_write_on_is_withheld(turned: bool, reader: Reader | None) -> None:
    letters = np.array([[255 * (one == "1") for one in row] for row in TINY], np.uint8)
    for margin in (0, 2):
        picture = np.pad(letters, ((margin, 0), (0, 0)))
        ds = capture([picture.T if turned else picture])
        ds.BurnedInAnnotation = "YES"
        with pytest.raises(StudyError) as caught:
            result(ds, reader, AI)
        assert caught.value.facts["because"] == ("small" if reader else "kind")
    output, _ = result(capture([letters[:4]]), Scripted())  # nobody writes in so few rows
    assert output.BurnedInAnnotation == "NO"


def test_an_image_without_its_pixels_was_cut() -> None:
    ds = image_of("CT", np.zeros((SIZE, SIZE), int))
    data = planted.encoded(ds)
    files = FileDeidentifier(Deidentifier(EXPORT, PSEUDONYMS), Limits())
    for left in (5, 1):  # bytes of its header
        with pytest.raises(StudyError) as caught:
            files.deidentify(data[: -(2 * SIZE * SIZE + 12) + left])
        assert caught.value.code == "object-malformed"
    header = data[: -(2 * SIZE * SIZE + 12)] + bytes(6)  # such files are met: a header alone, and padding
    with pytest.raises(StudyError, match="withheld-pixels"):
        files.deidentify(header)
    passing = Deidentifier(replace(EXPORT, headers_alone=True), PSEUDONYMS)
    assert FileDeidentifier(passing, Limits()).deidentify(header).data


@pytest.mark.parametrize("bright", [4095.0, np.inf])
@pytest.mark.parametrize("dark", [0.0, np.nan, -np.inf])
def test_samples_that_are_no_numbers_hide_no_strokes(bright: float, dark: float) -> None:
    tissue = np.random.default_rng(7).normal(1000, 60, (SIZE, SIZE)).astype(int).clip(0, 3000)
    written = written_on(tissue)
    held = []
    for values in (tissue, written):
        floats = values.astype("<f4")
        floats[values == written.max()] = bright
        floats[-9:] = floats[:, -9:] = dark
        ds = float_map(values)
        ds.FloatPixelData = floats.tobytes()
        held.append(holds_strokes(ds))
    assert held == [False, True]


def holds_strokes(ds: Dataset) -> bool:
    try:
        result(ds, None)
    except StudyError as error:
        return error.facts["because"] == "strokes"
    return False


@pytest.mark.parametrize("sop_class", ["4.1", "4.3", "2.1", "130", "6.2", "14.2", "481.2", "77.1.5.8"])
@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
def test_colour_where_machines_measure_is_read(sop_class: str, policy: Policy) -> None:
    ds = image_of("MR", np.ones((SIZE, SIZE)))
    ds.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{sop_class}"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelData = 8, 8, 7, bytes(SIZE * SIZE * 3)
    with pytest.raises(StudyError) as caught:
        result(ds, None, policy)
    assert caught.value.facts["because"] == "colour"


@pytest.mark.parametrize(
    ("sop_class", "modality"), [("1.1", "CT"), ("1", ""), ("12.1", "CT"), ("2", "MG"), ("77.1.5.1", "OP")]
)
def test_projections_are_read_and_searched_for_strokes_where_nobody_reads(sop_class: str, modality: str) -> None:
    ds = image_of(modality, np.ones((SIZE, SIZE)))
    ds.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{sop_class}"
    reader = Scripted()
    result(ds, reader)
    assert reader.asked
    result(ds, None)
    ds.PixelData = (
        written_on(np.random.default_rng(1).integers(0, 50, (SIZE, SIZE)) + 2000 * (drawn() == 255))
        .astype("<u2")
        .tobytes()
    )
    with pytest.raises(StudyError) as caught:
        result(ds, None)
    assert caught.value.facts["because"] == "strokes"


@pytest.mark.parametrize(
    ("read", "seed", "same"),
    [
        ("J0HN D0E", "john", True),
        ("W0LKENSTE1N", "wolkenstein", True),
        ("WOLKENSTAIN", "wolkenstein", True),
        ("WALKING STONE", "wolkenstein", False),
        ("MRN 44I7882", "4417882", True),
        ("Li", "li", False),
    ],
)
def test_what_readers_misread_is_recognised(read: str, seed: str, same: bool) -> None:
    assert says_seed(read, {seed}) is same


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_reader_that_ships_with_the_extra() -> None:
    reader = installed_reader()
    assert isinstance(reader, RapidReader)
    output, values = result(capture([drawn()]), reader)
    assert values[14:30, 14:180].max() == values[14:30, 14:180].min()
    assert len(np.unique(values[60:])) > 20
    assert output.BurnedInAnnotation == "NO"


#: Letters that the recogniser does not have, as lines in a square of 4 by 6.
_STRANGE = {
    "\u0416": [[(0, 0), (4, 6)], [(4, 0), (0, 6)], [(2, 0), (2, 6)]],
    "\u0428": [[(0, 0), (0, 6), (4, 6), (4, 0)], [(2, 0), (2, 6)]],
    "\u0414": [[(0, 6), (1, 0), (3, 0), (4, 6)], [(-0.5, 5), (4.5, 5)]],
    "\u042e": [[(0, 0), (0, 6)], [(0, 3), (2, 3)], [(2, 0), (4, 0), (4, 6), (2, 6), (2, 0)]],
    "\u042f": [[(4, 0), (4, 6)], [(4, 0), (1, 0), (1, 3), (4, 3)], [(2, 3), (0, 6)]],
}


def strange(word: str, high: int) -> NDArray[np.uint8]:
    """Soft tissue, and a word in letters of no alphabet that the recogniser knows."""
    picture = Image.fromarray(drawn(""))
    pen = ImageDraw.Draw(picture)
    for place, letter in enumerate(word):
        for line in _STRANGE[letter]:
            points = [(20 + (place * 6 + x) * high / 6, 40 + y * high / 6) for x, y in line]
            pen.line(points, fill=255, width=max(high // 8, 1))
    return np.asarray(picture)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("high", [14, 20])
def test_what_the_recogniser_cannot_read_is_blanked_all_the_same(high: int) -> None:
    picture = strange("\u0416\u0428\u042e\u0414\u042f\u0416\u0428", high)
    output, values = result(capture([picture]), installed_reader())
    ink = (picture == 255) & (drawn("") < 200)
    assert ink.sum() > 200
    assert (values[ink] == 255).mean() < 0.02
    assert output.BurnedInAnnotation == "NO"


class Engine:
    """The library's interface: a detector that finds one box, and a recogniser that says something."""

    def __init__(self, says: str, box: tuple[int, int, int, int]) -> None:
        self.says, self.box = says, box
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, picture: Picture, *, use_det: bool, use_cls: bool, use_rec: bool) -> SimpleNamespace:
        assert not use_cls
        if use_det:
            assert not use_rec  # together the library drops what it cannot read
            self.shapes.append(picture.shape)
            x0, y0, x1, y1 = self.box
            corners = np.array([[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]], float)
            return SimpleNamespace(boxes=corners, scores=[0.9])
        return SimpleNamespace(txts=(self.says,), scores=(0.9 if self.says else 0.0,))


def read_by(engine: Engine, shape: tuple[int, int]) -> list[Text]:
    reader = RapidReader()
    reader._engine = engine
    return reader.read(np.zeros((*shape, 3), np.uint8))


def test_a_box_that_says_nothing_is_told_and_sure_where_it_is_a_line() -> None:
    (line,) = read_by(Engine("", (10, 10, 90, 30)), (100, 200))
    assert (line.says, line.is_read, line.is_sure) == ("", False, True)
    (blob,) = read_by(Engine("", (10, 10, 40, 30)), (100, 200))
    assert not blob.is_sure
    (turned,) = read_by(Engine("DOE", (10, 10, 30, 90)), (100, 200))
    assert turned.is_read
    assert read_by(Engine("", (0, 0, 200, 100)), (100, 200)) == []  # all of it: the detector saw nothing
    assert read_by(Engine("", (0, 150, 90, 160)), (100, 200)) == []  # beside the picture, in its padding


def test_large_pictures_are_read_in_tiles_and_as_a_whole_and_strips_are_widened() -> None:
    engine = Engine("DOE", (10, 10, 60, 30))
    texts = read_by(engine, (1500, 2000))
    assert max(max(shape[:2]) for shape in engine.shapes) <= 800
    lefts, tops = {text.box[0] for text in texts}, {text.box[1] for text in texts}
    assert lefts == {10, 682, 1354, 30}  # three tiles, and the whole in thirds
    assert tops == {10, 682, 1354, 30}
    strip = Engine("DOE", (10, 2, 60, 12))
    read_by(strip, (16, 780))
    (shape,) = strip.shapes
    assert shape[0] * 8 > shape[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("rows", "columns", "size"), [(1600, 1500, 24), (20, 500, 14)])
def test_a_name_in_a_large_picture_and_in_a_low_one_is_read(rows: int, columns: int, size: int) -> None:
    picture = Image.new("L", (columns, rows), 90)
    ImageDraw.Draw(picture).text((40, min(700, rows - 18)), "SMITH ADAM", fill=255, font=ImageFont.load_default(size))
    reader = installed_reader()
    assert reader is not None
    found = reader.read(np.repeat(np.asarray(picture)[..., None], 3, axis=2))
    assert any("SMITH" in text.says for text in found)
