"""From the images of one series to encoded results: the way that the node and the offline commands share.

Holds no state of a study and touches no disk; what it needs is handed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from dicomnode import __version__
from dicomnode.config import Config
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.errors import StudyError
from dicomnode.findings import Algorithm, Findings
from dicomnode.forms import Variant, Wishes, choose
from dicomnode.identity import SourceIdentity
from dicomnode.imaging import measure
from dicomnode.imaging.census import Census
from dicomnode.imaging.contour import contour, key_slices
from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.tally import Tally, take_tally
from dicomnode.imaging.volume import Volume
from dicomnode.inference.engine import Engine, EngineInfo
from dicomnode.inference.foresight import Foresight, foresee, memory_at_least
from dicomnode.inference.package import Package
from dicomnode.inference.segment import INFERRED, PriorVolume, VolumeEngine, look
from dicomnode.manifest import InputRule
from dicomnode.results.context import ResultContext
from dicomnode.results.encode import (
    EncodedResult,
    KeyImage,
    ResultInput,
    encode_outcome,
    encode_rejection,
    encode_results,
    prepare_results,
)
from dicomnode.results.library_tables import ask_beforehand
from dicomnode.results.parametric_map import PROBABILITY, VoxelMap
from dicomnode.results.prepared import Prepared
from dicomnode.results.report import Predecessor
from dicomnode.results.report_groups import KeyContour
from dicomnode.study import mint_uid
from dicomnode.texts import Words
from dicomnode.workflow.meanwhile import Beside, Meanwhile, ready
from dicomnode.workflow.packed import Probabilities, pack_labels, unpack_labels, unpack_probabilities
from dicomnode.workflow.provenance import guard_of
from dicomnode.workflow.reading import read_volume
from dicomnode.workflow.selection import Header, SurveyedSeries, survey
from dicomnode.workflow.selection import choose as choose_series

Labels = npt.NDArray[np.uint8]
Progress = Callable[[float], None]
#: Raised when a change of the node's own code changes results of the same input.
_GENERATION: Final = "5"


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """What a model makes of one series.

    Attributes
    ----------
    sources
        Pseudonymous headers in source order.
    labels
        uint8 (slices, rows, columns) on the source grid, in source order.
    prepared, picture
        What of the results, and the key image, is made meanwhile, if anything.
    tally
        What measuring has counted.
    probability
        That a voxel belongs to any region, 0 to 65535, like the labels; None where the model gives no map.
    packed
        The labels as they are sealed; none of an analysis that was recalled.
    """

    sources: tuple[Dataset, ...] = field(repr=False)
    volume: Volume
    labels: Labels = field(repr=False)
    findings: Findings
    prepared: Future[Prepared | None] | None = field(default=None, repr=False)
    picture: Future[KeyImage | None] | None = field(default=None, repr=False)
    tally: Tally | None = field(default=None, repr=False)
    probability: Probabilities | None = field(default=None, repr=False)
    packed: bytes = field(default=b"", repr=False)

    @cached_property
    def counted(self) -> Tally:
        """Of labels and volume, taken when it is first asked for."""
        return self.tally or take_tally(self.volume.values, self.labels, self.volume.padding)

    @property
    def census(self) -> Census:
        """Of the labels alone."""
        return self.counted.census

    @property
    def voxel_map(self) -> VoxelMap | None:
        """What a Parametric Map is made of."""
        values, label = self.probability, self.findings.sought
        return None if values is None else VoxelMap(values=values, quantity=PROBABILITY, label=label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Whose results an analysis is for: with this, they are prepared while the network runs."""

    identity: SourceIdentity = field(repr=False)
    input_digest: str


class Analyst:
    """One model with its engine, ready to look at series.

    Parameters
    ----------
    package, engine
        The model.
    deidentifier
        Of the policy ``ai``.
    tree
        Configuration.
    derivation_key
        Key under which UIDs are minted.
    issued_at
        Gives the moment at which a result was first issued: stable for one result key, so that the same result is
        the same bytes.
    """

    def __init__(
        self,
        package: Package,
        engine: Engine,
        deidentifier: Deidentifier,
        *,
        tree: Config,
        derivation_key: bytes,
        issued_at: Callable[[str], datetime],
    ) -> None:
        self.package = package
        self.words = Words(tree.results.language)
        self.deidentifier = deidentifier
        self._engine = engine
        self._tree = tree
        self._key = derivation_key
        self._issued_at = issued_at
        self._guard = guard_of(tree, derivation_key)
        #: Makes what results will need, beside the network and after it.
        self.beside = Beside()

    def warm(self) -> None:
        """Read meanwhile what the first study's results would have to wait for."""
        self.beside.begin(partial(ask_beforehand, sorted(self.package.manifest.input.sop_classes)))

    @property
    def places(self) -> int:
        """How many studies its engine takes at once."""
        return int(getattr(self._engine, "places", 1))

    def select(self, headers: Sequence[Header], rule: InputRule | None = None) -> SurveyedSeries:
        """The series of a study that the model works on; with another `rule` than its own: that it sees beside it.

        Raises
        ------
        StudyError
            As `selection.choose`; ``memory-too-large`` where it takes more than a study may, whatever its pixels are.
        """
        manifest, limit = self.package.manifest, self._tree.models.maximum_memory_bytes
        rule = rule or manifest.input
        chosen = choose_series(survey(headers, rule, self._guard), rule)
        if chosen.geometry is not None and (needed := memory_at_least(chosen.geometry, manifest)) > limit:
            raise StudyError("memory-too-large", needed=needed, maximum=limit)
        return chosen

    def foresee(self, geometry: VolumeGeometry) -> Foresight:
        """What a study of a geometry will take, and where it will be computed."""
        return foresee(geometry, self.package.manifest, self._engine)

    def analyse(
        self,
        copies: Iterable[Dataset],
        progress: Progress | None = None,
        *,
        issue: Issue | None = None,
        priors: Sequence[PriorVolume] = (),
    ) -> Analysis:
        """Run the network and measure.

        Parameters
        ----------
        copies
            Pseudonymous images of one series, in any order; compressed ones are decoded as they come.
        issue
            None: nothing is prepared, and `encode` takes the longer way to the same bytes.
        priors
            Of earlier studies, as `look` takes them.

        Raises
        ------
        StudyError
            ``geometry-*``, ``pixel-*``, ``memory-too-large``, or ``nothing-found``.
        ModelError
            ``inference-failed``.
        """
        built, ordered = self._volume(copies)
        manifest = self.package.manifest
        sources = _bare(ordered)
        asked = self._engine.info
        meanwhile = Meanwhile(partial(self._prepare, sources, issue), progress, until=INFERRED)
        if isinstance(self._engine, VolumeEngine):  # goes all the way elsewhere
            meanwhile.start()
        limit = self._tree.models.maximum_memory_bytes
        seen = look(built, manifest, self._engine, progress=meanwhile, maximum_memory_bytes=limit, priors=priors)
        labels = seen.labels
        if not labels.any():
            raise StudyError("nothing-found", slices=labels.shape[0])
        with ThreadPoolExecutor(1, thread_name_prefix="pack") as packer:  # deflating lets go of Python's lock
            packing = packer.submit(pack_labels, labels)
            tally = take_tally(built.values, labels, built.padding, manifest.channels)
        regions, remarks = measure.measure(
            built.values,
            labels,
            built.padding,
            built.geometry,
            manifest.segments,
            density=manifest.density,
            acquisition=measure.acquisition_of(ordered[0]),
            words=self.words,
            tally=tally,
        )
        algorithm = self.algorithm(seen.engine)
        # One that failed, or that was not open yet, is named by what was prepared: that is the wrong one then.
        prepared = meanwhile.begun if asked == seen.engine else None
        findings = Findings(algorithm=algorithm, segments=manifest.segments, regions=regions, remarks=remarks)
        return Analysis(
            sources=sources,
            volume=built,
            labels=labels,
            findings=findings,
            prepared=prepared,
            tally=tally,
            probability=seen.probability,
            packed=packing.result(),
        )

    def _prepare(self, sources: Sequence[Dataset], issue: Issue | None) -> Future[Prepared | None] | None:
        """Begin with what of the results does not wait for labels; None when nobody's, or when the analyst is closed."""
        if issue is None:
            return None
        algorithm = self.algorithm()
        unknown = Findings(algorithm=algorithm, segments=self.package.manifest.segments, regions=())
        context = self._context(self.source_of(algorithm, issue.input_digest, None))
        return self.beside.begin(partial(prepare_results, sources, unknown, context, issue.identity))

    def recall(
        self, copies: Iterable[Dataset], labels: bytes, findings: dict[str, Any], probability: bytes | None = None
    ) -> Analysis:
        """The analysis again, out of what was sealed before a crash."""
        built, ordered = self._volume(copies)
        return Analysis(
            sources=_bare(ordered),
            volume=built,
            labels=unpack_labels(labels),
            findings=Findings.from_json(findings),
            probability=None if probability is None else unpack_probabilities(probability),
        )

    def encode(
        self,
        analysis: Analysis,
        picture: KeyImage,
        *,
        identity: SourceIdentity,
        input_digest: str,
        variants: tuple[Variant, ...] = choose(Wishes()),
        predecessor: Predecessor | None = None,
        source: str = "",
    ) -> tuple[EncodedResult, ...]:
        """Results of an analysis, with the source's identity, proved and encoded; `source` as of the first ones, if there are.

        Raises
        ------
        StudyError
            ``result-*`` when a proof fails.
        """
        given = ResultInput(
            labels=analysis.labels,
            sources=analysis.sources,
            findings=analysis.findings,
            contours=contours_of(analysis),
            key_image=picture,
            variants=variants,
            predecessor=predecessor,
            census=analysis.census,
            voxel_map=analysis.voxel_map,
        )
        source = source or self.source_of(analysis.findings.algorithm, input_digest, predecessor)
        return encode_results(given, self._context(source), identity, ready(analysis.prepared))

    def encode_outcome(
        self,
        code: str,
        header: Dataset,
        *,
        identity: SourceIdentity,
        input_digest: str,
        variants: Sequence[Variant],
        predecessor: Predecessor | None = None,
        source: str = "",
    ) -> tuple[EncodedResult, ...]:
        """The document that says why there are no results: of a study in which nothing was found, or not processed."""
        findings = Findings(algorithm=self.algorithm(), segments=self.package.manifest.segments, regions=())
        context = self._context(source or self.source_of(findings.algorithm, f"{input_digest} {code}", predecessor))
        return encode_outcome(code, header, findings, context, identity, variants=variants, predecessor=predecessor)

    def encode_rejection(
        self, replaced: Sequence[Dataset], identity: SourceIdentity, *, destination: str, work: str, why: str = ""
    ) -> EncodedResult:
        """A rejection note for one destination: of results that a work replaces, or (`why`) that are ``wrong`` or came ``late``."""
        algorithm = self.algorithm()
        named = " ".join(str(header.SOPInstanceUID) for header in replaced)
        context = self._context(self.source_of(algorithm, f"{work} {destination} {named} {why}", None))
        form = f"key-objects.{destination}{why and '.'}{why}"
        return encode_rejection(replaced, algorithm, context.written_as(form), identity, wrong=why.startswith("wrong"))

    def algorithm(self, engine: EngineInfo | None = None) -> Algorithm:
        """Which algorithm this is, on the engine that computed; None: the one that would."""
        manifest, info = self.package.manifest, engine or self._engine.info
        return Algorithm(
            name=manifest.name,
            version=manifest.version,
            title=manifest.title,
            manufacturer=manifest.manufacturer,
            digest=self.package.digest,
            engine=str(info),
            research_only=manifest.research_only,
            udi=manifest.udi,
            engine_fingerprint=info.fingerprint,
        )

    def close(self) -> None:
        """Give the engine's memory back."""
        self.beside.close()
        self._engine.close()

    def _volume(self, copies: Iterable[Dataset]) -> tuple[Volume, list[Dataset]]:
        return read_volume(copies, self._tree.reading, self.package.manifest.input.excluded_image_types)

    def source_of(self, algorithm: Algorithm, input_digest: str, predecessor: Predecessor | None) -> str:
        """Digest of everything that can change a result: it goes into its UIDs (design section 2)."""
        settings = self._tree.results.model_dump(mode="json")
        settings |= self._tree.node.model_dump(mode="json", include={"station_name", "institution_name"})
        settings |= self.deidentifier.changes
        replaced = "" if predecessor is None else predecessor.sop_instance_uid
        parts = [input_digest, algorithm.digest, algorithm.engine_fingerprint, __version__, _GENERATION, settings]
        changing = json.dumps([*parts, replaced], sort_keys=True)
        return hashlib.sha256(changing.encode()).hexdigest()

    def _context(self, source: str) -> ResultContext:
        def mint(role: str, *parts: str) -> str:
            return mint_uid(self._key, f"result:{role}", source, *parts)

        return ResultContext(
            mint=mint,
            content_datetime=self._issued_at(source),
            series_number_base=self._tree.results.series_number_base,
            station_name=self._tree.node.station_name,
            institution_name=self._tree.node.institution_name,
            software_versions=(__version__,),
            device_uid=mint_uid(self._key, "device"),
            words=self.words,
        )


def contours_of(analysis: Analysis) -> tuple[KeyContour, ...]:
    """Outline of every segment on its key slice."""
    return tuple(
        KeyContour(segment=number, slice_index=index, points=tuple(contour(analysis.labels[index] == number)))
        for number, index in sorted(key_slices(analysis.census).items())
    )


def _bare(datasets: Iterable[Dataset]) -> tuple[Dataset, ...]:
    bare = tuple(datasets)
    for dataset in bare:
        dataset.pop("PixelData", None)
    return bare
