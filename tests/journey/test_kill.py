"""kill -9 of the node at every boundary of a study's way: afterwards the PACS holds exactly one set of results.

One node, one archive and one recorder serve all cases; each case has its own patient and ends with a node that runs.
`DICOMNODE_KILL_ROUNDS=N` makes it N kills at random moments instead of two (`make prove-slice`), with the seeds from
`DICOMNODE_KILL_SEED` on.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pynetdicom.association import Association
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from dicomnode.imaging.phantom_series import PhantomPatient
from dicomnode.network.requestor import Requestor
from dicomnode.network.transport import Entity
from dicomnode.sections import Destination
from dicomnode.study import FINAL_STATES, WorkRow, WorkState
from tests import tools
from tests.journey.inside import Inside, data_of, digest_of, send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import EXPLICIT, write_study
from tests.neighbours import Dcmqrscp, wait_for

MODEL = "stand-in"
ROUNDS = int(os.environ.get("DICOMNODE_KILL_ROUNDS", "2"))
FIRST_SEED = int(os.environ.get("DICOMNODE_KILL_SEED", "0"))
BOUNDARIES = (
    "study.arrived",
    "study.started",
    "stage.begun prepare",
    "stage.ended prepare",
    "stage.begun infer",
    "stage.ended infer",
    "stage.begun encode",
    "stage.ended encode",
    "study.settled",
    "work.released",
    "delivery.begun",
    "delivery.confirmed",
)


@dataclass(frozen=True)
class Ward:
    """The node and where its results go."""

    node: RunningNode
    archive: Dcmqrscp
    recorder: Recorder
    inside: Inside


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    tools.require("dcmqrscp")
    folder = tmp_path_factory.mktemp("kill")
    archive = Dcmqrscp(folder / "archive").start()
    try:
        with Recorder() as recorder:
            settings = destination("archive", archive.ae_title, archive.dicom_port)
            settings += destination("recorder", recorder.ae_title, recorder.port)
            with RunningNode(folder / "node", settings) as node:
                yield Ward(node, archive, recorder, Inside(node.tree))
    finally:
        archive.stop()


def restart(ward: Ward) -> None:
    ward.node.kill()
    ward.node.start()


def wait_at(ward: Ward, boundary: str, study_key: str) -> None:
    """Until the node says that the study is there; the stand-in's only work of the first revision."""
    name, _, stage = boundary.partition(" ")
    if name.startswith("study."):
        ward.node.wait_for_event(name, study=study_key)
    else:
        facts = {"work": f"{study_key}-1-{MODEL}"} | ({"stage": stage} if stage else {})
        ward.node.wait_for_event(name, **facts)


def archived(ward: Ward, study_instance_uid: str) -> dict[str, str]:
    """SOP Instance UID to modality of everything that the archive holds of a study, by C-FIND."""
    port = ward.archive.dicom_port
    peer = Requestor(Destination(name="pacs", ae_title=ward.archive.ae_title, host="127.0.0.1", port=port), "TEST")
    found: dict[str, str] = {}
    query = {"StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": "", "Modality": ""}
    for series in peer.find("SERIES", query):
        names = {"StudyInstanceUID": study_instance_uid, "SeriesInstanceUID": series["SeriesInstanceUID"]}
        images = peer.find("IMAGE", names | {"SOPInstanceUID": ""})
        found |= {image["SOPInstanceUID"]: series["Modality"] for image in images}
    return found


def settled_work(ward: Ward, who: PhantomPatient) -> WorkRow:
    """The study's one work that counts, when it has ended."""
    key = ward.inside.study_key(who.uid("study"))

    def ended(work: WorkRow) -> bool:
        return work.key.study_key == key and work.state in FINAL_STATES

    works = ward.node.wait_for_work(90, ended=ended)
    assert len(works) == 1, works
    return works[0]


def prove(ward: Ward, who: PhantomPatient, paths: list[Path], output: Path) -> None:
    """One set, the same that a node gives that nobody killed, and every original as it was sent."""
    work = settled_work(ward, who)
    assert work.state is WorkState.DONE, (work, ward.node.log())
    twin = ward.inside.offline(paths, output)
    expected = {str(pydicom.dcmread(path).SOPInstanceUID): digest_of(path) for path in twin}

    found = archived(ward, who.uid("study"))
    assert sorted(found.values()) == ["KO", "OT", "SEG", "SR"]
    assert set(found) == set(expected)
    assert set(ward.inside.result_digests(work.key).values()) == set(expected.values())
    received = ward.recorder.digests()
    for uid, digest in expected.items():
        assert set(received[uid]) == {digest}, "delivered again with other bytes"

    rows = ward.inside.instances(who.uid("study"))
    assert len(rows) == len(paths)
    originals = ward.inside.originals(who.uid("study"))
    for path in paths:
        uid = str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        assert set(originals[uid]) == {data_of(path)}
    assert "node.fault" not in ward.node.log()


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_killed_at_a_boundary(ward: Ward, tmp_path: Path, boundary: str) -> None:
    paths, who = write_study(tmp_path / "study", boundary, patient_id=f"K-{BOUNDARIES.index(boundary)}")
    assert {outcome.status for outcome in send(ward.node, paths)} == {0}
    wait_at(ward, boundary, ward.inside.study_key(who.uid("study")))

    restart(ward)

    prove(ward, who, paths, tmp_path / "twin")


def open_association(ward: Ward, transfer_syntax_uid: str = EXPLICIT) -> Association:
    entity = Entity("SENDER")
    entity.add_requested_context(CTImageStorage, transfer_syntax_uid)
    association = entity.associate("127.0.0.1", ward.node.port, ae_title="DICOMNODE")
    assert association.is_established
    return association


def status_of(association: Association, path: Path) -> int | None:
    """Status of a C-STORE; None where the peer is gone."""
    try:
        status = association.send_c_store(path)
    except RuntimeError:  # it was gone before
        return None
    return int(status.Status) if "Status" in status else None


def test_killed_while_receiving(ward: Ward, tmp_path: Path) -> None:
    """The sender sees the failure; what was acknowledged is there; it sends again and all is as ever."""
    paths, who = write_study(tmp_path / "study", "receiving", patient_id="K-R")
    association = open_association(ward)
    half = len(paths) // 2
    assert {status_of(association, path) for path in paths[:half]} == {0}

    ward.node.kill()

    # A receiver outlives its node by a moment: it refuses what it cannot hand on (A700), or is gone.
    assert status_of(association, paths[half]) in (None, 0xA700)
    ward.node.start()
    # The object that nobody acknowledged may be there, too.
    assert len(ward.inside.instances(who.uid("study"))) in (half, half + 1)
    assert {outcome.status for outcome in send(ward.node, paths)} == {0}
    prove(ward, who, paths, tmp_path / "twin")


def test_killed_twice_in_one_study(ward: Ward, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "twice", patient_id="K-2")
    assert {outcome.status for outcome in send(ward.node, paths)} == {0}
    study_key = ward.inside.study_key(who.uid("study"))
    wait_at(ward, "stage.begun infer", study_key)
    restart(ward)
    wait_at(ward, "stage.begun encode", study_key)
    restart(ward)
    prove(ward, who, paths, tmp_path / "twin")


def test_a_stop_while_receiving_lets_the_sender_end(ward: Ward, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "drained", patient_id="K-D")
    association = open_association(ward)
    half = len(paths) // 2
    assert {status_of(association, path) for path in paths[:half]} == {0}
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(ward.node.terminate)
        ward.node.wait_for_event("node.draining")
        assert {status_of(association, path) for path in paths[half:]} == {0}
        association.release()
        assert ended.result(60) == 0
    ward.node.start()
    prove(ward, who, paths, tmp_path / "twin")


def test_a_stop_while_inferring_lets_the_stage_end(ward: Ward, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "stopped", patient_id="K-S")
    assert {outcome.status for outcome in send(ward.node, paths)} == {0}
    wait_at(ward, "stage.begun infer", ward.inside.study_key(who.uid("study")))
    assert ward.node.terminate() == 0
    ward.node.start()
    prove(ward, who, paths, tmp_path / "twin")


def test_a_second_node_on_the_same_state_is_refused(ward: Ward) -> None:
    command = [sys.executable, "-m", "dicomnode", "serve", "--port", "0", "--state", str(ward.node.state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "node-running" in done.stderr
    assert "Traceback" not in done.stderr


def test_killed_in_its_first_start(tmp_path: Path) -> None:
    """While it makes its keys, its ledger and its spool: each next start goes on with what is there."""
    node = RunningNode(tmp_path)
    for name in ("keys", "ledger.sqlite", "spool"):
        node.launch()
        wait_for((node.state / name).exists, what=name)
        node.kill()
    with node:
        assert node.terminate() == 0


def deliver_to(ward: Ward, paths: list[Path]) -> None:
    """A sender that does not give up: whatever was not acknowledged goes again, to whichever node runs."""
    left = paths
    while left:
        statuses = {outcome.result_id: outcome.status for outcome in send(ward.node, left)}
        left = [path for path in left if statuses.get(str(path)) != 0]


@pytest.mark.skipif(ROUNDS == 0, reason="DICOMNODE_KILL_ROUNDS is 0")
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + ROUNDS))
def test_killed_at_any_moment(ward: Ward, tmp_path: Path, seed: int) -> None:
    """Also while it starts: then it says nothing yet, and is started again."""
    chance = random.Random(seed)
    moments = [chance.uniform(0.0, 4.0) for _ in range(chance.choice((1, 1, 2, 3)))]
    in_start = chance.random() < 0.4
    paths, who = write_study(tmp_path / "study", f"random-{seed}", patient_id=f"K-{seed}")
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(deliver_to, ward, paths)
        for moment in moments:
            threading.Event().wait(moment)
            ward.node.kill()
            if in_start:
                ward.node.launch()
                threading.Event().wait(moment)
                ward.node.kill()
            ward.node.start()
        sent.result(60)
    prove(ward, who, paths, tmp_path / "twin")
