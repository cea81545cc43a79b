from __future__ import annotations

import pytest

from dicomnode.config import MEBI
from dicomnode.errors import LimitError, StudyError
from dicomnode.network_sections import PeerRule
from dicomnode.workflow.allowances import Allowances


class World:
    """A ledger and an activity table of a test."""

    def __init__(self, known: tuple[int, int] = (0, 0)) -> None:
        self.known = known
        self.open: set[str] = set()
        self.marked: list[str] = []
        self.ranked: list[tuple[str, str, str]] = []
        self.allowances = Allowances(
            known=lambda _: self.known,
            is_open=self.open.__contains__,
            rank=lambda *what: self.ranked.append(what),
            straight=self.marked.append,
        )

    def send(self, rule: PeerRule, study: str, size: int = 1000, *, lost: bool = False) -> None:
        allowed = self.allowances.begin(rule, study)
        try:
            allowed.weigh(size)
            if not lost:
                allowed.keep()
                self.open.add(study)
        finally:
            allowed.close()


def rule(**limits: object) -> PeerRule:
    return PeerRule.model_validate({"name": "ct1", **limits})


def refused(world: World, what: PeerRule, study: str, size: int = 1000) -> dict[str, object]:
    """What a study's quota says: no trying again helps."""
    with pytest.raises(StudyError) as caught:
        world.send(what, study, size)
    assert (caught.value.code, caught.value.retryable) == ("study-limit", False)
    return dict(caught.value.facts)


def refused_for_now(world: World, what: PeerRule, study: str) -> dict[str, object]:
    """What a quota of studies at a time says."""
    with pytest.raises(LimitError) as caught:
        world.send(what, study)
    assert (caught.value.code, caught.value.dimse_status, caught.value.retryable) == ("peer-limit", 0xA700, True)
    return dict(caught.value.facts)


def test_instances_of_a_study_are_counted_and_what_is_lost_is_not() -> None:
    world, two = World(), rule(maximum_study_instances=2)
    world.send(two, "a")
    world.send(two, "a", lost=True)
    world.send(two, "a")
    assert refused(world, two, "a") == {"instances": 2}
    world.send(two, "b")


def test_bytes_of_a_study_are_counted() -> None:
    world, small = World(), rule(maximum_study_bytes=MEBI)
    world.send(small, "a", MEBI - 1)
    assert refused(world, small, "a", 2) == {"bytes": MEBI - 1}
    world.send(small, "a", 1)
    assert refused(world, small, "a", 0) == {"instances": 2}


def test_what_the_ledger_has_counts_after_a_restart() -> None:
    world = World(known=(5, 5000))
    assert refused(world, rule(maximum_study_instances=5), "a") == {"instances": 5}


def test_open_studies_are_counted_and_forgotten_when_they_are_settled() -> None:
    world, two = World(), rule(maximum_open_studies=2)
    world.send(two, "a")
    world.send(two, "b")
    assert refused_for_now(world, two, "c") == {"studies": 2}
    world.send(two, "a")
    world.open.discard("a")
    world.send(two, "c")
    assert refused_for_now(world, two, "a") == {"studies": 2}
    world.send(rule(name="other"), "d")


def test_a_study_is_ranked_once_while_it_arrives() -> None:
    world, stat = World(), rule(priority="stat")
    for _ in range(3):
        world.send(stat, "a")
    assert world.ranked == [("a", "ct1", "stat")]


def test_a_study_is_marked_when_a_modality_sends_any_of_it() -> None:
    world, ct, pacs = World(), rule(modality=True), rule(name="pacs")
    world.send(pacs, "a")
    assert world.marked == []
    for _ in range(3):
        world.send(ct, "a")
    assert world.marked == ["a"]


def test_a_study_is_ample_up_to_seven_eighths_of_each_limit() -> None:
    world = World()
    for limits in ({"maximum_study_instances": 8}, {"maximum_study_bytes": 8 * MEBI}):
        found = []
        for _ in range(8):
            allowed = world.allowances.begin(rule(**limits), str(limits))
            allowed.weigh(MEBI)
            found.append(allowed.is_ample)
            allowed.keep()
        assert found == [True] * 7 + [False]


def test_the_most_urgent_sender_counts_whenever_it_joins() -> None:
    world = World()
    world.send(rule(priority="research"), "a")
    world.send(rule(priority="stat"), "a")
    world.send(rule(priority="routine"), "a")
    assert [priority for _, _, priority in world.ranked] == ["research", "stat"]


def test_what_was_shredded_and_comes_again_is_a_study_of_its_own() -> None:
    world, two = World(), rule(maximum_study_instances=1, modality=True)
    world.send(two, "a")
    world.open.clear()  # it ended, and was shredded: the ledger knows nothing of it
    world.send(two, "a")
    assert (world.marked, len(world.ranked)) == (["a", "a"], 2)
    world.known = (1, 1000)  # it ended and is there
    world.open.clear()
    assert refused(world, two, "a") == {"instances": 1}
