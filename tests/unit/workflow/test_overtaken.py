"""Results that a destination took after newer ones were made: the next note names them, or one of their own does, once."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest
from pydicom import Dataset

from dicomnode.errors import StorageError
from dicomnode.study import (
    NOTED,
    OPEN,
    OVERTAKEN,
    RETRACTION,
    DeliveryState,
    ResultRole,
    WorkKey,
    WorkState,
)
from dicomnode.workflow.overtaken import Overtaken
from dicomnode.workflow.retraction import wish
from tests.unit.workflow.test_encoding import confirm, opened, run, stages_for
from tests.unit.workflow.test_retraction import ARCHIVE, ROLES, TAKES, Desk
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

FIRST = (ResultRole.SEGMENTATION, ResultRole.REPORT)
LATE = (ResultRole.KEY_IMAGE, ResultRole.KEY_OBJECTS)


def take(bench: Bench, key: WorkKey, roles: Collection[ResultRole], destination: str = "pacs") -> None:
    """The destination has taken these."""
    for row in bench.ledger.deliveries(key):
        if row.destination == destination and row.role in roles:
            bench.ledger.record_delivery(
                row.result_id, destination, state=DeliveryState.CONFIRMED, status=0, reason=None, at=bench.time.now()
            )


def put(bench: Bench, key: WorkKey, *states: WorkState) -> None:
    for state in states:
        bench.ledger.set_work_state(key, state, at=bench.time.now())


def named(note: Dataset) -> set[str]:
    return {
        reference.ReferencedSOPInstanceUID
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


class Two:
    """Two revisions: the destination took a part of the first before the second was made, and the rest behind that."""

    def __init__(self, bench: Bench, images: list[Dataset]) -> None:
        self.bench, self.settings = bench, (TAKES, ARCHIVE)
        self.stages = stages_for(bench, *self.settings)
        self.first = bench.receive(images[:-1])
        assert run(self.stages, self.first) == [True] * 3
        take(bench, self.first, FIRST)
        put(bench, self.first, WorkState.DELIVERING)
        self.second = bench.receive(images[-1:], revision=2)
        assert run(self.stages, self.second) == [True] * 3
        take(bench, self.first, LATE)
        bench.ledger.add_facts(self.first, {OVERTAKEN: OPEN})
        self.desk = Desk(bench, self.stages, *self.settings)

    def sweep(self, desk: Desk | None = None) -> None:
        desk = desk or self.desk
        bench, destinations = self.bench, desk.destinations
        Overtaken(bench.ledger, desk.queue, desk.retraction, destinations=destinations, emit=bench.events).sweep()

    def end(self) -> None:
        """Both works end, and the destinations have what there is of the second, its note among that."""
        put(self.bench, self.first, WorkState.CANCELLED)
        put(self.bench, self.second, WorkState.DELIVERING)
        confirm(self.bench, self.second)
        put(self.bench, self.second, WorkState.DONE)

    def says(self) -> tuple[object, object]:
        facts = self.bench.work(self.first).facts
        return facts.get(OVERTAKEN), facts.get(NOTED)

    def uids(self, key: WorkKey, roles: Collection[ResultRole]) -> set[str]:
        return {opened(self.bench, role, key).SOPInstanceUID for role in roles}


@pytest.fixture
def two(bench: Bench, images: list[Dataset]) -> Two:
    return Two(bench, images)


def test_what_came_too_late_for_the_note_gets_one_of_its_own(two: Two) -> None:
    bench = two.bench
    two.end()
    assert named(opened(bench, ResultRole.REJECTION, two.second)) == two.uids(two.first, FIRST)

    two.sweep()
    assert two.says() == ("settled", "pacs")
    note = opened(bench, ResultRole.REJECTION, two.first)
    assert named(note) == two.uids(two.first, LATE)
    words = [item.TextValue for item in note.ContentSequence if "TextValue" in item]
    assert words == [bench.analyst.words.say("superseded")], "nobody found them wrong"
    assert bench.events.facts("result.standing") == []
    assert RETRACTION not in bench.work(two.first).facts, "they can be found wrong yet"
    assert bench.work(two.first).state is WorkState.DELIVERING
    assert [entry.destination for entry in two.desk.queue.waiting] == ["pacs"]

    two.sweep()
    assert len(two.desk.queue.waiting) == 1, "once"


def test_the_results_of_the_newer_revision_stand(two: Two) -> None:
    two.end()
    two.sweep()
    assert two.bench.work(two.second).state is WorkState.DONE
    every_note = [opened(two.bench, ResultRole.REJECTION, key) for key in (two.first, two.second)]
    assert not set().union(*map(named, every_note)) & two.uids(two.second, ROLES)


@pytest.mark.parametrize("state", [WorkState.READY, WorkState.HELD, WorkState.DELIVERING])
def test_it_is_waited_for_newer_results_that_are_still_to_come(two: Two, state: WorkState) -> None:
    put(two.bench, two.first, WorkState.CANCELLED)
    if state is not WorkState.READY:
        put(two.bench, two.second, state)
    confirm(two.bench, two.second)
    two.sweep()
    assert two.says() == (OPEN, None)


def test_nothing_goes_where_nothing_replaces_it(two: Two) -> None:
    """The newer results were refused: these are the only ones, until somebody mends that."""
    bench = two.bench
    put(bench, two.first, WorkState.DONE)
    put(bench, two.second, WorkState.DELIVERING, WorkState.FAILED)
    two.sweep()
    assert two.says() == (OPEN, None)
    put(bench, two.second, WorkState.DELIVERING)
    confirm(bench, two.second)
    put(bench, two.second, WorkState.DONE)
    two.sweep()
    assert two.says() == ("settled", "pacs")


def test_a_destination_without_newer_results_gets_no_note(two: Two) -> None:
    """Both take notes and have the old results; the new ones arrived at one alone."""
    bench, both = two.bench, (TAKES, {**ARCHIVE, **TAKES})
    take(bench, two.first, ROLES, "archive")
    two.end()
    two.stages = stages_for(bench, *both)
    desk = Desk(bench, two.stages, *both)
    two.sweep(desk)
    assert [entry.destination for entry in desk.queue.waiting] == ["pacs"]
    assert two.says() == (OPEN, "pacs")
    put(bench, two.first, WorkState.DONE)
    desk = Desk(bench, two.stages, *both)  # the note went
    two.sweep(desk)
    assert len(desk.queue.waiting) == 0

    confirm(bench, two.second, "archive")  # somebody had them tried again
    two.sweep(desk)
    assert [entry.destination for entry in desk.queue.waiting] == ["archive"]
    assert two.says() == ("settled", "archive,pacs")


def test_what_was_replaced_can_be_found_wrong_elsewhere(two: Two) -> None:
    """The note of what came late is one of one destination, and retracts nothing at another."""
    bench, both = two.bench, (TAKES, {**ARCHIVE, **TAKES})
    take(bench, two.first, ROLES, "archive")
    two.end()
    two.stages = stages_for(bench, *both)
    desk = Desk(bench, two.stages, *both)
    two.sweep(desk)
    take(bench, two.first, {ResultRole.REJECTION})
    put(bench, two.first, WorkState.DONE)
    desk = Desk(bench, two.stages, *both)  # the note went
    assert set(desk.wish()) == {two.first, two.second}
    desk.retraction.sweep()
    to = [(entry.key, entry.destination) for entry in desk.queue.waiting]
    assert set(to) == {(two.first, "archive"), (two.second, "pacs")}


def test_a_try_that_is_under_way_is_waited_for(two: Two) -> None:
    two.end()
    with two.bench.ledger.transaction() as connection:
        two.desk.queue.enqueue_delivery(connection, two.first, "archive", 1, 0.0)
    two.sweep()
    assert two.says() == (OPEN, None)


def test_newer_results_that_are_wrong_replace_nothing(two: Two) -> None:
    two.end()
    two.bench.ledger.add_facts(two.second, {RETRACTION: "sent"})
    two.sweep()
    assert two.says() == (OPEN, None)


def test_the_older_work_may_still_be_under_way(two: Two) -> None:
    two.end()
    put(two.bench, two.first, WorkState.DELIVERING)
    two.sweep()
    assert two.says() == (OPEN, None)


def test_where_no_notes_are_taken_nothing_is_wished(two: Two) -> None:
    two.end()
    two.sweep(Desk(two.bench, two.stages, {}, ARCHIVE))
    assert two.says() == ("settled", None)
    assert two.bench.ledger.overtaken() == ()


def test_what_is_retracted_anyway_is_left_to_that(two: Two) -> None:
    two.end()
    assert set(wish(two.bench.ledger, two.first.study_key, None, two.bench.time.now)) == {two.first, two.second}
    two.sweep()
    assert two.says() == ("settled", None)
    two.desk.retraction.sweep()
    assert named(opened(two.bench, ResultRole.REJECTION, two.first)) == two.uids(two.first, LATE)


def test_a_third_revision_names_what_the_second_could_not(two: Two, images: list[Dataset]) -> None:
    two.end()
    third = replace(two.second, revision=3)
    bench = two.bench
    bench.ledger.open_revision(third.study_key, "another", bench.time.now(), anew=True)
    bench.ledger.create_work(third, bench.work(two.second).input_digest, bench.time.now())
    assert run(two.stages, third) == [True] * 3
    rejected = named(opened(bench, ResultRole.REJECTION, third))
    assert rejected == two.uids(two.first, LATE) | two.uids(two.second, ROLES)

    put(bench, third, WorkState.DELIVERING)
    confirm(bench, third)
    put(bench, third, WorkState.DONE)
    two.sweep()
    assert two.says() == ("settled", "pacs")
    assert len(two.desk.queue.waiting) == 0, "the note of the third names everything"
    assert bench.events.facts("retraction.empty") == []


def test_what_arrives_while_a_note_is_made_is_seen(bench: Bench, images: list[Dataset]) -> None:
    """Between the look at what is there and the transaction in which the note becomes one."""
    stages = stages_for(bench, TAKES)
    first = bench.receive(images[:-1])
    assert run(stages, first) == [True] * 3
    put(bench, first, WorkState.DELIVERING)
    take(bench, first, FIRST)
    second = bench.receive(images[-1:], revision=2)
    assert stages.run("prepare", second)
    assert stages.run("infer", second)
    encode = bench.analyst.encode_rejection

    def late(*given: object, **named: object) -> object:
        take(bench, first, LATE)
        return encode(*given, **named)  # type: ignore[arg-type]

    bench.analyst.encode_rejection = late  # type: ignore[method-assign, assignment]
    assert stages.run("encode", second)
    assert bench.work(first).facts[OVERTAKEN] == OPEN
    assert {work.key for work in bench.ledger.overtaken()} == {first}


def test_a_ledger_that_fails_is_told_and_asked_again(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    two.end()

    def fails(*_: object, **__: object) -> None:
        raise StorageError("ledger-failed")

    with monkeypatch.context() as patch:
        patch.setattr(two.bench.ledger, "record_results", fails)
        two.sweep()
    assert two.bench.events.facts("retraction.failed")[0]["reason"] == "ledger-failed"
    two.sweep()
    assert two.says() == ("settled", "pacs")
