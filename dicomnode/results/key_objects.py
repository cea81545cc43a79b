"""Key Object Selections: the slices that matter, and rejection notes that retract what was replaced (PS3.3 A.35.4).

May live here: both documents, made by hand of TID 2010. A rejection note is IHE IOCM's (RAD TF-2 4.66).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from pydicom.dataset import Dataset

from dicomnode.coding import CodedConcept, dcm
from dicomnode.findings import Algorithm, Findings
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.results import document
from dicomnode.results.concepts import declare_private_scheme
from dicomnode.results.context import ResultContext
from dicomnode.results.equipment import stamp
from dicomnode.results.sources import EMPTY_IDENTITY, SourceSeries
from dicomnode.study import ResultRole

OF_INTEREST: Final = dcm("113000", "Of Interest")  # CID 7010
#: What IOCM uses where a better object replaces one, and where one was wrong.
REJECTED: Final = dcm("113001", "Rejected for Quality Reasons")
_DESCRIPTION: Final = dcm("113012", "Key Object Description")
_TEMPLATE: Final = "2010"


def build(series: SourceSeries, findings: Findings, slices: Sequence[int], context: ResultContext) -> Dataset:
    """Selection of the key slices, in the space of the sources."""
    headers = [series.headers[index] for index in sorted(set(slices))]
    words = context.words
    labels = ", ".join(region.label for region in findings.regions) or ", ".join(
        one.label for one in findings.detections
    )
    description = f"{words.say('not-reviewed')}: {labels}" if labels else words.say("not-reviewed")
    return _selection(OF_INTEREST, description, headers, findings.algorithm, context, role=ResultRole.KEY_OBJECTS)


def build_rejection(
    rejected: Sequence[Dataset], algorithm: Algorithm, context: ResultContext, *, wrong: bool = False
) -> Dataset:
    """Rejection note of earlier results.

    Parameters
    ----------
    rejected
        Headers of what is retracted: study, series, SOP Class and Instance.
    wrong
        Whether they were found wrong; else they were replaced.
    """
    description = context.words.say("found-wrong" if wrong else "superseded")
    return _selection(REJECTED, description, list(rejected), algorithm, context, role=ResultRole.REJECTION)


def _selection(
    title: CodedConcept,
    description: str,
    headers: Sequence[Dataset],
    algorithm: Algorithm,
    context: ResultContext,
    *,
    role: ResultRole,
) -> Dataset:
    dataset = Dataset()
    for keyword in EMPTY_IDENTITY:
        setattr(dataset, keyword, "")
    dataset.SOPClassUID = SOP_CLASSES[Form.KEY_OBJECTS]
    dataset.StudyInstanceUID = headers[0].StudyInstanceUID
    dataset.Modality = "KO"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = [document.evidence_item(headers)]
    root = document.container(title, [document.text(_DESCRIPTION, description), *_references(headers)], None)
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = _TEMPLATE
    root.ContentTemplateSequence = [template]
    for element in root:
        dataset.add(element)
    stamp(dataset, role, algorithm, context)
    declare_private_scheme(dataset)
    return dataset


def _references(headers: Iterable[Dataset]) -> list[Dataset]:
    """IMAGE for what has pixels, COMPOSITE for everything else."""
    made = []
    for header in headers:
        reference = document.image(header)
        if str(header.SOPClassUID) in _NO_IMAGES:
            reference.ValueType = "COMPOSITE"
        made.append(reference)
    return made


_NO_IMAGES: Final = frozenset(
    SOP_CLASSES[form]
    for form in (
        Form.COMPREHENSIVE,
        Form.COMPREHENSIVE_3D,
        Form.BASIC_TEXT,
        Form.PDF,
        Form.KEY_OBJECTS,
        Form.RTSTRUCT,
    )
)
