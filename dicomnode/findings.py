"""What a model found, as plain typed values: handed from the measuring room to the room that writes results.

Floor 1, pure. Nothing here knows of DICOM objects, arrays or engines.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from dicomnode.coding import CodedConcept


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """Which algorithm made a result (TID 4019).

    Attributes
    ----------
    digest
        SHA-256 of everything of the package that can change a result, in hex.
    engine
        Engine and precision, for instance ``onnxruntime-cpu fp32``.
    udi
        Unique Device Identifier of the model where it is a device (PS3.3 10.29); empty: it has none.
    engine_fingerprint
        Everything of the engine that can change a result.
    """

    name: str
    version: str
    title: str
    manufacturer: str
    digest: str
    engine: str
    research_only: bool
    udi: str = ""
    engine_fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One label of a label map, described (PS3.3 C.8.20.4).

    Attributes
    ----------
    number
        Value in the label map and Segment Number, from 1.
    colour
        sRGB, 0 to 255.
    """

    number: int
    label: str
    category: CodedConcept
    type: CodedConcept
    laterality: CodedConcept | None
    colour: tuple[int, int, int]

    def __post_init__(self) -> None:
        if self.number < 1 or len(self.label) > 64:
            raise ValueError("a segment has a number from 1 and a label of at most 64 characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A number with its concept and unit.

    Attributes
    ----------
    derivation
        How it was derived (CID 7464), for instance the mean.
    caveat
        A condition under which the number was taken that a reader should know; empty when there is none.
    """

    concept: CodedConcept
    value: float
    unit: CodedConcept
    derivation: CodedConcept | None = None
    caveat: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A judgement with a code as its value: what a classification says.

    Attributes
    ----------
    probability
        0 to 1; None where the model gives none.
    """

    concept: CodedConcept
    value: CodedConcept
    probability: float | None = None

    def __post_init__(self) -> None:
        _check_probability(self.probability)


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """Something found at a place: what a detection says.

    Attributes
    ----------
    number
        From 1, in the order of `Findings.detections`.
    position
        Centre, mm, in the patient's coordinates (LPS) of the source's Frame of Reference.
    diameter_mm
        Of the sphere of the same size; None: a point.
    """

    number: int
    label: str
    finding: CodedConcept
    site: CodedConcept | None
    position: tuple[float, float, float]
    laterality: CodedConcept | None = None
    diameter_mm: float | None = None
    probability: float | None = None
    measurements: tuple[Measurement, ...] = ()

    def __post_init__(self) -> None:
        _check_probability(self.probability)
        if self.number < 1 or (self.diameter_mm is not None and self.diameter_mm <= 0):
            raise ValueError("a detection has a number from 1 and no diameter or one greater than 0")


def _check_probability(probability: float | None) -> None:
    if probability is not None and not 0 <= probability <= 1:
        raise ValueError("a probability lies between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Measurements of one segment, or of several taken together.

    Attributes
    ----------
    segments
        Numbers of the segments that make up the region; one number for an organ's own, more for a total.
    site
        Finding site.
    truncated
        Ends of the scan that cut the region: a subset of ``("inferior", "superior")`` and the like.
    evaluations
        What a classification says of it.
    """

    label: str
    segments: tuple[int, ...]
    site: CodedConcept
    laterality: CodedConcept | None
    measurements: tuple[Measurement, ...]
    truncated: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that one model says of one series.

    Attributes
    ----------
    remarks
        Sentences for the reader (without PHI): omitted measurements and why, a scan that cuts an organ.
    evaluations
        Of the case as a whole.
    detections
        Found places, the surest first.
    """

    algorithm: Algorithm
    segments: tuple[Segment, ...]
    regions: tuple[Region, ...]
    remarks: tuple[str, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    detections: tuple[Detection, ...] = ()

    @property
    def sought(self) -> str:
        """Names of the segments that the model knows, in at most 64 characters."""
        names = ", ".join(one.label for one in self.segments)
        return names if len(names) <= 64 else f"{names[:61]}..."

    def numbers(self) -> Iterator[dict[str, Any]]:
        """Every measured number, as plain values."""
        for region in self.regions:
            for item in region.measurements:
                yield {
                    "region": region.label,
                    "name": item.concept.meaning,
                    "value": item.value,
                    "unit": item.unit.value,
                    "caveat": item.caveat,
                }

    def to_json(self) -> dict[str, Any]:
        """Plain types, for sealing between two steps."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Findings:
        """Inverse of `to_json`."""
        return cls(
            algorithm=Algorithm(**data["algorithm"]),
            segments=tuple(_segment(item) for item in data["segments"]),
            regions=tuple(_region(item) for item in data["regions"]),
            remarks=tuple(data["remarks"]),
            evaluations=tuple(_evaluation(item) for item in data.get("evaluations", ())),
            detections=tuple(_detection(item) for item in data.get("detections", ())),
        )


def _concept(data: dict[str, str] | None) -> CodedConcept | None:
    return None if data is None else CodedConcept(**data)


def _segment(data: dict[str, Any]) -> Segment:
    codes = {"category": CodedConcept(**data["category"]), "type": CodedConcept(**data["type"])}
    return Segment(**{**data, **codes, "laterality": _concept(data["laterality"]), "colour": tuple(data["colour"])})


def _measurement(data: dict[str, Any]) -> Measurement:
    codes = {"concept": CodedConcept(**data["concept"]), "unit": CodedConcept(**data["unit"])}
    return Measurement(**{**data, **codes, "derivation": _concept(data["derivation"])})


def _region(data: dict[str, Any]) -> Region:
    return Region(
        label=data["label"],
        segments=tuple(data["segments"]),
        site=CodedConcept(**data["site"]),
        laterality=_concept(data["laterality"]),
        measurements=tuple(_measurement(item) for item in data["measurements"]),
        truncated=tuple(data["truncated"]),
        evaluations=tuple(_evaluation(item) for item in data.get("evaluations", ())),
    )


def _evaluation(data: dict[str, Any]) -> Evaluation:
    codes = {name: CodedConcept(**data[name]) for name in ("concept", "value")}
    return Evaluation(**{**data, **codes})


def _detection(data: dict[str, Any]) -> Detection:
    return Detection(
        **{
            **data,
            "finding": CodedConcept(**data["finding"]),
            "site": _concept(data["site"]),
            "laterality": _concept(data["laterality"]),
            "position": tuple(data["position"]),
            "measurements": tuple(_measurement(item) for item in data["measurements"]),
        }
    )
