"""How a work ends whose destinations want to be told why there are no results, and storage stands in the way of that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import Config
from dicomnode.errors import KeyStoreError, ModelError, NodeError, StorageError
from dicomnode.study import ResultRole, WorkState
from dicomnode.workflow.stages import Stages
from tests.unit.workflow import test_stages
from tests.unit.workflow.test_stages import Bench, Failing, images

__all__ = ["images"]

CURIOUS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "no_finding": True}


@pytest.fixture
def bench(*, ledger: Any, spool: Any, objects: Any, keys: Any, time: Any, events: Any, monkeypatch: Any) -> Bench:
    monkeypatch.setattr(test_stages, "TREE", Config.model_validate({"destinations": [CURIOUS]}))
    return Bench(ledger=ledger, spool=spool, objects=objects, keys=keys, time=time, events=events)


@pytest.fixture
def stages(bench: Bench, images: list[Dataset]) -> Stages:
    """Of a study in which nothing will be found, and which is prepared."""
    for image in images:
        image.PixelData = b"\x00\x04" * (image.Rows * image.Columns)
    bench.receive(images)
    stages = bench.stages()
    assert stages.run("prepare", bench.key)
    return stages


def damage(bench: Bench, tmp_path: Path, *numbers: int) -> None:
    """Flip a bit in some records."""
    for number in numbers:
        row = bench.ledger.instances(bench.key.study_key)[number]
        (path,) = (tmp_path / "spool").rglob(f"{row.address.segment_id}.*")
        changed = bytearray(path.read_bytes())
        changed[row.address.offset + 300] ^= 1
        path.write_bytes(changed)


def told(bench: Bench) -> set[ResultRole]:
    return {row.role for row in bench.ledger.results(bench.key)}


def test_the_next_image_tells_whose_it_is_where_the_first_is_damaged(
    bench: Bench, stages: Stages, tmp_path: Path
) -> None:
    damage(bench, tmp_path, 0)
    assert not stages.run("infer", bench.key)
    assert bench.work().state is WorkState.READY
    assert ResultRole.OUTCOME in told(bench)
    assert "work.refused" not in bench.events.names


def test_a_study_of_damaged_images_alone_is_refused_for_good(
    bench: Bench, images: list[Dataset], stages: Stages, tmp_path: Path
) -> None:
    damage(bench, tmp_path, *range(len(images)))
    assert not stages.run("infer", bench.key)
    assert bench.ended == (WorkState.REFUSED, "nothing-found")
    assert told(bench) == set()
    assert bench.events.names.count("work.refused") == 1


@pytest.mark.parametrize(
    ("error", "pauses"), [(StorageError("storage-failed"), [2.0, 4.0]), (KeyStoreError("key-missing"), [])]
)
def test_a_document_that_storage_does_not_take_ends_the_work_without_it(
    bench: Bench, stages: Stages, error: NodeError, pauses: list[float]
) -> None:
    objects: Any = Failing(bench.rooms.objects, "put", [error] * 100)
    stages = bench.stages(replace(bench.rooms, objects=objects))
    assert not stages.run("infer", bench.key)
    assert bench.ended == (WorkState.REFUSED, "nothing-found")
    assert bench.pauses == pauses
    (aside,) = bench.events.facts("result.quarantined")
    assert aside["reason"] == error.code


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("Planted^Name"), "internal"), (ModelError("model-not-found"), "model-not-found")]
)
def test_a_document_that_cannot_be_made_ends_the_work_without_it(
    bench: Bench, stages: Stages, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def encode(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(bench.analyst, "encode_outcome", encode)
    assert not stages.run("infer", bench.key)
    assert bench.ended == (WorkState.REFUSED, "nothing-found")
    (aside,) = bench.events.facts("result.quarantined")
    assert aside["reason"] == code
    assert [kept for _, kept in bench.reported] == [error] * (code == "internal")


def test_a_document_that_storage_takes_at_last_is_told(bench: Bench, stages: Stages) -> None:
    objects: Any = Failing(bench.rooms.objects, "put", [StorageError("storage-full")] * 5)
    assert not bench.stages(replace(bench.rooms, objects=objects)).run("infer", bench.key)
    assert bench.work().state is WorkState.READY
    assert bench.events.names.count("stage.again") == 5


def test_a_node_that_ends_while_storage_is_full_leaves_the_work_for_its_next_start(
    bench: Bench, stages: Stages
) -> None:
    bench.ends = True
    objects: Any = Failing(bench.rooms.objects, "put", [StorageError("storage-full")] * 5)
    assert not bench.stages(replace(bench.rooms, objects=objects)).run("infer", bench.key)
    assert bench.work().state is WorkState.INFERRING
    assert "work.refused" not in bench.events.names
