from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta

import pytest
from pydicom import Dataset

from dicomnode.errors import StorageError, StudyError
from dicomnode.routing_rules import RoutingRule
from dicomnode.study import InstanceRow, InstanceState, RecordMetadata
from dicomnode.workflow.router import Router
from dicomnode.workflow.routing import SeriesFacts, StudyFacts, age_of
from tests.unit.workflow.samples import START, STUDY, metadata, row


class Originals:
    """Opens rows by their number; some are broken."""

    def __init__(self, *broken: Exception) -> None:
        self.broken = list(broken)
        self.read_rows: list[InstanceRow] = []

    def __call__(self, wanted: InstanceRow) -> tuple[RecordMetadata, Dataset]:
        self.read_rows.append(wanted)
        if self.broken:
            raise self.broken.pop(0)
        dataset = Dataset()
        dataset.Modality = "CT"
        dataset.PixelData = b"\0\0"
        return metadata(dataset, b""), dataset


def router(originals: Originals, **settings: object) -> Router:
    rules = [RoutingRule.model_validate({"name": "ct", "modalities": ["CT"], **settings})]
    return Router(rules, ["lung"], read=originals)


def test_without_rules_nothing_is_read() -> None:
    originals = Originals()
    found = Router((), ("lung",), read=originals).route(STUDY, [row(0)])
    assert found.shares.keys() == {"lung"}
    assert not originals.read_rows


def test_what_no_model_looks_at_is_judged_beside_the_rest_and_read_for_rules_alone() -> None:
    pet, with_images = replace(row(7), series_key="9e" * 16), row(8)
    originals = Originals()
    made = Router([RoutingRule(name="ct")], ["lung"], read=originals, is_own=lambda header: header.Modality == "CT")
    facts = made.facts(STUDY, [row(0)], [with_images, pet])
    assert originals.read_rows == [row(0), pet], "a series of which models look at some is judged by these"
    assert [(one.series_key, one.is_input, one.is_own) for one in facts.series] == [
        ("5e" * 16, True, False),
        ("9e" * 16, False, True),
    ]
    whole = RoutingRule(name="ct", priority="stat")
    assert Router([whole], ["lung"], read=originals).route(STUDY, (), [pet]).shares == {}
    broken = Originals(*[StudyError("object-malformed")] * 3)
    assert not Router((), (), read=broken, is_own=lambda _: True).facts(STUDY, (), [pet]).series[0].is_own
    unread = Originals()
    Router((), ("lung",), read=unread, maximum_age_days=30).route(STUDY, [row(0)], [pet])
    Router([RoutingRule(name="ct")], ("lung",), read=unread).route(STUDY, [row(0)], [pet])
    assert unread.read_rows == [row(0)] * 2, "nothing is said of whole studies"


def test_one_instance_of_each_series_is_read_the_same_one_in_whatever_order_they_came() -> None:
    rows = [row(2), row(0), replace(row(1), series_key="0a" * 16)]
    first, second = Originals(), Originals()
    facts = router(first).facts(STUDY, rows)
    assert router(second).facts(STUDY, rows[::-1]) == facts
    assert [one.instance_key for one in first.read_rows] == [one.instance_key for one in second.read_rows]
    assert [one.series_key for one in facts.series] == ["0a" * 16, "5e" * 16]
    assert facts.began_at == row(0).received_at
    assert "PixelData" not in (facts.series[0].header or Dataset())


def test_who_sent_a_series_is_told_by_the_image_that_came_first() -> None:
    """What was fetched later from elsewhere, under however small a key, takes no study from its modality's rules."""

    def read(wanted: InstanceRow) -> tuple[RecordMetadata, Dataset]:
        about, dataset = Originals()(wanted)
        title = "CT1" if wanted.received_at == START else "PACS"
        return replace(about, calling_ae_title=title), dataset

    fetched, came = (replace(row(number), received_at=START + timedelta(seconds=1 - number)) for number in (0, 1))
    assert fetched.instance_key < came.instance_key
    rules = [RoutingRule.model_validate({"name": "ct", "calling_ae_titles": ["CT1"]})]
    one = Router(rules, ["lung"], read=read)
    assert one.route(STUDY, [fetched, came]).shares
    assert one.facts(STUDY, [came]).series == one.facts(STUDY, [came, fetched]).series


@pytest.mark.parametrize("rule", [{"calling_ae_titles": ["CT1"]}, {"hours": ["08:00-18:00"]}, {"weekdays": ["sun"]}])
@pytest.mark.parametrize("became", [InstanceState.REPLACED, InstanceState.REJECTED, InstanceState.EXPIRED])
def test_a_corrected_study_goes_where_it_went_whoever_corrects_it_and_whenever(
    rule: dict[str, list[str]], became: InstanceState
) -> None:
    first = [replace(row(number), state=became) for number in (0, 1)]
    corrected = [replace(row(number), received_at=START + timedelta(hours=12.5)) for number in (0, 1)]

    def read(wanted: InstanceRow) -> tuple[RecordMetadata, Dataset]:
        about, dataset = Originals()(wanted)
        return replace(about, calling_ae_title="CT1" if wanted.received_at == START else "PACS"), dataset

    rules = [RoutingRule.model_validate({"name": "ct", **rule})]
    one = Router(rules, ["lung"], read=read, zone=UTC, came=lambda _: (*first, *corrected))
    assert one.route(STUDY, corrected).shares
    assert one.facts(STUDY, corrected).began_at == START
    strange = [replace(one, state=InstanceState.QUARANTINED) for one in first]
    another = Router(rules, ["lung"], read=read, zone=UTC, came=lambda _: (*strange, *corrected))
    assert not another.route(STUDY, corrected).shares, "another patient's images are no beginning of it"


def test_an_instance_that_cannot_be_read_gives_way_to_the_next() -> None:
    originals = Originals(StudyError("object-malformed"), StorageError("sealed-damaged"))
    assert router(originals).route(STUDY, [row(number) for number in range(5)]).shares
    assert len(originals.read_rows) == 3


def test_a_series_of_which_nothing_can_be_read_is_taken_by_no_rule_that_asks_what_it_is() -> None:
    originals = Originals(*[StudyError("object-malformed")] * 3)
    found = router(originals).route(STUDY, [row(number) for number in range(5)])
    assert not found.shares
    assert found.judgements[0].missed == "unreadable"


def test_a_disk_that_refuses_for_now_decides_nothing() -> None:
    with pytest.raises(StorageError, match="ledger-failed"):
        router(Originals(StorageError("ledger-failed"))).route(STUDY, [row(0)])


def dated(**dates: str) -> Originals:
    """Images with these dates; one that began to come on the first of March 2026."""

    class Dated(Originals):
        def __call__(self, wanted: InstanceRow) -> tuple[RecordMetadata, Dataset]:
            about, dataset = super().__call__(wanted)
            for keyword, value in dates.items():
                setattr(dataset, keyword, value)
            return about, dataset

    return Dated()


@pytest.mark.parametrize(
    ("dates", "old"),
    [
        ({"StudyDate": "20260129"}, 31),
        ({"StudyDate": "20260130"}, None),
        ({"StudyDate": "20100101", "AcquisitionDate": "20260227"}, None),
        ({"StudyDate": "20100101", "SeriesDate": ""}, 5903),
        ({"StudyDate": "20990101"}, None),
        ({}, None),
    ],
)
def test_a_study_is_as_old_as_its_newest_date(dates: dict[str, str], old: int | None) -> None:
    found = Router((), ("lung",), read=dated(**dates), zone=UTC, maximum_age_days=30).route(STUDY, [row(0)])
    assert (found.old_days, set(found.shares)) == (old, {"lung"})


def test_a_date_that_is_none_says_nothing() -> None:
    study = StudyFacts(
        study_key=STUDY,
        began_at=START,
        series=(
            SeriesFacts(series_key="a", calling_ae_title="", called_ae_title="", address="", header=None),
            SeriesFacts(series_key="b", calling_ae_title="", called_ae_title="", address="", header=Odd()),  # type: ignore[arg-type]
        ),
    )
    assert age_of(study, zone=UTC) is None


class Odd(dict[str, str]):
    """A header whose dates are none."""

    def __init__(self) -> None:
        super().__init__(StudyDate="soon", SeriesDate="20261399")


def test_the_age_of_a_study_that_is_watched_is_read_without_any_rule() -> None:
    for watched in (False, True):
        originals = dated(StudyDate="20260129")
        asked: list[str] = []

        def is_watched(study_key: str, asked: list[str] = asked, watched: bool = watched) -> bool:
            asked.append(study_key)
            return watched

        found = Router((), ("lung",), read=originals, zone=UTC, is_watched=is_watched).route(STUDY, [row(0)])
        assert (found.age_days, found.old_days, asked) == (31 if watched else None, None, [STUDY])
        assert len(originals.read_rows) == watched
