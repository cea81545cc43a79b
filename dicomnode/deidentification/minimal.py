"""The least that the network needs: numbers, geometry, pixels and references, where the full copy did not pass.

Pure: an allow-list, applied to a copy that was de-identified already, and to the items of the sequences on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicomnode.deidentification import codes
from dicomnode.deidentification.nesting import items_of

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
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
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
    # Terms and numbers without which an image of CT, MR, PET, NM, XA, DX or MG is none (types 1 and 2 of PS3.3 C.8).
    "BodyPartExamined",
    "Laterality",
    "ImageLaterality",
    "PatientOrientation",
    "ScanningSequence",
    "SequenceVariant",
    "ScanOptions",
    "MRAcquisitionType",
    "CountsSource",
    "FrameIncrementPointer",
    "FrameTime",
    "FrameTimeVector",
    "EnergyWindowInformationSequence",
    "EnergyWindowRangeSequence",
    "EnergyWindowLowerLimit",
    "EnergyWindowUpperLimit",
    "EnergyWindowVector",
    "DetectorInformationSequence",
    "DetectorVector",
    "CollimatorType",
    "FieldOfViewShape",
    "RotationInformationSequence",
    "StartAngle",
    "AngularStep",
    "RotationDirection",
    "NumberOfFramesInRotation",
    "RadialPosition",
    "RadiationSetting",
    "PositionerPrimaryAngle",
    "PositionerSecondaryAngle",
    "PositionerMotion",
    "PresentationIntentType",
    "ImagerPixelSpacing",
    "DetectorType",
]
#: What is emptied where it is: of type 2, and it may say anything.
_EMPTIED: Final = frozenset({tag_for_keyword("Manufacturer"), tag_for_keyword("AcquisitionContextSequence")})
#: Of whose items the concepts stay that the tables vouch for.
_CODED: Final = frozenset({tag_for_keyword("AnatomicRegionSequence"), tag_for_keyword("RadionuclideCodeSequence")})
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
        if int(tag) in _EMPTIED:
            least[tag] = DataElement(tag, dictionary_VR(tag), None)
        if int(tag) in _CODED:
            least[tag] = DataElement(tag, "SQ", Sequence(_concepts(items_of(dataset, tag) or [])))
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


def _concepts(items: Iterable[Dataset]) -> Iterator[Dataset]:
    for item in items:
        if codes.is_standard(codes.read(item, ("utf-8",))):
            concept = Dataset()
            concept.update({tag: item.get_item(tag) for tag in map(BaseTag, codes.CONCEPT) if tag in item})
            yield concept
