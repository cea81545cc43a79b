"""Whatever number the configuration accepts, the parts of a node can be built with it, and its clocks can bear it."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import tempfile
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args

import pytest
from annotated_types import Ge, Le
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dicomnode.config import Config, ConfigErrors, parse
from dicomnode.encoded import encode_part10
from dicomnode.events import silent
from dicomnode.imaging.decode import Decoder
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.service import rooms
from dicomnode.service.node import Node
from dicomnode.storage.sealed import SealContext, Sealer
from dicomnode.study import Purpose
from dicomnode.workflow.delivery import wait_before
from tests.unit.workflow.samples import EXPLICIT, Events, tiny_series

SEALED = SealContext(study_key="ab" * 16, object_id="segment:7", purpose=Purpose.RECORD)
WILD = (math.inf, -math.inf, math.nan, 0, -1, 1e-9, 1e-300, 1e12, 1e300, 10**12, 10**23, 2**31, 2**63, 99999999999999)


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield name, kind
    yield "destinations", Destination


def numbers() -> list[tuple[str, str, float, float]]:
    """Section, setting, least and largest value of every number of the configuration."""
    found = []
    for section, kind in sections():
        for name, field in kind.model_fields.items():
            if {int, float} & {field.annotation, *get_args(field.annotation)}:
                least = [float(one.ge) for one in field.metadata if isinstance(one, Ge)]  # type: ignore[arg-type]
                largest = [float(one.le) for one in field.metadata if isinstance(one, Le)]  # type: ignore[arg-type]
                assert (len(least), len(largest)) == (1, 1), f"{section}.{name} has no bounds"
                found.append((section, name, least[0], largest[0]))
    return found


NUMBERS = numbers()


def tree_with(values: dict[tuple[str, str], Any], state: Path) -> Config:
    data: dict[str, dict[str, Any]] = {
        "node": {"state": state},
        "listen": {"port": 0},
        "intake": {"write_mode": "append"},
        "models": {"engine": "stand-in"},
        "destinations": {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104},
    }
    for (section, name), value in values.items():
        data.setdefault(section, {})[name] = value
    return parse({**data, "destinations": [data["destinations"]]})


def use(tree: Config) -> None:
    """Build what takes a number of the configuration, and hand every time to the clocks that will have to bear it."""
    Sealer(b"k" * 32, context=SEALED, chunk_bytes=tree.intake.chunk_bytes)
    waits = [tree.completion.quiet_seconds, tree.listen.network_timeout_seconds, tree.listen.acse_timeout_seconds]
    waits += [tree.reading.decode_timeout_seconds, tree.destinations[0].timeout_seconds]
    waits += [wait_before(number, tree.delivery) for number in (2, 3, 10, 10_000)]
    with socket.socket() as one:
        for seconds in waits:
            assert 0 < seconds * 1000 < 2**31, "poll(2) counts milliseconds in an int"
            assert threading.Lock().acquire(timeout=seconds)
            one.settimeout(seconds)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(seconds), 1))
    assert (rooms.now() - timedelta(days=tree.retention.days)).year > 1900
    Decoder(timeout_seconds=tree.reading.decode_timeout_seconds, memory_bytes=tree.reading.decode_memory_bytes).close()
    assert tree.delivery.first_retry_seconds <= tree.delivery.longest_retry_seconds
    assert max(tree.intake.extent_bytes, tree.intake.chunk_bytes) <= tree.intake.segment_bytes
    node = Node(tree, {}, silent)
    node._queue.close(0)  # DBOS is one for the process: the next node brings its own
    node.close()


def values_of(number: tuple[str, str, float, float]) -> st.SearchStrategy[tuple[tuple[str, str], Any]]:
    section, name, least, largest = number
    edges = [least, largest, math.nextafter(largest, math.inf), math.nextafter(least, -math.inf), int(largest) + 1]
    drawn = st.one_of(st.sampled_from([*edges, *WILD]), st.floats(), st.integers(), st.floats(least, largest))
    return st.tuples(st.just((section, name)), drawn)


@given(st.lists(st.sampled_from(NUMBERS).flatmap(values_of), min_size=1, max_size=6))
@example([(("completion", "quiet_seconds"), math.inf)])
@example([(("listen", "network_timeout_seconds"), 1e12)])
@example([(("retention", "days"), 1e300)])
@example([(("intake", "chunk_bytes"), 999999999999), (("intake", "segment_bytes"), 2**39)])
@example([(("intake", "chunk_bytes"), 2**22), (("intake", "segment_bytes"), 2**21)])
@example([(("delivery", "first_retry_seconds"), 601)])
@settings(deadline=None, max_examples=40)
def test_a_number_is_refused_or_can_be_borne(drawn: list[tuple[tuple[str, str], Any]]) -> None:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(ConfigErrors):
        tree = tree_with(dict(drawn), Path(folder) / "state")
        use(tree)


@pytest.mark.parametrize("end", [2, 3], ids=["least", "largest"])
def test_a_node_starts_with_every_number_at_its_end(tmp_path: Path, end: int) -> None:
    ends = {(one[0], one[1]): one[end] for one in NUMBERS if one[1] != "port"}
    log = Events()
    tree = tree_with(ends, tmp_path / "state")
    use(tree)
    node = Node(tree, {}, log)
    try:
        node.start()
    finally:
        node.stop(1)
    assert [seen for seen in log.seen if seen[1] == "error"] == []


@pytest.mark.parametrize("number", NUMBERS, ids=lambda one: f"{one[0]}.{one[1]}")
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**23, 1e300, -(10**23)])
def test_no_number_is_without_end(number: tuple[str, str, float, float], value: float) -> None:
    with pytest.raises(ConfigErrors) as caught:
        tree_with({number[:2]: value}, Path("/state"))
    (problem,) = caught.value.problems
    assert number[1] in problem


@pytest.mark.parametrize("end", [2, 3], ids=["least", "largest"])
def test_a_node_takes_objects_with_every_size_of_its_intake_at_its_end(tmp_path: Path, end: int) -> None:
    sizes = {one[:2]: one[end] for one in NUMBERS if one[0] == "intake"}
    sizes["intake", "minimum_free_bytes"] = 0
    sizes["intake", "extent_bytes"] = min(sizes["intake", "extent_bytes"], 1 << 26)  # what a test may take of a disk
    node = Node(tree_with(sizes, tmp_path / "state"), {}, Events())
    try:
        _, port = node.start()
        paths = []
        for index, image in enumerate(tiny_series()[:3]):
            paths.append(tmp_path / f"{index}.dcm")
            paths[-1].write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
        peer = Requestor(Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=port), "CT1")
        assert [outcome.status for outcome in peer.send_files(paths)] == [0, 0, 0]
    finally:
        node.stop(1)
