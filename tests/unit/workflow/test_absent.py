"""A series of which images are lost is chosen as if they were there, and nothing is made of it, nor of another one in its place."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.errors import StudyError
from dicomnode.study import InstanceRow, WorkKey, WorkRow, WorkState, blind_key
from dicomnode.workflow.absent import might_be_chosen, shares_of_lost, stand_ins
from dicomnode.workflow.router import Router
from dicomnode.workflow.routing import Route, Share
from dicomnode.workflow.selection import Header
from tests.unit.workflow.samples import KEY, row, tiny_series
from tests.unit.workflow.test_damage import MODEL, admission, damage, lose, receive, verify
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]

LOST = (WorkState.FAILED, "sealed-damaged")


def another(images: list[Dataset], *, better: bool = False) -> list[Dataset]:
    """Another series of the study, less liked than the first unless it is said to be better."""
    other = deepcopy(images)
    for number, image in enumerate(other):
        image.SeriesInstanceUID, image.SOPInstanceUID = "2.25.77", f"2.25.78{number}"
        image.SliceThickness = 0.5 if better else 30
    return other


def rows_of(bench: Bench, image: Dataset) -> list[InstanceRow]:
    rows = bench.ledger.instances(bench.key.study_key)
    ours = blind_key(KEY, "instance", str(image.SOPInstanceUID))
    (series_key,) = {one.series_key for one in rows if one.instance_key == ours}
    return [one for one in rows if one.series_key == series_key]


def row_of(bench: Bench, image: Dataset) -> InstanceRow:
    ours = blind_key(KEY, "instance", str(image.SOPInstanceUID))
    (found,) = [one for one in bench.ledger.instances(bench.key.study_key) if one.instance_key == ours]
    return found


def next_revision(bench: Bench) -> WorkKey:
    """The study settles; its newest revision is at hand."""
    admission(bench).settle(bench.key.study_key)
    latest = bench.ledger.latest_revision(bench.key.study_key)
    assert latest is not None
    bench.key = WorkKey(study_key=bench.key.study_key, revision=latest.revision, model=MODEL)
    return bench.key


@pytest.mark.parametrize("place", [0, 7, -1])
def test_no_other_series_steps_in_for_one_that_lacks_an_image(
    bench: Bench, images: list[Dataset], tmp_path: Path, place: int
) -> None:
    """Also where the rest of it has a gap, and could not be worked on by itself."""
    bench.receive([*images, *another(images)])
    damage(tmp_path, row_of(bench, images[place]))
    verify(bench, tmp_path)
    assert not bench.stages().run("prepare", next_revision(bench))
    assert bench.ended == LOST
    receive(bench, images[place])
    key = next_revision(bench)
    stages = bench.stages()
    assert stages.run("prepare", key), bench.ended
    assert stages._handover.plan(key)["series_key"] == rows_of(bench, images[0])[0].series_key


def test_a_series_that_would_be_chosen_anyway_is(bench: Bench, images: list[Dataset], tmp_path: Path) -> None:
    better = another(images, better=True)
    bench.receive([*images, *better])
    damage(tmp_path, row_of(bench, images[7]))
    verify(bench, tmp_path)
    key, stages = next_revision(bench), bench.stages()
    assert stages.run("prepare", key), bench.ended
    assert stages._handover.plan(key)["series_key"] == rows_of(bench, better[0])[0].series_key


def lose_whole(bench: Bench, folder: Path, chosen: list[Dataset], others: list[Dataset], *, first: bool) -> None:
    """A study of two series in a segment each; that of one is gone, after a work was prepared or before."""
    key = bench.receive(chosen)
    bench.rooms.spool.close_study(key.study_key)
    for image in others:
        receive(bench, image)
    if first:
        assert bench.stages().run("prepare", next_revision(bench)), bench.ended
    lose(bench, folder, row_of(bench, chosen[0]))
    verify(bench, folder)
    next_revision(bench)


@pytest.mark.parametrize("first", [False, True])
def test_a_series_that_is_lost_whole_is_not_replaced_either(
    bench: Bench, images: list[Dataset], tmp_path: Path, first: bool
) -> None:
    lose_whole(bench, tmp_path, images, another(images), first=first)
    assert not bench.stages().run("prepare", bench.key)
    assert bench.ended == LOST


def test_one_that_is_lost_whole_and_that_an_earlier_work_did_not_choose_holds_nothing_up(
    bench: Bench, images: list[Dataset], tmp_path: Path
) -> None:
    lose_whole(bench, tmp_path, another(images), images, first=True)
    assert bench.stages().run("prepare", bench.key), bench.ended


def test_what_no_rule_gave_a_model_does_not_hold_it_up(bench: Bench, images: list[Dataset], tmp_path: Path) -> None:
    """Neither in part nor whole."""
    others = another(images, better=True)
    key = bench.receive([*images, *others])
    ours = rows_of(bench, images[0])[0].series_key
    theirs = rows_of(bench, others[0])
    made = bench.ledger.transaction
    with made() as connection:
        bench.ledger.add_facts(key, {"series": ours}, connection=connection)
    for one in theirs:
        damage(tmp_path, one)
    verify(bench, tmp_path)
    anew = next_revision(bench)
    with made() as connection:
        bench.ledger.add_facts(anew, {"series": ours}, connection=connection)
    assert bench.stages().run("prepare", anew), bench.ended


def test_lost_images_stand_in_the_gaps_of_their_series_and_then_at_its_end() -> None:
    images = tiny_series()
    step = float(images[1].ImagePositionPatient[2]) - float(images[0].ImagePositionPatient[2])
    left = [Header(series_key="s", instance_key=f"{n}", dataset=one) for n, one in enumerate(images) if n not in (3, 4)]

    def heights(headers: list[Header], count: int) -> list[float]:
        gone: list[Any] = [row(n, instance=f"g{n}") for n in range(count)]
        for one in gone:
            object.__setattr__(one, "series_key", "s")
        return [float(one.dataset.ImagePositionPatient[2]) for one in stand_ins(headers, gone)]

    places = [float(one.ImagePositionPatient[2]) for one in images]
    end = max(places, key=lambda one: one * (1 if step > 0 else -1))
    found = heights(left, 3)
    assert sorted(found[:2]) == pytest.approx(sorted(places[3:5]))
    assert found[2] not in places
    assert abs(found[2] - end) == pytest.approx(abs(step)) or abs(found[2] - places[0]) == pytest.approx(abs(step))
    assert heights(left[:1], 2), "one image says how thick it is"
    assert heights([], 2) == []
    placeless = deepcopy(images[0])
    del placeless.ImagePositionPatient
    assert heights([Header(series_key="s", instance_key="0", dataset=placeless)], 1) == []


def test_a_model_whose_series_is_lost_whole_still_gets_a_work(bench: Bench, images: list[Dataset]) -> None:
    key = bench.receive(images, facts={"series": "a,b", "rules": "chest", "destinations": "pacs"})
    work = bench.work(key)
    given = Share(rules=("chest",), series=frozenset({"a", "b"}), destinations=("pacs",))
    assert shares_of_lost({}, [work], {"b"}) == {MODEL: given}
    assert shares_of_lost({}, [work], {"c"}) == {}
    assert shares_of_lost({}, [work], ()) == {}
    assert shares_of_lost({MODEL: Share()}, [work], {"b"}) == {MODEL: Share()}


def test_its_work_says_why_there_is_nothing(
    bench: Bench, images: list[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rules see nothing of the series any more, and would give the model nothing."""
    lose_whole(bench, tmp_path, images, another(images), first=True)
    receive(bench, changed(another(images)[3]))
    rules = admission(bench)
    routing: Any = rules._routing
    monkeypatch.setattr(rules, "_routing", replace(routing, route=lambda *_: Route(shares={})))
    rules.settle(bench.key.study_key)
    latest = bench.ledger.latest_revision(bench.key.study_key)
    assert latest is not None
    assert latest.revision == bench.key.revision + 1
    bench.key = replace(bench.key, revision=latest.revision)
    assert not bench.stages().run("prepare", bench.key)
    assert bench.ended == LOST


def changed(image: Dataset) -> Dataset:
    image.AccessionNumber = "NEW"
    return image


def test_a_study_began_when_the_first_of_its_images_came_also_if_that_is_lost() -> None:
    def read(_: InstanceRow) -> Any:
        raise StudyError("object-malformed")

    router = Router((), (MODEL,), read=read, lost=lambda _: [row(1)])
    assert router.facts("s", [row(7), row(5)]).began_at == row(1).received_at


def test_whether_a_lost_series_might_be_chosen_is_said_by_the_newest_work_that_had_it(
    bench: Bench, images: list[Dataset]
) -> None:
    made = bench.work(bench.receive(images))
    gone = [replace(row(1), series_key="s", received_at=made.created_at)]
    plans: dict[int, dict[str, Any]] = {}

    def asked(*works: WorkRow) -> bool:
        return might_be_chosen("s", gone, works, lambda work: plans.get(work.key.revision))

    def of(revision: int, *, hours: int = 0, **facts: Any) -> WorkRow:
        key, at = replace(made.key, revision=revision), made.created_at + timedelta(hours=hours)
        return replace(made, key=key, created_at=at, facts=facts)

    assert asked(), "nobody knows"
    assert asked(of(1), of(2)), "they chose nothing"
    assert not asked(of(1), of(2, series="t")), "it was not given to the newest"
    assert asked(of(1, series="s"), of(2, series="t", hours=-1)), "that one began before it came"
    plans[1] = {"series_key": "t"}
    assert not asked(of(1), of(2)), "another one was better"
    plans[2] = {"series_key": "s"}
    assert asked(of(1), of(2))
