"""Mixed modalities and sizes from four senders, for as long as is wished: memory and descriptors do not grow with the work.

Each sender sends a study, and the next when the results of the last are at the PACS; in between come others that no model
takes, from 30 KB to 8 MB. After each study the node and its processes are looked at, and at rest: after the first study of
each sender, and in the end. `DICOMNODE_SOAK_SECONDS` says how long (`make soak`). A run of hours is held by what a study may
grow by at most, a run of a minute by what may be more at rest; the output says which. Connections to the ledger, which its
pool keeps, are held to the pool's bound. No time is asserted: latencies are printed.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from dicomnode.encoded import encode_part10
from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.storage.database import _POOL
from dicomnode.study import WorkState
from tests.benchmarks.drift import Limit, judge, percentiles, slope
from tests.journey.inside import Inside
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import EXPLICIT, write_study
from tests.journey.test_kill_any_process import compressed, family
from tests.unit.storage.samples import disk_folder

SECONDS = float(os.environ.get("DICOMNODE_SOAK_SECONDS", "20"))
SENDERS = 4
MEBI = 1 << 20
LEAST_STUDIES = 8
#: Longer than a crowded machine keeps a sender waiting within a study: what comes after it would be a second revision.
QUIET_SECONDS = 4
#: Studies in which the node warms up: its threads' stacks, what the C library and the interpreter keep of the largest
#: moments (80 MiB in two runs of 240 and 480 seconds, with as many objects of Python after 50 studies as after 5).
WARM_STUDIES = 40
#: A day of 1000 studies: 100 MiB and 20 descriptors at most, where there are enough studies to tell.
MEMORY = Limit(what="memory, MiB", a_study=0.1, at_first=96)  # measured at rest in short runs: -4, 2 and 51
DESCRIPTORS = Limit(what="descriptors", a_study=0.02, at_first=3)
#: The node's connections to its ledger: its pool keeps as many as were ever asked for at once, up to a bound of its own.
LEDGER = "node: ledger.sqlite"
#: At rest the least of some looks counts: what a study left to be done is done meanwhile.
REST_LOOKS, REST_SECONDS = 6, 3.0


class Watch:
    """Memory and descriptors of a node and all its processes, by the studies done."""

    def __init__(self, node: RunningNode) -> None:
        self._node = node
        self._lock = threading.Lock()
        self.done: list[float] = []
        self.mebibytes: list[float] = []
        self.by_kind: list[Counter[str]] = []
        self.descriptors: list[float] = []
        self.at_rest: list[tuple[float, float]] = []
        self.open_at_rest: list[Counter[str]] = []

    def look(self) -> None:
        """Note them after one more study."""
        bytes_of, descriptors = self._seen()
        with self._lock:
            self.done.append(len(self.done) + 1.0)
            self.mebibytes.append(sum(bytes_of.values()) / MEBI)
            self.by_kind.append(bytes_of)
            self.descriptors.append(float(_without_the_ledger(descriptors).total()))

    def rest(self) -> None:
        """Note them while nobody sends."""
        looks = []
        for _ in range(REST_LOOKS):
            threading.Event().wait(REST_SECONDS / REST_LOOKS)
            looks.append(self._seen())
        fewest = min((opened for _, opened in looks), key=Counter.total)
        opened = float(_without_the_ledger(fewest).total())
        self.at_rest.append((min(one.total() for one, _ in looks) / MEBI, opened))
        self.open_at_rest.append(fewest)

    def judge(self) -> list[tuple[bool, str]]:
        """Of memory and of descriptors: whether they are flat, and by which bound."""
        first = max(len(self.done) // 3, min(WARM_STUDIES, len(self.done) // 2))
        done = self.done[first:]
        series = zip(
            (MEMORY, DESCRIPTORS), (self.mebibytes, self.descriptors), zip(*self.at_rest, strict=True), strict=True
        )
        judged = [judge(limit, slope(done, values[first:]), rest, len(done)) for limit, values, rest in series]
        pooled = [opened[LEDGER] for opened in self.open_at_rest]
        held = max(pooled) <= _POOL
        told = f"connections to the ledger at rest: {pooled}; at most {_POOL}, which its pool keeps: {'held' if held else 'BROKEN'}"
        return [*judged, (held, told)]

    def came(self) -> str:
        """What is open at rest in the end that was not at first, and the other way round."""
        first, last = self.open_at_rest[0], self.open_at_rest[-1]
        return f"open at rest, new: {dict(last - first)}, gone: {dict(first - last)}"

    def _seen(self) -> tuple[Counter[str], Counter[str]]:
        kinds = {pid: kind for pid, kind in family(self._node.pid).items() if kind != "dicomnode.imaging.decode"}
        bytes_of, descriptors = Counter[str](), Counter[str]()
        for pid, kind in kinds.items():
            held, opened = _held(pid)
            bytes_of[kind] += held
            descriptors.update(f"{kind}: {one}" for one in opened)
        return bytes_of, descriptors


def _held(pid: int) -> tuple[int, list[str]]:
    """Bytes of a process's own, its share of what it has in common with others included, and the names of what it has open.

    One that has ended since it was listed (a child of a moment, not yet named by what it runs) holds nothing.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
        opened = [_name(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return 0, []
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0) * 1024, opened


def _without_the_ledger(opened: Counter[str]) -> Counter[str]:
    """What is open but for the ledger and its log, which are held to the pool's bound."""
    return Counter({name: count for name, count in opened.items() if not name.startswith(LEDGER)})


def _name(descriptor: Path) -> str:
    """The last part of what a descriptor leads to, numbers aside: `ledger.sqlite-wal`, `socket`."""
    try:
        target = str(descriptor.readlink())
    except FileNotFoundError:  # closed since it was listed
        return "closed"
    return re.sub(r"[0-9]+", "N", target.rsplit("/", 1)[-1].split(":", 1)[0])


def other(kind: str, seed: str) -> Dataset:
    """An object that no model takes, of its modality's usual size."""
    rows, modality, sop_class = {
        "MR": (128, "MR", "1.2.840.10008.5.1.4.1.1.4"),
        "CR": (2048, "CR", "1.2.840.10008.5.1.4.1.1.1"),
        "SC": (512, "OT", "1.2.840.10008.5.1.4.1.1.7"),
    }[kind]
    chance = random.Random(seed)
    image = Dataset()
    image.SOPClassUID, image.Modality = sop_class, modality
    image.SOPInstanceUID = f"2.25.{chance.getrandbits(120)}"
    image.StudyInstanceUID, image.SeriesInstanceUID = (
        f"2.25.{chance.getrandbits(120)}",
        f"2.25.{chance.getrandbits(120)}",
    )
    image.PatientName, image.PatientID, image.StudyDate = "Soak^Other", f"S-{seed}", "20260102"
    image.Rows = image.Columns = rows
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
    image.PixelData = np.full((rows, rows), chance.randrange(4096), "<u2").tobytes()
    return image


class Sender:
    """One modality: a CT, compressed or not, and others, until the time is over."""

    def __init__(self, number: int, node: RunningNode, folder: Path, watch: Watch) -> None:
        self._number, self._node, self._folder, self._watch = number, node, folder, watch
        self._peer = Requestor(
            Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=node.port), f"SENDER{number}"
        )
        self._inside = Inside(node.tree)
        self._round = 0
        self.sent: Counter[str] = Counter()
        self.turnaround: list[float] = []
        self.a_store: list[float] = []

    def run(self, until: float) -> None:
        """Study after study."""
        while time.monotonic() < until or len(self._watch.done) < LEAST_STUDIES:
            self.send_one()

    def send_one(self) -> None:
        """The next study, and the others with it."""
        self._round += 1
        seed = f"soak-{self._number}-{self._round}"
        squeezed = (self._number + self._round) % 3 == 0
        change = {"change": compressed, "transfer_syntax_uid": "1.2.840.10008.1.2.5"} if squeezed else {}
        paths, who = write_study(self._folder / seed, seed, patient_id=seed, **change)  # type: ignore[arg-type]
        self._send(list(self._others(seed)))
        self._send(paths)
        began = time.monotonic()
        key = self._inside.study_key(who.uid("study"))
        (work,) = self._node.wait_for_work(
            300, ended=lambda one: one.key.study_key == key and one.state is WorkState.DONE
        )  # fmt: skip
        assert work.key.revision == 1
        self.turnaround.append(time.monotonic() - began)
        self.sent["CT compressed" if squeezed else "CT"] += 1
        self._watch.look()
        for path in paths:
            path.unlink()

    def _others(self, seed: str) -> Iterator[Path]:
        for kind, count in (("MR", 6), ("CR", 1), ("SC", 2)):
            for index in range(count):
                path = self._folder / f"{seed}-{kind}-{index}.dcm"
                path.write_bytes(encode_part10(other(kind, f"{seed}-{kind}-{index}"), transfer_syntax_uid=EXPLICIT))
                yield path
            self.sent[kind] += count

    def _send(self, paths: list[Path]) -> None:
        began = time.monotonic()
        assert {outcome.status for outcome in self._peer.send_files(paths)} == {0}
        self.a_store.append((time.monotonic() - began) / len(paths))


@pytest.mark.slow
@pytest.mark.timeout(172_800)
def test_memory_and_descriptors_are_flat() -> None:
    with disk_folder() as folder, Recorder() as pacs:
        settings = destination("pacs", pacs.ae_title, pacs.port) + "[intake]\nreceivers = 2\n"
        settings += f"[completion]\nquiet_seconds = {QUIET_SECONDS}\n"
        with RunningNode(folder / "node", settings, by_itself=True) as node:
            watch = Watch(node)
            (folder / "files").mkdir()
            senders = [Sender(number, node, folder / "files", watch) for number in range(SENDERS)]
            until = time.monotonic() + SECONDS - REST_SECONDS
            with ThreadPoolExecutor(SENDERS) as pool:
                list(pool.map(Sender.send_one, senders))
                watch.rest()
                list(pool.map(lambda sender: sender.run(until), senders))
            watch.rest()
            judged = watch.judge()
            report(senders, watch, [told for _, told in judged])
            assert [event for event in node.events if event.get("level") == "error"] == []
    assert {len(digests) for digests in pacs.digests().values()} == {1}
    assert len(pacs.digests()) == len(watch.done) * 4, "one SEG, one SR, one key image and its selection of each"
    assert [told for good, told in judged if not good] == []


def report(senders: list[Sender], watch: Watch, judged: list[str]) -> None:
    """What a soak ran, and what it saw."""
    sent = sum((sender.sent for sender in senders), Counter[str]())
    lines = [
        f"{SECONDS:.0f} s, {SENDERS} senders, sent {dict(sent)}; {len(watch.done)} studies done",
        *judged,
        watch.came(),
        "MiB after studies, by process:",
        *(
            f"  {kind}: "
            + ", ".join(f"{one[kind] / MEBI:.0f}" for one in watch.by_kind[:: max(len(watch.done) // 12, 1)])
            for kind in watch.by_kind[-1]
        ),
    ]
    for what, values in (
        ("seconds from the last image to the results", [one for sender in senders for one in sender.turnaround]),
        ("seconds of a C-STORE, mean of its association", [one for sender in senders for one in sender.a_store]),
    ):
        found = ", ".join(f"{name} {value:.3f}" for name, value in percentiles(values).items())
        lines.append(f"{what}: {found}")
    print("\n".join(lines), flush=True)  # noqa: T201 (what a proof ran)
