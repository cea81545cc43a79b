from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from dicomnode import __version__
from dicomnode.config import Config
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.reader import Reader
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import ModelError, StudyError
from dicomnode.findings import Findings
from dicomnode.identity import SourceIdentity
from dicomnode.imaging.views import Planes
from dicomnode.imaging.volume import Volume
from dicomnode.inference import standin
from dicomnode.inference.engine import EngineInfo
from dicomnode.inference.segment import Seen, compute
from dicomnode.results import checks
from dicomnode.results.context import ResultContext
from dicomnode.results.encode import KeyImage, ResultInput
from dicomnode.sections import ResultsSection
from dicomnode.service.policies import policy_of
from dicomnode.study import ResultRole
from dicomnode.texts import Words
from dicomnode.workflow import analysis as module
from dicomnode.workflow.analysis import (
    Analysis,
    Analyst,
    Issue,
    contours_of,
)
from dicomnode.workflow.copying import Copier
from dicomnode.workflow.packed import pack_labels, pack_voxels, unpack_labels
from dicomnode.workflow.picture import picture_of, texts_of
from tests.unit.deidentification.pictures import Silent
from tests.unit.workflow.samples import EXPLICIT, KEY, tiny_series

ISSUED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def deidentifier(tree: Config | None = None, reader: Reader | None = None) -> Deidentifier:
    pseudonyms = Pseudonyms(KEY, project="tests", default_issuer="", maximum_date_shift_days=3650)
    return Deidentifier(policy_of(tree or Config(), "ai"), pseudonyms, reader=reader)


def analyst(
    tree: Config | None = None,
    engine: type[standin.StandInEngine] = standin.StandInEngine,
    reader: Reader | None = None,
) -> Analyst:
    package = standin.package()
    return Analyst(
        package,
        engine(package.manifest),
        deidentifier(tree, reader),
        tree=tree or Config(),
        derivation_key=KEY,
        issued_at=lambda key: ISSUED,
    )


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A series that was copied; to be copied before use."""

    copier: Copier
    datasets: tuple[Dataset, ...]
    identity: SourceIdentity


@pytest.fixture(scope="module")
def copied() -> Copied:
    """Pseudonymous copies of the tiny chest."""
    copier = Copier(deidentifier(), Limits())
    files = [copier.copy(encode_part10(image, transfer_syntax_uid=EXPLICIT)) for image in tiny_series()]
    return Copied(copier=copier, datasets=tuple(read_part10(one, Limits()) for one in files), identity=copier.identity)


@pytest.fixture(scope="module")
def analysis(copied: Copied) -> Analysis:
    """What the stand-in makes of it."""
    return analyst().analyse(deepcopy(copied.datasets)[::-1])


def test_a_series_is_copied_with_the_identity_that_it_lost(copied: Copied) -> None:
    sources = tiny_series()
    assert len(copied.datasets) == len(sources)
    assert {str(one.PatientName) for one in copied.datasets}.isdisjoint({str(sources[0].PatientName)})
    originals = set(copied.identity.uids.values())
    assert {str(one.SOPInstanceUID) for one in sources} <= originals
    for copy, source in zip(copied.datasets, sources, strict=True):
        assert copied.identity.uids[str(copy.SOPInstanceUID)] == str(source.SOPInstanceUID)
    assert "Phantom" not in repr(copied.copier) + repr(copied.identity)


def test_the_identity_is_what_the_bytes_say_and_not_what_a_library_makes_of_them() -> None:
    copier = Copier(deidentifier(), Limits())
    file = encode_part10(tiny_series()[0], transfer_syntax_uid=EXPLICIT)
    weight = b"\x10\x00\x20\x10DS\x06\x00"
    start = file.index(b"\x10\x00\x40\x00CS")  # Patient's Sex, after which size and weight come
    sex = start + 8 + file[start + 6]
    rest = file[sex:]
    for tag in (b"\x10\x00\x20\x10DS", b"\x10\x00\x30\x10DS"):
        if tag in rest:
            at = rest.index(tag)
            rest = rest[:at] + rest[at + 8 + rest[at + 6] :]
    copier.copy(file[:sex].replace(b"Phantom^Chest", b"Ph\xe4ntom^Chest") + weight + b"+70.50" + rest)
    assert copier.identity.attributes["00100010"]["Value"] == [{"Alphabetic": "Phäntom^Chest"}]
    assert copier.identity.attributes["00101020"]["Value"] == ["+70.50"]


def test_a_copy_is_what_the_full_way_makes_and_slices_after_the_first_go_the_quick_way(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [encode_part10(image, transfer_syntax_uid=EXPLICIT) for image in tiny_series()]
    full = [deidentifier().deidentify(read_part10(file, Limits())).dataset for file in files]
    monkeypatch.setattr(Deidentifier, "_deidentify", lambda *_: pytest.fail("the full way"))
    for file, expected in zip(files, full, strict=True):
        assert copied.copier.copy(file) == encode_part10(expected, transfer_syntax_uid=EXPLICIT)


def test_broken_pixels_are_told_as_broken_and_not_as_withheld() -> None:
    image = deepcopy(tiny_series()[0])
    image.PixelData = image.PixelData[:100]
    with pytest.raises(StudyError, match="pixel-missing"):
        Copier(deidentifier(), Limits()).copy(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    del image.PixelData
    with pytest.raises(StudyError, match="pixel-missing"):
        Copier(deidentifier(), Limits()).copy(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    image = deepcopy(tiny_series()[0])
    image.BurnedInAnnotation = "YES"
    with pytest.raises(StudyError, match="withheld-pixels"):
        Copier(deidentifier(), Limits()).copy(encode_part10(image, transfer_syntax_uid=EXPLICIT))


def test_a_series_without_images_is_none() -> None:
    with pytest.raises(StudyError, match="no-suitable-series"):
        assert Copier(deidentifier(), Limits()).identity


def test_the_lungs_are_found_and_measured_in_source_order(analysis: Analysis) -> None:
    assert set(np.unique(analysis.labels)) == {0, 1, 2}
    positions = [float(one.ImagePositionPatient[2]) for one in analysis.sources]
    assert positions == sorted(positions)
    assert all("PixelData" not in one for one in analysis.sources)
    assert analysis.labels.shape == analysis.volume.values.shape
    names = {item.concept.meaning for region in analysis.findings.regions for item in region.measurements}
    assert "Volume" in names
    assert analysis.findings.algorithm.engine == "stand-in fp32"


def test_labels_are_packed_while_they_are_counted(analysis: Analysis) -> None:
    assert analysis.packed == pack_labels(analysis.labels)


def test_what_was_sealed_recalls_the_same_analysis(analysis: Analysis, copied: Copied) -> None:
    recalled = analyst().recall(deepcopy(copied.datasets), pack_voxels(analysis.labels), analysis.findings.to_json())
    assert np.array_equal(recalled.labels, analysis.labels)
    assert np.array_equal(recalled.volume.values, analysis.volume.values)
    assert recalled.findings == analysis.findings == Findings.from_json(analysis.findings.to_json())
    assert [one.SOPInstanceUID for one in recalled.sources] == [one.SOPInstanceUID for one in analysis.sources]


@pytest.mark.parametrize("pack", [pack_labels, pack_voxels], ids=["cut", "as before"])
def test_labels_are_packed_small_and_unpack_to_themselves(analysis: Analysis, pack: Any) -> None:
    packed = pack(analysis.labels)
    assert len(packed) < analysis.labels.size / 4
    assert np.array_equal(unpack_labels(packed), analysis.labels)


@pytest.mark.parametrize("shape", [(4, 6, 8), (3, 5, 7), (1, 1, 1)])
@pytest.mark.parametrize(
    "corners", [[], [(0, 0, 0)], [(-1, -1, -1)], [(0, 0, -1), (-1, 0, 0)], [(0, -1, 0), (-1, 0, 0)]]
)
def test_whatever_lies_around_labels_comes_back(shape: tuple[int, ...], corners: list[tuple[int, int, int]]) -> None:
    labels = np.zeros(shape, np.uint8)
    for number, corner in enumerate(corners, start=1):
        labels[corner] = number
    found = unpack_labels(pack_labels(labels))
    assert found.dtype == np.uint8
    assert np.array_equal(found, labels)


def results(
    what: Analysis, copied: Copied, tree: Config | None = None, digest: str = "d" * 64
) -> dict[ResultRole, str]:
    picture = KeyImage(rgb=np.zeros((64, 64, 3), np.uint8), slices=(4,))
    made = analyst(tree).encode(what, picture, identity=copied.identity, input_digest=digest)
    return {one.role: f"{one.sop_instance_uid} {one.digest}" for one in made}


def test_equal_input_makes_equal_bytes_and_any_other_setting_other_uids(analysis: Analysis, copied: Copied) -> None:
    first = results(analysis, copied)
    assert set(first) == set(list(ResultRole)[:4])
    assert results(analysis, copied) == first
    other = Config.model_validate({"node": {"station_name": "OTHER"}})
    for changed in (results(analysis, copied, digest="e" * 64), results(analysis, copied, other)):
        for role, text in changed.items():
            assert text.split()[0] != first[role].split()[0]


def test_what_is_prepared_while_the_network_runs_ends_in_the_same_bytes(analysis: Analysis, copied: Copied) -> None:
    issue = Issue(identity=copied.identity, input_digest="d" * 64)
    prepared = analyst().analyse(deepcopy(copied.datasets)[::-1], issue=issue)
    assert prepared.prepared is not None
    assert prepared.prepared.result() is not None
    assert analysis.prepared is None
    assert results(prepared, copied) == results(analysis, copied)
    assert results(prepared, copied, digest="e" * 64) == results(analysis, copied, digest="e" * 64), "left aside"


def test_what_could_not_be_prepared_is_made_the_plain_way(
    analysis: Analysis, copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise StudyError("result-invalid", check="build")

    monkeypatch.setattr(module, "prepare_results", fails)
    issue = Issue(identity=copied.identity, input_digest="d" * 64)
    prepared = analyst().analyse(deepcopy(copied.datasets), issue=issue)
    assert results(prepared, copied) == results(analysis, copied)


def test_each_segment_has_its_outline_and_the_picture_its_slices(analysis: Analysis) -> None:
    outlines = contours_of(analysis)
    assert [one.segment for one in outlines] == [1, 2]
    for one in outlines:
        assert len(one.points) > 3
        assert (analysis.labels[one.slice_index] == one.segment).any()
    picture = picture_of(analysis, Words())
    assert picture.rgb.dtype == np.uint8
    assert 1 <= len(picture.slices) <= 3
    shown = Planes(analysis.volume, analysis.labels, axials=3)
    assert picture.slices == shown.source_slices
    assert all(analysis.labels[index].any() for index in picture.slices)
    algorithm = analysis.findings.algorithm
    assert texts_of(analysis, Words("de")).subtitle == f"Modell {algorithm.name} {algorithm.version}"
    assert texts_of(analysis, Words("de")).more.format(count=3) == "und 3 weitere"


def test_the_picture_has_the_window_of_its_images_where_no_lung_was_measured(analysis: Analysis) -> None:
    sources = deepcopy(analysis.sources)
    for one in sources:
        one.WindowCenter, one.WindowWidth = "-900", "200"
    own = replace(analysis, sources=sources)
    assert (picture_of(own, Words()).rgb == picture_of(analysis, Words()).rgb).all(), "the lung window"
    volumes = tuple(replace(one, measurements=one.measurements[:1]) for one in analysis.findings.regions)
    bare = replace(own, findings=replace(analysis.findings, regions=volumes))
    other = picture_of(bare, Words()).rgb
    for one in sources:
        one.WindowCenter = "-700"
    assert (picture_of(bare, Words()).rgb != other).any()


def test_a_study_in_which_nothing_is_found_says_so(copied: Copied) -> None:
    empty = deepcopy(copied.datasets)
    for one in empty:
        one.PixelData = np.full((one.Rows, one.Columns), 1024, "<u2").tobytes()
    with pytest.raises(StudyError, match="nothing-found"):
        analyst().analyse(empty)


def test_memory_that_cannot_be_had_is_told_so(copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dicomnode.imaging.gathering.Slices", none_left)
    with pytest.raises(StudyError, match="memory-too-large"):
        analyst().analyse(deepcopy(copied.datasets))


def test_a_closed_engine_fails_with_a_code(copied: Copied) -> None:
    closed = analyst()
    closed.close()
    with pytest.raises(ModelError, match="inference-failed"):
        closed.analyse(deepcopy(copied.datasets))
    with pytest.raises(ModelError, match="inference-failed"):
        closed.analyse(deepcopy(copied.datasets), issue=Issue(identity=copied.identity, input_digest="d" * 64))


def minted(what: Analysis, copied: Copied, patch: pytest.MonkeyPatch, changed: Analyst, digest: str) -> set[str]:
    """Every kind of UID that results get, without making them."""
    contexts: list[ResultContext] = []

    def remember(given: ResultInput, context: ResultContext, *_: object) -> tuple[()]:
        contexts.append(context)
        return ()

    patch.setattr(module, "encode_results", remember)
    picture = KeyImage(rgb=np.zeros((64, 64, 3), np.uint8), slices=(4,))
    changed.encode(what, picture, identity=copied.identity, input_digest=digest)
    (context,) = contexts
    objects = {uid for role in ResultRole for uid in (context.object_uid(role), context.series_uid(role))}
    return objects | {context.tracking_uid((1,)), context.tracking_uid((1, 2)), context.mint("any", "part")}


class Engine(standin.StandInEngine):
    """The stand-in under another name, version, precision or number of threads."""

    changes: Mapping[str, Any] = {}

    @property
    def info(self) -> EngineInfo:
        """Which engine."""
        return replace(super().info, **self.changes)


@pytest.mark.parametrize(
    "changes",
    [{"name": "other"}, {"version": "0.0.1"}, {"precision": "fp16"}, {"threads": 7}, {"note": "after another"}],
    ids=str,
)
def test_another_engine_mints_other_uids(
    analysis: Analysis, copied: Copied, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    def on_engine() -> set[str]:
        one = analyst(engine=Engine)
        what = replace(analysis, findings=replace(analysis.findings, algorithm=one.algorithm()))
        return minted(what, copied, monkeypatch, one, "d" * 64)

    first = on_engine()
    monkeypatch.setattr(Engine, "changes", changes)
    assert on_engine().isdisjoint(first)


def test_the_engine_that_computed_is_the_one_that_counts(
    analysis: Analysis, copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart the GPU may not be open yet: what it computed is still its own."""
    first = minted(analysis, copied, monkeypatch, analyst(engine=Engine), "d" * 64)
    monkeypatch.setattr(Engine, "changes", {"name": "other"})
    assert minted(analysis, copied, monkeypatch, analyst(engine=Engine), "d" * 64) == first


class Falling(Engine):
    """Another engine than the one that was asked computes."""

    def see(self, volume: Volume, progress: Callable[[float], None]) -> Seen:
        """Say so."""
        seen = compute(volume, standin.package().manifest, self, progress)
        return replace(seen, engine=replace(seen.engine, note="GPU failed: device-failed"))


def test_where_another_engine_took_over_the_result_says_so(copied: Copied) -> None:
    issue = Issue(identity=copied.identity, input_digest="d" * 64)
    plain = analyst(engine=Engine).analyse(deepcopy(copied.datasets), issue=issue)
    fallen = analyst(engine=Falling).analyse(deepcopy(copied.datasets), issue=issue)
    assert plain.findings.algorithm.engine == "stand-in fp32"
    assert fallen.findings.algorithm.engine == "stand-in fp32 (GPU failed: device-failed)"
    assert "GPU failed" in fallen.findings.algorithm.engine_fingerprint
    assert plain.prepared is not None
    assert fallen.prepared is None  # it was made under the name of the engine that was asked


def test_another_model_mints_other_uids(analysis: Analysis, copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    first = minted(analysis, copied, monkeypatch, analyst(), "d" * 64)
    algorithm = replace(analysis.findings.algorithm, digest="0" * 64)
    other = replace(analysis, findings=replace(analysis.findings, algorithm=algorithm))
    assert minted(other, copied, monkeypatch, analyst(), "d" * 64).isdisjoint(first)


def test_another_input_mints_other_uids(analysis: Analysis, copied: Copied, monkeypatch: pytest.MonkeyPatch) -> None:
    first = minted(analysis, copied, monkeypatch, analyst(), "d" * 64)
    assert len(first) == 2 * len(ResultRole) + 3
    assert minted(analysis, copied, monkeypatch, analyst(), "d" * 64) == first
    assert minted(analysis, copied, monkeypatch, analyst(), "e" * 64).isdisjoint(first)


@pytest.mark.parametrize(("name", "value"), [("__version__", "9.9.9"), ("_GENERATION", "other")])
def test_another_software_mints_other_uids(
    *, analysis: Analysis, copied: Copied, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    first = minted(analysis, copied, monkeypatch, analyst(), "d" * 64)
    monkeypatch.setattr(module, name, value)
    assert minted(analysis, copied, monkeypatch, analyst(), "d" * 64).isdisjoint(first)


@pytest.mark.parametrize(
    "settings",
    [
        {"node": {"station_name": "OTHER"}},
        {"node": {"institution_name": "Other"}},
        {"deidentification": {"text_in_pixels": "withhold"}},
        {"deidentification": {"ai": {"look_at_every_image": True}}},
        {
            "deidentification": {
                "devices": [{"name": "us", "where": [{"attribute": "Modality", "one_of": ["US"]}], "withhold": True}]
            }
        },
        *({"results": {name: "de" if name == "language" else 8000}} for name in ResultsSection.model_fields),
    ],
    ids=str,
)
def test_a_setting_that_changes_results_mints_other_uids(
    analysis: Analysis, copied: Copied, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    first = minted(analysis, copied, monkeypatch, analyst(), "d" * 64)
    tree = Config.model_validate(settings)
    assert minted(analysis, copied, monkeypatch, analyst(tree), "d" * 64).isdisjoint(first)


def test_a_setting_that_changes_no_result_mints_the_same_uids(
    analysis: Analysis, copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = minted(analysis, copied, monkeypatch, analyst(), "d" * 64)
    tree = Config.model_validate(
        {"listen": {"port": 11113}, "completion": {"quiet_seconds": 7}, "deidentification": {"ai": {}}}
    )
    assert minted(analysis, copied, monkeypatch, analyst(tree), "d" * 64) == first


def basis(deidentification: dict[str, Any], reader: Reader | None = None) -> str:
    """What UIDs of results are minted of, under settings of de-identification."""
    one = analyst(Config.model_validate({"deidentification": deidentification}), reader=reader)
    return one.source_of(one.algorithm(), "d" * 64, None)


def device(name: str = "us", **said: Any) -> dict[str, Any]:
    where = [{"attribute": "StationName", "one_of": ["US 7"]}, {"attribute": "ImageType", "one_of": ["PRIMARY"]}]
    return {"name": name, "where": where, **({} if said else {"withhold": True}), **said}


BANNER = {"rows": 64, "columns": 64, "blank": [[0, 0, 63, 9], [0, 60, 63, 63]]}


def test_the_usual_settings_mint_the_uids_that_they_ever_minted() -> None:
    one = analyst()
    algorithm, tree = one.algorithm(), Config()
    settings = tree.results.model_dump(mode="json")
    settings |= tree.node.model_dump(mode="json", include={"station_name", "institution_name"})
    parts = ["d" * 64, algorithm.digest, algorithm.engine_fingerprint, __version__, "5", settings, ""]
    usual = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    assert basis({}) == basis({}, Silent()) == usual


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"devices": [device(policies=["export"], withhold=True)]}),
        ({}, {"ai": {"look_at_every_image": False, "text_in_pixels": "blank", "faces": "pass", "highest_age": 0}}),
        ({}, {"export": {"faces": "withhold"}, "images_without_pixels": "pass"}),
        ({"text_in_pixels": "withhold"}, {"ai": {"text_in_pixels": "withhold"}}),
        ({"ai": {"keep": ["StationName", "StudyID"]}}, {"ai": {"keep": ["StudyID", "StationName"]}}),
        ({"devices": [device()]}, {"devices": [device("other", withhold=True, policies=["ai"], rest_is_clean=False)]}),
        ({"devices": [device(), device("b", **BANNER)]}, {"devices": [device("c", **BANNER), device()]}),
        (
            {"devices": [device(**BANNER)]},
            {"devices": [device(**{**BANNER, "blank": BANNER["blank"][::-1]}, where=device()["where"][::-1])]},
        ),
    ],
    ids=str,
)  # fmt: skip
def test_how_settings_are_written_mints_no_other_uids(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert basis(first) == basis(second)
    assert basis(first, Silent()) == basis(second, Silent())


def test_who_reads_where_the_site_vouches_for_images_decides_what_a_network_sees() -> None:
    vouched = {"devices": [device(**BANNER, rest_is_clean=True)]}
    some = [
        basis({}),
        basis(vouched),
        basis(vouched, Silent()),
        basis({"devices": [device(**BANNER)]}),
        basis({"devices": [device(**{**BANNER, "blank": [[0, 0, 9, 63], [0, 60, 63, 63]]})]}),
        basis({"ai": {"keep": ["StationName"]}}),
        basis({"ai": {"clean": ["StationName"]}}),
    ]
    assert len(set(some)) == len(some)
    assert basis({"devices": [device(**BANNER)]}, Silent()) == some[3]


def outlines_of(report: Dataset) -> list[tuple[str, list[float]]]:
    """Original that each outline of a report lies on, and its polyline."""
    found = []
    for item in _items(report):
        if item.ValueType == "SCOORD" and item.GraphicType == "POLYLINE":
            (image,) = item.ContentSequence
            found.append((str(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID), list(item.GraphicData)))
    return found


def _items(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        yield child
        yield from _items(child)


def test_the_reports_outlines_lie_on_the_slices_with_the_largest_areas(analysis: Analysis, copied: Copied) -> None:
    picture = KeyImage(rgb=np.zeros((64, 64, 3), np.uint8), slices=(4,))
    made = analyst().encode(analysis, picture, identity=copied.identity, input_digest="d" * 64)
    (report,) = [checks.decode(one.encoded) for one in made if one.role is ResultRole.REPORT]
    outlines = outlines_of(report)
    originals = {str(one.SOPInstanceUID): float(one.ImagePositionPatient[2]) for one in tiny_series()}
    heights = sorted(originals.values())
    assert [one.ImagePositionPatient[2] for one in analysis.sources] == heights
    ours = analysis.labels
    wanted = set()
    for number in (1, 2):
        areas = (ours == number).sum(axis=(1, 2))
        index = int(areas.argmax())
        assert (areas == areas[index]).sum() == 1, "one slice is the largest"
        wanted.add((heights[index], number))
    assert sorted(originals[uid] for uid, _ in outlines) == sorted(height for height, _ in wanted)
    for uid, data in outlines:
        columns, rows = np.array(data).reshape(-1, 2).T
        column, row = int(columns.mean()), int(rows.mean())
        mask = ours[heights.index(originals[uid])]
        number = mask[row, column]
        assert (originals[uid], number) in wanted
        area = abs(np.sum(columns[:-1] * rows[1:] - columns[1:] * rows[:-1])) / 2
        assert area == pytest.approx(np.count_nonzero(mask == number), abs=3), "corners are cut"
