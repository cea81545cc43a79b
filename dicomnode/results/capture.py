"""The key image: an RGB Secondary Capture of key slices with overlay and legend (PS3.3 A.8).

May live here: wrapping a picture that `imaging.render` drew into an object. Nothing is drawn here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import StudyError
from dicomnode.findings import Findings
from dicomnode.results.concepts import SOURCE_IMAGE, code_item
from dicomnode.results.context import MANUFACTURER, MODEL_NAME, ResultContext
from dicomnode.results.equipment import inherit_lossy, stamp
from dicomnode.results.sources import EMPTY_IDENTITY, SourceSeries, read_sources, refer
from dicomnode.study import ResultRole

SECONDARY_CAPTURE_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.7"


def build(
    rgb: NDArray[np.uint8],
    sources: Sequence[Dataset] | SourceSeries,
    findings: Findings,
    context: ResultContext,
    *,
    key_slices: Sequence[int],
    shows_identity: bool = False,
) -> Dataset:
    """Secondary Capture in the space of its sources.

    Parameters
    ----------
    rgb
        uint8 (rows, columns, 3).
    key_slices
        Indices, in source order, of the slices that the picture shows.
    shows_identity
        Whether patient or acquisition date can be read in the picture: Burned In Annotation tells the truth.

    Raises
    ------
    StudyError
        ``result-invalid`` if the picture is none, ``geometry-attribute-missing`` if a source cannot be placed.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or 0 in rgb.shape or max(rgb.shape) > 65535:
        raise StudyError("result-invalid", check="key-image-shape")
    series = read_sources(sources)
    dataset = Dataset()
    for keyword in EMPTY_IDENTITY:
        setattr(dataset, keyword, "")
    dataset.SOPClassUID = SECONDARY_CAPTURE_STORAGE
    dataset.StudyInstanceUID = series.headers[0].StudyInstanceUID
    dataset.Modality = "OT"
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.Laterality = dataset.PatientOrientation = ""  # type 2: the picture has none
    dataset.BurnedInAnnotation = "YES" if shows_identity else "NO"
    dataset.ImageComments = context.words.say("not-reviewed-short")
    dataset.DerivationDescription = context.words.say("derivation")
    if key_slices:
        dataset.SourceImageSequence = [_source_item(series.headers[index]) for index in sorted(set(key_slices))]
    _write_pixels(dataset, rgb)
    stamp(dataset, ResultRole.KEY_IMAGE, findings.algorithm, context)
    _write_capture_device(dataset, context)
    inherit_lossy(dataset, series.lossy)
    return dataset


def _source_item(header: Dataset) -> Dataset:
    item = Dataset()
    refer(item, header)
    item.PurposeOfReferenceCodeSequence = [code_item(SOURCE_IMAGE)]
    return item


def _write_pixels(dataset: Dataset, rgb: NDArray[np.uint8]) -> None:
    """Image Pixel (C.7.6.3): colour by pixel."""
    dataset.Rows, dataset.Columns = rgb.shape[0], rgb.shape[1]
    dataset.SamplesPerPixel = 3
    dataset.PhotometricInterpretation = "RGB"
    dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    data = np.ascontiguousarray(rgb).tobytes()
    dataset.PixelData = data + b"\x00" * (len(data) % 2)
    dataset["PixelData"].VR = "OB"


def _write_capture_device(dataset: Dataset, context: ResultContext) -> None:
    """SC Equipment and SC Image (C.8.6.1, C.8.6.2)."""
    dataset.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    dataset.SecondaryCaptureDeviceManufacturerModelName = MODEL_NAME
    dataset.SecondaryCaptureDeviceSoftwareVersions = list(context.software_versions)
    dataset.DateOfSecondaryCapture = context.date
    dataset.TimeOfSecondaryCapture = context.time
