"""Folders with heads: series are known as wholes before a face may leave, whatever order their files have."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from rich.console import Console

from dicomnode.cli import offline
from dicomnode.config import Config, ConfigErrors, parse
from dicomnode.encoded import encode_part10
from dicomnode.service.policies import policy_of
from tests.head_phantom import Scan
from tests.unit.workflow.samples import EXPLICIT

STUDY = "1.2.826.0.1.3680043.99.7"


@pytest.fixture(scope="module")
def head() -> list[Dataset]:
    return Scan().series()


def tree_with(tmp_path: Path, faces: str | None) -> Config:
    export = {} if faces is None else {"faces": faces}
    return Config.model_validate({
        "node": {"state": tmp_path / "state"}, "intake": {"minimum_free_bytes": 0}, "deidentification": {"export": export},
    })  # fmt: skip


def write(folder: Path, images: list[Dataset], **attributes: Any) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        one = copy.deepcopy(image)
        for keyword, value in attributes.items():
            setattr(one, keyword, value)
        (folder / f"{number:03}.dcm").write_bytes(encode_part10(one, transfer_syntax_uid=EXPLICIT))


def run(tree: Config, source: Path, output: Path) -> tuple[dict[str, str], dict[str, str], str]:
    """What became of which file, what was withheld, and what was printed."""
    stream = io.StringIO()
    mapping = output.parent / f"{output.name}.json"
    console = Console(file=stream, width=300, highlight=False)
    offline.deidentify_folder(tree, source, output, policy="export", map_file=mapping, console=console)
    return (
        json.loads(mapping.read_text()),
        json.loads(output.with_name(f"{output.name}.withheld.json").read_text()),
        stream.getvalue(),
    )


def other_series(images: list[Dataset], number: int, **attributes: Any) -> list[Dataset]:
    found = copy.deepcopy(images)
    for index, ds in enumerate(found):
        ds.SeriesInstanceUID, ds.SOPInstanceUID = f"{STUDY}.{number}", f"{STUDY}.{number}.{index}"
        for keyword, value in attributes.items():
            setattr(ds, keyword, value)
    return found


def contours() -> Dataset:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", f"{STUDY}.8.1"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = STUDY, f"{STUDY}.8", "RTSTRUCT"
    ds.PatientID, ds.PatientName, ds.StructureSetLabel = "MRN-5512", "Nobody^Ada", "BODY"
    ds.StructureSetROISequence = Sequence([])
    return ds


def test_a_folder_is_defaced_series_by_series(head: list[Dataset], tmp_path: Path) -> None:
    source = tmp_path / "in"
    write(source / "head", head)
    # a slice that says it is of a knee is still one of this series
    odd = pydicom.dcmread(source / "head" / "030.dcm")
    odd.BodyPartExamined = "KNEE"
    odd.save_as(source / "head" / "030.dcm")
    write(source / "scout", other_series(head[:1], 4, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    write(source / "chest", other_series(head[:3], 5, BodyPartExamined="CHEST"))
    write(source / "unsaid", other_series(head[:3], 6, BodyPartExamined=""))
    write(source / "pet", other_series(head[:3], 7, Modality="PT", SOPClassUID="1.2.840.10008.5.1.4.1.1.128"))
    write(source / "contours", [contours()])
    (source / "noise").write_bytes(bytes(range(256)) * 4)
    tree = tree_with(tmp_path, "deface")
    mapping, withheld, said = run(tree, source, tmp_path / "one")
    assert {name.split("/")[0] for name in mapping} == {"head", "chest"}
    assert len(mapping) == len(head) + 3
    assert withheld == {
        "scout/000.dcm": "withheld-face", **{f"unsaid/00{n}.dcm": "withheld-face-unsaid" for n in range(3)},
        **{f"pet/00{n}.dcm": "withheld-face" for n in range(3)}, "contours/000.dcm": "withheld-face",
        "noise": withheld["noise"],
    }  # fmt: skip
    assert f"{len(head)} without their faces" in said
    changed = 0
    for name, target in mapping.items():
        done = pydicom.dcmread(tmp_path / "one" / target)
        original = pydicom.dcmread(source / name)
        codes = [item.CodeValue for item in done.DeidentificationMethodCodeSequence]
        assert ("113102" in codes) == name.startswith("head/") == (done.get("RecognizableVisualFeatures") == "NO")
        differ = np.frombuffer(done.PixelData, "<u2") != np.frombuffer(original.PixelData, "<u2")
        assert name.startswith("head/") or not differ.any()
        changed += bool(differ.any())
    assert changed > len(head) / 3
    again, _, _ = run(tree, source, tmp_path / "two")
    assert {target: (tmp_path / "one" / target).read_bytes() for target in mapping.values()} == {
        target: (tmp_path / "two" / target).read_bytes() for target in again.values()
    }


def test_a_later_part_of_a_series_does_not_escape(head: list[Dataset], tmp_path: Path) -> None:
    tree = tree_with(tmp_path, "deface")
    for name, images in (("one", head[20:21]), ("half", head[:24])):
        write(tmp_path / name, images)
        mapping, withheld, _ = run(tree, tmp_path / name, tmp_path / f"{name}-out")
        assert mapping == {}
        assert set(withheld.values()) <= {"withheld-face-geometry", "withheld-face-not-found"}
        assert len(withheld) == len(images)


@pytest.mark.parametrize("faces", ["deface", "withhold"])
def test_bytes_behind_a_slice_let_no_face_out(head: list[Dataset], tmp_path: Path, faces: str) -> None:
    tree = tree_with(tmp_path, faces)
    write(tmp_path / "in", head)
    mapping, withheld, _ = run(tree, tmp_path / "in", tmp_path / "one")
    for path in (tmp_path / "in").iterdir():
        path.write_bytes(path.read_bytes() + b"Vandersloot" * 3)
    assert run(tree, tmp_path / "in", tmp_path / "two")[:2] == (mapping, withheld)
    for target in mapping.values():
        assert (tmp_path / "one" / target).read_bytes() == (tmp_path / "two" / target).read_bytes()


def test_withheld_flagged_and_passed(head: list[Dataset], tmp_path: Path) -> None:
    source = tmp_path / "in"
    write(source / "head", [*head[:2], other_series(head[:1], 3, BodyPartExamined="KNEE", InstanceNumber="900")[0]])
    third = pydicom.dcmread(source / "head" / "002.dcm")
    third.SeriesInstanceUID = head[0].SeriesInstanceUID
    third.save_as(source / "head" / "002.dcm")
    write(source / "chest", other_series(head[:1], 5, BodyPartExamined="CHEST"))
    mapping, withheld, _ = run(tree_with(tmp_path, "withhold"), source, tmp_path / "withheld")
    assert set(mapping) == {"chest/000.dcm"}
    assert set(withheld.values()) == {"withheld-face"}
    mapping, withheld, said = run(tree_with(tmp_path, None), source, tmp_path / "flagged")
    assert withheld == {}
    assert "2 show a head" in said
    assert '"deface" in [deidentification.export]' in said
    _, withheld, said = run(tree_with(tmp_path, "pass"), source, tmp_path / "passed")
    assert withheld == {}
    assert "head" not in said


def test_settings() -> None:
    assert policy_of(parse({}), "export").faces == "flag"
    assert policy_of(parse({}), "ai").faces == "pass"
    assert policy_of(parse({"deidentification": {"export": {"faces": "deface"}}}), "export").faces == "deface"
    with pytest.raises(ConfigErrors) as caught:
        parse({"deidentification": {"ai": {"faces": "deface"}}})
    assert "a network sees the pixels" in str(caught.value.problems)


def test_one_file_is_explained_though_alone_it_is_withheld(head: list[Dataset], tmp_path: Path) -> None:
    write(tmp_path / "in", head[20:21])
    stream = io.StringIO()
    console = Console(file=stream, width=300, highlight=False)
    offline.explain(tree_with(tmp_path, "deface"), tmp_path / "in" / "000.dcm", policy="export", console=console)
    assert "PatientName" in stream.getvalue()
    assert "withheld withheld-face" in stream.getvalue().splitlines()[-1]
