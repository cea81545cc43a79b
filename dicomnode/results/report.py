"""The report: a TID 1500 Imaging Measurement Report that viewers draw and quantitative readers get whole (PS3.16).

May live here: the object and its frame (observer, procedure, remarks), and its way into bytes. Its groups stand in
`report_groups`, its image library in `report_library`. Viewers go black where a Tracking UID has no contour, so no group is made for a region without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.coding import dcm
from dicomnode.encoded import encode_dataset
from dicomnode.errors import StudyError
from dicomnode.findings import Findings
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.identity import SourceIdentity
from dicomnode.results import content, document, report_library
from dicomnode.results.concepts import (
    COMMENT,
    IMAGING_PROCEDURE,
    PROCEDURES,
    QUALITATIVE_EVALUATIONS,
    code_item,
    declare_private_scheme,
)
from dicomnode.results.content import CONTENT_SEQUENCE, Encoder, Item
from dicomnode.results.context import MANUFACTURER, MODEL_NAME, ResultContext
from dicomnode.results.elements import spliced
from dicomnode.results.equipment import stamp
from dicomnode.results.identity import restore
from dicomnode.results.report_groups import GroupMaker, KeyContour
from dicomnode.results.report_places import PlaceMaker
from dicomnode.results.sources import EMPTY_IDENTITY, SourceSeries, read_sources
from dicomnode.study import ResultRole
from dicomnode.texts import Words

__all__ = ["KeyContour", "Predecessor", "Report", "build", "encode"]

COMPREHENSIVE_SR_STORAGE: Final = SOP_CLASSES[Form.COMPREHENSIVE]
_TITLE: Final = dcm("126000", "Imaging Measurement Report")  # CID 7021
_TEMPLATE: Final = "1500"
_LANGUAGE: Final = dcm("121049", "Language of Content Item and Descendants")
_OBSERVER_TYPE: Final = dcm("121005", "Observer Type")
_DEVICE: Final = dcm("121007", "Device")
_OBSERVER_UID: Final = dcm("121012", "Device Observer UID")
_OBSERVER_NAME: Final = dcm("121013", "Device Observer Name")
_OBSERVER_MANUFACTURER: Final = dcm("121014", "Device Observer Manufacturer")
_OBSERVER_MODEL: Final = dcm("121015", "Device Observer Model Name")
_PROCEDURE_REPORTED: Final = dcm("121058", "Procedure reported")
_IMAGING_MEASUREMENTS: Final = dcm("126010", "Imaging Measurements")
_OBSERVATION: Final = "HAS OBS CONTEXT"
_MODIFIER: Final = "HAS CONCEPT MOD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """An earlier report that this one replaces (PS3.3 C.17.2.4)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str = COMPREHENSIVE_SR_STORAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report in the space of its sources.

    Attributes
    ----------
    header
        All but Content Sequence.
    items
        Of Content Sequence.
    """

    header: Dataset = field(repr=False)
    items: tuple[Item, ...] = field(repr=False)


def build(
    segmentation: Dataset | None,
    sources: Sequence[Dataset] | SourceSeries,
    findings: Findings,
    contours: Sequence[KeyContour],
    context: ResultContext,
    *,
    form: Form = Form.COMPREHENSIVE,
    linked: bool = True,
    predecessor: Predecessor | None = None,
) -> Report:
    """Comprehensive (3D) SR in the space of its sources.

    Parameters
    ----------
    segmentation
        The segmentation object that the volumetric groups refer to; None where no segment has a voxel.
    sources
        Headers in source order.
    contours
        One closed polyline per segment that has a voxel, on its key slice.
    form
        `Form.COMPREHENSIVE` or `Form.COMPREHENSIVE_3D`.
    linked
        Whether groups refer to the segments; False: for those who do not take the segmentation.

    Raises
    ------
    StudyError
        ``result-invalid`` if a segment of the segmentation has no contour, or a contour lies outside its image.
    """
    series = read_sources(sources)
    maker = GroupMaker(segmentation, series, findings, contours, context, linked=linked)
    groups = [group for region in findings.regions for group in maker.groups(region)]
    places = PlaceMaker(maker, spatial=form is Form.COMPREHENSIVE_3D)
    groups += [group for detection in findings.detections for group in places.groups(detection)]
    groups += places.case(findings.evaluations)
    if not groups:
        raise StudyError("result-invalid", check="report-without-group")
    images = series.images(sorted({contour.slice_index for contour in contours} | places.slices))
    procedure = PROCEDURES.get(str(series.headers[0].Modality), IMAGING_PROCEDURE)
    remarks = remarks_of(findings, maker.found, context.words)
    items = (
        content.code(_LANGUAGE, context.words.concept, _MODIFIER),
        *_observer(findings, context),
        content.code(_PROCEDURE_REPORTED, procedure, _MODIFIER),
        # The entry of a projection wants views and markers that say nothing of what was measured.
        *(report_library.entries(images) if series.in_space else ()),
        content.container(_IMAGING_MEASUREMENTS, groups),
        content.container(QUALITATIVE_EVALUATIONS, [content.text(COMMENT, remark) for remark in remarks]),
    )
    evidence = [segmentation, *images] if linked and segmentation is not None else images
    header = _header(evidence, findings, context, form)
    if predecessor is not None:
        header.PredecessorDocumentsSequence = [predecessor_item(predecessor)]
    return Report(header=header, items=items)


def encode(report: Report, identity: SourceIdentity) -> tuple[Dataset, bytes]:
    """The header with the source's identity, and the whole report in bytes (Explicit VR Little Endian)."""
    encoder = Encoder(identity.uids)
    encoded = encoder.sequence(report.items)
    header = restore(report.header, identity, encoder.texts)
    declare_private_scheme(header, encoder.concepts)
    if encoder.texts:
        encoded = Encoder(identity.uids, content.encodings_of(header)).sequence(report.items)
    return header, spliced(encode_dataset(header, str(ExplicitVRLittleEndian)), {CONTENT_SEQUENCE: encoded})


def _header(evidence: Sequence[Dataset], findings: Findings, context: ResultContext, form: Form) -> Dataset:
    """Everything but the content (PS3.3 A.35.3, A.35.13): complete, not verified, its evidence named."""
    header = Dataset()
    for keyword in EMPTY_IDENTITY:
        setattr(header, keyword, "")
    header.SOPClassUID = SOP_CLASSES[form]
    header.StudyInstanceUID = evidence[0].StudyInstanceUID
    header.Modality = "SR"
    header.ReferencedPerformedProcedureStepSequence = []
    header.PerformedProcedureCodeSequence = []
    header.CompletionFlag = "COMPLETE"
    header.VerificationFlag = "UNVERIFIED"
    header.PreliminaryFlag = "PRELIMINARY"
    header.ValueType = "CONTAINER"
    header.ConceptNameCodeSequence = [code_item(_TITLE)]
    header.ContinuityOfContent = "CONTINUOUS"
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = _TEMPLATE
    header.ContentTemplateSequence = [template]
    header.CurrentRequestedProcedureEvidenceSequence = [document.evidence_item(evidence)]
    stamp(header, ResultRole.REPORT, findings.algorithm, context)
    return header


def _observer(findings: Findings, context: ResultContext) -> tuple[Item, ...]:
    """TID 1004: the observer is a device, known by its UID."""
    model = f"{MODEL_NAME} with {findings.algorithm.name} {findings.algorithm.version}"[:64]
    return (
        content.code(_OBSERVER_TYPE, _DEVICE, _OBSERVATION),
        content.uid_reference(_OBSERVER_UID, context.device_uid, _OBSERVATION),
        content.text(_OBSERVER_NAME, context.station_name, _OBSERVATION),
        content.text(_OBSERVER_MANUFACTURER, MANUFACTURER, _OBSERVATION),
        content.text(_OBSERVER_MODEL, model, _OBSERVATION),
    )


def remarks_of(findings: Findings, found: Callable[[int], bool], words: Words) -> list[str]:
    """What a reader must know beside the numbers, a sentence each.

    Parameters
    ----------
    found
        Whether a segment, by its number in the label map, has a voxel.
    """
    remarks = [words.say("not-reviewed-sentence")]
    if findings.algorithm.research_only:
        remarks.append(words.say("research-only"))
    missing = [segment.label for segment in findings.segments if not found(segment.number)]
    remarks.extend(words.say("not-found", label=label) for label in missing)
    remarks.extend(findings.remarks)
    return list(dict.fromkeys(remarks))


def predecessor_item(predecessor: Predecessor) -> Dataset:
    """Item of Predecessor Documents Sequence, a hierarchical reference (PS3.3 C.17.2.1)."""
    instance = Dataset()
    instance.ReferencedSOPClassUID = predecessor.sop_class_uid
    instance.ReferencedSOPInstanceUID = predecessor.sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = predecessor.series_instance_uid
    series.ReferencedSOPSequence = [instance]
    study = Dataset()
    study.StudyInstanceUID = predecessor.study_instance_uid
    study.ReferencedSeriesSequence = [series]
    return study
