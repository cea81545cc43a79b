"""What sources list of a study: when it stands for the quiet time, when for missing images, and when for nothing."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.errors import PeerError, StorageError
from dicomnode.network.procedures import Step, StepState
from dicomnode.network.retrieval import Taking
from dicomnode.source_sections import RetrievalSection, Source
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import blind_key
from dicomnode.workflow import listing
from dicomnode.workflow.evidence import Evidence, EvidenceBook, joined
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.listing import Listings
from dicomnode.workflow.paces import Paces
from dicomnode.workflow.sources import Sources
from tests.unit.workflow.samples import KEY, Events, Time, encoded, metadata, study_key_of, tiny_series
from tests.unit.workflow.test_priors import NoCircuits

SOURCE = Source.model_validate({"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "listing": True})


class Archive:
    """Lists the images that it has, by series."""

    def __init__(self, images: list[Dataset]) -> None:
        self.images = images
        self.error: PeerError | Exception | None = None
        self.asked = 0
        self.meanwhile: Callable[[], object] = lambda: None

    def echo(self) -> None:
        """It is there."""

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        if self.error is not None:
            raise self.error
        here = [one for one in self.images if query["SeriesInstanceUID"] in {"", str(one.SeriesInstanceUID)}]
        if level == "SERIES":
            self.asked += 1
            if self.asked % 2 == 0:
                self.meanwhile()
            return [{"SeriesInstanceUID": uid} for uid in sorted({str(one.SeriesInstanceUID) for one in here})]
        return [{key: str(one.get(key) or "") for key in query} for one in here]

    def retrieve(self, taking: Taking) -> None:
        raise AssertionError("nothing is fetched")


class Bench:
    def __init__(self, ledger: Ledger, spool: Spool, time: Time, events: Events) -> None:
        self.ledger, self.spool, self.time, self.events = ledger, spool, time, events
        self.images = tiny_series()
        self.study_key = study_key_of(self.images[0])
        self.woken = threading.Semaphore(0)
        self.book = EvidenceBook(ledger, derivation_key=KEY, wake=lambda: None, clock=time.now, emit=events)

    def receive(self, *images: Dataset) -> None:
        for image in images:
            data = encoded(image)
            about = metadata(image, data)
            self.ledger.record_instances(
                [row_of(KEY, self.study_key, self.spool.append(self.study_key, about, data), about)]
            )

    def listings(self, *archives: Archive, **changes: Any) -> Listings:
        names = [f"pacs{number}" for number in range(len(archives))]
        sections = dict.fromkeys(names, SOURCE)
        paces = Paces(sections, clock=self.time.now, monotonic=self.time.monotonic)
        retrievers: Any = dict(zip(names, archives, strict=True))
        return Listings(
            self.ledger,
            self.spool,
            Sources(sections, retrievers, circuits=NoCircuits(), paces=paces, emit=self.events),
            changes.pop("book", self.book),
            **{
                "sop_classes": frozenset({str(self.images[0].SOPClassUID)}),
                "derivation_key": KEY,
                "settings": RetrievalSection(),
                "quiet_seconds": 0.0,
                "wake": self.woken.release,
                "monotonic": self.time.monotonic,
                "emit": self.events,
                **changes,
            },
        )

    def listed(self, listings: Listings) -> Evidence | None:
        """What is known once the sources have been asked."""
        assert listings.of(self.study_key) is None
        assert self.woken.acquire(timeout=30)
        return listings.of(self.study_key)


@pytest.fixture
def bench(ledger: Ledger, spool: Spool, time: Time, events: Events) -> Bench:
    return Bench(ledger, spool, time, events)


def changed(image: Dataset, **values: str) -> Dataset:
    made = copy.deepcopy(image)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def test_two_equal_answers_say_that_all_came(bench: Bench) -> None:
    bench.receive(*bench.images)
    archive = Archive(bench.images)
    listings = bench.listings(archive)
    found = bench.listed(listings)
    assert found == Evidence(under_way=0, announced=len(bench.images), missing=0)
    assert found.is_exact
    assert archive.asked == 2
    assert listings.of(bench.study_key) == found
    assert archive.asked == 2, "nothing came since"
    assert bench.events.facts("study.listed") == [
        {"study": bench.study_key, "instances": len(bench.images), "missing": 0}
    ]


def test_what_did_not_come_is_missing(bench: Bench) -> None:
    bench.receive(*bench.images[:-2])
    listings = bench.listings(Archive(bench.images))
    assert bench.listed(listings) == Evidence(under_way=0, announced=len(bench.images), missing=2)
    assert listings.missing(bench.study_key) == {
        blind_key(KEY, "instance", str(image.SOPInstanceUID)) for image in bench.images[-2:]
    }
    assert listings.missing("another") == frozenset()


def test_objects_of_other_series_and_classes_are_not_waited_for(bench: Bench) -> None:
    bench.receive(*bench.images)
    image = bench.images[0]
    report = changed(image, SOPInstanceUID="1.2.3.4", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    result = changed(report, SOPInstanceUID="1.2.3.5", SeriesInstanceUID="1.2.3.6")
    found = bench.listed(bench.listings(Archive([*bench.images, report, result])))
    assert found is not None
    assert found.is_exact
    assert found.announced == len(bench.images)


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.2", ""])
def test_a_series_that_a_model_could_look_at_and_that_did_not_come_leaves_it_open(bench: Bench, sop_class: str) -> None:
    """It may be on its way, or be sent to nobody here: the quiet time counts. What is lost of those that came is known."""
    other = changed(bench.images[0], SOPInstanceUID="1.2.3.5", SeriesInstanceUID="1.2.3.6", SOPClassUID=sop_class)
    bench.receive(*bench.images[:-1])
    archive = Archive([*bench.images, other])
    listings = bench.listings(archive)
    found = bench.listed(listings)
    assert found is not None
    assert (found.announced, found.missing) == (len(bench.images), 1)
    bench.receive(bench.images[-1])
    bench.time.forward(10)
    assert bench.listed(listings) is None
    assert bench.events.names[-1] == "study.unlisted"


def test_an_image_that_does_not_say_what_it_is_counts(bench: Bench) -> None:
    bench.receive(*bench.images)
    found = bench.listed(
        bench.listings(Archive([*bench.images, changed(bench.images[0], SOPInstanceUID="1.2.3.4", SOPClassUID="")]))
    )
    assert found is not None
    assert found.missing == 1


def test_answers_that_differ_say_nothing_and_are_asked_for_again_later(bench: Bench) -> None:
    bench.receive(*bench.images[:-1])
    archive = Archive(bench.images[:-1])
    archive.meanwhile = lambda: archive.images.append(bench.images[-1])
    listings = bench.listings(archive)
    assert bench.listed(listings) is None
    archive.meanwhile = lambda: None
    assert archive.asked == 2
    bench.time.forward(10)
    found = bench.listed(listings)
    assert found is not None
    assert found.missing == 1
    assert archive.asked == 4


def test_an_image_that_comes_between_the_answers_makes_them_void(bench: Bench) -> None:
    bench.receive(*bench.images[:-1])
    archive = Archive(bench.images)
    archive.meanwhile = lambda: bench.receive(bench.images[-1])
    assert bench.listed(bench.listings(archive)) is None


def test_an_image_that_comes_later_makes_an_answer_void(bench: Bench) -> None:
    bench.receive(*bench.images[:-1])
    archive = Archive(bench.images)
    listings = bench.listings(archive)
    found = bench.listed(listings)
    assert found is not None
    assert found.missing == 1
    bench.receive(bench.images[-1])
    assert listings.of(bench.study_key) is None
    assert listings.missing(bench.study_key) == frozenset()
    bench.time.forward(10)
    found = bench.listed(listings)
    assert found is not None
    assert found.is_exact


def test_a_study_that_comes_for_long_is_asked_about_within_half_the_quiet_time_of_its_end(bench: Bench) -> None:
    bench.receive(*bench.images[:-1])
    archive = Archive([])
    listings = bench.listings(archive, quiet_seconds=0.0)
    for _ in range(8):
        assert bench.listed(listings) is None
        bench.time.forward(15)
    archive.images = bench.images
    assert bench.listed(listings) is not None


def test_a_source_that_does_not_list_what_came_says_nothing(bench: Bench) -> None:
    """Many answer with so many images at most; another one may know better."""
    bench.receive(*bench.images)
    assert bench.listed(bench.listings(Archive(bench.images[:-1]))) is None
    assert bench.events.facts("study.unlisted") == [{"study": bench.study_key, "reason": "retrieval-incomplete"}]
    found = bench.listed(bench.listings(Archive(bench.images[:-1]), Archive(bench.images)))
    assert found is not None
    assert found.is_exact


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PeerError("timeout"), {"reason": "timeout"}),
        (ZeroDivisionError("PHI"), {"reason": "internal", "kind": "ZeroDivisionError"}),
    ],
)
def test_a_fault_of_a_source_is_told_and_asked_for_again(bench: Bench, error: Exception, told: dict[str, str]) -> None:
    bench.receive(*bench.images)
    archive = Archive(bench.images)
    archive.error = error
    listings = bench.listings(archive)
    assert bench.listed(listings) is None
    assert bench.events.facts("study.unlisted") == [{"study": bench.study_key, **told}]
    archive.error = None
    bench.time.forward(10)
    assert bench.listed(listings) is not None


def test_nobody_is_asked_where_no_source_lists(bench: Bench) -> None:
    bench.receive(*bench.images)
    archive = Archive(bench.images)
    assert bench.listings(archive, sop_classes=frozenset()).of(bench.study_key) is None
    assert not bench.woken.acquire(timeout=0.05)
    assert archive.asked == 0


def test_nothing_is_asked_of_a_study_of_which_nothing_is_indexed(bench: Bench) -> None:
    archive = Archive(bench.images)
    assert bench.listed(bench.listings(archive)) is None
    assert archive.asked == 0


def test_an_index_that_is_behind_is_no_answer(bench: Bench) -> None:
    """What came a moment ago would pass for nothing that came since the answers."""
    bench.receive(*bench.images)
    behind: list[bool] = []

    def flush(_: str) -> None:
        if behind:
            raise StorageError("index-behind")

    book = EvidenceBook(
        bench.ledger, derivation_key=KEY, flush=flush, wake=lambda: None, clock=bench.time.now, emit=bench.events
    )
    listings = bench.listings(Archive(bench.images), book=book)
    assert bench.listed(listings) is not None
    behind.append(True)
    with pytest.raises(StorageError, match="index-behind"):
        listings.of(bench.study_key)


def test_what_is_listed_and_what_is_announced_are_known_together(bench: Bench) -> None:
    bench.receive(*bench.images)
    bench.book.begin(
        Step(
            sop_instance_uid="1.9",
            study_instance_uids=(str(bench.images[0].StudyInstanceUID),),
            state=StepState.COMPLETED,
            instances=(str(bench.images[0].SOPInstanceUID),),
        )
    )
    listings = bench.listings(Archive(bench.images))
    said = listings.of(bench.study_key)
    assert said is not None
    assert said.unnamed == len(bench.images) - 1
    assert bench.woken.acquire(timeout=30)
    known = listings.of(bench.study_key)
    assert known is not None
    assert known.is_exact


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (None, None, None),
        (Evidence(under_way=1, announced=0, missing=0), None, Evidence(under_way=1, announced=0, missing=0)),
        (
            Evidence(under_way=1, announced=3, missing=0, unnamed=4, broken_off=1),
            Evidence(under_way=0, announced=9, missing=2),
            Evidence(under_way=1, announced=9, missing=2, unnamed=0, broken_off=1),
        ),
    ],
)
def test_joined(one: Evidence | None, other: Evidence | None, both: Evidence | None) -> None:
    assert joined(one, other) == joined(other, one) == both


def test_a_node_that_ends_asks_nobody(bench: Bench) -> None:
    bench.receive(*bench.images)
    archive = Archive(bench.images)
    listings = bench.listings(archive)
    listings.end()
    assert listings.of(bench.study_key) is None
    assert archive.asked == 0


def test_the_answers_are_apart_and_one_that_ends_between_them_does_not_wait(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "BETWEEN_SECONDS", 3600.0)
    bench.receive(*bench.images)
    archive = Archive(bench.images)
    asked = threading.Event()
    find = archive.find

    def tell(level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        if level == "IMAGE":
            asked.set()
        return find(level, query, seconds)

    monkeypatch.setattr(archive, "find", tell)
    listings = bench.listings(archive, quiet_seconds=4 * 3600.0)
    assert listings.of(bench.study_key) is None
    assert asked.wait(30)
    assert not bench.woken.acquire(timeout=0.1)
    listings.end()
    assert bench.woken.acquire(timeout=30)
    assert archive.asked == 1
    assert listings.missing(bench.study_key) == frozenset()


def test_studies_that_were_settled_long_ago_are_forgotten(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "_REMEMBERED", 2)
    bench.receive(*bench.images[:-1])
    listings = bench.listings(Archive(bench.images))
    assert bench.listed(listings) is not None
    for number in range(3):
        bench.time.forward(100)
        assert listings.of(f"{number:032x}") is None
        assert bench.woken.acquire(timeout=30)
    assert listings.missing(bench.study_key) == frozenset()
