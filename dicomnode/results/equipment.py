"""What every result says of the node that made it: equipment, times, series, lossy compression.

May live here: attributes common to all kinds of results. Each function writes into a Data Set under construction.
"""

from __future__ import annotations

import hashlib
from typing import Final

from pydicom.dataset import Dataset

from dicomnode.findings import Algorithm
from dicomnode.results.concepts import PROCESSING_EQUIPMENT, code_item
from dicomnode.results.context import MANUFACTURER, MODEL_NAME, ResultContext, series_description
from dicomnode.results.sources import Lossy
from dicomnode.study import ResultRole, mint_uid

#: Names the domain of models: no secret, so that a model's Device UID is the same on every node.
_MODELS: Final = hashlib.sha256(b"dicomnode: Device UID of a model").digest()


def stamp(dataset: Dataset, role: ResultRole, algorithm: Algorithm, context: ResultContext) -> None:
    """Write General Series, General Equipment, SOP Common and Contributing Equipment (C.7.3.1, C.7.5.1, C.12.1).

    Overwrites whatever a library took from its own clock.
    """
    dataset.SOPInstanceUID = context.object_uid(role)
    dataset.SeriesInstanceUID = context.series_uid(role)
    dataset.SeriesNumber = context.series_number(role)
    dataset.SeriesDescription = series_description(role, algorithm, context.words)
    dataset.InstanceNumber = 1
    for keyword in ("InstanceCreation", "Series", "Content"):
        setattr(dataset, f"{keyword}Date", context.date)
        setattr(dataset, f"{keyword}Time", context.time)
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL_NAME
    dataset.DeviceSerialNumber = context.device_uid
    dataset.DeviceUID = context.device_uid
    dataset.SoftwareVersions = list(context.software_versions)
    dataset.StationName = context.station_name
    if context.institution_name:
        dataset.InstitutionName = context.institution_name
    dataset.ContributingEquipmentSequence = [contributing_equipment(algorithm, context)]


def contributing_equipment(algorithm: Algorithm, context: ResultContext) -> Dataset:
    """Item for the model (IHE RAD AI Results 6.5.3.1, PS3.3 C.12.1.1.5): who made it, which version, when it ran."""
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code_item(PROCESSING_EQUIPMENT)]
    item.Manufacturer = algorithm.manufacturer[:64]
    item.ManufacturerModelName = algorithm.name[:64]
    item.SoftwareVersions = [algorithm.version[:64]]
    item.DeviceUID = model_uid(algorithm)
    if algorithm.udi:
        item.UDISequence = [_udi(algorithm)]
    item.StationName = context.station_name
    if context.institution_name:
        item.InstitutionName = context.institution_name
    item.ContributionDateTime = context.date_time
    item.ContributionDescription = f"{algorithm.title}, {algorithm.engine}"
    return item


def model_uid(algorithm: Algorithm) -> str:
    """Device UID of a model: the same in every house."""
    return mint_uid(_MODELS, "model", algorithm.name, algorithm.version, algorithm.digest)


def _udi(algorithm: Algorithm) -> Dataset:
    """Item of UDI Sequence (10.29)."""
    item = Dataset()
    item.UniqueDeviceIdentifier = algorithm.udi
    item.DeviceDescription = algorithm.title
    return item


def inherit_lossy(dataset: Dataset, lossy: Lossy | None) -> None:
    """Write Lossy Image Compression (C.7.6.1.1.5): once lossy, always lossy."""
    dataset.LossyImageCompression = "00" if lossy is None else "01"
    if lossy is not None and lossy.ratios:
        dataset.LossyImageCompressionRatio = [f"{ratio:.6g}" for ratio in lossy.ratios]
    if lossy is not None and lossy.methods:
        dataset.LossyImageCompressionMethod = list(lossy.methods)
