"""dciodvfy, dcentvfy and dsrdump on every kind of result, of a series made here and of a real chest CT."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dicomnode.study import ResultRole
from tests import tools
from tests.conformance import known_faults, results_material
from tests.conformance.results_material import Written
from tests.unit.results import material

OBLIQUE = (0.866025, 0.0, -0.5, 0.0, 1.0, 0.0)


@pytest.fixture(scope="module", params=["axial", "oblique", "thorax", "one-segment"])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp(request.param)
    labels = material.labels_for()
    if request.param == "thorax":
        originals = results_material.with_identity(results_material.thorax(), results_material.INVENTED)
        return results_material.write(folder, originals, results_material.ellipsoids(105, 512, 512))
    if request.param == "one-segment":
        labels[labels == 2] = 0
        labels[3:] = 0
    orientation = OBLIQUE if request.param == "oblique" else material.AXIAL
    return results_material.write(folder, material.source_series(orientation=orientation), labels)


@pytest.mark.parametrize("role", list(ResultRole))
def test_dciodvfy_finds_no_error_and_no_warning_that_is_not_reviewed(written: Written, role: ResultRole) -> None:
    done = subprocess.run([tools.require("dciodvfy"), written.files[role]], capture_output=True, check=False)
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    assert len(lines) > 0
    assert [line for line in lines if line.startswith("Error")] == []
    warnings = [line for line in lines if line.startswith("Warning")]
    assert known_faults.unexplained(warnings, known_faults.DCIODVFY_WARNINGS) == []


def test_dcentvfy_finds_the_set_consistent(written: Written) -> None:
    text = results_material.run("dcentvfy", *written.files.values())
    lines = [line for line in text.splitlines() if line.startswith(("Error", "Warning"))]
    assert known_faults.unexplained(lines, known_faults.DCENTVFY) == []


def test_dsrdump_reads_the_report_with_its_numbers(written: Written) -> None:
    text = results_material.run("dsrdump", "-Ec", "+Pl", "+U8", written.files[ResultRole.REPORT])
    assert "Imaging Measurement Report" in text
    assert "COMPLETE" in text
    assert "UNVERIFIED" in text
    for number, unit in (("2875.5", "ml"), ("-845.25", "[hnsf'U]"), ("3.125", "%"), ("-921", "[hnsf'U]")):
        assert re.search(rf'="{re.escape(number)}(\.0)?" \({re.escape(unit)},UCUM', text), number
    drawn = text.count("SCOORD:")
    assert drawn == len(set(re.findall(r'Tracking Unique Identifier"\)="([0-9.]+)"', text)))
    assert "AI result, not reviewed by a physician." in text


def test_the_key_image_is_decoded_by_dcmtk(written: Written, tmp_path: Path) -> None:
    target = tmp_path / "key.ppm"
    results_material.run("dcm2pnm", "+op", written.files[ResultRole.KEY_IMAGE], target)
    head, size, _, pixels = target.read_bytes().split(b"\n", 3)
    assert (head, size) == (b"P6", b"35 33")
    labels = material.labels_for()
    assert pixels == material.key_image_for(labels).rgb.tobytes()
