"""Measurement groups of a report as highdicom makes them: the reference that `results.report_groups` is held against."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    ContentSequence,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr import CodeContentItem as CodeItem
from highdicom.sr import TextContentItem as TextItem
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode import findings
from dicomnode.coding import CodedConcept
from dicomnode.errors import StudyError
from dicomnode.findings import Findings, Region
from dicomnode.results.context import ResultContext
from dicomnode.results.report_groups import KeyContour
from dicomnode.results.sources import SourceSeries
from tests.unit.results.highdicom_own import (
    AREA,
    CERTAINTY,
    COMMENT,
    ENDS,
    METHODS,
    PERCENT,
    SQUARE_MILLIMETRE,
    TRUNCATED,
    area_of,
    check_contour,
    largest_of,
    number,
    sr_concept,
    tracked,
)

#: A content sequence that holds one container.
Group = Sequence[Dataset]


def text_item(concept: CodedConcept, text: str) -> TextItem:
    """TEXT content item, contained."""
    return TextItem(name=sr_concept(concept), value=text, relationship_type="CONTAINS")


class GroupMaker:
    """Makes the groups of one report.

    Raises
    ------
    StudyError
        ``result-invalid`` if a contour is no polygon inside its image, or a segment with voxels has none.
    """

    def __init__(
        self,
        segmentation: Dataset | None,
        series: SourceSeries,
        found: Findings,
        contours: Sequence[KeyContour],
        context: ResultContext,
        *,
        linked: bool = True,
    ) -> None:
        self._segmentation = segmentation
        self._linked = linked
        self.series = series
        self.context = context
        self._algorithm = found.algorithm
        self._numbers = {} if segmentation is None else tracked(segmentation)
        self._contours = {contour.segment: contour for contour in contours}
        for contour in contours:
            check_contour(contour, series)

    def found(self, segment: int) -> bool:
        """Whether the segmentation holds the segment."""
        return self.context.tracking_uid((segment,)) in self._numbers

    def groups(self, region: Region) -> tuple[Group, ...]:
        """Pair of groups of a region; none where it has no voxel.

        A region of one segment: TID 1410 with the contour and its area, TID 1411 with the segment and the values (TID
        1501 where there is no segmentation to refer to). A region of several: TID 1410 with a point inside the largest,
        TID 1501 with the values.
        """
        present = [number for number in region.segments if self.found(number)]
        if not present:
            return ()
        missing = [number for number in present if number not in self._contours]
        if missing:
            raise StudyError("result-invalid", check="segment-without-contour")
        if len(region.segments) == 1:
            values = self._volumetric(region) if self._linked else self._total(region)
            return self._planar(region, self._contours[present[0]]), values
        largest = max((self._contours[number] for number in present), key=area_of)
        return self._anchor(region, largest), self._total(region)

    def _common(self, region: Region) -> dict[str, object]:
        """What both groups of a pair say alike."""
        return {
            "tracking_identifier": TrackingIdentifier(
                uid=self.context.tracking_uid(region.segments), identifier=region.label
            ),
            "finding_type": sr_concept(region.site),
            "finding_sites": [finding_site(region.site, region.laterality)],
            "algorithm_id": self.algorithm_id(),
        }

    def algorithm_id(self) -> AlgorithmIdentification:
        """TID 4019."""
        return AlgorithmIdentification(
            name=self._algorithm.name,
            version=self._algorithm.version,
            parameters=[f"engine={self._algorithm.engine}", f"digest={self._algorithm.digest}"],
        )

    def largest(self) -> KeyContour | None:
        """The largest of the contours."""
        return largest_of(list(self._contours.values()))

    def _planar(self, region: Region, contour: KeyContour) -> Group:
        polygon = contour.polygon()
        planar: Group = PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=self.image_region(
                GraphicTypeValues.POLYLINE, np.vstack([polygon, polygon[:1]]), contour.slice_index
            ),
            measurements=self._area(contour),
            **self._common(region),
        )
        return planar

    def _area(self, contour: KeyContour) -> list[Measurement] | None:
        """Area inside the contour; none of an image whose pixels have no known size."""
        if not self.series.calibrated:
            return None
        row_spacing, column_spacing = self.series.pixel_spacing
        value = number(area_of(contour) * row_spacing * column_spacing)
        return [Measurement(name=sr_concept(AREA), value=value, unit=sr_concept(SQUARE_MILLIMETRE))]

    def _anchor(self, region: Region, contour: KeyContour) -> Group:
        point = np.array([contour.inner_point()])
        planar: Group = PlanarROIMeasurementsAndQualitativeEvaluations(
            referenced_region=self.image_region(GraphicTypeValues.POINT, point, contour.slice_index),
            **self._common(region),
        )
        return planar

    def _volumetric(self, region: Region) -> Group:
        uid = self.context.tracking_uid(region.segments)
        if self._segmentation is None:
            raise StudyError("result-invalid", check="segment-without-object")
        group: Group = VolumetricROIMeasurementsAndQualitativeEvaluations(
            referenced_segment=ReferencedSegment(
                sop_class_uid=self._segmentation.SOPClassUID,
                sop_instance_uid=self._segmentation.SOPInstanceUID,
                segment_number=self._numbers[uid],
                source_series=SourceSeriesForSegmentation(str(self.series.headers[0].SeriesInstanceUID)),
            ),
            measurements=measurement_items(region.measurements),
            qualitative_evaluations=_evaluations(region),
            **self._common(region),
        )
        return _with_caveats(group, region)

    def _total(self, region: Region) -> Group:
        group: Group = MeasurementsAndQualitativeEvaluations(
            measurements=measurement_items(region.measurements),
            qualitative_evaluations=_evaluations(region),
            **self._common(region),
        )
        return _with_caveats(group, region)

    def image_region(
        self, graphic_type: GraphicTypeValues, points: NDArray[np.float64], slice_index: int
    ) -> ImageRegion:
        """A region on one plane (TID 1410, row 5)."""
        header = self.series.headers[slice_index]
        return ImageRegion(
            graphic_type=graphic_type,
            graphic_data=points,
            source_image=SourceImageForRegion(
                referenced_sop_class_uid=header.SOPClassUID,
                referenced_sop_instance_uid=header.SOPInstanceUID,
                referenced_frame_numbers=[int(header.ReferencedFrameNumber)] if self.series.framed else None,
            ),
        )


def finding_site(site: CodedConcept, laterality: CodedConcept | None) -> FindingSite:
    """Where a finding is."""
    return FindingSite(
        anatomic_location=sr_concept(site), laterality=None if laterality is None else sr_concept(laterality)
    )


def measurement_items(measurements: Sequence[findings.Measurement]) -> list[Measurement]:
    """NUM content items (TID 300)."""
    return [
        Measurement(
            name=sr_concept(item.concept),
            value=number(item.value),
            unit=sr_concept(item.unit),
            derivation=None if item.derivation is None else sr_concept(item.derivation),
            method=sr_concept(METHODS[item.concept.value]) if item.concept.value in METHODS else None,
        )
        for item in measurements
    ]


def certainty_of(probability: float) -> Measurement:
    """How sure the model is, in percent."""
    return Measurement(name=sr_concept(CERTAINTY), value=number(100 * probability), unit=sr_concept(PERCENT))


def evaluation_items(evaluations: Sequence[findings.Evaluation]) -> list[QualitativeEvaluation]:
    """CODE content items of a classification (TID 1501, row 10)."""
    return [QualitativeEvaluation(name=sr_concept(item.concept), value=sr_concept(item.value)) for item in evaluations]


def certainty_items(evaluations: Sequence[findings.Evaluation]) -> list[Dataset]:
    """For each evaluation with a probability a NUM that names what it is the probability of."""
    made = []
    for item in evaluations:
        if item.probability is not None:
            certainty = certainty_of(item.probability)[0]
            certainty.ContentSequence = ContentSequence(
                [
                    CodeItem(
                        name=sr_concept(item.concept), value=sr_concept(item.value), relationship_type="HAS CONCEPT MOD"
                    )
                ]
            )
            made.append(certainty)
    return made


def _evaluations(region: Region) -> list[QualitativeEvaluation] | None:
    found = [
        QualitativeEvaluation(name=sr_concept(TRUNCATED), value=sr_concept(ENDS[end]))
        for end in region.truncated
        if end in ENDS
    ]
    found += evaluation_items(region.evaluations)
    return found or None


def _with_caveats(group: Group, region: Region) -> Group:
    """Caveats of measurements stand as comments of the group; probabilities beside the evaluations."""
    group[0].ContentSequence.extend(certainty_items(region.evaluations))
    for item in region.measurements:
        if item.caveat:
            group[0].ContentSequence.append(text_item(COMMENT, f"{item.concept.meaning}: {item.caveat}"))
    return group
