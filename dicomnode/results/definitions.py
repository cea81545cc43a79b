"""What the node's own kinds of objects must carry, as tables (PS3.3 Annex A and the modules it names).

May live here: tables alone. Only what the node writes is listed; the whole standard is the validators' matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.results.sources import EMPTY_IDENTITY

#: Type 1: present and not empty.
_COMMON_TYPE_1: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "SeriesNumber",
    "InstanceNumber",
    "SeriesDescription",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "ContentDate",
    "ContentTime",
    "ContributingEquipmentSequence",
)
_PIXELS: Final = (
    "ImageType",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelData",
    "LossyImageCompression",
)
_SEGMENTATION: Final = (
    *_COMMON_TYPE_1,
    *_PIXELS,
    "SegmentationType",
    "SegmentSequence",
    "SegmentsOverlap",
    "ContentLabel",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ReferencedSeriesSequence",
)
_TEXT_DOCUMENT: Final = (
    *_COMMON_TYPE_1,
    "CompletionFlag",
    "VerificationFlag",
    "ValueType",
    "ConceptNameCodeSequence",
    "ContinuityOfContent",
    "ContentSequence",
    "CurrentRequestedProcedureEvidenceSequence",
)
_REPORT: Final = (*_TEXT_DOCUMENT, "ContentTemplateSequence")
_BY_FORM_1: Final = {
    Form.BINARY: _SEGMENTATION,
    Form.LABELMAP: (*_SEGMENTATION, "PixelPaddingValue"),
    Form.COMPREHENSIVE: _REPORT,
    Form.COMPREHENSIVE_3D: _REPORT,
    Form.BASIC_TEXT: _TEXT_DOCUMENT,
    Form.CAPTURE: (*_COMMON_TYPE_1, *_PIXELS, "ConversionType", "BurnedInAnnotation"),
    Form.KEY_OBJECTS: (
        *_COMMON_TYPE_1,
        "ValueType",
        "ConceptNameCodeSequence",
        "ContinuityOfContent",
        "ContentSequence",
        "ContentTemplateSequence",
        "CurrentRequestedProcedureEvidenceSequence",
    ),
    Form.PDF: (
        *_COMMON_TYPE_1,
        "ConversionType",
        "BurnedInAnnotation",
        "MIMETypeOfEncapsulatedDocument",
        "EncapsulatedDocument",
        "EncapsulatedDocumentLength",
    ),
    Form.RTSTRUCT: (
        *(keyword for keyword in _COMMON_TYPE_1 if not keyword.startswith("Content")),
        "StructureSetLabel",
        "StructureSetROISequence",
        "ROIContourSequence",
        "RTROIObservationsSequence",
        "ReferencedFrameOfReferenceSequence",
        "ApprovalStatus",
    ),
    Form.MAP: (
        *_COMMON_TYPE_1,
        *_PIXELS,
        "FrameOfReferenceUID",
        "ContentLabel",
        "NumberOfFrames",
        "DimensionOrganizationSequence",
        "DimensionIndexSequence",
        "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence",
    ),
}
_PROCEDURE: Final = ("ReferencedPerformedProcedureStepSequence",)
_BY_FORM_2: Final = {
    Form.BINARY: ("ContentCreatorName",),
    Form.LABELMAP: ("ContentCreatorName",),
    Form.COMPREHENSIVE: (*_PROCEDURE, "PerformedProcedureCodeSequence"),
    Form.COMPREHENSIVE_3D: (*_PROCEDURE, "PerformedProcedureCodeSequence"),
    Form.BASIC_TEXT: (*_PROCEDURE, "PerformedProcedureCodeSequence"),
    Form.CAPTURE: ("PatientOrientation",),
    Form.KEY_OBJECTS: _PROCEDURE,
    Form.PDF: ("AcquisitionDateTime", "DocumentTitle", "ConceptNameCodeSequence"),
    Form.RTSTRUCT: ("OperatorsName", "StructureSetDate", "StructureSetTime"),
    Form.MAP: ("ContentCreatorName",),
}
TYPE_1: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {SOP_CLASSES[form]: keywords for form, keywords in _BY_FORM_1.items()}
)
TYPE_2: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {SOP_CLASSES[form]: (*EMPTY_IDENTITY, *keywords) for form, keywords in _BY_FORM_2.items()}
)
#: What an object with planes in a Frame of Reference carries besides.
IN_SPACE: Final = ("FrameOfReferenceUID", "DimensionOrganizationSequence", "DimensionIndexSequence")
