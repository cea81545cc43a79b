"""Parametric Maps (PS3.3 A.75): how sure a network is, or what it looked at, voxel by voxel on the source's planes.

May live here: that object, of 16-bit integers with a Real World Value Mapping onto 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from highdicom import ContentQualificationValues, PixelMeasuresSequence
from highdicom.content import VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.coding import CodedConcept, private, ucum
from dicomnode.errors import StudyError
from dicomnode.findings import Findings
from dicomnode.results.concepts import declare_private_scheme, sr_concept
from dicomnode.results.context import MANUFACTURER, MODEL_NAME, ResultContext, content_description, content_label
from dicomnode.results.equipment import inherit_lossy, stamp
from dicomnode.results.sources import read_sources
from dicomnode.study import ResultRole

PROBABILITY: Final = private("PROBABILITY", "Probability that a voxel belongs to the region")
SALIENCY: Final = private("SALIENCY", "Weight of a voxel in the result")
_RATIO: Final = ucum("1", "no units")
_FULL: Final = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class VoxelMap:
    """A value for every voxel of the source.

    Attributes
    ----------
    values
        (slices, rows, columns) in source order: float, 0 to 1; or uint16 as it is stored, 65535 for 1.
    quantity
        What a value means: `PROBABILITY` or `SALIENCY`.
    label
        Of what, at most 64 characters.
    """

    values: NDArray[np.floating] | NDArray[np.uint16] = field(repr=False)
    quantity: CodedConcept
    label: str


def build(given: VoxelMap, sources: Sequence[Dataset], findings: Findings, context: ResultContext) -> Dataset:
    """Parametric Map in the space of its sources.

    Raises
    ------
    StudyError
        ``result-invalid`` if the values do not fit the sources or the range.
    """
    series = read_sources(sources)
    if given.values.shape != series.shape or not series.in_space or not _in_range(given.values):
        raise StudyError("result-invalid", check="map-values")
    role = ResultRole.PARAMETRIC_MAP
    dataset: Dataset = ParametricMap(
        source_images=series.stand_ins(),
        pixel_array=stored(given.values),
        series_instance_uid=context.series_uid(role),
        series_number=max(context.series_number(role), 1),
        sop_instance_uid=context.object_uid(role),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions=context.software_versions[0],
        device_serial_number=context.device_uid,
        contains_recognizable_visual_features=False,
        content_qualification=_qualification(findings),
        real_world_value_mappings=[_meaning(given)],
        voi_lut_transformations=[VOILUTTransformation(window_center=_FULL / 2, window_width=_FULL)],
        pixel_measures=PixelMeasuresSequence(
            pixel_spacing=series.pixel_spacing,
            slice_thickness=series.slice_thickness,
            spacing_between_slices=(series.even and series.slice_spacing) or None,
        ),
        content_label=content_label(findings.algorithm),
        content_description=content_description(given.label, findings.algorithm, context.words),
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    stamp(dataset, role, findings.algorithm, context)
    inherit_lossy(dataset, series.lossy)
    dataset.Laterality = ""  # type 2C of General Series: no body part is named
    dataset.ContentCreatorName = "dicomnode^AI"
    organization = context.mint("dimensions", role.value)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    series.name_frames(dataset)
    declare_private_scheme(dataset)
    return dataset


def _qualification(findings: Findings) -> ContentQualificationValues:
    """Whether the map is of a product or of research (C.8.13.2.1.1)."""
    research = findings.algorithm.research_only
    return ContentQualificationValues.RESEARCH if research else ContentQualificationValues.PRODUCT


def _meaning(given: VoxelMap) -> RealWorldValueMapping:
    """What a stored value means (C.7.6.16.2.11)."""
    return RealWorldValueMapping(
        lut_label="AI",
        lut_explanation=given.label,
        unit=sr_concept(_RATIO),
        value_range=(0, _FULL),
        slope=1 / _FULL,
        intercept=0,
        quantity_definition=sr_concept(given.quantity),
    )


def stored(values: NDArray[np.floating] | NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Values as the object holds them."""
    if values.dtype == np.uint16:
        return np.asarray(values, np.uint16)
    return np.asarray(np.rint(values * _FULL), np.uint16)


def _in_range(values: NDArray[np.floating] | NDArray[np.uint16]) -> bool:
    return values.dtype == np.uint16 or bool(np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1)
