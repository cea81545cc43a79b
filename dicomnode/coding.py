"""Coded concepts (PS3.16) that the node writes: SNOMED CT, DCM, UCUM, and its own scheme for what none of them has.

Floor 1, pure. A concept is a value, scheme and meaning; its meaning is the scheme's own, never invented here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PRIVATE_SCHEME: Final = "99DICOMNODE"


@dataclass(frozen=True, slots=True)
class CodedConcept:
    """Code triplet (PS3.3 section 8.8).

    Raises
    ------
    ValueError
        If a part is empty or too long for its VR (SH 16, LO 64).
    """

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        for text, limit in ((self.value, 16), (self.scheme, 16), (self.meaning, 64)):
            if not 0 < len(text) <= limit:
                raise ValueError(f"a code's part has 1 to {limit} characters")


def sct(value: str, meaning: str) -> CodedConcept:
    """Concept of SNOMED CT."""
    return CodedConcept(value, "SCT", meaning)


def dcm(value: str, meaning: str) -> CodedConcept:
    """Concept of PS3.16 Annex D."""
    return CodedConcept(value, "DCM", meaning)


def ucum(value: str, meaning: str | None = None) -> CodedConcept:
    """Unit of measurement (CID 82 and others)."""
    return CodedConcept(value, "UCUM", meaning or value)


def private(value: str, meaning: str) -> CodedConcept:
    """Concept that no standard scheme has; the scheme is declared in (0008,0110) of the object."""
    return CodedConcept(value, PRIVATE_SCHEME, meaning)


VOLUME: Final = sct("118565006", "Volume")
AREA: Final = sct("42798000", "Area")
LUNG: Final = sct("39607008", "Lung")
BOTH_LUNGS: Final = sct("74101002", "Both lungs")
RIGHT: Final = sct("24028007", "Right")
LEFT: Final = sct("7771000", "Left")
ANATOMICAL_STRUCTURE: Final = sct("123037004", "Anatomical Structure")
MEAN: Final = sct("373098007", "Mean")
LAA_950: Final = private("LAA950", "Low attenuation area < -950 HU")
PERC15: Final = private("PERC15", "15th percentile lung density")
MEAN_LUNG_DENSITY: Final = private("MLD", "Mean lung density")

MILLILITRE: Final = ucum("ml", "milliliter")
MILLIMETRE: Final = ucum("mm", "millimeter")
SQUARE_MILLIMETRE: Final = ucum("mm2", "square millimeter")
HOUNSFIELD_UNIT: Final = ucum("[hnsf'U]", "Hounsfield unit")
PERCENT: Final = ucum("%", "percent")
