from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from dicomnode.cli import listing
from dicomnode.cli.listing import list_studies, study_json
from dicomnode.config import Config
from dicomnode.study import (
    CommitmentState,
    DeliveryRow,
    DeliveryState,
    Mark,
    MarkRow,
    ResultRole,
    StudyRow,
    WorkKey,
    WorkRow,
    WorkState,
)

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = WorkKey(study_key="ab" * 16, revision=2, model="ct-lung")


def delivery(role: ResultRole, state: DeliveryState, **values: Any) -> DeliveryRow:
    given = {"status": 0, "reason": None, "attempts": 1, "updated_at": START, "destination": "pacs", **values}
    return DeliveryRow(result_id="r", role=role, state=state, **given)


WORK = WorkRow(
    key=KEY,
    state=WorkState.DONE,
    reason=None,
    input_digest="d",
    created_at=START,
    settled_at=START + timedelta(seconds=30),
    stages={"infer": 5.25, "receive": 1.0},
    deliveries=(
        delivery(ResultRole.SEGMENTATION, DeliveryState.CONFIRMED),
        delivery(ResultRole.REPORT, DeliveryState.WAITING, status=0xA700, reason="peer-out-of-resources"),
        delivery(ResultRole.REPORT, DeliveryState.WAITING, status=None, destination="archive"),
    ),
)
STUDY = StudyRow(
    study_key="ab" * 16,
    first_received_at=START,
    last_received_at=START,
    instances=120,
    quarantined=0,
    revision=2,
    works=(WORK,),
)


def printed(monkeypatch: pytest.MonkeyPatch, *rows: StudyRow, as_json: bool = False) -> str:
    monkeypatch.setattr(listing.status, "list_studies", lambda tree, limit: rows[:limit])
    stream = io.StringIO()
    list_studies(Config(), limit=10, as_json=as_json, console=Console(file=stream, width=200, highlight=False))
    return stream.getvalue()


def test_json_is_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = json.loads(printed(monkeypatch, STUDY, as_json=True))
    assert found == study_json(STUDY)
    (work,) = found["works"]
    assert (work["state"], work["settled_at"]) == ("done", "2026-03-01T12:00:30.000+00:00")
    assert list(work["stages"].items()) == [("receive", 1.0), ("infer", 5.25)]
    assert [one["status"] for one in work["deliveries"]] == ["0x0000", "0xA700", None]
    assert json.loads(printed(monkeypatch, as_json=True)) == []


def test_a_long_line_of_json_is_never_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    work = replace(WORK, facts={f"number_{index}": index for index in range(50)})
    assert json.loads(printed(monkeypatch, replace(STUDY, works=(work,)), as_json=True))


def test_lines_are_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, STUDY)
    for part in (
        "abababababab",
        "120 objects",
        "ct-lung, revision 2: done",
        "infer 5.2 s",
        "archive: 0 of 1 confirmed",
    ):
        assert part in text
    assert "pacs: 1 of 2 confirmed (peer-out-of-resources)" in text


def test_a_work_that_made_nothing_new_names_the_revision_of_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    work = replace(WORK, facts={"same_as": 1}, deliveries=())
    text = printed(monkeypatch, replace(STUDY, works=(work,)))
    assert "nothing new for the model: its results are those of revision 1" in text
    assert "no destination configured" not in text


def test_a_warning_is_shown_with_its_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (
        delivery(ResultRole.SEGMENTATION, DeliveryState.CONFIRMED, status=0xB000),
        delivery(ResultRole.REPORT, DeliveryState.CONFIRMED, status=0xB123),
        delivery(ResultRole.KEY_IMAGE, DeliveryState.WAITING, status=0xB000),
    )
    text = printed(monkeypatch, replace(STUDY, works=(replace(WORK, deliveries=rows),)))
    assert "pacs: segmentation taken with a warning, 0xB000: coercion of data elements" in text
    assert "pacs: report taken with a warning, 0xB123: see the peer" in text
    assert text.count("warning") == 2


def test_what_a_destination_committed_to_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tuple(
        delivery(ResultRole.REPORT, DeliveryState.CONFIRMED, commitment=state)
        for state in (CommitmentState.COMMITTED, CommitmentState.FOUND, CommitmentState.COMMITTED, None)
    )
    text = printed(monkeypatch, replace(STUDY, works=(replace(WORK, deliveries=rows),)))
    assert "pacs: storage commitment: 2 committed, 1 found" in text


def test_a_refusal_brings_its_text_and_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = replace(WORK, state=WorkState.REFUSED, reason="geometry-gap", deliveries=())
    unknown = replace(WORK, state=WorkState.FAILED, reason="from-a-newer-version", deliveries=())
    text = printed(monkeypatch, replace(STUDY, works=(refused, unknown)))
    assert "geometry-gap: slices are missing in the middle of the series; send the missing slices" in text
    assert "\nfrom-a-newer-version\n" in text


def test_a_study_that_still_arrives_and_one_with_quarantine(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, replace(STUDY, works=(), revision=0, quarantined=2))
    assert "receiving" in text
    assert "120 objects, 2 in quarantine" in text


def test_a_study_that_no_rule_takes_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(monkeypatch, replace(STUDY, works=()))
    assert "receiving" not in text
    assert "in no rule: dicomnode explain tells why" in text


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        (Mark.CANCELLED, "cancelled: nothing more is made of it until dicomnode release or reprocess"),
        (Mark.OLD, "too old: nothing is made of it until dicomnode release"),
        (Mark.FLOOD, "one of too many old ones at a time: nothing is made of it until dicomnode release"),
        (Mark.AGED, ""),
    ],
)
def test_a_study_that_nothing_is_made_of_says_why(monkeypatch: pytest.MonkeyPatch, mark: Mark, said: str) -> None:
    row = replace(STUDY, works=(), mark=MarkRow(mark=mark, revision=1, at=START))
    text = printed(monkeypatch, row)
    assert said in text
    assert ("in no rule" in text) is not bool(said)
    assert study_json(row)["stopped_by"] == (mark.value if said else None)


def test_results_without_a_destination_say_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no destination configured" in printed(monkeypatch, replace(STUDY, works=(replace(WORK, deliveries=()),)))
    queued = replace(WORK, state=WorkState.QUEUED, deliveries=())
    text = printed(monkeypatch, replace(STUDY, works=(replace(queued, stages={}),)))
    assert text.splitlines()[1:] == ["  ct-lung, revision 2: queued"]


def test_an_empty_ledger_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch) == "No study has arrived yet.\n"


def test_downgrades_are_counted_over_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, int | float | str] = {"downgraded.old.pacs.segmentation": "binary"}
    downgraded = replace(STUDY, works=(replace(WORK, facts=facts),))
    assert "old.pacs did not take segmentation as binary: once in the studies above" in printed(monkeypatch, downgraded)
    assert "as binary: 2 times in" in printed(monkeypatch, downgraded, STUDY, downgraded)
    assert "did not take" not in printed(monkeypatch, STUDY)


def test_what_was_made_of_rejected_images_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {"rejected": "safety", "standing": "archive", "retraction": "sent"}
    text = printed(monkeypatch, replace(STUDY, rejected=3, works=(replace(WORK, facts=facts),)))
    assert "120 objects, 3 rejected" in text
    assert "images that it was made of were rejected: safety" in text
    assert "its results are still at archive, where no rejection note goes" in text
    assert json.loads(printed(monkeypatch, replace(STUDY, rejected=3), as_json=True))[0]["rejected"] == 3
    assert "nothing is left to work on" in printed(monkeypatch, replace(STUDY, rejected=3, revision=0, works=()))


def test_a_study_that_was_settled_as_incomplete_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    facts: dict[str, Any] = {"incomplete": "12 of 300 announced images did not come"}
    row = replace(STUDY, works=(replace(WORK, facts=facts),))
    assert "    incomplete: 12 of 300 announced images did not come\n" in printed(monkeypatch, row)
    assert json.loads(printed(monkeypatch, row, as_json=True))[0]["works"][0]["facts"] == facts
    assert "incomplete" not in printed(monkeypatch, STUDY)
