"""The manifest of a model package (``model.toml``): what the model wants, how it is fed, what its labels mean.

Floor 1, pure: typed values, their reading out of plain ones, and the judgement whether a series suits a model.
No files, no arrays, no engines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from dicomnode.bounds import problem_of
from dicomnode.errors import ModelError
from dicomnode.findings import Segment
from dicomnode.series import SeriesSummary

_COLOUR: Final = re.compile(r"#[0-9A-Fa-f]{6}")
_SAME_EXTENT: Final = 0.9  # two reconstructions of one scan differ by a slice or two

#: SOP Classes with one frame per object that a modality's series are made of (PS3.4 B.5).
SINGLE_FRAME_SOP_CLASSES: Final[Mapping[str, str]] = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
#: Their enhanced and legacy converted counterparts, with many frames per object.
MULTI_FRAME_SOP_CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "CT": ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"),
    "MR": ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4"),
    "PT": ("1.2.840.10008.5.1.4.1.1.130", "1.2.840.10008.5.1.4.1.1.128.1"),
}


def _regular_expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, RecursionError):
        raise ValueError("this is no regular expression") from None
    return pattern


def _plain_text(text: str) -> str:
    if not text.isprintable() or "\\" in text or text != text.strip():
        raise ValueError("text is printable, without backslash and without space at its ends")
    return text


Text = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_plain_text)]
Sentence = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_plain_text)]
TensorName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_./:-]{0,63}$")]
Pattern = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_regular_expression)]
Patterns = Annotated[tuple[Pattern, ...], Field(max_length=64)]
Token = Annotated[str, Field(pattern=r"^[A-Z0-9_]([A-Z0-9_ ]{0,14}[A-Z0-9_])?$")]  # CS of PS3.5 6.2
Tokens = Annotated[tuple[Token, ...], Field(max_length=64)]
Millimetres = Annotated[float, Field(gt=0, le=10_000)]
Spacing = Annotated[float, Field(ge=0.1, le=50)]
Hounsfield = Annotated[float, Field(ge=-32768, le=32767)]
Voxels = Annotated[int, Field(ge=1, le=1024)]


class ModelPackageErrors(ModelError):
    """Everything that is wrong with a model package, each as ``where: what``."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("model-package-invalid", errors=len(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return ModelPackageErrors, (self.problems,)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRule:
    """Which series a model takes, and which of several it likes best.

    Attributes
    ----------
    excluded_image_types
        Values of Image Type (0008,0008) that rule a series out.
    body_parts, preferred_kernels
        Preferences only; the kernels are regular expressions, the softest first, searched without regard to case.
    """

    modalities: Annotated[Tokens, Field(min_length=1)]
    excluded_image_types: Tokens = ()
    minimum_slices: Annotated[int, Field(ge=1, le=100_000)] = 1
    maximum_slice_spacing_mm: Millimetres = 10_000.0
    minimum_extent_mm: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    body_parts: tuple[Text, ...] = ()
    preferred_kernels: Patterns = ()

    @property
    def sop_classes(self) -> frozenset[str]:
        """SOP Classes of images that the rule may take."""
        return frozenset(uid for one in self.modalities for uid in sop_classes_of(one))

    def judge(self, series: SeriesSummary) -> tuple[str, ...]:
        """Codes of `errors.REASONS` for which the series is refused; empty when it is taken.

        A measure that is not known refuses nothing: building the volume will say what is wrong.
        """
        if series.modality not in self.modalities or set(self.excluded_image_types) & set(series.image_type):
            return ("no-suitable-series",)
        if series.sop_class_uid not in sop_classes_of(series.modality):
            return ("no-suitable-series",)
        spacing, extent = series.slice_spacing_mm, series.extent_mm
        refusals = (
            (series.slices < self.minimum_slices, "geometry-too-few-slices"),
            (spacing is not None and spacing > self.maximum_slice_spacing_mm, "geometry-spacing-too-wide"),
            (extent is not None and extent < self.minimum_extent_mm, "geometry-extent-too-short"),
        )
        return tuple(code for refused, code in refusals if refused)

    def choose(self, candidates: Iterable[SeriesSummary]) -> SeriesSummary | None:
        """Best of the series that the rule takes; None where it takes none.

        First the preferred body parts among the series long enough for the whole organ (four times the least
        extent), then the longest ones (within a tenth, since two reconstructions of one scan differ by some slices),
        then `preference`. The order of the candidates does not matter.
        """
        accepted = [series for series in candidates if not self.judge(series)]
        if not accepted:
            return None
        coarse = min(self._coarse(series) for series in accepted)
        alike = [series for series in accepted if self._coarse(series) == coarse]
        longest = max(series.extent_mm or 0.0 for series in alike)
        return min(
            (series for series in alike if (series.extent_mm or 0.0) >= _SAME_EXTENT * longest), key=self.preference
        )

    def preference(self, series: SeriesSummary) -> tuple[int, int, float, int, str]:
        """Sort key among series of the same part and extent, the best first: thin slices, soft kernel, blind key."""
        thickness = series.slice_thickness_mm or series.slice_spacing_mm or float("inf")
        band = sum(thickness > limit for limit in (1.5, 3.0, 5.0))
        return band, rank(self.preferred_kernels, series.kernel), thickness, -series.slices, series.series_key

    def _coarse(self, series: SeriesSummary) -> tuple[int, int]:
        part = series.body_part.strip().upper()
        named = 1 if not part else 0 if part in {item.upper() for item in self.body_parts} else 2
        if series.extent_mm is None:
            return 3, named
        return sum(series.extent_mm < factor * self.minimum_extent_mm for factor in (2, 4)), named


def sop_classes_of(modality: str) -> tuple[str, ...]:
    """SOP Classes that a modality's series are made of."""
    single = SINGLE_FRAME_SOP_CLASSES.get(modality)
    return () if single is None else (single, *MULTI_FRAME_SOP_CLASSES[modality])


def rank(patterns: tuple[str, ...], text: str) -> int:
    """Index of the first regular expression found in a text, regardless of case; their number where none is."""
    return next((i for i, item in enumerate(patterns) if re.search(item, text, re.IGNORECASE)), len(patterns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Intensity:
    """Window that values (HU) are clipped to, and the range that it is mapped to linearly."""

    lower: Hounsfield
    upper: Hounsfield
    scale: Literal["minus-one-to-one", "zero-to-one"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """From a canonical volume to the network's input; triples are (z, y, x).

    Attributes
    ----------
    spacing_mm
        Spacing that the volume is resampled to, trilinearly.
    multiple_of
        Each size is padded at its high end, with `pad_hu`, to a multiple of this.
    antialias
        Whether the volume is smoothed before it is made coarser.
    """

    spacing_mm: tuple[Spacing, Spacing, Spacing]
    intensity: Intensity
    pad_hu: Hounsfield
    multiple_of: tuple[Voxels, Voxels, Voxels] = (1, 1, 1)
    antialias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The network's file, tensors and tiles.

    Attributes
    ----------
    file, sha256
        File name inside the package, and the SHA-256 of its bytes in hex.
    input, output
        Names of the tensors: float32 [N, 1, Z, Y, X] and float32 [N, C, Z, Y, X] with C = 1 + number of segments.
    tile
        Largest input (z, y, x); a volume that is not larger is run in one piece.
    overlap
        Share of a tile that its neighbour covers, too.
    memory_bytes_per_voxel
        Memory that a run takes for each voxel of its input, activations above all, on the high side: a study that
        needs more than the node allows is refused before it is touched.
    """

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.onnx$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    input: TensorName
    output: TensorName
    tile: tuple[Voxels, Voxels, Voxels]
    overlap: Annotated[float, Field(ge=0, le=0.75)] = 0.25
    memory_bytes_per_voxel: Annotated[int, Field(ge=1, le=65536)] = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Gas:
    """Gas taken for an airy organ: pieces behind a wall, whose median is below `gas_hu` and darker than the largest's."""

    wall_hu: Hounsfield
    gas_hu: Hounsfield
    darker_by_hu: Annotated[float, Field(gt=0, le=1000)]
    minimum_piece_ml: Annotated[float, Field(ge=0, le=10_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Postprocess:
    """What is done to the labels.

    Attributes
    ----------
    gas
        None: nothing is taken out of a label for being gas.
    keep_largest_per_label, share_of_largest
        Keep only the largest component, connected over faces, of each label, and those of this share of it or more.
    fill_holes
        Give background enclosed by a label to that label.
    minimum_component_ml
        A label of less than this volume is dropped: nothing found.
    """

    keep_largest_per_label: bool = False
    share_of_largest: Annotated[float, Field(gt=0, le=1)] = 1.0
    fill_holes: bool = False
    minimum_component_ml: Annotated[float, Field(ge=0, le=10_000)] = 0.0
    gas: Gas | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """Conditions under which lung density (LAA-950, Perc15) is given without a caveat.

    Attributes
    ----------
    maximum_slice_thickness_mm
        Thicker slices average emphysema away.
    soft_kernels
        Regular expressions of the Convolution Kernels (0018,1210) that are soft enough; empty: any.
    contrast_allowed
        Whether a contrast agent, which raises the density, is accepted.
    """

    maximum_slice_thickness_mm: Millimetres = 5.0
    soft_kernels: Patterns = ()
    contrast_allowed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Results besides segmentation, report, key image and key slices: a page of PDF, a map of probabilities."""

    document: bool = False
    parametric_map: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """Earlier studies of the patient that a model sees beside the one that it works on, the newest first.

    Attributes
    ----------
    body_parts
        Series that name another one are left out; empty: any.
    number
        So many at most.
    """

    modalities: Annotated[Tokens, Field(min_length=1)]
    body_parts: tuple[Text, ...] = ()
    number: Annotated[int, Field(ge=1, le=8)] = 1
    maximum_age_days: Annotated[float, Field(gt=0, le=36_500)] = 1830.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole manifest; `parse` makes it.

    Attributes
    ----------
    research_only
        Marks every result as not for clinical use.
    density
        None: lung density is not measured.
    udi
        Unique Device Identifier, for a model that is a device.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    schema: Literal[1]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")]
    title: Text
    manufacturer: Text
    intended_use: Sentence
    research_only: bool
    task: Literal["segmentation"]
    input: InputRule
    preprocess: Preprocess
    network: Network
    postprocess: Postprocess
    segments: Annotated[tuple[Segment, ...], Field(max_length=255)]
    density: Density | None = None
    results: Wanted = field(default_factory=Wanted)
    priors: Priors | None = None
    udi: Annotated[str, Field(max_length=1024), AfterValidator(_plain_text)] = ""

    @property
    def channels(self) -> int:
        """Channels of the network's output: background and one per segment."""
        return 1 + len(self.segments)


_ADAPTER: Final = TypeAdapter(Manifest)


def parse(data: Mapping[str, Any]) -> Manifest:
    """Manifest out of plain values, as `tomllib` gives them; strict on types and on unknown keys.

    Raises
    ------
    ModelPackageErrors
        With every problem found.
    """
    plain = {**data, "segments": _plain_segments(data.get("segments"))} if "segments" in data else dict(data)
    try:
        # Through JSON because pydantic is strict there without refusing arrays for tuples and tables for dataclasses.
        manifest = _ADAPTER.validate_json(json.dumps(plain, default=lambda _: None), strict=True)
    except ValidationError as error:
        raise ModelPackageErrors(tuple(_problem(item) for item in error.errors(include_url=False))) from None
    except (TypeError, ValueError, RecursionError):
        raise ModelPackageErrors(("manifest: these are not the values of a TOML file",)) from None
    if problems := _contradictions(manifest):
        raise ModelPackageErrors(problems)
    return manifest


def _plain_segments(segments: object) -> object:
    """Colours as numbers; an absent laterality as None."""
    if not isinstance(segments, list | tuple):
        return segments
    return [
        {"laterality": None, **item, "colour": _colour(item.get("colour"))} if isinstance(item, Mapping) else item
        for item in segments
    ]


def _colour(text: object) -> tuple[int, ...] | None:
    return tuple(bytes.fromhex(text[1:])) if isinstance(text, str) and _COLOUR.fullmatch(text) else None


def _contradictions(manifest: Manifest) -> tuple[str, ...]:
    """Rules that join several values."""
    preprocess, network, intensity = manifest.preprocess, manifest.network, manifest.preprocess.intensity
    numbers = tuple(segment.number for segment in manifest.segments)
    labels = {segment.label for segment in manifest.segments}
    uneven = any(size % factor for size, factor in zip(network.tile, preprocess.multiple_of, strict=True))
    unknown = sorted(set(manifest.input.modalities) - set(SINGLE_FRAME_SOP_CLASSES))
    earlier = set(manifest.priors.modalities if manifest.priors else ()) - set(SINGLE_FRAME_SOP_CLASSES)
    checks = (
        (intensity.lower >= intensity.upper, "preprocess.intensity: lower is less than upper"),
        (uneven, "network.tile: each size is a multiple of preprocess.multiple_of"),
        (not numbers, "segments: at least one is needed"),
        (numbers != tuple(range(1, len(numbers) + 1)), "segments: their numbers are 1, 2, 3 and so on, in order"),
        (len(labels) != len(numbers), "segments: two have the same label"),
        (bool(unknown), f"input.modalities: {', '.join(SINGLE_FRAME_SOP_CLASSES)} are known"),
        (bool(earlier), f"priors.modalities: {', '.join(SINGLE_FRAME_SOP_CLASSES)} are known"),
    )
    return tuple(problem for wrong, problem in checks if wrong)


def _problem(item: Mapping[str, Any]) -> str:
    if item["loc"][-1:] == ("colour",) and item["type"] != "unexpected_keyword_argument":
        item = {**item, "type": "value_error", "msg": "a colour is written #rrggbb"}
    return problem_of(item, "manifest")
