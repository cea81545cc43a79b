from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pytest

from dicomnode.config import Config
from dicomnode.errors import KeyStoreError, ModelError
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.standin import StandInEngine
from dicomnode.service import engines, rooms
from dicomnode.service.rooms import Layout
from dicomnode.service.status import read_studies
from dicomnode.storage.ledger import Ledger
from tests.unit.workflow.samples import row

MakeTree = Callable[..., Config]


@pytest.fixture
def layout(tree_of: MakeTree) -> Layout:
    """Layout with its folder made."""
    found = Layout.of(tree_of())
    rooms.make_state_folder(found)
    return found


def test_everything_lies_in_the_state_folder(tree_of: MakeTree, tmp_path: Path) -> None:
    found = Layout.of(tree_of())
    assert found.keys == tmp_path / "state" / "keys"
    assert {found.ledger.parent, found.spool.parent, found.objects.parent} == {tmp_path / "state"}
    assert Layout.of(tree_of(keys={"folder": tmp_path / "elsewhere"})).keys == tmp_path / "elsewhere"


def test_a_tree_without_its_state_folder_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="state folder"):
        Layout.of(Config())


def test_the_state_folder_is_its_owners_alone(layout: Layout) -> None:
    rooms.make_state_folder(layout)
    assert layout.state.stat().st_mode & 0o777 == 0o700


def test_keys_are_made_once(tree_of: MakeTree, layout: Layout) -> None:
    first = rooms.open_key_ring(tree_of(), layout, {}, create=True)
    assert rooms.open_key_ring(tree_of(), layout, {}, create=False).derivation == first.derivation
    assert {path.stat().st_mode & 0o777 for path in layout.keys.iterdir()} == {0o400}


def test_keys_are_never_made_beside_what_was_sealed(tree_of: MakeTree, layout: Layout) -> None:
    with pytest.raises(KeyStoreError, match="key-missing"):
        rooms.open_key_ring(tree_of(), layout, {}, create=False)
    Ledger.open(layout.ledger).close()
    with pytest.raises(KeyStoreError, match="key-missing"):
        rooms.open_key_ring(tree_of(), layout, {}, create=True)


def test_credentials_of_systemd_are_taken_where_they_are(tree_of: MakeTree, layout: Layout) -> None:
    made = rooms.open_key_ring(tree_of(), layout, {}, create=True)
    folder = layout.state / "credentials"
    folder.mkdir()
    for path in layout.keys.iterdir():
        credential = folder / f"dicomnode.{path.stem}"
        credential.write_bytes(path.read_bytes())
        credential.chmod(0o400)
    environment = {"CREDENTIALS_DIRECTORY": str(folder)}
    elsewhere = tree_of(keys={"folder": layout.state / "none"})
    assert rooms.open_key_ring(elsewhere, layout, environment, create=False).derivation == made.derivation
    named = tree_of(keys={"source": "credentials"})
    assert rooms.open_key_ring(named, layout, environment, create=False).derivation == made.derivation
    with pytest.raises(KeyStoreError, match="key-missing"):
        rooms.open_key_ring(named, layout, {}, create=True)


def test_the_stand_in_brings_its_own_package(tree_of: MakeTree) -> None:
    tree = tree_of()
    (package,) = rooms.load_packages(tree)
    opened = engines.open_engine(tree, package)
    assert isinstance(opened.engine, StandInEngine)
    assert opened.why == "models.engine"
    opened.engine.close()


def test_shipped_packages_run_on_onnx_runtime(tree_of: MakeTree) -> None:
    tree = tree_of(models={"engine": "onnxruntime", "threads": 1})
    packages = rooms.load_packages(tree)
    assert "ct-lung" in {package.manifest.name for package in packages}
    engine = engines.open_engine(tree, packages[0]).engine
    assert isinstance(engine, OnnxEngine)
    engine.close()


def test_which_engine_runs_a_model_is_told_and_why(tree_of: MakeTree, layout: Layout) -> None:
    ring = rooms.open_key_ring(tree_of(), layout, {}, create=True)
    told: list[tuple[str, dict[str, object]]] = []
    tree = tree_of(models={"engine": "auto", "threads": 1, "enabled": ["ct-lung"]})
    with Ledger.open(layout.ledger) as ledger:
        for analyst in rooms.open_analysts(tree, ring, ledger, emit=lambda name, **facts: told.append((name, facts))):
            assert analyst == "ct-lung"
    expected = {"model": "ct-lung", "engine": "openvino-cpu fp32", "threads": 1, "text": "auto"}
    assert told == [("engine.opened", expected)]


def test_a_node_without_a_model_is_none(tree_of: MakeTree, layout: Layout) -> None:
    ring = rooms.open_key_ring(tree_of(), layout, {}, create=True)
    with Ledger.open(layout.ledger) as ledger:
        with pytest.raises(ModelError, match="no-model"):
            rooms.open_analysts(tree_of(), ring, ledger, ())
        analysts = rooms.open_analysts(tree_of(), ring, ledger)
        assert list(analysts) == ["stand-in"]


def test_a_result_keeps_the_moment_of_its_first_issue(layout: Layout) -> None:
    with Ledger.open(layout.ledger) as ledger:
        issued_at = rooms.issue_clock(ledger)
        first = issued_at("key")
        assert issued_at("key") == first
        assert first.utcoffset() is not None
        assert first.microsecond == 0
    assert rooms.now().tzinfo is UTC


def test_studies_are_read_beside_a_node_and_none_where_no_node_has_run(tree_of: MakeTree, layout: Layout) -> None:
    assert read_studies(tree_of(), 10) == ()
    with Ledger.open(layout.ledger) as ledger:
        ledger.record_instances([row(0), row(1, study_key="cd" * 16)])
        found = read_studies(tree_of(), 10)
    assert [study.study_key for study in found] == ["cd" * 16, "ab" * 16]
    assert len(read_studies(tree_of(), 1)) == 1
