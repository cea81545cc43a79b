"""Pixels: what is withheld, what of ultrasound stays, in every layout of native pixel data."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification import pixels
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.compressed import Picture, fragments, scrub
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted
from tests.unit.deidentification.pictures import Silent

SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"
US = "1.2.840.10008.5.1.4.1.1.6.1"


def reason(dataset: Dataset, **how: bool) -> object:
    with pytest.raises(StudyError) as caught:
        pixels.plan(dataset, str(dataset.SOPClassUID), pixels.Looking(**how))
    assert caught.value.code == "withheld-pixels"
    return caught.value.facts["because"]


@pytest.mark.parametrize(
    ("changes", "because"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned-in"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "kind"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4"}, "kind"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "image-type"),
        ({"ConversionType": "WSD"}, "conversion"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"SeriesDescription": "Dose Report"}, "description"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6", "ImageType": ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]},
            "slide-label",
        ),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.6", "ImageType": ["DERIVED", "PRIMARY", "OVERVIEW", "NONE"]},
            "slide-label",
        ),
        (
            {"SOPClassUID": SLIDE, "ImageType": ["ORIGINAL", "PRIMARY", "VOLUME"], "SpecimenLabelInImage": "YES"},
            "slide-label",
        ),
        (
            {"SOPClassUID": SLIDE, "ImageType": ["ORIGINAL", "PRIMARY", "THUMBNAIL"], "SpecimenLabelInImage": "NO"},
            "kind",
        ),
        ({"SOPClassUID": SLIDE}, "kind"),
        ({"SOPClassUID": US}, "ultrasound"),
        ({"SOPClassUID": US, "BurnedInAnnotation": "YES"}, "burned-in"),
        ({"SOPClassUID": US, "ConversionType": "WSD"}, "conversion"),
        ({"SOPClassUID": US, "SeriesDescription": "Patient Protocol screenshot"}, "description"),
    ],
)
def test_suspicious_pixels_are_withheld(changes: dict[str, object], because: str) -> None:
    ds = planted.slice_of_ct()
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    assert reason(ds) == because


@pytest.mark.parametrize("policy", [AI, EXPORT])
@pytest.mark.parametrize("corners", [(0, 0, 5, 5), (2, 3, 9, 8), (0, 0, 11, 9)])
def test_ultrasound_that_nobody_reads_is_withheld_whatever_its_regions_leave_out(
    corners: tuple[int, int, int, int], policy: Policy
) -> None:
    ds, _ = ultrasound()
    ds.BurnedInAnnotation = "NO"
    ds.SequenceOfUltrasoundRegions = Sequence([box(corners)])
    with pytest.raises(StudyError) as caught:
        Deidentifier(policy, Pseudonyms(bytes(32), "p")).deidentify(ds)
    assert caught.value.facts["because"] == "ultrasound"


def box(corners: tuple[int, int, int, int]) -> Dataset:
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = corners[:2]
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = corners[2:]
    return region


@pytest.mark.parametrize(
    ("boxes", "kept"),
    [
        ([(0, 0, 18, 19)], ((0, 0, 18, 19),)),
        ([(0, 0, 19, 9), (0, 10, 19, 19)], ((0, 0, 19, 9), (0, 10, 19, 19))),
        ([(0, 0, 2**31, 2**31)], ((0, 0, 19, 19),)),
        ([(0, 0, 0, 0), (2, 2, 9, 9)], ((2, 2, 9, 9),)),
        ([(2, 2, 99, 9)], ((2, 2, 19, 9),)),
        ([(20, 0, 30, 9)], None),  # beside the frame
        ([(0, 25, 9, 30)], None),
        ([(0, 0, 0, 0)], None),
        ([(9, 2, 2, 9)], None),
        ([(2, 9, 9, 2), (2, 2, 9, 9)], None),
    ],
)
def test_regions_within_the_frame_stay_and_are_read(
    boxes: list[tuple[int, int, int, int]], kept: tuple[tuple[int, int, int, int], ...] | None
) -> None:
    ds, _ = ultrasound()
    ds.Rows = ds.Columns = 20
    ds.BurnedInAnnotation = "NO"
    ds.SequenceOfUltrasoundRegions = Sequence([box(corners) for corners in boxes])
    looking = pixels.Looking(reader=Silent())
    if kept:
        assert pixels.plan(ds, US, looking) == pixels.Plan(regions=kept, read="ultrasound")
    else:
        with pytest.raises(StudyError, match="withheld-pixels"):
            pixels.plan(ds, US, looking)


def test_what_ultrasound_says_of_itself_is_why_it_is_read() -> None:
    """In what is flagged, boxes that nobody can read are blanked, too."""
    ds, _ = ultrasound()
    assert pixels.plan(ds, US, pixels.Looking(reader=Silent())).read == "burned-in"


def test_tissue_of_a_slide_is_no_text() -> None:
    ds = planted.slice_of_ct()
    ds.SOPClassUID, ds.ImageType, ds.SpecimenLabelInImage = SLIDE, ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], "NO"
    assert not pixels.plan(ds, SLIDE).blanks


def test_recognizable_faces() -> None:
    ds = planted.slice_of_ct()
    ds.RecognizableVisualFeatures = "YES"
    assert reason(ds, recognizable=False) == "recognizable"
    assert not pixels.plan(ds, planted.CT).blanks


def test_objects_without_pixels() -> None:
    ds = planted.slice_of_ct()
    del ds.PixelData
    ds.BurnedInAnnotation = "YES"
    assert pixels.plan(ds, planted.CT) == pixels.Plan()


def ultrasound(samples: int = 1, frames: int = 1, planar: int = 0, bits: int = 8) -> tuple[Dataset, np.ndarray]:
    ds = planted.slice_of_ct(rows=10, columns=12)
    ds.SOPClassUID, ds.Modality = US, "US"
    ds.SamplesPerPixel, ds.NumberOfFrames, ds.BurnedInAnnotation = samples, frames, "YES"
    ds.PhotometricInterpretation = "RGB" if samples == 3 else "MONOCHROME2"
    if samples > 1:
        ds.PlanarConfiguration = planar
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    shape = (frames, samples, 10, 12) if planar else (frames, 10, 12, samples)
    values = (np.arange(np.prod(shape)) % 90 + 7).astype(f"<u{bits // 8}").reshape(shape)
    ds.PixelData = values.tobytes()
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 3
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 9, 8
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    return ds, values


@pytest.mark.parametrize(
    ("samples", "frames", "planar", "bits"), [(1, 1, 0, 8), (3, 1, 0, 8), (3, 3, 1, 8), (3, 2, 0, 8), (1, 4, 0, 16)]
)
def test_ultrasound_is_blanked_outside_its_regions(samples: int, frames: int, planar: int, bits: int) -> None:
    ds, values = ultrasound(samples, frames, planar, bits)
    result = Deidentifier(EXPORT, Pseudonyms(bytes(32), "p"), reader=Silent()).deidentify(ds)
    out = np.frombuffer(result.dataset.PixelData, values.dtype)[: values.size].reshape(frames, 10, 12, samples)
    by_pixel = np.moveaxis(values, 1, 3) if planar else values  # as what is written anew is
    inside = np.zeros((10, 12), bool)
    inside[3:9, 2:10] = True
    black = 0 if samples == 3 else 7
    expected = np.where(inside[:, :, None], by_pixel, black)
    assert np.array_equal(out, expected)
    assert [item.CodeValue for item in result.dataset.DeidentificationMethodCodeSequence][:2] == ["113100", "113101"]
    assert "BurnedInAnnotation" not in result.dataset  # what stays has too much texture to tell


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (lambda ds: setattr(ds.file_meta, "TransferSyntaxUID", "1.2.840.10008.1.2.4.50"), "undecodable"),
        (lambda ds: setattr(ds.SequenceOfUltrasoundRegions[0], "RegionLocationMaxX1", 1), "regions"),
        (lambda ds: delattr(ds.SequenceOfUltrasoundRegions[0], "RegionLocationMinX0"), "regions"),
        (lambda ds: setattr(ds, "PixelData", b"\0\0"), "undecodable"),
        (lambda ds: setattr(ds, "PhotometricInterpretation", "YBR_FULL_422"), "undecodable"),
    ],
)  # fmt: skip
def test_ultrasound_that_cannot_be_blanked_is_withheld(change: object, because: str) -> None:
    ds, _ = ultrasound()
    change(ds)  # type: ignore[operator]
    with pytest.raises(StudyError) as caught:
        Deidentifier(AI, Pseudonyms(bytes(32), "p"), reader=Silent()).deidentify(ds)
    assert caught.value.facts["because"] == because


@pytest.mark.parametrize("bits", [8, 16])
def test_regions_of_big_endian_words_are_those_of_the_picture(bits: int) -> None:
    """Two pixels of 8 bits share a word there (PS3.5 A.3): the first of them is in its second byte."""
    ds, _ = ultrasound(bits=bits)
    region = ds.SequenceOfUltrasoundRegions[0]
    region.RegionLocationMinX0, region.RegionLocationMaxX1 = 3, 8
    shown = np.arange(120, dtype="u1").reshape(10, 12)
    ds.PixelData = shown.astype(">u2").tobytes() if bits == 16 else shown.tobytes()
    if bits == 8:
        ds.PixelData = shown.view("<u2").astype(">u2").tobytes()
    ds["PixelData"].VR = "OW"
    source = read_part10(planted.encoded(ds, "1.2.840.10008.1.2.2"), Limits())
    output = Deidentifier(EXPORT, Pseudonyms(bytes(32), "p"), reader=Silent()).deidentify(source).dataset
    encoded = encode_part10(output, transfer_syntax_uid=str(output.file_meta.TransferSyntaxUID))
    expected = np.zeros_like(shown)
    expected[3:9, 3:9] = shown[3:9, 3:9]
    assert np.array_equal(pydicom.dcmread(io.BytesIO(encoded)).pixel_array, expected)


def test_the_byte_that_fills_up_an_odd_picture_says_nothing() -> None:
    ds = planted.slice_of_ct(3, 3)
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    for end in (b"\0", b"S"):
        ds.PixelData = bytes(range(9)) + end
        output = Deidentifier(AI, Pseudonyms(bytes(32), "p")).deidentify(ds).dataset
        assert output.PixelData == bytes(range(9)) + b"\0"


def test_empty_pixel_data_stays_empty() -> None:
    ds = planted.slice_of_ct()
    ds.PixelData = b""
    assert Deidentifier(AI, Pseudonyms(bytes(32), "p")).deidentify(ds).dataset.PixelData == b""


def test_streams_that_are_none_are_withheld() -> None:
    value = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0\x04\0\0\0abcd"
    assert fragments(value) == [(16, 20)]
    for syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2.3"):
        with pytest.raises(StudyError):
            scrub(value, syntax, Picture(segment_bytes=4))
    with pytest.raises(StudyError, match="withheld-pixels"):
        scrub(value, "1.2.840.10008.1.2.4.102", Picture())


def test_padding_between_markers_and_bare_markers() -> None:
    stream = b"\xff\xd8\xff\xff\xfe\x00\x06Jane\xff\x01\xff\xe0\x00\x06JFIF\xff\xda\x00\x02zz\xff\xd9"
    stream += b"\0" * (len(stream) % 2)
    value = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0" + len(stream).to_bytes(4, "little") + stream
    out = scrub(value, "1.2.840.10008.1.2.4.57", Picture())
    assert b"Jane" not in out
    assert b"JFIF" in out
    assert b"zz\xff\xd9" in out


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
@pytest.mark.parametrize("sop_class", ["12.1", "4.1", "6.2", "77.1.5.1", "77.1.1.1"])
def test_videos_are_withheld_whatever_shows_them(sop_class: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.SOPClassUID = f"1.2.840.10008.5.1.4.1.1.{sop_class}"
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    with pytest.raises(StudyError) as caught:
        Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")).deidentify(ds)
    assert caught.value.facts["because"] == "video"


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
@pytest.mark.parametrize(
    "keyword", ["SourceImageSequence", "ReferencedImageSequence", "SharedFunctionalGroupsSequence"]
)
def test_no_pixels_stand_in_an_item(keyword: str, policy: Policy) -> None:
    ds, item, inner = planted.slice_of_ct(), Dataset(), Dataset()
    inner.PixelData = item.PixelData = b"Dr Huber, Tel 0761 "
    item["PixelData"].VR = inner["PixelData"].VR = "OW"
    item.PurposeOfReferenceCodeSequence = Sequence([inner])
    setattr(ds, keyword, Sequence([item]))
    done = Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")).deidentify(ds).dataset
    assert b"Huber" not in planted.encoded(done)
    assert done.PixelData == ds.PixelData
