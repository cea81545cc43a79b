"""The skeleton of documents that are read as text: Basic Text SR, made by hand since the library has none (PS3.3 A.35.1).

May live here: content items, the document's frame, references to evidence. What a document says stands elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pydicom.dataset import Dataset

from dicomnode.coding import CodedConcept, dcm
from dicomnode.findings import Algorithm, Findings
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.results.concepts import COMMENT, code_item, declare_private_scheme
from dicomnode.results.context import MANUFACTURER, MODEL_NAME, ResultContext
from dicomnode.results.equipment import stamp
from dicomnode.results.sources import EMPTY_IDENTITY, refer
from dicomnode.study import ResultRole

DIAGNOSTIC_IMAGING_REPORT: Final = CodedConcept("18748-4", "LN", "Diagnostic Imaging Report")  # CID 7000
FINDINGS: Final = dcm("121070", "Findings")  # CID 7001
FINDING: Final = dcm("121071", "Finding")  # CID 7002
SUMMARY: Final = CodedConcept("55112-7", "LN", "Summary")  # CID 7001
_LANGUAGE: Final = dcm("121049", "Language of Content Item and Descendants")
_OBSERVER_TYPE: Final = dcm("121005", "Observer Type")
_DEVICE: Final = dcm("121007", "Device")
_ALGORITHM_NAME: Final = dcm("111001", "Algorithm Name")
_ALGORITHM_VERSION: Final = dcm("111003", "Algorithm Version")
_OBSERVER: Final = (
    (dcm("121012", "Device Observer UID"), "UIDREF"),
    (dcm("121013", "Device Observer Name"), "TEXT"),
    (dcm("121014", "Device Observer Manufacturer"), "TEXT"),
    (dcm("121015", "Device Observer Model Name"), "TEXT"),
)


def item(value_type: str, name: CodedConcept | None, relationship: str | None = "CONTAINS") -> Dataset:
    """A content item without its value (C.17.3)."""
    made = Dataset()
    if relationship is not None:
        made.RelationshipType = relationship
    made.ValueType = value_type
    if name is not None:
        made.ConceptNameCodeSequence = [code_item(name)]
    return made


def text(name: CodedConcept, value: str, relationship: str = "CONTAINS") -> Dataset:
    """TEXT."""
    made = item("TEXT", name, relationship)
    made.TextValue = value
    return made


def code(name: CodedConcept, value: CodedConcept, relationship: str = "CONTAINS") -> Dataset:
    """CODE."""
    made = item("CODE", name, relationship)
    made.ConceptCodeSequence = [code_item(value)]
    return made


def image(header: Dataset, name: CodedConcept | None = None) -> Dataset:
    """IMAGE. In a document that is read as text it has a name: OHIF 3.13 loses its whole page over one without."""
    made = item("IMAGE", name)
    reference = Dataset()
    refer(reference, header)
    made.ReferencedSOPSequence = [reference]
    return made


def container(name: CodedConcept, items: Iterable[Dataset], relationship: str | None = "CONTAINS") -> Dataset:
    """CONTAINER."""
    made = item("CONTAINER", name, relationship)
    made.ContinuityOfContent = "SEPARATE"
    made.ContentSequence = list(items)
    return made


def algorithm_items(algorithm: Algorithm) -> list[Dataset]:
    """Name and version of the algorithm (of TID 4019)."""
    return [text(_ALGORITHM_NAME, algorithm.name), text(_ALGORITHM_VERSION, algorithm.version)]


def comments(remarks: Sequence[str]) -> list[Dataset]:
    """Sentences as comments."""
    return [text(COMMENT, remark) for remark in remarks]


def basic_text(
    sections: Sequence[Dataset],
    evidence: Sequence[Dataset],
    findings: Findings,
    context: ResultContext,
    role: ResultRole,
) -> Dataset:
    """Basic Text SR: complete, not verified, by a device as its observer (TID 1002, 1204).

    Parameters
    ----------
    sections
        Containers.
    evidence
        Headers of the images that the sections refer to.
    """
    dataset = Dataset()
    for keyword in EMPTY_IDENTITY:
        setattr(dataset, keyword, "")
    dataset.SOPClassUID = SOP_CLASSES[Form.BASIC_TEXT]
    dataset.StudyInstanceUID = evidence[0].StudyInstanceUID
    dataset.Modality = "SR"
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.CurrentRequestedProcedureEvidenceSequence = [evidence_item(evidence)]
    root = container(
        DIAGNOSTIC_IMAGING_REPORT,
        [
            code(_LANGUAGE, context.words.concept, "HAS CONCEPT MOD"),
            code(_OBSERVER_TYPE, _DEVICE, "HAS OBS CONTEXT"),
            *_observer(findings, context),
            *sections,
        ],
        None,
    )
    for element in root:
        dataset.add(element)
    stamp(dataset, role, findings.algorithm, context)
    declare_private_scheme(dataset)
    return dataset


def _observer(findings: Findings, context: ResultContext) -> list[Dataset]:
    model = f"{MODEL_NAME} with {findings.algorithm.name} {findings.algorithm.version}"[:64]
    made = []
    values = (context.device_uid, context.station_name, MANUFACTURER, model)
    for (name, value_type), value in zip(_OBSERVER, values, strict=True):
        one = item(value_type, name, "HAS OBS CONTEXT")
        setattr(one, "UID" if value_type == "UIDREF" else "TextValue", value)
        made.append(one)
    return made


def evidence_item(headers: Iterable[Any]) -> Dataset:
    """Hierarchical reference to objects of one study (C.17.2.1): study, series, objects, each once."""
    study = Dataset()
    series: dict[str, dict[str, str]] = {}
    for header in headers:
        study.StudyInstanceUID = header.StudyInstanceUID
        series.setdefault(str(header.SeriesInstanceUID), {})[str(header.SOPInstanceUID)] = str(header.SOPClassUID)
    study.ReferencedSeriesSequence = [_series_item(uid, instances) for uid, instances in series.items()]
    return study


def _series_item(series_instance_uid: str, instances: dict[str, str]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = series_instance_uid
    series.ReferencedSOPSequence = []
    for uid, sop_class_uid in instances.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID = sop_class_uid
        reference.ReferencedSOPInstanceUID = uid
        series.ReferencedSOPSequence.append(reference)
    return series
