"""What the shipped model makes of real chest CTs, through `dicomnode infer`: valid, readable, and in the right place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import Dataset

from tests import tools
from tests.conformance import known_faults


@dataclass(frozen=True)
class Done:
    """Results of one study by role, its sources by SOP Instance UID, and the outcome."""

    files: dict[str, Path]
    sources: dict[str, Dataset]
    source: Path
    outcome: dict[str, object]


@pytest.fixture(scope="module", params=["ct_chest_philips64", "ct_thorax_siemens105_rtstruct"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tools.shared_data_set(request.param)
    output = tmp_path_factory.mktemp(request.param)
    subprocess.run(
        [sys.executable, "-m", "dicomnode", "infer", folder, output / "out", "--state", output / "state"],
        check=True,
        capture_output=True,
        timeout=200,
        env={**os.environ, "HOME": str(output)},
    )
    (study,) = json.loads((output / "out" / "_outcome.json").read_text())["studies"]
    assert study["reason"] is None, study
    roles = ("segmentation", "report", "key-image")
    files = {role: next((output / "out").glob(f"*-{role}.dcm")) for role in roles}
    sources = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".xml":
            dataset = pydicom.dcmread(path, force=True)
            if dataset.get("Modality") == "CT":
                sources[str(dataset.SOPInstanceUID)] = dataset
                source = path
    return Done(files, sources, source, study)


def dciodvfy(path: Path) -> list[str]:
    """Errors and warnings about an object."""
    said = subprocess.run([tools.require("dciodvfy"), str(path)], capture_output=True, check=False).stderr
    lines = said.decode("utf-8", "replace").splitlines()
    assert lines, "it names at least the SOP Class"
    return [line for line in lines if line.startswith(("Error", "Warning"))]


@pytest.mark.parametrize("role", ["segmentation", "report", "key-image"])
def test_dciodvfy_finds_nothing_that_it_does_not_find_in_the_source(done: Done, role: str) -> None:
    """Identity is the source's, with the faults that its values have (one set has UUIDs in place of dates)."""
    of_source = set(dciodvfy(done.source))
    own = [line for line in dciodvfy(done.files[role]) if line not in of_source]
    assert [line for line in own if line.startswith("Error")] == []
    assert known_faults.unexplained(own, known_faults.DCIODVFY_WARNINGS) == []


def test_dsrdump_reads_the_report_with_the_numbers_of_the_outcome(done: Done) -> None:
    command = [tools.require("dsrdump"), "+Pl", "+U8", str(done.files["report"])]
    said = subprocess.run(command, capture_output=True, check=False)
    assert said.returncode == 0
    text = said.stdout.decode("utf-8", "replace")
    assert "Imaging Measurement Report" in text
    measurements = done.outcome["measurements"]
    assert isinstance(measurements, list)
    assert len(measurements) >= 6
    numbers = [float(number) for number in re.findall(r'NUM:[^\n]*?="(-?[0-9.]+)"', text)]
    for item in measurements:
        assert any(number == pytest.approx(item["value"], rel=1e-4) for number in numbers), item


def positions(segmentation: Dataset) -> list[tuple[int, str, np.ndarray]]:
    """Segment number, source image and mask of every frame."""
    shape = (segmentation.NumberOfFrames, segmentation.Rows, segmentation.Columns)
    bits = np.unpackbits(np.frombuffer(segmentation.PixelData, np.uint8), bitorder="little")
    masks = bits[: int(np.prod(shape))].reshape(shape)
    found = []
    for frame, mask in zip(segmentation.PerFrameFunctionalGroupsSequence, masks, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        found.append((int(number), str(source), mask))
    return found


def test_every_frame_lies_where_its_source_lies(done: Done) -> None:
    segmentation = pydicom.dcmread(done.files["segmentation"])
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    for frame, (_, source_uid, mask) in zip(
        segmentation.PerFrameFunctionalGroupsSequence, positions(segmentation), strict=True
    ):
        source = done.sources[source_uid]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(source.ImagePositionPatient)
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        assert orientation == pytest.approx(source.ImageOrientationPatient, abs=1e-4)
        assert shared.PixelMeasuresSequence[0].PixelSpacing == pytest.approx(source.PixelSpacing)
        assert mask.shape == (source.Rows, source.Columns)
    assert segmentation.FrameOfReferenceUID == next(iter(done.sources.values())).FrameOfReferenceUID


def test_the_left_lung_is_on_the_left_and_full_of_air(done: Done) -> None:
    """Read anew from the file: centres in patient coordinates (+x is Left, PS3.3 C.7.6.2.1.1) and mean HU."""
    segmentation = pydicom.dcmread(done.files["segmentation"])
    labels = {int(item.SegmentNumber): str(item.SegmentLabel) for item in segmentation.SegmentSequence}
    sums: dict[str, list[float]] = {}
    for number, source_uid, mask in positions(segmentation):
        source = done.sources[source_uid]
        rows, columns = np.nonzero(mask)
        row_direction = np.array(source.ImageOrientationPatient[:3], float)
        column_direction = np.array(source.ImageOrientationPatient[3:], float)
        spacing = [float(value) for value in source.PixelSpacing]
        x = source.ImagePositionPatient[0] + row_direction[0] * columns * spacing[1]
        x = x + column_direction[0] * rows * spacing[0]
        stored = np.frombuffer(source.PixelData, "<i2" if source.PixelRepresentation else "<u2")
        hu = stored.reshape(source.Rows, source.Columns)[rows, columns] * float(source.RescaleSlope)
        entry = sums.setdefault(labels[number], [0.0, 0.0, 0.0])
        entry[0] += len(rows)
        entry[1] += float(np.sum(x))
        entry[2] += float(np.sum(hu + float(source.RescaleIntercept)))
    centres = {label: total / count for label, (count, total, _) in sums.items()}
    assert set(centres) == {"Left lung", "Right lung"}
    assert centres["Left lung"] - centres["Right lung"] > 80
    measured = {(item["region"], item["name"]): item["value"] for item in done.outcome["measurements"]}  # type: ignore[attr-defined]
    first = next(iter(done.sources.values()))
    for label, (count, _, total) in sums.items():
        assert -900 < total / count < -600
        assert measured[label, "Mean lung density"] == pytest.approx(total / count, abs=0.5)
        area = float(first.PixelSpacing[0]) * float(first.PixelSpacing[1])
        heights = sorted(float(source.ImagePositionPatient[2]) for source in done.sources.values())
        spacing_mm = (heights[-1] - heights[0]) / (len(heights) - 1)
        assert measured[label, "Volume"] == pytest.approx(count * area * spacing_mm / 1000, rel=1e-3)
