"""The report: a TID 1500 Imaging Measurement Report that viewers draw and quantitative readers get whole (PS3.16).

May live here: the object and its frame (observer, procedure, image library, remarks). Its groups stand in
`report_groups`. Viewers go black where a Tracking UID has no contour, so no group is made for a region without one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from highdicom.sr import (
    Comprehensive3DSR,
    ComprehensiveSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
)
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.coding import dcm
from dicomnode.errors import StudyError
from dicomnode.findings import Findings
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.results.concepts import (
    COMMENT,
    IMAGING_PROCEDURE,
    PROCEDURES,
    QUALITATIVE_EVALUATIONS,
    declare_private_scheme,
    sr_concept,
)
from dicomnode.results.context import MANUFACTURER, MODEL_NAME, ResultContext
from dicomnode.results.equipment import stamp
from dicomnode.results.report_groups import GroupMaker, KeyContour, text_item
from dicomnode.results.report_places import PlaceMaker
from dicomnode.results.sources import SourceSeries, read_sources
from dicomnode.study import ResultRole
from dicomnode.texts import Words

__all__ = ["KeyContour", "Predecessor", "build"]

COMPREHENSIVE_SR_STORAGE: Final = SOP_CLASSES[Form.COMPREHENSIVE]
_OBSERVER_TYPE_DEVICE: Final = dcm("121007", "Device")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """An earlier report that this one replaces (PS3.3 C.17.2.4)."""

    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str = COMPREHENSIVE_SR_STORAGE


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
) -> Dataset:
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
    key_headers = series.images(sorted({contour.slice_index for contour in contours} | places.slices))
    content = MeasurementReport(
        observation_context=_observation_context(findings, context),
        procedure_reported=sr_concept(PROCEDURES.get(str(series.headers[0].Modality), IMAGING_PROCEDURE)),
        imaging_measurements=groups,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(sr_concept(context.words.concept)),
        # The library's entry of a projection wants views and markers that say nothing of what was measured.
        referenced_images=key_headers if series.in_space else None,
    )
    _add_remarks(content[0], remarks_of(findings, maker.found, context.words))
    evidence = [segmentation, *key_headers] if linked and segmentation is not None else key_headers
    dataset = _construct(content, evidence, context, form)
    stamp(dataset, ResultRole.REPORT, findings.algorithm, context)
    if predecessor is not None:
        dataset.PredecessorDocumentsSequence = [predecessor_item(predecessor)]
    declare_private_scheme(dataset)
    return dataset


def _construct(content: MeasurementReport, evidence: list[Dataset], context: ResultContext, form: Form) -> Dataset:
    """The object around the content, which the library would copy twice: it is given the root with one child."""
    items = content[0].ContentSequence
    content[0].ContentSequence = ContentSequence([items[0]])
    kind = Comprehensive3DSR if form is Form.COMPREHENSIVE_3D else ComprehensiveSR
    dataset: Dataset = kind(
        evidence=evidence,
        content=content[0],
        series_instance_uid=context.series_uid(ResultRole.REPORT),
        series_number=max(context.series_number(ResultRole.REPORT), 1),
        sop_instance_uid=context.object_uid(ResultRole.REPORT),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        is_final=False,
        is_verified=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=None,
    )
    dataset.ContentSequence = items
    return dataset


def _observation_context(findings: Findings, context: ResultContext) -> ObservationContext:
    """TID 1004: the observer is a device, known by its UID."""
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=sr_concept(_OBSERVER_TYPE_DEVICE),
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=context.device_uid,
                name=context.station_name,
                manufacturer_name=MANUFACTURER,
                model_name=f"{MODEL_NAME} with {findings.algorithm.name} {findings.algorithm.version}"[:64],
            ),
        )
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


def _add_remarks(root: Dataset, remarks: Sequence[str]) -> None:
    """Container of Qualitative Evaluations (TID 1500) with a comment for each remark."""
    container = ContainerContentItem(name=sr_concept(QUALITATIVE_EVALUATIONS), relationship_type="CONTAINS")
    container.ContentSequence = ContentSequence([text_item(COMMENT, remark) for remark in remarks])
    root.ContentSequence.append(container)


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
