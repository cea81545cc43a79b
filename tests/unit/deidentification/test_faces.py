"""Faces of a series: what of an image is touched, in every format, and what of it is said afterwards."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier, Seen
from dicomnode.deidentification.faces import SeriesOfHead
from dicomnode.deidentification.heads import Head
from dicomnode.deidentification.policy import AI, EXPORT, Faces, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from dicomnode.imaging.decode import Decoder
from tests.head_phantom import Scan, remembered_brains, stored, taken_off

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")


def policy_with(faces: Faces) -> Policy:
    return replace(EXPORT, faces=faces)


@pytest.fixture(scope="module", autouse=True)
def brains() -> Iterator[None]:
    with remembered_brains():
        yield


@pytest.fixture(scope="module")
def ct() -> list[Dataset]:
    return Scan().series()


@pytest.fixture(scope="module")
def mr() -> list[Dataset]:
    return Scan(contrast="t1").series()


def fresh(series: list[Dataset], **attributes: Any) -> list[Dataset]:
    found = copy.deepcopy(series)
    for ds in found:
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
    return found


def recoded(series: list[Dataset], kind: str, change: Any, **attributes: Any) -> list[Dataset]:
    """The same images with other stored values."""
    found = fresh(series, **attributes)
    for ds in found:
        values = np.frombuffer(ds.PixelData, "<u2").astype(np.int64)
        ds.PixelData = change(values).astype(kind).tobytes()
    return found


@pytest.fixture(scope="module")
def plain(ct: list[Dataset]) -> np.ndarray:
    """Where a CT loses its face."""
    series = fresh(ct)
    assert taken_off(series)
    return stored(series) != stored(ct)


def test_what_goes_is_air_and_nothing_else_changes(ct: list[Dataset], plain: np.ndarray) -> None:
    series = fresh(ct, SmallestImagePixelValue=3)
    before = stored(series)
    assert taken_off(series)
    after = stored(series)
    assert 0.02 < plain.mean() < 0.5
    assert set(after[plain]) == {24}  # -1000 HU
    assert (after[~plain] == before[~plain]).all()
    assert {ds.RecognizableVisualFeatures for ds in series} == {"NO"}
    assert not any("SmallestImagePixelValue" in ds for ds in series)


def test_the_air_of_an_mr_is_its_own(mr: list[Dataset]) -> None:
    series = fresh(mr)
    assert taken_off(series)
    changed = stored(series) != stored(mr)
    (air,) = set(stored(series)[changed])
    assert 0 < air < 20


def test_neither_order_nor_repetition_changes_anything(ct: list[Dataset]) -> None:
    one, other = fresh(ct), fresh(ct)
    random.Random(7).shuffle(other)
    assert taken_off(one)
    assert taken_off(other)
    by_uid = {ds.SOPInstanceUID: ds.PixelData for ds in one}
    assert all(by_uid[ds.SOPInstanceUID] == ds.PixelData for ds in other)


def test_signed_values_and_other_bits(ct: list[Dataset], plain: np.ndarray) -> None:
    series = recoded(
        ct, "<i2", lambda values: values - 1024, PixelRepresentation=1, BitsStored=16, HighBit=15, RescaleIntercept="0"
    )
    before = np.stack([np.frombuffer(ds.PixelData, "<i2") for ds in series])
    assert taken_off(series)
    after = np.stack([np.frombuffer(ds.PixelData, "<i2") for ds in series])
    assert set(after[before != after]) == {-1000}
    assert ((before != after).reshape(plain.shape) == plain).mean() > 0.999


def test_bits_above_those_stored_stay_where_nothing_goes(ct: list[Dataset], plain: np.ndarray) -> None:
    series = recoded(ct, "<u2", lambda values: values | 0x3000)
    assert taken_off(series)
    stays = ~plain & (stored(ct) != 24)  # air that was air before is of no use here
    assert (stored(series)[stays] == (stored(ct)[stays] | 0x3000)).all()


def test_high_bit_elsewhere(ct: list[Dataset], plain: np.ndarray) -> None:
    series = recoded(ct, "<u2", lambda values: values << 4, HighBit=15)
    assert taken_off(series)
    after = stored(series)
    assert set(after[plain]) == {24 << 4}
    assert (after[~plain] == stored(ct)[~plain] << 4).all()


def test_padding_stays_and_air_is_never_padding(ct: list[Dataset]) -> None:
    series = recoded(
        ct,
        "<u2",
        lambda values: np.where(np.arange(values.size) < 2400, 24, np.maximum(values, 30)),
        PixelPaddingValue=24,
    )
    before = stored(series)
    assert taken_off(series)
    after = stored(series)
    assert (after[before == 24] == 24).all()
    assert set(after[before != after]) == {25}


def test_big_endian_and_implicit(ct: list[Dataset], plain: np.ndarray) -> None:
    series = recoded(ct, ">u2", lambda values: values)
    for ds in series:
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    assert taken_off(series)
    after = np.stack([np.frombuffer(ds.PixelData, ">u2").reshape(ds.Rows, ds.Columns) for ds in series])
    assert set(after[plain]) == {24}
    assert (after[~plain] == stored(ct)[~plain]).all()
    assert series[0].file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.2"


def test_compressed_images_come_out_native_and_stay_as_lossy_as_they_were(ct: list[Dataset], plain: np.ndarray) -> None:
    from openjpeg.utils import encode_array

    series = fresh(ct, LossyImageCompression="00")
    for ds in series:
        values = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
        ds.PixelData = encapsulate([encode_array(values, bits_stored=12, photometric_interpretation=2, use_mct=False)])
        ds["PixelData"].VR = "OB"
        ds["PixelData"].is_undefined_length = True
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    assert taken_off(series)
    assert {str(ds.file_meta.TransferSyntaxUID) for ds in series} == {"1.2.840.10008.1.2.1"}
    assert (stored(series) == np.where(plain, 24, stored(ct))).all()
    assert series[0].LossyImageCompression == "00"
    assert series[0]["PixelData"].VR == "OW"


def test_several_images_at_one_place_lose_the_same(mr: list[Dataset]) -> None:
    second = fresh(mr)
    for number, ds in enumerate(second):
        ds.SOPInstanceUID, ds.InstanceNumber = f"{ds.SOPInstanceUID}.2", str(1000 + number)
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") // 2).astype("<u2").tobytes()
    first = fresh(mr)
    together = [*second, *first]
    assert taken_off(together)
    gone, also_gone = (stored(one) for one in (first, second))
    assert (gone != stored(mr)).any()
    changed = gone != stored(mr)
    assert set(gone[changed]) == set(also_gone[changed]) == {int(gone[changed][0])}


def multi_frame(series: list[Dataset]) -> Dataset:
    """Enhanced MR of the same frames."""
    ds = copy.deepcopy(series[0])
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    ds.NumberOfFrames = len(series)
    ds.PixelData = b"".join(one.PixelData for one in series)
    shared, groups = Dataset(), []
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = ds.PixelSpacing, ds.SliceThickness
    orientation.ImageOrientationPatient = ds.ImageOrientationPatient
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    for one in series:
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = one.ImagePositionPatient
        group.PlanePositionSequence = Sequence([position])
        groups.append(group)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(groups)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"):
        delattr(ds, keyword)
    return ds


def test_multi_frame_images_lose_what_single_frames_do(mr: list[Dataset]) -> None:
    one, many = multi_frame(mr), fresh(mr)
    assert taken_off([one])
    assert taken_off(many)
    assert one.PixelData == b"".join(ds.PixelData for ds in many)


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "withheld-face"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.128"}, "withheld-face"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "withheld-face"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "withheld-face"),
        ({"ImageType": ["DERIVED", "PRIMARY", "PROJECTION IMAGE", "VOLUME RENDERED"]}, "withheld-face"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "withheld-face"),
        ({"RescaleSlope": None}, "withheld-face"),
        ({"RescaleSlope": "0"}, "withheld-face"),
        ({"PixelPaddingValue": None, "ModalityLUTSequence": Sequence([Dataset()])}, "withheld-face"),
        ({"PixelData": b"\0\0"}, "withheld-face"),
        ({"ImagePositionPatient": None}, "withheld-face-geometry"),
    ],
)  # fmt: skip
def test_an_image_that_is_no_slice_is_refused(ct: list[Dataset], attributes: dict[str, Any], code: str) -> None:
    (ds,) = fresh(ct[:1], **attributes)
    with Decoder(timeout_seconds=60, memory_bytes=1 << 31) as decoder, pytest.raises(StudyError) as caught:
        SeriesOfHead(Head.SERIES, decoder).add(ds)
    assert caught.value.code == code


def test_what_makes_no_volume_is_refused(ct: list[Dataset], mr: list[Dataset]) -> None:
    for series, head, code in [
        (ct[:5], Head.SERIES, "withheld-face-geometry"),
        (ct[:5], Head.UNSAID, "withheld-face-unsaid"),
        ([], Head.SERIES, "withheld-face-geometry"),
        ([*ct, *mr], Head.SERIES, "withheld-face-geometry"),
        (
            [*ct[:20], *fresh(ct[20:], ImageOrientationPatient=["0", "1", "0", "0", "0", "-1"])],
            Head.SERIES,
            "withheld-face-geometry",
        ),
    ]:
        with pytest.raises(StudyError) as caught:
            taken_off(fresh(series), head)
        assert caught.value.code == code


def test_a_ct_of_which_nothing_is_said_is_looked_at(ct: list[Dataset]) -> None:
    assert taken_off(fresh(ct), Head.UNSAID)
    water = recoded(ct, "<u2", lambda values: np.where(values > 500, 1024, 24))
    assert not taken_off(water, Head.UNSAID)
    assert not taken_off(water, Head.STUDY)
    with pytest.raises(StudyError, match="withheld-face-not-found"):
        taken_off(water, Head.SERIES)


def test_what_is_said_of_it(ct: list[Dataset]) -> None:
    engine = Deidentifier(policy_with(Faces.DEFACE), PSEUDONYMS)
    series = fresh(ct)
    assert taken_off(series)
    done = engine.deidentify(series[20], Seen.TAKEN_OFF).dataset
    assert done.RecognizableVisualFeatures == "NO"
    codes = [item.CodeValue for item in done.DeidentificationMethodCodeSequence]
    assert codes[:2] == ["113100", "113102"]
    data = encode_part10(done, transfer_syntax_uid=str(done.file_meta.TransferSyntaxUID))
    assert read_part10(data, Limits()).PixelData == series[20].PixelData
    other = engine.deidentify(ct[20], Seen.NO_HEAD).dataset
    assert "RecognizableVisualFeatures" not in other
    assert "113102" not in [item.CodeValue for item in other.DeidentificationMethodCodeSequence]


@pytest.mark.parametrize("faces", [Faces.WITHHOLD, Faces.DEFACE])
def test_an_image_alone_is_withheld(ct: list[Dataset], faces: Faces) -> None:
    engine = Deidentifier(policy_with(faces), PSEUDONYMS)
    for attributes, code in [
        ({}, "withheld-face"),
        ({"BodyPartExamined": None, "StudyDescription": "CT head"}, "withheld-face"),
        ({"BodyPartExamined": None}, "withheld-face-unsaid"),
        ({"Modality": "SEG"}, "withheld-face"),
    ]:
        with pytest.raises(StudyError) as caught:
            engine.deidentify(fresh(ct[20:21], **attributes)[0])
        assert caught.value.code == code
    assert engine.deidentify(fresh(ct[20:21], BodyPartExamined="CHEST")[0])


def test_flags_and_what_networks_see(ct: list[Dataset]) -> None:
    flagged = Deidentifier(EXPORT, PSEUDONYMS).deidentify(ct[20]).dataset
    assert flagged.RecognizableVisualFeatures == "YES"
    assert flagged.PixelData == ct[20].PixelData
    seen = Deidentifier(AI, PSEUDONYMS).deidentify(ct[20]).dataset
    assert "RecognizableVisualFeatures" not in seen
    assert seen.PixelData == ct[20].PixelData
