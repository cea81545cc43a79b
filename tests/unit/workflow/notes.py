"""Key Object Selections as senders write them: rejection notes, and selections that reject nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom import Dataset
from pydicom.uid import generate_uid

from dicomnode.workflow.notes import KEY_OBJECT_SELECTION


def code(value: str, scheme: str = "DCM") -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, "title"
    return item


def reference(uid: str, sop_class_uid: str = "1.2.840.10008.5.1.4.1.1.2") -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, uid
    return item


def note(
    study: str,
    title: str,
    named: Mapping[str, Sequence[Dataset]],
    *,
    scheme: str = "DCM",
    content: Sequence[str] = (),
    seed: str = "note",
) -> Dataset:
    """A note in a study that names images, by study; `content` names more in its content alone."""
    dataset = Dataset()
    dataset.SOPClassUID = KEY_OBJECT_SELECTION
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[seed, study, title])
    dataset.StudyInstanceUID = study
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[seed, study, title, "series"])
    dataset.Modality = "KO"
    dataset.PatientID = "P"
    dataset.PatientName = "Doe^Jane"
    dataset.ValueType = "CONTAINER"
    dataset.ConceptNameCodeSequence = [code(title, scheme)]
    dataset.CurrentRequestedProcedureEvidenceSequence = [evidence(*one) for one in named.items()]
    images = [*(image.SOPInstanceUID for group in named.values() for image in group), *content]
    dataset.ContentSequence = []
    for uid in images:
        item = Dataset()
        item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
        item.ReferencedSOPSequence = [reference(uid)]
        dataset.ContentSequence.append(item)
    return dataset


def evidence(study: str, images: Sequence[Dataset]) -> Dataset:
    item = Dataset()
    item.StudyInstanceUID = study
    series = Dataset()
    series.SeriesInstanceUID = images[0].SeriesInstanceUID if images else "1.2.3"
    series.ReferencedSOPSequence = [reference(image.SOPInstanceUID) for image in images]
    item.ReferencedSeriesSequence = [series]
    return item
