"""Originals from a modality stay until the PACS shows every one of them: that it has the results is not enough."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.config import ConfigErrors, parse
from dicomnode.errors import PeerError, PeerRefusal, StorageError
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, InstanceState, RecordAddress, Rejected
from dicomnode.workflow.indexing import row_of
from dicomnode.workflow.notes import KEY_OBJECT_SELECTION
from dicomnode.workflow.originals import Originals
from tests.unit.workflow.samples import KEY, Events, Time, encoded, metadata, study_key_of, tiny_series

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


@dataclass
class Archive:
    """A PACS that shows some objects."""

    held: list[Dataset] = field(default_factory=list)
    error: PeerError | None = None
    asked: int = 0

    def find(self, level: str, query: Mapping[str, str]) -> list[dict[str, str]]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        keyword = {"SERIES": "SeriesInstanceUID", "IMAGE": "SOPInstanceUID"}[level]
        keys = {name: value for name, value in query.items() if value}
        found = [one for one in self.held if all(str(one.get(name)) == value for name, value in keys.items())]
        return [{keyword: uid} for uid in dict.fromkeys(str(one.get(keyword)) for one in found)] + [{}]


class Bench:
    def __init__(self, ledger: Ledger, spool: Spool, time: Time, events: Events) -> None:
        self.ledger, self.spool, self.time, self.events = ledger, spool, time, events
        self.archive = Archive()
        self.images = tiny_series(seed="originals")[:3]
        self.images[2].SeriesInstanceUID += ".9"
        self.key = study_key_of(self.images[0])
        for image in self.images:
            data = encoded(image)
            about = metadata(image, data)
            address = spool.append(self.key, about, data)
            ledger.record_instances([row_of(KEY, self.key, address, about)])
        ledger.rank_study(self.key, "ct1", "routine")
        ledger.mark_straight(self.key)
        self.originals = self.made(self.archive)

    def made(self, archive: Archive | None) -> Originals:
        return Originals(
            self.ledger,
            self.spool,
            archive=archive,
            derivation_key=KEY,
            monotonic=self.time.monotonic,
            emit=self.events,
        )

    def ask(self) -> bool:
        """As the threads of a node take turns."""
        assert not self.originals.may_go(self.key), "nobody waits for the answer"
        self.originals.ask()
        return self.originals.may_go(self.key)


@pytest.fixture
def bench(ledger: Ledger, spool: Spool, time: Time, events: Events) -> Bench:
    return Bench(ledger, spool, time, events)


def test_what_the_pacs_shows_whole_may_go(bench: Bench) -> None:
    bench.archive.held = bench.images
    assert bench.ask()
    assert bench.events.names == ["originals.held"]


def test_one_object_that_it_lacks_keeps_the_study(bench: Bench) -> None:
    for number in range(3):
        bench.archive.held = [one for index, one in enumerate(bench.images) if index != number]
        assert not bench.ask()
        bench.time.forward(100_000)
    assert bench.events.facts("originals.missing") == [{"study": bench.key, "missing": 1}] * 3
    assert str(bench.images[0].StudyInstanceUID) not in repr(bench.events.seen)


def test_results_in_the_pacs_are_no_originals(bench: Bench) -> None:
    result = Dataset()
    result.StudyInstanceUID = bench.images[0].StudyInstanceUID
    result.SeriesInstanceUID, result.SOPInstanceUID = "2.25.1", "2.25.2"
    bench.archive.held = [result]
    assert not bench.ask()


def test_the_same_uids_under_another_study_are_not_ours(bench: Bench) -> None:
    bench.archive.held = [Dataset.from_json(one.to_json()) for one in bench.images]
    for one in bench.archive.held:
        one.StudyInstanceUID = "2.25.3"
    assert not bench.ask()


def test_an_object_that_was_set_aside_counts_as_well(bench: Bench) -> None:
    (last,) = [one for one in bench.ledger.instances(bench.key) if one.address.number == 2][:1]
    bench.ledger.set_instance_state(bench.key, last.address, InstanceState.QUARANTINED)
    bench.archive.held = bench.images[:2]
    assert not bench.ask()


@pytest.mark.parametrize("error", [PeerError("timeout"), PeerRefusal("peer-context-refused")])
def test_a_pacs_that_cannot_be_asked_keeps_the_study(bench: Bench, error: PeerError) -> None:
    bench.archive.error = error
    assert not bench.ask()
    assert bench.events.facts("originals.unasked") == [{"study": bench.key, "reason": error.code}]


def test_without_a_pacs_it_stays(bench: Bench) -> None:
    bench.originals = bench.made(None)
    assert not bench.ask()


def test_it_is_asked_again_after_an_hour_then_less_often(bench: Bench) -> None:
    asked = []
    for hour in range(100):
        before = bench.archive.asked
        assert not bench.ask()
        asked += [hour] if bench.archive.asked > before else []
        bench.time.forward(3600)
    assert asked == [0, 1, 3, 7, 15, 31, 55, 79]


def test_one_question_without_an_answer_is_enough_for_a_round(bench: Bench) -> None:
    bench.archive.error = PeerError("timeout")
    others = [f"{number:02x}" * 16 for number in range(60)]
    for one in others:
        bench.ledger.rank_study(one, "ct1", "routine")
        bench.ledger.mark_straight(one)
    for one in (bench.key, *others):
        assert not bench.originals.may_go(one)
    bench.originals.ask()
    assert bench.archive.asked == 1
    bench.originals.ask()
    assert bench.archive.asked == 1, "the others are asked about at the next sweep"
    assert len(bench.events.facts("originals.unasked")) == 1


def test_an_answer_is_of_the_images_that_were_there(bench: Bench) -> None:
    bench.archive.held = bench.images
    assert not bench.originals.may_go(bench.key)
    bench.originals.ask()
    assert bench.originals.answered() == (bench.key,)
    (first, *_) = bench.ledger.instances(bench.key)
    late = replace(first, instance_key="9" * 32, address=replace(first.address, number=9))
    bench.ledger.record_instances([late])
    assert not bench.originals.may_go(bench.key)
    assert bench.originals.answered() == ()


def test_a_study_whose_records_cannot_be_read_stays(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: Any) -> None:
        raise StorageError("sealed-damaged")

    bench.archive.held = bench.images
    monkeypatch.setattr(bench.spool, "read", damaged)
    assert not bench.ask()


def test_what_another_archive_sent_is_not_asked_for(bench: Bench) -> None:
    other = "cd" * 16
    bench.ledger.rank_study(other, "pacs", "routine")
    assert bench.originals.may_go(other)
    assert bench.originals.may_go("ef" * 16), "of a node without rules"
    assert bench.archive.asked == 0


def test_a_more_urgent_sender_afterwards_does_not_make_it_forgotten(bench: Bench) -> None:
    bench.ledger.rank_study(bench.key, "pacs", "stat")
    assert bench.ledger.is_straight(bench.key)


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"retention": {"archive": "other"}, "destinations": [PACS]}, "retention.archive names no destination"),
        ({"peers": [{"name": "ct", "modality": True}]}, "no destination can be asked"),
    ],
)
def test_settings_that_ask_nobody_are_refused(tree: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse(tree)
    assert problem in caught.value.problems[0]


def test_what_its_owner_rejected_and_the_note_that_says_so_are_not_waited_for(bench: Bench) -> None:
    rows = bench.ledger.instances(bench.key)
    note = replace(
        rows[0], instance_key="9" * 32, address=replace(rows[0].address, number=9), sop_class_uid=KEY_OBJECT_SELECTION
    )
    bench.ledger.record_instances([note])
    bench.archive.held = bench.images[:2]
    assert not bench.ask()
    bench.time.forward(100_000)
    (last,) = [one for one in rows if one.address.number == 2][:1]
    bench.ledger.enter_rejections(bench.key, [last.instance_key], Rejected.QUALITY, note=note)
    bench.ledger.take_out(bench.key, [last.instance_key], InstanceState.REJECTED)
    assert bench.ask()


def with_pixels(image: Dataset, value: int) -> Dataset:
    other = deepcopy(image)
    other.PixelData = bytes([value]) * len(other.PixelData)
    return other


def received(bench: Bench, image: Dataset) -> InstanceRow:
    data = encoded(image)
    about = metadata(image, data)
    (one,) = bench.ledger.record_instances([row_of(KEY, bench.key, bench.spool.append(bench.key, about, data), about)])
    return one


def test_of_two_contents_under_one_uid_nobody_can_tell_which_the_pacs_holds(bench: Bench, time: Time) -> None:
    """It may be either: both stay until a person decides."""
    other = received(bench, with_pixels(bench.images[1], 7))
    assert other.state is InstanceState.QUARANTINED
    bench.archive.held = bench.images
    assert not bench.ask()
    bench.time.forward(100_000)
    (first,) = [one for one in bench.ledger.instances(bench.key) if one.address.number == 1]
    for row, state in ((first, InstanceState.REPLACED), (other, InstanceState.CURRENT)):
        bench.ledger.set_instance_state(bench.key, row.address, state)
    assert bench.ask(), "the same pixels, as somebody found who compared them"
    assert bench.events.facts("originals.missing") == [
        {"study": bench.key, "missing": 1, "reason": "same-uid-other-content"}
    ]


def test_a_content_that_came_since_the_answer_is_doubtful(bench: Bench) -> None:
    bench.archive.held = bench.images
    assert not bench.originals.may_go(bench.key)
    bench.originals.ask()
    received(bench, with_pixels(bench.images[1], 7))
    assert not bench.originals.may_go(bench.key)


def test_what_is_damaged_here_is_no_second_content(bench: Bench, time: Time) -> None:
    """But the other one is, where the damaged one is what the PACS may hold."""
    rows = bench.ledger.instances(bench.key)
    bench.ledger.set_instance_state(bench.key, rows[1].address, InstanceState.QUARANTINED)
    bench.ledger.quarantine(bench.key, "segment", "sealed-damaged", time.now(), address=rows[1].address)
    received(bench, with_pixels(bench.images[1], 7))
    bench.archive.held = bench.images
    assert bench.ask(), "what came again takes its place"
    received(bench, with_pixels(bench.images[1], 8))
    assert not bench.ask()


def test_a_disk_that_refuses_for_now_is_not_a_pacs_that_lacks_everything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record that can be read is enough; none for now is no answer."""
    read, failing = bench.spool.read, {0, 1, 2}

    def fails(study_key: str, address: RecordAddress) -> Any:
        if address.number in failing:
            raise StorageError("storage-failed")
        return read(study_key, address)

    bench.archive.held = bench.images
    monkeypatch.setattr(bench.spool, "read", fails)
    assert not bench.ask()
    assert bench.events.facts("originals.unasked") == [{"study": bench.key, "reason": "storage-failed"}]
    assert "originals.missing" not in bench.events.names
    bench.time.forward(100_000)
    failing.discard(1)
    assert bench.ask()
