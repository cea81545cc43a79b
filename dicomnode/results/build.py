"""Building the objects of one analysis, in pseudonymous space, each in the form that is wanted.

May live here: which builder makes which form, and what the objects share. Nothing is restored, encoded or proved here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.findings import Findings
from dicomnode.forms import Form, Variant, Wishes, choose
from dicomnode.imaging.census import Census, slice_counts
from dicomnode.results import (
    capture,
    key_objects,
    outcome,
    parametric_map,
    pdf,
    report,
    rtstruct,
    segmentation,
    segmentation_forms,
)
from dicomnode.results.context import ResultContext
from dicomnode.results.parametric_map import VoxelMap
from dicomnode.results.prepared import Completed
from dicomnode.results.report import Predecessor
from dicomnode.results.report_groups import KeyContour
from dicomnode.results.sources import SourceSeries, read_sources
from dicomnode.study import ResultRole

BINARY: Final = Variant(role=ResultRole.SEGMENTATION, form=Form.BINARY)
REPORTS: Final = (Form.COMPREHENSIVE, Form.COMPREHENSIVE_3D)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyImage:
    """The picture for viewers that show neither segmentation nor report.

    Attributes
    ----------
    rgb
        uint8 (rows, columns, 3).
    slices
        Indices in source order of the slices that it shows.
    """

    rgb: NDArray[np.uint8] = field(repr=False)
    slices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultInput:
    """What the results of one series are made of.

    Attributes
    ----------
    labels
        uint8 (slices, rows, columns) on the source grid, in source order; 0 is background.
    sources
        Headers of the pseudonymous copies in source order; pixel data is not needed.
    contours
        One per segment that has a voxel, on its key slice.
    key_image
        None: no key image is to be had, and what needs it is left out.
    predecessor
        The report that this one replaces, in the space of the source.
    variants
        Which objects are wanted, in the order in which they are best sent.
    voxel_map
        Probabilities or saliency; None: there are none, and no Parametric Map.
    census
        Of the labels, where it was taken before.
    """

    labels: NDArray[np.uint8] = field(repr=False)
    sources: Sequence[Dataset] = field(repr=False)
    findings: Findings
    contours: tuple[KeyContour, ...] = field(repr=False)
    key_image: KeyImage | None
    predecessor: Predecessor | None = field(default=None, repr=False)
    variants: tuple[Variant, ...] = choose(Wishes())
    voxel_map: VoxelMap | None = field(default=None, repr=False)
    census: Census | None = field(default=None, repr=False)


def _values(labels: NDArray[np.uint8]) -> list[int]:
    """Values of a label map that a voxel has."""
    return [int(value) for value in np.flatnonzero(slice_counts(labels).any(axis=0)) if value]


class Builder:
    """Builds what one analysis gives.

    Parameters
    ----------
    source
        The source's own attributes, of the vault: what a page for people names.
    completed
        The BINARY segmentation where it was prepared while the network ran.
    series
        The sources where they were read meanwhile.

    Raises
    ------
    StudyError
        ``nothing-found`` if no segment has a voxel and nothing else was found; ``geometry-attribute-missing``.
    """

    def __init__(
        self,
        given: ResultInput,
        context: ResultContext,
        source: Dataset,
        completed: Completed | None = None,
        series: SourceSeries | None = None,
    ) -> None:
        self.given = given
        self.completed = completed
        self._context = context
        self._source = source
        self._series = series or read_sources(given.sources)
        self._found = frozenset(_values(given.labels) if completed is None else completed.values)
        self._segmentations: dict[Form, Dataset] = {}
        told = given.findings.detections or given.findings.evaluations
        #: The BINARY segmentation (its header, where it was prepared); None where a model finds no regions.
        self.binary = completed.pseudonymous if completed else None if not self._found and told else self._binary()

    @property
    def variants(self) -> tuple[Variant, ...]:
        """What is wanted of what can be had."""
        possible = {
            ResultRole.SEGMENTATION: self.binary is not None,
            ResultRole.KEY_IMAGE: self.given.key_image is not None,
            ResultRole.PARAMETRIC_MAP: self.given.voxel_map is not None,
            ResultRole.KEY_OBJECTS: bool(self._slices()),
        }
        return tuple(variant for variant in self.given.variants if possible.get(variant.role, True))

    def build(self, variant: Variant) -> Dataset:
        """One object, in the space of its sources."""
        given, context = self.given, self._context.written_as(variant.name)
        if variant.role is ResultRole.SEGMENTATION:
            return self._segmentation(variant.form)
        if variant.role is ResultRole.KEY_IMAGE:
            return self._capture(context)
        if variant.role is ResultRole.KEY_OBJECTS:
            return key_objects.build(self._series, given.findings, self._slices(), context)
        if variant.role is ResultRole.PARAMETRIC_MAP and given.voxel_map is not None:
            return parametric_map.build(given.voxel_map, given.sources, given.findings, context)
        if variant.form is Form.PDF:
            return pdf.build(self._page(context), self._series, self._slices(), context, variant.role)
        if variant.form is Form.BASIC_TEXT:
            return outcome.build_report(
                self._series,
                given.findings,
                self._slices(),
                context,
                found=self._found,
                predecessor=given.predecessor,
            )
        raise StudyError("result-invalid", check="form")

    def _binary(self) -> Dataset:
        given, context = self.given, self._context.written_as(BINARY.name)
        return segmentation.build(given.labels, self._series, given.findings, context)

    def _segmentation(self, form: Form) -> Dataset:
        if form not in self._segmentations:
            self._segmentations[form] = self._segmentation_anew(form)
        return self._segmentations[form]

    def _segmentation_anew(self, form: Form) -> Dataset:
        given = self.given
        context = self._context.written_as(Variant(role=ResultRole.SEGMENTATION, form=form).name)
        if form is Form.RTSTRUCT:
            return rtstruct.build(given.labels, self._series, given.findings, context)
        if self.binary is None:
            raise StudyError("nothing-found")
        if form is Form.BINARY:
            return self.binary
        whole = self.binary if self.completed is None else self._binary()
        return segmentation_forms.build(
            whole, form, given.labels, series=self._series, findings=given.findings, context=context
        )

    def report(self, variant: Variant) -> report.Report:
        """A report of measurements, in the space of its sources."""
        given, context = self.given, self._context.written_as(variant.name)
        linked = variant.links is not None and self.binary is not None
        named = self._segmentation(variant.links) if variant.links is not None and linked else self.binary
        return report.build(
            named,
            self._series,
            given.findings,
            given.contours,
            context,
            form=variant.form,
            linked=linked,
            predecessor=given.predecessor,
        )

    def _capture(self, context: ResultContext) -> Dataset:
        given, picture = self.given, self.given.key_image
        if picture is None:
            raise StudyError("result-invalid", check="key-image-missing")
        return capture.build(picture.rgb, self._series, given.findings, context, key_slices=picture.slices)

    def _slices(self) -> tuple[int, ...]:
        """The slices that matter: those with an outline, then those of the key image."""
        shown = () if self.given.key_image is None else self.given.key_image.slices
        return tuple(sorted({contour.slice_index for contour in self.given.contours} | set(shown)))

    def _page(self, context: ResultContext) -> pdf.Page:
        picture = self.given.key_image
        return pdf.Page(
            picture=None if picture is None else picture.rgb,
            findings=self.given.findings,
            identity=self._source,
            found=self._found,
            words=context.words,
            made=f"{context.content_datetime:%Y-%m-%d %H:%M} {context.station_name}",
        )
