"""Groups without a segment, and whole reports, as highdicom makes them: what `results.report` is held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from highdicom.sr import (
    Comprehensive3DSR,
    ComprehensiveSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    GraphicTypeValues,
    GraphicTypeValues3D,
    ImageRegion3D,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    TrackingIdentifier,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.errors import StudyError
from dicomnode.findings import Detection, Evaluation, Findings
from dicomnode.forms import Form
from dicomnode.results.context import ResultContext
from dicomnode.results.report import Predecessor
from dicomnode.results.report_groups import KeyContour
from dicomnode.results.sources import SourceSeries, read_sources
from dicomnode.study import ResultRole
from tests.unit.results.highdicom_groups import (
    Group,
    GroupMaker,
    certainty_items,
    certainty_of,
    evaluation_items,
    finding_site,
    measurement_items,
    text_item,
)
from tests.unit.results.highdicom_own import (
    COMMENT,
    DEVICE,
    DIAMETER,
    IMAGING_PROCEDURE,
    MANUFACTURER,
    MILLIMETRE,
    MODEL_NAME,
    PROCEDURES,
    QUALITATIVE_EVALUATIONS,
    WHOLE_CASE,
    declare_private_scheme,
    number,
    positions,
    predecessor_item,
    remarks_of,
    sr_concept,
    stamp,
)

_CORNERS: Final = 32


class PlaceMaker:
    """Makes the groups of one report that no segment stands behind.

    Parameters
    ----------
    maker
        Of the report's other groups.
    spatial
        Whether detections also stand in the Frame of Reference (SCOORD3D), which Comprehensive 3D SR alone may hold.
    """

    def __init__(self, maker: GroupMaker, *, spatial: bool) -> None:
        self._maker = maker
        self._series = maker.series
        self._spatial = spatial
        self.slices: set[int] = set()

    def groups(self, detection: Detection) -> tuple[Group, ...]:
        """An outline on the nearest slice with the values; in a 3D report a point in space, too.

        Raises
        ------
        StudyError
            ``result-invalid`` if it lies outside the images.
        """
        plane, points = self._on_image(detection)
        graphic = GraphicTypeValues.POINT if len(points) == 1 else GraphicTypeValues.POLYLINE
        uid = self._maker.context.mint("tracking", "detection", str(detection.number))
        common = {
            "tracking_identifier": TrackingIdentifier(uid=uid, identifier=detection.label),
            "finding_type": sr_concept(detection.finding),
            "finding_sites": [finding_site(detection.site, detection.laterality)] if detection.site else None,
            "algorithm_id": self._maker.algorithm_id(),
        }
        self.slices.add(plane)
        flat: Group = PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=self._maker.image_region(graphic, points, plane),
            measurements=_measurements(detection) or None,
            **common,
        )
        if not (self._spatial and self._series.in_space):
            return (flat,)
        region = ImageRegion3D(
            graphic_type=GraphicTypeValues3D.POINT,
            graphic_data=np.array([detection.position]),
            frame_of_reference_uid=str(self._series.headers[0].FrameOfReferenceUID),
        )
        return flat, PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)

    def case(self, evaluations: Sequence[Evaluation]) -> tuple[Group, ...]:
        """One group for the judgements on the case: a point inside the largest segment, or in the middle."""
        if not evaluations:
            return ()
        contour = self._maker.largest()
        plane, point = self._middle() if contour is None else (contour.slice_index, contour.inner_point())
        self.slices.add(plane)
        group: Group = PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=self._maker.image_region(GraphicTypeValues.POINT, np.array([point]), plane),
            tracking_identifier=TrackingIdentifier(
                uid=self._maker.context.mint("tracking", "case"), identifier=WHOLE_CASE.meaning
            ),
            finding_type=sr_concept(WHOLE_CASE),
            qualitative_evaluations=evaluation_items(evaluations),
            algorithm_id=self._maker.algorithm_id(),
        )
        group[0].ContentSequence.extend(certainty_items(evaluations))
        return (group,)

    def _middle(self) -> tuple[int, tuple[float, float]]:
        slices, rows, columns = self._series.shape
        return slices // 2, (columns / 2, rows / 2)

    def _on_image(self, detection: Detection) -> tuple[int, NDArray[np.float64]]:
        """Nearest plane, and the outline of the sphere's section by it (column, row), or a point."""
        if not (self._series.in_space and self._series.calibrated):
            raise StudyError("result-invalid", check="detection-nowhere")
        places = positions(self._series)
        header = self._series.headers[0]
        orientation = np.array([float(value) for value in header.ImageOrientationPatient])
        across, down = orientation[:3], orientation[3:]
        normal = np.cross(across, down)
        distances = np.abs((places - np.array(detection.position)) @ normal)
        plane = int(distances.argmin())
        reach = max(self._series.slice_spacing, self._series.slice_thickness)
        offset = np.array(detection.position) - places[plane]
        row_spacing, column_spacing = self._series.pixel_spacing
        centre = np.array([offset @ across / column_spacing + 0.5, offset @ down / row_spacing + 0.5])
        size = np.array([self._series.shape[2], self._series.shape[1]], dtype=float)
        if distances[plane] > reach or (centre < 0).any() or (centre > size).any():
            raise StudyError("result-invalid", check="detection-outside")
        if detection.diameter_mm is None:
            return plane, centre[None]
        radius = np.sqrt(max((detection.diameter_mm / 2) ** 2 - distances[plane] ** 2, 0.0))
        steps = np.linspace(0, 2 * np.pi, _CORNERS + 1)
        ring = np.stack([np.cos(steps) / column_spacing, np.sin(steps) / row_spacing], axis=1) * max(radius, 0.5)
        return plane, np.clip(centre + ring, 0, size)


def _measurements(detection: Detection) -> list[Measurement]:
    made = measurement_items(detection.measurements)
    if detection.diameter_mm is not None:
        value = number(detection.diameter_mm)
        made.append(Measurement(name=sr_concept(DIAMETER), value=value, unit=sr_concept(MILLIMETRE)))
    if detection.probability is not None:
        made.append(certainty_of(detection.probability))
    return made


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
    stamp(dataset, findings.algorithm, context)
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
            observer_type=sr_concept(DEVICE),
            observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
                uid=context.device_uid,
                name=context.station_name,
                manufacturer_name=MANUFACTURER,
                model_name=f"{MODEL_NAME} with {findings.algorithm.name} {findings.algorithm.version}"[:64],
            ),
        )
    )


def _add_remarks(root: Dataset, remarks: Sequence[str]) -> None:
    """Container of Qualitative Evaluations (TID 1500) with a comment for each remark."""
    container = ContainerContentItem(name=sr_concept(QUALITATIVE_EVALUATIONS), relationship_type="CONTAINS")
    container.ContentSequence = ContentSequence([text_item(COMMENT, remark) for remark in remarks])
    root.ContentSequence.append(container)
