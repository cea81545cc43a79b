"""Results that are made again of the same input: under which UIDs, and what our own notes say of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.forms import Form, Variant
from dicomnode.storage.rows import OrderRow
from dicomnode.study import RETRACTION, SOURCE, WORK_STAGES, DeliveryState, ResultRole, WorkKey, WorkState
from dicomnode.workflow.generations import fresh, remember
from dicomnode.workflow.orders import Orders, Verb
from tests.unit.workflow.test_encoding import PACS, blank, confirm, opened, run, stages_for
from tests.unit.workflow.test_may_be_there import notes
from tests.unit.workflow.test_rejections import Desk
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

TAKES: dict[str, Any] = {"rejection_notes": True}
NO_REPORT: dict[str, Any] = {"rejection_notes": True, "report": "none"}
#: What a PACS without structured reports is known to refuse: its report goes as a PDF.
NO_SR = frozenset({"1.2.840.10008.5.1.4.1.1.88.11", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.10008.5.1.4.1.1.88.34"})


def named_by(note: Dataset) -> set[str]:
    return {
        str(reference.ReferencedSOPInstanceUID)
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }


def uids(bench: Bench, key: WorkKey) -> set[str]:
    rows = [one for one in bench.ledger.results(key) if one.role is not ResultRole.REJECTION]
    return {str(opened(bench, one.role, key).SOPInstanceUID) for one in rows}


def digests(bench: Bench, key: WorkKey) -> dict[str, str]:
    return {one.result_id: one.digest for one in bench.ledger.results(key)}


def anew(bench: Bench, first: WorkKey, revision: int = 2) -> WorkKey:
    """The work on another revision of the same input."""
    digest = bench.work(first).input_digest
    assert bench.ledger.open_revision(first.study_key, digest, bench.time.now(), anew=True) == (revision, True)
    key = replace(first, revision=revision)
    bench.ledger.create_work(key, digest, bench.time.now())
    return key


@pytest.mark.parametrize("case", ["no-report-wished", "pdf-in-its-place", "report-refused"])
def test_no_note_of_ours_names_what_it_goes_with(bench: Bench, images: list[Dataset], case: str) -> None:
    settings = NO_REPORT if case == "no-report-wished" else TAKES
    stages = stages_for(bench, settings, refused=NO_SR if case == "pdf-in-its-place" else frozenset())
    first = bench.receive(images)
    assert run(stages, first) == [True] * 3
    confirm(bench, first)
    for one in bench.ledger.deliveries(first) if case == "report-refused" else ():
        if one.role is ResultRole.REPORT:
            bench.ledger.record_delivery(
                one.result_id, "pacs", state=DeliveryState.REFUSED, status=0, reason=None, at=bench.time.now()
            )
    second = anew(bench, first)
    assert run(stages, second) == [True] * 3
    named = frozenset().union(*notes(bench, second))
    assert named
    assert named <= uids(bench, first)
    assert not uids(bench, second) & uids(bench, first)


def test_results_that_we_had_rejected_do_not_come_again_under_their_uids(bench: Bench, images: list[Dataset]) -> None:
    """A late image comes (revision 2, whose note rejects revision 1), and is rejected itself: revision 3 is 1's input."""
    desk = Desk(bench)
    first = bench.receive(images[:-1])
    assert run(stages_for(bench, NO_REPORT), first) == [True] * 3
    confirm(bench, first)
    second = bench.receive(images[-1:], revision=2)
    assert run(stages_for(bench, NO_REPORT), second) == [True] * 3
    confirm(bench, second)
    for key in (first, second):
        for state in (WorkState.DELIVERING, WorkState.DONE):
            bench.ledger.set_work_state(key, state, at=bench.time.now())
    desk.note("113001", images[-1:])
    third = anew(bench, first, 3)
    assert run(stages_for(bench, NO_REPORT), third) == [True] * 3
    assert named_by(opened(bench, ResultRole.REJECTION, second)) == uids(bench, first)
    assert not uids(bench, third) & (uids(bench, first) | uids(bench, second))
    assert named_by(opened(bench, ResultRole.REJECTION, third)) == uids(bench, second)


def test_a_stage_that_was_killed_makes_the_same_bytes_whatever_arrived_meanwhile(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bench.receive(images)
    assert run(stages_for(bench, NO_REPORT), first) == [True] * 3
    bench.ledger.record_stage(first, "wait", 30.0)  # it was let go, as Admission does
    second = anew(bench, first)
    stages, made = stages_for(bench, NO_REPORT), []
    assert [stages.run(name, second) for name in WORK_STAGES[:-1]] == [True] * 2
    keep = stages.encoding.keep

    def kept(key: WorkKey, result: Any) -> Any:
        made.append(keep(key, result))
        return made[-1]

    def dies(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(stages.encoding, "keep", kept)
        killed.setattr(bench.ledger, "record_results", dies)
        with pytest.raises(KeyboardInterrupt):
            stages.run(WORK_STAGES[-1], second)
    assert bench.ledger.results(second) == ()
    confirm(bench, first)  # it was under way when the node was killed
    assert stages_for(bench, NO_REPORT).run(WORK_STAGES[-1], second), "another process"
    again = digests(bench, second)
    assert {row.result_id: row.digest for row in made}.items() <= again.items()
    assert len(made) == 3


def test_a_form_that_is_made_later_is_of_its_work_s_own_generation(bench: Bench, images: list[Dataset]) -> None:
    stages = stages_for(bench, NO_REPORT)
    first = bench.receive(images)
    assert run(stages, first) == [True] * 3
    confirm(bench, first)
    second = anew(bench, first)
    assert run(stages, second) == [True] * 3
    basic = Variant(role=ResultRole.REPORT, form=Form.BASIC_TEXT)
    names = [stages.encoding.more(key, [basic])[basic] for key in (first, second)]
    sealed = [digests(bench, key)[name] for key, name in zip((first, second), names, strict=True)]
    assert sealed[0] != sealed[1]
    confirm(bench, second)
    assert run(stages, anew(bench, first, 3)) == [True] * 3
    assert stages_for(bench, {}).encoding.more(second, [basic])[basic] == names[1], "the ledger would refuse others"


def test_what_was_never_made_again_bears_the_uids_that_it_always_did(bench: Bench, images: list[Dataset]) -> None:
    """The first generation enters nothing: neither of a study's first results, nor of those that a late image changes."""
    first = bench.receive(images[:-1])
    stages = stages_for(bench, {})
    assert run(stages, first) == [True] * 3
    second = bench.receive(images[-1:], revision=2)
    assert run(stages, second) == [True] * 3
    for key in (first, second):
        algorithm, digest = stages.encoding.recall(key, bench.analyst).findings.algorithm, bench.work(key).input_digest
        assert bench.work(key).facts[SOURCE] == bench.analyst.source_of(algorithm, digest, None)


@pytest.mark.parametrize("let_go", [True, False])
def test_what_was_overtaken_before_it_was_let_go_leaves_its_uids_to_the_next(
    bench: Bench, images: list[Dataset], *, let_go: bool
) -> None:
    """As where a localizer comes late: the same results are the same bytes (decision 4)."""
    first = bench.receive(images)
    assert run(stages_for(bench, TAKES), first) == [True] * 3
    if let_go:  # a try may be under way: nothing of it is known yet
        bench.ledger.record_stage(first, "wait", 30.0)
    second = anew(bench, first)
    assert run(stages_for(bench, TAKES), second) == [True] * 3
    same = {one.digest for one in bench.ledger.results(second)} == {one.digest for one in bench.ledger.results(first)}
    assert same is not let_go
    assert (uids(bench, second) == uids(bench, first)) is not let_go


def test_what_went_nowhere_leaves_its_uids_to_the_next(bench: Bench, images: list[Dataset]) -> None:
    first = bench.receive(images, facts={"destinations": ""})
    assert run(stages_for(bench, TAKES), first) == [True] * 3
    bench.ledger.record_stage(first, "wait", 30.0)
    second = anew(bench, first)
    assert run(stages_for(bench, TAKES), second) == [True] * 3
    assert uids(bench, second) == uids(bench, first)


def test_each_time_is_a_generation_of_its_own(bench: Bench, images: list[Dataset]) -> None:
    first = bench.receive(images)
    stages = stages_for(bench, NO_REPORT)
    keys = [first]
    assert run(stages, first) == [True] * 3
    for revision in (2, 3, 4):
        confirm(bench, keys[-1])
        keys.append(anew(bench, first, revision))
        assert run(stages, keys[-1]) == [True] * 3
    assert len(set().union(*(uids(bench, key) for key in keys))) == 4 * 3
    assert fresh(bench.ledger, keys[1], str(bench.work(first).facts[SOURCE])) == bench.work(keys[1]).facts[SOURCE]


def test_a_document_that_says_why_there_are_no_results_has_generations_too(bench: Bench, images: list[Dataset]) -> None:
    settings = {"no_finding": True, "rejection_notes": True}
    stages = stages_for(bench, settings, refused=NO_SR)
    first = bench.receive(blank(images))
    run(stages, first)
    confirm(bench, first)
    assert {one.role for one in bench.ledger.results(first)} == {ResultRole.OUTCOME}
    second = anew(bench, first)
    run(stages, second)
    assert bench.work(second).state is WorkState.READY
    assert named_by(opened(bench, ResultRole.REJECTION, second)) == uids(bench, first)
    assert not uids(bench, second) & uids(bench, first)


def test_a_note_names_no_uid_of_its_own_work_where_an_older_node_gave_both_the_same(
    bench: Bench, images: list[Dataset]
) -> None:
    """Results of before there were generations are not known to be of the same source."""
    first = bench.receive(images)
    assert run(stages_for(bench, NO_REPORT), first) == [True] * 3
    confirm(bench, first)
    bench.ledger.add_facts(first, {SOURCE: "not said"})
    second = anew(bench, first)
    assert run(stages_for(bench, NO_REPORT, {**NO_REPORT, "name": "archive"}), second) == [True] * 3
    assert uids(bench, second) == uids(bench, first)
    assert ResultRole.REJECTION not in {one.role for one in bench.ledger.results(second)}
    assert PACS["name"] in {one.destination for one in bench.ledger.deliveries(second)}


@pytest.mark.parametrize("wrong", [True, False])
def test_what_we_had_rejected_comes_under_other_uids_also_after_the_study_was_shredded(
    bench: Bench, images: list[Dataset], *, wrong: bool
) -> None:
    """Sent again, it would be refused, or hidden; what stands at the destination is the same bytes again."""
    first = bench.receive(images)
    assert run(stages_for(bench, NO_REPORT), first) == [True] * 3
    confirm(bench, first)
    before, source = uids(bench, first), str(bench.work(first).facts[SOURCE])
    if wrong:
        bench.ledger.add_facts(first, {RETRACTION: "sent"})
    study = bench.ledger.study(first.study_key)
    assert study is not None
    with bench.ledger.transaction() as connection:
        remember(connection, bench.ledger, study, bench.time.now())
        bench.ledger.purge_study(first.study_key, connection=connection)
    again = bench.receive(images)
    assert fresh(bench.ledger, again, source) == fresh(bench.ledger, again, source)
    assert run(stages_for(bench, NO_REPORT), again) == [True] * 3
    assert (uids(bench, again) == before) is not wrong


@pytest.mark.parametrize("noted", [True, False])
def test_what_a_note_of_newer_results_named_is_remembered_and_these_are_not(
    bench: Bench, images: list[Dataset], *, noted: bool
) -> None:
    settings = NO_REPORT if noted else {"report": "none"}
    first = bench.receive(images[:-1])
    assert run(stages_for(bench, settings), first) == [True] * 3
    confirm(bench, first)
    second = bench.receive(images[-1:], revision=2)
    assert run(stages_for(bench, settings), second) == [True] * 3
    confirm(bench, second)
    study = bench.ledger.study(first.study_key)
    assert study is not None
    sources = [str(bench.work(key).facts[SOURCE]) for key in (first, second)]
    with bench.ledger.transaction() as connection:
        remember(connection, bench.ledger, study, bench.time.now())
        bench.ledger.purge_study(first.study_key, connection=connection)
    assert [fresh(bench.ledger, first, one) == one for one in sources] == [not noted, True]


@pytest.mark.parametrize("tried", [True, False])
def test_what_was_given_up_before_it_was_let_go_and_then_tried_may_be_there(
    bench: Bench, images: list[Dataset], *, tried: bool
) -> None:
    """A try may be under way: what is made meanwhile of the same input is not to bear its UIDs."""
    first = bench.receive(images)
    assert run(stages_for(bench, NO_REPORT), first) == [True] * 3
    rows = bench.ledger.deliveries(first)
    bench.ledger.put_deliveries(rows, DeliveryState.REFUSED, bench.time.now(), reason="held-too-long")
    for state in (WorkState.HELD, WorkState.FAILED):
        bench.ledger.set_work_state(first, state, at=bench.time.now(), reason="held-too-long")
    if tried:
        queue = Desk(bench).queue
        orders = Orders(
            bench.ledger,
            queue,
            admission=None,
            hurry=lambda _: None,
            clock=bench.time.now,
            emit=bench.events,  # type: ignore[arg-type]
        )
        order = OrderRow(verb=Verb.RETRY, study_key=first.study_key, at=bench.time.now())
        bench.ledger.give_order(order)
        orders.sweep()
        assert bench.work(first).state is WorkState.DELIVERING
    second = anew(bench, first)
    assert run(stages_for(bench, NO_REPORT), second) == [True] * 3
    assert (uids(bench, second) == uids(bench, first)) is not tried
