"""What the reference of the reports has of its own: codes out of pydicom's dictionaries, and rules written down again.

A fault in what the code and its reference share is seen by neither. Shared they still have, on purpose:

- the input (findings, contours with their polygons and the point inside, which is a choice and no rule; the source series
  as `results.sources` reads it);
- the context, which mints UIDs and tells the time, and the words of `dicomnode.texts`;
- the way to bytes: `identity.restore` and `encode_dataset`.

`test_report.py`, the validators and dcmqi's reader look at what comes of those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from highdicom.sr import CodedConcept as SrConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicomnode.coding import CodedConcept
from dicomnode.errors import StudyError
from dicomnode.findings import Algorithm, Findings
from dicomnode.results.context import ResultContext
from dicomnode.results.report import Predecessor
from dicomnode.results.report_groups import KeyContour
from dicomnode.results.sources import SourceSeries
from dicomnode.study import ResultRole, mint_uid
from dicomnode.texts import Words


def _known(code: Any, meaning: str | None = None) -> CodedConcept:
    """A code of pydicom's dictionaries, which were made from PS3.16."""
    return CodedConcept(code.value, code.scheme_designator, meaning or code.meaning)


AREA: Final = _known(codes.SCT.Area)
CERTAINTY: Final = _known(codes.DCM.CertaintyOfFinding)
COMMENT: Final = _known(codes.DCM.Comment)
DEVICE: Final = _known(codes.DCM.Device)
DIAMETER: Final = _known(codes.SCT.Diameter)
ENDS: Final = {
    end: _known(getattr(codes.SCT, end.capitalize())) for end in ["inferior", "superior", "left", "right"]
} | {
    "anterior": _known(codes.SCT.Anterior),
    "posterior": _known(codes.SCT.Posterior),
}
IMAGING_PROCEDURE: Final = _known(codes.SCT.ImagingProcedure)
#: By the value of the code of what is measured (CID 7474; a code of 2022, which pydicom's dictionaries lack).
METHODS: Final = {"118565006": CodedConcept("126030", "DCM", "Sum of segmented voxel volumes")}
MILLIMETRE: Final = _known(codes.UCUM.Millimeter, "millimeter")
PERCENT: Final = _known(codes.UCUM.Percent, "percent")
PROCEDURES: Final = {
    "CT": CodedConcept("25045-6", "LN", "CT unspecified body region"),
    "MR": _known(codes.LN.MRIUnspecifiedBodyRegion),
    "PT": _known(codes.LN.PETUnspecifiedBodyRegion),
}
QUALITATIVE_EVALUATIONS: Final = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")
SQUARE_MILLIMETRE: Final = _known(codes.UCUM.SquareMillimeter)
TRUNCATED: Final = CodedConcept("TRUNCATED", "99DICOMNODE", "Cut by the scan or field of view")
WHOLE_CASE: Final = CodedConcept("WHOLECASE", "99DICOMNODE", "Case as a whole")
MANUFACTURER: Final = "dicomnode project"
MODEL_NAME: Final = "dicomnode"


def sr_concept(concept: CodedConcept) -> SrConcept:
    """A triplet as highdicom wants it."""
    return SrConcept(concept.value, concept.scheme, concept.meaning)


def number(value: float) -> float:
    """Seven significant digits."""
    return float(f"{value:.6e}")


def tracked(segmentation: Dataset) -> dict[str, int]:
    """Tracking UID → Segment Number."""
    return {
        str(one.TrackingUID): int(one.SegmentNumber) for one in segmentation.SegmentSequence if "TrackingUID" in one
    }


def area_of(contour: KeyContour) -> float:
    """Area inside, in pixels: triangles over the first point."""
    points = contour.polygon()
    first, second = points[1:-1] - points[0], points[2:] - points[0]
    return abs(float(np.sum(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]))) / 2


def check_contour(contour: KeyContour, series: SourceSeries) -> None:
    """It is a polygon inside its image."""
    slices, rows, columns = series.shape
    points = contour.polygon()
    if contour.slice_index not in range(slices) or len(points) < 3 or not np.isfinite(points).all():
        raise StudyError("result-invalid", check="contour-shape")
    inside = (points >= 0) & (points <= (columns, rows))
    if not inside.all() or area_of(contour) <= 0:
        raise StudyError("result-invalid", check="contour-outside")


def positions(series: SourceSeries) -> NDArray[np.float64]:
    """Image Position (Patient) of every plane."""
    return np.array([list(map(float, header.ImagePositionPatient)) for header in series.headers])


def remarks_of(findings: Findings, found: Callable[[int], bool], words: Words) -> list[str]:
    """Sentences for the reader: who looked, what for, what was not there, and the model's own; none twice."""
    sentences = [words.say("not-reviewed-sentence")]
    sentences += [words.say("research-only")] * findings.algorithm.research_only
    for segment in findings.segments:
        if not found(segment.number):
            sentences.append(words.say("not-found", label=segment.label))
    unique: list[str] = []
    for sentence in [*sentences, *findings.remarks]:
        if sentence not in unique:
            unique.append(sentence)
    return unique


def _of(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def predecessor_item(predecessor: Predecessor) -> Dataset:
    """Hierarchical reference (PS3.3 C.17.2.1)."""
    instance = _of(
        ReferencedSOPClassUID=predecessor.sop_class_uid, ReferencedSOPInstanceUID=predecessor.sop_instance_uid
    )
    series = _of(SeriesInstanceUID=predecessor.series_instance_uid, ReferencedSOPSequence=[instance])
    return _of(StudyInstanceUID=predecessor.study_instance_uid, ReferencedSeriesSequence=[series])


def declare_private_scheme(dataset: Dataset) -> None:
    """Coding Scheme Identification Sequence, where a code of the project's scheme stands anywhere."""
    if any(one.keyword == "CodingSchemeDesignator" and one.value == "99DICOMNODE" for one in dataset.iterall()):
        dataset.CodingSchemeIdentificationSequence = [
            _of(
                CodingSchemeDesignator="99DICOMNODE",
                CodingSchemeName="Concepts of the dicomnode project",
                CodingSchemeResponsibleOrganization="dicomnode project",
            )
        ]


def stamp(dataset: Dataset, algorithm: Algorithm, context: ResultContext) -> None:
    """What a report says of the node and of the model."""
    moment = context.content_datetime
    date, time = f"{moment:%Y%m%d}", f"{moment:%H%M%S}.{moment.microsecond:06}"
    only = f" {context.words.say('research-only-short')}" if algorithm.research_only else ""
    end = f": {context.words.say('report')}{only}"
    values: dict[str, Any] = {
        "SOPInstanceUID": context.object_uid(ResultRole.REPORT),
        "SeriesInstanceUID": context.series_uid(ResultRole.REPORT),
        "SeriesNumber": context.series_number_base + 1,
        "SeriesDescription": f"AI {algorithm.title}"[: 64 - len(end)].rstrip() + end,
        "InstanceNumber": 1,
        "Manufacturer": MANUFACTURER,
        "ManufacturerModelName": MODEL_NAME,
        "DeviceSerialNumber": context.device_uid,
        "DeviceUID": context.device_uid,
        "SoftwareVersions": list(context.software_versions),
        "StationName": context.station_name,
        "InstitutionName": context.institution_name,
        "ContributingEquipmentSequence": [_equipment(algorithm, context)],
    }
    values |= {f"{what}Date": date for what in ("InstanceCreation", "Series", "Content")}
    values |= {f"{what}Time": time for what in ("InstanceCreation", "Series", "Content")}
    dataset.update(_of(**{keyword: value for keyword, value in values.items() if value}))


def _equipment(algorithm: Algorithm, context: ResultContext) -> Dataset:
    """Contributing Equipment (IHE RAD AIR 6.5.3.1)."""
    secret = hashlib.sha256(b"dicomnode: Device UID of a model").digest()
    moment = context.content_datetime
    purpose = _of(CodeValue="109102", CodingSchemeDesignator="DCM", CodeMeaning="Processing Equipment")
    made = _of(
        PurposeOfReferenceCodeSequence=[purpose],
        Manufacturer=algorithm.manufacturer[:64],
        ManufacturerModelName=algorithm.name[:64],
        SoftwareVersions=[algorithm.version[:64]],
        DeviceUID=mint_uid(secret, "model", algorithm.name, algorithm.version, algorithm.digest),
        StationName=context.station_name,
        ContributionDateTime=f"{moment:%Y%m%d%H%M%S}.{moment.microsecond:06}{moment:%z}",
        ContributionDescription=f"{algorithm.title}, {algorithm.engine}",
    )
    if algorithm.udi:
        made.UDISequence = [_of(UniqueDeviceIdentifier=algorithm.udi, DeviceDescription=algorithm.title)]
    if context.institution_name:
        made.InstitutionName = context.institution_name
    return made


def largest_of(contours: Sequence[KeyContour]) -> KeyContour | None:
    """The contour with the largest area, the first of equal ones."""
    return max(contours, key=area_of, default=None)
