"""Priors over a real ledger and object store: what is kept, what a lying source costs, and that a work always goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import DeliverySection
from dicomnode.encoded import Limits
from dicomnode.errors import NodeError, PeerError, StorageError
from dicomnode.manifest import Priors as PriorRule
from dicomnode.network.retrieval import Retriever, Taking
from dicomnode.source_sections import RetrievalSection, Source
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.spool import Spool
from dicomnode.study import CircuitState, Purpose, WorkState, World
from dicomnode.workflow.circuits import Circuits
from dicomnode.workflow.handover import Handover, name
from dicomnode.workflow.paces import Paces
from dicomnode.workflow.prior_volumes import open_priors
from dicomnode.workflow.priors import Prior, Priors
from dicomnode.workflow.sources import Asked, Sources, circuit_of
from dicomnode.workflow.stages import Stages
from tests.unit.workflow.samples import EXPLICIT, Events, Time, encoded, tiny_series
from tests.unit.workflow.test_stages import TREE
from tests.unit.workflow.test_stages import Bench as StagesBench

SOURCE = Source.model_validate({"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104})


def study(seed: str, day: str, **patient: Any) -> list[Dataset]:
    images = tiny_series(seed=seed, **patient)
    for image in images:
        image.StudyDate = day
    return images


@dataclass
class FakeSource:
    """A source in memory; obeys `Retriever`, and lies as it is told."""

    studies: list[list[Dataset]]
    error: PeerError | None = None
    lie: Callable[[Taking, list[Dataset]], list[Dataset]] = lambda _, images: images
    asked: list[str] = field(default_factory=list)

    def echo(self) -> None:
        if self.error is not None:
            raise self.error

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        self.asked.append(level)
        self.echo()
        images = [one[0] for one in self.studies]
        if level == "IMAGE":
            images = [image for one in self.studies for image in one]
            images = [one for one in images if str(one.SeriesInstanceUID) == query["SeriesInstanceUID"]]
        elif level == "SERIES":
            images = [one for one in images if str(one.StudyInstanceUID) == query["StudyInstanceUID"]]
        return [{key: str(image.get(key) or "") for key in query} for image in images]

    def retrieve(self, taking: Taking) -> None:
        self.asked.append("RETRIEVE")
        (images,) = [one for one in self.studies if str(one[0].StudyInstanceUID) == taking.wanted.study_instance_uid]
        for image in self.lie(taking, images):
            taking.offer(str(image.SOPClassUID), str(image.SOPInstanceUID), EXPLICIT, encoded(image))


class NoCircuits:
    def __init__(self) -> None:
        self.open: set[str] = set()
        self.heards: list[tuple[str, str | None]] = []

    def is_open(self, destination: str) -> bool:
        return destination in self.open

    def heard(self, destination: str, outcomes: Any) -> None:
        self.heards.append((destination, outcomes[0].error.code if outcomes[0].error else None))


class Bench(StagesBench):
    """Rooms with a model that wants priors."""

    def wants(self, **rule: Any) -> None:
        package = self.analyst.package
        wanted = PriorRule(**{"modalities": ("CT",), **rule})
        self.analyst.package = replace(package, manifest=replace(package.manifest, priors=wanted))
        self.circuits = NoCircuits()
        self.ending = threading.Event()

    def priors(self, *fakes: FakeSource, source: Source = SOURCE, **settings: Any) -> Priors:
        names = [f"{source.name}{number or ''}" for number in range(len(fakes))]
        sections = dict.fromkeys(names, source)
        retrievers: dict[str, Retriever] = dict(zip(names, fakes, strict=True))
        paces = Paces(sections, clock=self.time.now, monotonic=self.time.monotonic)
        return Priors(
            self.rooms,
            Sources(sections, retrievers, circuits=self.circuits, paces=paces, emit=self.events),
            settings=RetrievalSection(**settings),
            limits=Limits(),
            report=lambda stage, error: self.reported.append((stage, error)),
            ending=self.ending,
            monotonic=self.time.monotonic,
            emit=self.events,
        )

    def reason(self) -> Any:
        (facts,) = self.events.facts("priors.none")
        return facts["reason"]


@pytest.fixture
def bench(*, ledger: Ledger, spool: Spool, objects: Objects, keys: DataKeys, time: Time, events: Events) -> Bench:
    made = Bench(ledger=ledger, spool=spool, objects=objects, keys=keys, time=time, events=events)
    made.wants(number=2)
    made.receive(study("now", "20260301"))
    return made


def test_earlier_studies_are_kept_with_the_work_and_with_nothing_else(bench: Bench) -> None:
    source = FakeSource([study("old", "20250101"), study("older", "20240101"), study("now", "20260301")])
    priors = bench.priors(source)
    assert priors.are_wanted(bench.key.model)
    assert not priors.are_wanted("another")
    priors.fetch(bench.key)
    (fetched,) = bench.events.facts("priors.fetched")
    assert (fetched["priors"], fetched["images"], fetched["source"]) == (2, 32, "pacs")
    assert bench.circuits.heards == [(circuit_of("pacs"), None)]
    assert priors.facts(bench.key) == {"priors": 2}
    assert bench.ledger.all_study_keys() == (bench.key.study_key,)
    assert len(bench.ledger.instances(bench.key.study_key)) == 16
    asked = len(source.asked)
    priors.fetch(bench.key)  # a step that was killed at its end runs again
    assert len(source.asked) == asked
    bench.rooms.objects.purge(bench.key.study_key)
    assert priors.facts(bench.key) == {"priors": 0}


def test_the_engine_gets_pseudonymous_volumes_the_newest_first(bench: Bench) -> None:
    priors = bench.priors(FakeSource([study("old", "20250301"), study("older", "20240301")]))
    priors.fetch(bench.key)
    copied = priors.copy(bench.key)
    assert [(one["days_before"], one["images"]) for one in copied] == [(365, 16), (730, 16)]
    handover = Handover(bench.rooms)
    volumes = open_priors(handover, bench.key, {"priors": copied}, analyst=bench.analyst, tree=TREE, emit=bench.events)
    assert [one.days_before for one in volumes] == [365, 730]
    assert {one.volume.values.shape for one in volumes} == {(16, 48, 48)}
    copies = handover.get(bench.key, World.PSEUDONYM, name(bench.key, "prior-copies-0"), Purpose.COPY)
    assert b"PHANTOM-1" not in copies


def test_priors_are_input_and_results_are_others_with_them(bench: Bench) -> None:
    def digest(priors: Priors) -> str:
        stages = Stages(
            bench.rooms,
            TREE,
            released=bench.released.append,
            pause=bench.pause,
            report=lambda stage, error: bench.reported.append((stage, error)),
            clock=bench.time.now,
            monotonic=bench.time.monotonic,
            emit=bench.events,
            priors=priors,
        )
        assert stages.run("prepare", bench.key)
        assert stages.run("infer", bench.key)
        return str(Handover(bench.rooms).plan(bench.key)["digest"])

    source = FakeSource([study("old", "20250301")])
    priors = bench.priors(source)
    priors.fetch(bench.key)
    with_one = digest(priors)
    assert bench.work().facts["priors"] == 1
    plan = Handover(bench.rooms).plan(bench.key)
    assert plan["priors"][0]["days_before"] == 365
    assert with_one != plan["priors"][0]["digest"]


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ([], "priors-none"),
        ([study("other", "20250101", patient_id="P-2")], "priors-none"),
        ([study("future", "20270101")], "priors-none"),
        ([study("short", "20250101")[:2]], "priors-none"),  # fewer slices than the model takes
    ],
)
def test_a_source_without_any_costs_nothing(bench: Bench, shown: list[list[Dataset]], reason: str) -> None:
    priors = bench.priors(FakeSource(shown))
    priors.fetch(bench.key)
    assert bench.reason() == reason
    assert priors.facts(bench.key) == {"priors": 0, "priors_reason": reason}
    assert priors.copy(bench.key) == []
    assert bench.work().state is WorkState.QUEUED


def stranger(_: Taking, images: list[Dataset]) -> list[Dataset]:
    """The right UIDs, and another patient in them."""
    for image in images:
        image.PatientID = "P-2"
    return images


def others(_: Taking, images: list[Dataset]) -> list[Dataset]:
    return study("something", "20250101") + images


def nothing(_: Taking, images: list[Dataset]) -> list[Dataset]:
    return []


def broken_off(_: Taking, images: list[Dataset]) -> list[Dataset]:
    raise PeerError("peer-aborted")


def for_ever(taking: Taking, images: list[Dataset]) -> list[Dataset]:
    return images * 20


def ai(_: Taking, images: list[Dataset]) -> list[Dataset]:
    for image in images:
        image.ImageType = ["DERIVED", "SECONDARY", "AI"]
    return images


@pytest.mark.parametrize(
    ("lie", "priors", "reason"),
    [
        (stranger, 0, "retrieval-other-patient"),
        (others, 1, None),
        (nothing, 0, "priors-none"),
        (broken_off, 0, "peer-aborted"),
        (for_ever, 1, None),
        (ai, 0, "priors-none"),
    ],
)
def test_a_source_that_lies(
    bench: Bench, lie: Callable[[Taking, list[Dataset]], list[Dataset]], priors: int, reason: str | None
) -> None:
    bench.wants(number=1)
    made = bench.priors(FakeSource([study("old", "20250101")], lie=lie))
    made.fetch(bench.key)
    assert made.facts(bench.key) == {"priors": priors, **({"priors_reason": reason} if reason else {})}
    if lie in (others, for_ever):
        assert bench.events.facts("source.strange")
    files = list(bench.rooms.objects._folder.rglob("*.sealed"))
    assert len(files) == 1 + 16 * priors  # the listing, and what is used


@pytest.mark.parametrize(
    ("settings", "reason"), [({"maximum_objects": 5}, "retrieval-too-large"), ({"priors_seconds": 1}, "timeout")]
)
def test_bounds(bench: Bench, settings: dict[str, int], reason: str) -> None:
    def slow(taking: Taking, images: list[Dataset]) -> list[Dataset]:
        bench.time.forward(2)
        return images

    made = bench.priors(FakeSource([study("old", "20250101")], lie=slow), **settings)
    made.fetch(bench.key)
    assert bench.reason() == reason


def test_what_came_before_a_fault_is_used(bench: Bench) -> None:
    def second(taking: Taking, images: list[Dataset]) -> list[Dataset]:
        if "older" in str(images[0].get("StudyID", "")):
            raise PeerError("peer-aborted")
        return images

    older = study("older", "20240101")
    for image in older:
        image.StudyID = "older"
    made = bench.priors(FakeSource([study("old", "20250101"), older], lie=second))
    made.fetch(bench.key)
    assert made.facts(bench.key) == {"priors": 1}
    assert bench.events.facts("source.failed")[0]["reason"] == "peer-aborted"


@pytest.mark.parametrize("shown", [16, None])
def test_half_of_a_series_is_no_prior(bench: Bench, shown: int | None) -> None:
    """The source says success, and the first half of a scan looks like a whole one; the study before it came whole."""

    def half(taking: Taking, images: list[Dataset]) -> list[Dataset]:
        return images[:9] if images[0].StudyDate == "20250101" else images

    newer, older = study("old", "20250101"), study("older", "20240101")
    for image in (*newer, *older):
        if shown is not None:
            image.NumberOfSeriesRelatedInstances = shown
    bench.wants(number=1)
    bench.priors(FakeSource([newer, older], lie=half)).fetch(bench.key)
    assert bench.events.facts("source.failed") == [{"source": "pacs", "reason": "retrieval-incomplete"}]
    (fetched,) = bench.events.facts("priors.fetched")
    assert (fetched["priors"], fetched["images"]) == (1, 16)


def test_what_else_a_series_holds_is_not_missing(bench: Bench) -> None:
    old = study("old", "20250101")
    for image in old:
        image.NumberOfSeriesRelatedInstances = 17

    class WithCapture(FakeSource):
        def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
            capture = {"SOPInstanceUID": "1.9", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}
            return [*super().find(level, query, seconds), *([capture] if level == "IMAGE" else [])]

    bench.priors(WithCapture([old])).fetch(bench.key)
    assert bench.events.facts("priors.fetched")[0]["images"] == 16


def test_a_source_that_says_nowhere_how_many_there_are_is_believed(bench: Bench) -> None:
    class Silent(FakeSource):
        def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
            if level == "IMAGE":
                raise PeerError("query-failed")
            return super().find(level, query, seconds)

    bench.priors(Silent([study("old", "20250101")])).fetch(bench.key)
    assert bench.events.facts("priors.fetched")[0]["images"] == 16


def test_the_next_source_is_asked_and_one_that_is_down_is_not(bench: Bench) -> None:
    dead, good = FakeSource([], error=PeerError("peer-unreachable")), FakeSource([study("old", "20250101")])
    bench.priors(dead, good).fetch(bench.key)
    assert bench.events.facts("priors.fetched")[0]["source"] == "pacs1"
    assert bench.circuits.heards == [(circuit_of("pacs"), "peer-unreachable"), (circuit_of("pacs1"), None)]


def test_nobody_to_ask(bench: Bench) -> None:
    bench.priors().fetch(bench.key)
    assert bench.reason() == "source-none"


@pytest.mark.parametrize(("hours", "reason"), [((), "source-down"), (("03:00-03:01",), "source-closed")])
def test_a_source_that_is_left_alone(bench: Bench, hours: tuple[str, ...], reason: str) -> None:
    if not hours:
        bench.circuits.open.add(circuit_of("pacs"))
    fake = FakeSource([study("old", "20250101")])
    made = bench.priors(fake, source=SOURCE.model_copy(update={"hours": hours}))
    made.fetch(bench.key)
    assert (bench.reason(), fake.asked) == (reason, [])


def test_one_that_may_not_be_asked_for_priors(bench: Bench) -> None:
    bench.priors(FakeSource([]), source=SOURCE.model_copy(update={"priors": False})).fetch(bench.key)
    assert bench.reason() == "source-none"


def test_a_fault_that_nobody_foresaw_costs_no_study(bench: Bench) -> None:
    def fault(taking: Taking, images: list[Dataset]) -> list[Dataset]:
        raise KeyError("PHANTOM-1")

    bench.priors(FakeSource([study("old", "20250101")], lie=fault)).fetch(bench.key)
    assert bench.reason() == "internal"
    assert [stage for stage, _ in bench.reported] == ["priors"]


def test_a_disk_of_ours_that_is_full_costs_no_study(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise StorageError("storage-full")

    monkeypatch.setattr(bench.rooms.objects, "put", full)
    bench.priors(FakeSource([study("old", "20250101")])).fetch(bench.key)
    assert bench.reason() == "storage-full"


def test_a_node_that_ends_does_it_again_later(bench: Bench) -> None:
    def end(taking: Taking, images: list[Dataset]) -> list[Dataset]:
        bench.ending.set()
        return images

    made = bench.priors(FakeSource([study("old", "20250101")], lie=end))
    with pytest.raises(NodeError):
        made.fetch(bench.key)
    assert made.facts(bench.key) == {"priors": 0}
    bench.ending.clear()
    bench.priors(FakeSource([study("old", "20250101")])).fetch(bench.key)
    assert made.facts(bench.key) == {"priors": 1}


def test_a_node_that_ends_between_two_priors_fetches_both_later(bench: Bench) -> None:
    """Half of what was fetched would be another input than what a node makes of it that goes on."""
    made = bench.priors(FakeSource([study("old", "20250101")]))
    real = made._sources.ask

    def ask(*given: Any) -> Any:
        found = real(*given)
        bench.ending.set()
        return found

    made._sources.ask = ask  # type: ignore[method-assign]
    with pytest.raises(NodeError):
        made.fetch(bench.key)
    assert made.facts(bench.key) == {"priors": 0}


def test_a_passing_fault_after_a_kill_takes_no_priors_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench.priors(FakeSource([study("old", "20250101")]))
    made.fetch(bench.key)

    def locked(*_: object, **__: object) -> None:
        raise StorageError("ledger-failed")

    with monkeypatch.context() as patch:
        patch.setattr(bench.rooms.ledger, "work", locked)
        made.fetch(bench.key)
    assert made.facts(bench.key) == {"priors": 1}


def test_a_damaged_prior_is_left_out_and_one_that_fails_for_now_is_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = bench.priors(FakeSource([study("old", "20250101")]))
    made.fetch(bench.key)

    def fails(*_: object) -> bytes:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(made._handover, "get", fails)
        patch.setattr(made, "_kept", lambda _: iter([kept]))
        kept = Prior(images=("one",), days_before=9, digest="d")
        error = StorageError("sealed-damaged")
        assert made.copy(bench.key) == []
        error = StorageError("storage-failed")
        with pytest.raises(StorageError):
            made.copy(bench.key)
    assert len(made.copy(bench.key)) == 1


def test_a_prior_that_cannot_be_deidentified_or_read_is_left_out(bench: Bench) -> None:
    def no_pixels(taking: Taking, images: list[Dataset]) -> list[Dataset]:
        for image in images:
            image.PixelData = b"\0\0"
        return images

    made = bench.priors(FakeSource([study("old", "20250101")], lie=no_pixels))
    made.fetch(bench.key)
    copied = made.copy(bench.key)
    volumes = open_priors(
        Handover(bench.rooms), bench.key, {"priors": copied}, analyst=bench.analyst, tree=TREE, emit=bench.events
    )
    assert volumes == ()
    assert bench.events.facts("priors.dropped")


def test_priors_that_are_too_much_for_half_of_the_memory_are_left_out(bench: Bench) -> None:
    made = bench.priors(FakeSource([study("old", "20250301"), study("older", "20240301")]))
    made.fetch(bench.key)
    copied = made.copy(bench.key)
    size = 16 * 48 * 48 * 2
    models = TREE.models.model_copy(update={"maximum_memory_bytes": 3 * size})  # half of it: one, and no second
    tree = TREE.model_copy(update={"models": models})
    volumes = open_priors(
        Handover(bench.rooms), bench.key, {"priors": copied}, analyst=bench.analyst, tree=tree, emit=bench.events
    )
    assert [one.days_before for one in volumes] == [365]
    assert [one["reason"] for one in bench.events.facts("priors.dropped")] == ["memory-too-large"]


def test_a_source_that_fails_again_and_again_is_left_alone_and_asked_whether_it_is_back(
    bench: Bench, ledger: Ledger
) -> None:
    dead = FakeSource([study("old", "20250101")], error=PeerError("timeout"))
    name_of_circuit = circuit_of("pacs")
    circuits = Circuits(
        ledger,
        destinations={name_of_circuit: dead},
        hasten=lambda _: 0,
        settings=DeliverySection(circuit_failures=2),
        jitter=lambda: 0.0,
        clock=bench.time.now,
        emit=bench.events,
    )
    paces = Paces({"pacs": SOURCE}, clock=bench.time.now, monotonic=bench.time.monotonic)
    sources = Sources({"pacs": SOURCE}, {"pacs": dead}, circuits=circuits, paces=paces, emit=bench.events)
    asked = Asked(purpose="priors", priority=1)

    def ask() -> str:
        with pytest.raises(NodeError) as caught:
            sources.ask(asked, lambda name, source: source.find("STUDY", {}) or None)
        return caught.value.code

    assert [ask() for _ in range(4)] == ["timeout", "timeout", "source-down", "source-down"]
    assert len(dead.asked) == 2
    assert ledger.circuits()[name_of_circuit].reason == "timeout"
    assert circuits.ask(name_of_circuit) is not None  # C-ECHO: still not there
    dead.error = None
    assert circuits.ask(name_of_circuit) is None
    assert sources.ask(asked, lambda name, source: source.find("STUDY", {}) and name) == "pacs"
    assert ledger.circuits()[name_of_circuit].state is CircuitState.CLOSED


def dated(day: str) -> Callable[[Taking, list[Dataset]], list[Dataset]]:
    def lie(_: Taking, images: list[Dataset]) -> list[Dataset]:
        for image in images:
            image.StudyDate = day
        return images

    return lie


@pytest.mark.parametrize("day", ["20991231", "", "20260301"])
def test_images_that_are_not_earlier_by_their_own_date_are_left_out_whatever_the_source_shows(
    bench: Bench, day: str
) -> None:
    bench.wants(number=1)
    images = study("old", "20250101")
    for image in images:
        image.StudyTime = "235959.9"
    made = bench.priors(FakeSource([images], lie=dated(day)))
    made.fetch(bench.key)
    assert made.facts(bench.key) == {"priors": 0, "priors_reason": "priors-none"}
    assert bench.events.facts("source.strange")[0]["reason"] == "retrieval-strange"
    assert not made.copy(bench.key)


def test_the_days_between_are_those_of_the_images(bench: Bench) -> None:
    bench.wants(number=1)
    made = bench.priors(FakeSource([study("old", "20250101")], lie=dated("20250601")))
    made.fetch(bench.key)
    (prior,) = made.copy(bench.key)
    assert prior["days_before"] == 273


def test_images_of_another_name_without_a_birth_date_are_of_another_patient(bench: Bench) -> None:
    def lie(_: Taking, images: list[Dataset]) -> list[Dataset]:
        for image in images:
            image.PatientName, image.PatientSex, image.PatientBirthDate = "OTHER^WOMAN", "F", ""
        return images

    bench.wants(number=1)
    made = bench.priors(FakeSource([study("old", "20250101")], lie=lie))
    made.fetch(bench.key)
    assert made.facts(bench.key) == {"priors": 0, "priors_reason": "retrieval-other-patient"}


def test_a_source_whose_priors_take_longer_than_we_wait_is_not_taken_for_dead(bench: Bench) -> None:
    def slow(taking: Taking, images: list[Dataset]) -> list[Dataset]:
        bench.time.forward(301)
        return images

    bench.priors(FakeSource([study("old", "20250101")], lie=slow), priors_seconds=300).fetch(bench.key)
    assert (bench.circuits.heards, bench.reason()) == ([], "timeout")


def test_a_source_that_does_not_answer_is(bench: Bench) -> None:
    bench.priors(FakeSource([], error=PeerError("timeout")), priors_seconds=300).fetch(bench.key)
    assert bench.circuits.heards == [(circuit_of("pacs"), "timeout")]


@pytest.mark.parametrize(
    ("seconds", "is_ending", "blamed"), [(300, False, True), (300, True, False), (15, False, False)]
)
def test_a_source_that_says_nothing_in_its_share_of_our_time_is_blamed(
    bench: Bench, seconds: int, is_ending: bool, blamed: bool
) -> None:
    """Its share may be shorter than its own time limit. Not where the node stops, nor for a share that is too short."""

    class Hanging(FakeSource):
        def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
            assert seconds is not None
            bench.time.forward(seconds)
            if is_ending:
                bench.ending.set()
            raise PeerError("timeout")

    with pytest.raises(PeerError) if is_ending else nullcontext():
        bench.priors(Hanging([]), FakeSource([]), priors_seconds=seconds).fetch(bench.key)
    heard = [(circuit_of("pacs"), "timeout")] if blamed else []
    assert [one for one in bench.circuits.heards if one[0] == circuit_of("pacs")] == heard


def test_a_source_that_sends_without_end_leaves_the_others_their_share(bench: Bench) -> None:
    """It is no fault of its own that nobody waits any longer, and nobody is asked in the time of who comes after it."""
    lasted: list[float] = []

    def drips(taking: Taking, images: list[Dataset]) -> Iterator[Dataset]:
        began = bench.time.monotonic()
        for image in [*images, *images]:
            if taking.is_over:
                break
            bench.time.forward(50)
            yield image
        lasted.append(bench.time.monotonic() - began)

    old = study("old", "20250101")
    closed = FakeSource([])
    bench.circuits.open.add(circuit_of("pacs2"))
    dripping = FakeSource([old], lie=drips)  # type: ignore[arg-type]
    bench.priors(dripping, FakeSource([old]), closed, priors_seconds=300).fetch(bench.key)
    assert lasted == [150]
    assert bench.events.facts("priors.fetched")[0]["source"] == "pacs1"
    assert bench.circuits.heards == [(circuit_of("pacs1"), None)]


@pytest.mark.parametrize(("seconds", "asked"), [(0.2, True), (600.0, False)])
def test_a_source_that_rests_for_a_moment_is_waited_for(bench: Bench, seconds: float, asked: bool) -> None:
    waits: list[float] = []
    bench.ending.wait = waits.append  # type: ignore[method-assign, assignment]
    fake = FakeSource([study("old", "20250101")])
    made = bench.priors(fake, source=SOURCE.model_copy(update={"objects_per_minute": 60 / seconds}))
    made._sources._paces.passed("pacs", 1, 0)
    made.fetch(bench.key)
    assert bool(fake.asked) == asked
    assert waits == ([pytest.approx(seconds)] if asked else [])
    if not asked:
        assert bench.reason() == "source-closed"
