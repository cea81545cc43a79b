"""What the node's own kinds of objects must carry, as tables (PS3.3 A.8, A.35.3, A.51 and the modules they name).

May live here: tables alone. Only what the node writes is listed; the whole standard is the validators' matter.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from dicomnode.results.capture import SECONDARY_CAPTURE_STORAGE
from dicomnode.results.report import COMPREHENSIVE_SR_STORAGE
from dicomnode.results.segmentation import SEGMENTATION_STORAGE
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
TYPE_1: Final = MappingProxyType(
    {
        SEGMENTATION_STORAGE: (
            *_COMMON_TYPE_1,
            *_PIXELS,
            "FrameOfReferenceUID",
            "SegmentationType",
            "SegmentSequence",
            "SegmentsOverlap",
            "ContentLabel",
            "NumberOfFrames",
            "DimensionOrganizationSequence",
            "DimensionIndexSequence",
            "SharedFunctionalGroupsSequence",
            "PerFrameFunctionalGroupsSequence",
            "ReferencedSeriesSequence",
        ),
        COMPREHENSIVE_SR_STORAGE: (
            *_COMMON_TYPE_1,
            "CompletionFlag",
            "VerificationFlag",
            "ValueType",
            "ConceptNameCodeSequence",
            "ContinuityOfContent",
            "ContentTemplateSequence",
            "ContentSequence",
            "CurrentRequestedProcedureEvidenceSequence",
        ),
        SECONDARY_CAPTURE_STORAGE: (*_COMMON_TYPE_1, *_PIXELS, "ConversionType", "BurnedInAnnotation"),
    }
)
TYPE_2: Final = MappingProxyType(
    {
        SEGMENTATION_STORAGE: (*EMPTY_IDENTITY, "PositionReferenceIndicator", "ContentCreatorName"),
        COMPREHENSIVE_SR_STORAGE: (
            *EMPTY_IDENTITY,
            "ReferencedPerformedProcedureStepSequence",
            "PerformedProcedureCodeSequence",
        ),
        SECONDARY_CAPTURE_STORAGE: (*EMPTY_IDENTITY, "PatientOrientation"),
    }
)
