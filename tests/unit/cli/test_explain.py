"""`dicomnode deidentify --explain`: every attribute has its rule, no value is printed."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pydicom
import pytest
from rich.console import Console

from dicomnode.cli import offline
from dicomnode.config import Config
from dicomnode.deidentification import apply
from dicomnode.deidentification.identifiers import Identifiers
from dicomnode.deidentification.reader import Picture, Text
from dicomnode.deidentification.treat import Treater
from dicomnode.encoded import encode_part10
from dicomnode.errors import ConfigError, StudyError
from dicomnode.service import rooms
from tests.unit.network.samples import small_object
from tests.unit.workflow.samples import EXPLICIT, tiny_series


@pytest.fixture
def tree(tmp_path: Path) -> Config:
    return Config.model_validate({"node": {"state": tmp_path / "state"}, "intake": {"minimum_free_bytes": 0}})


def explained(tree: Config, path: Path, policy: str) -> str:
    stream = io.StringIO()
    offline.explain(tree, path, policy=policy, console=Console(file=stream, width=300, highlight=False))
    return stream.getvalue()


@pytest.mark.parametrize("policy", ["ai", "export"])
def test_every_attribute_has_its_rule_and_no_value(tree: Config, tmp_path: Path, policy: str) -> None:
    image = next(iter(tiny_series()))
    image.PatientName, image.PatientID = "Grünwald^Anna", "PID-4711"
    path = tmp_path / "image.dcm"
    path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    text = explained(tree, path, policy)
    for element in image:
        assert element.keyword in text
    assert "Grünwald" not in text
    assert "PID-4711" not in text
    assert "withheld" not in text
    assert "changed" in text.splitlines()[-1]


def test_the_settings_of_the_policy_are_told_first(tree: Config, tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(encode_part10(next(iter(tiny_series())), transfer_syntax_uid=EXPLICIT))
    site = Config.model_validate(
        {**tree.model_dump(), "deidentification": {"export": {"options": [], "highest_age": 80}}}
    )
    assert explained(site, path, "export").splitlines()[:8] == [
        "deidentification.export.options = []",
        'deidentification.export.faces = "flag"',
        'deidentification.export.text_in_pixels = "blank"',
        "deidentification.export.look_at_every_image = true",
        'deidentification.export.images_without_pixels = "withhold"',
        "deidentification.export.withhold_recognizable = true",
        'deidentification.export.on_leak = "withhold"',
        "deidentification.export.highest_age = 80",
    ]


def test_what_is_withheld_for_its_pixels_is_explained_all_the_same(tree: Config, tmp_path: Path) -> None:
    shot = small_object()
    shot.ConversionType = "SD"  # scanned paper
    shot.Rows = shot.Columns = 64
    shot.PixelData = bytes(range(64)) * 64
    path = tmp_path / "shot.dcm"
    path.write_bytes(encode_part10(shot, transfer_syntax_uid=EXPLICIT))
    lines = explained(tree, path, "export").splitlines()
    assert "PatientName" in "".join(lines)
    assert lines[-1].startswith("withheld withheld-pixels")


def test_a_header_alone_is_told_to_be_withheld(tree: Config, tmp_path: Path) -> None:
    image = next(iter(tiny_series()))
    del image.PixelData
    path = tmp_path / "header.dcm"
    path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    assert explained(tree, path, "ai").splitlines()[-1].startswith("withheld withheld-pixels")
    settings = tree.deidentification.model_copy(update={"images_without_pixels": "pass"})
    assert "withheld" not in explained(tree.model_copy(update={"deidentification": settings}), path, "ai")


def test_a_folder_is_not_explained(tree: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="source-not-found"):
        explained(tree, tmp_path, "ai")


def test_what_rules_for_devices_make_of_a_file_is_told(tree: Config, tmp_path: Path) -> None:
    image = next(iter(tiny_series()))
    image.ManufacturerModelName = "Rhapsode 7"
    path = tmp_path / "image.dcm"
    path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    rules = [
        {
            "name": "banner",
            "where": [{"attribute": "ManufacturerModelName", "matches": "^rhaps"}],
            "blank_fractions": [[0, 0, 1, 0.1]],
        },
        {"name": "other", "where": [{"attribute": "StationName", "one_of": ["X"]}], "withhold": True},
    ]
    site = Config.model_validate({**tree.model_dump(), "deidentification": {"devices": rules}})
    lines = explained(site, path, "ai").splitlines()
    assert lines[8:10] == [
        "deidentification.devices.banner: takes it: blanks 1 rectangle, the rest is looked at as ever",
        "deidentification.devices.other: does not take it (StationName)",
    ]
    assert any("changed" in line and "PixelData: site: devices banner" in line for line in lines)
    assert "Rhapsode" not in "\n".join(lines)


def test_a_file_that_was_cut_is_refused_as_it_is_without_an_explanation(tree: Config, tmp_path: Path) -> None:
    path = tmp_path / "cut.dcm"
    data = encode_part10(next(iter(tiny_series())), transfer_syntax_uid=EXPLICIT)
    path.write_bytes(data[: data.index(b"\x28\x00\x02\x00US")])
    with pytest.raises(StudyError) as caught:
        explained(tree, path, "ai")
    assert caught.value.code == "object-malformed"


def test_bytes_behind_the_data_set_are_not_explained(tree: Config, tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    data = encode_part10(next(iter(tiny_series())), transfer_syntax_uid=EXPLICIT)
    path.write_bytes(data)
    told = explained(tree, path, "ai")
    path.write_bytes(data + b"Vandersloot" * 3)
    assert explained(tree, path, "ai") == told


def _leaking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **values: object) -> Path:
    """A file of a patient whose name the walk does not know, and the leak check does."""
    unknown = Identifiers(names=frozenset(), codes=frozenset(), short=frozenset(), dates=frozenset())
    monkeypatch.setattr(apply, "Treater", lambda *known: Treater(*known[:3], unknown))
    image = next(iter(tiny_series()))
    image.PatientName, image.PatientID = "Avanto^Anna", "PID-4711"
    for keyword, value in values.items():
        setattr(image, keyword, value)
    path = tmp_path / "image.dcm"
    path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    return path


@pytest.mark.parametrize("policy", ["ai", "export"])
def test_what_the_leak_check_holds_back_is_explained(
    tree: Config, tmp_path: Path, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By attribute and kind, never the value."""
    path = _leaking(tmp_path, monkeypatch, SoftwareVersions="syngo Avanto")
    lines = explained(tree, path, policy).splitlines()
    assert "leak check: name in (0018,1020) SoftwareVersions" in lines
    told = next(line for line in lines if line.startswith("(0018,1020)"))
    assert told.endswith("; leak check: name stands here")
    assert "leak check" not in next(line for line in lines if line.startswith("(0028,0010)"))
    withheld = lines[-1].startswith("withheld withheld-leak")
    assert withheld is (policy == "export")
    assert not any("avanto" in line.casefold() for line in lines)


def test_leaks_of_bytes_alone_are_told_by_the_attribute_whose_bytes_they_are(
    tree: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Config.model_validate(
        {**tree.model_dump(), "deidentification": {"export": {"keep": ['(0019,"ACME 1.0",10)']}}}
    )
    path = _leaking(tmp_path, monkeypatch)
    image = pydicom.dcmread(path)
    image.add_new(0x00190010, "LO", "ACME 1.0")
    image.add_new(0x00191010, "FD", struct.unpack("<d", b"x avanto")[0])
    monkeypatch.setattr("dicomnode.deidentification.treat.holds_text", lambda *_: False)
    path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    lines = explained(site, path, "export").splitlines()
    assert "leak check: name in (0019,1010) private" in lines


class Reads:
    """A reader that finds one text, once."""

    def __init__(self) -> None:
        self._left = [Text(box=(4, 4, 40, 12), says="DOE 51", score=0.9)]

    def read(self, picture: Picture) -> list[Text]:
        return [self._left.pop()] if self._left else []


def test_who_reads_the_pixels_is_told(tree: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shot = small_object()
    shot.ConversionType = "WSD"
    shot.Rows = shot.Columns = 64
    shot.PixelData = bytes(range(64)) * 64
    path = tmp_path / "shot.dcm"
    path.write_bytes(encode_part10(shot, transfer_syntax_uid=EXPLICIT))
    monkeypatch.setattr(rooms, "installed_reader", Reads)
    told = next(line for line in explained(tree, path, "export").splitlines() if "PixelData" in line)
    assert "changed" in told
    assert told.endswith("PixelData: pixels: text is read (kind)")
    monkeypatch.setattr(rooms, "installed_reader", lambda: None)
    told = next(line for line in explained(tree, path, "export").splitlines() if "PixelData" in line)
    assert told.endswith("PixelData: pixels: withheld-pixels kind")
