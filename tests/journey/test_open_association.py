"""A gateway that keeps its association open all day, asks by C-ECHO whether the node lives, goes on with other studies."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import Association

from dicomnode.network.transport import Entity
from dicomnode.study import WorkRow, WorkState
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import EXPLICIT, write_study

CT, VERIFICATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"
SETTINGS = "[completion]\nquiet_seconds = 1\nopen_seconds = 3\n"


@contextlib.contextmanager
def kept_alive(association: Association, lock: threading.Lock) -> Iterator[None]:
    """A C-ECHO every second."""
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(1):
            with lock:
                assert association.send_c_echo().Status == 0

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()


@pytest.mark.slow
def test_a_study_of_an_association_that_stays_open_is_worked_on(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "gateway")
    lock = threading.Lock()
    with (
        Recorder() as pacs,
        RunningNode(tmp_path / "node", destination("pacs", pacs.ae_title, pacs.port) + SETTINGS) as node,
    ):
        gateway = Entity("GATEWAY")
        gateway.add_requested_context(CT, EXPLICIT)
        gateway.add_requested_context(VERIFICATION)
        association = gateway.associate("127.0.0.1", node.port, ae_title="DICOMNODE")
        assert association.is_established
        with kept_alive(association, lock):
            for path in paths[:-1]:
                with lock:
                    assert association.send_c_store(dcmread(path)).Status == 0
            (work,) = node.wait_for_work(90)
            assert (work.key.revision, work.state) == (1, WorkState.DONE)
            with lock:  # what comes later on the same association is a late image as any other
                assert association.send_c_store(dcmread(paths[-1])).Status == 0
            node.wait_for_work(90, ended=lambda one: one.key.revision == 2 and one.state is WorkState.DONE)
            assert [event for event in node.events if event["event"] == "association.closed"] == []
            settled = [event["revision"] for event in node.events if event["event"] == "study.settled"]
            assert settled == [1, 2], "once each"
        association.release()


@pytest.mark.slow
def test_a_study_is_not_kept_by_an_association_that_goes_on_with_another(tmp_path: Path) -> None:
    """`open_seconds` is an hour: the first study has results nonetheless; the other is worked on, and waits for the release."""
    settings = "[completion]\nquiet_seconds = 8\nopen_seconds = 3600\n"
    with (
        Recorder() as pacs,
        RunningNode(tmp_path / "node", destination("pacs", pacs.ae_title, pacs.port) + settings) as node,
    ):
        gateway = Entity("GATEWAY")
        gateway.add_requested_context(CT, EXPLICIT)
        association = gateway.associate("127.0.0.1", node.port, ae_title="DICOMNODE")
        for seed in ("first", "second"):
            for path in write_study(tmp_path / seed, seed)[0]:
                assert association.send_c_store(dcmread(path)).Status == 0
        (work,) = node.wait_for_work(90)
        assert work.state is WorkState.DONE
        second = _other(node, work)
        node.wait_for_work(90, ended=lambda one: one.key.study_key == second and one.state is WorkState.READY)
        assert [event["study"] for event in node.events if event["event"] == "study.settled"] == [work.key.study_key]
        association.release()
        assert {one.state for one in node.wait_for_work(90, count=2)} == {WorkState.DONE}
        superseded = [one for row in node.studies() for one in row.works if one.state is WorkState.SUPERSEDED]
        assert superseded == [], "work that began early was not done twice"


def _other(node: RunningNode, work: WorkRow) -> str:
    (key,) = {row.study_key for row in node.studies()} - {work.key.study_key}
    return key
