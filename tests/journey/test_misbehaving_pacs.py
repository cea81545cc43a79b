"""A PACS that warns, or drops associations in the middle of an object; a ledger that somebody locks.

And many studies mixed over eight associations, with duplicates and with images that come late. In the end each study has
its results at the PACS, the same bytes under the same UIDs, and the node never said that it had what it did not have.
`DICOMNODE_MIXED_STUDIES` says how many are mixed (`make prove-workflow`: 50).
"""

from __future__ import annotations

import os
import random
import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicomnode.imaging.phantom_series import PhantomPatient
from dicomnode.study import DeliveryState, WorkRow, WorkState
from tests.journey.inside import Inside, data_of, send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import wait_for

STUDIES = int(os.environ.get("DICOMNODE_MIXED_STUDIES", "3"))
SEED = int(os.environ.get("DICOMNODE_KILL_SEED", "0"))
ASSOCIATIONS = 8
#: Studies that begin to come at the same time.
WAVE = max(2, STUDIES // 6)
#: Moments of each kind; all of them in `make prove-workflow`.
MOST = 3 if "DICOMNODE_WORKFLOW_KILLS" in os.environ else 1
#: One SEG, one SR, one key image and its selection.
OBJECTS = 4


def assert_one_set(pacs: Recorder) -> None:
    """Repetitions carry the same bytes."""
    received = pacs.digests()
    assert len(received) == OBJECTS
    assert {len(set(digests)) for digests in received.values()} == {1}


def test_a_warning_is_kept_and_shown_and_is_no_failure(tmp_path: Path) -> None:
    """0xB000, coercion of data elements (PS3.4 Table B.2-1): the PACS has the object."""
    paths, _ = write_study(tmp_path / "study", "warned")
    with Recorder() as pacs, RunningNode(tmp_path / "node", destination("pacs", "RECORDER", pacs.port)) as node:
        pacs.status = 0xB000
        assert {outcome.status for outcome in send(node, paths)} == {0}
        (work,) = node.wait_for_work()
        assert node.wait_for_event("delivery.warned")["status"] == "xB000"
    assert work.state is WorkState.DONE
    assert {one.status for one in work.deliveries} == {0xB000}


class Wire:
    """Between the node and a PACS; connections break after so many bytes, until each of these has broken one."""

    def __init__(self, port: int, breaks: list[int]) -> None:
        self._target, self._breaks = port, breaks
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.broken = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nobody is heard any more, and all threads end."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._server.close()

    def _serve(self) -> None:
        with ThreadPoolExecutor(16) as pool:
            while True:
                try:
                    node, _ = self._server.accept()
                except OSError:
                    return
                limit = self._breaks[0] if self._breaks else None
                pool.submit(self._join, node, limit)

    def _join(self, node: socket.socket, limit: int | None) -> None:
        with node, socket.create_connection(("127.0.0.1", self._target)) as pacs, ThreadPoolExecutor(1) as back:
            back.submit(self._copy, pacs, node, None)
            self._copy(node, pacs, limit)

    def _copy(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                if limit is not None and passed + len(data) >= limit:
                    target.sendall(data[: limit - passed])
                    self._breaks.pop(0)
                    self.broken += 1
                    break
                target.sendall(data)
                passed += len(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def test_associations_that_break_in_the_middle_of_an_object(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "dropped")
    breaks = [3000, 6000, 12_000, 25_000]
    with Recorder() as pacs, closing(Wire(pacs.port, list(breaks))) as wire:
        settings = destination("pacs", "RECORDER", wire.port) + "[delivery]\ncircuit_failures = 100\n"
        with RunningNode(tmp_path / "node", settings) as node:
            assert {outcome.status for outcome in send(node, paths)} == {0}
            (work,) = node.wait_for_work(120)
    assert wire.broken == len(breaks)
    assert work.state is WorkState.DONE
    assert {one.state for one in work.deliveries} == {DeliveryState.CONFIRMED}
    assert_one_set(pacs)


@contextmanager
def locked(ledger: Path, seconds: float) -> Iterator[None]:
    """Another program has the ledger's writing lock for so long."""
    held = sqlite3.connect(ledger, check_same_thread=False, isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(seconds, held.rollback)
    ends.start()
    try:
        yield
    finally:
        ends.join()
        held.close()


def send_until_taken(node: RunningNode, paths: list[Path]) -> set[int | None]:
    """As a modality does that does not give up; the statuses that it saw."""
    left, seen = paths, set[int | None]()
    while left:
        statuses = {outcome.result_id: outcome.status for outcome in send(node, left)}
        seen |= set(statuses.values())
        left = [path for path in left if statuses.get(str(path)) != 0]
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["stage.begun", "receiving", "work.released"][:MOST])
def test_a_ledger_that_is_locked_for_a_while_costs_no_study(tmp_path: Path, moment: str) -> None:
    paths, who = write_study(tmp_path / "study", f"locked {moment}")
    with Recorder() as pacs, RunningNode(tmp_path / "node", destination("pacs", "RECORDER", pacs.port)) as node:
        ledger = node.state / "ledger.sqlite"
        if moment == "receiving":
            with locked(ledger, 12):
                send_until_taken(node, paths)
        else:
            send_until_taken(node, paths)
            node.wait_for_event(moment)
            with locked(ledger, 12):
                pass
        (work,) = node.wait_for_work(120)
        assert len(Inside(node.tree).instances(who.uid("study"))) == len(paths)
        assert "node.fault" not in node.log()
    assert work.state is WorkState.DONE
    assert_one_set(pacs)


@dataclass(frozen=True)
class Mixed:
    """A study, and those of its images that are kept back until it is settled."""

    who: PhantomPatient
    paths: list[Path]
    late: list[Path]

    @property
    def first(self) -> list[Path]:
        """Images that come first."""
        return self.paths[: len(self.paths) - len(self.late)]

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return self.who.uid("study")


def mixed_studies(folder: Path) -> list[list[Mixed]]:
    """Wave by wave; every third study has late images, if a wave comes after its own."""
    found = []
    for number in range(STUDIES):
        paths, who = write_study(folder / f"s{number}", f"mixed-{SEED}-{number}", patient_id=f"M-{number}")
        has_late = number % 3 == 0 and number // WAVE < (STUDIES - 1) // WAVE
        found.append(Mixed(who, paths, paths[-4:] if has_late else []))
    return [found[at : at + WAVE] for at in range(0, STUDIES, WAVE)]


def parts_of(chance: random.Random, new: list[Mixed], before: list[Mixed]) -> list[list[Path]]:
    """What each association carries, in its order: new images, late ones of the wave before, and a tenth twice, shuffled.

    The same image comes again at any time: after its study was worked on, or while another association brings it.
    """
    images = [path for one in new for path in one.first] + [path for one in before for path in one.late]
    again = images + [path for one in before for path in one.first]
    images += chance.sample(again, len(again) // 10) + [one.late[0] for one in before if one.late]
    chance.shuffle(images)
    return [images[number::ASSOCIATIONS] for number in range(ASSOCIATIONS)]


def send_in_waves(node: RunningNode, waves: list[list[Mixed]]) -> None:
    """Each wave over eight associations at once, as soon as every study that has late images in it is settled."""
    chance, before, inside = random.Random(SEED), list[Mixed](), Inside(node.tree)
    with ThreadPoolExecutor(ASSOCIATIONS) as pool:
        for new in waves:
            for one in before:
                if one.late:
                    node.wait_for_event("study.settled", 60 * WAVE, study=inside.study_key(one.uid))
            sent = pool.map(lambda part: send(node, part), parts_of(chance, new, before))
            assert {one.status for outcomes in sent for one in outcomes} == {0}
            before = new


def latest_of(works: Sequence[WorkRow]) -> WorkRow:
    """That of the newest revision."""
    return max(works, key=lambda work: work.key.revision)


def are_done(node: RunningNode, late: set[str]) -> bool:
    """Whether every study's newest work is, and is of a later revision where images came late."""
    latest = [latest_of(row.works) for row in node.studies() if row.works]
    done = [one for one in latest if one.state is WorkState.DONE]
    return len(done) == STUDIES and all(one.key.revision > 1 for one in done if one.key.study_key in late)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_studies_mixed_over_eight_associations(tmp_path: Path) -> None:
    """Duplicates change nothing; images that come late, among those of others, make a second revision of their study alone."""
    waves = mixed_studies(tmp_path)
    studies = [one for new in waves for one in new]
    with Recorder() as pacs:
        settings = destination("pacs", "RECORDER", pacs.port) + "[completion]\nquiet_seconds = 2\n"
        with RunningNode(tmp_path / "node", settings) as node:
            inside = Inside(node.tree)
            late = {inside.study_key(one.uid) for one in studies if one.late}
            send_in_waves(node, waves)
            node.wait_for_work(60 * STUDIES, ended=lambda one: one.state is WorkState.DONE, count=STUDIES)
            wait_for(lambda: are_done(node, late), 60 * STUDIES, what="the latest revision of every study")
            assert node.terminate() == 0
            works = {row.study_key: row.works for row in node.studies()}
        sealed = inside.originals()
    assert late
    received = pacs.digests()
    assert {len(set(digests)) for digests in received.values()} == {1}
    for one in studies:
        assert len(inside.instances(one.uid)) == len(one.paths)
        key = inside.study_key(one.uid)
        latest = latest_of(works[key])
        assert {work.state for work in works[key]} <= {WorkState.DONE, WorkState.SUPERSEDED}
        assert (latest.state, latest.key.revision > 1) == (WorkState.DONE, bool(one.late)), works[key]
        results = set(inside.result_digests(latest.key).values())
        assert len(results) == OBJECTS
        assert results <= {digest for digests in received.values() for digest in digests}
        assert one.late or pacs.studies.count(one.uid) == OBJECTS
    sent = sorted(data_of(path) for one in studies for path in one.paths)
    assert sorted({data for found in sealed.values() for data in found}) == sent
