"""Coded concepts on their way into Data Sets: from the project's triplets to items of code sequences.

May live here: the codes that only result objects need, and the declaration of the project's own scheme.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Final

from highdicom.sr import CodedConcept as SrConcept
from pydicom.dataset import Dataset

from dicomnode.coding import PRIVATE_SCHEME, VOLUME, CodedConcept, dcm, private, sct

ARTIFICIAL_INTELLIGENCE: Final = dcm("123110", "Artificial Intelligence")  # CID 7162
PROCESSING_EQUIPMENT: Final = dcm("109102", "Processing Equipment")  # CID 7005
SOURCE_IMAGE: Final = dcm("121322", "Source image for image processing operation")  # CID 7202
COMMENT: Final = dcm("121106", "Comment")
QUALITATIVE_EVALUATIONS: Final = CodedConcept("C0034375", "UMLS", "Qualitative Evaluations")  # TID 1500
CERTAINTY: Final = dcm("111012", "Certainty of Finding")
WHOLE_CASE: Final = private("WHOLECASE", "Case as a whole")
DIAMETER: Final = sct("81827009", "Diameter")
TRUNCATED: Final = private("TRUNCATED", "Cut by the scan or field of view")
IMAGING_PROCEDURE: Final = sct("363679005", "Imaging procedure")
#: Procedure Reported by the modality of the source (CID 100).
PROCEDURES: Final = MappingProxyType(
    {
        "CT": CodedConcept("25045-6", "LN", "CT unspecified body region"),
        "MR": CodedConcept("25056-3", "LN", "MRI unspecified body region"),
        "PT": CodedConcept("44136-0", "LN", "PET unspecified body region"),
    }
)
#: How a quantity was measured (CID 7474 and others), where a standard code says it.
METHODS: Final = MappingProxyType({VOLUME: dcm("126030", "Sum of segmented voxel volumes")})
#: Ends of a scan (CID 2).
ENDS: Final = MappingProxyType(
    {
        "inferior": sct("261089000", "Inferior"),
        "superior": sct("264217000", "Superior"),
        "anterior": sct("255549009", "Anterior"),
        "posterior": sct("255551008", "Posterior"),
        "left": sct("7771000", "Left"),
        "right": sct("24028007", "Right"),
    }
)


def sr_concept(concept: CodedConcept) -> SrConcept:
    """The triplet as highdicom wants it."""
    return SrConcept(value=concept.value, scheme_designator=concept.scheme, meaning=concept.meaning)


def code_item(concept: CodedConcept) -> Dataset:
    """Item of a code sequence (PS3.3 section 8.8)."""
    item = Dataset()
    item.CodeValue = concept.value
    item.CodingSchemeDesignator = concept.scheme
    item.CodeMeaning = concept.meaning
    return item


def declare_private_scheme(dataset: Dataset, concepts: Iterable[CodedConcept] = ()) -> None:
    """Write (0008,0110) Coding Scheme Identification Sequence where an item uses the project's scheme (C.12.1.1.6).

    Parameters
    ----------
    concepts
        What will stand in the object beside what the Data Set holds.
    """
    used = any(concept.scheme == PRIVATE_SCHEME for concept in concepts)
    if not used and not _uses_private_scheme(dataset):
        return
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeName = "Concepts of the dicomnode project"
    item.CodingSchemeResponsibleOrganization = "dicomnode project"
    dataset.CodingSchemeIdentificationSequence = [item]


def _uses_private_scheme(dataset: Dataset) -> bool:
    if dataset.get("CodingSchemeDesignator") == PRIVATE_SCHEME:
        return True
    return any(_uses_private_scheme(item) for element in dataset if element.VR == "SQ" for item in element.value)
