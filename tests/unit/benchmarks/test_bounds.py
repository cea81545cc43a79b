"""The bounds of the benchmark: they take what any receiver takes, and as many bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.benchmarks import bounds, sender
from tests.benchmarks.cases import Case
from tests.unit.storage.samples import disk_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with disk_folder() as place:
        yield place


@pytest.mark.parametrize(
    "load",
    [
        {"associations": 2, "pixel_bytes": 300_000},
        {"pixel_bytes": 4000},
        {"per_association": 2, "pixel_bytes": 131_072},
    ],
)
def test_the_socket_takes_objects_and_answers_them(load: dict[str, int]) -> None:
    with bounds.socket_receiver() as running:
        result = sender.run(sender.Load(port=running.port, count=6, **load))
    assert result["statuses"] == {0: 6}


@pytest.mark.parametrize("piece", bounds.DISK.values())
def test_the_disk_gets_the_bytes_of_all_objects_durably(
    folder: Path, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(count=20, pixel_bytes=1_000_000, associations=2)
    written: list[tuple[int, bool]] = []
    real = os.pwrite

    def pwrite(descriptor: int, data: object, offset: int) -> int:
        count = real(descriptor, data, offset)  # type: ignore[arg-type]
        written.append((count, Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii").split()[3][-5] in "15"))
        return count

    monkeypatch.setattr(os, "pwrite", pwrite)
    rate = bounds.disk(case, folder, piece)
    assert rate > 0
    durable = sum(count for count, synchronous in written if synchronous)
    assert durable == pytest.approx(20 * bounds.object_bytes(case), rel=0.5 if piece else 0)
    assert list(folder.iterdir()) == []
