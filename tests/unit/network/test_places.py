"""The table of places: against a model, over processes, and what a process that is killed leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.network.places import Place, Places, open_table

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def table() -> Iterator[int]:
    descriptor = open_table(8)
    yield descriptor
    os.close(descriptor)


def taken(places: Places, address: str = "10.0.0.1", waiting: int = 100) -> Place:
    found = places.take(address, waiting_per_address=waiting)
    assert isinstance(found, Place)
    return found


def test_connections_are_capped_by_address_and_in_all(table: int) -> None:
    one, two = Places(8, owner=1, descriptor=table), Places(8, owner=2, descriptor=table)
    held = [taken(one, waiting=3), taken(two, waiting=3), taken(one, waiting=3)]
    assert two.take("10.0.0.1", waiting_per_address=3) == 3
    held[0].entered()
    held.append(taken(two, waiting=3))
    held += [taken(two, "10.0.0.2") for _ in range(4)]
    assert one.take("10.0.0.3", waiting_per_address=3) == 0, "all eight are taken"
    held[5].leave()
    taken(one, "10.0.0.3", waiting=1)


def test_associations_are_counted_in_all_of_an_address_and_of_a_peer(table: int) -> None:
    one, two = Places(8, owner=1, descriptor=table), Places(8, owner=2, descriptor=table)
    first, second, third = taken(one), taken(two), taken(two, "10.0.0.2")
    assert vars_of(first.associate("ct")) == (0, 0, 0)
    assert vars_of(second.associate(None)) == (1, 1, 0)
    assert vars_of(third.associate("ct")) == (2, 0, 1)
    first.dissociate()
    assert vars_of(first.associate("mr")) == (2, 1, 0)


def vars_of(counts: Any) -> tuple[int, int, int]:
    return counts.all, counts.of_address, counts.of_peer


def test_who_has_more_knows_it(table: int) -> None:
    one, two = Places(8, owner=1, descriptor=table), Places(8, owner=2, descriptor=table)
    one.begin()
    taken(one)
    assert one.ahead() == 0, "there is nobody else"
    two.begin()
    assert (one.ahead(), two.ahead()) == (1, 0)
    two.free_all_of(1)
    assert (taken(two), two.ahead()) != (None, 1), "the dead are not waited for"


def test_bytes_of_all_are_added_and_outlive_who_wrote_them(table: int) -> None:
    one, two = Places(8, owner=1, descriptor=table), Places(8, owner=2, descriptor=table)
    one.add_bytes(5)
    two.add_bytes(7)
    one.free_all_of(2)
    assert one.bytes_added() == two.bytes_added() == 12


OWNERS, ADDRESSES, PEERS = (1, 2, 3), ("10.0.0.1", "10.0.0.2"), (None, "ct", "mr")
STEPS = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(OWNERS), st.sampled_from(ADDRESSES)),
    st.tuples(st.just("associate"), st.integers(0, 20), st.sampled_from(PEERS)),
    st.tuples(st.sampled_from(["entered", "dissociate", "leave"]), st.integers(0, 20), st.none()),
    st.tuples(st.just("die"), st.sampled_from(OWNERS), st.none()),
)


@given(st.lists(STEPS, max_size=60))
@settings(deadline=None, max_examples=150)
def test_it_does_what_counting_by_hand_does(steps: list[tuple[str, Any, Any]]) -> None:
    descriptor = open_table(5)
    places = {owner: Places(5, owner=owner, descriptor=descriptor) for owner in OWNERS}
    held: list[dict[str, Any]] = []
    for what, which, more in steps:
        if what == "take":
            waiting = sum(one["waits"] and one["address"] == more for one in held)
            found = places[which].take(more, waiting_per_address=2)
            assert isinstance(found, Place) == (waiting < 2 and len(held) < 5)
            if isinstance(found, Place):
                held.append({"place": found, "owner": which, "address": more, "waits": True, "peer": False})
            else:
                assert found == waiting
        elif what == "die":
            places[1].free_all_of(which)
            held = [one for one in held if one["owner"] != which]
        elif held:
            one = held[which % len(held)]
            if what == "associate":
                others = [other for other in held if other is not one and other["peer"] is not False]
                if one["peer"] is False:
                    expected = (
                        len(others),
                        sum(other["address"] == one["address"] for other in others),
                        sum(more is not None and other["peer"] == more for other in others),
                    )
                    assert vars_of(one["place"].associate(more)) == expected
                    one["peer"] = more
            elif what == "leave":
                one["place"].leave()
                held.remove(one)
            else:
                getattr(one["place"], what)()
                one["waits"] = one["waits"] and what != "entered"
                one["peer"] = False if what == "dissociate" else one["peer"]
    os.close(descriptor)


BUSY = """
import sys
from dicomnode.network.places import Place, Places
places = Places(8, owner=int(sys.argv[2]), descriptor=int(sys.argv[1]))
count, held = int(sys.argv[3]), []
print("begun", flush=True)
while count:
    found = places.take("10.0.0.1", waiting_per_address=100)
    if isinstance(found, Place):
        others = found.associate("ct").all
        found.entered(); places.add_bytes(1); found.dissociate()
        assert others <= 1 and places._map[places._offset(found._number)] == places._owner, "not alone in its place"
        found.leave()
        count -= 1
"""


def busy(table: int, owner: int, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUSY, str(table), str(owner), str(count)]
    process = subprocess.Popen(command, pass_fds=[table], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def test_processes_do_not_get_into_each_others_way(table: int) -> None:
    places = Places(8, owner=4, descriptor=table)
    with busy(table, 1, 20_000) as one, busy(table, 2, 20_000) as two:
        assert (one.wait(60), two.wait(60)) == (0, 0)
    assert places.bytes_added() == 40_000
    assert [taken(places) for _ in range(8)]


@pytest.mark.parametrize("seed", range(5))
def test_a_process_that_is_killed_at_any_moment_holds_nobody_up(table: int, seed: int) -> None:
    """The lock goes with it, and its places are free when somebody frees them; those of others stay."""
    places = Places(8, owner=4, descriptor=table)
    own = [taken(places), taken(places, "10.0.0.2")]
    own[0].associate("ct")
    with busy(table, 1, -1) as process:
        for _ in range(50 * seed):
            places.add_bytes(1)
            taken(places, "10.0.0.9").leave()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    places.free_all_of(1)
    assert Counter(type(places.take("10.0.0.3", waiting_per_address=100)) for _ in range(7)) == {Place: 6, int: 1}
    assert vars_of(own[1].associate("ct")) == (1, 0, 1)
