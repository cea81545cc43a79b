"""Heads are known by their words and codes in many languages, and what only sounds like one is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.heads import Head, look, shows_a_head
from dicomnode.deidentification.policy import EXPORT, Faces
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.regions import Region, region_of
from dicomnode.encoded import Limits, read_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted


@pytest.mark.parametrize(
    "text",
    [
        "CCT nativ", "CPA", "trauma pan scan", "vertex to toe", "amyloid PET", "DaTscan", "perfusion CTP", "parotid", "głowa", "mózg", "lebka", "fej",
        "hjärna", "hoved", "κεφαλή", "голова", "kafa", "otak", "HEAD", "CTHEAD", "Head Xyz", "MR HEAD/NECK", "t1_mprage_sag_brain", "BRAIN W/O", "Schädel nativ", "Schaedel-CT", "Kopf Hals",
        "cMRT Gehirn", "crâne sans injection", "CRANE", "TDM cérébral", "tête", "Cráneo simple", "cabeza y cuello", "encefalo", "cranio",
        "crânio", "cabeça", "pescoço", "hersenen", "schedel", "hoofd-hals", "hals", "NNH", "Nasennebenhöhlen", "paranasal sinuses", "SINUS",
        "orbits", "Felsenbein", "temporal bone", "IAC", "pituitary", "Sella", "TMJ", "Kiefergelenk", "mandible", "dental", "DentaScan",
        "Neck soft tissue", "larynx", "c-spine", "C SPINE", "HWS", "cervical spine", "rachis cervical", "carotid CTA", "circle of Willis",
        "whole body", "WHOLEBODY", "WB PET", "Ganzkörper", "corps entier", "cuerpo entero", "polytrauma", "eyes to thigh", "skull base to mid-thigh",
        "頭部単純", "脳", "头部", "颅脑", "颈部", "全身", "두부", "뇌 MRI", "H&N", "head first, then head", "FLAIR ax", "stroke protocol",
        "KNEE and head", "ＨＥＡＤ", "FACE", "facial bones", "Gesichtsschädel", "visage", "MR NEURO^ROUTINE",
    ],
)  # fmt: skip
def test_words_of_heads(text: str) -> None:
    assert region_of(text) is Region.HEAD


@pytest.mark.parametrize(
    "text",
    [
        "MR HAND", "Hand li.", "CHEST", "Thorax routine", "ABDOMEN", "knee", "Knie", "femoral head", "humeral head", "head of the pancreas",
        "Hüftkopf", "Pankreaskopf", "neck of femur", "femoral neck", "bladder neck", "coronary sinus CT heart", "thoracic spine", "T-SPINE",
        "LWS", "lumbar spine", "PELVIS cervix", "tête du fémur hanche", "sinus tarsi ankle", "大腿骨頭 股関節", "胸部", "子宮頸部 骨盤", "Wrist", "cap CT abdomen",
        "breast surface coil",
    ],
)  # fmt: skip
def test_words_of_other_regions(text: str) -> None:
    assert region_of(text) is Region.OTHER


@pytest.mark.parametrize(
    "text",
    ["", "t2_tse_tra", "HEAD FIRST", "Kopf voran", "Feet first", "overhead", "craniocaudal", "identical", "5.0 B31s", "surface", "ORIGINAL",
     "断面", "Irene", "accidental", "Wade", "fluid", "computer", "female", "Manchester",
     "Darstellung", "delivery", "outer", "calendar"],
)  # fmt: skip
def test_words_of_nothing(text: str) -> None:
    assert region_of(text) is Region.UNSAID


def scan(**attributes: object) -> Dataset:
    ds = planted.slice_of_ct()
    for keyword in ("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName"):
        delattr(ds, keyword)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def kind(sop_class: str, modality: str) -> dict[str, object]:
    return {"SOPClassUID": f"1.2.840.10008.5.1.4.1.1.{sop_class}", "Modality": modality}


def coded(value: str, scheme: str = "SCT", meaning: str = "x") -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def requested(words: str) -> Sequence:
    item = Dataset()
    item.ScheduledProcedureStepDescription = words
    return Sequence([item])


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, Head.UNSAID),
        ({"SeriesDescription": "DTI 64"}, Head.STUDY),
        ({"SeriesDescription": "BOLD rest", "StudyDescription": "fMRI"}, Head.STUDY),
        ({"SeriesDescription": "DTI 64", "BodyPartExamined": "KNEE"}, Head.ELSEWHERE),
        ({"SeriesDescription": "BOLD", "StudyDescription": "MR kidney"}, Head.ELSEWHERE),
        ({"BodyPartExamined": "HEAD"}, Head.SERIES),
        ({"BodyPartExamined": "HEAD", "SeriesDescription": "KNEE"}, Head.SERIES),
        ({"BodyPartExamined": "KNEE", "SeriesDescription": "Kopf"}, Head.SERIES),
        ({"BodyPartExamined": "CHEST", "StudyDescription": "CT head and chest"}, Head.STUDY),
        ({"BodyPartExamined": "CHEST"}, Head.ELSEWHERE),
        ({"SeriesDescription": "MR HAND"}, Head.ELSEWHERE),
        ({"StudyDescription": "Thorax"}, Head.ELSEWHERE),
        ({"ProtocolName": "WB_CT"}, Head.SERIES),
        ({"ReceiveCoilName": "HeadNeck_20"}, Head.STUDY),
        ({"ReceiveCoilName": "HeadNeck_20", "BodyPartExamined": "LSPINE"}, Head.ELSEWHERE),
        ({"AnatomicRegionSequence": coded("69536005")}, Head.SERIES),
        ({"AnatomicRegionSequence": coded("T-A0100", "SRT")}, Head.SERIES),
        ({"AnatomicRegionSequence": coded("816094009")}, Head.ELSEWHERE),
        ({"ProcedureCodeSequence": coded("4711", "99X", "CT Schädel")}, Head.STUDY),
        ({"RequestAttributesSequence": requested("MR brain")}, Head.STUDY),
        ({"Modality": "PT", "SeriesDescription": "WB"}, Head.SERIES),
        ({**kind("6.1", "US"), "BodyPartExamined": "NECK"}, Head.ELSEWHERE),
        ({**kind("1", "CR"), "BodyPartExamined": "SKULL"}, Head.ELSEWHERE),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7", "StudyDescription": "CT head"}, Head.STUDY),
        ({"Modality": "OT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, Head.ELSEWHERE),
        ({"Modality": "RTSTRUCT", "StudyDescription": "CT head"}, Head.STUDY),
        (kind("66.4", "SEG"), Head.ELSEWHERE),
        # cone beams; classes whose Modality is wrong or missing
        ({**kind("13.1.1", "XA"), "BodyPartExamined": "HEAD"}, Head.SERIES),
        ({**kind("13.1.1", "XA"), "BodyPartExamined": "HEART"}, Head.ELSEWHERE),
        (kind("13.1.1", "XA"), Head.UNSAID),
        ({**kind("13.1.2", "DX"), "BodyPartExamined": "CHEST"}, Head.SERIES),
        ({**kind("2", "OT"), "BodyPartExamined": "HEAD"}, Head.SERIES),
        ({**kind("2", "SEG"), "BodyPartExamined": "HEAD"}, Head.SERIES),
        ({**kind("4.1", ""), "BodyPartExamined": "HEAD"}, Head.SERIES),
        (kind("4.1", ""), Head.UNSAID),
        ({**kind("30", "OT"), "BodyPartExamined": "HEAD"}, Head.SERIES),
        (kind("30", "OT"), Head.ELSEWHERE),
        # the outside of a body
        ({**kind("77.1.4", "XC"), "BodyPartExamined": "FACE"}, Head.SERIES),
        ({**kind("77.1.7", "DMS"), "BodyPartExamined": "HAND"}, Head.ELSEWHERE),
        (kind("77.1.4", "OT"), Head.UNSAID),
        (kind("7", "XC"), Head.UNSAID),
        ({**kind("68.1", "SMR"), "BodyPartExamined": "HEAD"}, Head.SERIES),
        (kind("68.2", ""), Head.UNSAID),
        # nuclear medicine, where it is a volume
        ({**kind("20", "NM"), "ImageType": ["ORIGINAL", "PRIMARY", "RECON TOMO"], "BodyPartExamined": "HEAD"}, Head.SERIES),
        ({**kind("20", "NM"), "ImageType": ["ORIGINAL", "PRIMARY", "STATIC"], "BodyPartExamined": "HEAD"}, Head.ELSEWHERE),
        # dose that is cut to the skin, surfaces of segments
        ({**kind("481.2", "RTDOSE"), "StudyDescription": "CT head"}, Head.STUDY),
        ({**kind("66.5", ""), "StudyDescription": "CT head"}, Head.STUDY),
    ],
)  # fmt: skip
def test_what_a_header_says(attributes: dict[str, object], expected: Head) -> None:
    assert look(scan(**attributes)) is expected


def test_outlines_are_not_flagged_and_without_pixels_nothing_is_shown() -> None:
    assert not shows_a_head(scan(**kind("66.4", "SEG"), BodyPartExamined="HEAD"))
    ds = scan(BodyPartExamined="HEAD")
    assert shows_a_head(ds)
    del ds.PixelData
    assert look(ds) is Head.ELSEWHERE


@pytest.mark.parametrize(
    ("sop_class", "modality"), [("77.1.4", "XC"), ("77.1.7", "DMS"), ("68.1", "SMR"), ("68.2", "")]
)
def test_what_shows_the_outside_needs_no_word(sop_class: str, modality: str) -> None:
    """No face has to be drawn from it: unless another region is named it is flagged or withheld, with or without pixels."""
    ds = scan(**kind(sop_class, modality))
    if sop_class.startswith("68"):
        del ds.PixelData
    assert shows_a_head(ds)
    ds.BodyPartExamined = "HAND"
    assert not shows_a_head(ds)


def test_scans_of_surfaces_are_flagged_or_withheld() -> None:
    ds = scan(**kind("68.1", "SMR"), BodyPartExamined="FACE")
    del ds.PixelData
    pseudonyms = Pseudonyms(bytes(range(32)), "project")
    source = read_part10(planted.encoded(ds), Limits())
    assert Deidentifier(EXPORT, pseudonyms).deidentify(source).dataset.RecognizableVisualFeatures == "YES"
    for faces in (Faces.WITHHOLD, Faces.DEFACE):
        with pytest.raises(StudyError) as caught:
            Deidentifier(replace(EXPORT, faces=faces), pseudonyms).deidentify(source)
        assert caught.value.code == "withheld-face"
