"""Engines as the configuration asks for them: which is taken, what is told, and that none is taken silently for another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicomnode import config
from dicomnode.errors import REASONS, ModelError
from dicomnode.events import admit
from dicomnode.inference import gpu
from dicomnode.service import engines, rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage.ledger import Ledger
from tests.unit.service.conftest import MakeTree


@pytest.fixture
def layout(tree_of: MakeTree) -> Layout:
    """State folder, made."""
    found = Layout.of(tree_of())
    rooms.make_state_folder(found)
    return found


TENSORRT = {"engine": "tensorrt", "threads": 1, "enabled": ["ct-lung"]}


def test_a_node_that_is_to_use_a_gpu_and_has_none_does_not_start(
    tree_of: MakeTree, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "installed", lambda: None)
    tree = tree_of(models=TENSORRT)
    ring = rooms.open_key_ring(tree, layout, {}, create=True)
    with Ledger.open(layout.ledger) as ledger, pytest.raises(ModelError) as caught:
        rooms.open_analysts(tree, ring, ledger, emit=lambda name, **facts: None, gpu=True)
    assert (caught.value.code, caught.value.facts) == (
        "engine-unavailable",
        {"engine": "tensorrt", "cause": "not-installed"},
    )
    assert "dicomnode doctor gpu" in caught.value.reason.advice


def test_who_asks_for_the_gpu_where_none_is_used_is_told(tree_of: MakeTree, layout: Layout) -> None:
    tree = tree_of(models=TENSORRT)
    told: list[tuple[str, dict[str, Any]]] = []
    ring = rooms.open_key_ring(tree, layout, {}, create=True)
    with Ledger.open(layout.ledger) as ledger:
        rooms.open_analysts(tree, ring, ledger, emit=lambda name, **facts: told.append((name, facts)))
    ((name, facts),) = told
    assert (name, facts["level"], facts["reason"]) == ("engine.opened", "warning", "engine-not-used")
    assert facts["engine"] in {"openvino-cpu fp32", "onnxruntime-cpu fp32"}
    assert "dicomnode serve" in REASONS["engine-not-used"].advice


def test_advice_on_a_gpu_may_be_written_down() -> None:
    for text in engines.ADVICE.values():
        assert admit({"text": text}) == {"text": text}


def test_an_engine_of_the_cpu_that_is_named_leaves_nothing_to_tell(tree_of: MakeTree) -> None:
    for engine in ("auto", "onnxruntime", "stand-in"):
        tree = tree_of(models={**TENSORRT, "engine": engine})
        (package,) = rooms.load_packages(tree)
        opened = engines.open_engine(tree, package)
        assert opened.notice == ""
        opened.engine.close()


def test_what_becomes_of_a_gpu_is_told_as_events(tmp_path: Path) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    tree = config.parse({"node": {"state": str(tmp_path)}, "models": {"gpu": "MIG-1", "gpu_study_seconds": 7}})
    settings = engines.gpu_settings(tree, Layout.of(tree).state, rooms.passing_key_ring())
    assert (settings.devices, settings.times.study, settings.cache) == (("MIG-1",), 7, tmp_path / "engines")
    assert len(settings.cache_key) == 32
    engines.gpu_kind(settings, lambda name, **facts: told.append((name, facts)))
    tell = engines.gpu_teller("ct-lung", lambda name, **facts: told.append((name, facts)))
    tell("ready", {"engine": "tensorrt-fp16", "device": 0})
    tell("failed", {"cause": "device-failed", "device": 1})
    tell("fell-back", {"cause": "device-too-small", "device": 1})
    advice = engines.ADVICE["device-failed"]
    assert told == [
        ("engine.ready", {"model": "ct-lung", "engine": "tensorrt-fp16", "device": 0}),
        (
            "engine.failed",
            {"level": "warning", "model": "ct-lung", "device": 1, "reason": "device-failed", "text": advice},
        ),
        ("engine.fell-back", {"level": "warning", "model": "ct-lung", "device": 1, "reason": "device-too-small"}),
    ]


def test_the_key_of_the_engines_is_the_nodes_own(tmp_path: Path) -> None:
    tree = config.parse({"node": {"state": str(tmp_path)}})
    ring = rooms.passing_key_ring()
    first, again = (engines.gpu_settings(tree, Layout.of(tree).state, ring).cache_key for _ in range(2))
    assert first == again
    assert first != ring.derivation
    assert first != engines.gpu_settings(tree, Layout.of(tree).state, rooms.passing_key_ring()).cache_key
