"""Planted objects of many kinds: identifiers where people, machines and programs were seen to leave them, and needed values.

The oracle knows nothing of the engine. A plant is searched in the whole output file: as text in every encoding that
DICOM has, in either case, with its pieces; a needed value is compared where it stood.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.unit.deidentification.planted import slice_of_ct

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_ONSETS = ("Br", "Tv", "Kr", "Zv", "Dj", "Gw", "Hn", "Lj", "Mv", "Pf", "Sk", "Vr", "Wl", "Xh", "Yr", "Jb")
_CODAS = ("ostik", "anvuk", "elzip", "imdog", "uzkov", "arfen", "olwyx", "ubrek", "ivlat", "ekzon")
ENCODINGS = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "shift_jis", "iso2022_jp", "euc_kr", "gb18030", "iso8859-5",
             "iso8859-2", "iso8859-7", "iso8859-8", "iso8859-6", "tis-620")  # fmt: skip


@dataclass
class Object:
    """One object: what was planted in it, and what of it is needed.

    Attributes
    ----------
    plants
        Where → text that must not come out.
    needed
        Paths (keywords and indices, dotted) whose values must come out.
    raw
        Turns the encoded file into the one to be read: for what pydicom would not write.
    """

    name: str
    dataset: Dataset
    plants: dict[str, str] = field(default_factory=dict)
    needed: list[str] = field(default_factory=list)
    raw: Callable[[bytes], bytes] = bytes

    def word(self, where: str) -> str:
        """A name that nobody is called."""
        number = len(self.plants)
        seed = sum(map(ord, self.name)) + number * 7
        text = _ONSETS[seed % 16] + _CODAS[number % 10] + _CODAS[(seed // 3) % 10][:3]
        self.plants[where] = text
        return text

    def number(self, where: str, digits: int = 8) -> str:
        """A number as registries give them."""
        seed = sum(map(ord, self.name)) * 7919 + len(self.plants) * 104729
        text = str(3 * 10 ** (digits - 1) + seed % 10 ** (digits - 1))
        self.plants[where] = text
        return text

    def uid(self, where: str) -> str:
        """A UID with a site's root."""
        text = f"1.3.6.1.4.1.40744.{sum(map(ord, self.name))}.{len(self.plants) + 11}"
        self.plants[where] = text
        return text

    def plant(self, where: str, text: str) -> str:
        """A text given."""
        self.plants[where] = text
        return text

    def need(self, *paths: str) -> None:
        """What stands there is needed."""
        self.needed += paths

    def leaks(self, output: bytes) -> list[str]:
        """Plants that stand in an output file."""
        lower = output.lower()
        return [where for where, text in self.plants.items() if any(form in lower for form in forms(text))]

    def lost(self, output: Dataset) -> list[str]:
        """Needed values that the output lacks."""
        return [path for path in self.needed if value_at(output, path) != value_at(self.dataset, path)]


def forms(text: str) -> set[bytes]:
    """Bytes by which a text would be found."""
    found = set()
    for encoding in ENCODINGS:
        for case in (text, text.lower(), text.upper()):
            try:
                data = case.encode(encoding).lower()
            except UnicodeEncodeError:
                continue
            found.add(data.removeprefix(b"\x1b$b").removesuffix(b"\x1b(b"))
    return {data for data in found if len(data) > 3}


def value_at(dataset: Dataset, path: str) -> Any:
    """Value at a path of keywords, hexadecimal tags and indices."""
    value: Any = dataset
    for part in path.split("."):
        if part.isdigit():
            value = value[int(part)] if value is not None and int(part) < len(value) else None
        else:
            key = int(part[2:], 16) if part.startswith("0x") else part
            element = value[key] if value is not None and key in value else None
            value = element.value if element is not None else None
    return value


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """A coded concept."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def unknown(dataset: Dataset, tag: int, value: bytes) -> None:
    """An element written as UN, whatever the dictionary says."""
    element = DataElement(tag, "OB", value + b" " * (len(value) % 2))
    element.VR = "UN"
    dataset[tag] = element


def items(*values: dict[str, Any]) -> Sequence:
    """Items of keywords and values."""
    found = []
    for value in values:
        item = Dataset()
        for keyword, content in value.items():
            setattr(item, keyword, content)
        found.append(item)
    return Sequence(found)


def base(name: str, sop_class: str, modality: str) -> Object:
    """An object of a class with the plants that every object can have."""
    ds = slice_of_ct()
    ds.SOPClassUID, ds.Modality = _STORAGE + sop_class, modality
    one = Object(name, ds)
    ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID = one.uid("sop"), one.uid("study"), one.uid("series")
    ds.FrameOfReferenceUID = one.uid("frame of reference")
    family, given = one.word("family"), one.word("given")
    ds.PatientName, ds.PatientID = f"{family}^{given}^^Dr.", one.number("id")
    ds.PatientBirthDate = one.plant("birth", "19410317")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = one.plant("date", "20210614")
    ds.OtherPatientIDs, ds.OtherPatientNames = one.number("other id"), f"{one.word('other name')}^A"
    ds.PatientAddress = f"{one.word('street')} street 17"
    ds.PatientTelephoneNumbers = "+44 20 7946 0018"
    one.plant("phone", "7946 0018")
    ds.AccessionNumber, ds.StudyID = one.number("accession"), one.number("study id", 7)
    ds.ReferringPhysicianName, ds.OperatorsName = f"{one.word('referrer')}^X", f"{one.word('operator')}^Y"
    ds.InstitutionName, ds.StationName = f"{one.word('institution')} hospital", one.word("station")
    ds.StudyDescription = f"CT chest {family} seen by {one.word('only in text')} on 14.06.2021"
    one.plant("date in text", "14.06.2021")
    ds.SeriesDescription = f"thorax 1.5mm mrn{ds.PatientID}"
    ds.ImageComments = f"call {one.word('comment')} tomorrow"
    ds.AdditionalPatientHistory = f"history of {one.word('history')}"
    ds.ProtocolName = f"{given} chest routine"
    ds.DeviceSerialNumber = one.number("serial", 6)
    ds.RetrieveURL = f"https://pacs.{one.word('url')}.example/studies/1"
    ds.RetrieveAETitle = one.word("ae")[:16].upper()
    ds.RequestAttributesSequence = items(
        {"RequestedProcedureID": one.number("request"), "ScheduledProcedureStepDescription": one.word("step")}
    )
    ds.add_new(0x00091001, "UN", one.word("private without creator").encode())
    ds.add_new(0x00110010, "LO", f"ACME {one.word('private creator')}")
    ds.add_new(0x00111001, "LO", one.word("private text"))
    inner = items({"PatientID": one.number("private nested id"), "SeriesDescription": one.word("private nested text")})
    inner[0].add_new(0x00130010, "LO", "DEEP")
    inner[0].add_new(0x00131001, "SQ", items({"PersonName": f"{one.word('private deep')}^Q"}))
    ds.add_new(0x00111002, "SQ", inner)
    one.need("SOPClassUID", "Modality", "PatientSex", "StudyTime", "InstanceNumber", "SeriesNumber", "Manufacturer",
             "ManufacturerModelName", "SoftwareVersions", "BodyPartExamined", "PatientSize", "PatientWeight")  # fmt: skip
    return one


def image(one: Object, *, bits: int = 16, samples: int = 1, frames: int = 1, size: int = 16) -> None:
    """Pixels that show nothing."""
    ds = one.dataset
    ds.Rows = ds.Columns = size
    ds.BitsAllocated = ds.BitsStored = bits
    ds.HighBit, ds.SamplesPerPixel = bits - 1, samples
    if samples == 3:
        ds.PhotometricInterpretation, ds.PlanarConfiguration = "RGB", 0
    if frames > 1:
        ds.NumberOfFrames = str(frames)
    count = size * size * samples * frames
    ds.PixelData = (np.arange(count) % 97).astype(f"<u{bits // 8}").tobytes()
    ds["PixelData"].VR = "OW" if bits == 16 else "OB"
    one.need("PixelData", "Rows", "Columns", "BitsAllocated", "PhotometricInterpretation", "PixelSpacing")


def ct() -> Object:
    """CT with what technologists write, in standard and private attributes."""
    one = base("ct", "2", "CT")
    ds = one.dataset
    image(one)
    ds.BodyPartExamined, ds.ScanOptions = "CHEST", "HELIX"
    ds.ConvolutionKernel, ds.FilterType = ["Br40d", "3"], "WEDGE_3"
    ds.ContrastBolusAgent = f"Iomeron 350 by {one.word('agent')}"
    ds.ReasonForStudy, ds.RequestedProcedureDescription = one.word("reason"), f"CT {one.word('procedure')}"
    ds.PerformedProcedureStepDescription = f"CT abdomen {one.word('performed')}"
    ds.CTDIvol, ds.SingleCollimationWidth, ds.TableSpeed = 10.2, 9.6, 12.6
    ds.ExposureModulationType, ds.ReconstructionDiameter = "XYZ_EC", "500"
    ds.DateOfLastCalibration, ds.TimeOfLastCalibration = "20210601", "080000"
    ds.add_new(0x60000010, "US", 8)
    ds.add_new(0x60000022, "LO", one.word("overlay description"))
    ds.add_new(0x60001500, "LO", one.word("overlay label"))
    ds.add_new(0x60003000, "OW", one.word("overlay data").encode() + b"\0")
    ds.add_new(0x50000022, "LO", one.word("curve description"))
    ds.add_new(0x50003000, "OW", one.word("curve data").encode() + b"\0")
    ds.IconImageSequence = items({"PixelData": one.word("icon").encode(), "Rows": 1, "Columns": 8, "BitsAllocated": 8})
    ds.OriginalAttributesSequence = items(
        {"ModifiedAttributesSequence": items({"PatientName": one.word("original name")}), "ReasonForTheAttributeModification": "COERCE",
         "SourceOfPreviousValues": one.word("source of values"), "ModifyingSystem": one.word("modifier")}
    )  # fmt: skip
    ds.CodingSchemeIdentificationSequence = items(
        {"CodingSchemeDesignator": "99X", "CodingSchemeName": one.word("scheme name"), "CodingSchemeRegistry": "HL7"}
    )
    ds.add_new(0x00191010, "UN", one.word("un").encode())
    unknown(ds, 0x00081080, one.word("standard as un").encode())
    text = one.word("sequence as un")[:10].ljust(10).encode()
    unknown(ds, 0x00321064, struct.pack("<HHLHHL", 0xFFFE, 0xE000, 18, 8, 0x104, 10) + text)
    ds.DataSetTrailingPadding = one.word("padding").encode()
    ds.preamble = one.word("preamble").encode().ljust(128, b"\0")
    ds.file_meta.SourceApplicationEntityTitle = one.word("meta ae")[:16]
    one.need("KVP", "ExposureTime", "XRayTubeCurrent", "ConvolutionKernel", "FilterType", "ScanOptions", "CTDIvol",
             "SingleCollimationWidth", "TableSpeed", "RescaleSlope", "RescaleIntercept", "RescaleType", "SliceThickness",
             "ImagePositionPatient", "ImageOrientationPatient", "ReconstructionDiameter", "ExposureModulationType",
             "ImageType", "TimeOfLastCalibration", "PatientAge")  # fmt: skip
    return one


def mr() -> Object:
    """MR with b-values where Siemens, GE and Philips keep them."""
    one = base("mr", "4", "MR")
    ds = one.dataset
    image(one)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE", "ND", "NORM"]
    ds.BodyPartExamined = "BRAIN"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = ["EP", "RM"], ["SK", "SP"], ["PFP", "FS"]
    ds.SequenceName, ds.MRAcquisitionType = "*ep_b1000#12", "2D"
    ds.RepetitionTime, ds.EchoTime, ds.FlipAngle, ds.MagneticFieldStrength = "8400", "94", "90", "3"
    ds.DiffusionBValue, ds.ImagingFrequency, ds.EchoNumbers = 1000.0, "123.2", "1"
    ds.DiffusionGradientOrientation = [0.1, 0.2, 0.97]
    ds.InPlanePhaseEncodingDirection, ds.PixelBandwidth, ds.AcquisitionMatrix = "COL", "1502", [128, 0, 0, 128]
    ds.ReceiveCoilName = "HEA;HEP"
    ds.SeriesDescription = f"ep2d_diff_b1000 {one.word('series text')}"
    ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    ds.add_new(0x0019100C, "IS", "1000")
    ds.add_new(0x0019100E, "FD", [0.1, 0.2, 0.97])
    ds.add_new(0x00191008, "CS", "IMAGE NUM 4")
    ds.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    ds.add_new(0x00291020, "OB", b"SV10" + one.word("csa").encode())
    ds.add_new(0x00430010, "LO", "GEMS_PARM_01")
    ds.add_new(0x00431039, "IS", ["1000", "8", "0", "0"])
    ds.add_new(0x20010010, "LO", "Philips Imaging DD 001")
    ds.add_new(0x20011003, "FL", float(np.float32(0.7)))
    ds.add_new(0x20010011, "LO", f"Philips {one.word('creator')}")
    one.need("RepetitionTime", "EchoTime", "FlipAngle", "MagneticFieldStrength", "DiffusionBValue", "SequenceName",
             "DiffusionGradientOrientation", "ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType",
             "InPlanePhaseEncodingDirection", "PixelBandwidth", "AcquisitionMatrix", "ImageType", "ReceiveCoilName",
             "0x0019100C", "0x0019100E", "0x00431039", "0x20011003", "ImagingFrequency")  # fmt: skip
    return one


def pet() -> Object:
    """PET with what SUV needs, and Philips' factors."""
    one = base("pet", "128", "PT")
    ds = one.dataset
    image(one)
    ds.SeriesType, ds.Units, ds.CountsSource, ds.DecayCorrection = ["WHOLE BODY", "IMAGE"], "BQML", "EMISSION", "START"
    ds.CorrectedImage = ["DECY", "ATTN", "SCAT", "DTIM", "RAN", "NORM"]
    ds.AttenuationCorrectionMethod, ds.ReconstructionMethod = "measured,AC CT Br38", "PSF+TOF 2i21s"
    ds.ScatterCorrectionMethod, ds.RandomsCorrectionMethod = "Model-based", "DLYD"
    ds.FrameReferenceTime, ds.ActualFrameDuration, ds.DecayFactor = "60000", "120000", "1.0123"
    ds.DoseCalibrationFactor, ds.SUVType = "1", "BW"
    ds.RadiopharmaceuticalInformationSequence = items({
        "Radiopharmaceutical": f"Fluorodeoxyglucose {one.word('pharmacist')}", "RadiopharmaceuticalStartTime": "093000.00",
        "RadiopharmaceuticalStopTime": "093010.00", "RadionuclideTotalDose": "350000000", "RadionuclideHalfLife": "6586.2",
        "RadionuclidePositronFraction": "0.97", "RadiopharmaceuticalStartDateTime": "20210614093000.00",
        "RadionuclideCodeSequence": Sequence([code("C-111A1", "SRT", "^18^Fluorine")]),
        "RadiopharmaceuticalCodeSequence": Sequence([code("Y-X1743", "99SITE", one.word("dose code"))]),
    })  # fmt: skip
    ds.add_new(0x70530010, "LO", "Philips PET Private Group")
    ds.add_new(0x70531000, "DS", "0.000551")
    ds.add_new(0x70531009, "DS", "1.7")
    part = "RadiopharmaceuticalInformationSequence.0."
    one.need("SeriesType", "Units", "CountsSource", "DecayCorrection", "CorrectedImage", "FrameReferenceTime", "SUVType",
             "ActualFrameDuration", "DecayFactor", "DoseCalibrationFactor", "AttenuationCorrectionMethod",
             "ReconstructionMethod", "ScatterCorrectionMethod", "RandomsCorrectionMethod", "0x70531000", "0x70531009",
             part + "RadiopharmaceuticalStartTime", part + "RadionuclideTotalDose", part + "RadionuclideHalfLife",
             part + "RadionuclidePositronFraction", part + "RadionuclideCodeSequence.0.CodeValue")  # fmt: skip
    return one


def enhanced_mr() -> Object:
    """Enhanced MR: functional groups, dates and references per frame."""
    one = base("enhanced mr", "4.1", "MR")
    ds = one.dataset
    image(one, frames=2)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "DIFFUSION", "NONE"]
    ds.AcquisitionDateTime = "20210614101500.12"
    ds.SharedFunctionalGroupsSequence = items({
        "PixelMeasuresSequence": items({"PixelSpacing": ["0.9", "0.9"], "SliceThickness": "3"}),
        "MRTimingAndRelatedParametersSequence": items({"RepetitionTime": "2000", "FlipAngle": "12"}),
        "ReferencedImageSequence": items({"ReferencedSOPClassUID": _STORAGE + "4", "ReferencedSOPInstanceUID": one.uid("shared reference"),
            "PurposeOfReferenceCodeSequence": Sequence([code("121311", "DCM", one.word("purpose"))])}),
    })  # fmt: skip
    ds.PerFrameFunctionalGroupsSequence = items(*({
        "FrameContentSequence": items({"FrameAcquisitionDateTime": f"2021061410150{n}", "FrameReferenceDateTime": f"2021061410150{n}",
            "StackID": "1", "InStackPositionNumber": n + 1, "DimensionIndexValues": [1, n + 1], "FrameComments": one.word(f"frame {n}")}),
        "PlanePositionSequence": items({"ImagePositionPatient": ["0", "0", str(n)]}),
        "MRDiffusionSequence": items({"DiffusionBValue": 700.0 * n, "DiffusionDirectionality": "DIRECTIONAL"}),
        "FrameVOILUTSequence": items({"WindowCenter": "40", "WindowWidth": "80", "WindowCenterWidthExplanation": one.word(f"voi {n}")}),
    } for n in range(2)))  # fmt: skip
    ds.DimensionOrganizationSequence = items({"DimensionOrganizationUID": one.uid("dimension")})
    shared, frame = "SharedFunctionalGroupsSequence.0.", "PerFrameFunctionalGroupsSequence.1."
    one.need("NumberOfFrames", shared + "PixelMeasuresSequence.0.PixelSpacing", frame + "FrameContentSequence.0.StackID",
             shared + "MRTimingAndRelatedParametersSequence.0.RepetitionTime", frame + "FrameContentSequence.0.DimensionIndexValues",
             frame + "MRDiffusionSequence.0.DiffusionBValue", frame + "PlanePositionSequence.0.ImagePositionPatient",
             frame + "MRDiffusionSequence.0.DiffusionDirectionality", frame + "FrameVOILUTSequence.0.WindowCenter")  # fmt: skip
    return one


def report() -> Object:
    """A Structured Report with persons, dates and free text in its tree."""
    one = base("sr", "88.33", "SR")
    ds = one.dataset
    del ds.PixelData, ds.FrameOfReferenceUID
    one.plants.pop("frame of reference")
    ds.CompletionFlag, ds.VerificationFlag = "COMPLETE", "VERIFIED"
    ds.VerifyingObserverSequence = items({"VerifyingObserverName": f"{one.word('verifier')}^V", "VerificationDateTime": "20210614",
                                          "VerifyingOrganization": one.word("organization")})  # fmt: skip

    def content(kind: str, concept: Dataset, **values: Any) -> dict[str, Any]:
        return {
            "RelationshipType": "CONTAINS",
            "ValueType": kind,
            "ConceptNameCodeSequence": Sequence([concept]),
            **values,
        }

    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([code("126000", "DCM", f"Report {one.word('title')}")])
    ds.ContentSequence = items(
        content("PNAME", code("121008", "DCM", "Person Observer Name"), PersonName=f"{one.word('observer')}^O"),
        content("TEXT", code("121071", "DCM", "Finding"), TextValue=f"Nodule, discussed with {one.word('colleague')}"),
        content("TEXT", code("121106", "DCM", "Comment"), TextValue=f"{one.word('free')}, born 17/03/1941"),
        content("UIDREF", code("112040", "DCM", "Tracking Unique Identifier"), UID=one.uid("tracking")),
        content("TEXT", code("112039", "DCM", "Tracking Identifier"), TextValue=one.word("tracking id")),
        content("DATETIME", code("111526", "DCM", "DateTime Started"), DateTime="20210614101010"),
        content("DATE", code("121031", "DCM", "Subject Birth Date"), Date=one.plants["birth"]),
        content("TEXT", code("121030", "DCM", "Subject ID"), TextValue=one.plants["id"]),
        content("NUM", code("118565006", "SCT", "Volume"), MeasuredValueSequence=items(
            {"NumericValue": "1234.5", "MeasurementUnitsCodeSequence": Sequence([code("mm3", "UCUM", "cubic millimeter")])})),
        content("CODE", code("363698007", "SCT", "Finding Site"), ConceptCodeSequence=Sequence([code("39607008", "SCT", one.word("meaning"))])),
        content("SCOORD", code("111030", "DCM", "Image Region"), GraphicType="POLYLINE", GraphicData=[1.0, 2.0, 3.0, 4.0],
                ContentSequence=items(content("IMAGE", code("260753009", "SCT", "Source"), ReferencedSOPSequence=items(
                    {"ReferencedSOPClassUID": _STORAGE + "2", "ReferencedSOPInstanceUID": one.uid("image reference")})))),
    )  # fmt: skip
    one.plant("birth in text", "17/03/1941")
    ds.CurrentRequestedProcedureEvidenceSequence = items({"StudyInstanceUID": ds.StudyInstanceUID, "ReferencedSeriesSequence": items(
        {"SeriesInstanceUID": one.uid("evidence series"), "ReferencedSOPSequence": items(
            {"ReferencedSOPClassUID": _STORAGE + "2", "ReferencedSOPInstanceUID": one.plants["image reference"]})})})  # fmt: skip
    one.need("CompletionFlag", "ContentSequence.8.MeasuredValueSequence.0.NumericValue", "ContentSequence.10.GraphicData",
             "ContentSequence.8.MeasuredValueSequence.0.MeasurementUnitsCodeSequence.0.CodeValue", "ContentSequence.10.GraphicType",
             "ContentSequence.9.ConceptCodeSequence.0.CodeValue", "ContentSequence.1.ConceptNameCodeSequence.0.CodeMeaning",
             "ContentSequence.10.ContentSequence.0.ReferencedSOPSequence.0.ReferencedSOPClassUID")  # fmt: skip
    return one


def rt_structure_set() -> Object:
    """RTSTRUCT with structures named after people, and geometry."""
    one = base("rtstruct", "481.3", "RTSTRUCT")
    ds = one.dataset
    del ds.PixelData
    ds.StructureSetLabel, ds.StructureSetName = f"Plan {one.word('label')}", one.word("set name")
    ds.StructureSetDate, ds.StructureSetTime = "20210614", "111500"
    ds.ReferencedFrameOfReferenceSequence = items({"FrameOfReferenceUID": ds.FrameOfReferenceUID,
        "RTReferencedStudySequence": items({"ReferencedSOPClassUID": "1.2.840.10008.3.1.2.3.1", "ReferencedSOPInstanceUID": ds.StudyInstanceUID,
            "RTReferencedSeriesSequence": items({"SeriesInstanceUID": one.uid("image series"), "ContourImageSequence": items(
                {"ReferencedSOPClassUID": _STORAGE + "2", "ReferencedSOPInstanceUID": one.uid("contour image")})})})})  # fmt: skip
    ds.StructureSetROISequence = items({"ROINumber": "1", "ReferencedFrameOfReferenceUID": ds.FrameOfReferenceUID, "ROIName": "GTV",
        "ROIDescription": one.word("roi description"), "ROIGenerationAlgorithm": "MANUAL"},
        {"ROINumber": "2", "ReferencedFrameOfReferenceUID": ds.FrameOfReferenceUID, "ROIName": f"Lung L {one.word('roi name')}",
         "ROIGenerationAlgorithm": "AUTOMATIC", "ROIGenerationDescription": one.word("generation")})  # fmt: skip
    ds.ROIContourSequence = items({"ROIDisplayColor": ["255", "0", "0"], "ReferencedROINumber": "1", "ContourSequence": items(
        {"ContourGeometricType": "CLOSED_PLANAR", "NumberOfContourPoints": "3", "ContourData": ["1.5", "2", "3", "4", "5", "6", "7", "8", "9"],
         "ContourImageSequence": items({"ReferencedSOPClassUID": _STORAGE + "2", "ReferencedSOPInstanceUID": one.plants["contour image"]})})})  # fmt: skip
    ds.RTROIObservationsSequence = items({"ObservationNumber": "1", "ReferencedROINumber": "1", "RTROIInterpretedType": "GTV",
                                          "ROIInterpreter": one.word("interpreter"), "ROIObservationLabel": one.word("observation")})  # fmt: skip
    one.need("StructureSetROISequence.0.ROIName", "StructureSetROISequence.0.ROINumber", "ROIContourSequence.0.ContourSequence.0.ContourData",
             "ROIContourSequence.0.ROIDisplayColor", "RTROIObservationsSequence.0.RTROIInterpretedType",
             "ROIContourSequence.0.ContourSequence.0.ContourGeometricType", "StructureSetROISequence.1.ROIGenerationAlgorithm")  # fmt: skip
    return one


def rt_plan() -> Object:
    """RTPLAN with machine, accessories and prescription."""
    one = base("rtplan", "481.5", "RTPLAN")
    ds = one.dataset
    del ds.PixelData
    ds.RTPlanLabel, ds.RTPlanName, ds.RTPlanDate, ds.RTPlanTime = (
        one.word("plan"),
        one.word("plan name"),
        "20210614",
        "101500",
    )
    ds.RTPlanGeometry = "PATIENT"
    ds.ReviewerName, ds.ApprovalStatus = f"{one.word('reviewer')}^R", "APPROVED"
    ds.DoseReferenceSequence = items({"DoseReferenceNumber": "1", "DoseReferenceStructureType": "SITE", "DoseReferenceDescription": one.word("dose reference"),
                                      "TargetPrescriptionDose": "60", "DoseReferenceUID": one.uid("dose reference uid")})  # fmt: skip
    ds.FractionGroupSequence = items({"FractionGroupNumber": "1", "NumberOfFractionsPlanned": "30", "FractionGroupDescription": one.word("fraction"),
        "ReferencedBeamSequence": items({"BeamDose": "2.0", "BeamMeterset": "182.4", "ReferencedBeamNumber": "1"})})  # fmt: skip
    ds.BeamSequence = items({"BeamNumber": "1", "BeamName": f"AP {one.word('beam')}", "BeamType": "STATIC", "TreatmentMachineName": one.word("machine"),
        "Manufacturer": "Varian", "RadiationType": "PHOTON", "SourceAxisDistance": "1000", "BeamLimitingDeviceSequence": items(
            {"RTBeamLimitingDeviceType": "MLCX", "NumberOfLeafJawPairs": "2", "LeafPositionBoundaries": ["-10", "0", "10"]}),
        "ControlPointSequence": items({"ControlPointIndex": "0", "NominalBeamEnergy": "6", "GantryAngle": "30", "IsocenterPosition": ["1", "2", "3"]})})  # fmt: skip
    one.need("RTPlanGeometry", "ApprovalStatus", "DoseReferenceSequence.0.TargetPrescriptionDose", "FractionGroupSequence.0.NumberOfFractionsPlanned",
             "FractionGroupSequence.0.ReferencedBeamSequence.0.BeamMeterset", "BeamSequence.0.ControlPointSequence.0.GantryAngle",
             "BeamSequence.0.RadiationType", "BeamSequence.0.BeamLimitingDeviceSequence.0.LeafPositionBoundaries",
             "BeamSequence.0.ControlPointSequence.0.NominalBeamEnergy")  # fmt: skip
    return one


def rt_dose() -> Object:
    """RTDOSE with its grid."""
    one = base("rtdose", "481.2", "RTDOSE")
    ds = one.dataset
    image(one, frames=2)
    ds.DoseUnits, ds.DoseType, ds.DoseSummationType, ds.DoseGridScaling = "GY", "PHYSICAL", "PLAN", "0.00012"
    ds.GridFrameOffsetVector, ds.DoseComment = ["0", "3"], one.word("dose comment")
    ds.FrameIncrementPointer = 0x3004000C
    ds.ReferencedRTPlanSequence = items(
        {"ReferencedSOPClassUID": _STORAGE + "481.5", "ReferencedSOPInstanceUID": one.uid("plan")}
    )
    ds.DVHSequence = items({"DVHType": "CUMULATIVE", "DoseUnits": "GY", "DoseType": "PHYSICAL", "DVHDoseScaling": "1", "DVHVolumeUnits": "CM3",
                            "DVHNumberOfBins": "2", "DVHData": ["0.1", "100", "0.1", "50"]})  # fmt: skip
    one.need("DoseUnits", "DoseType", "DoseSummationType", "DoseGridScaling", "GridFrameOffsetVector", "FrameIncrementPointer",
             "DVHSequence.0.DVHData", "DVHSequence.0.DVHType", "DVHSequence.0.DVHVolumeUnits")  # fmt: skip
    return one


def segmentation() -> Object:
    """SEG with labels, algorithm and source images."""
    one = base("seg", "66.4", "SEG")
    ds = one.dataset
    image(one, bits=8)
    ds.ImageType, ds.SegmentationType, ds.ContentLabel = ["DERIVED", "PRIMARY"], "FRACTIONAL", "SEGMENTATION"
    ds.SegmentationFractionalType, ds.MaximumFractionalValue = "PROBABILITY", 255
    ds.ContentCreatorName, ds.ContentDescription = f"{one.word('creator of content')}^C", one.word("content")
    ds.SegmentSequence = items({"SegmentNumber": 1, "SegmentLabel": f"Lung {one.word('segment')}", "SegmentAlgorithmType": "AUTOMATIC",
        "SegmentAlgorithmName": "nnU-Net", "SegmentDescription": one.word("segment description"), "TrackingID": one.word("tracking name"),
        "TrackingUID": one.uid("segment tracking"), "RecommendedDisplayCIELabValue": [1, 2, 3],
        "SegmentedPropertyCategoryCodeSequence": Sequence([code("123037004", "SCT", "Anatomical Structure")]),
        "SegmentedPropertyTypeCodeSequence": Sequence([code("39607008", "SCT", one.word("type meaning"))])})  # fmt: skip
    ds.ReferencedSeriesSequence = items({"SeriesInstanceUID": one.uid("source series"), "ReferencedInstanceSequence": items(
        {"ReferencedSOPClassUID": _STORAGE + "2", "ReferencedSOPInstanceUID": one.uid("source image")})})  # fmt: skip
    part = "SegmentSequence.0."
    one.need("SegmentationType", "SegmentationFractionalType", "MaximumFractionalValue", part + "SegmentNumber", part + "SegmentAlgorithmType",
             part + "SegmentedPropertyTypeCodeSequence.0.CodeValue", part + "RecommendedDisplayCIELabValue",
             part + "SegmentedPropertyCategoryCodeSequence.0.CodeMeaning")  # fmt: skip
    return one


def presentation_state() -> Object:
    """GSPS with text annotations."""
    one = base("pr", "11.1", "PR")
    ds = one.dataset
    del ds.PixelData
    ds.ContentLabel, ds.ContentDescription, ds.ContentCreatorName = (
        "LOOK",
        one.word("description"),
        f"{one.word('creator')}^P",
    )
    ds.PresentationCreationDate, ds.PresentationCreationTime = "20210614", "101500"
    ds.ReferencedSeriesSequence = items({"SeriesInstanceUID": one.uid("pr series"), "ReferencedImageSequence": items(
        {"ReferencedSOPClassUID": _STORAGE + "2", "ReferencedSOPInstanceUID": one.uid("pr image")})})  # fmt: skip
    ds.GraphicAnnotationSequence = items({"GraphicLayer": one.word("layer").upper()[:16], "TextObjectSequence": items(
        {"UnformattedTextValue": f"see {one.word('annotation')}", "AnchorPoint": [1.0, 2.0], "AnchorPointVisibility": "Y", "AnchorPointAnnotationUnits": "PIXEL"}),
        "GraphicObjectSequence": items({"GraphicAnnotationUnits": "PIXEL", "GraphicDimensions": 2, "NumberOfGraphicPoints": 2,
                                        "GraphicData": [1.0, 2.0, 3.0, 4.0], "GraphicType": "POLYLINE", "GraphicFilled": "N"})})  # fmt: skip
    ds.GraphicLayerSequence = items(
        {
            "GraphicLayer": one.plants["layer"].upper()[:16],
            "GraphicLayerOrder": "1",
            "GraphicLayerDescription": one.word("layer text"),
        }
    )
    ds.DisplayedAreaSelectionSequence = items(
        {
            "DisplayedAreaTopLeftHandCorner": [1, 1],
            "DisplayedAreaBottomRightHandCorner": [16, 16],
            "PresentationSizeMode": "SCALE TO FIT",
        }
    )
    ds.PresentationLUTShape = "IDENTITY"
    one.need("PresentationCreationTime", "PresentationLUTShape", "DisplayedAreaSelectionSequence.0.PresentationSizeMode",
             "GraphicAnnotationSequence.0.GraphicObjectSequence.0.GraphicData")  # fmt: skip
    return one


def key_object() -> Object:
    """Key object selection."""
    one = base("ko", "88.59", "KO")
    ds = one.dataset
    del ds.PixelData
    ds.ValueType, ds.ContinuityOfContent = "CONTAINER", "SEPARATE"
    ds.ConceptNameCodeSequence = Sequence([code("113000", "DCM", one.word("ko title"))])
    ds.ContentSequence = items({"RelationshipType": "CONTAINS", "ValueType": "TEXT", "TextValue": f"please show {one.word('ko text')}",
        "ConceptNameCodeSequence": Sequence([code("113012", "DCM", "Key Object Description")])},
        {"RelationshipType": "CONTAINS", "ValueType": "IMAGE", "ReferencedSOPSequence": items(
            {"ReferencedSOPClassUID": _STORAGE + "2", "ReferencedSOPInstanceUID": one.uid("ko image")})})  # fmt: skip
    one.need("ConceptNameCodeSequence.0.CodeValue", "ContentSequence.1.ReferencedSOPSequence.0.ReferencedSOPClassUID")
    return one


def digital_x_ray() -> Object:
    """DX with detector, exposure and views."""
    one = base("dx", "1.1", "DX")
    ds = one.dataset
    image(one)
    ds.PresentationIntentType, ds.ImageLaterality, ds.ViewPosition, ds.PatientOrientation = (
        "FOR PRESENTATION",
        "L",
        "PA",
        ["L", "F"],
    )
    ds.ImagerPixelSpacing, ds.DistanceSourceToDetector, ds.ExposureInuAs = ["0.14", "0.14"], "1800", "2500"
    ds.DetectorID, ds.DetectorType, ds.DetectorDescription = one.word("detector"), "DIRECT", one.word("detector text")
    ds.DetectorManufacturerName, ds.Grid, ds.CassetteID, ds.PlateID = (
        "Trixell",
        "IN",
        one.word("cassette")[:16],
        one.word("plate")[:16],
    )
    ds.AcquisitionDeviceProcessingDescription = f"CHEST PA {one.word('processing')}"
    ds.ViewCodeSequence = Sequence([code("399348003", "SCT", one.word("view meaning"))])
    ds.AnatomicRegionSequence = Sequence([code("51185008", "SCT", "Chest")])
    ds.AcquisitionContextSequence = items(
        {
            "ValueType": "TEXT",
            "ConceptNameCodeSequence": Sequence([code("109054", "DCM", "Patient State")]),
            "TextValue": one.word("context"),
        }
    )
    ds.LossyImageCompression, ds.RelativeXRayExposure, ds.DetectorTemperature = "00", "400", "31.5"
    ds.BurnedInAnnotation = "NO"  # required here
    one.need("PresentationIntentType", "ImageLaterality", "ViewPosition", "ImagerPixelSpacing", "DistanceSourceToDetector", "ExposureInuAs",
             "DetectorType", "Grid", "LossyImageCompression", "RelativeXRayExposure", "DetectorTemperature", "PatientOrientation",
             "AnatomicRegionSequence.0.CodeMeaning", "ViewCodeSequence.0.CodeValue", "DetectorManufacturerName")  # fmt: skip
    return one


def mammogram() -> Object:
    """MG for presentation."""
    one = base("mg", "1.2", "MG")
    ds = one.dataset
    image(one)
    ds.BodyPartExamined, ds.ImageLaterality, ds.ViewPosition = "BREAST", "R", "MLO"
    ds.CompressionForce, ds.BodyPartThickness, ds.AnodeTargetMaterial, ds.FilterMaterial = (
        "110",
        "56",
        "TUNGSTEN",
        "RHODIUM",
    )
    ds.OrganDose, ds.EntranceDoseInmGy, ds.PatientSpeciesDescription = "0.0123", "4.5", one.word("species")
    ds.ClinicalTrialSubjectID, ds.ClinicalTrialSiteName = one.number("trial subject"), one.word("trial site")
    ds.ClinicalTrialProtocolID, ds.ClinicalTrialSponsorName = one.number("trial"), one.word("sponsor")
    one.need("ImageLaterality", "ViewPosition", "CompressionForce", "BodyPartThickness", "AnodeTargetMaterial", "FilterMaterial",
             "OrganDose", "EntranceDoseInmGy")  # fmt: skip
    return one


def nuclear() -> Object:
    """NM with detectors, windows and phases."""
    one = base("nm", "20", "NM")
    ds = one.dataset
    image(one, frames=2)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]
    ds.EnergyWindowInformationSequence = items({"EnergyWindowName": f"Tc99m {one.word('window')}", "EnergyWindowRangeSequence": items(
        {"EnergyWindowLowerLimit": "126", "EnergyWindowUpperLimit": "154"})})  # fmt: skip
    ds.DetectorInformationSequence = items(
        {
            "CollimatorGridName": "LEHR",
            "CollimatorType": "PARA",
            "FieldOfViewShape": "RECTANGLE",
            "ImageOrientationPatient": ["1", "0", "0", "0", "1", "0"],
        }
    )
    ds.RotationInformationSequence = items(
        {
            "StartAngle": "180",
            "AngularStep": "3",
            "RotationDirection": "CW",
            "ActualFrameDuration": "20000",
            "NumberOfFramesInRotation": 2,
            "RadialPosition": ["250", "250"],
        }
    )
    ds.EnergyWindowVector, ds.DetectorVector, ds.FrameIncrementPointer = [1, 1], [1, 1], [0x00540010, 0x00540020]
    one.need("ImageType", "EnergyWindowInformationSequence.0.EnergyWindowRangeSequence.0.EnergyWindowLowerLimit", "EnergyWindowVector",
             "DetectorInformationSequence.0.CollimatorType", "RotationInformationSequence.0.AngularStep", "FrameIncrementPointer",
             "RotationInformationSequence.0.RadialPosition")  # fmt: skip
    return one


def angiography() -> Object:
    """XA with table and positioner."""
    one = base("xa", "12.1", "XA")
    ds = one.dataset
    image(one, bits=8, frames=3)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "SINGLE PLANE"]
    ds.FrameTime, ds.CineRate, ds.PositionerPrimaryAngle, ds.PositionerSecondaryAngle = "66.7", "15", "-30", "12"
    ds.RadiationSetting, ds.PositionerMotion, ds.FrameIncrementPointer = "GR", "STATIC", 0x00181063
    ds.MaskSubtractionSequence = items(
        {"MaskOperation": "AVG_SUB", "MaskFrameNumbers": [1], "MaskOperationExplanation": one.word("mask")}
    )
    one.need(
        "FrameTime",
        "CineRate",
        "PositionerPrimaryAngle",
        "RadiationSetting",
        "PositionerMotion",
        "MaskSubtractionSequence.0.MaskOperation",
        "ImageType",
    )
    return one


def waveform() -> Object:
    """A 12-lead ECG with annotations."""
    one = base("ecg", "9.1.1", "ECG")
    ds = one.dataset
    del ds.PixelData
    for keyword in (
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "HighBit",
        "PixelRepresentation",
        "SamplesPerPixel",
        "PhotometricInterpretation",
    ):
        delattr(ds, keyword)
    ds.AcquisitionDateTime = "20210614101500"
    ds.WaveformSequence = items({"MultiplexGroupTimeOffset": "0", "WaveformOriginality": "ORIGINAL", "NumberOfWaveformChannels": 1, "NumberOfWaveformSamples": 4,
        "SamplingFrequency": "500", "MultiplexGroupLabel": f"RHYTHM {one.word('group')}", "WaveformBitsAllocated": 16, "WaveformSampleInterpretation": "SS",
        "ChannelDefinitionSequence": items({"ChannelLabel": f"Lead I {one.word('channel')}", "ChannelSensitivity": "1.25", "WaveformBitsStored": 16,
            "ChannelSourceSequence": Sequence([code("2:1", "MDC", one.word("lead meaning"))]), "FilterLowFrequency": "0.05"}),
        "WaveformData": np.array([1, -2, 300, -4], "<i2").tobytes()})  # fmt: skip
    ds.WaveformSequence[0]["WaveformData"].VR = "OW"
    ds.WaveformAnnotationSequence = items({"UnformattedTextValue": f"reviewed by {one.word('annotation')}", "AnnotationGroupNumber": 0, "ReferencedWaveformChannels": [1, 0]},
        {"ConceptNameCodeSequence": Sequence([code("2:15872", "SCPECG", "QRS")]), "NumericValue": "88", "MeasurementUnitsCodeSequence": Sequence([code("ms", "UCUM", "ms")]), "ReferencedWaveformChannels": [1, 0]})  # fmt: skip
    part = "WaveformSequence.0."
    one.need(part + "WaveformData", part + "SamplingFrequency", part + "ChannelDefinitionSequence.0.ChannelSensitivity",
             part + "ChannelDefinitionSequence.0.ChannelSourceSequence.0.CodeValue", part + "WaveformSampleInterpretation",
             "WaveformAnnotationSequence.1.NumericValue", part + "WaveformOriginality")  # fmt: skip
    return one


def slide() -> Object:
    """A tile of a whole slide image, with specimen."""
    one = base("sm", "77.1.6", "SM")
    ds = one.dataset
    image(one, bits=8, samples=3)
    ds.ImageType, ds.ImagedVolumeWidth = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], 15.0
    ds.ContainerIdentifier, ds.TotalPixelMatrixColumns = one.word("container"), 16
    ds.SpecimenDescriptionSequence = items({"SpecimenIdentifier": one.number("specimen"), "SpecimenUID": one.uid("specimen uid"), "SpecimenShortDescription": one.word("specimen text"),
        "SpecimenDetailedDescription": one.word("specimen details"), "PrimaryAnatomicStructureSequence": Sequence([code("39607008", "SCT", "Lung")])})  # fmt: skip
    ds.OpticalPathSequence = items(
        {
            "OpticalPathIdentifier": "1",
            "IlluminationTypeCodeSequence": Sequence([code("111744", "DCM", "Brightfield illumination")]),
            "OpticalPathDescription": one.word("path"),
        }
    )
    ds.BarcodeValue, ds.LabelText = one.number("barcode"), one.word("label")
    one.need("ImagedVolumeWidth", "TotalPixelMatrixColumns", "OpticalPathSequence.0.IlluminationTypeCodeSequence.0.CodeValue",
             "SpecimenDescriptionSequence.0.PrimaryAnatomicStructureSequence.0.CodeMeaning", "OpticalPathSequence.0.OpticalPathIdentifier")  # fmt: skip
    return one


def dose_report() -> Object:
    """X-Ray radiation dose SR with device and person."""
    one = report()
    one.name = "rdsr"
    one.dataset.SOPClassUID = _STORAGE + "88.67"
    more = items(
        {"RelationshipType": "CONTAINS", "ValueType": "TEXT", "ConceptNameCodeSequence": Sequence([code("121013", "DCM", "Device Observer Name")]), "TextValue": one.word("device name")},
        {"RelationshipType": "CONTAINS", "ValueType": "TEXT", "ConceptNameCodeSequence": Sequence([code("121016", "DCM", "Device Observer Serial Number")]), "TextValue": one.number("device serial")},
        {"RelationshipType": "CONTAINS", "ValueType": "NUM", "ConceptNameCodeSequence": Sequence([code("113830", "DCM", "Mean CTDIvol")]), "MeasuredValueSequence": items(
            {"NumericValue": "10.2", "MeasurementUnitsCodeSequence": Sequence([code("mGy", "UCUM", "mGy")])})},
    )  # fmt: skip
    one.dataset.ContentSequence += list(more)
    one.need(
        "ContentSequence.13.MeasuredValueSequence.0.NumericValue",
        "ContentSequence.13.ConceptNameCodeSequence.0.CodeMeaning",
    )
    return one


def of_character_set(charset: str | list[str], name: str, text: str) -> Callable[[], Object]:
    """A CT whose people are named in another character set."""

    def make() -> Object:
        one = base("ct " + str(charset), "2", "CT")
        ds = one.dataset
        image(one)
        ds.SpecificCharacterSet = charset
        ds.PatientName = name
        for number, part in enumerate(name.replace("=", "^").split("^")):
            if len(part) > 1:
                one.plant(f"part {number}", part)
        one.plant("text", text)
        ds.SeriesDescription, ds.ImageComments, ds.ProtocolName = f"thorax {text}", text, text
        ds.Manufacturer, ds.ContrastBolusAgent, ds.StudyDescription = f"SIEMENS {text}", text, f"CT {text}"
        ds.RequestedProcedureCodeSequence = Sequence([code("1", "99X", text)])
        ds.add_new(0x00191009, "UN", text.encode("utf-8"))
        one.needed.remove("Manufacturer")
        return one

    make.__name__ = "ct in " + (charset if isinstance(charset, str) else "/".join(charset))
    return make


def kinds() -> list[Callable[[], Object]]:
    """Every kind."""
    return [
        ct, mr, pet, enhanced_mr, report, rt_structure_set, rt_plan, rt_dose, segmentation, presentation_state, key_object,
        digital_x_ray, mammogram, nuclear, angiography, waveform, slide, dose_report,
        of_character_set(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "山田先生"),
        of_character_set(["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "ﾔﾏﾀﾞ"),
        of_character_set(["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍길^길동", "길동선생"),
        of_character_set(["", "ISO 2022 IR 58"], "Zhang^XiaoDong=张^小东=", "张小东"),
        of_character_set("GB18030", "Wang^XiaoDong=王^小东=", "王小东"),
        of_character_set("ISO_IR 192", "Ковалевская^Софья", "Ковалевской"),
        of_character_set("ISO_IR 144", "Люкceмбypг^Роза", "Люксембург"),
        of_character_set("ISO_IR 126", "Διονυσιος^Αλεξης", "Διονυσιος"),
        of_character_set("ISO_IR 127", "قباني^لنزار", "قباني"),
        of_character_set("ISO_IR 138", "שרון^דבורה", "דבורה"),
        of_character_set("ISO_IR 101", "Wałęsa^Łukasz", "Wałęsy"),
        of_character_set("ISO_IR 166", "นามสกุล^ชื่อ", "นามสกุล"),
        of_character_set("ISO_IR 100", "Äneas^Rüdiger", "Rüdiger"),
    ]  # fmt: skip
