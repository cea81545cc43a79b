"""What the last stage makes for whom: forms, outcomes, predecessors, rejection notes, budgets, quarantine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from dicomnode.config import Config
from dicomnode.encoded import Limits, read_part10
from dicomnode.errors import StudyError
from dicomnode.forms import Form, Variant
from dicomnode.results import encode
from dicomnode.results.report import Predecessor
from dicomnode.study import REPLACES, SOURCE, WORK_STAGES, DeliveryState, Purpose, ResultRole, WorkKey, WorkState, World
from dicomnode.texts import Words
from dicomnode.workflow import analysis
from dicomnode.workflow.predecessors import Predecessors
from dicomnode.workflow.stages import Stages
from dicomnode.workflow.unchanged import BASIS
from tests.unit.workflow.samples import Events, tiny_series
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


def stages_for(bench: Bench, *destinations: dict[str, Any], refused: frozenset[str] = frozenset()) -> Stages:
    tree = Config.model_validate({"destinations": [{**PACS, **one} for one in destinations]})
    return Stages(
        bench.rooms,
        tree,
        released=bench.released.append,
        pause=bench.pause,
        report=lambda stage, error: bench.reported.append((stage, error)),
        clock=bench.time.now,
        monotonic=bench.time.monotonic,
        emit=bench.events,
        refused=lambda _: refused,
    )


def run(stages: Stages, key: WorkKey) -> list[bool]:
    return [stages.run(name, key) for name in WORK_STAGES]


def waiting(bench: Bench, destination: str = "pacs", key: WorkKey | None = None) -> list[str]:
    rows = bench.ledger.deliveries(key or bench.key)
    return [f"{row.role.value}:{row.form}" for row in rows if row.destination == destination]


def said_of(bench: Bench) -> dict[str, Any]:
    """Facts of the work, beside what its results were made of."""
    facts = dict(bench.work().facts)
    assert len(str(facts.pop(SOURCE))) == 64
    assert facts.pop(REPLACES) == ""
    facts.pop(BASIS, None)
    return facts


def opened(bench: Bench, role: ResultRole, key: WorkKey | None = None) -> Dataset:
    key = key or bench.key
    (row,) = [row for row in bench.ledger.results(key) if row.role is role]
    data = bench.rooms.objects.get(key.study_key, World.IDENTITY, row.result_id, Purpose.RESULT)
    return read_part10(data, Limits())


def confirm(bench: Bench, key: WorkKey, destination: str = "pacs") -> None:
    """The destination has taken everything."""
    for row in bench.ledger.deliveries(key):
        if row.destination == destination:
            bench.ledger.record_delivery(
                row.result_id, destination, state=DeliveryState.CONFIRMED, status=0, reason=None, at=bench.time.now()
            )


def test_each_destination_gets_its_own_forms(bench: Bench, images: list[Dataset]) -> None:
    stages = stages_for(bench, {}, {"name": "planning", "segmentation": "rtstruct", "report": "basic-text"})
    assert run(stages, bench.receive(images)) == [True] * 3
    assert waiting(bench) == [
        "segmentation:binary",
        "report:comprehensive+binary",
        "key-image:capture",
        "key-objects:key-objects",
    ]
    assert waiting(bench, "planning") == [
        "segmentation:rtstruct",
        "report:basic-text",
        "key-image:capture",
        "key-objects:key-objects",
    ]
    assert said_of(bench) == {}


def test_only_the_destinations_of_a_work_get_its_results(bench: Bench, images: list[Dataset]) -> None:
    stages = stages_for(bench, {}, {"name": "planning", "segmentation": "rtstruct"})
    assert run(stages, bench.receive(images, facts={"destinations": "planning,gone"})) == [True] * 3
    assert waiting(bench) == []
    assert "segmentation:rtstruct" in waiting(bench, "planning")
    assert {row.form for row in bench.ledger.results(bench.key)} >= {"rtstruct"}
    assert "binary" not in {row.form for row in bench.ledger.results(bench.key)}, "nobody gets it, so it is not made"


def test_results_that_nobody_gets_are_made_and_stay_sealed(bench: Bench, images: list[Dataset]) -> None:
    stages = stages_for(bench, {})
    assert run(stages, bench.receive(images, facts={"destinations": ""})) == [True] * 3
    assert waiting(bench) == []
    assert bench.ledger.results(bench.key)


def test_nobody_but_its_destinations_is_told_that_a_work_has_no_results(bench: Bench, images: list[Dataset]) -> None:
    told = {"not_processed": True}
    stages = stages_for(bench, told, {"name": "planning", **told})
    del images[3:5]
    run(stages, bench.receive(images, facts={"destinations": "planning"}))
    assert waiting(bench) == []
    assert len(waiting(bench, "planning")) == 1


def test_what_is_known_not_to_be_taken_is_not_made_and_told(bench: Bench, images: list[Dataset]) -> None:
    refused = frozenset({"1.2.840.10008.5.1.4.1.1.66.4"})
    assert run(stages_for(bench, {}, refused=refused), bench.receive(images)) == [True] * 3
    assert waiting(bench) == ["report:comprehensive", "key-image:capture", "key-objects:key-objects"]
    assert said_of(bench) == {"downgraded.pacs.segmentation": "binary"}
    (told,) = bench.events.facts("delivery.downgraded")
    assert (told["destination"], told["role"], told["kind"]) == ("pacs", "segmentation", "binary")


def test_a_language_is_that_of_everything_that_people_read(bench: Bench, images: list[Dataset]) -> None:
    bench.analyst.words = Words("de")
    wanted = {"report": "basic-text"}
    for image in images:
        image.SpecificCharacterSet = "ISO_IR 100"
    key = bench.receive(images)
    assert run(stages_for(bench, wanted), key) == [True] * 3
    report, segmentation, picture = (
        opened(bench, role) for role in (ResultRole.REPORT, ResultRole.SEGMENTATION, ResultRole.KEY_IMAGE)
    )
    texts = [str(item.value) for item in report.iterall() if item.keyword == "TextValue"]
    assert any(line.startswith("Beide Lungen: Volumen ") and " ml; Mittlere Lungendichte -" in line for line in texts)
    assert not any("hnsf" in line for line in texts)
    assert segmentation.ContentDescription.startswith("KI-Ergebnis, nicht geprüft: ")
    assert picture.ImageComments == "KI-Ergebnis, nicht geprüft"
    assert "KI-Modell" in picture.DerivationDescription


def with_a_map(bench: Bench) -> None:
    package = bench.analyst.package
    wanted = replace(package.manifest.results, parametric_map=True)
    bench.analyst.package = replace(package, manifest=replace(package.manifest, results=wanted))


def test_a_model_that_wants_a_map_gives_one_also_after_a_crash(bench: Bench, images: list[Dataset]) -> None:
    with_a_map(bench)
    key = bench.receive(images)
    first = stages_for(bench, {})
    assert [first.run(name, key) for name in WORK_STAGES[:-1]] == [True] * 2
    assert stages_for(bench, {}).run(WORK_STAGES[-1], key), "another process, which recalls what was sealed"
    assert waiting(bench)[-1] == "parametric-map:map"
    found = opened(bench, ResultRole.PARAMETRIC_MAP)
    segmentation = opened(bench, ResultRole.SEGMENTATION)
    assert found.FrameOfReferenceUID == segmentation.FrameOfReferenceUID
    values = found.pixel_array
    assert values.shape == (len(images), images[0].Rows, images[0].Columns)
    analysis = bench.analyst.analyse(first._copies(key))
    assert analysis.probability is not None
    planes = {str(one.SOPInstanceUID): plane for one, plane in zip(analysis.sources, analysis.probability, strict=True)}
    assert sorted(map(bytes, planes.values())) == sorted(map(bytes, values))
    inside = analysis.labels > 0
    assert analysis.probability[inside].min() > 65535 / 3, "the highest of three scores is more than a third"
    assert analysis.probability[inside].mean() > analysis.probability[~inside].mean() + 65535 / 4


def test_a_map_that_was_not_sealed_is_left_out(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    first = stages_for(bench, {})
    assert [first.run(name, key) for name in WORK_STAGES[:-1]] == [True] * 2
    with_a_map(bench)  # an upgrade of the model's package, while the study waits
    assert stages_for(bench, {}).run(WORK_STAGES[-1], key)
    assert not any(one.startswith("parametric-map") for one in waiting(bench))


def test_more_forms_are_made_of_what_was_sealed(bench: Bench, images: list[Dataset]) -> None:
    stages = stages_for(bench, {})
    key = bench.receive(images)
    run(stages, key)
    wanted = [Variant(role=ResultRole.REPORT, form=Form.BASIC_TEXT), Variant(role=ResultRole.REPORT, form=Form.PDF)]
    made = stages_for(bench, {}).encoding.more(key, wanted)
    assert set(made) == set(wanted)
    again = stages_for(bench, {}).encoding.more(key, wanted)
    assert again == made, "the same bytes under the same name, or the ledger would refuse them"
    assert len(bench.ledger.results(key)) == 6


def blank(images: list[Dataset]) -> list[Dataset]:
    """The same images with nothing in them."""
    for image in images:
        image.PixelData = np.zeros((image.Rows, image.Columns), np.int16).tobytes()
    return images


@pytest.mark.parametrize("wanted", [True, False])
def test_nothing_found_is_told_where_it_is_wanted(bench: Bench, images: list[Dataset], *, wanted: bool) -> None:
    key = bench.receive(blank(images))
    going_on = run(stages_for(bench, {"no_finding": wanted}), key)
    assert going_on == [True, False, False]
    if not wanted:
        assert bench.ended == (WorkState.REFUSED, "nothing-found")
        assert bench.ledger.results(key) == ()
        return
    assert bench.work().state is WorkState.READY
    assert said_of(bench) == {"outcome": "nothing-found"}
    assert waiting(bench) == ["outcome:basic-text"]
    assert bench.released == [key.study_key]
    told = opened(bench, ResultRole.OUTCOME)
    original = tiny_series()[0]
    assert (told.PatientID, str(told.PatientName)) == (original.PatientID, str(original.PatientName))
    assert told.StudyInstanceUID == original.StudyInstanceUID
    assert "NOFINDING" in str(told)


def test_not_processed_is_told_with_its_code(bench: Bench, images: list[Dataset]) -> None:
    del images[7]
    key = bench.receive(images)
    assert run(stages_for(bench, {"not_processed": True}), key) == [False] * 3
    assert said_of(bench) == {"outcome": "geometry-gap"}
    told = opened(bench, ResultRole.OUTCOME)
    assert "geometry-gap" in str(told)
    assert "slices are missing in the middle of the series" in str(told)


def test_a_study_that_no_rule_took_is_told_to_nobody(bench: Bench, images: list[Dataset]) -> None:
    for image in images:
        image.Modality, image.SOPClassUID = "MR", "1.2.840.10008.5.1.4.1.1.4"
    key = bench.receive(images)
    run(stages_for(bench, {"not_processed": True, "no_finding": True}), key)
    assert bench.ended == (WorkState.REFUSED, "no-suitable-series")
    assert bench.ledger.results(key) == ()


def second_revision(bench: Bench, images: list[Dataset], settings: dict[str, Any]) -> WorkKey:
    """A first revision that the destination took, and the work on a second one."""
    first = bench.receive(images[:-1])
    assert run(stages_for(bench, settings), first) == [True] * 3
    confirm(bench, first)
    return bench.receive(images[-1:], revision=2)


def test_a_new_report_names_the_one_that_it_replaces(bench: Bench, images: list[Dataset]) -> None:
    second = second_revision(bench, images, {})
    first = replace(second, revision=1)
    assert run(stages_for(bench, {}), second) == [True] * 3
    item = opened(bench, ResultRole.REPORT, second).PredecessorDocumentsSequence[0]
    old = opened(bench, ResultRole.REPORT, first)
    named = item.ReferencedSeriesSequence[0]
    assert (item.StudyInstanceUID, named.SeriesInstanceUID) == (old.StudyInstanceUID, old.SeriesInstanceUID)
    assert named.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == old.SOPInstanceUID
    assert "rejection" not in str(waiting(bench, key=second))


def test_what_never_arrived_has_no_successor(bench: Bench, images: list[Dataset]) -> None:
    first = bench.receive(images[:-1])
    run(stages_for(bench, {}), first)
    second = bench.receive(images[-1:], revision=2)
    run(stages_for(bench, {}), second)
    assert "PredecessorDocumentsSequence" not in opened(bench, ResultRole.REPORT, second)


def test_replaced_results_are_retracted_where_that_is_wanted(bench: Bench, images: list[Dataset]) -> None:
    second = second_revision(bench, images, {"rejection_notes": True})
    assert run(stages_for(bench, {"rejection_notes": True}), second) == [True] * 3
    assert waiting(bench, key=second)[-1] == "rejection:key-objects.pacs"
    note = opened(bench, ResultRole.REJECTION, second)
    assert note.ConceptNameCodeSequence[0].CodeValue == "113001"
    rejected = {
        reference.ReferencedSOPInstanceUID
        for series in note.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    first = replace(second, revision=1)
    roles = (ResultRole.SEGMENTATION, ResultRole.REPORT, ResultRole.KEY_IMAGE, ResultRole.KEY_OBJECTS)
    assert rejected == {opened(bench, role, first).SOPInstanceUID for role in roles}
    assert note.PatientID == opened(bench, ResultRole.REPORT, first).PatientID


def test_a_result_over_the_budget_is_quarantined_and_the_others_go(bench: Bench, images: list[Dataset]) -> None:
    settings = {"maximum_object_bytes": 20_000, "maximum_series": 2}
    key = bench.receive(images)
    assert run(stages_for(bench, settings), key) == [True] * 3
    states = {row.role: (row.state, row.reason) for row in bench.ledger.deliveries(key)}
    over = (DeliveryState.REFUSED, "result-over-budget")
    sizes = {row.role: row.length for row in bench.ledger.results(key)}
    fitting = [role for role in ResultRole if 0 < sizes.get(role, 0) <= 20_000]
    assert [role for role in ResultRole if states.get(role) == (DeliveryState.WAITING, None)] == fitting[:2]
    assert all(states[role] == over for role in sizes if role not in fitting[:2])
    assert {row.reason for row in bench.ledger.quarantined(key.study_key)} == {"result-over-budget"}
    assert quarantined(bench.events) == {("error", "result-over-budget")}


def test_series_beyond_the_budget_are_quarantined_the_last_ones_first(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images)
    assert run(stages_for(bench, {"maximum_series": 3}), key) == [True] * 3
    states = {row.role: (row.state, row.reason) for row in bench.ledger.deliveries(key)}
    assert states[ResultRole.KEY_OBJECTS] == (DeliveryState.REFUSED, "result-over-budget")
    going = [role for role, state in states.items() if state == (DeliveryState.WAITING, None)]
    assert sorted(going) == sorted([ResultRole.SEGMENTATION, ResultRole.REPORT, ResultRole.KEY_IMAGE])
    assert quarantined(bench.events) == {("error", "result-over-budget")}


def test_a_rejection_note_goes_whatever_the_number_of_series(bench: Bench, images: list[Dataset]) -> None:
    settings = {"rejection_notes": True, "maximum_series": 4}
    second = second_revision(bench, images, settings)
    assert run(stages_for(bench, settings), second) == [True] * 3
    assert waiting(bench, key=second)[-1] == "rejection:key-objects.pacs"
    assert {row.state for row in bench.ledger.deliveries(second)} == {DeliveryState.WAITING}


def quarantined(events: Events) -> set[tuple[str, object]]:
    return {(level, facts["reason"]) for name, level, facts in events.seen if name == "result.quarantined"}


def test_a_result_that_does_not_prove_true_is_quarantined_with_an_alert(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(*_: object) -> None:
        raise StudyError("result-geometry-differs", check="mask")

    monkeypatch.setattr(encode.checks_frames, "prove_frames", differs)
    key = bench.receive(images)
    assert run(stages_for(bench, {}), key) == [True, True, False]
    assert bench.ended == (WorkState.FAILED, "result-geometry-differs")
    assert bench.ledger.results(key) == ()
    (row,) = bench.ledger.quarantined(key.study_key)
    assert (row.what, row.reason) == ("result", "result-geometry-differs")
    assert quarantined(bench.events) == {("error", "result-geometry-differs")}


@pytest.mark.parametrize("change", ["nothing", "version", "station name", "predecessor"])
def test_a_further_form_belongs_to_the_results_that_there_are_whatever_changed_since(
    bench: Bench, images: list[Dataset], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A destination took the segmentation, and the report in another form after an upgrade: that names what it has."""
    stages = stages_for(bench, {"report": "comprehensive-3d"})
    key = bench.receive(images)
    assert run(stages, key) == [True] * 3
    sent = str(opened(bench, ResultRole.SEGMENTATION).SOPInstanceUID)
    first = opened(bench, ResultRole.REPORT)
    if change == "version":
        monkeypatch.setattr(analysis, "__version__", "9.9.9")
    if change == "station name":
        tree = bench.analyst._tree
        bench.analyst._tree = tree.model_copy(update={"node": tree.node.model_copy(update={"station_name": "AI-2"})})
    if change == "predecessor":  # of a revision before, delivered since
        late = Predecessor(study_instance_uid="1.2", series_instance_uid="1.3", sop_instance_uid="1.4")
        monkeypatch.setattr(Predecessors, "reports", lambda *_: iter((late,)))
    wanted = Variant(role=ResultRole.REPORT, form=Form.COMPREHENSIVE, links=Form.BINARY)
    (name,) = stages_for(bench, {}).encoding.more(key, [wanted]).values()
    report = read_part10(bench.rooms.objects.get(key.study_key, World.IDENTITY, name, Purpose.RESULT), Limits())
    named = {
        str(item.ReferencedSOPInstanceUID)
        for one in report.iterall()
        if one.VR == "SQ"
        for item in one.value
        if item.get("ReferencedSOPClassUID") == "1.2.840.10008.5.1.4.1.1.66.4"
    }
    assert named == {sent}
    assert ("PredecessorDocumentsSequence" in report) == ("PredecessorDocumentsSequence" in first)
    assert str(report.StudyInstanceUID) == str(first.StudyInstanceUID)
