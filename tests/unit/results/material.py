"""A small CT series made here, its pseudonymous twin, findings and contours: what the tests of results work on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from copy import deepcopy
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode import coding, findings, study
from dicomnode.encoded.quiet import hushed
from dicomnode.identity import IDENTITY_KEYWORDS, SourceIdentity
from dicomnode.results.context import ResultContext
from dicomnode.results.encode import KeyImage, ResultInput
from dicomnode.results.report_groups import KeyContour

KEY = b"k" * 32
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def pseudonym(uid: str) -> str:
    return study.mint_uid(KEY, "pseudonym", uid)


def source_slice(index: int, *, rows: int = 40, columns: int = 48, orientation: Sequence[float] = AXIAL) -> Dataset:
    """One original CT header, axial or oblique, 2.5 mm apart."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = CT_IMAGE_STORAGE
    ds.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.1.{index + 1}"
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.77"
    ds.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.78"
    ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.8.498.79"
    ds.PositionReferenceIndicator = ""
    ds.Modality = "CT"
    ds.PatientName = "Müller^Jürgen"
    ds.PatientID = "A-4711"
    ds.IssuerOfPatientID = "ST. ELSEWHERE"
    ds.PatientBirthDate = "19610203"
    ds.PatientSex = "M"
    ds.PatientAge = "065Y"
    ds.PatientWeight = "81.5"
    ds.StudyDate = "20260412"
    ds.StudyTime = "101112"
    ds.StudyID = "77"
    ds.StudyDescription = "CT Thorax"
    ds.AccessionNumber = "ACC-1"
    ds.ReferringPhysicianName = "Größe^Änne"
    ds.RequestAttributesSequence = [Dataset()]
    ds.RequestAttributesSequence[0].RequestedProcedureID = "RP-9"
    ds.RequestAttributesSequence[0].ScheduledProcedureStepID = "SPS-9"
    ds.RequestAttributesSequence[0].RequestedProcedureDescription = "Lunge nativ"
    ds.Rows, ds.Columns = rows, columns
    ds.PixelSpacing = ["0.75", "0.8"]
    ds.SliceThickness = "3"
    ds.ImageOrientationPatient = [f"{value:.10g}" for value in orientation]
    normal = np.cross(orientation[:3], orientation[3:])
    ds.ImagePositionPatient = [f"{value:.8g}" for value in np.array([-20.5, -15.25, 100.0]) + 2.5 * index * normal]
    return ds


def source_series(slices: int = 6, **geometry: object) -> list[Dataset]:
    return [source_slice(index, **geometry) for index in range(slices)]  # type: ignore[arg-type]


def copies(originals: Sequence[Dataset]) -> list[Dataset]:
    """The pseudonymous copies: other UIDs, another patient, no request."""
    made = []
    for original in originals:
        with hushed():
            copy = deepcopy(original)
        for keyword in IDENTITY_KEYWORDS:
            if keyword in copy:
                delattr(copy, keyword)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            if keyword in original:
                setattr(copy, keyword, pseudonym(str(original[keyword].value)))
        copy.PatientName, copy.PatientID, copy.StudyDate = "PSEUDO", "PSEUDO", "20200101"
        made.append(copy)
    return made


def identity_of(originals: Sequence[Dataset]) -> SourceIdentity:
    uids = {
        pseudonym(str(original[keyword].value)): str(original[keyword].value)
        for original in originals
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
        if keyword in original
    }
    kept = Dataset()
    for keyword in IDENTITY_KEYWORDS:
        if keyword in originals[0]:
            kept.add(originals[0][keyword])
    return SourceIdentity(attributes=kept.to_json_dict(), uids=uids)


def labels_for(slices: int = 6, rows: int = 40, columns: int = 48) -> NDArray[np.uint8]:
    """Right lung (1) at low columns and left lung (2) at high ones; the left begins a slice later, the ends are empty."""
    labels = np.zeros((slices, rows, columns), dtype=np.uint8)
    labels[1:-1, rows // 4 : rows * 3 // 4, 3 : columns // 2 - 3] = 1
    labels[2:-1, rows // 4 + 1 : rows * 3 // 4, columns // 2 + 2 : columns - 5] = 2
    labels[2, rows // 4 + 2, 7] = 0
    return labels


def box_contour(labels: NDArray[np.uint8], segment: int) -> KeyContour:
    """Bounding box of a segment on its largest slice."""
    index = int((labels == segment).sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(labels[index] == segment)
    top, bottom, left, right = (float(v) for v in (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1))
    points = ((left, top), (right, top), (right, bottom), (left, bottom))
    return KeyContour(segment=segment, slice_index=index, points=points)


def findings_for(*, research_only: bool = True, remarks: tuple[str, ...] = ()) -> findings.Findings:
    def values(volume: float) -> tuple[findings.Measurement, ...]:
        return (
            findings.Measurement(concept=coding.VOLUME, value=volume, unit=coding.MILLILITRE),
            findings.Measurement(
                concept=coding.MEAN_LUNG_DENSITY,
                value=-845.25,
                unit=coding.HOUNSFIELD_UNIT,
                derivation=coding.MEAN,
            ),
            findings.Measurement(
                concept=coding.LAA_950, value=3.125, unit=coding.PERCENT, caveat="slice thickness 3 mm is above 1.5 mm"
            ),
            findings.Measurement(concept=coding.PERC15, value=-921.0, unit=coding.HOUNSFIELD_UNIT),
        )

    right = findings.Segment(
        number=1,
        label="Right lung",
        category=coding.ANATOMICAL_STRUCTURE,
        type=coding.LUNG,
        laterality=coding.RIGHT,
        colour=(70, 130, 180),
    )
    left = dataclasses.replace(right, number=2, label="Left lung", laterality=coding.LEFT, colour=(220, 120, 60))
    return findings.Findings(
        algorithm=findings.Algorithm(
            name="ct-lung",
            version="1.0.0",
            title="Lungs on CT",
            manufacturer="dicomnode project",
            digest=hashlib.sha256(b"model").hexdigest(),
            engine="onnxruntime-cpu fp32",
            research_only=research_only,
        ),
        segments=(right, left),
        regions=(
            findings.Region(
                label="Right lung",
                segments=(1,),
                site=coding.LUNG,
                laterality=coding.RIGHT,
                measurements=values(2875.5),
                truncated=("inferior",),
            ),
            findings.Region(
                label="Left lung", segments=(2,), site=coding.LUNG, laterality=coding.LEFT, measurements=values(2410.25)
            ),
            findings.Region(
                label="Both lungs",
                segments=(1, 2),
                site=coding.BOTH_LUNGS,
                laterality=None,
                measurements=values(5285.75),
                truncated=("inferior",),
            ),
        ),
        remarks=remarks,
    )


def context_for() -> ResultContext:
    return ResultContext(
        mint=lambda role, *parts: study.mint_uid(KEY, role, *parts),
        content_datetime=datetime(2026, 4, 12, 11, 30, 15, 250000, tzinfo=UTC),
        series_number_base=9000,
        station_name="DICOMNODE",
        institution_name="St. Elsewhere",
        software_versions=("0.1.0",),
        device_uid=study.mint_uid(KEY, "device"),
    )


def key_image_for(labels: NDArray[np.uint8]) -> KeyImage:
    rgb = np.zeros((33, 35, 3), dtype=np.uint8)
    rgb[4:20, 5:30] = (200, 30, 60)
    return KeyImage(rgb=rgb, slices=(int(labels.any(axis=(1, 2)).argmax()),))


def input_for(
    originals: Sequence[Dataset] | None = None, labels: NDArray[np.uint8] | None = None, **changes: object
) -> ResultInput:
    originals = source_series() if originals is None else originals
    labels = labels_for() if labels is None else labels
    present = [number for number in (1, 2) if (labels == number).any()]
    given = ResultInput(
        labels=labels,
        sources=copies(originals),
        findings=findings_for(),
        contours=tuple(box_contour(labels, number) for number in present),
        key_image=key_image_for(labels),
    )
    return dataclasses.replace(given, **changes)  # type: ignore[arg-type]
