"""Images that were announced and did not come: what is asked, how often, and that nobody waits for ever."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.encoded import Limits
from dicomnode.errors import PeerError, StorageError
from dicomnode.network.intake import Intake
from dicomnode.network.procedures import Step, StepState
from dicomnode.network.retrieval import Taking
from dicomnode.source_sections import RetrievalSection, Source
from dicomnode.storage.digest import ContentDigests
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import ResultRow
from dicomnode.storage.spool import Spool
from dicomnode.study import SOURCE as MADE_OF
from dicomnode.study import ResultRole, WorkKey, blind_key, mint_uid
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.evidence import EvidenceBook
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.missing import MissingImages
from dicomnode.workflow.paces import Paces
from dicomnode.workflow.reception import Reception
from dicomnode.workflow.sources import Sources
from tests.unit.workflow.samples import EXPLICIT, KEY, Events, Time, encoded, metadata, study_key_of, tiny_series
from tests.unit.workflow.test_priors import NoCircuits

SOURCE = Source.model_validate({"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104})


class FakeSource:
    """Shows and sends the images that it has."""

    def __init__(self, images: list[Dataset], *, says_class: bool = True) -> None:
        self.images = images
        self.error: PeerError | None = None
        self.gate: threading.Event | None = None
        self.wanted: list[tuple[str, ...]] = []
        self.says_class = says_class

    def echo(self) -> None:
        """It is there."""

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.error is not None:
            raise self.error
        hidden = () if self.says_class else ("SOPClassUID",)
        return [{key: "" if key in hidden else str(one.get(key) or "") for key in query} for one in self.images]

    def retrieve(self, taking: Taking) -> None:
        self.wanted.append(taking.wanted.sop_instance_uids)
        for one in self.images:
            taking.offer(str(one.SOPClassUID), str(one.SOPInstanceUID), EXPLICIT, encoded(one))


class Bench:
    def __init__(self, ledger: Ledger, spool: Spool, time: Time, events: Events) -> None:
        self.ledger, self.spool, self.time, self.events = ledger, spool, time, events
        self.images = tiny_series()
        self.study_key = study_key_of(self.images[0])
        self.activity = ActivityTable()
        self.woken = threading.Semaphore(0)
        self.book = EvidenceBook(ledger, derivation_key=KEY, wake=lambda: None, clock=time.now, emit=events)

    def add(self, row: Any) -> None:
        self.ledger.record_instances([row])

    def receive(self, *images: Dataset) -> None:
        for image in images:
            data = encoded(image)
            about = metadata(image, data)
            self.add(row_of(KEY, self.study_key, self.spool.append(self.study_key, about, data), about))

    def announce(self, *images: Dataset) -> None:
        self.book.begin(
            Step(
                sop_instance_uid=f"1.9.{len(images)}",
                study_instance_uids=(str(self.images[0].StudyInstanceUID),),
                state=StepState.COMPLETED,
                instances=tuple(str(one.SOPInstanceUID) for one in images or self.images),
            )
        )

    def missing(
        self, *fakes: FakeSource, source: Source = SOURCE, maximum_object_bytes: int = 1 << 24
    ) -> MissingImages:
        names = [f"pacs{number}" for number in range(len(fakes))]
        sections = dict.fromkeys(names, source)
        paces = Paces(sections, clock=self.time.now, monotonic=self.time.monotonic)
        reception = Reception(
            spool=self.spool,
            digest=ContentDigests(KEY).begin,
            indexer=self,
            activity=self.activity,
            derivation_key=KEY,
            wake=lambda: None,
            clock=self.time.now,
            monotonic=self.time.monotonic,
            emit=self.events,
        )
        retrievers: Any = dict(zip(names, fakes, strict=True))
        return MissingImages(
            self.ledger,
            self.spool,
            Sources(sections, retrievers, circuits=NoCircuits(), paces=paces, emit=self.events),
            Intake(reception, limits=Limits(), maximum_object_bytes=maximum_object_bytes, emit=self.events),
            sections=sections,
            sop_classes=frozenset({str(self.images[0].SOPClassUID)}),
            called_ae_title="DICOMNODE",
            derivation_key=KEY,
            settings=RetrievalSection(),
            wake=self.woken.release,
            monotonic=self.time.monotonic,
            emit=self.events,
        )

    def sought(self, missing: MissingImages) -> None:
        assert missing.seek(self.study_key)
        assert self.woken.acquire(timeout=30)


@pytest.fixture
def bench(ledger: Ledger, spool: Spool, time: Time, events: Events) -> Bench:
    made = Bench(ledger, spool, time, events)
    made.announce()
    made.receive(*made.images[:-3])
    return made


@pytest.mark.parametrize("says_class", [True, False])
def test_what_is_missing_comes_and_nothing_else(bench: Bench, says_class: bool) -> None:
    source = FakeSource(bench.images, says_class=says_class)
    missing = bench.missing(source)
    bench.sought(missing)
    missing.end()
    assert source.wanted == [tuple(sorted(str(one.SOPInstanceUID) for one in bench.images[-3:]))]
    assert bench.events.facts("study.completed") == [{"study": bench.study_key, "objects": 3}]
    evidence = bench.book.of(bench.study_key)
    assert evidence is not None
    assert evidence.is_whole
    assert bench.activity.is_open(bench.study_key)  # completion looks at it as at everything that comes
    row = bench.ledger.instances(bench.study_key)[-1]
    assert bench.spool.read(bench.study_key, row.address)[0].calling_ae_title == "PACS"


def test_results_of_ours_are_not_sought(bench: Bench) -> None:
    """The PACS has them, and would send them."""
    study, made_of = bench.study_key, {MADE_OF: "5" * 64}
    key = WorkKey(study_key=study, revision=1, model="m")
    result = ResultRow(result_id="r", role=ResultRole.REPORT, form="f", sop_class_uid="1.2", digest="d", length=1)
    bench.ledger.open_revision(study, "d", bench.time.now())
    bench.ledger.create_work(key, "d", bench.time.now(), facts=made_of)
    bench.ledger.record_results(key, [result], ["pacs"], bench.time.now())
    ours = copy.deepcopy(bench.images[0])
    ours.SOPInstanceUID = mint_uid(KEY, "result:object", made_of[MADE_OF], "report", "f")
    bench.announce(ours)
    source = FakeSource([*bench.images, ours])
    missing = bench.missing(source)
    bench.sought(missing)
    missing.end()
    assert source.wanted == [tuple(sorted(str(one.SOPInstanceUID) for one in bench.images[-3:]))]
    assert bench.events.facts("study.completed") == [{"study": study, "objects": 3}]


def test_it_waits_for_an_answer_and_then_longer_and_longer(bench: Bench) -> None:
    source = FakeSource(bench.images[:-3])
    source.gate = threading.Event()
    missing = bench.missing(source)
    assert missing.seek(bench.study_key)
    assert missing.seek(bench.study_key)  # the answer is still to come
    source.gate.set()
    assert bench.woken.acquire(timeout=30)
    while missing.seek(bench.study_key):  # it is there, and the thread is about to end
        pass
    (facts,) = bench.events.facts("study.unfound")
    assert facts["reason"] == "retrieval-incomplete"
    bench.time.forward(29)
    assert not missing.seek(bench.study_key)
    bench.time.forward(2)
    bench.sought(missing)
    bench.time.forward(31)
    while missing.seek(bench.study_key):
        pass
    assert len(bench.events.facts("study.unfound")) == 2  # doubled: not yet again
    missing.end()


def test_studies_that_are_long_settled_are_forgotten(bench: Bench) -> None:
    missing = bench.missing(FakeSource([]))
    for number in range(300):
        missing.seek(f"{number:032x}")
    assert all(bench.woken.acquire(timeout=30) for _ in range(300))
    bench.time.forward(1e6)
    missing.seek(bench.study_key)
    missing.end()
    assert len(missing._searches) == 1


def test_the_most_urgent_study_is_asked_about_first_and_none_waits_long_for_its_turn(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing, gate, begun = bench.missing(FakeSource([])), threading.Event(), threading.Semaphore(0)
    order: list[str] = []

    def search(study_key: str, _: frozenset[str]) -> None:
        order.append(study_key)
        begun.release()
        gate.wait(30)

    monkeypatch.setattr(missing, "_search", search)
    research = [f"{number:032x}" for number in range(40)]
    for one in research:
        bench.ledger.rank_study(one, "trial", "research")
        assert missing.seek(one)
    assert all(begun.acquire(timeout=30) for _ in range(2))
    bench.ledger.rank_study(bench.study_key, "er", "stat")
    assert missing.seek(bench.study_key)
    bench.time.forward(RetrievalSection().missing_seconds)
    assert not missing.seek(bench.study_key), "its turn did not come"
    assert missing.seek(order[0]), "that one is being asked about"
    gate.set()
    assert all(bench.woken.acquire(timeout=30) for _ in range(41))
    assert sorted(order[:2]) == sorted(research[:2])
    assert order[2] == bench.study_key
    assert len(set(order)) == 41
    missing.end()


def test_a_source_that_fails_is_told(bench: Bench) -> None:
    dead = FakeSource([])
    dead.error = PeerError("timeout")
    missing = bench.missing(dead)
    bench.sought(missing)
    missing.end()
    assert bench.events.facts("study.unfound")[0]["reason"] == "timeout"
    assert not bench.missing().seek(bench.study_key)  # nobody may be asked
    assert not missing.seek("ef" * 16)  # it has ended


def too_large(images: list[Dataset], which: int) -> list[Dataset]:
    spoiled = [copy.deepcopy(one) for one in images]
    spoiled[which].ImageComments = "x" * 9000
    return spoiled


def test_an_image_that_is_refused_costs_itself_and_the_next_source_is_asked_for_it(bench: Bench) -> None:
    first, second = FakeSource(too_large(bench.images, -3)), FakeSource(bench.images)
    missing = bench.missing(first, second, maximum_object_bytes=len(encoded(bench.images[0])) + 2000)
    bench.sought(missing)
    missing.end()
    assert [len(one) for one in first.wanted] == [3]
    assert second.wanted == [(str(bench.images[-3].SOPInstanceUID),)]
    assert bench.ledger.missing_instances(bench.study_key) == ()
    assert bench.events.facts("study.completed") == [{"study": bench.study_key, "objects": 3}]


def test_where_no_source_has_it_whole_the_reason_is_that_of_the_image(bench: Bench) -> None:
    first, second = FakeSource(too_large(bench.images, -3)), FakeSource(bench.images[:-3])
    missing = bench.missing(first, second, maximum_object_bytes=len(encoded(bench.images[0])) + 2000)
    bench.sought(missing)
    missing.end()
    assert len(bench.ledger.missing_instances(bench.study_key)) == 1
    (facts,) = bench.events.facts("study.unfound")
    assert facts == {"study": bench.study_key, "objects": 2, "reason": "object-too-large"}


def test_a_disk_that_is_full_ends_the_asking(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("storage-full")

    first, second = FakeSource(bench.images), FakeSource(bench.images)
    missing = bench.missing(first, second)
    monkeypatch.setattr(bench.spool, "arrival", full)
    bench.sought(missing)
    missing.end()
    assert (len(first.wanted), len(second.wanted)) == (1, 0)
    (facts,) = bench.events.facts("study.unfound")
    assert (facts["objects"], facts["reason"]) == (0, "storage-full")


def test_what_no_time_is_left_for_is_not_asked(bench: Bench) -> None:
    class Slow(FakeSource):
        def retrieve(self, taking: Taking) -> None:
            super().retrieve(taking)
            bench.time.forward(1000)

    first, second = Slow(bench.images[:-1]), FakeSource(bench.images)
    missing = bench.missing(first, second)
    bench.sought(missing)
    missing.end()
    assert second.wanted == []
    (facts,) = bench.events.facts("study.unfound")
    assert (facts["objects"], facts["reason"]) == (2, "timeout")


def test_a_disk_that_refuses_for_now_is_said_and_nothing_is_called_complete(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise StorageError("storage-failed")

    bench.receive(*bench.images[:2])
    bench.announce()
    missing = bench.missing(FakeSource(bench.images))
    monkeypatch.setattr(bench.spool, "read", fails)
    assert missing.seek(bench.study_key)
    assert bench.woken.acquire(timeout=20)
    (facts,) = bench.events.facts("study.unfound")
    assert facts["reason"] == "storage-failed"
    missing.end()


def test_what_a_source_lists_and_nobody_announced_is_sought_too(
    ledger: Ledger, spool: Spool, time: Time, events: Events
) -> None:
    bench = Bench(ledger, spool, time, events)
    bench.receive(*bench.images[:-1])
    fake = FakeSource(bench.images)
    missing = bench.missing(fake)
    lost = str(bench.images[-1].SOPInstanceUID)
    assert missing.seek(bench.study_key, frozenset({blind_key(KEY, "instance", lost)}))
    assert bench.woken.acquire(timeout=30)
    assert fake.wanted == [(lost,)]
    assert events.facts("study.completed") == [{"study": bench.study_key, "objects": 1}]
