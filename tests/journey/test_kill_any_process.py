"""kill -9 of any process of a node, children too, at random moments: one set of results at the PACS, nothing acknowledged lost.

The node has two receivers, and every other study is compressed, so that codecs run in children. A round kills one process
that is there at a random moment, whichever it is, up to three times in one study; a node that is dead is started again.
`DICOMNODE_WORKFLOW_KILLS=N` makes it N kills (`make prove-workflow`), with the seed `DICOMNODE_KILL_SEED`.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import RLELossless

from tests import tools
from tests.journey.inside import Inside
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import EXPLICIT, write_study
from tests.journey.test_kill import Ward, deliver_to, prove
from tests.neighbours import Dcmqrscp

KILLS = int(os.environ.get("DICOMNODE_WORKFLOW_KILLS", "3"))
SEED = int(os.environ.get("DICOMNODE_KILL_SEED", "0"))
#: A sender learns the port of a node that was started again when it is ready, seconds after it listens on a crowded machine.
SETTINGS = "[intake]\nreceivers = 2\n[completion]\nquiet_seconds = 5\n"
REAL = '[models]\nengine = "onnxruntime"\nenabled = ["ct-lung"]\n'


@pytest.fixture(params=["stand-in"])
def ward(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ward]:
    tools.require("dcmqrscp")
    archive = Dcmqrscp(tmp_path / "archive").start()
    try:
        with Recorder() as recorder:
            settings = destination("archive", archive.ae_title, archive.dicom_port)
            settings += destination("recorder", recorder.ae_title, recorder.port) + SETTINGS
            settings += REAL if request.param == "real" else ""
            with RunningNode(tmp_path / "node", settings) as node:
                yield Ward(node, archive, recorder, Inside(node.tree))
    finally:
        archive.stop()


def compressed(_: int, image: Dataset) -> None:
    """RLE in place of native pixels: decoded by a child."""
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = EXPLICIT
    image.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)


def family(pid: int) -> dict[int, str]:
    """A process and all its descendants, with what each is."""
    found: dict[int, str] = {}
    for name in [pid, *_children(pid)]:
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:  # it has ended
            continue
        if words != [""]:
            found[name] = "node" if name == pid else next((word for word in words if "dicomnode." in word), "other")
    return found


def _children(pid: int) -> Iterator[int]:
    try:
        named = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return
    for child in (int(name) for names in named for name in names):
        yield child
        yield from _children(child)


def kill_one(ward: Ward, chance: random.Random, killed: Counter[str]) -> None:
    """Kill -9 a process that is there, of a kind that was killed least, and count it; the node runs afterwards."""
    there = family(ward.node.pid)
    kind = min(sorted(set(there.values())), key=lambda one: (killed[one], chance.random()))
    killed[kind] += 1
    if kind == "node":
        ward.node.kill()
        ward.node.start()
        return
    victim = chance.choice(sorted(pid for pid, what in there.items() if what == kind))
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:  # it had just ended
        killed[kind] -= 1


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_any_process_is_killed_at_any_moment(ward: Ward, tmp_path: Path) -> None:
    chance = random.Random(SEED)
    killed: Counter[str] = Counter()
    number = 0
    while killed.total() < KILLS:
        number += 1
        change, syntax = (compressed, RLELossless) if number % 2 else (None, EXPLICIT)
        paths, who = write_study(
            tmp_path / f"study{number}", f"any-{SEED}-{number}", change=change, transfer_syntax_uid=syntax,
            patient_id=f"A-{number}",
        )  # fmt: skip
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(deliver_to, ward, paths)
            for _ in range(min(chance.choice((1, 2, 3)), KILLS - killed.total())):
                threading.Event().wait(chance.uniform(0.0, 3.0))
                kill_one(ward, chance, killed)
            sent.result(120)
        prove(ward, who, paths, tmp_path / f"twin{number}")
        print(f"SEED={SEED}: {killed.total()} of {KILLS} kills, {number} studies: {dict(killed)}", flush=True)  # noqa: T201
    assert killed.total() == KILLS


@pytest.mark.slow
@pytest.mark.parametrize("ward", ["real"], indirect=True)
def test_the_real_model_is_killed_at_work(ward: Ward, tmp_path: Path) -> None:
    """A receiver while it receives, the node in the network's stage: the same results as of a node that nobody killed."""
    chance, killed = random.Random(SEED), Counter({"node": 1})
    paths, who = write_study(tmp_path / "study", f"real-{SEED}", patient_id="A-REAL")
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(deliver_to, ward, paths)
        kill_one(ward, chance, killed)
        sent.result(120)
    assert killed["dicomnode.service.receiver"] == 1, killed
    ward.node.wait_for_event("stage.begun", stage="infer")
    threading.Event().wait(chance.uniform(0.0, 1.0))
    ward.node.kill()
    ward.node.start()
    prove(ward, who, paths, tmp_path / "twin")


@pytest.mark.slow
def test_a_codec_that_is_killed_costs_no_study(ward: Ward, tmp_path: Path) -> None:
    """As the kernel does when memory is short: the frame is asked for again, of a new child."""
    paths, who = write_study(tmp_path / "study", "codec", change=compressed, transfer_syntax_uid=RLELossless)
    dead = threading.Event()

    def hunt() -> None:
        while not dead.is_set():
            for pid, kind in family(ward.node.pid).items():
                if kind == "dicomnode.imaging.decode":
                    os.kill(pid, signal.SIGKILL)
                    dead.set()

    with ThreadPoolExecutor(1) as pool:
        hunted = pool.submit(hunt)
        deliver_to(ward, paths)
        ward.node.wait_for_event("stage.ended", stage="infer")
        found = dead.is_set()
        dead.set()
        hunted.result(30)
    assert found, "no codec ran"
    prove(ward, who, paths, tmp_path / "twin")
