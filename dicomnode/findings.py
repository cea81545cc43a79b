"""What a model found, as plain typed values: handed from the measuring room to the room that writes results.

Floor 1, pure. Nothing here knows of DICOM objects, arrays or engines.
"""

from __future__ import annotations

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
    """

    name: str
    version: str
    title: str
    manufacturer: str
    digest: str
    engine: str
    research_only: bool


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
    """

    label: str
    segments: tuple[int, ...]
    site: CodedConcept
    laterality: CodedConcept | None
    measurements: tuple[Measurement, ...]
    truncated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All that one model says of one series.

    Attributes
    ----------
    remarks
        Sentences for the reader (without PHI): omitted measurements and why, a scan that cuts an organ.
    """

    algorithm: Algorithm
    segments: tuple[Segment, ...]
    regions: tuple[Region, ...]
    remarks: tuple[str, ...] = ()

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
    )
