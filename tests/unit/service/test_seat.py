"""What the node counts of a peer with limits, whatever becomes of the receiver that asked."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dicomnode.errors import StudyError
from dicomnode.events import silent
from dicomnode.network_sections import PeerRule
from dicomnode.service.messages import plain_row
from dicomnode.service.seat import House, Seat
from dicomnode.storage.datakeys import DataKey
from dicomnode.study import InstanceRow
from dicomnode.workflow.activity import NOBODY, ActivityTable
from dicomnode.workflow.allowances import Allowances
from tests.unit.storage.samples import STUDY, row

LIMIT = 2


class Bench:
    """A seat without a process, and what is on the disk that it did not tell."""

    def __init__(self) -> None:
        self.rows: list[InstanceRow] = []
        self.untold: list[InstanceRow] = []
        self.rule = PeerRule.model_validate({"name": "ct1", "maximum_study_instances": LIMIT})
        self.allowances = Allowances(known=lambda _: (0, 0), is_open=lambda _: True, rank=lambda *_: None)
        self.house = House(
            rows=self,
            flush=lambda _: True,
            activity=ActivityTable(),
            key=lambda _: DataKey(key=b"k" * 32, key_id=b"i" * 8),
            allowances=self.allowances,
            services={},
            rules={"ct1": self.rule},
            take_up=lambda studies, mark: iter(self.untold),
            wake=lambda: None,
            monotonic=lambda: 0.0,
            emit=silent,
        )
        self.near, self.far = socket.socketpair()
        nobody: Any = subprocess.Popen.__new__(subprocess.Popen)
        nobody.returncode = 0
        self.seat = Seat(self.house, 1, "ab", nobody, end=self.near, ready=lambda: None)

    def add(self, found: InstanceRow) -> None:
        """A record is durable."""
        self.rows.append(found)

    def left(self) -> int:
        """How many more may come."""
        count = 0
        while True:
            try:
                self.allowances.begin(self.rule, STUDY)
            except StudyError:
                return count
            count += 1


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.near.close()
    made.far.close()


def of(size: int) -> InstanceRow:
    return replace(row(0), length=size)


def test_what_a_dead_receiver_had_begun_is_given_back(bench: Bench) -> None:
    bench.seat._allow("ct1", STUDY)
    bench.seat._take("ct1", STUDY, 3000)
    with pytest.raises(StudyError):
        bench.seat._take("ct1", STUDY, 3000)
    bench.seat.bury()
    bench.seat.take_up()
    assert bench.left() == LIMIT


def test_what_it_told_to_be_durable_is_kept_though_the_word_was_missing(bench: Bench) -> None:
    for _ in range(2):
        bench.seat._take("ct1", STUDY, 3000)
    bench.seat._row(plain_row(of(3000)))
    bench.seat.bury()
    bench.seat.take_up()
    assert bench.left() == LIMIT - 1


def test_what_it_made_durable_and_could_not_tell_is_kept(bench: Bench) -> None:
    bench.seat._take("ct1", STUDY, 3000)
    bench.seat._take("ct1", STUDY, 4000)
    bench.untold = [of(4000), of(5000)]  # the last one came of nobody who is counted
    bench.seat.bury()
    bench.seat.take_up()
    assert (bench.left(), len(bench.rows)) == (LIMIT - 1, 2)


def test_the_word_counts_where_two_are_of_one_length(bench: Bench) -> None:
    (one, _), (other, _) = (bench.seat._take("ct1", STUDY, 3000) for _ in range(2))
    bench.seat._row(plain_row(of(3000)))
    bench.seat._came(one, kept=False)
    bench.seat._came(other, kept=True)
    assert bench.left() == LIMIT - 1
    assert (bench.seat._allowed, bench.seat._weighed) == ({}, {})


def test_an_instance_that_was_too_large_is_not_counted(bench: Bench) -> None:
    with pytest.raises(StudyError):
        bench.seat._take("ct1", STUDY, bench.rule.maximum_study_bytes + 1)
    assert bench.left() == LIMIT


def heard(bench: Bench) -> list[object]:
    """What the receiver was told since it was asked last."""
    bench.far.setblocking(False)
    told = []
    try:
        while head := bench.far.recv(4):
            told.append(json.loads(bench.far.recv(int.from_bytes(head, "big"))))
    except BlockingIOError:
        return told
    return told


def test_a_receiver_that_says_that_it_lives_hears_who_is_refused_once(bench: Bench) -> None:
    bench.seat._alive()
    assert heard(bench) == []
    bench.house.activity.refused_from = 1
    for expected in ([[0, "refuse", [1]]], []):
        bench.seat._alive()
        assert heard(bench) == expected
    bench.house.activity.refused_from = NOBODY
    bench.seat._alive()
    assert heard(bench) == [[0, "refuse", [NOBODY]]]


def test_one_that_has_just_died_hears_nothing(bench: Bench) -> None:
    bench.far.close()
    bench.house.activity.refused_from = 1
    bench.seat._alive()
