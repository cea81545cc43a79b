"""A phantom as a study: CT images (PS3.3 A.3) of an invented patient, for the demo and the tests.

Pure: volumes in, Data Sets out. Everything in them is invented, and says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.uid import CTImageStorage

_INTERCEPT: Final = -1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomPatient:
    """Identity of the invented patient and study; every UID derives from `seed`."""

    seed: str = "dicomnode-demo"
    name: str = "Phantom^Chest"
    patient_id: str = "PHANTOM-1"
    birth_date: str = "19600229"
    sex: str = "O"
    study_date: str = "20260102"
    accession_number: str = "DEMO1"
    series_number: int = 2
    kernel: str = "B31f"

    def uid(self, *parts: object) -> str:
        """UID under 2.25 that the seed and the parts decide."""
        text = "/".join([self.seed, *(str(part) for part in parts)])
        return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:15], 'big')}"


def ct_series(
    hu: npt.NDArray[Any], spacing: tuple[float, float, float], patient: PhantomPatient | None = None
) -> Iterator[Dataset]:
    """CT images of a canonical volume, from the feet to the head.

    Parameters
    ----------
    hu
        (z, y, x) in HU, indices growing toward Superior, Posterior, Left.
    spacing
        mm, (z, y, x).
    patient
        Who it is said to be.

    Yields
    ------
    Dataset
        One axial image (PS3.3 C.8.2.1) with its pixels, to be encoded in any native transfer syntax.
    """
    who = patient or PhantomPatient()
    stored = np.clip(np.rint(hu) - _INTERCEPT, 0, 4095).astype("<u2")
    slices, rows, columns = stored.shape
    corner = (-spacing[2] * (columns - 1) / 2, -spacing[1] * (rows - 1) / 2)
    for index in range(slices):
        image = _header(who, spacing, (rows, columns))
        image.SOPInstanceUID = who.uid("image", who.series_number, index)
        image.InstanceNumber = index + 1
        image.ImagePositionPatient = [round(corner[0], 4), round(corner[1], 4), round(index * spacing[0], 4)]
        image.SliceLocation = round(index * spacing[0], 4)
        image.PixelData = stored[index].tobytes()
        image["PixelData"].VR = "OW"
        yield image


def _header(who: PhantomPatient, spacing: tuple[float, float, float], size: tuple[int, int]) -> Dataset:
    image = Dataset()
    image.SpecificCharacterSet = "ISO_IR 100"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.SOPClassUID = CTImageStorage
    _identity(image, who)
    image.Modality = "CT"
    image.Manufacturer = "dicomnode project"
    image.ManufacturerModelName = "phantom"
    image.SeriesDescription = "Phantom, chest"
    image.SeriesInstanceUID = who.uid("series", who.series_number)
    image.FrameOfReferenceUID = who.uid("frame")
    image.PositionReferenceIndicator = ""
    image.SeriesNumber = who.series_number
    image.AcquisitionNumber = 1
    image.BodyPartExamined = "CHEST"
    image.PatientPosition = "HFS"
    image.KVP = 120
    image.ConvolutionKernel = who.kernel
    image.SliceThickness = spacing[0]
    image.PixelSpacing = [spacing[1], spacing[2]]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = size
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelRepresentation = 0
    image.RescaleIntercept, image.RescaleSlope = _INTERCEPT, 1
    image.RescaleType = "HU"
    image.WindowCenter, image.WindowWidth = -600, 1500
    return image


def _identity(image: Dataset, who: PhantomPatient) -> None:
    image.PatientName = who.name
    image.PatientID = who.patient_id
    image.PatientBirthDate = who.birth_date
    image.PatientSex = who.sex
    image.StudyInstanceUID = who.uid("study")
    image.StudyID = "1"
    image.StudyDescription = "CT of a phantom"
    image.AccessionNumber = who.accession_number
    image.ReferringPhysicianName = ""
    for keyword in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(image, keyword, who.study_date)
    for keyword in ("StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(image, keyword, "101500")
