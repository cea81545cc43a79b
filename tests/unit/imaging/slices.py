"""Slices for tests: Data Sets made in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def slice_of(
    pixels: Any,
    *,
    z: Any = 0.0,
    position: Any = None,
    orientation: Any = AXIAL,
    spacing: Any = (1.0, 1.0),
    **attributes: Any,
) -> Any:
    """CT slice with 16-bit pixels; keywords override or (None) delete attributes."""
    pixels = np.asarray(pixels)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.Modality = "CT"
    dataset.SOPInstanceUID = f"1.2.3.{round((z + 5000) * 1000)}"
    dataset.FrameOfReferenceUID = "1.2.4"
    dataset.ImagePositionPatient = list(position or (0.0, 0.0, z))
    dataset.ImageOrientationPatient = list(orientation)
    dataset.PixelSpacing = list(spacing)
    dataset.SliceThickness = 1.0
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset
