"""kill -9 of any process of a node, children too, at random moments: one set of results at the PACS, nothing acknowledged lost.

The node has two receivers, and every other study is compressed, so that codecs run in children. In every study some process
is killed at a random moment, and then the node in one or two of the states in which it was killed least so far, from the first
image to the last confirmation. A table says how many kills fell where.
`DICOMNODE_WORKFLOW_KILLS=N` makes it N kills (`make prove-workflow`: 200, which must hit every state), with the seed
`DICOMNODE_KILL_SEED`.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
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
from tests.journey.whereabouts import EARLY, ENDED, LATE, STATES, Tally, Way, place
from tests.neighbours import Dcmqrscp

KILLS = int(os.environ.get("DICOMNODE_WORKFLOW_KILLS", "3"))
SEED = int(os.environ.get("DICOMNODE_KILL_SEED", "0"))
#: A sender learns the port of a node that was started again when it is ready, seconds after it listens on a crowded machine.
SETTINGS = "[intake]\nreceivers = 2\n[completion]\nquiet_seconds = 5\nstart_early = true\n"
#: Kills that are enough to ask that each state was hit.
ENOUGH = 150
#: How many of the nodes that were killed are killed once more while they start.
AGAIN = 0.15
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
            found[name] = "node" if name == pid else _module(words)
    return found


def _module(words: list[str]) -> str:
    """What a child of a node is: each of them is a module of its own."""
    return words[words.index("-m") + 1] if "-m" in words else "other"


def _children(pid: int) -> Iterator[int]:
    try:
        named = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return
    for child in (int(name) for names in named for name in names):
        yield child
        yield from _children(child)


def kill_one(ward: Ward, chance: random.Random, tally: Tally, way: Way) -> None:
    """Kill -9 a process that is there, of a kind that was killed least, and count it; the node runs afterwards."""
    there = family(ward.node.pid)
    kind = min(sorted(set(there.values())), key=lambda one: (tally.of_kind(one), one == "node", chance.random()))
    if kind == "node":
        kill_node(ward, chance, tally, way)
        return
    victim = chance.choice(sorted(pid for pid, what in there.items() if what == kind))
    state = way.state()
    with suppress(ProcessLookupError):  # it had just ended
        os.kill(victim, signal.SIGKILL)
        tally.add(kind, state)


def kill_node(ward: Ward, chance: random.Random, tally: Tally, way: Way) -> None:
    """Kill -9 the node, at times once more while it starts; the next one begins early, or only once a study is settled."""
    ward.node.kill()
    tally.add("node", way.state())
    way.keep()
    if chance.random() < AGAIN:
        ward.node.launch()
        threading.Event().wait(chance.uniform(0.0, 2.0))
        ward.node.kill()
        tally.add("node", way.state())
        way.keep()
    let_begin_early(ward.node, chance.random() < 0.5)
    ward.node.start()


def let_begin_early(node: RunningNode, early: bool) -> None:
    """For the node's next start."""
    path = node.folder / "dicomnode.toml"
    path.write_text(re.sub(r"start_early = \w+", f"start_early = {str(early).lower()}", path.read_text()))


def aims(node: RunningNode, chance: random.Random, tally: Tally, most: int) -> list[str]:
    """States in which the node was killed least, in the order of the way, of those that a study comes through."""
    never = LATE if "start_early = true" in (node.folder / "dicomnode.toml").read_text() else EARLY
    ahead = [state for state in STATES[1:] if state not in never]
    least = sorted(ahead, key=lambda state: (tally.at(state) + tally.tried[state], chance.random()))[:most]
    tally.tried.update(least)
    return sorted(least, key=STATES.index)


def kill_in_one_study(ward: Ward, chance: random.Random, tally: Tally, way: Way) -> None:
    """One process of any kind at any moment; then the node, where it was killed least."""
    chosen = aims(ward.node, chance, tally, chance.choice((1, 2)))
    if chosen[0] == "receiving":  # soon over
        threading.Event().wait(chance.uniform(0.1, 1.0))
        kill_node(ward, chance, tally, way)
        chosen = chosen[1:]
    threading.Event().wait(chance.uniform(0.0, 3.0))
    kill_one(ward, chance, tally, way)
    for aim in chosen:
        if tally.total() < KILLS:
            way.reach(aim)
            threading.Event().wait(chance.choice((0.0, chance.uniform(0.0, 0.5))))
            kill_node(ward, chance, tally, way)


def survive_in_one_study(ward: Ward, chance: random.Random, tally: Tally, number: int, folder: Path) -> None:
    """Its results are there once, after all kills."""
    change, syntax = (compressed, RLELossless) if number % 2 else (None, EXPLICIT)
    paths, who = write_study(
        folder / f"study{number}", f"any-{SEED}-{number}", change=change, transfer_syntax_uid=syntax,
        patient_id=f"A-{number}",
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(deliver_to, ward, paths)
        kill_in_one_study(ward, chance, tally, Way(ward.node, ward.inside.study_key(who.uid("study")), sent))
        sent.result(120)
    prove(ward, who, paths, folder / f"twin{number}")


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_any_process_is_killed_at_any_moment(ward: Ward, tmp_path: Path) -> None:
    chance, tally, number = random.Random(SEED), Tally(), 0
    try:
        while tally.total() < KILLS:
            number += 1
            survive_in_one_study(ward, chance, tally, number, tmp_path)
            print(f"SEED={SEED}: {tally.total()} of {KILLS} kills, {number} studies", flush=True)  # noqa: T201
    finally:
        print(tally.table(), flush=True)  # noqa: T201
    if KILLS >= ENOUGH:
        assert [state for state in STATES if not tally.at(state)] == [], "the node was never killed there"


def test_where_a_study_stands() -> None:
    """By the last event of this study, whether it was settled before, and by nothing that is said of another one."""
    told = [
        {"event": "study.arrived", "study": "ab"},
        {"event": "stage.begun", "work": "ab-1-m", "stage": "prepare"},
        {"event": "study.settled", "study": "ab"},
        {"event": "stage.ended", "work": "ab-1-m", "stage": "prepare"},
        {"event": "stage.begun", "work": "ab-1-m", "stage": "encode"},
        {"event": "work.ended", "work": "abc-1-m"},
        {"event": "stage.ended", "work": "ab-1-m", "stage": "encode"},
        {"event": "work.released", "work": "ab-1-m"},
        {"event": "delivery.begun", "work": "ab-1-m"},
        {"event": "delivery.confirmed", "work": "ab-1-m"},
        {"event": "work.ended", "work": "ab-1-m"},
    ]
    seen = [place(told[:count], "ab") for count in range(1, len(told) + 1)]
    assert seen == [
        "received", "early prepare", "prepare", "prepare", "encode", "encode", "made", "released", "delivering",
        "confirmed", ENDED,
    ]  # fmt: skip
    assert place([told[2]], "ab") == "settled"


@pytest.mark.slow
@pytest.mark.parametrize("ward", ["real"], indirect=True)
def test_the_real_model_is_killed_at_work(ward: Ward, tmp_path: Path) -> None:
    """A receiver while it receives, the node in the network's stage: the same results as of a node that nobody killed."""
    chance, tally = random.Random(SEED), Tally()
    paths, who = write_study(tmp_path / "study", f"real-{SEED}", patient_id="A-REAL")
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(deliver_to, ward, paths)
        kill_one(ward, chance, tally, Way(ward.node, ward.inside.study_key(who.uid("study")), sent))
        sent.result(120)
    assert tally.of_kind("dicomnode.service.receiver") == 1, tally.table()
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
