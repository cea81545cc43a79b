"""Sources of a configuration: each is asked in the way that it sends, and the door for C-MOVE opens and closes with the node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import parse
from dicomnode.events import silent
from dicomnode.network.retrieving import GetRetriever, MoveRetriever
from dicomnode.network.wado import WebRetriever
from dicomnode.service.sourcing import open_door, open_sources, retriever_of
from dicomnode.storage.ledger import Ledger
from tests.neighbours import free_port, listens

PLACE = {"ae_title": "PACS", "host": "127.0.0.1", "port": 104}


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ({"url": "http://127.0.0.1:8042/dicom-web"}, WebRetriever),
        ({**PLACE, "retrieve": "get"}, GetRetriever),
        ({**PLACE, "retrieve": "move"}, MoveRetriever),
    ],
)
def test_a_source_is_asked_in_the_way_that_it_sends(tmp_path: Path, place: dict[str, Any], kind: type[object]) -> None:
    port = free_port()
    tree = parse({"sources": [{"name": "pacs", **place}], "retrieval": {"port": port}})
    assert isinstance(retriever_of(tree, tree.sources[0], open_door(tree, silent)), kind)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        sourcing = open_sources(tree, ledger, emit=silent)
        sourcing.begin()
        try:
            assert listens(port) is (kind is MoveRetriever)
        finally:
            sourcing.end(5)
    assert not listens(port)
