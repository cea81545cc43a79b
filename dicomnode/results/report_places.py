"""Measurement groups of what has a place but no segment: detections, and judgements on the case as a whole.

May live here: TID 1410 groups out of detections and evaluations. Each has an outline or a point on a source image, since
viewers go black over a Tracking UID that has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dicomnode.coding import MILLIMETRE
from dicomnode.errors import StudyError
from dicomnode.findings import Detection, Evaluation
from dicomnode.results import content
from dicomnode.results.concepts import DIAMETER, WHOLE_CASE
from dicomnode.results.content import Item
from dicomnode.results.report_groups import (
    IMAGE_REGION,
    PLANAR,
    GroupMaker,
    certainty_items,
    certainty_of,
    evaluation_items,
    finding,
    finding_site,
    measurement_group,
    measurement_items,
    number,
    tracking,
)
from dicomnode.results.sources import positions

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

    def groups(self, detection: Detection) -> tuple[Item, ...]:
        """An outline on the nearest slice with the values; in a 3D report a point in space, too.

        Raises
        ------
        StudyError
            ``result-invalid`` if it lies outside the images.
        """
        plane, points = self._on_image(detection)
        graphic = "POINT" if len(points) == 1 else "POLYLINE"
        common = [
            *tracking(self._maker.context.mint("tracking", "detection", str(detection.number)), detection.label),
            finding(detection.finding),
            *([finding_site(detection.site, detection.laterality)] if detection.site else ()),
            *self._maker.algorithm,
        ]
        self.slices.add(plane)
        outline = self._maker.image_region(graphic, points, plane)
        flat = measurement_group(PLANAR, common, _measurements(detection), [outline])
        if not (self._spatial and self._series.in_space):
            return (flat,)
        frame_of_reference_uid = str(self._series.headers[0].FrameOfReferenceUID)
        place = content.spatial_coordinates(
            IMAGE_REGION, "POINT", np.array([detection.position]), frame_of_reference_uid
        )
        return flat, measurement_group(PLANAR, common, [place])

    def case(self, evaluations: Sequence[Evaluation]) -> tuple[Item, ...]:
        """One group for the judgements on the case: a point inside the largest segment, or in the middle."""
        if not evaluations:
            return ()
        contour = self._maker.largest()
        plane, point = self._middle() if contour is None else (contour.slice_index, contour.inner_point())
        self.slices.add(plane)
        group = measurement_group(
            PLANAR,
            tracking(self._maker.context.mint("tracking", "case"), WHOLE_CASE.meaning),
            [finding(WHOLE_CASE)],
            self._maker.algorithm,
            evaluation_items(evaluations),
            [self._maker.image_region("POINT", np.array([point]), plane)],
            certainty_items(evaluations),
        )
        return (group,)

    def _middle(self) -> tuple[int, tuple[float, float]]:
        slices, rows, columns = self._series.shape
        return slices // 2, (columns / 2, rows / 2)

    def _on_image(self, detection: Detection) -> tuple[int, NDArray[np.float64]]:
        """Nearest plane, and the outline of the sphere's section by it (column, row), or a point."""
        if not (self._series.in_space and self._series.calibrated):
            raise StudyError("result-invalid", check="detection-nowhere")
        places = positions(self._series.headers)
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


def _measurements(detection: Detection) -> list[Item]:
    made = measurement_items(detection.measurements)
    if detection.diameter_mm is not None:
        made.append(content.numeric(DIAMETER, number(detection.diameter_mm), MILLIMETRE))
    if detection.probability is not None:
        made.append(certainty_of(detection.probability))
    return made
