from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicomnode.cli.main import app
from dicomnode.cli.replays import beginning
from dicomnode.config import ConfigErrors, parse
from dicomnode.errors import ConfigError, KeyStoreError
from dicomnode.results.context import MANUFACTURER, MODEL_NAME
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage import audit
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.storage.writer import WriteMode
from dicomnode.study import InstanceState, Mark, Rejected, WorkKey, WorkState, blind_key
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


def test_a_study_that_was_settled_as_incomplete_says_so(tmp_path: Path) -> None:
    received, lacking = Received(tmp_path), "12 of 300 announced images did not come"
    assert "incomplete" not in received.run("explain", received.key)
    assert json.loads(received.run("explain", received.key, "--json"))["works"][0]["incomplete"] is None
    with Ledger.open(tmp_path / "state" / "ledger.sqlite") as ledger:
        ledger.settle(received.key, 1, START, lacking=lacking)
    assert f"refused (geometry-gap)\n  incomplete: {lacking}\n" in received.run("explain", received.key)
    assert json.loads(received.run("explain", received.key, "--json"))["works"][0]["incomplete"] == lacking


def test_a_study_that_was_cancelled_says_so_and_since_when(received: Received) -> None:
    with Ledger.open(received.folder / "state" / "ledger.sqlite") as ledger:
        assert json.loads(received.run("explain", received.key, "--json"))["mark"] is None
        ledger.put_mark(received.key, Mark.CANCELLED, 1, START)
        text = received.run("explain", received.key)
        assert "cancelled: nothing more is made of it until dicomnode release or reprocess (since 2026-03-01T" in text
        assert json.loads(received.run("explain", received.key, "--json"))["mark"]["mark"] == "cancelled"
        ledger.put_mark(received.key, Mark.RELEASED, 1, START)
        assert "cancelled" not in received.run("explain", received.key)


def test_what_does_not_count_any_more_is_said_not_to_be_judged(tmp_path: Path) -> None:
    received = Received(tmp_path)
    assert "not judged:" not in received.run("explain", received.key)
    told = received.run("replay", "--since", "36500d")
    assert "judged by what is left" not in told
    assert "studies that were shredded before are not here and were not judged" in told
    with Ledger.open(tmp_path / "state" / "ledger.sqlite") as ledger:
        for row, becomes in zip(
            ledger.instances(received.key),
            (InstanceState.REJECTED, InstanceState.EXPIRED, InstanceState.QUARANTINED),
            strict=False,
        ):
            ledger.set_instance_state(received.key, row.address, becomes)
    text = received.run("explain", received.key)
    assert "13 objects, 1 in quarantine, 2 rejected by a rejection note" in text
    assert "not judged: 3 objects in quarantine or rejected; what was made before may be of them, too" in text
    assert "1 judged by what is left: objects of it are rejected or in quarantine" in received.run(
        "replay", "--since", "36500d"
    )
    assert json.loads(received.run("replay", "--since", "36500d", "--json"))["partial"] == 1


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


def test_a_replay_tells_what_another_configuration_would_have_done(received: Received) -> None:
    text = received.run("replay", "--since", "36500d")
    assert f"{received.key[:16]}  stand-in: geometry-gap → results to no destination" in text
    assert "1 study since" in text
    assert "0 as it was, 1 otherwise" in text
    same = received.run(
        "replay", "--since", "2026-03-01T00:00:00+00:00", rules='[[rules]]\nname = "mr"\nmodalities = ["MR"]\n'
    )
    assert "stand-in: geometry-gap → in no rule" in same
    later = received.run("replay", "--since", "2026-03-02T00:00:00+00:00")
    assert "0 studies since" in later


def test_a_replay_tells_what_rules_would_have_ordered(tmp_path: Path) -> None:
    """What somebody ordered is no rule's; a line that was changed says nothing; nor does what was before the study came again."""
    received, state = Received(tmp_path), tmp_path / "state"
    for at, facts in (
        (START, {"destination": "archive", "rules": "all"}),
        (START, {"destination": "by-hand", "uid": 0}),
        (START - timedelta(days=1), {"destination": "before", "rules": "all"}),
        (START, {"rules": "all"}),
    ):
        audit.append(state, "order-export", at, study_key=received.key, **facts)  # type: ignore[arg-type]
    with (state / "audit.jsonl").open("a") as file:
        file.write('{"event": "order-export", \n["order-export"]\n')
    exports = '[[exports]]\nname = "trial"\nproject = "p"\ninto = "/x"\n'
    rules = f'{exports}[[rules]]\nname = "all"\nexport = "trial"\npriority = "stat"\n'
    text = received.run("replay", "--since", "36500d", rules=rules)
    assert f"{received.key[:16]}  exports: archive → trial" in text
    assert f"{received.key[:16]}  priority: routine → stat" in text
    assert "0 as it was, 1 otherwise" in text
    assert "exports: archive → none" in received.run("replay", "--since", "36500d")
    (found,) = json.loads(received.run("replay", "--since", "36500d", "--json", rules=rules))["orders"]
    assert found == {
        "study": received.key,
        "differs": True,
        "then": {"exports": ["archive"], "priority": "routine"},
        "now": {"exports": ["trial"], "priority": "stat"},
    }
    with Ledger.open(state / "ledger.sqlite") as ledger:
        ledger.rank_study(received.key, "er", "stat")
        ledger.set_priority(received.key, "research")
    assert "priority: research → stat" in received.run("replay", "--since", "36500d"), "its sender's, by no rule"


def test_a_replay_for_programs(received: Received) -> None:
    found = json.loads(received.run("replay", "--since", "36500d", "--json"))
    assert (found["studies"], found["gone"]) == (1, 0)
    assert found["models"] == [
        {
            "study": received.key,
            "model": MODEL,
            "differs": True,
            "then": {"outcome": "geometry-gap", "destinations": []},
            "now": {"outcome": "worked-on", "destinations": []},
        }
    ]


@pytest.mark.parametrize("since", ["yesterday", "7", "7y", "999999w", "2026-13-01", "-1d"])
def test_a_time_that_is_none_is_said_to_be(since: str) -> None:
    with pytest.raises(ConfigErrors, match="config-invalid") as caught:
        beginning(since, START)
    assert "--since" in caught.value.problems[0]


@pytest.mark.parametrize(("since", "hours"), [("90m", 1.5), ("12h", 12), ("7d", 168), ("2w", 336)])
def test_times_that_people_write(since: str, hours: float) -> None:
    assert (START - beginning(since, START)).total_seconds() == hours * 3600


def test_a_study_that_was_shredded_is_counted_and_explains_nothing(tmp_path: Path) -> None:
    received = Received(tmp_path)
    tree = parse({"node": {"state": tmp_path / "state"}})
    ring = rooms.open_key_ring(tree, Layout.of(tree), {}, create=False)
    with Ledger.open(Layout.of(tree).ledger) as ledger:
        DataKeys(ledger, ring).shred(received.key)
    assert "1 shredded since" in received.run("replay", "--since", "36500d")
    with pytest.raises(KeyStoreError, match="key-missing"):
        received.run("explain", received.key)


def test_where_no_node_has_run_there_is_nothing_to_explain(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="state-not-found"):
        CliRunner().invoke(app, ["explain", "ab", "--state", str(tmp_path)], catch_exceptions=False)


def lose(path: Path) -> None:
    path.unlink()


def damage(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def cannot_be_read(path: Path) -> None:
    """The disk refuses to give it."""
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("happens", "code"), [(lose, "sealed-damaged"), (damage, "sealed-damaged"), (cannot_be_read, "storage-failed")]
)
def test_what_storage_does_not_give_is_named_and_the_rest_explained(
    tmp_path: Path, happens: Callable[[Path], None], code: str
) -> None:
    received = Received(tmp_path)
    (path,) = [one for one in (tmp_path / "state").rglob("*") if one.suffix in {".open", ".closed"}]
    segment = path.stem
    happens(path)
    text = received.run("explain", received.key, rules=RULES)
    assert "unknown, 0 images, 16 objects that cannot be read" in text
    assert f"segment {segment}: {code}: " in text
    assert "rule chest: no: none of its first objects can be read" in text
    assert "was worked on: stand-in, revision 1, then by before: refused (geometry-gap)" in text
    (series,) = json.loads(received.run("explain", "--json", received.key))["series"]
    assert (series["unreadable"], series["lost"]) == (16, {segment: code})
    assert json.loads(received.run("replay", "--json", "--since", "2026-01-01"))["studies"] == 1


def test_every_series_is_named_also_what_no_model_looks_at_and_what_is_not_judged(tmp_path: Path) -> None:
    """A PET beside the CT, a result of this node that came back, a series that was rejected, and a rejection note."""
    received = Received(tmp_path)
    tree = parse({"node": {"state": tmp_path / "state"}})
    layout = Layout.of(tree)
    ring = rooms.open_key_ring(tree, layout, {}, create=False)
    image = tiny_series(seed="explained", patient_id="P-4711", name="Secret^Name")[0]
    mode = WriteMode("append", 4096)
    with (
        Ledger.open(layout.ledger) as ledger,
        Spool(layout.spool, tree.intake, DataKeys(ledger, ring), write_mode=mode) as spool,
    ):
        for number, modality in enumerate(("PT", "SR", "KO", "XC")):
            image.Modality, image.SOPClassUID = modality, f"1.2.840.10008.5.1.4.1.1.128.{number}"
            image.SeriesInstanceUID, image.SOPInstanceUID = f"2.25.{number + 1}", f"2.25.{number + 10}"
            if modality == "SR":
                image.Manufacturer, image.ManufacturerModelName = MANUFACTURER, MODEL_NAME
            data = encoded(image)
            about = metadata(image, data)
            row = row_of(ring.derivation, received.key, spool.append(received.key, about, data), about)
            ledger.record_instances([row])
            if modality == "KO":
                ledger.enter_rejections(received.key, ["no-such"], Rejected.QUALITY, note=row)
            elif modality == "XC":
                ledger.take_out(received.key, [row.instance_key], InstanceState.REJECTED)
    rules = '[[exports]]\nname = "trial"\nproject = "p"\ninto = "/x"\n[[rules]]\nname = "all"\nexport = "trial"\n'
    text = received.run("explain", received.key, rules=rules)
    assert "CT, 16 images, 20 mm apart" in text
    pet, own = (next(part for part in text.split("\nseries ") if f"  {one}, 1 objects" in part) for one in ("PT", "SR"))
    assert "rule all: takes it" in pet
    assert "model stand-in: does not get it: it looks at no series of this kind" in pet
    assert "rule all: no: it is a result of this node or another dicomnode" in own
    assert "not judged: 1 rejection notes" in text
    assert "not judged: 1 rejected" in text
    assert "export trial, by all: the whole study" in text
    found = json.loads(received.run("explain", received.key, "--json", rules=rules))
    assert sorted((one["modality"], one["input"]) for one in found["series"]) == [
        ("CT", True),
        ("PT", False),
        ("SR", False),
    ]
    assert sorted(map(tuple, (one.items() for one in found["left_out"].values()))) == [
        (("rejected", 1),),
        (("rejection-note", 1),),
    ]
