"""A loss of power at any moment: nothing that was acknowledged is lost, and nothing is believed that did not come whole.

Every prefix of what the spool did is tried, with every subset of what was not flushed where that is few, else with a
seeded sample; a write can be torn between its blocks. `DICOMNODE_CUT_SAMPLES` and `DICOMNODE_CUT_SEED` widen it.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from dicomnode.storage.writer import AppendWriter, DirectWriter
from dicomnode.study import RecordAddress
from tests.properties.power_cut import Flush, Outage, RecordedDisk, Told
from tests.unit.storage.samples import OTHER_STUDY, STUDY, encoded, intake, metadata

SEED = int(os.environ.get("DICOMNODE_CUT_SEED", "1"))
SAMPLES = int(os.environ.get("DICOMNODE_CUT_SAMPLES", "6"))
EXHAUSTIVE = 6 if SAMPLES < 20 else 9

Sent = dict[bytes, int]
Scenario = Callable[[Spool, RecordedDisk, Sent], None]


def append(spool: Spool, disk: RecordedDisk, sent: Sent, number: int, size: int, *, study: str = STUDY) -> None:
    """One object, and the word that it is safe."""
    data = encoded(number, size)
    sent[data] = number
    address = spool.append(study, metadata(data, number), data)
    disk.told((study, address, data))


def small(spool: Spool, disk: RecordedDisk, sent: Sent) -> None:
    """Records of one block, of two, of many pieces, of one byte."""
    for number, size in enumerate((100, 6000, 30_000, 1)):
        append(spool, disk, sent, number, size)


def closed(spool: Spool, disk: RecordedDisk, sent: Sent) -> None:
    """Segments that are closed, and one that goes on."""
    append(spool, disk, sent, 0, 5000)
    append(spool, disk, sent, 1, 12_000)
    spool.close_study(STUDY)
    append(spool, disk, sent, 2, 3000)


def grown(spool: Spool, disk: RecordedDisk, sent: Sent) -> None:
    """Over the end of an extent."""
    for number, size in enumerate((50_000, 40_000, 100)):
        append(spool, disk, sent, number, size)


def abandoned(spool: Spool, disk: RecordedDisk, sent: Sent) -> None:
    """Objects that stop coming, with others in their place and beside them."""
    append(spool, disk, sent, 0, 3000)
    with contextlib.closing(spool.arrival()) as left:
        left.begin(STUDY)
        left.put(encoded(7, 40_000))
        append(spool, disk, sent, 1, 20_000)
    append(spool, disk, sent, 2, 9_000)
    append(spool, disk, sent, 3, 100)


def studies(spool: Spool, disk: RecordedDisk, sent: Sent) -> None:
    """Two studies in turn."""
    for number in range(4):
        append(spool, disk, sent, number, 4000 * number + 10, study=(STUDY, OTHER_STUDY)[number % 2])
    spool.close()


def blank(spool: Spool, disk: RecordedDisk, sent: Sent) -> None:
    """Segments made of files that were ready, until one is used up, and files that are made ready meanwhile."""
    append(spool, disk, sent, 0, 3000)
    if spool.write_mode.name == "direct":
        deadline = time.monotonic() + 20
        while not spool._prepared and time.monotonic() < deadline:
            time.sleep(0.01)
        assert spool._prepared
    append(spool, disk, sent, 1, 5000, study=OTHER_STUDY)
    append(spool, disk, sent, 2, 30_000, study=OTHER_STUDY)
    append(spool, disk, sent, 3, 100, study=OTHER_STUDY)
    spool.close_study(OTHER_STUDY)


@pytest.mark.parametrize("mode", ["direct", "append"])
@pytest.mark.parametrize("scenario", [small, closed, grown, abandoned, studies, blank])
def test_power_lost_at_any_moment(tmp_path: Path, mode: str, scenario: Scenario) -> None:
    keys, sent = MemoryKeys(), Sent()
    before, after = tmp_path / "before", tmp_path / "after"
    with pytest.MonkeyPatch.context() as patch:
        disk = RecordedDisk(patch, before)
        before.mkdir()
        prepared_bytes = (1 << 20) if scenario is blank else 0
        with Spool(before / "spool", intake(mode, prepared_bytes=prepared_bytes), keys) as spool:
            assert spool.write_mode.name == mode
            scenario(spool, disk, sent)
    after.mkdir()
    with Spool(after / "spool", intake("append"), keys) as survivor:
        worlds, kinds = try_all(disk, survivor, before, after, sent)
    print(f"{mode} {scenario.__name__}: {len(disk.log)} entries, {worlds} outages, {dict(kinds)}")  # noqa: T201 (what a proof ran)
    assert worlds > 2 * len(disk.log)


def try_all(disk: RecordedDisk, survivor: Spool, before: Path, after: Path, sent: Sent) -> tuple[int, Counter[str]]:
    chance = random.Random(SEED)
    kinds: Counter[str] = Counter()
    worlds = 0
    for end in range(len(disk.log) + 1):
        if end and isinstance(disk.log[end - 1], Told):
            samples = SAMPLES
        elif end < len(disk.log) and isinstance(disk.log[end], Flush):  # most is pending just before a flush
            samples = 2 * SAMPLES
        else:
            samples = max(SAMPLES // 3, 1)
        outage = Outage(disk.log, end)
        for kept, names in outage.choices(chance, EXHAUSTIVE, samples):
            shutil.rmtree(after / "spool")
            (after / "spool").mkdir()
            outage.write(kept, names, before, after)
            worlds += 1
            try:
                kinds.update(check(survivor, outage, sent))
            except AssertionError as error:
                error.add_note(
                    f"SEED={SEED}: power lost after entry {end} of {len(disk.log)}, kept {sorted(kept)}, {names}"
                )
                raise
    return worlds, kinds


def check(spool: Spool, outage: Outage, sent: Sent) -> list[str]:
    """What was told is there, byte for byte; what is there was sent; no alarm is raised for what a crash leaves."""
    damages: list[Damage] = []
    found: dict[tuple[str, RecordAddress], bytes] = {}
    for study, address, told in spool.recover(on_damage=damages.append):
        data = spool.read(study, address)[1]
        assert metadata(data, sent[data]) == told
        found[study, address] = data
    for study, address, data in outage.told:
        assert found.get((study, address)) == data, "an acknowledged object is lost"
    assert {damage.kind for damage in damages} <= {"torn"}, damages
    return [damage.kind for damage in damages]


@pytest.mark.parametrize(("mode", "writer"), [("direct", DirectWriter), ("append", AppendWriter)])
def test_a_spool_that_does_not_flush_is_found_out(tmp_path: Path, mode: str, writer: type) -> None:
    """The proof of the proof."""
    with pytest.MonkeyPatch.context() as careless:
        careless.setattr(writer, "commit", lambda self: None)
        with pytest.raises(AssertionError, match="lost"):
            test_power_lost_at_any_moment(tmp_path, mode, grown)
