"""kill -9 of every process that a node has beside itself, at every boundary of a study's way, in its reading and in its network.

One study, one node that is never killed: at each boundary it stands still (`gates`), its receiver, its codecs and its GPU process
are killed, all at once, and it goes on with others. The study is compressed, so that children decode its images, and it is
de-identified while it comes, so that they are read while other stages end and begin.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from pydicom.uid import RLELossless

from tests import tools
from tests.journey.gates import HELD, LOOK, NETWORK
from tests.journey.inside import Inside
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, altered, destination
from tests.journey.studies import write_study
from tests.journey.test_kill import BOUNDARIES, Ward, deliver_to, open_association, prove, status_of
from tests.journey.test_kill_any_process import compressed, family
from tests.neighbours import Dcmqrscp, wait_for

SETTINGS = """
[intake]
receivers = 1
prepared_bytes = 0
[reading]
decode_processes = 1
[completion]
quiet_seconds = 1
start_early = true
"""
#: What lives all the time; while images are de-identified, mostly while others come; and while a series is read.
ALWAYS = Counter({"dicomnode.service.receiver": 1, "tests.journey.gates": 1})
MAKING = ALWAYS + Counter({"dicomnode.deidentification.children": 1})
READING = ALWAYS + Counter({"dicomnode.imaging.decode": 1})
#: What is killed where, at least, in the order of the way.
WAY = {
    "receiving": MAKING,
    "study.arrived": MAKING,
    "study.started": MAKING,
    "stage.begun prepare": MAKING,
    "stage.ended prepare": MAKING | READING,
    "stage.begun infer": READING,
    "reading 3": READING,
    NETWORK: ALWAYS,
    "stage.ended infer": ALWAYS,
    "stage.begun encode": ALWAYS,
    "stage.ended encode": ALWAYS,
    "study.settled": ALWAYS,
    "work.released": ALWAYS,
    "delivery.begun": ALWAYS,
    "delivery.confirmed": ALWAYS,
    "work.ended": ALWAYS,
}
#: Who goes on with other children when they were killed somewhere, for some images more.
THEN = {
    "receiving": "making 1",
    "study.arrived": "making 2",
    "study.started": "making 3",
    "stage.ended prepare": "reading 1",
    "stage.begun infer": "reading 2",
}


class Gates:
    """The journey's side of `gates`.

    Parameters
    ----------
    folder
        Where they are; the program that is run in the node has it, too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.program = (
            f"import sys\nsys.path.append({str(Path(__file__).parents[2])!r})\n"
            f"from pathlib import Path\nfrom tests.journey import gates\ngates.alter(Path({str(folder)!r}))\n"
        )

    def shut(self, places: Iterable[str]) -> None:
        """Whoever comes there first from now on stands still."""
        for place in places:
            (self._folder / place).touch()

    def wait_at(self, place: str) -> None:
        """Until somebody stands there."""
        wait_for((self._folder / f"{place}{HELD}").exists, 60, what=place)

    def open(self, place: str) -> None:
        """Let whoever stands there go on."""
        (self._folder / f"{place}{HELD}").unlink()


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    return Gates(tmp_path / "gates")


@pytest.fixture
def ward(tmp_path: Path, gates: Gates) -> Iterator[Ward]:
    tools.require("dcmqrscp")
    archive = Dcmqrscp(tmp_path / "archive").start()
    try:
        with Recorder() as recorder:
            settings = destination("archive", archive.ae_title, archive.dicom_port) + SETTINGS
            settings += destination("recorder", recorder.ae_title, recorder.port)
            environment = altered(tmp_path / "altered", gates.program)
            with RunningNode(tmp_path / "node", settings, environment=environment) as node:
                yield Ward(node, archive, recorder, Inside(node.tree))
    finally:
        archive.stop()


def children(ward: Ward) -> dict[int, str]:
    """Living processes that the node has beside itself, with what each is."""
    there = family(ward.node.pid)
    there.pop(ward.node.pid, None)
    return there


def lives(pid: int) -> bool:
    """Whether a process can not be waited for yet: any of its threads lives, of which the first one stays as a zombie."""
    try:
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
        return threads > 1 or Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:  # somebody waited for it
        return False


def kill_all(ward: Ward, expected: Counter[str]) -> Counter[str]:
    """Kill -9 all children, once those that are expected are there; what was killed."""
    with suppress(AssertionError):
        wait_for(lambda: Counter(children(ward).values()) >= expected, 60)
    killed = children(ward)
    assert Counter(killed.values()) >= expected, (killed, ward.node.log())
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not any(map(lives, killed)), what="their end")
    return Counter(killed.values())


def pass_by(ward: Ward, gates: Gates, place: str) -> Counter[str]:
    """Kill what lives while somebody stands at a gate, and let them go on; what was killed."""
    gates.wait_at(place)
    killed = kill_all(ward, WAY[place])
    gates.open(place)
    if place in THEN:
        gates.wait_at(THEN[place])
        gates.open(THEN[place])
    return killed


def send_half(ward: Ward, gates: Gates, paths: list[Path]) -> Counter[str]:
    """The sender sees that its receiver died, and the node that its association ended; what was killed."""
    association = open_association(ward, RLELossless)
    half = len(paths) // 2
    assert {status_of(association, path) for path in paths[:half]} == {0}
    killed = kill_all(ward, WAY["receiving"])
    assert status_of(association, paths[half]) is None
    for gate in ("association.closed", THEN["receiving"]):
        gates.wait_at(gate)
        gates.open(gate)
    ward.node.wait_for_event("receiver.died")
    return killed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_child_is_killed_at_every_boundary(ward: Ward, gates: Gates, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "children", change=compressed, transfer_syntax_uid=RLELossless)
    first, second, *others = WAY
    gates.shut(["association.closed", LOOK, *THEN.values(), *others])
    killed = {first: send_half(ward, gates, paths)}
    gates.shut([second])  # half of the study has arrived before
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(deliver_to, ward, paths)
        killed[second] = pass_by(ward, gates, second)
        gates.wait_at(THEN["study.started"])  # nothing is made early while a stage runs
        gates.open(LOOK)
        killed |= {place: pass_by(ward, gates, place) for place in others}
        sent.result(60)
    prove(ward, who, paths, tmp_path / "twin")
    lacking = {place: WAY[place] - fell for place, fell in killed.items() if not fell >= WAY[place]}
    assert (killed.keys(), lacking) == (WAY.keys(), {})
    assert set().union(*killed.values()) == set().union(*WAY.values()), "a kind of child that nothing here knows"
    assert WAY.keys() > set(BOUNDARIES)
    errors = Counter(event["event"] for event in ward.node.events if event.get("level") == "error")
    assert errors == {"receiver.died": len(WAY)}
