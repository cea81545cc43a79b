"""Who is asked whose study it is, out of the configuration; and the decisions that a node makes of notes, built whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dicomnode.config import Config
from dicomnode.encoded import Limits
from dicomnode.errors import StorageError
from dicomnode.network.wado import WebRetriever
from dicomnode.service.conflicts import open_conflicts
from dicomnode.service.delivering import requestor_of
from dicomnode.service.inquiring import open_inquiry
from dicomnode.study import InstanceState
from tests.unit.workflow.conftest import events, keys, ledger, objects, spool, time
from tests.unit.workflow.notes import note
from tests.unit.workflow.samples import tiny_series
from tests.unit.workflow.test_encoding import stages_for
from tests.unit.workflow.test_rejections import Desk
from tests.unit.workflow.test_stages import Bench, bench

__all__ = ["bench", "events", "keys", "ledger", "objects", "spool", "time"]

DIMSE = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}


def test_destinations_are_asked_themselves_or_by_the_source_that_is_named(
    bench: Bench, tree_of: Callable[..., Config]
) -> None:
    destinations: list[dict[str, Any]] = [
        {"name": "pacs", **DIMSE, "timeout_seconds": 7},
        {"name": "web", "url": "http://127.0.0.1:8042/dicom-web"},
        {"name": "router", **DIMSE, "ae_title": "ROUTER", "identity_source": "vna", "identity_check": "required"},
        {"name": "off", **DIMSE, "identity_check": "off"},
    ]
    sources = [{"name": "vna", **DIMSE, "ae_title": "VNA", "timeout_seconds": 3}]
    tree = tree_of(destinations=destinations, sources=sources)
    requestors = {one.name: requestor_of(tree, one) for one in tree.destinations}
    inquiry = open_inquiry(tree, bench.rooms, stages_for(bench, {}).encoding, requestors, emit=bench.events)
    askings = inquiry._askings
    assert set(askings) == {"pacs", "web", "router"}
    pacs, web, router = askings["pacs"], askings["web"], askings["router"]
    assert pacs.asked is requestors["pacs"]
    assert (pacs.titles, pacs.seconds, pacs.is_itself, pacs.is_required) == (frozenset({"PACS"}), 7, True, False)
    assert isinstance(web.asked, WebRetriever)
    assert (router.titles, router.seconds, router.is_itself, router.is_required) == (
        frozenset({"VNA"}), 3, False, True,
    )  # fmt: skip


def test_a_study_comes_from_the_first_of_its_records_that_can_be_read(
    bench: Bench, tree_of: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tree_of(destinations=[{"name": "pacs", **DIMSE}])
    requestors = {one.name: requestor_of(tree, one) for one in tree.destinations}
    inquiry = open_inquiry(tree, bench.rooms, stages_for(bench, {}).encoding, requestors, emit=bench.events)
    assert inquiry._sender("ab" * 16) is None
    key = bench.receive(tiny_series())
    assert inquiry._sender(key.study_key) == "SENDER"

    def fails(*_: object) -> None:
        raise faults[-1]

    monkeypatch.setattr(bench.rooms.spool, "read", fails)
    faults = [StorageError("storage-failed", missing=1)]
    assert inquiry._sender(key.study_key) is None
    faults.append(StorageError("sealed-damaged"))
    assert inquiry._sender(key.study_key) is None
    faults.append(StorageError("storage-failed"))
    with pytest.raises(StorageError):  # or results would go to a study that is gone
        inquiry._sender(key.study_key)


def test_a_node_judges_notes_and_looks_at_studies_that_they_name(bench: Bench, tree_of: Callable[..., Config]) -> None:
    desk, remembered = Desk(bench), list[str]()
    storage = replace(bench.rooms, remember=remembered.append)
    images, other = tiny_series(), tiny_series(seed="other")
    for image in [*images, *other]:
        desk.receive(image)
    desk.judge = open_conflicts(tree_of(), storage, limits=Limits(), emit=bench.events)
    study, elsewhere = str(images[0].StudyInstanceUID), str(other[0].StudyInstanceUID)
    row = desk.receive(note(study, "113037", {study: images[:1], elsewhere: other[:1]}), at=1.0)
    desk.judge.settle(row)
    assert desk.states(images)[0] is InstanceState.REJECTED
    assert remembered == [desk.receive(other[1]).study_key]
