from __future__ import annotations

import copy
import datetime
import itertools
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from dicomnode.coding import LUNG, RIGHT
from dicomnode.errors import REASONS
from dicomnode.manifest import Density, InputRule, ModelPackageErrors, SeriesSummary, parse, rank
from tests.unit.inference.models import Values, tiny_manifest, values

CT = "1.2.840.10008.5.1.4.1.1.2"


def summary(key: str = "a", **changes: Any) -> SeriesSummary:
    given: dict[str, Any] = {
        "series_key": key,
        "modality": "CT",
        "sop_class_uid": CT,
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "slices": 100,
        "extent_mm": 300.0,
        "slice_spacing_mm": 3.0,
        "slice_thickness_mm": 3.0,
        **changes,
    }
    return SeriesSummary(**given)


def problems_of(change: Callable[[Values], object]) -> tuple[str, ...]:
    changed = copy.deepcopy(values())
    change(changed)
    with pytest.raises(ModelPackageErrors) as caught:
        parse(changed)
    assert caught.value.facts == {"errors": len(caught.value.problems)}
    return caught.value.problems


def test_reads_every_value() -> None:
    manifest = tiny_manifest()
    assert (manifest.name, manifest.version, manifest.channels) == ("tiny", "0.1.0", 3)
    assert manifest.segments[0].colour == (0x4E, 0x79, 0xA7)
    assert manifest.segments[1].colour == (0xF2, 0x8E, 0x2B)
    assert (manifest.segments[0].type, manifest.segments[0].laterality) == (LUNG, RIGHT)
    assert manifest.preprocess.spacing_mm == (3.0, 3.0, 3.0)
    assert manifest.preprocess.antialias is False
    assert manifest.network.tile == (32, 32, 32)
    assert manifest.density == Density(maximum_slice_thickness_mm=5.0, soft_kernels=(), contrast_allowed=False)
    assert isinstance(manifest.input.preferred_kernels, tuple)


def test_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        tiny_manifest().name = "other"  # type: ignore[misc]


def test_defaults_and_whole_numbers_where_floats_are_meant() -> None:
    def change(data: Values) -> None:
        del data["density"], data["segments"][0]["laterality"], data["network"]["overlap"]
        data["input"] = {"modalities": ["CT"]}
        data["preprocess"]["spacing_mm"] = [3, 3, 3]
        data["postprocess"] = {}

    manifest = tiny_manifest(change)
    assert manifest.density is None
    assert manifest.segments[0].laterality is None
    assert (manifest.network.overlap, manifest.network.memory_bytes_per_voxel) == (0.25, 512)
    assert manifest.preprocess.spacing_mm == (3.0, 3.0, 3.0)
    assert manifest.postprocess.minimum_component_ml == 0.0


def test_lists_all_problems_at_once() -> None:
    def change(data: Values) -> None:
        data["whatever"] = 1
        data["name"] = "No Name"
        data["research_only"] = "yes"
        data["input"]["colour"] = "red"
        del data["preprocess"]["pad_hu"]
        data["network"]["tile"] = ["8", 8.5, 8]
        data["segments"][0]["colour"] = "red"
        data["segments"][1]["type"]["value"] = ""

    problems = problems_of(change)
    assert [problem.split(":")[0] for problem in problems] == [
        "name",
        "research_only",
        "input.colour",
        "preprocess.pad_hu",
        "network.tile.0",
        "network.tile.1",
        "segments.0.colour",
        "segments.1.type",
        "whatever",
    ]
    assert "input.colour: no such key" in problems
    assert "segments.0.colour: a colour is written #rrggbb" in problems


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda data: data.update(schema=2), "schema"),
        (lambda data: data.update(task="detection"), "task"),
        (lambda data: data.update(title="x" * 65), "title"),
        (lambda data: data.update(title="line\nbreak"), "title"),
        (lambda data: data.update(title="back\\slash"), "title"),
        (lambda data: data.update(manufacturer=" spaced"), "manufacturer"),
        (lambda data: data.update(version=datetime.date(2026, 1, 1)), "version"),
        (lambda data: data.update(input=3), "input"),
        (lambda data: data.update(segments=3), "segments"),
        (lambda data: data.update(segments=[3]), "segments.0"),
        (lambda data: data.update(segments=[]), "segments"),
        (lambda data: data.update(density={"maximum_slice_thickness_mm": 0}), "density.maximum_slice_thickness_mm"),
        (lambda data: data["input"].update(modalities=[]), "input.modalities"),
        (lambda data: data["input"].update(modalities=["US"]), "input.modalities"),
        (lambda data: data["input"].update(preferred_kernels=["("]), "input.preferred_kernels.0"),
        (lambda data: data["input"].update(minimum_slices=True), "input.minimum_slices"),
        (lambda data: data["preprocess"].update(pad_hu=float("nan")), "preprocess.pad_hu"),
        (lambda data: data["preprocess"].update(spacing_mm=[3.0, 3.0]), "preprocess.spacing_mm.2"),
        (lambda data: data["preprocess"].update(spacing_mm=[3.0, 3.0, 0.0]), "preprocess.spacing_mm.2"),
        (lambda data: data["preprocess"]["intensity"].update(lower=600.0), "preprocess.intensity"),
        (lambda data: data["preprocess"]["intensity"].update(scale="none"), "preprocess.intensity.scale"),
        (lambda data: data["network"].update(file="../model.onnx"), "network.file"),
        (lambda data: data["network"].update(file="model.onnx\n"), "network.file"),
        (lambda data: data["network"].update(file="model.engine"), "network.file"),
        (lambda data: data["network"].update(sha256="0" * 63), "network.sha256"),
        (lambda data: data["network"].update(overlap=1.0), "network.overlap"),
        (lambda data: data["network"].update(tile=[32, 31, 32]), "network.tile"),
        (lambda data: data["segments"][1].update(number=1), "segments"),
        (lambda data: data["segments"][1].update(number=3), "segments"),
        (lambda data: data["segments"][1].update(label="Right lung"), "segments"),
        (lambda data: data["segments"][0].update(label="x" * 65), "segments.0"),
        (lambda data: data["segments"][0].update(colour=[1, 2, 3]), "segments.0.colour"),
        (lambda data: data["segments"][0].update(colour="#12345"), "segments.0.colour"),
        (lambda data: data["segments"][0]["type"].update(extra="x"), "segments.0.type.extra"),
    ],
)
def test_refuses(change: Callable[[Values], object], where: str) -> None:
    (problem,) = problems_of(change)
    assert problem.startswith(f"{where}: ")


@pytest.mark.parametrize("data", [{}, {"schema": 1}, {1: 2}, {(1, 2): 3}])
def test_anything_else_is_refused_in_the_same_way(data: Any) -> None:
    with pytest.raises(ModelPackageErrors) as caught:
        parse(data)
    assert caught.value.problems


def test_a_value_that_holds_itself_is_refused() -> None:
    data = values()
    data["input"] = data
    with pytest.raises(ModelPackageErrors) as caught:
        parse(data)
    assert caught.value.problems == ("manifest: these are not the values of a TOML file",)


def test_errors_survive_a_pickle() -> None:
    errors = pickle.loads(pickle.dumps(ModelPackageErrors(("a: b", "c: d"))))
    assert (errors.problems, errors.facts, errors.code) == (("a: b", "c: d"), {"errors": 2}, "model-package-invalid")


@pytest.mark.parametrize(
    ("series", "codes"),
    [
        (summary(), ()),
        (summary(extent_mm=None, slice_spacing_mm=None), ()),
        (summary(modality="MR", sop_class_uid="1.2.840.10008.5.1.4.1.1.4"), ("no-suitable-series",)),
        (summary(image_type=("DERIVED", "SECONDARY", "LOCALIZER")), ("no-suitable-series",)),
        (summary(sop_class_uid="1.2.840.10008.5.1.4.1.1.2.1"), ()),  # Enhanced CT
        (summary(sop_class_uid="1.2.840.10008.5.1.4.1.1.2.2"), ()),  # Legacy Converted Enhanced CT
        (summary(sop_class_uid="1.2.840.10008.5.1.4.1.1.4.1"), ("no-suitable-series",)),
        (summary(sop_class_uid="1.2.840.10008.5.1.4.1.1.7"), ("no-suitable-series",)),
        (summary(slices=15), ("geometry-too-few-slices",)),
        (summary(slice_spacing_mm=10.01), ("geometry-spacing-too-wide",)),
        (summary(extent_mm=59.9), ("geometry-extent-too-short",)),
        (
            summary(slices=3, slice_spacing_mm=20.0, extent_mm=40.0),
            ("geometry-too-few-slices", "geometry-spacing-too-wide", "geometry-extent-too-short"),
        ),
    ],
)
def test_judges(series: SeriesSummary, codes: tuple[str, ...]) -> None:
    assert tiny_manifest().input.judge(series) == codes
    assert set(codes) <= set(REASONS)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        # Extent first, within a tenth.
        (summary("z", extent_mm=330.0, slice_thickness_mm=5.0), summary("a", extent_mm=280.0)),
        (summary("z", extent_mm=298.0, slice_thickness_mm=1.0), summary("a", extent_mm=300.0)),
        (summary("z", extent_mm=100.0), summary("a", extent_mm=None)),
        (summary("z", extent_mm=150.0), summary("a", extent_mm=80.0, body_part="CHEST")),
        # The named part, where both are long enough for the organ.
        (summary("z", extent_mm=300.0, body_part="chest "), summary("a", extent_mm=480.0, body_part="ABDOMEN")),
        (summary("z", extent_mm=300.0, body_part="CHEST"), summary("a", extent_mm=480.0)),
        (summary("z", extent_mm=300.0), summary("a", extent_mm=480.0, body_part="HEAD")),
        # Then thinner slices, in bands, then softer kernels.
        (summary("z", slice_thickness_mm=3.0, kernel="B70f"), summary("a", slice_thickness_mm=5.0, kernel="B31f")),
        (summary("z", slice_thickness_mm=1.25, kernel="B31f"), summary("a", slice_thickness_mm=1.0, kernel="B70f")),
        (summary("z", kernel="b31s"), summary("a", kernel="STANDARD")),
        (summary("z", kernel="STANDARD"), summary("a", kernel="BONE")),
        (summary("z", slice_thickness_mm=1.0), summary("a", slice_thickness_mm=1.25)),
        (summary("z", slice_thickness_mm=None, slice_spacing_mm=1.0), summary("a")),
        (summary("z"), summary("a", slice_thickness_mm=None, slice_spacing_mm=None)),
        (summary("z", slices=200), summary("a", slices=100)),
        (summary("a"), summary("z")),
    ],
)
def test_chooses(better: SeriesSummary, worse: SeriesSummary) -> None:
    rule = tiny_manifest().input
    assert rule.choose([better, worse]) == better
    assert rule.choose(iter([worse, better])) == better


def test_chooses_only_what_it_takes_and_in_any_order_the_same() -> None:
    rule = tiny_manifest().input
    refused = summary("a", slices=3, extent_mm=900.0)
    crowd = [refused, *(summary(key, kernel=kernel) for key, kernel in zip("dcb", ("", "B31", "B70"), strict=True))]
    assert {rule.choose(order) for order in itertools.permutations(crowd)} == {crowd[2]}
    assert rule.choose([refused]) is None
    assert rule.choose([]) is None


def test_a_rule_without_a_least_extent_still_chooses() -> None:
    rule = replace(InputRule(modalities=("CT",)), body_parts=("CHEST",))
    assert rule.choose([summary("b", body_part="CHEST"), summary("a")]) == summary("b", body_part="CHEST")


def test_ranks_regardless_of_case() -> None:
    assert [rank(("^b[23]", "soft"), text) for text in ("B30f", "Soft tissue", "x")] == [0, 1, 2]
