from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicomnode.cli.main import app
from dicomnode.config import parse
from dicomnode.errors import ConfigError
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.storage.writer import WriteMode
from dicomnode.study import WorkKey, WorkState, blind_key
from dicomnode.workflow.indexing import row_of
from tests.unit.workflow.samples import START, encoded, metadata, tiny_series

MODEL = "stand-in"


class Received:
    """State folder of a node that has received one study, and its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        tree = parse({"node": {"state": folder / "state"}})
        layout = Layout.of(tree)
        rooms.make_state_folder(layout)
        ring = rooms.open_key_ring(tree, layout, {}, create=True)
        images = tiny_series(seed="explained", patient_id="P-4711", name="Secret^Name")
        self.uid = str(images[0].StudyInstanceUID)
        self.key = blind_key(ring.derivation, "study", self.uid)
        self.work = WorkKey(study_key=self.key, revision=1, model=MODEL)
        mode = WriteMode("append", 4096)
        with (
            Ledger.open(layout.ledger) as ledger,
            Spool(layout.spool, tree.intake, DataKeys(ledger, ring), write_mode=mode) as spool,
        ):
            rows = []
            for image in images:
                data = encoded(image)
                about = metadata(image, data)
                rows.append(row_of(ring.derivation, self.key, spool.append(self.key, about, data), about))
            ledger.record_instances(rows)
            ledger.open_revision(self.key, "digest", START)
            facts = {"rules": "before", "destinations": "pacs"}
            ledger.create_work(self.work, "digest", START, facts=facts)
            ledger.set_work_state(self.work, WorkState.REFUSED, at=START, reason="geometry-gap")

    def run(self, *arguments: str, rules: str = "") -> str:
        path = self.folder / "node.toml"
        path.write_text(f'[models]\nengine = "stand-in"\n{rules}')
        told = ["--state", str(self.folder / "state"), "--config", str(path)]
        done = CliRunner().invoke(app, [*arguments, *told], catch_exceptions=False, env={"COLUMNS": "300"})
        assert done.exit_code == 0, done.output
        assert "Secret" not in done.output
        assert "4711" not in done.output
        assert self.uid not in done.output
        return done.output


@pytest.fixture(scope="module")
def received(tmp_path_factory: pytest.TempPathFactory) -> Received:
    return Received(tmp_path_factory.mktemp("received"))


RULES = """
[[rules]]
name = "chest"
where = [{attribute = "BodyPartExamined", one_of = ["CHEST"]}]
priority = "stat"
destinations = []
[[rules]]
name = "head"
where = [{attribute = "BodyPartExamined", one_of = ["HEAD"]}]
[[rules]]
name = "elsewhere"
calling_ae_titles = ["MR1"]
"""


def test_a_study_is_explained_rule_by_rule_and_model_by_model(received: Received) -> None:
    text = received.run("explain", received.key[:10], rules=RULES)
    assert "16 objects, stat" in text
    assert "CT, 16 images, 20 mm apart, 300 mm long, from SENDER to DICOMNODE" in text
    assert "rule chest: takes it" in text
    assert "rule head: no: BodyPartExamined is not as the rule asks" in text
    assert "rule elsewhere: no: another sender" in text
    assert "model stand-in: works on it" in text
    assert "model stand-in, by chest: results to no destination" in text
    assert "was worked on: stand-in, revision 1, then by before: refused (geometry-gap)" in text


def test_without_rules_every_model_is_asked(received: Received) -> None:
    text = received.run("explain", received.uid)
    assert "model stand-in: results to all destinations" in text
    assert "rule" not in text.replace("by before", "")


def test_a_study_that_no_rule_takes(received: Received) -> None:
    text = received.run("explain", received.key, rules='[[rules]]\nname = "mr"\nmodalities = ["MR"]\n')
    assert "rule mr: no: another modality" in text
    assert "no rule gives it to a model" in text


def test_programs_get_the_same_as_json(received: Received) -> None:
    found = json.loads(received.run("explain", received.key, "--json", rules=RULES))
    assert found["models"] == {MODEL: {"rules": ["chest"], "destinations": [], "refused": None}}
    (series,) = found["series"]
    assert series["rules"]["elsewhere"] == {"taken": False, "because": "calling_ae_titles"}
    assert series["models"] == {MODEL: "chosen"}
    assert found["works"][0]["rules"] == ["before"]
    assert found["works"][0]["destinations"] == ["pacs"]


def test_a_study_that_is_not_there_is_a_mistake(received: Received) -> None:
    with pytest.raises(ConfigError, match="study-not-found"):
        received.run("explain", "0" * 32)


def test_nothing_is_written_by_looking(received: Received) -> None:
    def state() -> dict[Path, Any]:
        found = (received.folder / "state").rglob("*")
        return {one: one.read_bytes() for one in found if one.is_file() and not one.name.endswith(("-shm", "-wal"))}

    before = state()
    received.run("explain", received.key, rules=RULES)
    assert state() == before
