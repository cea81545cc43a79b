"""Planted Data Sets: an identifier in every attribute of the dictionary, and where peers were seen to miss them.

The oracle knows nothing of the engine: it searches the output's bytes for the tokens that it planted.
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np
import pydicom
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.valuerep import PersonName

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"


@dataclass
class Planted:
    """A Data Set and what was planted: token → where."""

    dataset: Dataset
    tokens: dict[str, str] = field(default_factory=dict)

    def plant(self, where: str, template: str = "{}") -> str:
        """A new token, unlike anything that an honest file holds."""
        number = len(self.tokens)
        letters = "".join("QXZJVKWB"[number >> 3 * place & 7] for place in range(6))
        self.tokens[letters] = where
        return template.replace("{}", letters)

    def survivors(self, output: bytes) -> dict[str, str]:
        """Tokens that stand in the output, as bytes of any usual encoding."""
        lower = output.lower()
        found = {}
        for token, where in self.tokens.items():
            forms = {token.lower().encode(), token.lower().encode("utf-16-le")}
            if any(form in lower for form in forms):
                found[token] = where
        return found


def slice_of_ct(rows: int = 8, columns: int = 8) -> Dataset:
    """A CT slice with everything that a researcher needs."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = EXPLICIT
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID, ds.SOPInstanceUID = CT, "1.2.826.0.1.3680043.99.1.3.7"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.99.1", "1.2.826.0.1.3680043.99.1.3"
    ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.99.1.4"
    ds.PatientName, ds.PatientID, ds.IssuerOfPatientID = "Doe^Jane", "MRN-778812", "HOSP"
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "19510203", "F", "069Y"
    ds.PatientSize, ds.PatientWeight = "1.71", "64.5"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20200301"
    ds.StudyTime, ds.SeriesTime, ds.AcquisitionTime, ds.ContentTime = "101112", "101113.5", "101114", "101115"
    ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName = "ACC99817", "ST-4471", "Roe^Richard"
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer, ds.ManufacturerModelName, ds.SoftwareVersions = "SIEMENS", "Sensation 64", "syngo CT 2007A"
    ds.StudyDescription, ds.SeriesDescription, ds.ProtocolName = (
        "CT Chest Jane Doe",
        "Thorax 5.0mm B31s",
        "Lung routine",
    )
    ds.KVP, ds.XRayTubeCurrent, ds.ExposureTime, ds.ConvolutionKernel = "120", "210", "500", "B31s"
    ds.SliceThickness, ds.PixelSpacing, ds.BodyPartExamined = "5", ["0.7", "0.7"], "CHEST"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ["-150", "-150", "-40"], ["1", "0", "0", "0", "1", "0"]
    ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = "2", "1", "17"
    ds.PatientPosition, ds.SliceLocation, ds.TableHeight, ds.GantryDetectorTilt = "HFS", "-40", "150", "0"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.Rows, ds.Columns = 1, "MONOCHROME2", rows, columns
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = ["40", "-600"], ["400", "1500"]
    ds.CTDIvol, ds.SingleCollimationWidth, ds.SpiralPitchFactor = 8.5, 0.6, 1.2
    ds.PixelData = (np.arange(rows * columns, dtype="<u2") % 4096).tobytes()
    ds["PixelData"].VR = "OW"
    return ds


#: What a researcher needs of it, unchanged.
NEEDED = [
    "Modality",
    "ImageType",
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "KVP",
    "XRayTubeCurrent",
    "ExposureTime",
    "ConvolutionKernel",
    "SliceThickness",
    "PixelSpacing",
    "BodyPartExamined",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "SeriesNumber",
    "AcquisitionNumber",
    "InstanceNumber",
    "PatientPosition",
    "SliceLocation",
    "TableHeight",
    "GantryDetectorTilt",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "WindowCenter",
    "WindowWidth",
    "CTDIvol",
    "SingleCollimationWidth",
    "SpiralPitchFactor",
    "PixelData",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyTime",
    "SeriesTime",
    "AcquisitionTime",
    "ContentTime",
    "SOPClassUID",
]

_TEMPLATES = {
    "LO": "{} note",
    "SH": "{}",
    "LT": "seen by {}, see chart",
    "ST": "seen by {}",
    "UT": "letter to {}",
    "UC": "{}",
    "UR": "http://pacs.example/{}/x",
    "PN": "{}^Jane=={}",
    "AE": "{}",
    "CS": "{}",
    "UN": "{}",
    "OB": "{}xx",
    "OW": "{}xx",
    "OB or OW": "{}xx",
}
_MEANT = {0x7FE00010, 0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x00280004, 0x00280301, 0x00280302, 0x00080008}
_ALSO_MEANT = {0x00080060, 0x00080064}


def everywhere(sop_class_uid: str = CT) -> Planted:
    """A token in every attribute of the dictionary that can hold text, at the top and within a sequence."""
    planted = Planted(slice_of_ct())
    planted.dataset.SOPClassUID = sop_class_uid
    item = Dataset()
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if tag >> 16 < 8 or tag in _MEANT | _ALSO_MEANT or vr not in _TEMPLATES or not keyword or tag >> 16 >= 0xFFFA:
            continue
        for place, target in (("", planted.dataset), ("nested ", item)):
            text = planted.plant(place + keyword, _TEMPLATES[vr])
            kind = vr.split(" or ")[0]
            value = text.encode() if kind in ("OB", "OW", "UN") else text
            target.add_new(tag, kind, value)
    planted.dataset.ReferencedImageSequence = Sequence([item])
    return planted


_CHINESE = "ISO 2022 IR 58"
_PARTS = re.compile(r"[^\\^=\r\n\f\t]+|[\\^=\r\n\f\t]")


def in_chinese(text: str) -> bytes:
    """Text in ISO 2022 IR 58 as PS3.5 K.3 writes it: an escape before what is not ASCII, again behind each delimiter."""
    found = b""
    for part in _PARTS.findall(text):
        plain = len(part) if part.isascii() else next(place for place, one in enumerate(part) if not one.isascii())
        found += part[:plain].encode("ascii") + (b"\x1b$)A" + part[plain:].encode("gb2312") if part[plain:] else b"")
    return found


def _escaped(dataset: Dataset, syntax: str) -> Dataset:
    """A Data Set in ISO 2022 IR 58 with its escapes, which pydicom leaves out: texts become raw elements."""
    new = deepcopy(dataset)
    for element in list(new):
        if element.VR == "SQ":
            new[element.tag].value = Sequence([_escaped(item, syntax) for item in element.value])
        elif isinstance(element.value, str | PersonName) and not str(element.value).isascii():
            with suppress(UnicodeEncodeError):  # what the set lacks is written as pydicom writes it
                raw = in_chinese(str(element.value))
                raw += b" " * (len(raw) % 2)
                new[element.tag] = RawDataElement(element.tag, element.VR, len(raw), raw, 0, False, True)
    new.set_original_encoding(syntax == IMPLICIT, True, new._character_set)  # so it is written as it is
    return new


def encoded(dataset: Dataset, syntax: str = EXPLICIT) -> bytes:
    """The Data Set as a file, written by pydicom."""
    if _CHINESE in str(dataset.get("SpecificCharacterSet", "")):
        meta, dataset = dataset.file_meta, _escaped(dataset, syntax)
        dataset.file_meta = meta
    stream = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


def where_left(policy: Policy, ds: Dataset, keywords: Collection[str], text: str) -> list[str]:
    """Which of some attributes still hold a text when an object is de-identified with no leak: a minimal copy holds nothing."""
    done = Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")).deidentify(ds)
    assert done.leaks == ()
    return [keyword for keyword in keywords if text.casefold() in str(done.dataset.get(keyword, "")).casefold()]
