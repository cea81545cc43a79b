"""The sender of the benchmarks against the node's own network side: what it says that it sent, came."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from tests.benchmarks import sender
from tests.network.nodes import node


def test_objects_are_the_same_for_everybody_and_read_by_others(tmp_path: Path) -> None:
    load = sender.Load(port=0, count=6, pixel_bytes=32768, studies=3, seed=4)
    made, again = list(sender.data_sets(load, 0)), list(sender.data_sets(load, 0))
    assert made == again
    assert len({uid for uid, _ in made}) == 6
    uid, encoded = made[4]
    path = tmp_path / "one.dcm"
    path.write_bytes(sender.part_10(load.sop_class_uid, uid) + encoded)
    found = pydicom.dcmread(path)
    assert (found.SOPInstanceUID, found.PatientID, found.Rows) == (uid.decode(), "B1", 128)
    assert len(found.PixelData) == 32768


@pytest.mark.parametrize("case", [{"associations": 2}, {"per_association": 1}, {"studies": 2}])
def test_what_is_sent_comes(case: dict[str, int]) -> None:
    with node() as target:
        result = sender.run(sender.Load(port=target.port, count=4, pixel_bytes=300_000, **case))
        assert result["statuses"] == {0: 4}
        assert len(target.reception.objects) == 4


def test_pdus_are_as_small_as_the_peer_wants_them() -> None:
    with node(intake={"maximum_pdu_bytes": 16384}) as target:
        assert sender.agreed(sender.Load(port=target.port, count=1, pixel_bytes=1)).pdu_bytes == 16384
        assert sender.run(sender.Load(port=target.port, count=2, pixel_bytes=300_000))["statuses"] == {0: 2}


def test_one_object_of_many_frames() -> None:
    with node() as target:
        load = sender.Load(
            port=target.port, count=1, frames=3, pixel_bytes=2 * 512 * 512, sop_class_uid=sender.MULTI_FRAME
        )
        assert sender.send_frames(load)["statuses"] == {0: 1}
        (stored,) = target.reception.objects
        assert stored is not None


@pytest.mark.parametrize("contexts", [1, 16, 128])
def test_set_up_is_timed_for_each_association(contexts: int) -> None:
    with node() as target:
        found = sender.set_up(sender.Load(port=target.port, count=1, pixel_bytes=1, setups=3, contexts=contexts))
        assert {kind: len(times) for kind, times in found["milliseconds"].items()} == {"new": 3, "again": 3}
