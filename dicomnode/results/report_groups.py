"""Measurement groups of the report: per region a planar one that viewers draw and one that carries the values.

May live here: TID 1410 (planar), 1411 (volumetric) and 1501 (no region) out of regions and contours. Both groups of a
pair have the segment's Tracking UID; a total over several segments is anchored by a point inside the largest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode import findings
from dicomnode.coding import AREA, PERCENT, SQUARE_MILLIMETRE, CodedConcept, dcm, sct
from dicomnode.errors import StudyError
from dicomnode.findings import Findings, Region
from dicomnode.results import content
from dicomnode.results.concepts import CERTAINTY, COMMENT, ENDS, METHODS, TRUNCATED
from dicomnode.results.content import Item, Reference
from dicomnode.results.context import ResultContext
from dicomnode.results.sources import SourceSeries

PLANAR: Final = "1410"
VOLUMETRIC: Final = "1411"
NO_REGION: Final = "1501"
SOURCE: Final = sct("260753009", "Source")
IMAGE_REGION: Final = dcm("111030", "Image Region")
_GROUP: Final = dcm("125007", "Measurement Group")
_TRACKING_IDENTIFIER: Final = dcm("112039", "Tracking Identifier")
_TRACKING_UID: Final = dcm("112040", "Tracking Unique Identifier")
_FINDING: Final = dcm("121071", "Finding")
_FINDING_SITE: Final = sct("363698007", "Finding Site")
_LATERALITY: Final = sct("272741003", "Laterality")
_METHOD: Final = sct("370129005", "Measurement Method")
_DERIVATION: Final = dcm("121401", "Derivation")
_ALGORITHM_NAME: Final = dcm("111001", "Algorithm Name")
_ALGORITHM_VERSION: Final = dcm("111003", "Algorithm Version")
_ALGORITHM_PARAMETERS: Final = dcm("111002", "Algorithm Parameters")
_REFERENCED_SEGMENT: Final = dcm("121191", "Referenced Segment")
_SOURCE_SERIES: Final = dcm("121232", "Source Series for Segmentation")
_OBSERVATION: Final = "HAS OBS CONTEXT"
_MODIFIER: Final = "HAS CONCEPT MOD"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyContour:
    """Outline of a segment on its key slice.

    Attributes
    ----------
    segment
        Number of the segment in the label map.
    slice_index
        Index of the slice in source order.
    points
        Closed polyline as (column, row), image-relative: the top left corner of the top left pixel is (0, 0), pixel
        centres lie at + 0.5 (PS3.3 C.10.5.1.2). The first point may be repeated at the end or not.
    """

    segment: int
    slice_index: int
    points: tuple[tuple[float, float], ...]

    def polygon(self) -> NDArray[np.float64]:
        """Points without the repeated first one: float64 (points, 2)."""
        points = np.array(self.points, dtype=np.float64).reshape(-1, 2)
        return points[:-1] if len(points) > 1 and np.array_equal(points[0], points[-1]) else points

    def area(self) -> float:
        """Area inside, in pixels."""
        x, y = self.polygon().T
        return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)

    def inner_point(self) -> tuple[float, float]:
        """A point inside: the middle of the longest run of the row at three quarters of the outline's height.

        Viewers write beside a point and beside the middle of an outline: so far down, neither text lies on the other.
        """
        polygon = self.polygon()
        row = float(polygon[:, 1].min() + 0.75 * np.ptp(polygon[:, 1]))
        row = np.floor(row * 4) / 4 + 0.125  # off the corners and edges of whole and half pixels
        start, end = polygon, np.roll(polygon, -1, axis=0)
        crossing = (start[:, 1] <= row) != (end[:, 1] <= row)
        start, end = start[crossing], end[crossing]
        share = (row - start[:, 1]) / (end[:, 1] - start[:, 1])
        columns = np.sort(start[:, 0] + share * (end[:, 0] - start[:, 0]))
        runs = columns.reshape(-1, 2)
        widest = runs[np.argmax(runs[:, 1] - runs[:, 0])]
        return float(widest.mean()), row


def measurement_group(template: str, *parts: Sequence[Item]) -> Item:
    """One group (TID 1410, 1411, 1501)."""
    return content.container(_GROUP, [item for part in parts for item in part], template)


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
        self.algorithm = _algorithm(found)
        self._numbers = {} if segmentation is None else _tracked(segmentation)
        self._contours = {contour.segment: contour for contour in contours}
        for contour in contours:
            _check_contour(contour, series)

    def found(self, segment: int) -> bool:
        """Whether the segmentation holds the segment."""
        return self.context.tracking_uid((segment,)) in self._numbers

    def groups(self, region: Region) -> tuple[Item, ...]:
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
        uid = self.context.tracking_uid(region.segments)
        common = [
            *tracking(uid, region.label),
            finding(region.site),
            finding_site(region.site, region.laterality),
            *self.algorithm,
        ]
        if len(region.segments) == 1:
            contour = self._contours[present[0]]
            polygon = contour.polygon()
            outline = self.image_region("POLYLINE", np.vstack([polygon, polygon[:1]]), contour.slice_index)
            planar = measurement_group(PLANAR, common, self._area(contour), [outline])
            return planar, self._values(region, common, self._segment(uid) if self._linked else [])
        largest = max((self._contours[number] for number in present), key=KeyContour.area)
        anchor = self.image_region("POINT", np.array([largest.inner_point()]), largest.slice_index)
        return measurement_group(PLANAR, common, [anchor]), self._values(region, common, [])

    def largest(self) -> KeyContour | None:
        """The largest of the contours."""
        return max(self._contours.values(), key=KeyContour.area, default=None)

    def _area(self, contour: KeyContour) -> list[Item]:
        """Area inside the contour; none of an image whose pixels have no known size."""
        if not self.series.calibrated:
            return []
        row_spacing, column_spacing = self.series.pixel_spacing
        return [content.numeric(AREA, number(contour.area() * row_spacing * column_spacing), SQUARE_MILLIMETRE)]

    def _segment(self, uid: str) -> list[Item]:
        """The segment that values are of, and the series that it was made of (TID 1411, rows 7 and 12)."""
        if self._segmentation is None:
            raise StudyError("result-invalid", check="segment-without-object")
        reference = Reference(
            str(self._segmentation.SOPClassUID),
            str(self._segmentation.SOPInstanceUID),
            segment=self._numbers[uid],
        )
        series_uid = str(self.series.headers[0].SeriesInstanceUID)
        return [content.image(_REFERENCED_SEGMENT, reference), content.uid_reference(_SOURCE_SERIES, series_uid)]

    def _values(self, region: Region, common: Sequence[Item], segment: Sequence[Item]) -> Item:
        """The group with the values: of a segment, or of no region.

        Caveats of measurements stand as comments of the group; probabilities beside the evaluations.
        """
        cut = [content.code(TRUNCATED, ENDS[end]) for end in region.truncated if end in ENDS]
        return measurement_group(
            VOLUMETRIC if segment else NO_REGION,
            common,
            measurement_items(region.measurements),
            [*cut, *evaluation_items(region.evaluations)],
            segment,
            certainty_items(region.evaluations),
            [
                content.text(COMMENT, f"{item.concept.meaning}: {item.caveat}")
                for item in region.measurements
                if item.caveat
            ],
        )

    def image_region(self, graphic_type: str, points: NDArray[np.float64], slice_index: int) -> Item:
        """A region on one plane (TID 1410, row 5)."""
        header = self.series.headers[slice_index]
        frame = int(header.ReferencedFrameNumber) if self.series.framed else None
        reference = Reference(str(header.SOPClassUID), str(header.SOPInstanceUID), frame)
        source = content.image(SOURCE, reference, "SELECTED FROM")
        return content.coordinates(IMAGE_REGION, graphic_type, points, source)


def _algorithm(found: Findings) -> tuple[Item, ...]:
    """TID 4019."""
    algorithm = found.algorithm
    return (
        content.text(_ALGORITHM_NAME, algorithm.name, _MODIFIER),
        content.text(_ALGORITHM_VERSION, algorithm.version, _MODIFIER),
        content.text(_ALGORITHM_PARAMETERS, f"engine={algorithm.engine}", _MODIFIER),
        content.text(_ALGORITHM_PARAMETERS, f"digest={algorithm.digest}", _MODIFIER),
    )


def tracking(uid: str, identifier: str) -> tuple[Item, Item]:
    """TID 4108: what a person calls it, and its UID."""
    return (
        content.text(_TRACKING_IDENTIFIER, identifier, _OBSERVATION),
        content.uid_reference(_TRACKING_UID, uid, _OBSERVATION),
    )


def finding(concept: CodedConcept) -> Item:
    """What was found."""
    return content.code(_FINDING, concept)


def _tracked(segmentation: Dataset) -> dict[str, int]:
    items = [item for item in segmentation.SegmentSequence if "TrackingUID" in item]  # a background has none
    return {str(item.TrackingUID): int(item.SegmentNumber) for item in items}


def _check_contour(contour: KeyContour, series: SourceSeries) -> None:
    slices, rows, columns = series.shape
    polygon = contour.polygon()
    if not 0 <= contour.slice_index < slices or len(polygon) < 3 or not np.isfinite(polygon).all():
        raise StudyError("result-invalid", check="contour-shape")
    if polygon.min() < 0 or (polygon.max(axis=0) > (columns, rows)).any() or contour.area() <= 0:
        raise StudyError("result-invalid", check="contour-outside")


def finding_site(site: CodedConcept, laterality: CodedConcept | None) -> Item:
    """Where a finding is."""
    side = () if laterality is None else (content.code(_LATERALITY, laterality, _MODIFIER),)
    return content.code(_FINDING_SITE, site, _MODIFIER, *side)


def measurement_items(measurements: Sequence[findings.Measurement]) -> list[Item]:
    """NUM content items (TID 300)."""
    return [_measurement(item) for item in measurements]


def _measurement(item: findings.Measurement) -> Item:
    modifiers = []
    if item.concept in METHODS:
        modifiers.append(content.code(_METHOD, METHODS[item.concept], _MODIFIER))
    if item.derivation is not None:
        modifiers.append(content.code(_DERIVATION, item.derivation, _MODIFIER))
    return content.numeric(item.concept, number(item.value), item.unit, "CONTAINS", *modifiers)


def certainty_of(probability: float, *modifiers: Item) -> Item:
    """How sure the model is, in percent."""
    return content.numeric(CERTAINTY, number(100 * probability), PERCENT, "CONTAINS", *modifiers)


def evaluation_items(evaluations: Sequence[findings.Evaluation]) -> list[Item]:
    """CODE content items of a classification (TID 1501, row 10)."""
    return [content.code(item.concept, item.value) for item in evaluations]


def certainty_items(evaluations: Sequence[findings.Evaluation]) -> list[Item]:
    """For each evaluation with a probability a NUM that names what it is the probability of."""
    return [
        certainty_of(item.probability, content.code(item.concept, item.value, _MODIFIER))
        for item in evaluations
        if item.probability is not None
    ]


def number(value: float) -> float:
    """Value as the report carries it: seven digits are beyond what any of it is known to, and fit a DS."""
    return float(f"{value:.7g}")
