"""A whole node's state in the hands of a process that holds the pseudonym key alone: it does its work, and restores nobody.

Whatever it can open is looked through for what the source said of the patient.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.config import Config
from dicomnode.encoded import encode_part10
from dicomnode.network.archive import Archive
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.service import rooms
from dicomnode.service.node import Node
from dicomnode.service.rooms import Layout
from dicomnode.service.status import read_studies
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.study import Purpose, WorkKey, World
from dicomnode.workflow.handover import name
from tests.unit.service.test_node import Log
from tests.unit.workflow.samples import EXPLICIT, tiny_series

IDENTITY = {
    "PatientName": "Wolkenstein^Oda",
    "PatientID": "PID-99-4711-Q",
    "PatientBirthDate": "19430217",
    "AccessionNumber": "ACC77123Z",
    "ReferringPhysicianName": "Brandauer^Ute",
    "InstitutionName": "Klinik Hinterstoder",
    "StudyID": "SID5521",
    "StudyDescription": "Thorax Frau Wolkenstein",
}
#: What it does: the network's stage out of the sealed copies; then it tries every way to the patient.
PROGRAM = """
import json, sys
from pathlib import Path
from dicomnode.config import Config
from dicomnode.encoded import read_part10
from dicomnode.errors import NodeError
from dicomnode.service import engines, rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import open_keys, open_pseudonym_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.spool import Spool
from dicomnode.study import Purpose, WorkKey, World
from dicomnode.workflow.analysis import Analyst
from dicomnode.workflow.handover import Handover, Rooms, name
from dicomnode.workflow.packed import pack_labels
from dicomnode.workflow.reading import limits_of
state, plain, (study, revision, model) = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
tree = Config.model_validate({"node": {"state": state}, "models": {"engine": "stand-in"}, "intake": {"write_mode": "append"}})
layout, key = Layout.of(tree), WorkKey(study_key=study, revision=revision, model=model)
ring, ledger = open_pseudonym_keys(layout.keys), Ledger.open(layout.ledger)
keys = DataKeys(ledger, ring)
objects = Objects(layout.objects, keys)
spool = Spool(layout.spool, tree.intake, keys)
handover = Handover(Rooms(spool=spool, ledger=ledger, objects=objects, keys=keys, derivation_key=b"", analysts={}))
(package,) = rooms.load_packages(tree)
analyst = Analyst(package, engines.open_engine(tree, package).engine, None, tree=tree, derivation_key=b"", issued_at=None)
copies = list(handover.copies(key))
analysis = analyst.analyse([read_part10(copy, limits_of(tree)) for copy in copies])
handover.put(key, World.PSEUDONYM, name(key, "labels"), Purpose.LABELS, pack_labels(analysis.labels))
findings = json.dumps(analysis.findings.to_json()).encode()
handover.put(key, World.PSEUDONYM, name(key, "findings"), Purpose.FINDINGS, findings)
opened = [*copies, json.dumps(handover.plan(key)).encode(), analysis.labels.tobytes(), findings]
(plain / "opened").write_bytes(b"\\n".join(opened))
result, instance = ledger.results(key)[0], ledger.instances(study)[0]
tries = {
    "original": lambda: spool.read(study, instance.address),
    "any original": lambda: list(spool.recover()),
    "vault": lambda: handover.identity(key, handover.plan(key)["series_key"]),
    "result": lambda: objects.get(study, World.IDENTITY, result.result_id, Purpose.RESULT),
    "result under the other name": lambda: objects.get(study, World.PSEUDONYM, result.result_id, Purpose.RESULT),
    "minted UIDs": lambda: ring.derivation,
    "pseudonyms": lambda: rooms.open_pseudonyms(tree, ring),
    "whole ring": lambda: rooms.open_key_ring(tree, layout, {}, create=True),
    "a new study": lambda: keys.get_or_create("f" * 32, World.IDENTITY),
}
for what, attempt in tries.items():
    try:
        attempt()
    except NodeError as error:
        print("refused", what, error.code)
    else:
        print("OPENED", what)
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Configuration of a node that took one study all the way."""
    folder = tmp_path_factory.mktemp("node")
    archive, log = Archive(folder / "archive"), Log()
    host, port = archive.start()
    tree = Config.model_validate({
        "node": {"state": folder / "state"},
        "listen": {"port": 0},
        "intake": {"receivers": 0, "write_mode": "append", "minimum_free_bytes": 0},
        "models": {"engine": "stand-in"},
        "completion": {"quiet_seconds": 0.2},
        "destinations": [{"name": "archive", "ae_title": "ARCHIVE", "host": host, "port": port}],
    })  # fmt: skip
    (folder / "study").mkdir()
    for index, image in enumerate(tiny_series()):
        for keyword, value in IDENTITY.items():
            setattr(image, keyword, value)
        (folder / "study" / f"{index}.dcm").write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    node = Node(tree, {}, log)
    try:
        _, own = node.start()
        peer = Requestor(Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=own), "CT1")
        assert {outcome.status for outcome in peer.send_files(sorted((folder / "study").iterdir()))} == {0}
        assert log.wait_for("work.ended")
    finally:
        node.stop(5)
        archive.stop()
    return tree


def of_the_patient() -> set[bytes]:
    image = tiny_series()[0]
    uids = [
        str(image[keyword].value)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    ]
    words = {word for value in IDENTITY.values() for word in value.replace("^", " ").split() if len(word) > 3}
    return {text.encode() for text in {*words, *uids, str(image.StudyDate)}} - {b"Thorax", b"Frau", b"Klinik"}


def test_the_network_runs_with_the_second_key_and_nobody_is_restored(tree: Config, tmp_path: Path) -> None:
    layout = Layout.of(tree)
    (study,) = read_studies(tree, 10)
    work = study.works[0].key
    shutil.copytree(layout.state, tmp_path / "other")
    for gone in ("identity.key", "derivation.key"):
        (tmp_path / "other" / "keys" / gone).unlink()
    (tmp_path / "plain").mkdir()
    arguments = [tmp_path / "other", tmp_path / "plain", json.dumps([work.study_key, work.revision, work.model])]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("OPENED")] == []
    assert len(lines) == 9
    secrets = of_the_patient()
    assert len(secrets) >= 10
    opened = (tmp_path / "plain" / "opened").read_bytes()
    assert b"CT" in opened, "the copies are there, in the clear"
    everything = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    everything[Path("output")] = (done.stdout + done.stderr).encode()
    found = {(path.name, secret) for path, data in everything.items() for secret in secrets if secret in data}
    assert found == set()


def test_what_it_made_is_what_the_node_made(tree: Config, tmp_path: Path) -> None:
    """The same labels and findings, sealed where the identity world reads them."""
    layout = Layout.of(tree)
    (study,) = read_studies(tree, 10)
    work = study.works[0].key
    before = sealed(tree, layout, work)
    copy = tmp_path / "other"
    shutil.copytree(layout.state, copy)
    hidden = {one: (copy / "keys" / one).rename(tmp_path / one) for one in ("identity.key", "derivation.key")}
    arguments = [copy, tmp_path, json.dumps([work.study_key, work.revision, work.model])]
    subprocess.run([sys.executable, "-c", PROGRAM, *map(str, arguments)], check=True, capture_output=True, timeout=120)
    for one, path in hidden.items():
        os.rename(path, copy / "keys" / one)  # noqa: PTH104
    moved = tree.model_copy(update={"node": tree.node.model_copy(update={"state": copy})})
    assert sealed(moved, Layout.of(moved), work) == before


def sealed(tree: Config, layout: Layout, work: WorkKey) -> tuple[bytes, bytes]:
    with Ledger.open(layout.ledger) as ledger:
        objects = Objects(layout.objects, DataKeys(ledger, rooms.open_key_ring(tree, layout, {}, create=False)))
        return (
            objects.get(work.study_key, World.PSEUDONYM, name(work, "labels"), Purpose.LABELS),
            objects.get(work.study_key, World.PSEUDONYM, name(work, "findings"), Purpose.FINDINGS),
        )
