"""dcmqi, a reader of quantitative researchers, on every segmentation and report: where voxels lie, what numbers say."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicomnode.forms import Form, Variant
from dicomnode.study import ResultRole
from tests.conformance.results_material import KINDS, RTSTRUCT, Written
from tests.conformance.sources import EVEN, SOURCES, everything
from tests.conformance.test_results_geometry import in_space, rounded

FORMS = [variant for variant in KINDS if variant.role is ResultRole.SEGMENTATION and variant != RTSTRUCT]
REPORTS = [variant for variant in KINDS if variant.form in (Form.COMPREHENSIVE, Form.COMPREHENSIVE_3D)]


@pytest.fixture(scope="module", params=list(SOURCES))
def written(request: pytest.FixtureRequest) -> Written:
    return everything(request.param)


def dcmqi(program: str, *arguments: object) -> None:
    path = Path(sys.executable).parent / program
    assert path.is_file(), "dcmqi is of the extra `dev`"
    done = subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def nrrd_points(path: Path, number: int | None) -> dict[tuple[float, ...], int]:
    """Patient coordinates (0.01 mm) of every voxel that is not 0 → its value, or a number for all."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    text = head.decode()
    x, y, z = (int(size) for size in re.search(r"sizes: (\d+) (\d+) (\d+)", text).groups())  # type: ignore[union-attr]
    directions = np.array([vector(one) for one in re.findall(r"\(([^)]*)\)", field(text, "space directions"))])
    origin = vector(field(text, "space origin").strip("()"))
    types = {"short": "<i2", "unsigned short": "<u2", "unsigned char": "u1", "float": "<f4", "double": "<f8"}
    values = np.frombuffer(gzip.decompress(body), types[field(text, "type")]).reshape(z, y, x)
    k, j, i = (places[:, None] for places in np.nonzero(values))
    points = rounded(origin + i * directions[0] + j * directions[1] + k * directions[2])
    return dict(zip(points, values[values != 0].tolist() if number is None else [number] * len(points), strict=True))


def field(text: str, name: str) -> str:
    return re.search(rf"^{name}: (.*)$", text, re.MULTILINE)[1]  # type: ignore[index]


def vector(text: str) -> np.ndarray[Any, Any]:
    return np.array([float(part) for part in text.split(",")])


@pytest.mark.parametrize("kind", EVEN)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_voxel_is_where_the_source_has_it(kind: str, form: Variant, tmp_path: Path) -> None:
    written = everything(kind)
    dcmqi("segimage2itkimage", "--inputDICOM", written.kinds[form], "--outputDirectory", tmp_path, "--prefix", "s")
    found: dict[tuple[float, ...], int] = {}
    for path in sorted(tmp_path.glob("s-*.nrrd")):
        number = None if form.form is Form.LABELMAP else int(path.stem.removeprefix("s-"))
        found |= nrrd_points(path, number)
    positions = [(np.array([float(v) for v in o.ImagePositionPatient]), o) for o in written.originals]
    expected = in_space(written.labels, positions)
    assert len(found) == len(expected) > 50
    # Its grid has one step for all slices: the source's own rounding of positions may differ by some hundredths.
    missing = [one for one in expected if one not in found and not any(near in found for near in around(one))]
    assert missing == []
    segments = json.loads((tmp_path / "s-meta.json").read_text())["segmentAttributes"]
    names = {one["SegmentLabel"] for group in segments for one in group}
    assert {"Right lung", "Left lung"} <= names


def around(point: tuple[float, ...]) -> list[tuple[float, ...]]:
    steps = np.array(np.meshgrid(*[[-0.01, 0, 0.01]] * 3)).reshape(3, -1).T
    return rounded(np.add(point, steps))


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.name)
def test_every_number_is_read_and_belongs_to_its_segment(written: Written, report: Variant, tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    dcmqi("tid1500reader", "--inputDICOM", written.kinds[report], "--outputMetadata", target)
    groups = json.loads(target.read_text())["Measurements"]
    volumes = {
        (group["TrackingIdentifier"], float(item["value"]), item["units"]["CodeValue"])
        for group in groups
        for item in group.get("measurementItems", ())
        if item["quantity"]["CodeMeaning"] == "Volume"
    }
    assert {("Right lung", 2875.5, "ml"), ("Left lung", 2410.25, "ml")} <= volumes
    linked = {group["TrackingIdentifier"] for group in groups if group.get("ReferencedSegment")}
    assert linked == ({"Right lung", "Left lung"} if report.links else set())
