"""The least that the network needs: numbers, geometry, pixels and references, where the full copy did not pass.

Pure: an allow-list, applied to a copy that was de-identified already, and to the items of the sequences on it.
"""

from __future__ import annotations

from typing import Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

_KEYWORDS: Final = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "Modality",
    "ImageType",
    "PatientID",
    "PatientName",
    "PatientSex",
    "PatientAge",
    "PatientPosition",
    "PatientSize",
    "PatientWeight",
    "StudyDate",
    "StudyTime",
    "SeriesDate",
    "SeriesTime",
    "AcquisitionDate",
    "AcquisitionTime",
    "ContentDate",
    "ContentTime",
    "SeriesNumber",
    "AcquisitionNumber",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SliceThickness",
    "SpacingBetweenSlices",
    "SliceLocation",
    "PixelSpacing",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PlanarConfiguration",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "KVP",
    "XRayTubeCurrent",
    "Exposure",
    "ExposureTime",
    "GantryDetectorTilt",
    "TableHeight",
    "ReconstructionDiameter",
    "DataCollectionDiameter",
    "SpiralPitchFactor",
    "RepetitionTime",
    "EchoTime",
    "FlipAngle",
    "MagneticFieldStrength",
    "ImagingFrequency",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "PositionReferenceIndicator",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    # Enhanced multi-frame images: what is the same for all frames, and what is each frame's own (PS3.3 C.7.6.16).
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "PixelValueTransformationSequence",
    "FrameVOILUTSequence",
    "FrameContentSequence",
    "FrameAcquisitionNumber",
    "InStackPositionNumber",
    "TemporalPositionIndex",
    "DimensionIndexValues",
    "CTImageFrameTypeSequence",
    "MRImageFrameTypeSequence",
    "PETFrameTypeSequence",
    "FrameType",
    "MRDiffusionSequence",
    "DiffusionBValue",
    "DiffusionDirectionality",
    "DiffusionGradientDirectionSequence",
    "DiffusionGradientOrientation",
    # What stored values mean (C.11.1, C.8.9).
    "ModalityLUTSequence",
    "LUTDescriptor",
    "LUTData",
    "ModalityLUTType",
    "VOILUTFunction",
    "PresentationLUTShape",
    "Units",
    "SeriesType",
    "CorrectedImage",
    "DecayCorrection",
    "DecayFactor",
    "DoseCalibrationFactor",
    "DeadTimeFactor",
    "ScatterFractionFactor",
    "FrameReferenceTime",
    "ActualFrameDuration",
    "NumberOfSlices",
    "NumberOfTimeSlices",
    "ImageIndex",
    "RadiopharmaceuticalInformationSequence",
    "RadionuclideTotalDose",
    "RadionuclideHalfLife",
    "RadionuclidePositronFraction",
    "RadiopharmaceuticalStartTime",
    "RadiopharmaceuticalStartDateTime",
    "SUVType",
    "PixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
    "PatientBirthDate",
]
_ALLOWED: Final = frozenset(tag for keyword in _KEYWORDS if (tag := tag_for_keyword(keyword)) is not None)
#: Written by us: its codes are our own.
_WHOLE: Final = frozenset({tag_for_keyword("DeidentificationMethodCodeSequence")})


def minimal(dataset: Dataset) -> Dataset:
    """Copy of a de-identified Data Set with nothing but the allow-list."""
    least = _of(dataset)
    least.file_meta = dataset.file_meta
    return least


def _of(dataset: Dataset) -> Dataset:
    least = Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
        if int(tag) not in _ALLOWED:
            continue
        element = dataset.get_item(tag)
        if isinstance(element, DataElement) and element.VR == "SQ" and int(tag) not in _WHOLE:
            element = DataElement(tag, "SQ", Sequence([_of(item) for item in element.value]))
        least[tag] = element
    implicit, little = dataset.original_encoding
    if implicit is not None:
        least.set_original_encoding(implicit, little, "iso8859")
    return least
