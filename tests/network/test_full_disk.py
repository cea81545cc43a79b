"""A disk that fills up while a sender is at it: what came before is kept, the rest is refused, and later taken."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from dicomnode.config import IntakeSection
from dicomnode.encoded import encode_dataset
from dicomnode.network.requestor import OutgoingObject
from dicomnode.storage.digest import ContentDigests
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.reception import Reception
from tests.network.nodes import Node, node
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE, small_object
from tests.unit.workflow.samples import KEY, Events, Time

OUT_OF_RESOURCES = 0xA700  # PS3.4 Table B.2-1
MINIMUM = 1 << 20
FITTING = REFUSED = 3


class Disk:
    """Room for some objects; after some that were refused, somebody makes room for all."""

    def __init__(self) -> None:
        self.kept: list[InstanceRow] = []
        self.room = FITTING
        self.patience = REFUSED

    def free_bytes(self) -> int:
        """Free space, asked once for each association and once for each object."""
        if len(self.kept) < self.room:
            return MINIMUM * 2
        if self.patience == 0:
            self.room = 100
            return MINIMUM * 2
        self.patience -= 1
        return MINIMUM - 1

    def add(self, row: InstanceRow) -> None:
        """The index hears of an object when the spool has it."""
        self.kept.append(row)


def outgoing(numbers: Sequence[int]) -> list[OutgoingObject]:
    return [
        OutgoingObject(
            result_id=str(number),
            sop_class_uid=SECONDARY_CAPTURE,
            sop_instance_uid=f"1.2.3.{number}",
            transfer_syntax_uid=EXPLICIT_LITTLE,
            encoded=encode_dataset(small_object(f"1.2.3.{number}"), EXPLICIT_LITTLE),
        )
        for number in numbers
    ]


def answers(target: Node, numbers: Sequence[int]) -> list[int | str | None]:
    """Status of each object, or why there is none."""
    return [
        outcome.error.code if outcome.status is None and outcome.error is not None else outcome.status
        for outcome in target.requestor().store(outgoing(numbers))
    ]


def test_a_disk_that_fills_up_inside_an_association(tmp_path: Path) -> None:
    disk, time = Disk(), Time()
    intake = IntakeSection.model_validate({"write_mode": "append", "minimum_free_bytes": MINIMUM, "chunk_bytes": 4096})
    with contextlib.closing(Spool(tmp_path, intake, MemoryKeys(), free_bytes=disk.free_bytes)) as spool:
        reception = Reception(
            spool=spool,
            digest=ContentDigests(KEY).begin,
            indexer=cast("Any", disk),
            activity=ActivityTable(),
            derivation_key=KEY,
            wake=lambda: None,
            clock=time.now,
            monotonic=time.monotonic,
            emit=Events(),
        )
        with node(cast("Any", reception)) as target:
            assert answers(target, (0, 1, 2, 3, 4, 5, 3, 4, 5)) == [0] * 3 + [OUT_OF_RESOURCES] * 3 + [0] * 3
            assert [facts["reason"] for facts in target.events.named("object.refused")] == ["storage-full"] * 3

            disk.room, disk.patience = 0, 1
            assert answers(target, [7]) == ["peer-rejected"], "who comes now is told before sending"
            assert answers(target, [6]) == [0]
        found = [metadata.sop_instance_uid for _, _, metadata in spool.recover()]
    assert sorted(found) == [f"1.2.3.{number}" for number in range(7)], "every object that was acknowledged, once"
