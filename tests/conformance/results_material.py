"""Results written as files, for programs of others to read."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode import coding, findings
from dicomnode.encoded.quiet import hushed
from dicomnode.forms import Form, Variant, Wishes, choose
from dicomnode.imaging.frames import planes
from dicomnode.results.encode import EncodedResult, encode_results
from dicomnode.results.parametric_map import PROBABILITY, VoxelMap
from dicomnode.study import ResultRole
from tests import tools
from tests.unit.results import material

#: An invented identity, for sources whose own one was hashed into nonsense.
INVENTED = {
    "PatientName": "Beispiel^Änne",
    "PatientID": "4711",
    "PatientBirthDate": "19500102",
    "PatientSex": "F",
    "PatientAge": "069Y",
    "StudyDate": "20191031",
    "StudyTime": "215249",
    "StudyID": "1",
    "AccessionNumber": "A1",
    "ReferringPhysicianName": "Größe^Max",
}


def variant(role: ResultRole, form: Form, links: Form | None = None) -> Variant:
    return Variant(role=role, form=form, links=links)


SEGMENTATION = variant(ResultRole.SEGMENTATION, Form.BINARY)
LABELMAP = variant(ResultRole.SEGMENTATION, Form.LABELMAP)
RTSTRUCT = variant(ResultRole.SEGMENTATION, Form.RTSTRUCT)
MAP = variant(ResultRole.PARAMETRIC_MAP, Form.MAP)
TO_LABELMAP = variant(ResultRole.REPORT, Form.COMPREHENSIVE_3D, Form.LABELMAP)
OUTCOMES = (variant(ResultRole.OUTCOME, Form.BASIC_TEXT), variant(ResultRole.OUTCOME, Form.PDF))
#: Every kind of object that an analysis gives.
KINDS = (
    SEGMENTATION,
    variant(ResultRole.SEGMENTATION, Form.FRACTIONAL),
    LABELMAP,
    RTSTRUCT,
    variant(ResultRole.REPORT, Form.COMPREHENSIVE, Form.BINARY),
    variant(ResultRole.REPORT, Form.COMPREHENSIVE_3D, Form.BINARY),
    TO_LABELMAP,
    variant(ResultRole.REPORT, Form.COMPREHENSIVE),
    variant(ResultRole.REPORT, Form.BASIC_TEXT),
    variant(ResultRole.REPORT, Form.PDF),
    variant(ResultRole.KEY_IMAGE, Form.CAPTURE),
    variant(ResultRole.KEY_OBJECTS, Form.KEY_OBJECTS),
    variant(ResultRole.DOCUMENT, Form.PDF),
    MAP,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """Results of one source series, and where their files are.

    `files` holds the objects of the default forms by their role, `kinds` every object by its variant.
    """

    originals: list[Dataset]
    labels: NDArray[np.uint8]
    results: dict[ResultRole, EncodedResult]
    files: dict[ResultRole, Path]
    kinds: dict[Variant, Path]


def write(
    folder: Path,
    originals: Sequence[Dataset],
    labels: NDArray[np.uint8],
    variants: tuple[Variant, ...] = choose(Wishes()),
    **changes: object,
) -> Written:
    given = material.input_for(originals, labels, variants=variants, **changes)
    results = encode_results(given, material.context_for(), material.identity_of(originals))
    kinds = {Variant.of(result.role, result.form): write_one(folder, result) for result in results}
    default = {variant.role: variant for variant in choose(Wishes())}
    return Written(
        originals=list(originals),
        labels=labels,
        results={result.role: result for result in results},
        files={role: kinds[variant] for role, variant in default.items() if variant in kinds},
        kinds=kinds,
    )


def write_one(folder: Path, result: EncodedResult) -> Path:
    path = folder / f"{result.role.value}-{result.form}.dcm"
    path.write_bytes(b"".join(result.part10()))
    return path


def full_findings(*, place: tuple[float, float, float] | None) -> findings.Findings:
    """Regions with a classification each, one of the case, and where there is a place for it a detection."""
    present = findings.Evaluation(
        concept=coding.sct("87433001", "Pulmonary emphysema"),
        value=coding.sct("52101004", "Present"),
        probability=0.93,
    )
    found = material.findings_for()
    nodule = findings.Detection(
        number=1,
        label="Nodule 1",
        finding=coding.sct("27925004", "Nodule"),
        site=coding.LUNG,
        position=place or (0.0, 0.0, 0.0),
        diameter_mm=8.0,
        probability=0.71,
    )
    return dataclasses.replace(
        found,
        regions=tuple(dataclasses.replace(region, evaluations=(present,)) for region in found.regions),
        evaluations=(present,),
        detections=() if place is None else (nodule,),
    )


def middle_of(original: Dataset) -> tuple[float, float, float]:
    """Patient coordinates of the middle of a plane."""
    position = np.array([float(value) for value in original.ImagePositionPatient])
    orientation = np.array([float(value) for value in original.ImageOrientationPatient])
    rows, columns = (float(value) for value in original.PixelSpacing)
    middle = position + orientation[:3] * columns * original.Columns / 2 + orientation[3:] * rows * original.Rows / 2
    x, y, z = (float(value) for value in middle)
    return x, y, z


def probabilities(labels: NDArray[np.uint8]) -> VoxelMap:
    return VoxelMap(values=np.where(labels > 0, 0.875, 0.125), quantity=PROBABILITY, label="Lungs")


def in_order(headers: list[Dataset]) -> list[Dataset]:
    """Planes by their place along the normal."""
    orientation = [float(value) for value in headers[0].ImageOrientationPatient]
    normal = np.cross(orientation[:3], orientation[3:])
    return sorted(headers, key=lambda one: float(np.dot(normal, [float(v) for v in one.ImagePositionPatient])))


def real(name: str, *parts: str) -> list[Dataset]:
    """Planes of real images, multi-frame ones frame by frame, one for each place; in source order."""
    folder = tools.shared_data_set(name).joinpath(*parts)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with hushed():
        images = [pydicom.dcmread(path, stop_before_pixels=True) for path in paths]
        found = planes(images)
        for one in found:
            one.walk(lambda *_: None)
    for one in found:  # whoever took the identities out took the Frame of Reference with them
        one.FrameOfReferenceUID = one.get("FrameOfReferenceUID") or "1.2.826.0.1.3680043.8.498.79"
    places = {tuple(map(float, one.ImagePositionPatient)): one for one in reversed(found)}
    return with_identity(in_order(list(places.values())), INVENTED)


def flat(*, rows: int = 40, columns: int = 48) -> list[Dataset]:
    """A radiograph: one image that lies nowhere in space."""
    (image,) = material.source_series(1, rows=rows, columns=columns)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "SliceThickness"):
        delattr(image, keyword)
    del image.PixelSpacing
    image.ImagerPixelSpacing = ["0.2", "0.2"]
    image.SOPClassUID, image.Modality = "1.2.840.10008.5.1.4.1.1.1.1", "DX"
    return [image]


def ellipsoids(slices: int, rows: int, columns: int) -> NDArray[np.uint8]:
    """Two bodies where lungs would be, empty at both ends."""
    z, y, x = np.ogrid[:slices, :rows, :columns]
    middle = (z - slices / 2) / (slices * 0.42)
    labels = np.zeros((slices, rows, columns), dtype=np.uint8)
    for number, centre in ((1, 0.3), (2, 0.7)):
        inside = middle**2 + ((y - rows / 2) / (rows / 4)) ** 2 + ((x - columns * centre) / (columns / 6)) ** 2 < 1
        labels[inside] = number
    return labels


def thorax() -> list[Dataset]:
    """Headers of the real chest CT, in source order."""
    folder = tools.shared_data_set("ct_thorax_siemens105_rtstruct")
    with hushed():
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.glob("CT_*.dcm")]
        for header in headers:
            header.walk(lambda *_: None)
    return sorted(headers, key=lambda header: float(header.ImagePositionPatient[2]))


def with_identity(headers: list[Dataset], values: dict[str, object]) -> list[Dataset]:
    for header in headers:
        for keyword, value in values.items():
            if keyword in header:
                delattr(header, keyword)
            setattr(header, keyword, value)
    return headers


def run(program: str, *arguments: object, encoding: str = "utf-8") -> str:
    """Both streams of a program, which must not fail."""
    done = subprocess.run([tools.require(program), *map(str, arguments)], capture_output=True, check=False, timeout=120)
    text = (done.stdout + done.stderr).decode(encoding, "replace")
    if done.returncode != 0:
        pytest.fail(f"{program} ended with {done.returncode}:\n{text[-2000:]}")
    return text
