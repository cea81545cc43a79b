"""A site's rules for devices: what they blank on every frame, what they vouch for, and that all other checks go on."""

from __future__ import annotations

import unicodedata
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification import burned, devices, unflagged
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.explain import explain
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.reader import Picture, Reader, Text
from dicomnode.deidentification.stored import BIG_ENDIAN
from dicomnode.deidentification.written import in_colours
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from dicomnode.site_rules import DeviceRule
from tests.unit.deidentification import planted
from tests.unit.deidentification.pictures import JPEG_BASELINE, JPEG_LS, RLE, Silent, capture, compressed, drawn

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.3.1"
SIZE = 128
BANNER = [0, 0, 127, 39]
MODEL = {"attribute": "ManufacturerModelName", "one_of": ["Rhapsode 7"]}
KIND = {"attribute": "ImageType", "one_of": ["PRIMARY"]}
FORMATS = [
    ("MONOCHROME2", 8, planted.EXPLICIT, 1), ("MONOCHROME1", 8, planted.IMPLICIT, 2), ("MONOCHROME2", 1, planted.EXPLICIT, 3),
    ("RGB", 8, planted.EXPLICIT, 1), ("YBR_FULL", 8, planted.EXPLICIT, 2), ("YBR_FULL_422", 8, planted.EXPLICIT, 1),
    ("PALETTE COLOR", 8, planted.EXPLICIT, 1), ("PALETTE COLOR", 8, RLE, 2), ("MONOCHROME2", 16, RLE, 3), ("RGB", 8, JPEG_LS, 2),
    ("MONOCHROME2", 16, JPEG_LS, 3), ("RGB", 8, JPEG_BASELINE, 2),
]  # fmt: skip


class Finding:
    """A reader that finds one text in every picture, once."""

    def __init__(self) -> None:
        self.left = 1

    def read(self, picture: Picture) -> list[Text]:
        self.left -= 1
        return [Text(box=(20, 90, 60, 110), says="DOE JANE", score=0.9)] if self.left == 0 else []


def picture(text: str = "DOE^JANE 7", place: tuple[int, int] = (6, 12)) -> NDArray[np.uint8]:
    """Soft tissue, and white text: by default where the banner stands."""
    return drawn(text, size=SIZE, place=place)


def rule(name: str = "banner", **said: Any) -> DeviceRule:
    whole = {"name": name, "where": [MODEL, KIND], "rows": SIZE, "columns": SIZE, **said}
    return DeviceRule.model_validate(whole)


#: Of a palette: both bytes of a word say something.
RAMP = np.arange(256, dtype=np.uint16) * 251
VOUCHED = rule(blank=[BANNER], rest_is_clean=True)


def of_device(ds: Dataset, syntax: str = planted.EXPLICIT) -> Dataset:
    ds.ManufacturerModelName, ds.ImageType = "Rhapsode 7", ["ORIGINAL", "PRIMARY"]
    ds.file_meta.TransferSyntaxUID = syntax
    return read_part10(planted.encoded(ds, syntax), Limits())


def slice_with(values: NDArray[np.generic]) -> Dataset:
    ds = planted.slice_of_ct(*values.shape)
    ds.PixelData = values.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    return ds


def tissue_with_text() -> NDArray[np.generic]:
    rng = np.random.default_rng(7)
    tissue = rng.normal(1000, 60, (SIZE, SIZE)).astype(int).clip(0, 4095)
    return np.where(picture() == 255, tissue.max(), tissue)


def result(ds: Dataset, *rules: DeviceRule, policy: Policy = EXPORT, reader: Reader | None = None) -> Dataset:
    engine = Deidentifier(replace(policy, devices=rules), PSEUDONYMS, reader=reader)
    done = engine.deidentify(ds).dataset
    return read_part10(encode_part10(done, transfer_syntax_uid=str(done.file_meta.TransferSyntaxUID)), Limits())


def reason(ds: Dataset, *rules: DeviceRule, policy: Policy = EXPORT, reader: Reader | None = None) -> object:
    with pytest.raises(StudyError, match="withheld-pixels") as caught:
        result(ds, *rules, policy=policy, reader=reader)
    return caught.value.facts["because"]


def methods(ds: Dataset) -> list[str]:
    return [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("photometric", "bits", "syntax", "count"), FORMATS)
def test_a_banner_is_blanked_on_every_frame(photometric: str, bits: int, syntax: str, count: int) -> None:
    shown = [picture(f"DOE^JANE {number}") for number in range(count)]
    source = of_device(compressed(capture(shown, photometric, bits), syntax), syntax)
    before = source.PixelData
    output = result(source, VOUCHED, policy=AI if bits == 8 else EXPORT)
    values = output.pixel_array.reshape(count, SIZE, SIZE, -1)
    assert (values[:, :40] == values[0, 0, 0]).all()
    clean = of_device(compressed(capture(shown, photometric, bits), syntax), syntax)
    if photometric not in ("YBR_FULL", "YBR_FULL_422") and syntax != JPEG_BASELINE:
        assert np.array_equal(values[:, 40:], clean.pixel_array.reshape(values.shape)[:, 40:])
    assert bits == 1 or len(np.unique(values[:, 40:])) > 20
    assert output.file_meta.TransferSyntaxUID == (syntax if syntax == planted.IMPLICIT else planted.EXPLICIT)
    assert "113101" in methods(output)
    assert "BurnedInAnnotation" not in output
    assert source.PixelData == before


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
def test_what_no_rule_takes_is_what_it_was(policy: Policy) -> None:
    shot = of_device(capture([picture()]))
    for other in (
        rule(blank=[BANNER], rest_is_clean=True, where=[{**MODEL, "one_of": ["Rhapsode 8"]}, KIND]),
        rule(
            blank=[BANNER], rest_is_clean=True, where=[MODEL, KIND, {"attribute": "SoftwareVersions", "matches": "^2"}]
        ),
        rule(blank=[BANNER], rest_is_clean=True, columns=512),
        rule(blank_fractions=[[0, 0, 1, 1]], rest_is_clean=True, rows=512),
    ):
        assert devices.missed(other, shot)
        assert reason(shot, other, policy=policy) == "kind"
    plain = of_device(slice_with(np.arange(SIZE * SIZE).reshape(SIZE, SIZE) % 977))
    assert result(plain, rule(blank=[BANNER], rows=512, columns=512), policy=policy).PixelData == plain.PixelData


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
def test_rectangles_alone_prove_nothing_of_the_rest(policy: Policy) -> None:
    shot = of_device(capture([picture()]))
    assert reason(shot, rule(blank=[BANNER]), policy=policy) == "kind"
    output = result(shot, rule(blank=[BANNER]), policy=policy, reader=Silent())
    assert (output.pixel_array[:40] == output.pixel_array[0, 0]).all()
    assert output.BurnedInAnnotation == "NO"


def test_the_word_of_a_site_is_not_believed_where_letters_are_seen() -> None:
    assert reason(of_device(capture([picture("SMITH ADAM", (6, 90))])), VOUCHED) == "strokes"


def test_letters_of_one_value_in_a_derived_image_are_seen_whoever_vouches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unflagged, "faint_lines", lambda image: iter(()))
    monkeypatch.setattr(burned, "has_letters", lambda *_: False)
    tissue = np.random.default_rng(7).normal(1000, 30, (SIZE, SIZE)).astype(int)
    tissue[110:120, 60:70] = 2600  # metal
    for text in ("", "DOE JANE"):
        ds = slice_with(np.where(picture(text, (6, 60)) == 255, 1400, tissue))
        ds.BurnedInAnnotation = "YES"
        source = of_device(ds)
        source.ImageType = ["DERIVED", "PRIMARY"]
        if text:
            assert reason(source, VOUCHED) == "strokes"
        else:
            result(source, VOUCHED)


def test_who_reads_reads_what_the_site_vouches_for() -> None:
    reader = Finding()
    output = result(of_device(capture([picture()])), VOUCHED, reader=reader)
    assert reader.left < 0
    assert (output.pixel_array[90:111, 20:61] == output.pixel_array[0, 0]).all()


@pytest.mark.parametrize("said", ["YES", "NO"])
@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
def test_nobody_who_has_not_read_says_that_it_is_clean(policy: Policy, said: str) -> None:
    ds = capture([picture()])
    ds.BurnedInAnnotation = said
    assert "BurnedInAnnotation" not in result(of_device(ds), VOUCHED, policy=policy)


def test_what_says_itself_that_it_is_written_on_needs_rectangles() -> None:
    ds = capture([picture("")])
    nothing = rule(rest_is_clean=True)
    assert result(of_device(ds), nothing).PixelData == ds.PixelData
    assert "113101" not in methods(result(of_device(ds), nothing))
    ds.BurnedInAnnotation = "YES"
    assert reason(of_device(ds), nothing) == "kind"


@pytest.mark.parametrize("shape", [(5, 40), (7, 64), (40, 7)])
def test_too_small_to_be_read_and_large_enough_to_write_on_is_not_vouched_for(shape: tuple[int, int]) -> None:
    ds = of_device(capture([np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)]))
    nothing = rule(rest_is_clean=True, rows=None, columns=None)
    assert reason(ds, nothing, policy=AI) == "small"


@pytest.mark.parametrize("keyword", ["ConversionType", "Modality"])
def test_paper_stays_paper(keyword: str) -> None:
    ds = capture([picture()])
    setattr(ds, keyword, "SD" if keyword == "ConversionType" else "DOC")
    assert reason(of_device(ds), VOUCHED) == "paper"


def test_of_rules_that_contradict_the_stricter_counts() -> None:
    shot = of_device(capture([picture()]))
    also = rule("also", blank=[[0, 120, 127, 127]], where=[KIND])
    assert reason(shot, VOUCHED, rule("none", withhold=True, where=[KIND])) == "device"
    assert reason(shot, VOUCHED, also) == "kind"  # not both vouch for the rest
    values = result(shot, VOUCHED, also, reader=Silent()).pixel_array
    assert (values[:40] == values[0, 0]).all()
    assert (values[120:] == values[0, 0]).all()
    assert len(np.unique(values[40:120])) > 20


def test_images_without_any_flag_are_searched_without_what_is_blanked() -> None:
    written = of_device(slice_with(tissue_with_text()))
    assert reason(written) == "strokes"
    output = result(written, rule(blank=[BANNER]))
    assert (output.pixel_array[:40] == output.pixel_array[0, 0]).all()
    assert "113101" in methods(output)
    seen = result(written, rule(blank=[BANNER]), policy=AI)
    assert seen.PixelData == output.PixelData
    assert "113101" not in methods(seen)  # of the rest nobody knows


def test_fractions_are_of_frames_of_any_size() -> None:
    small = of_device(slice_with(np.arange(70).reshape(7, 10) + 1))
    wide = rule(rows=None, columns=None, blank_fractions=[[0, 0, 0.31, 0.5], [0.9, 0.99, 1, 1]])
    assert devices.boxes_of(wide, small) == ((0, 0, 3, 3), (9, 6, 9, 6))
    values = result(small, wide, policy=AI).pixel_array
    expected = np.arange(70).reshape(7, 10) + 1
    expected[:4, :4] = expected[6, 9] = 1
    assert np.array_equal(values, expected)


def test_pixels_that_no_rectangle_can_be_blanked_in_are_withheld() -> None:
    ds = slice_with(np.ones((SIZE, SIZE), int))
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.30"
    del ds.PixelData, ds.PixelRepresentation
    ds.BitsAllocated, ds.FloatPixelData = 32, np.ones((SIZE, SIZE), "<f4").tobytes()
    assert reason(of_device(ds), VOUCHED) == "device"
    assert "FloatPixelData" in result(of_device(ds), rule(rest_is_clean=True))


def test_a_header_alone_has_nothing_to_blank() -> None:
    ds = capture([picture()])
    del ds.PixelData
    source = of_device(ds)
    assert devices.missed(rule(withhold=True), source) == "PixelData"
    assert "PixelData" not in result(source, VOUCHED, rule("none", withhold=True, where=[KIND]))


def scan(text: str, place: tuple[int, int]) -> Dataset:
    ds = capture([picture(text, place)] * 2, "RGB")
    ds.SOPClassUID, ds.Modality = ULTRASOUND, "US"
    del ds.ConversionType
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 80
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 127, 127
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    return of_device(compressed(ds, RLE), RLE)


def test_ultrasound_that_the_site_vouches_for_keeps_its_regions_alone() -> None:
    output = result(scan("DOE JANE", (6, 50)), VOUCHED)
    values = output.pixel_array
    assert values.shape == (2, SIZE, SIZE, 3)
    assert not values[:, :80].any()
    assert len(np.unique(values[:, 80:])) > 20
    assert "113101" in methods(output)
    assert reason(scan("DOE JANE", (6, 95)), VOUCHED) == "strokes"
    assert reason(scan("DOE JANE", (6, 50)), rule(blank=[BANNER])) == "ultrasound"
    read = result(scan("DOE JANE", (6, 50)), VOUCHED, reader=Silent())
    assert np.array_equal(read.pixel_array, values)
    assert read.BurnedInAnnotation == "NO"


def test_ultrasound_that_the_site_vouches_for_without_rectangles_keeps_its_regions_alone() -> None:
    values = result(scan("DOE JANE", (6, 50)), rule(rest_is_clean=True), policy=AI).pixel_array
    assert not values[:, :80].any()


@pytest.mark.parametrize(
    ("condition", "takes"),
    [
        ({"attribute": "SoftwareVersions", "one_of": ["va20"]}, True),
        ({"attribute": "SoftwareVersions", "matches": "^vb"}, True),
        ({"attribute": "SoftwareVersions", "matches": "^vc"}, False),
        ({"attribute": "Rows", "at_least": 100, "at_most": 200}, True),
        ({"attribute": "Columns", "at_least": 129}, False),
        ({"attribute": "BurnedInAnnotation", "one_of": ["NO"], "unless": True}, True),
        ({"attribute": "BurnedInAnnotation", "one_of": ["NO"]}, False),
        ({"attribute": "StationName", "one_of": ["Röntgen 2"]}, True),
        ({"attribute": "KVP", "at_most": 120.5}, True),
        ({"attribute": "Manufacturer", "matches": "."}, False),
    ],
)
def test_conditions_are_those_of_routing(condition: dict[str, object], takes: bool) -> None:
    ds = slice_with(np.zeros((SIZE, SIZE)))
    ds.SoftwareVersions, ds.StationName, ds.Manufacturer, ds.KVP = ["VA20", "VB10"], "Röntgen 2", "", "120"
    source = of_device(ds)
    missed = devices.missed(rule(where=[condition], withhold=True), source)
    assert missed == ("" if takes else condition["attribute"])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    ("model", "also"),
    [
        ("\uff21\uff23\uff2d\uff25\u8d85\u97f3\u6ce2", "ACME\u8d85\u97f3\u6ce2"),
        ("Röntgen", "ro\u0308ntgen"),
        ("ACME\u00ae \u2161", "acme\u00ae \u2161"),
        ("AC\u00adME\u200b", "ACME"),
    ],
)
def test_a_condition_is_met_however_its_letters_are_written(model: str, also: str, form: Literal["NFC", "NFD"]) -> None:
    ds = slice_with(np.zeros((SIZE, SIZE)))
    source = of_device(ds)
    source.SpecificCharacterSet, source.ManufacturerModelName = "ISO_IR 192", unicodedata.normalize(form, model)
    for said in (model, also, unicodedata.normalize("NFD", model)):
        condition = {"attribute": "ManufacturerModelName", "one_of": [said]}
        assert devices.missed(rule(where=[condition], withhold=True), source) == "", said
    condition["matches"] = model
    assert devices.missed(rule(where=[condition], withhold=True), source) == ""


def test_other_slices_of_a_series_go_the_quick_way_as_before() -> None:
    """A rule asks for what the quick way would take for a number like any other."""
    takes = rule(
        rows=16, columns=16, blank=[[0, 0, 15, 3]], where=[{"attribute": "InstanceNumber", "one_of": ["3", "4"]}]
    )
    policy = replace(AI, devices=(takes,))
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    ways = []
    for number in ("1", "2", "3", "1", "4", "2", "1"):
        ds = planted.slice_of_ct(16, 16)
        ds.SOPInstanceUID, ds.InstanceNumber, ds.SliceLocation = f"1.2.3.4.{len(ways)}", number, str(1.5 * len(ways))
        ds.PixelData = (np.arange(256) + 1).astype("<u2").tobytes()
        data = planted.encoded(ds)
        done = files.deidentify(data)
        full = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(data, Limits())).dataset
        assert done.data == encode_part10(full, transfer_syntax_uid=planted.EXPLICIT)
        assert (read_part10(done.data, Limits()).PixelData == ds.PixelData) is (number in "12")
        ways.append(done.quick)
    assert ways == [False, False, False, True, False, True, True]


def test_what_is_vouched_for_is_searched_slice_by_slice() -> None:
    policy = replace(AI, devices=(rule(rest_is_clean=True, blank=[BANNER]),))
    files = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits())
    for number, shown in enumerate((np.where(picture("") > 0, 900, 0), tissue_with_text(), tissue_with_text()[::-1])):
        ds = slice_with(shown)
        ds.SOPInstanceUID, ds.BurnedInAnnotation = f"1.2.3.4.{number}", "YES"
        data = planted.encoded(of_device(ds))
        if number < 2:
            assert not files.deidentify(data).quick
        else:
            with pytest.raises(StudyError, match="withheld-pixels"):
                files.deidentify(data)


def test_explanations_name_the_rules_that_take_an_image() -> None:
    source = of_device(slice_with(tissue_with_text()))
    rules = (
        VOUCHED,
        rule("two", blank=[BANNER], blank_fractions=[[0, 0, 1, 0.1]], where=[KIND]),
        rule("none", withhold=True, rows=512),
        rule("paper", withhold=True, where=[MODEL]),
    )
    assert [devices.told(one, source) for one in rules] == [
        "takes it: blanks 1 rectangle, vouches for the rest",
        "takes it: blanks 2 rectangles, the rest is looked at as ever",
        "does not take it (Rows)",
        "withholds it",
    ]
    policy = replace(EXPORT, devices=rules[:3])
    output = Deidentifier(policy, PSEUDONYMS).deidentify(source).dataset
    told = {line.keyword: line for line in explain(source, output, policy, planted.CT)}
    assert (told["PixelData"].decided, told["PixelData"].outcome) == ("site: devices banner, two", "changed")
    assert not told["Rows"].decided.startswith("site")


def of_big_endian(ds: Dataset) -> Dataset:
    """The same as a machine of another byte order writes it: samples of 8 bits, tables of words."""
    for colour in ("Red", "Green", "Blue"):
        ds.add_new(f"{colour}PaletteColorLookupTableData", "OW", RAMP.astype(">u2").tobytes())
    ds.ModalityLUTSequence = Sequence([Dataset()])
    item = ds.ModalityLUTSequence[0]
    item.LUTDescriptor, item.ModalityLUTType = [256, 0, 16], "US"
    item.add_new("LUTData", "OW", RAMP.astype(">u2").tobytes())
    return read_part10(encode_part10(of_device(ds), transfer_syntax_uid=BIG_ENDIAN), Limits())


def tables(ds: Dataset) -> list[bytes]:
    palettes = [ds[f"{colour}PaletteColorLookupTableData"].value for colour in ("Red", "Green", "Blue")]
    return [*palettes, ds.ModalityLUTSequence[0]["LUTData"].value]


def test_tables_of_big_endian_images_are_written_in_the_order_of_the_output() -> None:
    source = of_big_endian(capture([picture()], "PALETTE COLOR"))
    output = result(source, VOUCHED)
    assert output.file_meta.TransferSyntaxUID == planted.EXPLICIT
    assert output.RedPaletteColorLookupTableDescriptor == [256, 0, 16]
    assert tables(output) == [RAMP.astype("<u2").tobytes()] * 4
    assert np.array_equal(output.pixel_array[40:], picture()[40:])
    read = result(source, rule(blank=[BANNER]), reader=Finding())  # blanked twice
    assert tables(read) == tables(output)
    assert tables(source) == [RAMP.astype(">u2").tobytes()] * 4


def test_tables_of_big_endian_images_stay_where_the_pixels_do() -> None:
    source = of_big_endian(capture([np.full((16, 16), 7, np.uint8)], "PALETTE COLOR"))
    output = result(source, reader=Silent())
    assert output.file_meta.TransferSyntaxUID == BIG_ENDIAN
    assert tables(output) == tables(source)


def test_palettes_are_read_in_their_own_order() -> None:
    ds = capture([picture()], "PALETTE COLOR")
    indices = picture("")
    source = of_big_endian(ds)
    assert np.array_equal(in_colours(indices, source), np.repeat(RAMP[indices][..., None], 3, axis=2))
    assert np.array_equal(in_colours(indices, devices._copy(source)), in_colours(indices, source))
