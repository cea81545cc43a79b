"""Sources that are no even stack of single-frame images, through `dicomnode infer` with the shipped model.

Truth is the phantom's anatomy in the patient; results are read anew from their files, frame by frame, by position.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from numpy.typing import NDArray
from pydicom import Dataset
from scipy import ndimage

from dicomnode.encoded import encode_part10
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import PhantomPatient, ct_series
from tests import tools

EXPLICIT = "1.2.840.10008.1.2.1"
SPACING = (3.0, 3.0, 3.0)
TILT = np.tan(np.radians(18.0))
#: Of the phantom's slices, those that the uneven study has: thick steps below, thin ones above.
UNEVEN = [*range(0, 60, 3), *range(60, 112, 2)]
Position = tuple[float, float, float]


@dataclass(frozen=True)
class Study:
    """Images as they are sent, and by their positions the anatomy on their planes."""

    images: list[Dataset]
    truth: dict[Position, NDArray[np.uint8]]
    volume_ml: tuple[float, float]


def place(position: Any) -> Position:
    x, y, z = (round(float(value), 2) for value in position)
    return x, y, z


def _phantom() -> tuple[NDArray[Any], NDArray[np.uint8]]:
    phantom = chest_phantom(np.random.default_rng(7), shape=(112, 128, 144), spacing=SPACING)
    return phantom.hu, phantom.labels


def _study(images: list[Dataset], labels: NDArray[np.uint8], whole: NDArray[np.uint8]) -> Study:
    truth = {place(image.ImagePositionPatient): plane for image, plane in zip(images, labels, strict=True)}
    right, left = (float((whole == number).sum()) * float(np.prod(SPACING)) / 1000 for number in (1, 2))
    return Study(images, truth, (right, left))


def single_frames() -> Study:
    hu, labels = _phantom()
    return _study(list(ct_series(hu, SPACING, PhantomPatient(seed="single"))), labels, labels)


def multi_frame() -> Study:
    """The same as one Legacy Converted Enhanced CT, made by highdicom."""
    hu, labels = _phantom()
    images = list(ct_series(hu, SPACING, PhantomPatient(seed="multi")))
    study = _study(images, labels, labels)
    for image in images:
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = EXPLICIT
        image.SoftwareVersions = "1"
        image.DeviceSerialNumber = "1"
    who = PhantomPatient(seed="multi")
    converted = LegacyConvertedEnhancedCTImage(images, who.uid("converted"), 3, who.uid("converted", 1), 1)
    return Study([converted], study.truth, study.volume_ml)


def tilted() -> Study:
    """The gantry leans: each slice is the anatomy's at its own place, further to the front than the one below."""
    hu, labels = _phantom()
    images = list(ct_series(hu, SPACING, PhantomPatient(seed="tilt")))
    planes = []
    for index, image in enumerate(images):
        shift = TILT * (index - 56) * SPACING[0]
        x, y, z = (float(value) for value in image.ImagePositionPatient)
        image.ImagePositionPatient = [x, round(y - shift, 4), z]
        moved = ndimage.shift(hu[index].astype(float), (shift / SPACING[1], 0), order=1, cval=-1000.0)
        image.PixelData = np.clip(np.rint(moved) + 1024, 0, 4095).astype("<u2").tobytes()
        planes.append(ndimage.shift(labels[index], (shift / SPACING[1], 0), order=0))
    return _study(images, np.stack(planes), labels)


def uneven() -> Study:
    hu, labels = _phantom()
    images = list(ct_series(hu, SPACING, PhantomPatient(seed="uneven")))
    return _study([images[index] for index in UNEVEN], labels[UNEVEN], labels)


STUDIES: dict[str, Callable[[], Study]] = {"multi-frame": multi_frame, "tilted": tilted, "uneven": uneven}


@dataclass(frozen=True)
class Done:
    """What came of a study."""

    study: Study
    segmentation: Path
    report: Path
    volumes: dict[str, float]
    remarks: list[str]


def infer(study: Study, folder: Path) -> Done:
    source = folder / "source"
    source.mkdir()
    for index, image in enumerate(study.images):
        (source / f"{index:03}.dcm").write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    command = [sys.executable, "-m", "dicomnode", "infer", source, folder / "out", "--state", folder / "state"]
    subprocess.run(command, check=True, capture_output=True, timeout=200, env={**os.environ, "HOME": str(folder)})
    (outcome,) = json.loads((folder / "out" / "_outcome.json").read_text())["studies"]
    assert outcome["reason"] is None, outcome
    (segmentation,), (report,) = ((folder / "out").glob(f"*-{role}.dcm") for role in ("segmentation", "report"))
    volumes = {item["region"]: item["value"] for item in outcome["measurements"] if item["name"] == "Volume"}
    return Done(study, segmentation, report, volumes, outcome["remarks"])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Done:
    return infer(single_frames(), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module", params=list(STUDIES))
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return infer(STUDIES[request.param](), tmp_path_factory.mktemp(request.param))


def frames(path: Path) -> list[tuple[int, Position, NDArray[np.uint8], Dataset]]:
    """Segment number, position, mask and source reference of every frame, by plain bit arithmetic."""
    segmentation = pydicom.dcmread(path)
    shape = (segmentation.NumberOfFrames, segmentation.Rows, segmentation.Columns)
    bits = np.unpackbits(np.frombuffer(segmentation.PixelData, np.uint8), bitorder="little")
    return [
        (
            int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
            place(group.PlanePositionSequence[0].ImagePositionPatient),
            mask,
            group.DerivationImageSequence[0].SourceImageSequence[0],
        )
        for group, mask in zip(
            segmentation.PerFrameFunctionalGroupsSequence, bits[: int(np.prod(shape))].reshape(shape), strict=True
        )
    ]


def dice(done: Done, number: int) -> float:
    found = {position: mask for one, position, mask, _ in frames(done.segmentation) if one == number}
    assert set(found) <= set(done.study.truth), "frames lie on the source's own planes"
    both = total = 0
    for position, plane in done.study.truth.items():
        mask = found.get(position, np.zeros_like(plane))
        both += int((mask.astype(bool) & (plane == number)).sum())
        total += int(mask.sum()) + int((plane == number).sum())
    return 2 * both / total


@pytest.mark.parametrize("number", [1, 2])
def test_each_lung_lies_on_the_planes_of_the_source(done: Done, plain: Done, number: int) -> None:
    assert dice(done, number) > max(0.9, dice(plain, number) - 0.02)


def test_volumes_are_those_of_the_anatomy(done: Done, plain: Done) -> None:
    for index, region in enumerate(("Right lung", "Left lung")):
        error = abs(done.volumes[region] - plain.volumes[region])
        assert error < 0.03 * done.study.volume_ml[index], region


def test_frames_name_the_image_and_its_frame(done: Done) -> None:
    many = len(done.study.images) == 1
    by_place = {} if many else {place(image.ImagePositionPatient): image for image in done.study.images}
    for _, position, _, source in frames(done.segmentation):
        image = done.study.images[0] if many else by_place[position]
        assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
        assert source.ReferencedSOPClassUID == image.SOPClassUID
        if many:
            group = image.PerFrameFunctionalGroupsSequence[int(source.ReferencedFrameNumber) - 1]
            assert place(group.PlanePositionSequence[0].ImagePositionPatient) == position
        else:
            assert "ReferencedFrameNumber" not in source


def test_an_uneven_study_says_so(done: Done, plain: Done) -> None:
    said = any("distances between slices vary" in remark for remark in done.remarks)
    assert said == (len(done.study.images) == len(UNEVEN))
    assert not any("distances between slices vary" in remark for remark in plain.remarks)


@pytest.mark.parametrize("role", ["segmentation", "report"])
def test_dciodvfy_has_no_error(done: Done, role: str) -> None:
    path = getattr(done, role)
    said = subprocess.run([tools.require("dciodvfy"), str(path)], capture_output=True, check=False).stderr
    lines = said.decode("utf-8", "replace").splitlines()
    assert lines, "it names at least the SOP Class"
    assert [line for line in lines if line.startswith("Error")] == []
