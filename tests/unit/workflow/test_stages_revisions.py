"""What a stage must not do: go on for a revision that is no longer the latest, believe an identity of another place."""

from __future__ import annotations

import json

import pytest
from pydicom import Dataset

from dicomnode.study import WORK_STAGES, Purpose, WorkKey, WorkState, World
from dicomnode.workflow.handover import Handover
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]


@pytest.mark.parametrize("stage", WORK_STAGES)
def test_no_stage_of_a_superseded_revision_begins(bench: Bench, images: list[Dataset], stage: str) -> None:
    first = bench.receive(images[:-1])
    for name in WORK_STAGES[: WORK_STAGES.index(stage)]:
        assert bench.stages().run(name, first)
    begun = bench.events.names.count("stage.begun")
    bench.receive(images[-1:], revision=2)
    assert not bench.stages().run(stage, first)
    assert bench.work(first).state is WorkState.SUPERSEDED
    assert bench.events.names.count("stage.begun") == begun
    assert bench.ledger.results(first) == ()
    assert bench.released == []


def series_of(bench: Bench, key: WorkKey) -> str:
    plan = bench.rooms.objects.get(key.study_key, World.PSEUDONYM, f"{key.workflow_id}-plan", Purpose.COPY)
    return str(json.loads(plan)["series_key"])


def test_the_identity_of_another_revision_is_not_believed(bench: Bench, images: list[Dataset]) -> None:
    first = bench.receive(images[:-1])
    assert bench.stages().run("prepare", first)
    second = bench.receive(images[-1:], revision=2)
    for name in ("prepare", "infer"):
        assert bench.stages().run(name, second)
    series = series_of(bench, second)
    assert series == series_of(bench, first)
    other = bench.ledger.vault(first.study_key, series, 1)
    assert other is not None
    bench.ledger.put_vault(second.study_key, series, 2, other)
    assert not bench.stages().run("encode", second)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")
    assert bench.ledger.results(second) == ()


def test_the_identity_of_another_series_is_not_believed(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    stages = bench.stages()
    for name in ("prepare", "infer"):
        assert stages.run(name, key)
    series = series_of(bench, key)
    handover = Handover(bench.rooms)
    handover.put_identity(key, "0f" * 16, handover.identity(key, series))
    moved = bench.ledger.vault(key.study_key, "0f" * 16, 1)
    assert moved is not None
    bench.ledger.put_vault(key.study_key, series, 1, moved)
    assert not bench.stages().run("encode", key)
    assert bench.ended == (WorkState.FAILED, "sealed-damaged")
    assert bench.ledger.results(key) == ()
