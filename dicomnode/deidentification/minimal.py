"""The least that the network needs: numbers, geometry, pixels and references, where the full copy did not pass.

Pure: an allow-list, applied to a copy that was de-identified already.
"""

from __future__ import annotations

from typing import Final

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

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
    "PixelData",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
    "PatientBirthDate",
]
_ALLOWED: Final = frozenset(tag for keyword in _KEYWORDS if (tag := tag_for_keyword(keyword)) is not None)


def minimal(dataset: Dataset) -> Dataset:
    """Copy of a de-identified Data Set with nothing but the allow-list."""
    least = Dataset()
    for tag in dataset.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
        if int(tag) in _ALLOWED:
            least[tag] = dataset.get_item(tag)
    implicit, little = dataset.original_encoding
    if implicit is not None:
        least.set_original_encoding(implicit, little, "iso8859")
    least.file_meta = dataset.file_meta
    return least
