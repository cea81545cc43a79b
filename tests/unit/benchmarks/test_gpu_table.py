"""Lines of `make bench-gpu` out of a made result: ratios, shares of the roofline, floors and predictions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.gpu_table import AROUND, HEAD, NAMES, RATIO, ROOFLINE, Line, lines, table
from tests.benchmarks.roofline import Layer, Network
from tests.benchmarks.timed_device import HOST, SHARES

NETWORK = Network(
    layers=(
        Layer(name="work", operator="Conv", flops=8 * 10**12, inner=10**9, outer=0),
        Layer(name="traffic", operator="Conv", flops=0, inner=10**9, outer=0),
        Layer(name="norm", operator="InstanceNormalization", flops=0, inner=10**9, outer=0),
    ),
    weights=10**6,
    ends=0,
)


def found(**other: Any) -> dict[str, Any]:
    spent = {**dict.fromkeys(SHARES, 0.001), "network": 0.05, "upload": 0.01, HOST: 0.002}
    made = {
        "failed": {},
        "facts": {
            "course": {"engine": "tensorrt fp16", "precision": "fp16"},
            "torch": {"precision": "fp16", "window": "MONAI 1.6.1"},
        },
        "seconds": {"course": [0.04, 0.05, 0.05], "torch": [0.08, 0.15, 0.1]},
        "network": {"course": [0.02, 0.02, 0.02]},
        "shipped": {"course": [0.05, 0.05, 0.05]},
        "spent": {"course/plain": [spent] * 3, "course/shipped": [spent] * 3},
        "peaks": [{"fp16": 8e14, "tf32": 3e14, "bytes": 4e12}] * 3,
        "memory": {
            "course": {"planned": 2**30, "measured": 2**29, "network": 2**20, "whole": True},
            "torch": {"allocated": 2**31, "reserved": 2**32},
        },
        "labels": {"course": [0, 1, 2]},
        "differing": {"a, b": 0.00001},
        "predicted": True,
        "stand_in": False,
    }
    return {**made, **other}


def row(rows: list[Line], beginning: str) -> Line:
    return next(one for one in rows if one.what.strip().startswith(beginning))


def test_ratios_are_of_turns_beside_each_other_and_held_to_their_floor() -> None:
    ratio = row(lines(found(), NETWORK), "torch channels_last_3d ÷")
    assert ratio.measured.startswith("2.00 [2.00, 3.00]")
    assert (ratio.floor, ratio.verdict) == (f"≥ {RATIO:g}", "above")
    slow = lines(found(seconds={"course": [0.1] * 3, "torch": [0.15] * 3}), NETWORK)
    assert row(slow, "torch channels_last_3d ÷").verdict == "missed"


def test_ways_say_what_they_ran_on() -> None:
    rows = lines(found(), NETWORK)
    assert row(rows, f"volume to labels: {NAMES['course']}").measured.endswith("; tensorrt fp16")
    assert row(rows, f"volume to labels: {NAMES['torch']}").measured.endswith("; fp16, MONAI 1.6.1")


def test_shares_of_the_roofline_by_each_way_of_reckoning() -> None:
    rows = lines(found(), NETWORK)
    whole, each, norms = (one for one in rows if "share of the roofline" in one.what)
    assert whole.measured.startswith("50.0%")  # 8e12 / 8e14 of 20 ms
    assert each.measured.startswith("52.5%")  # and 2e9 / 4e12
    assert norms.measured.startswith("55.0%")
    assert {one.floor for one in (whole, each, norms)} == {f"≥ {ROOFLINE:.0%}"}
    assert {one.verdict for one in (whole, each, norms)} == {"missed"}
    assert row(rows, "operations").measured == "8000 GFLOP, 400 TFLOP/s"
    assert row(rows, "bytes, layer by layer").measured == "4 GB, 200 GB/s"
    assert row(rows, "peak: copy").measured == "4000 GB/s"


def test_another_precision_is_held_against_its_own_peak_or_none() -> None:
    facts = {"course": {"engine": "tensorrt tf32", "precision": "tf32"}, "torch": {}}
    rows = lines(found(facts=facts, network={"course": [8e12 / 3e14] * 3}), NETWORK)
    assert row(rows, "share of the roofline, as one piece").measured.startswith("100.0%")
    facts = {"course": {"engine": "tensorrt fp8", "precision": "fp8"}, "torch": {}}
    assert "no peak is known for fp8" in row(lines(found(facts=facts), NETWORK), "share of the roofline").measured


def test_shares_of_the_time_stand_beside_what_was_predicted() -> None:
    rows = lines(found(), NETWORK)
    uploads = [one for one in rows if one.what == "  upload"]
    assert [one.predicted for one in uploads] == ["", "12 ms"]  # the prediction is for the model as shipped
    assert uploads[0].measured.startswith("10 ms [10, 10], 14.5%")
    apart, all_ = row(rows, "before and after the network"), row(rows, "all but the network")
    assert (apart.floor, all_.floor) == (f"< {AROUND:.0%}",) * 2
    assert (apart.verdict, all_.verdict) == ("below", "missed")
    assert not [one for one in lines(found(predicted=False), NETWORK) if one.predicted]


def test_memory_planned_beside_measured_and_what_torch_took() -> None:
    rows = lines(found(), NETWORK)
    assert row(rows, "device memory of a study, planned").measured == "1024 MiB, at once"
    assert row(rows, "device memory of a study, measured").measured == "512 MiB"
    assert row(rows, "device memory at most").measured == "2048 MiB, 4096 MiB held"


@pytest.mark.parametrize("peaks", [True, False])
def test_what_is_missing_is_a_line_and_the_rest_stays(peaks: bool) -> None:
    rows = lines(
        found(failed={"roofline": "torch is not installed"}, **({} if peaks else {"peaks": []})),
        None if peaks else NETWORK,
    )
    assert row(rows, NAMES["roofline"]).measured == "not measured: torch is not installed"
    assert not [one for one in rows if "share of the roofline" in one.what]
    assert row(rows, "network alone").measured == "20 ms [20, 20]"
    nothing = found(failed={"study": "x"}, **{k: {} for k in ("seconds", "network", "shipped", "spent", "memory")})
    assert row(lines({**nothing, "labels": {}, "differing": {}, "peaks": []}, None), NAMES["study"])


def test_times_of_the_stand_in_get_no_verdict() -> None:
    assert not [one for one in lines(found(stand_in=True), NETWORK) if one.verdict]
    assert [one for one in lines(found(stand_in=True), NETWORK) if one.floor]


def test_columns_stand_under_each_other() -> None:
    head, first, second = table([Line("a", "1", "≥ 2", "above"), Line("b", "not measured: " + "x" * 300)]).splitlines()
    assert head.split() == list(HEAD)
    assert first.index("≥ 2") == head.index("floor")
    assert len(first) < 60
    assert second.endswith("x" * 300)
