"""The offline twins on small folders, with the stand-in for a network."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import DataElement, Dataset
from pydicom.tag import Tag
from rich.console import Console

from dicomnode.cli import offline, outputs
from dicomnode.cli.reasons import what, what_and_what_to_do
from dicomnode.config import Config
from dicomnode.encoded import Buffer, Limits, encode_part10, read_file, read_part10_raw
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import REASONS, ConfigError, ModelError, NodeError, StudyError
from dicomnode.sections import Destination
from dicomnode.service.offline import Workbench
from dicomnode.storage import files
from dicomnode.workflow.analysis import Analyst
from tests.unit.workflow.samples import EXPLICIT, IMPLICIT, tiny_series


@pytest.fixture
def tree(tmp_path: Path) -> Config:
    """A state folder of its own."""
    return Config.model_validate(
        {
            "node": {"state": tmp_path / "state"},
            "intake": {"minimum_free_bytes": 0},
            "models": {"engine": "stand-in"},
        }
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A study, a file that is no DICOM, and the traces of an earlier run."""
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    for index, image in enumerate(tiny_series()):
        (folder / "images" / f"{index:02}.dcm").write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    (folder / "notes.txt").write_text("no DICOM")
    (folder / "_outcome.json").write_text("{}")
    return folder


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is printed."""
    with io.StringIO() as made:
        yield made


def console(stream: io.StringIO) -> Console:
    return Console(file=stream, width=200, highlight=False)


def write(path: Path, image: Dataset) -> None:
    path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))


def outcome(folder: Path) -> Any:
    return json.loads((folder / "_outcome.json").read_text("utf-8"))


def test_who_asked_for_a_gpu_is_told_that_the_cpu_computes(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    models = tree.models.model_copy(update={"engine": "tensorrt", "threads": 1, "enabled": ("ct-lung",)})
    wished = tree.model_copy(update={"models": models})
    offline.infer_folder(wished, source, tmp_path / "out", model=None, console=console(stream))
    assert stream.getvalue().count("engine-not-used") == 1
    assert "dicomnode serve" in stream.getvalue()
    assert outcome(tmp_path / "out")["engines"]["ct-lung"]["reason"] == "engine-not-used"


def test_a_folder_is_inferred_twice_to_the_same_bytes(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    found: list[dict[str, bytes]] = []
    for name in ("one", "two"):
        output = tmp_path / name
        offline.infer_folder(tree, source, output, model="stand-in", console=console(stream))
        found.append({path.name: path.read_bytes() for path in output.glob("*.dcm")})
    assert len(found[0]) == 4
    assert found[0] == found[1]
    assert outcome(tmp_path / "two")["engines"] == {"stand-in": {"engine": "stand-in fp32", "reason": None}}
    assert "engine-not-used" not in stream.getvalue()
    record = outcome(tmp_path / "one")
    (study,) = record["studies"]
    assert (study["reason"], study["model"], len(study["files"])) == (None, "stand-in", 5)
    assert record["unreadable"] == {"notes.txt": "object-malformed"}
    assert {item["unit"] for item in study["measurements"]} >= {"ml"}
    assert "1 file(s) left out object-malformed" in stream.getvalue()
    for path in (tmp_path / "one").glob("*.dcm"):
        assert str(read_file(path, Limits()).PatientName) == "Phantom^Chest"


def test_a_uid_that_is_none_is_kept_and_remarked(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    with hushed():
        for path in sorted((source / "images").iterdir()):
            image = read_file(path, Limits())
            image.StudyInstanceUID = "1.2.826.0.1.007.4"
            write(path, image)
    offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    (study,) = outcome(tmp_path / "out")["studies"]
    assert "1 UIDs of the source break PS3.5 9.1" in study["remarks"][-1]
    assert study["remarks"][-1] in stream.getvalue()
    for name in study["files"]:
        if name.endswith(".dcm"):
            assert read_file(tmp_path / "out" / name, Limits()).StudyInstanceUID == "1.2.826.0.1.007.4"


def test_a_study_that_the_model_does_not_want_has_a_reason_and_no_files(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    for path in sorted((source / "images").iterdir())[2:]:
        path.unlink()
    assert offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    (study,) = outcome(tmp_path / "out")["studies"]
    assert (study["reason"], study["fault"], study["files"]) == ("geometry-too-few-slices", False, [])
    assert "no result: geometry-too-few-slices" in stream.getvalue()


@pytest.mark.parametrize("error", [StudyError("result-invalid", check="build"), ModelError("inference-failed")])
def test_a_fault_of_the_node_is_told_from_an_answer(
    *,
    tree: Config,
    source: Path,
    tmp_path: Path,
    stream: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    error: NodeError,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("dicomnode.workflow.analysis.Analyst.encode", fail)
    assert not offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    (study,) = outcome(tmp_path / "out")["studies"]
    assert (study["reason"], study["fault"], study["files"]) == (error.code, True, [])
    assert f"no result: {error.code}" in stream.getvalue()
    assert "quarantine" not in stream.getvalue()


ODD = {
    "PatientWeight": ("DS", "70,5"),
    "PatientSize": ("DS", "unknown"),
    "PatientBirthDate": ("DA", "01.02.1950"),
    "StudyTime": ("TM", "25:99"),
    "PatientAge": ("AS", "61"),
    "AccessionNumber": ("SH", "ACC" * 20),
    "PatientName": ("PN", "A=B=C=D^E"),
}


def odd_study(folder: Path, values: dict[str, tuple[str, str]]) -> None:
    with hushed():
        for path in sorted((folder / "images").iterdir()):
            image = read_file(path, Limits())
            for keyword, (vr, value) in values.items():
                image.add(DataElement(Tag(keyword), vr, value, already_converted=vr != "PN"))
            write(path, image)


@pytest.mark.parametrize(("segmentation", "report"), [
    ("binary", "comprehensive"), ("rtstruct", "comprehensive-3d"), ("labelmap", "basic-text"),
])  # fmt: skip
def test_values_that_their_vr_does_not_allow_come_back_in_every_result(
    *, tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, segmentation: str, report: str
) -> None:
    odd_study(source, ODD)
    wished = {"name": "all", "ae_title": "A", "host": "localhost", "port": 1}
    wished |= {"segmentation": segmentation, "report": report}
    tree = tree.model_copy(update={"destinations": (Destination.model_validate(wished),)})
    assert offline.infer_folder(
        tree, source, tmp_path / "out", model=None, destination="all", console=console(stream)
    ), stream.getvalue()
    found = sorted((tmp_path / "out").glob("*.dcm"))
    assert len(found) >= 4
    for path in found:
        result = read_part10_raw(path.read_bytes(), Limits())
        assert {one: result.get_item(one).value.decode().strip() for one in ODD} == {
            one: value for one, (_, value) in ODD.items()
        }


@pytest.mark.parametrize("fails", [False, True])
def test_the_document_of_a_refusal_has_the_odd_values_too(
    *, tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    odd_study(source, ODD)
    for path in sorted((source / "images").iterdir())[2:]:
        path.unlink()
    if fails:
        monkeypatch.setattr("dicomnode.deidentification.vault._name", lambda value: {"Alphabetic": value[:5]})
    wished = {"name": "all", "ae_title": "A", "host": "localhost", "port": 1, "not_processed": True}
    tree = tree.model_copy(update={"destinations": (Destination.model_validate(wished),)})
    assert offline.infer_folder(tree, source, tmp_path / "out", model=None, destination="all", console=console(stream))
    (study,) = outcome(tmp_path / "out")["studies"]
    assert study["reason"] == "geometry-too-few-slices"
    found = list((tmp_path / "out").glob("*.dcm"))
    assert len(found) == (0 if fails else 1)
    for path in found:
        result = read_part10_raw(path.read_bytes(), Limits())
        assert result.get_item("PatientWeight").value.decode().strip() == "70,5"
        assert result.get_item("PatientName").value.decode().strip() == "A=B=C=D^E"


def test_an_identity_that_does_not_come_back_is_the_matter_of_the_source(
    *, tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicomnode.deidentification.vault._name", lambda value: {"Alphabetic": value[:5]})
    odd_study(source, ODD)
    assert offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    (study,) = outcome(tmp_path / "out")["studies"]
    assert (study["reason"], study["facts"]) == ("identity-unwritable", {"attribute": "PatientName"})


def test_of_several_studies_each_is_named_as_its_results_are(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    (source / "lone").mkdir()
    for number in (1, 2):
        image = deepcopy(tiny_series()[0])
        image.StudyInstanceUID = f"1.2.3.{number}"
        write(source / "lone" / f"[{number}].dcm", image)
    offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    studies = outcome(tmp_path / "out")["studies"]
    names = [study["study"][:8] for study in studies]
    assert len(set(names)) == 3
    said = stream.getvalue()
    for number, name in enumerate(names, start=1):
        assert said.count(f"Study {number} of 3, {name}: ") == 1
    assert "the first lone/[2].dcm" in said
    lines = [line for line in said.splitlines() if line.startswith("stand-in ")]
    assert [line.split(",")[0] for line in lines] == [f"stand-in study {number} of 3" for number in (1, 2, 3)]
    (whole,) = [study for study in studies if study["reason"] is None]
    assert any(f"results, {whole['study'][:8]}-*, in " in line for line in lines)
    assert all(file.startswith(f"{whole['study'][:8]}-") for file in whole["files"])
    for secret in ("1.2.3.1", "Phantom", str(tiny_series()[0].StudyInstanceUID), str(tiny_series()[0].PatientID)):
        assert secret not in said


@pytest.mark.parametrize("claimed", [40_000, 65_535])
def test_headers_that_claim_more_than_there_is_cost_no_other_study_its_results(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, claimed: int
) -> None:
    (source / "liar").mkdir()
    for number, image in enumerate(deepcopy(tiny_series())):
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.1", "1.2.3.1.1"
        image.SOPInstanceUID, image.Rows, image.Columns = f"1.2.3.1.1.{number}", claimed, claimed
        write(source / "liar" / f"{number}.dcm", image)
    offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    found = {study["reason"]: study for study in outcome(tmp_path / "out")["studies"]}
    assert found.keys() == {None, "memory-too-large"}
    assert found["memory-too-large"]["facts"]["needed"] > claimed**2
    assert len(found[None]["files"]) == 5


def test_a_fault_over_one_study_costs_no_other_its_results(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "other").mkdir()
    for number, image in enumerate(deepcopy(tiny_series())):
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.1", "1.2.3.1.1"
        image.SOPInstanceUID = f"1.2.3.1.1.{number}"
        write(source / "other" / f"{number}.dcm", image)
    analyse, calls = Analyst.analyse, iter((True, False))

    def fails_once(self: Analyst, *arguments: Any, **more: Any) -> Any:
        if next(calls):
            raise ZeroDivisionError("Phantom^Chest")
        return analyse(self, *arguments, **more)

    monkeypatch.setattr(Analyst, "analyse", fails_once)
    offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    found = {study["reason"]: study for study in outcome(tmp_path / "out")["studies"]}
    assert found.keys() == {None, "internal"}
    assert found["internal"]["facts"] == {"kind": "ZeroDivisionError"}
    assert len(found[None]["files"]) == 5
    assert "Phantom" not in stream.getvalue()


def test_one_study_alone_needs_no_number(tree: Config, source: Path, tmp_path: Path, stream: io.StringIO) -> None:
    offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    assert " of 1" not in stream.getvalue()
    assert f"results, {outcome(tmp_path / 'out')['studies'][0]['study'][:8]}-*, in " in stream.getvalue()


def test_two_patients_in_one_study_are_refused(tree: Config, source: Path, tmp_path: Path, stream: io.StringIO) -> None:
    image = deepcopy(tiny_series()[3])
    image.PatientID = "OTHER"
    (source / "images" / "03.dcm").write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    assert outcome(tmp_path / "out")["studies"][0]["reason"] == "patient-mismatch"


def test_two_patients_without_ids_in_one_study_are_refused(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    for index, image in enumerate(tiny_series(patient_id="")):
        image.PatientName = "Beta^Bob" if index == 3 else "Alpha^Anna"
        write(source / "images" / f"{index:02}.dcm", image)
    offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    assert outcome(tmp_path / "out")["studies"][0]["reason"] == "patient-mismatch"


def test_studies_that_share_instance_uids_keep_their_own_files(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    (source / "other").mkdir()
    for index, image in enumerate(tiny_series()):
        image.PatientID, image.PatientName = "B-2", "Beta^Bob"
        image.StudyInstanceUID, image.SeriesInstanceUID = "1.2.3.4.5", "1.2.3.4.5.6"
        write(source / "other" / f"{index:02}.dcm", image)
    offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    first = tiny_series()[0]
    record = outcome(tmp_path / "out")
    assert record["unreadable"] == {"notes.txt": "object-malformed"}
    patients = []
    for study in record["studies"]:
        results = [read_file(tmp_path / "out" / name, Limits()) for name in study["files"] if name.endswith(".dcm")]
        assert len(results) == 4
        (patient,) = {(str(one.PatientID), str(one.PatientName), str(one.StudyInstanceUID)) for one in results}
        patients.append(patient)
    mine = (str(first.PatientID), str(first.PatientName), str(first.StudyInstanceUID))
    assert sorted(patients) == sorted([mine, ("B-2", "Beta^Bob", "1.2.3.4.5")])


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientID", "OTHER"),
        ("StudyInstanceUID", "1.2.3"),
        ("SeriesInstanceUID", "1.2.3"),
        ("SOPInstanceUID", "1.2.3"),
    ],
)
def test_a_file_that_became_another_object_gives_no_result(
    *, tree: Config, source: Path, tmp_path: Path, keyword: str, value: str
) -> None:
    paths = sorted((source / "images").iterdir())
    (tmp_path / "out").mkdir()
    with Workbench(tree, {}, None) as bench:
        for path in paths:
            bench.add(path)
        (files,) = bench.studies()
        image = tiny_series()[3]
        setattr(image, keyword, value)
        write(paths[3], image)
        changed = bench.run(files, "stand-in", tmp_path / "out", lambda _: None)
        paths[3].unlink()
        gone = bench.run(files, "stand-in", tmp_path / "out", lambda _: None)
    assert (changed.reason, changed.facts) == ("result-identity-differs", {"attribute": keyword})
    assert gone.reason == "object-malformed"
    assert list((tmp_path / "out").iterdir()) == []


def other_name(image: Dataset) -> None:
    image.PatientName = "Beta^Bob"


def other_pixels(image: Dataset) -> None:
    image.PixelData = bytes(len(image.PixelData))


def no_pixels(image: Dataset) -> None:
    image.PixelData = b""


@pytest.mark.parametrize("change", [other_name, other_pixels, no_pixels])
def test_the_same_uid_with_other_content_is_left_out_and_told(
    *, tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, change: Callable[[Dataset], None]
) -> None:
    offline.infer_folder(tree, source, tmp_path / "alone", model=None, console=console(stream))
    image = tiny_series()[3]
    change(image)
    write(source / "images" / "again.dcm", image)
    offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))
    assert outcome(tmp_path / "out")["unreadable"] == {
        "images/again.dcm": "same-uid-other-content",
        "notes.txt": "object-malformed",
    }
    assert "1 file(s) left out same-uid-other-content" in stream.getvalue()
    results = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*.dcm")} for name in ("alone", "out")]
    assert len(results[0]) == 4
    assert results[0] == results[1]


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_the_same_content_again_is_a_duplicate(tree: Config, source: Path, syntax: str) -> None:
    again = source / "images" / "again.dcm"
    again.write_bytes(encode_part10(tiny_series()[3], transfer_syntax_uid=syntax))
    with Workbench(tree, {}, None) as bench:
        for path in sorted((source / "images").iterdir()):
            bench.add(path)
        (files,) = bench.studies()
    assert len(files.headers) == len(files.paths) == len(tiny_series())
    assert again not in files.paths.values()


def test_what_cannot_be_compared_is_not_the_same(tree: Config, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise TypeError

    monkeypatch.setattr("dicomnode.service.offline.compare", fails)
    image = tiny_series()[0]
    other_name(image)
    write(source / "again.dcm", image)
    with Workbench(tree, {}, None) as bench:
        bench.add(source / "images" / "00.dcm")
        with pytest.raises(StudyError, match="same-uid-other-content"):
            bench.add(source / "again.dcm")


def test_a_source_whose_name_no_file_can_have_is_not_there(tree: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="source-not-found"):
        offline.find_files(tmp_path / ("x" * 300), [])


def test_a_folder_without_any_study_is_told(tree: Config, tmp_path: Path, stream: io.StringIO) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(ConfigError, match="source-not-found"):
        offline.infer_folder(tree, tmp_path / "source", tmp_path / "out", model=None, console=console(stream))
    (tmp_path / "source" / "notes.txt").write_text("no DICOM")
    with pytest.raises(ConfigError, match="source-unreadable"):
        offline.infer_folder(tree, tmp_path / "source", tmp_path / "out", model=None, console=console(stream))


def test_a_model_that_is_not_installed_is_told(tree: Config, source: Path, tmp_path: Path, stream: io.StringIO) -> None:
    with pytest.raises(ModelError, match="model-not-found"):
        offline.infer_folder(tree, source, tmp_path / "out", model="none", console=console(stream))


def test_results_that_cannot_be_written_are_told(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = Path.replace

    def fails(path: Path, target: Path) -> Path:
        if path.parent == tmp_path / "out":
            raise OSError
        return placed(path, target)

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(ConfigError, match="output-failed"):
        offline.infer_folder(tree, source, tmp_path / "out", model=None, console=console(stream))


def test_an_object_without_its_series_cannot_be_worked_on(tree: Config, tmp_path: Path) -> None:
    image = tiny_series()[0]
    del image.SeriesInstanceUID
    path = tmp_path / "image.dcm"
    path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    with Workbench(tree, {}, None) as bench:
        with pytest.raises(NodeError, match="object-without-uids"):
            bench.add(path)
        assert bench.studies() == []
        assert bench.models == ("stand-in",)


@pytest.mark.parametrize("policy", ["ai", "export"])
def test_a_folder_is_deidentified_with_its_map(
    *, tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, policy: str
) -> None:
    output, mapping = tmp_path / "out", tmp_path / "map.json"
    offline.deidentify_folder(tree, source, output, policy=policy, map_file=mapping, console=console(stream))
    names = json.loads(mapping.read_text("utf-8"))
    assert len(names) == len(tiny_series())
    assert set(names) == {f"images/{index:02}.dcm" for index in range(len(names))}
    assert json.loads(output.with_name(f"{output.name}.withheld.json").read_text("utf-8")) == {
        "notes.txt": "object-malformed"
    }
    for name in names.values():
        found = read_file(output / name, Limits())
        assert found.PatientIdentityRemoved == "YES"
        assert "Phantom" not in str(found.PatientName)
    assert "1 withheld object-malformed" in stream.getvalue()


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize(("default", "told"), [("", True), ("HOSP", False)])
def test_a_study_of_several_issuers_is_told_and_one_with_the_default_is_none(
    *, tree: Config, tmp_path: Path, stream: io.StringIO, default: str, told: bool, syntax: str
) -> None:
    for number, (image, issuer) in enumerate(zip(tiny_series(), ("HOSP", " ", None, "HOSP "), strict=False)):
        if issuer is not None:
            image.IssuerOfPatientID = issuer
        elif "IssuerOfPatientID" in image:
            del image.IssuerOfPatientID
        path = tmp_path / "in" / f"{number}.dcm"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_part10(image, transfer_syntax_uid=syntax))
    settings = tree.deidentification.model_copy(update={"default_issuer": default})
    house = tree.model_copy(update={"deidentification": settings})
    output = tmp_path / "out"
    offline.deidentify_folder(house, path.parent, output, policy="ai", map_file=None, console=console(stream))
    patients = {(str(ds.PatientID), ds.StudyDate) for ds in map(pydicom.dcmread, output.iterdir())}
    assert len(patients) == (2 if told else 1)
    assert ("1 studies are of several patients" in stream.getvalue()) is told


@pytest.mark.parametrize("count", [1, 2])
def test_a_study_of_several_universal_issuers_is_told(
    *, tree: Config, tmp_path: Path, stream: io.StringIO, count: int
) -> None:
    (tmp_path / "in").mkdir()
    for number, image in enumerate(tiny_series()):
        item = Dataset()
        item.UniversalEntityID, item.UniversalEntityIDType = f"1.2.3.{number % count}", "ISO"
        image.IssuerOfPatientIDQualifiersSequence = [item]
        write(tmp_path / "in" / f"{number}.dcm", image)
    output = tmp_path / "out"
    offline.deidentify_folder(tree, tmp_path / "in", output, policy="ai", map_file=None, console=console(stream))
    patients = {(str(ds.PatientID), ds.StudyDate) for ds in map(pydicom.dcmread, output.iterdir())}
    assert len(patients) == count
    assert ("1 studies are of several patients" in stream.getvalue()) is (count == 2)


@pytest.mark.parametrize("change", [other_name, other_pixels])
def test_no_output_stands_for_two_contents(
    *, tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, change: Callable[[Dataset], None]
) -> None:
    first = source / "images" / "00.dcm"
    (source / "images" / "twin.dcm").write_bytes(first.read_bytes())
    image = tiny_series()[0]
    change(image)
    write(source / "images" / "other.dcm", image)
    output, mapping = tmp_path / "out", tmp_path / "map.json"
    offline.deidentify_folder(tree, source, output, policy="ai", map_file=mapping, console=console(stream))
    names = json.loads(mapping.read_text("utf-8"))
    count = len(tiny_series())
    assert json.loads(output.with_name(f"{output.name}.withheld.json").read_text("utf-8")) == {
        "notes.txt": "object-malformed"
    }
    assert f"{count + 2} of {count + 3} files" in stream.getvalue()
    assert names["images/twin.dcm"] == names["images/00.dcm"]
    assert names["images/other.dcm"] == names["images/00.dcm"].replace(".dcm", "-2.dcm")
    assert len(set(names.values())) == count + 1 == len(list(output.glob("*.dcm")))
    kept = read_file(output / names["images/00.dcm"], Limits())
    assert kept.PixelData == tiny_series()[0].PixelData


def test_deidentified_files_never_mix_with_what_was_there(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.dcm").write_bytes(b"")
    for output in (tmp_path / "out", source / "notes.txt"):
        with pytest.raises(ConfigError, match="output-not-empty"):
            offline.deidentify_folder(tree, source, output, policy="ai", map_file=None, console=console(stream))


def test_a_policy_that_there_is_none_of_is_told(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    with pytest.raises(ConfigError, match="config-invalid"):
        offline.deidentify_folder(tree, source, tmp_path / "out", policy="none", map_file=None, console=console(stream))


def test_a_disk_that_is_full_leaves_whole_objects_alone_and_says_which(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, mapping = tmp_path / "out", tmp_path / "map.json"
    write, free = files.write_all, iter([True, True, False])

    def until_full(descriptor: int, data: Buffer) -> None:
        ours = Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(output)
        if not ours or next(free):
            write(descriptor, data)
        else:
            write(descriptor, memoryview(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", until_full)
        for name in ("write_json", "write_map"):
            patch.setattr(offline, name, lambda path, data: path.write_text(json.dumps(data)))
        with pytest.raises(ConfigError) as caught:
            offline.deidentify_folder(tree, source, output, policy="ai", map_file=mapping, console=console(stream))
    assert caught.value.code == "output-failed"
    names = json.loads(mapping.read_text("utf-8"))
    assert sorted(names.values()) == sorted(path.name for path in output.iterdir())
    assert len(names) == 2
    for name in names.values():
        assert read_file(output / name, Limits()).PixelData
    assert output.with_name("out.withheld.json").exists()


@pytest.mark.parametrize("code", ["object-too-complex", "map-unwritable"])
def test_brackets_of_an_advice_are_shown(code: str, stream: io.StringIO) -> None:
    console(stream).print(what_and_what_to_do(code), soft_wrap=True)
    console(stream).print(what(code), soft_wrap=True)
    advised, said = stream.getvalue().splitlines()
    assert advised == f"{REASONS[code].text}; {REASONS[code].advice}"
    assert said == REASONS[code].text
    assert "[" in REASONS["object-too-complex"].advice


def test_a_list_of_what_is_withheld_that_cannot_be_written_is_told_before_any_work(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    output = tmp_path / ("o" * 245)
    with pytest.raises(NodeError, match="output-failed"):
        offline.deidentify_folder(tree, source, output, policy="ai", map_file=None, console=console(stream))
    assert list(output.iterdir()) == []
    assert not (tmp_path / "state").exists()


def test_one_file_is_a_source_too(tree: Config, source: Path, tmp_path: Path, stream: io.StringIO) -> None:
    path = source / "images" / "00.dcm"
    assert offline.find_files(path, []) == [path]
    assert offline.base_of(path) == source / "images"
    offline.deidentify_folder(
        tree, path, tmp_path / "out", policy="ai", map_file=tmp_path / "m.json", console=console(stream)
    )
    assert list(json.loads((tmp_path / "m.json").read_text("utf-8"))) == ["00.dcm"]


def test_what_earlier_runs_left_is_no_source(source: Path) -> None:
    assert "_outcome.json" not in {path.name for path in offline.find_files(source, [])}


def test_json_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="output-failed"):
        outputs.write_json(tmp_path / "none" / "x.json", {})


@pytest.mark.parametrize("name", ["missing/map.json", "file/map.json", "", "source", "m" * 300])
def test_a_map_that_cannot_be_written_is_said_before_any_work(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, name: str
) -> None:
    (tmp_path / "file").write_text("mine")
    output = tmp_path / "out"
    with pytest.raises(ConfigError) as caught:
        offline.deidentify_folder(tree, source, output, policy="ai", map_file=tmp_path / name, console=console(stream))
    assert caught.value.code == "map-unwritable"
    assert not output.exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("name", ["source/{first}", "key", "out.withheld.json"])
def test_a_map_takes_the_place_of_no_other_file(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, name: str
) -> None:
    (tmp_path / "key").write_text("ab" * 32)
    name = name.format(first="images/00.dcm")
    there = tmp_path / name
    before = there.read_bytes() if there.exists() else None
    with pytest.raises(ConfigError) as caught:
        offline.deidentify_folder(tree, source, tmp_path / "out", policy="ai", map_file=there, console=console(stream))
    assert caught.value.code == "map-unwritable"
    assert (there.read_bytes() if there.exists() else None) == before
    assert not (tmp_path / "out").exists()


def test_a_map_without_the_right_to_write_it_is_said_before_any_work(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: False)
    with pytest.raises(ConfigError, match="map-unwritable"):
        offline.deidentify_folder(
            tree, source, tmp_path / "out", policy="ai", map_file=tmp_path / "map.json", console=console(stream)
        )
    assert not (tmp_path / "out").exists()


def test_a_map_may_take_the_place_of_an_older_one(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO
) -> None:
    older = tmp_path / "map.json"
    older.write_text('{"old.dcm": "1.2.dcm"}')
    offline.deidentify_folder(tree, source, tmp_path / "out", policy="ai", map_file=older, console=console(stream))
    assert json.loads(older.read_text("utf-8"))


@pytest.mark.parametrize("name", ["out/map.json", "out/deeper/map.json", "out"])
def test_a_map_does_not_leave_with_the_output(
    tree: Config, source: Path, tmp_path: Path, stream: io.StringIO, name: str
) -> None:
    """It holds the names of the source's files, and these may be a patient's."""
    output = tmp_path / "out"
    with pytest.raises(ConfigError, match="map-in-output"):
        offline.deidentify_folder(tree, source, output, policy="ai", map_file=tmp_path / name, console=console(stream))
    assert not output.exists()
