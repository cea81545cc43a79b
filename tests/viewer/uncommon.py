"""Studies whose images are no axial stack, with results that the builders of the node make of a phantom's own labels.

May live here: making such studies. What a viewer does with them is the tests' matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset

from dicomnode.encoded.quiet import hushed
from dicomnode.forms import Form, Variant
from dicomnode.imaging.frames import planes
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import PhantomPatient, ct_series
from dicomnode.results.context import ResultContext
from dicomnode.results.encode import EncodedResult, encode_outcome, encode_results
from dicomnode.study import ResultRole, mint_uid
from tests.unit.results import material

_EXPLICIT: Final = "1.2.840.10008.1.2.1"
#: Voxels, mm (z, y, x).
_SPACING: Final = (8.0, 4.0, 4.0)
#: The gantry leans by this much, and the table moves on along the patient.
_TILT: Final = np.radians(20.0)
_RESULTS: Final = (
    Variant(role=ResultRole.SEGMENTATION, form=Form.BINARY),
    Variant(role=ResultRole.REPORT, form=Form.COMPREHENSIVE, links=Form.BINARY),
)
_OUTCOME: Final = Variant(role=ResultRole.OUTCOME, form=Form.BASIC_TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncommon:
    """A study and its segmentation.

    Attributes
    ----------
    images
        As they are sent.
    planes
        Of the images, in the order in which their pixels lie in `labels` and `hu`.
    labels
        What was segmented: 1 the right lung, 2 the left one.
    """

    images: list[Dataset]
    planes: list[Dataset]
    hu: NDArray[Any]
    labels: NDArray[np.uint8]

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return str(self.planes[0].StudyInstanceUID)

    def results(self) -> tuple[EncodedResult, ...]:
        """The node's segmentation and report."""
        headers = self._headers()
        given = material.input_for(headers, self.labels, variants=_RESULTS)
        return encode_results(given, self._context(""), material.identity_of(headers))

    def outcome(self, code: str) -> EncodedResult:
        """The node's document that says why there are no results."""
        headers = self._headers()
        (result,) = encode_outcome(
            code,
            material.copies(headers[:1])[0],
            material.findings_for(),
            self._context(code),
            material.identity_of(headers),
            variants=(_OUTCOME,),
        )
        return result

    def _context(self, what: str) -> ResultContext:
        """Where every study and outcome has UIDs of its own."""

        def mint(role: str, *parts: str) -> str:
            return mint_uid(material.KEY, self.uid, what, role, *parts)

        return replace(material.context_for(), mint=mint)

    def _headers(self) -> list[Dataset]:
        """The planes without their pixels."""
        made = []
        for plane in self.planes:
            header = Dataset()
            header.update({tag: plane.get_item(tag) for tag in plane.keys() if tag != 0x7FE00010})  # noqa: SIM118
            made.append(header)
        return made


@cache
def _phantom() -> tuple[NDArray[Any], NDArray[np.uint8]]:
    phantom = chest_phantom(np.random.default_rng(3), shape=(40, 96, 96), spacing=_SPACING, diseases=())
    labels = np.where(np.isin(phantom.labels, (1, 2)), phantom.labels, 0).astype(np.uint8)
    return phantom.hu[10:30], labels[10:30]


def tilted() -> Uncommon:
    """Oblique planes, each further to the front than one straight above the last: a gantry that leans."""
    hu, labels = _phantom()
    images = list(ct_series(hu, _SPACING, PhantomPatient(seed="viewer-tilted")))
    for image in images:
        image.ImageOrientationPatient = [1, 0, 0, 0, round(float(np.cos(_TILT)), 6), round(float(-np.sin(_TILT)), 6)]
        image.GantryDetectorTilt = "20"
    return Uncommon(images=images, planes=images, hu=hu, labels=labels)


def multi_frame() -> Uncommon:
    """One Legacy Converted Enhanced CT, made by highdicom."""
    hu, labels = _phantom()
    who = PhantomPatient(seed="viewer-frames")
    images = list(ct_series(hu, _SPACING, who))
    for image in images:
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = _EXPLICIT
        image.SoftwareVersions = image.DeviceSerialNumber = "1"
    converted = LegacyConvertedEnhancedCTImage(images, who.uid("converted"), 3, who.uid("converted", 1), 1)
    converted.SeriesDescription = "Phantom, chest"
    with hushed():
        found = sorted(planes([converted]), key=lambda plane: float(plane.ImagePositionPatient[2]))
    return Uncommon(images=[converted], planes=found, hu=hu, labels=labels)


#: Kind of source → how it is made.
SOURCES: Final = MappingProxyType[str, Callable[[], Uncommon]]({"tilted": tilted, "multi-frame": multi_frame})
