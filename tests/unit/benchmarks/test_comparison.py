from __future__ import annotations

import random
from statistics import median

import pytest

from tests.benchmarks.cases import CASES
from tests.benchmarks.comparison import HEAD, Interval, Row, interval, ratios, table, verdict
from tests.benchmarks.receive import rows_of


def test_turns_are_compared_with_the_turn_beside_them() -> None:
    assert ratios([10.0, 30.0], [5.0, 60.0]) == [2.0, 0.5]
    with pytest.raises(ValueError, match="zip"):
        ratios([1.0, 2.0], [1.0])


def test_values_that_are_all_the_same_leave_no_room() -> None:
    assert interval([1.5] * 5) == Interval(middle=1.5, low=1.5, high=1.5)
    with pytest.raises(ValueError, match="no values"):
        interval([])


def test_the_interval_is_that_of_the_median_and_the_same_each_time() -> None:
    values = [0.5, 0.9, 1.0, 1.1, 4.0]
    found = interval(values)
    assert found == interval(values) == interval(values[::-1])
    assert (found.middle, found.low, found.high) == (1.0, 0.5, 4.0)  # five values bound nothing tighter
    many = interval([*([1.0] * 40), 100.0])
    assert (many.low, many.high) == (1.0, 1.0)  # one outlier of many moves no median


def test_the_interval_holds_the_true_median_about_as_often_as_it_says() -> None:
    chance = random.Random(7)
    held = 0
    for _ in range(60):
        found = interval([chance.gauss(1.0, 0.2) for _ in range(9)])
        held += found.low <= 1.0 <= found.high
    assert held >= 51  # of sixty; 95 % are 57
    wide, narrow = (interval([chance.gauss(1.0, 0.2) for _ in range(count)]) for count in (7, 400))
    assert narrow.high - narrow.low < wide.high - wide.low


@pytest.mark.parametrize(
    ("low", "high", "least", "most", "expected"),
    [
        (1.0, 1.4, 1.0, None, "above"),
        (0.9, 1.4, 1.0, None, "reached"),
        (0.7, 0.99, 1.0, None, "missed"),
        (0.7, 1.0, None, 1.0, "below"),
        (0.7, 1.2, None, 1.0, "reached"),
        (1.01, 1.2, None, 1.0, "missed"),
        (0.1, 9.0, None, None, ""),
    ],
)
def test_a_floor_is_reached_when_the_interval_reaches_it(
    low: float, high: float, least: float | None, most: float | None, expected: str
) -> None:
    assert verdict(Interval(middle=median([low, high]), low=low, high=high), least=least, most=most) == expected


def test_the_table_says_floor_and_verdict_of_each_line() -> None:
    below, over = Interval(middle=0.8, low=0.7, high=0.9), Interval(middle=70.4, low=69.0, high=71.0)
    rows = [
        Row(case="ct-1", sender="fast", receiver="dcmtk", value="9 /s", ratio=below, least=1.0, aim=1.2),
        Row(case="ct-1", sender="fast", receiver="node", value="8 /s", memory=over, memory_most=60.0),
    ]
    head, peer, node = table(rows).splitlines()
    assert head.split("  ")[0] == HEAD[0]
    assert "0.80 [0.70, 0.90]" in peer
    assert "1 / 1.2" in peer
    assert peer.count("missed") == 1
    assert node.endswith("70 (≤ 60: missed)")
    assert len({line.index(word) for line, word in ((head, "receiver"), (peer, "dcmtk"), (node, "node"))}) == 1


def test_rows_of_a_case_carry_its_floors() -> None:
    def turn(rate: float, cpu: float) -> dict[str, float]:
        return {
            "per_second": rate,
            "megabytes_per_second": rate / 2,
            "cpu_per_gigabyte": cpu,
            "memory_grown_mb": 5.0,
        }

    turns = {
        "node": [turn(100, 1.4), turn(110, 1.5)],
        "dcmtk": [turn(50, 1.0), turn(50, 1.0)],
        "orthanc": [turn(50, 9.0), turn(50, 9.0)],
        "dcmtk-default": [turn(10, 2.0), turn(10, 2.0)],
    }
    node, dcmtk, orthanc, default = rows_of("ct-1", "fast", CASES["ct-1"], turns)
    assert (dcmtk.least, dcmtk.aim, dcmtk.ratio and dcmtk.ratio.middle) == (1.0, 1.2, 2.1)
    assert orthanc.cells()[5:7] == ("4 / 8", "missed")
    assert default.cells()[5:7] == ("", "")
    assert node.ratio is None
    assert node.cells()[7] == "1.45 (≤ 1: missed)"
    assert node.cells()[8] == "5 (≤ 60: below)"
    (row,) = rows_of("setup-16", "fast", CASES["setup-16"], {"node": [{"new": 1.0, "again": 3.0}] * 2})
    assert row.value == "1.00 [1.00, 1.00] ms (≤ 2: below) new, 3.00 [3.00, 3.00] ms (≤ 2: missed) again"


def test_every_case_of_the_contract_is_there() -> None:
    floors = {name: (case.least, case.aim) for name, case in CASES.items() if case.least is not None}
    assert {name: floors[name] for name in ("ct-1", "ct-4", "ct-8", "small-1", "small-4", "mammograms")} == {
        "ct-1": (1.0, 1.2),
        "ct-4": (1.1, 1.4),
        "ct-8": (1.1, 1.4),
        "small-1": (2.5, 3.5),
        "small-4": (3.5, 5.0),
        "mammograms": (1.0, 1.2),
    }
    assert all(case.fork for case in CASES.values() if case.associations > 1 or case.per_association)
    assert all(case.count % case.associations == 0 for case in CASES.values())
    assert {case.contexts for case in CASES.values() if case.kind == "setup"} == {1, 16, 128}
