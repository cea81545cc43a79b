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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from dicomnode.study import DeliveryState, WorkState
from tests.journey.inside import Inside, data_of, send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study

STUDIES = int(os.environ.get("DICOMNODE_MIXED_STUDIES", "3"))
SEED = int(os.environ.get("DICOMNODE_KILL_SEED", "0"))
ASSOCIATIONS = 8
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


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_studies_mixed_over_eight_associations(tmp_path: Path) -> None:
    """Duplicates change nothing; images that come late make a second revision of their study alone."""
    chance = random.Random(SEED)
    studies = [
        write_study(tmp_path / f"s{one}", f"mixed-{SEED}-{one}", patient_id=f"M-{one}") for one in range(STUDIES)
    ]
    late = {who.uid("study"): paths[-4:] for paths, who in studies[::3]}
    first = [path for paths, who in studies for path in paths if path not in late.get(who.uid("study"), [])]
    first += chance.sample(first, len(first) // 10)
    chance.shuffle(first)
    with Recorder() as pacs, RunningNode(tmp_path / "node", destination("pacs", "RECORDER", pacs.port)) as node:
        with ThreadPoolExecutor(ASSOCIATIONS) as pool:
            parts = [first[number::ASSOCIATIONS] for number in range(ASSOCIATIONS)]
            assert {one.status for outcomes in pool.map(lambda part: send(node, part), parts) for one in outcomes} == {
                0
            }
        node.wait_for_work(60 * STUDIES, count=STUDIES)
        assert {one.status for one in send(node, [path for paths in late.values() for path in paths])} == {0}
        works = node.wait_for_work(60 * STUDIES, count=STUDIES + len(late))
        assert {work.state for work in works} == {WorkState.DONE}
        inside = Inside(node.tree)
        revisions = {
            who.uid("study"): max(
                one.key.revision for one in works if one.key.study_key == inside.study_key(who.uid("study"))
            )
            for _, who in studies
        }
        assert node.terminate() == 0
        sealed = inside.originals()
        for paths, who in studies:
            assert len(inside.instances(who.uid("study"))) == len(paths)
        sent = sorted(data_of(path) for paths, _ in studies for path in paths)
        assert sorted({data for found in sealed.values() for data in found}) == sent
    assert {study: revision > 1 for study, revision in revisions.items()} == {
        who.uid("study"): who.uid("study") in late for _, who in studies
    }
    assert {len(set(digests)) for digests in pacs.digests().values()} == {1}
    assert {study: pacs.studies.count(study) for study in revisions if study not in late} == {
        who.uid("study"): OBJECTS for _, who in studies if who.uid("study") not in late
    }
