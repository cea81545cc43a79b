"""Numbers, lookup tables and ICC profiles: no words hide in them, none of them is an identifier, and real ones stay."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms
from pydicom import config
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.binary import holds_text, is_text, is_text_in_signal
from dicomnode.deidentification.icc import rebuilt
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms, later
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import report

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
FULL_DATES = Policy(name="full", options=EXPORT.options - {Option.MODIFIED_DATES} | {Option.FULL_DATES})
POLICIES = pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RAMP = np.arange(256)

pytestmark = pytest.mark.filterwarnings("ignore")


def raw(ds: Dataset, tag: int, vr: str, value: bytes) -> None:
    ds[tag] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def out_of(ds: Dataset, policy: Policy) -> Dataset:
    """Output of the full way; the quick way, which had another slice before, gives the same."""
    data = planted.encoded(ds)
    engine = Deidentifier(policy, PSEUDONYMS)
    done = engine.deidentify(read_part10(data, Limits())).dataset
    files = FileDeidentifier(engine, Limits())
    other = planted.slice_of_ct()
    other.update({tag: element for tag, element in ds.items() if tag not in (0x00189306, 0x00080033, 0x00189461)})
    if "EffectiveDuration" not in other and 0x00189306 in ds:
        other.SingleCollimationWidth = 0.25
    files.deidentify(planted.encoded(other))
    again = files.deidentify(data).data
    assert again == encode_part10(done, transfer_syntax_uid=str(done.file_meta.TransferSyntaxUID))
    return read_part10(again, Limits())


@pytest.mark.parametrize(
    "data",
    [
        b"Fuchsberger\nA\0\0\0\0", b"\0\1Sister Fuchsberger Hildegard  ", "Meyer Hans".encode("utf-16-le"), "Meyer Hans".encode("utf-16-be"),
        b"MMUUSSTTEERRMMAANN", bytes(300) + b"MUSTERMANN" + bytes(300), bytes(10) + b"MEYER\0", b"LIXU", b"\1\2Meyer^Hans 19620113\xff",
    ],
)  # fmt: skip
def test_words_where_numbers_belong_are_found(data: bytes) -> None:
    assert is_text(data)
    assert is_text(data * 1, "UL")


@pytest.mark.parametrize(
    "values",
    [
        RAMP.astype("u1"), 255 - RAMP.astype("u1"), RAMP.astype("<u2"), (RAMP * 257).astype("<u2"), np.arange(65536).astype("<u2"),
        np.repeat(RAMP, 4).astype("u1"), (255 * (np.arange(4096) / 4095) ** 2.2).astype("<u2"), abs(np.arange(512) - 256).astype("<u2"),
        (np.sin(np.arange(4096) / 400) * 2000 + 2048).astype("<u2"), np.zeros(64, "u1"), np.array([1000.0, 0.5], "<f4"),
    ],
)  # fmt: skip
def test_tables_are_no_text(values: np.ndarray[tuple[int], np.dtype[np.generic]]) -> None:
    assert not is_text(values.tobytes())
    assert not is_text(values[::-1].tobytes())


def pulse(count: int, low: float, high: float, dtype: str) -> bytes:
    """A pressure wave between two values, a little noisy."""
    place = np.arange(count) / 40
    wave = (np.sin(place) + 0.3 * np.sin(2 * place) + 1.3) / 2.6
    return (low + (high - low) * wave + np.random.default_rng(3).normal(0, 0.6, count)).astype(dtype).tobytes()


@pytest.mark.parametrize(
    ("data", "allocated", "channels"),
    [
        (pulse(4000, 66, 121, "u1"), 8, 1), (pulse(4000, 70, 120, "<i2"), 16, 1), (pulse(9000, 100, 110, "<i2"), 16, 1),
        (pulse(4000, 1, 200, "u1"), 8, 1), (pulse(6000, 16705, 31000, "<i2"), 16, 1),
        (np.stack([np.frombuffer(pulse(3000, 70, low, "<i2"), "<i2") for low in (90, 120, 200)], 1).tobytes(), 16, 3),
    ],
)  # fmt: skip
def test_signals_are_no_text(data: bytes, allocated: int, channels: int) -> None:
    assert not is_text_in_signal(data, allocated, channels)
    place = len(data) // 4 // (channels * allocated // 8) * (channels * allocated // 8)
    for words in (b"FUCHSBERGER^HILDEGARD 19510203 ", "Fuchsberger, Hildegard".encode("utf-16-le")):
        assert is_text_in_signal(data[:place] + words + data[place + len(words) :], allocated, channels)
    assert is_text_in_signal(b"Fuchsberger, Hildegard, geb. 3.2.1951" * 8, allocated, channels)


@POLICIES
def test_a_wave_keeps_its_samples(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    item = Dataset()
    item.NumberOfWaveformChannels, item.NumberOfWaveformSamples, item.WaveformBitsAllocated = 1, 4000, 8
    item.add_new(0x54001010, "OB", pulse(4000, 66, 121, "u1"))
    ds.WaveformSequence = Sequence([item])
    assert out_of(ds, policy).WaveformSequence[0].WaveformData == item.WaveformData
    channel = Dataset()
    channel.add_new(0x54000110, "OB", b"\x42")
    channel.add_new(0x54000112, "OB", "MTRA K\u00fcbler".encode("latin-1") + b"\0")
    item.ChannelDefinitionSequence = Sequence([channel])
    done = out_of(ds, policy).WaveformSequence[0].ChannelDefinitionSequence[0]
    assert (done.ChannelMinimumValue, "ChannelMaximumValue" in done) == (b"\x42\0", False)
    item.WaveformData = b"FUCHSBERGER^HILDEGARD " + item.WaveformData[22:]
    assert "WaveformData" not in out_of(ds, policy).WaveformSequence[0]


def test_how_often_chance_makes_words() -> None:
    """Tables of random colours: fewer than one in 500; floats: fewer than one in 1000."""
    rng = np.random.default_rng(1)
    tables = [rng.integers(0, 256, 256).astype("u1").tobytes() for _ in range(1500)]
    assert sum(map(is_text, tables)) <= 3
    assert sum(is_text((rng.integers(0, 256, 256) * 257).astype("<u2").tobytes()) for _ in range(1500)) <= 3
    singles = [np.float32(rng.normal() * 10).tobytes() for _ in range(3000)]
    assert sum(is_text(one, "FL") for one in singles) <= 3


def test_decimals_are_no_words() -> None:
    """10.2 is ``ffffff$@`` in bytes, 57.6 and 14.4 together are ``fffBfffA``."""
    tenths = np.arange(-20000, 20000) / 10
    for dtype, vr in (("<f8", "FD"), ("<f4", "FL")):
        assert not [value for value in tenths if is_text(value.astype(dtype).tobytes(), vr)]
        lists = np.random.default_rng(2).choice(tenths, (5000, 6)).astype(dtype)
        taken = [
            values for values in lists if is_text(values.tobytes(), vr) or is_text(values.byteswap().tobytes(), vr)
        ]
        assert len(taken) <= 2  # of 5000 lists


@POLICIES
@pytest.mark.parametrize(
    ("tag", "vr", "value"),
    [
        (0x00189461, "FL", b"Fuchsberger\nA\0\0\0"), (0x00189306, "FD", b"FUCHSBER"), (0x00189306, "FD", struct.pack("<d", 778812.0)),
        (0x00189461, "FL", struct.pack("<f", 778812.0)), (0x00186060, "FL", struct.pack("<f", 778812.0)), (0x00189306, "FD", struct.pack("<d", 19510203.0)),
        (0x00186030, "UL", struct.pack("<L", 778812)), (0x00186020, "SL", struct.pack("<l", 778812)),
        (0x00189461, "FL", struct.pack("<2f", 512.0, 778812.0)), (0x00189461, "FL", struct.pack("<8f", *range(7), 778812.0)), (0x00189461, "FL", struct.pack("<f", 510203.0)),
        (0x00189461, "LO", b"FUCHSBERGER "), (0x00189306, "SH", b"SOMEBODY"),
        (0x00181060, "OB", b"FUCHSBERGER "), (0x0018602C, "UC", b"SOMEBODY"),
    ],
)  # fmt: skip
def test_neither_words_nor_identifiers_as_numbers(tag: int, vr: str, value: bytes, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    raw(ds, tag, vr, value)
    assert value not in encode_part10(out_of(ds, policy), transfer_syntax_uid=planted.EXPLICIT)


@pytest.mark.parametrize(
    ("vr", "value"),
    [
        ("FD", b"Dr Huber"), ("FD", b"K Huber "), ("FD", b"0761-270"), ("FD", b"\0Huber\0\0"), ("FD", "Hube".encode("utf-16-le")),
        ("FL", b"Dr Huber 0171\0\0\0"), ("FD", struct.pack("<d", 1.5) + b"Dr Huber"), ("OD", b"A.Huber "),
    ],
)  # fmt: skip
def test_short_words_as_floats_that_nothing_measures(vr: str, value: bytes) -> None:
    assert holds_text(RawDataElement(Tag(0x00189306), vr, len(value), value, 0, False, True), vr)


@POLICIES
def test_numbers_of_nobody_stay(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.SingleCollimationWidth, ds.DiffusionBValue = 0.5, 1000.0
    raw(ds, 0x00186030, "UL", struct.pack("<L", 778813))
    ds.PatientBirthDate, ds.PatientID = "19510203", "100000"
    ds.RepetitionTime, ds.ExposureInuAs, ds.FrameReferenceTime = "30251", "510204", "100000"  # and no date of birth
    done = out_of(ds, policy)
    assert (done.RepetitionTime, done.ExposureInuAs, done.FrameReferenceTime) == (30251, 510204, 100000)
    assert (done.SingleCollimationWidth, done.DiffusionBValue, done[0x00186030].value) == (0.5, 1000.0, 778813)
    ds.ExposureInuAs = "510203"  # year, month and day of birth
    assert "ExposureInuAs" not in out_of(ds, policy)


@POLICIES
def test_big_endian_numbers(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.add_new(0x00186030, "UL", 778812)
    data = planted.encoded(ds, "1.2.840.10008.1.2.2")
    done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(data, Limits())).dataset
    assert 0x00186030 not in done


@POLICIES
def test_measured_values_of_reports(policy: Policy) -> None:
    ds = report().dataset
    ds.PatientID = "12345678"
    value = Dataset()
    value.NumericValue, value.FloatingPointValue = "5", 12345678.0
    ds.ContentSequence[0].MeasuredValueSequence = Sequence([value])
    source = read_part10(planted.encoded(ds), Limits())
    done = Deidentifier(policy, PSEUDONYMS).deidentify(source).dataset
    assert "FloatingPointValue" not in done.ContentSequence[0].MeasuredValueSequence[0]


def lut(values: bytes, entries: int = 16) -> Dataset:
    ds = planted.slice_of_ct()
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [entries, 0, 16], "HU"
    raw(item, 0x00283006, "OW", values)
    ds.ModalityLUTSequence = Sequence([item])
    return ds


@POLICIES
def test_lookup_tables(policy: Policy) -> None:
    table = np.arange(16).astype("<u2").tobytes()
    assert out_of(lut(table), policy).ModalityLUTSequence[0].LUTData == table
    assert out_of(lut(table + b"Fuchsberger Hildegard "), policy).ModalityLUTSequence[0].LUTData == table
    for words in (b"\0\1Sister Fuchsberger Hildegard  ", "Meyer Hans Dieter".encode("utf-16-le")):
        with pytest.raises(StudyError) as caught:
            Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(lut(words)), Limits()))
        assert (caught.value.code, caught.value.facts["because"]) == ("withheld-pixels", "lookup-table")


@POLICIES
def test_palettes(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    palette = (RAMP * 257).astype("<u2").tobytes()
    ds.RedPaletteColorLookupTableDescriptor = [256, 0, 16]
    raw(ds, 0x00281201, "OW", palette)
    assert "RedPaletteColorLookupTableData" not in out_of(ds, policy), "no pixel goes through it"
    ds.PixelPresentation = "COLOR"
    raw(ds, 0x00281201, "OW", palette + b"MEYER HANS")
    assert out_of(ds, policy).RedPaletteColorLookupTableData == palette
    raw(ds, 0x00281201, "OW", b"\0\1Sister Fuchsberger Hildegard  ")
    assert "RedPaletteColorLookupTableData" not in out_of(ds, policy)  # no colour is looked up in it
    ds.PhotometricInterpretation = "PALETTE COLOR"
    with pytest.raises(StudyError, match="withheld-pixels"):
        out_of(ds, policy)


def retold(profile: bytes, before: str, after: str) -> bytes:
    """A profile whose text of version 4 says something else of the same length."""
    return profile.replace(before.encode("utf-16-be"), after.ljust(len(before)).encode("utf-16-be"))


def colours(profile: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    return np.asarray(ImageCms.profileToProfile(picture, source, ImageCms.createProfile("LAB"), outputMode="LAB"))


def test_profiles_keep_their_colours_and_no_words() -> None:
    new = rebuilt(SRGB)
    assert new is not None
    assert rebuilt(new) == new
    assert np.array_equal(colours(new), colours(SRGB))
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(new))).strip() == "sRGB built-in"
    other = rebuilt(retold(SRGB, "sRGB built-in", "Fuchsberger"))
    assert other is not None
    assert "Fuchs".encode("utf-16-be") not in other
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(other))).strip() == "ICC profile"
    assert np.array_equal(colours(other), colours(SRGB))


def tagged(signature: bytes, data: bytes) -> bytes:
    """A profile of version 2 with white, and one tag more."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3l", 63190, 65536, 54061)
    tags, body, start = [(b"wtpt", white), (signature, data)], b"", 128 + 4 + 24
    table = struct.pack(">L", 2)
    for name, one in tags:
        table += name + struct.pack(">2L", start + len(body), len(one))
        body += one
    head = SRGB[:8] + b"\2\x10\0\0" + SRGB[12:128]
    return struct.pack(">L", start + len(body)) + head[4:] + table + body


CURVE = b"curv\0\0\0\0"
TABLE = b"mft1\0\0\0\0\3\3\2\0" + struct.pack(">9l", *[65536, 0, 0, 0, 65536, 0, 0, 0, 65536])
RAMPS = bytes(range(256))


@pytest.mark.parametrize(
    ("signature", "data"),
    [
        (b"rTRC", CURVE + struct.pack(">L", 2) + struct.pack(">2H", 0, 65535)), (b"rTRC", CURVE + bytes(4)),
        (b"rTRC", b"para\0\0\0\0\0\0\0\0" + struct.pack(">l", 144000)), (b"desc", b"desc\0\0\0\0\0\0\0\5sRGB\0"),
        (b"desc", b"desc\0\0\0\0\0\0\0\6Meyer\0"), (b"XXXX", b"text\0\0\0\0Fuchsberger\0"), (b"chad", b"sf32\0\0\0\0" + struct.pack(">l", 65536) * 9),
        (b"A2B0", TABLE + RAMPS * 3 + bytes(range(24)) + RAMPS * 3), (b"desc", b"what\0\0\0\0"),
    ],
)  # fmt: skip
def test_profiles_that_are_made_anew(signature: bytes, data: bytes) -> None:
    new = rebuilt(tagged(signature, data))
    assert new is not None
    assert rebuilt(new) == new
    assert b"Fuchs" not in new
    assert b"Meyer" not in new
    assert (b"sRGB" in new) == (b"sRGB" in data)


@pytest.mark.parametrize(
    "profile",
    [
        b"", b"\0\0\x01\0desc Copyright Fuchsberger Klinik\0\0", SRGB[:200], SRGB[:36] + b"xxxx" + SRGB[40:], SRGB[:12] + b"Fuch" + SRGB[16:],
        SRGB[:128] + b"\0\0\xff\xff" + SRGB[132:], SRGB[:136] + b"\0\xff\xff\xff" + SRGB[140:],
        tagged(b"rTRC", CURVE + struct.pack(">L", 6) + b"Fuchsberger "), tagged(b"rTRC", CURVE + struct.pack(">L", 1) + b"\1\0Fuchs"),
        tagged(b"rXYZ", b"XYZ \0\0\0\0Fuchsberger "), tagged(b"rTRC", b"XYZ \0\0\0\0" + bytes(12)), tagged(b"rTRC", b"curvFuch" + bytes(4)),
        tagged(b"A2B0", TABLE + RAMPS * 3 + b"Fuchsberger Hildegard   " + RAMPS * 3), tagged(b"A2B0", TABLE + RAMPS), tagged(b"rTRC", b"para\0\0\0\0\0\x09\0\0"),
        tagged(b"A2B0", b"mAB \0\0\0\0" + bytes(24) + b"Fuchsberger Hildegard Maria"),
    ],
)  # fmt: skip
def test_profiles_that_nobody_can_prove(profile: bytes) -> None:
    assert rebuilt(profile) is None


@POLICIES
def test_profiles_of_objects(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.ICCProfile = retold(SRGB, "sRGB built-in", "Fuchsberger")
    assert np.array_equal(colours(out_of(ds, policy).ICCProfile), colours(SRGB))
    ds.ICCProfile = b"\0\0\x01\0desc Copyright Fuchsberger Klinik\0\0"
    assert "ICCProfile" not in out_of(ds, policy)


@pytest.mark.parametrize(
    ("value", "seconds", "new"),
    [
        ("101010", 1, "101011"),
        ("235959.5", 2, "235957.5"),  # the date beside it stays
        ("23:59:58", 1, "23:59:59"),
        ("235960", 1, "235959"),
        ("10:59:59", 1, "11:00:00"),
        ("1010", 1, "1010"),
        ("101010", 0, "101010"),
    ],
)
def test_later(value: str, seconds: int, new: str) -> None:
    assert later(value, seconds) == new


@POLICIES
@pytest.mark.parametrize("number", ["101112", "000000", "120000", "0101114"])
def test_an_identifier_like_a_time_of_day_holds_nothing_back(number: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.PatientID, ds.StudyTime = number, number[-6:]
    done = out_of(ds, policy)
    assert done.StudyTime == (
        later(number, 1) if number not in ("000000", "0101114") else number[-6:] if number == "000000" else "101115"
    )
    assert done.ContentTime == ("101116" if done.ContentTime == "101116" else "101115")


@POLICIES
def test_a_moment_before_midnight_stays_on_its_day(policy: Policy) -> None:
    """Else what was injected then would be a day older."""
    ds = planted.slice_of_ct()
    ds.PatientID, ds.StudyTime, ds.AcquisitionDateTime = "235959", "235959", "20200301235959"
    done = out_of(ds, policy)
    assert done.StudyTime == "235958"
    assert done.AcquisitionDateTime == done.StudyDate + "235958"


@pytest.mark.parametrize("policy", [AI, EXPORT, FULL_DATES], ids=["ai", "export", "full"])
@pytest.mark.parametrize("day", range(1, 29))
def test_a_number_where_hours_should_be_goes_on_every_day(day: int, policy: Policy) -> None:
    """A day and figures behind it are no hour and minutes."""
    ds = planted.slice_of_ct()
    ds.AccessionNumber, ds.AcquisitionDateTime = "4711", f"202002{day:02}4711"
    done = out_of(ds, policy)
    assert len(done.AcquisitionDateTime) == 8


@POLICIES
def test_a_date_of_birth_like_a_time_of_day(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.PatientBirthDate, ds.ContentTime = "19620113", "130119.62"
    assert out_of(ds, policy).ContentTime == "130120.62"


def test_a_time_that_no_second_makes_another() -> None:
    ds = planted.slice_of_ct()
    ds.OtherPatientIDs, ds.StudyTime = [f"1011{second}" for second in range(10, 30)], "101112"
    assert out_of(ds, AI).StudyTime == ""


@POLICIES
def test_born_on_the_day_of_the_dummy(policy: Policy) -> None:
    ds = report().dataset
    ds.PatientBirthDate = "19000101"
    item, concept = Dataset(), Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "121031", "DCM", "Subject Birth Date"
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", "DATE", Sequence([concept])
    item.Date = "19000101"
    ds.ContentSequence = Sequence([item])
    result = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(ds), Limits()))
    assert (result.leaks, result.dataset.ContentSequence[0].Date) == ((), "19010101")


@POLICIES
@pytest.mark.parametrize("codec", ["iso8859_6", "utf-8", "utf-16-le"])
def test_a_name_of_other_letters_in_bytes_goes_and_holds_nothing_back(codec: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 127", "قباني^لنزار"
    raw(ds, 0x00142210, "OB", "قباني ".encode(codec))
    result = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(ds), Limits()))
    assert (result.leaks, 0x00142210 in result.dataset) == ((), False)


@POLICIES
@pytest.mark.parametrize(
    ("data", "stays"),
    [
        ("B-j-ö-r-n-s-s-o-n ".encode("latin-1"), False), ("B-j-ö-r-n-s-s-o-n".encode(), False),
        (bytes(31 * number % 256 for number in range(36)), True), (bytes(range(200, 236)), True), (b"\xf6A\xf6\0", True),
    ],
)  # fmt: skip
def test_a_text_with_few_other_letters_in_bytes_goes(data: bytes, stays: bool, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    raw(ds, 0x00142210, "OB", data)
    assert (0x00142210 in out_of(ds, policy)) is stays


def test_full_dates_of_a_file_stay() -> None:
    full = Policy(name="full", options=frozenset({Option.FULL_DATES}))
    done = out_of(planted.slice_of_ct(), full)
    assert (done.StudyDate, done.StudyTime) == ("20200301", "101112")


@pytest.fixture(autouse=True)
def _unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config.settings, "_writing_validation_mode", config.IGNORE)
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("SeriesNumber", "71100000", True),
        ("SeriesNumber", "0000000012", True),
        ("SeriesNumber", "12345678.0", True),
        ("SeriesNumber", "202403011", False),
        ("InstanceNumber", "1709294400", False),
        ("CountsAccumulated", "359645212", True),
        ("CountsAccumulated", "2147483647", True),
        ("CountsAccumulated", "6175550123", False),
        ("CountsAccumulated", "202403015551", False),
        ("CountsAccumulated", "000000000001", True),
    ],
)
def test_numbers_as_long_as_accession_numbers_are_none_of_things(keyword: str, value: str, *, kept: bool) -> None:
    """Also where the header names no such identifier; an Integer String has 32 bits (PS3.5 6.2)."""
    ds = planted.slice_of_ct()
    raw(ds, Tag(keyword), "IS", value.encode())
    for policy in (AI, EXPORT):
        assert bool(out_of(ds, policy).get(keyword)) is kept


@pytest.mark.parametrize("syntax", [planted.EXPLICIT, planted.IMPLICIT])
def test_identifiers_of_private_sequences_are_known(syntax: str) -> None:
    """Also of such that came as UN, or without a VR, and go as a whole: what they name must not stand elsewhere."""
    inner = b"\x10\0\x20\0\x08\0\0\x0048151623"  # Patient ID
    ds = planted.slice_of_ct()
    ds.SeriesNumber = "48151623"
    ds.add_new(0x00990010, "LO", "ACME 1.0")
    ds.add_new(0x00991001, "UN", b"\xfe\xff\0\xe0" + len(inner).to_bytes(4, "little") + inner)
    done = Deidentifier(EXPORT, PSEUDONYMS).deidentify(read_part10(planted.encoded(ds, syntax), Limits()))
    assert not done.dataset.SeriesNumber


@POLICIES
@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("AcquisitionDuration", "DS", b"MUELLER^HANS"),  # of floats
        ("RegionLocationMinX0", "IS", b"MUELLER^HANS"),  # of whole numbers
        ("LargestImagePixelValue", "DS", b"QZX "),  # of either
        ("ReconstructionDiameter", "AT", b"MUELLER^HANS"),  # of numbers in letters
        ("ReconstructionDiameter", "US", b"MUELLER^HANS"),
        ("ReconstructionDiameter", "FD", b"MUELLER^HANS1234"),
        ("AcquisitionDuration", "AT", b"MUELLER^HANS"),
        ("RegionLocationMinX0", "FL", b"3/2/1951"),  # no float of a usual size where none belongs
        ("LUTData", "US", b"MUELLER^HANS"),
        ("LUTData", "DS", b"MUELLER^HANS"),
        ("LUTData", "UL", b"MUELLER^HANS"),
        ("PixelSpacing", "DS", b"1_9_5_1.02_03\\1"),  # numbers for Python
        ("PixelSpacing", "DS", b"nan\\infinity"),
    ],
)
def test_no_words_stand_for_numbers_whatever_vr_they_come_with(
    keyword: str, vr: str, value: bytes, policy: Policy
) -> None:
    ds = planted.slice_of_ct()
    raw(ds, tag_for_keyword(keyword) or 0, vr, value)
    data = FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits()).deidentify(planted.encoded(ds)).data
    assert value.strip() not in data
    assert read_part10(data, Limits()).Rows == 8


@POLICIES
def test_numbers_that_come_with_another_vr_stay(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    raw(ds, 0x00189073, "DS", b"12.5")
    raw(ds, 0x00181100, "FD", struct.pack("<d", 350.5))
    raw(ds, 0x00281054, "LO", b"HU")
    raw(ds, 0x00283002, "US", struct.pack("<3H", 256, 0, 16))
    raw(ds, 0x00283006, "US", struct.pack("<300H", *range(0, 600, 2)))
    output = out_of(ds, policy)
    assert (output.AcquisitionDuration, output.ReconstructionDiameter) == (12.5, 350.5)
    assert list(output.LUTData) == list(range(0, 512, 2))  # to the length that it has


@pytest.mark.parametrize(
    "text",
    [b"GEB. 16-AUG-2014", b"20180825", b"Dr Huber", b"12.05.61", b"MRN 1234", b"Ng^Li\0\0\0", b"\0\0\0\0KIM JOON"],
)
def test_text_of_few_letters_in_floats_is_found(text: bytes) -> None:
    assert holds_text(RawDataElement(Tag(0x00189087), "FL", len(text), text, 0, False, True), "FL")


@pytest.mark.parametrize(
    "values", [[0.7, 0.7, 0.7], [10.2, 2.8], [0.0, 10.45], [1e-7, 1e-6], [120.0, 350.0, 1.5], [10.2] * 40]
)
def test_decimals_whose_bytes_are_printable_are_numbers(values: list[float]) -> None:
    value = np.array(values, "<f4").tobytes()
    assert not holds_text(RawDataElement(Tag(0x00189087), "FL", len(value), value, 0, False, True), "FL")
