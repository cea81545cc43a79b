"""Times, numbers and descriptions of a result."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta, timezone

import pytest

from dicomnode.results.context import content_description, content_label, series_description
from dicomnode.study import ResultRole
from dicomnode.texts import LANGUAGES, Words
from tests.unit.results import material


def test_times_are_those_of_the_zone() -> None:
    context = dataclasses.replace(
        material.context_for(),
        content_datetime=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    )
    assert (context.date, context.time) == ("20260102", "030405.000000")
    assert context.date_time == "20260102030405.000000-0330"
    moved = context.in_timezone("+0530")
    assert (moved.date, moved.time, moved.date_time[-5:]) == ("20260102", "120405.000000", "+0530")
    assert moved.content_datetime == context.content_datetime


@pytest.mark.parametrize("offset", ["", "0530", "+5", "+9900", "-1500", "GMT"])
def test_an_offset_that_is_none_changes_nothing(offset: str) -> None:
    context = material.context_for()
    assert context.in_timezone(offset) is context


@pytest.mark.parametrize(
    "change",
    [{"content_datetime": datetime(2026, 1, 1)}, {"series_number_base": -1}, {"software_versions": ()}],  # noqa: DTZ001
)
def test_a_context_checks_itself(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"aware|Series Number"):
        dataclasses.replace(material.context_for(), **change)  # type: ignore[arg-type]


def test_descriptions_fit_their_vr() -> None:
    algorithm = dataclasses.replace(material.findings_for().algorithm, title="A very long title " * 9, name="--")
    marks = dict(zip(LANGUAGES, ("(research only)", "(nur Forschung)", "(recherche)", "(仅供研究)"), strict=True))
    for language, mark in marks.items():
        words = Words(language)
        told = [series_description(role, algorithm, words) for role in ResultRole]
        told.append(content_description("Right lung, " * 9, algorithm, words))
        for text in told:
            assert len(text) <= 64
            assert text.endswith(mark)
        assert told[-1].startswith(words.say("not-reviewed-short"))
    assert content_label(algorithm) == "AI"
    assert content_label(dataclasses.replace(algorithm, name="ct-lung with a long name")) == "CT_LUNG_WITH_A_L"


def test_uids_differ_by_role_and_region() -> None:
    context = material.context_for()
    made = [context.series_uid(role) for role in ResultRole] + [context.object_uid(role) for role in ResultRole]
    made += [context.tracking_uid(segments) for segments in ((1,), (2,), (1, 2), (12,))]
    made += [context.written_as("pdf").object_uid(role) for role in ResultRole]
    assert len(set(made)) == len(made)
    assert [context.series_number(role) for role in ResultRole] == list(range(9000, 9008))
