"""dciodvfy, dcentvfy and dsrdump on every kind of object of every kind of source, made here or real."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dicomnode.encoded import encode_part10
from dicomnode.forms import Form, Variant
from dicomnode.results.encode import encode_outcome, encode_rejection
from dicomnode.study import ResultRole
from tests import tools
from tests.conformance import known_faults, results_material
from tests.conformance.results_material import KINDS, LABELMAP, MAP, OUTCOMES, RTSTRUCT, TO_LABELMAP, Written
from tests.conformance.sources import SOURCES, everything
from tests.unit.results import material

#: Of the source's patient and study, beside what every source of the tests has.
OF_PATIENT_AND_STUDY = {
    "PatientComments": "needs a chair",
    "EthnicGroup": "none told",
    "PhysiciansOfRecord": "Rec^Ord",
    "NameOfPhysiciansReadingStudy": "Rea^Der",
    "AdmittingDiagnosesDescription": "cough",
    "ServiceEpisodeID": "E1",
    "Occupation": "baker",
    "MedicalAlerts": "none",
    "ClinicalTrialSponsorName": "ACME",
    "ClinicalTrialProtocolID": "PR1",
    "ClinicalTrialProtocolName": "",
    "ClinicalTrialSiteID": "7",
    "ClinicalTrialSiteName": "",
    "ClinicalTrialSubjectID": "S1",
}


@pytest.fixture(scope="module", params=list(SOURCES))
def written(request: pytest.FixtureRequest) -> Written:
    return everything(request.param)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every document that stands in place of results, and a rejection note."""
    folder = tmp_path_factory.mktemp("outcomes")
    originals = material.source_series()
    context, identity = material.context_for(), material.identity_of(originals)
    made: list[Path] = []
    for code in ("nothing-found", "geometry-irregular-spacing", "pixel-missing"):
        (folder / code).mkdir()
        header = material.copies(originals)[0]
        results = encode_outcome(code, header, material.findings_for(), context, identity, variants=OUTCOMES)
        made += [results_material.write_one(folder / code, result) for result in results]
    rejected = []
    for path in results_material.write(folder, originals, material.labels_for()).kinds.values():
        header = pydicom.dcmread(path, stop_before_pixels=True)
        rejected.append(header)
    note = encode_rejection(rejected, material.findings_for().algorithm, context.written_as("note"), identity)
    return [*made, results_material.write_one(folder, note)]


def lines_of(path: Path) -> list[str]:
    done = subprocess.run([tools.require("dciodvfy"), path], capture_output=True, check=False)
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    assert len(lines) > 0
    return lines


def faults(path: Path, *, labelmap: bool = False) -> list[str]:
    lines = lines_of(path)
    errors = [line for line in lines if line.startswith("Error")]
    if labelmap:
        errors = known_faults.unexplained(errors, known_faults.DCIODVFY_LABELMAP)
    warnings = [line for line in lines if line.startswith("Warning")]
    return errors + known_faults.unexplained(warnings, known_faults.DCIODVFY_WARNINGS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.role.value}-{kind.name}")
def test_dciodvfy_finds_no_error_and_no_warning_that_is_not_reviewed(written: Written, kind: Variant) -> None:
    if kind not in written.kinds:
        assert kind in (RTSTRUCT, MAP)
        assert "ImagePositionPatient" not in written.originals[0], "only what lies nowhere has none"
        return
    assert faults(written.kinds[kind], labelmap=kind in (LABELMAP, TO_LABELMAP)) == []


def test_dciodvfy_finds_nothing_on_outcomes_and_rejection_notes(outcomes: list[Path]) -> None:
    assert len(outcomes) == 7
    assert {path: found for path in outcomes if (found := faults(path))} == {}


def test_dcentvfy_finds_the_set_consistent(written: Written) -> None:
    known = [path for kind, path in written.kinds.items() if kind not in (LABELMAP, TO_LABELMAP)]
    text = results_material.run("dcentvfy", *known)
    lines = [line for line in text.splitlines() if line.startswith(("Error", "Warning"))]
    assert known_faults.unexplained(lines, known_faults.DCENTVFY) == []


def test_dcentvfy_finds_results_and_images_of_one_patient_and_one_study(tmp_path: Path) -> None:
    originals = material.source_series()
    for one in originals:
        for keyword, value in OF_PATIENT_AND_STUDY.items():
            setattr(one, keyword, value)
    written = results_material.write(tmp_path, originals, material.labels_for())
    images = []
    for number, one in enumerate(originals):
        images.append(tmp_path / f"image-{number}.dcm")
        images[-1].write_bytes(encode_part10(one, transfer_syntax_uid="1.2.840.10008.1.2.1"))
    text = results_material.run("dcentvfy", *images, *written.files.values())
    lines = [line for line in text.splitlines() if line.startswith(("Error", "Warning"))]
    assert known_faults.unexplained(lines, known_faults.DCENTVFY) == []


@pytest.mark.parametrize("form", [Form.COMPREHENSIVE, Form.COMPREHENSIVE_3D])
def test_dsrdump_reads_the_report_with_its_numbers(written: Written, form: Form) -> None:
    kind = Variant(role=ResultRole.REPORT, form=form, links=Form.BINARY)
    text = results_material.run("dsrdump", "-Ec", "+Pl", "+U8", written.kinds[kind])
    assert "Imaging Measurement Report" in text
    assert "COMPLETE" in text
    assert "UNVERIFIED" in text
    for number, unit in (("2875.5", "ml"), ("-845.25", "[hnsf'U]"), ("3.125", "%"), ("-921", "[hnsf'U]"), ("93", "%")):
        assert re.search(rf'="{re.escape(number)}(\.0)?" \({re.escape(unit)},UCUM', text), number
    drawn = text.count("SCOORD:")
    assert drawn == len(set(re.findall(r'Tracking Unique Identifier"\)="([0-9.]+)"', text)))
    assert ("SCOORD3D:" in text) == (form is Form.COMPREHENSIVE_3D and "ImagePositionPatient" in written.originals[0])
    assert "AI result, not reviewed by a physician." in text


def test_dsrdump_reads_every_other_document(written: Written, outcomes: Sequence[Path]) -> None:
    basic = written.kinds[Variant(role=ResultRole.REPORT, form=Form.BASIC_TEXT)]
    text = results_material.run("dsrdump", "-Ec", "+Pl", "+U8", basic)
    assert "Volume 2875.5 ml" in text
    selection = written.kinds[Variant(role=ResultRole.KEY_OBJECTS, form=Form.KEY_OBJECTS)]
    assert "Of Interest" in results_material.run("dsrdump", "+Pl", selection)
    told = [results_material.run("dsrdump", "-Ec", "+Pl", "+U8", path) for path in outcomes if "pdf" not in path.name]
    assert "NOFINDING" in told[0]
    assert "geometry-irregular-spacing" in told[1]
    assert "Rejected for Quality Reasons" in told[-1]


def test_the_key_image_is_decoded_by_dcmtk(written: Written, tmp_path: Path) -> None:
    target = tmp_path / "key.ppm"
    results_material.run("dcm2pnm", "+op", written.files[ResultRole.KEY_IMAGE], target)
    head, size, _, pixels = target.read_bytes().split(b"\n", 3)
    assert (head, size) == (b"P6", b"35 33")
    assert pixels == material.key_image_for(written.labels).rgb.tobytes()


def test_the_document_is_one_page_of_pdf(written: Written, tmp_path: Path) -> None:
    dataset = pydicom.dcmread(written.kinds[Variant(role=ResultRole.DOCUMENT, form=Form.PDF)])
    data = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    (tmp_path / "page.pdf").write_bytes(data)
    assert re.search(r"^Pages: +1$", results_material.run("pdfinfo", tmp_path / "page.pdf"), re.MULTILINE)
    text = results_material.run("pdftotext", tmp_path / "page.pdf", "-")
    name = str(written.originals[0].PatientName).replace("^", " ")
    for part in (name, str(written.originals[0].PatientID), "Volume 2875.5 ml", "not reviewed by a physician"):
        assert part in text, part


def test_a_real_chest_passes(tmp_path: Path) -> None:
    originals = results_material.with_identity(results_material.thorax(), results_material.INVENTED)
    chest = results_material.write(tmp_path, originals, results_material.ellipsoids(105, 512, 512))
    assert {kind: found for kind, path in chest.kinds.items() if (found := faults(path))} == {}


def test_one_segment_on_few_slices_passes(tmp_path: Path) -> None:
    labels = material.labels_for()
    labels[labels == 2] = 0
    labels[3:] = 0
    small = results_material.write(tmp_path, material.source_series(), labels, KINDS[:-1])
    bad = {
        kind: found for kind, path in small.kinds.items() if (found := faults(path, labelmap="labelmap" in kind.name))
    }
    assert bad == {}
    assert np.count_nonzero(labels) > 0


def test_what_is_the_sources_own_is_forgiven_of_its_attributes_alone() -> None:
    of_name, of_label = (
        f"Warning - Value dubious for this VR - ({tag}) PN [1] = <x> - Retired Person Name form"
        for tag in ("0x0010,0x0010", "0x0062,0x0005")
    )
    error = of_name.replace("Warning", "Error")
    assert known_faults.unexplained([of_name, of_label, error], known_faults.DCIODVFY_WARNINGS) == [of_label, error]
