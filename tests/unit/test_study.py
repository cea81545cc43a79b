from __future__ import annotations

import itertools
import uuid

import pytest

from dicomnode.cli.listing import stages_in_order
from dicomnode.errors import NodeError
from dicomnode.study import (
    FINAL_STATES,
    STAGES,
    TRANSITIONS,
    WorkKey,
    WorkState,
    blind_key,
    check_transition,
    input_digest,
    mint_uid,
)

KEY = b"k" * 32


@pytest.mark.parametrize(("old", "new"), list(itertools.product(WorkState, WorkState)))
def test_only_the_table_decides_what_may_follow(old: WorkState, new: WorkState) -> None:
    if new is old or new in TRANSITIONS[old]:
        check_transition(old, new)
    else:
        with pytest.raises(NodeError, match="transition-forbidden") as caught:
            check_transition(old, new)
        assert caught.value.facts == {"old": old.value, "new": new.value}


def test_every_state_is_reached_and_leads_to_an_end() -> None:
    assert set(TRANSITIONS) == set(WorkState)
    reached = {WorkState.QUEUED}
    for _ in WorkState:
        reached |= {new for old in reached for new in TRANSITIONS[old]}
    assert reached == set(WorkState)
    for state in WorkState:
        ways = {state}
        for _ in WorkState:
            ways |= {new for old in ways for new in TRANSITIONS[old]}
        assert ways & FINAL_STATES


def test_a_result_that_is_ready_is_delivered_or_superseded_never_lost() -> None:
    ends = {WorkState.DELIVERING, WorkState.SUPERSEDED, WorkState.CANCELLED}  # somebody cancels it: audited
    assert TRANSITIONS[WorkState.READY] == {*ends, WorkState.HELD}
    assert TRANSITIONS[WorkState.HELD] == {*ends, WorkState.FAILED}, "given up in the end, and told"
    assert TRANSITIONS[WorkState.FAILED] == {WorkState.DELIVERING}, "where somebody wants it all the same"
    assert WorkState.SUPERSEDED in TRANSITIONS[WorkState.DELIVERING], "before anything was delivered"
    for delivered in (WorkState.DONE, WorkState.FAILED):
        assert WorkState.SUPERSEDED not in TRANSITIONS[delivered]


def test_minted_uids_are_valid_stable_and_differ_with_every_part() -> None:
    first = mint_uid(KEY, "result", "a", "b")
    assert mint_uid(KEY, "result", "a", "b") == first
    others = [
        mint_uid(KEY, "result", "ab"),
        mint_uid(KEY, "result", "a", "b", ""),
        mint_uid(KEY, "result", "b", "a"),
        mint_uid(KEY, "other", "a", "b"),
        mint_uid(b"l" * 32, "result", "a", "b"),
    ]
    assert len({first, *others}) == 6
    assert first.startswith("2.25.")
    assert len(first) <= 44
    identifier = uuid.UUID(int=int(first.removeprefix("2.25.")))
    assert (identifier.version, identifier.variant) == (8, uuid.RFC_4122)


def test_blind_keys_are_short_stable_and_apart_by_kind() -> None:
    key = blind_key(KEY, "study", "1.2.3")
    assert len(key) == 32
    assert int(key, 16)
    assert key == blind_key(KEY, "study", "1.2.3")
    assert key != blind_key(KEY, "series", "1.2.3")


def test_a_short_derivation_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        mint_uid(b"short", "result")


def test_the_digest_of_an_input_knows_no_order_and_every_instance() -> None:
    pairs = [("a", "1"), ("b", "2"), ("c", "3")]
    digest = input_digest(pairs)
    assert digest == input_digest(pairs[::-1])
    assert len({digest, input_digest(pairs[:2]), input_digest([("a", "2"), *pairs[1:]]), input_digest([])}) == 4


def test_stage_times_stand_in_the_order_of_the_stages() -> None:
    given = {"deliver": 3.0, "prepare": 1.0, "unknown": 9.0, "receive": 0.5}
    assert list(stages_in_order(given)) == [name for name in STAGES if name in given]


def test_a_workflow_is_named_by_its_key() -> None:
    assert WorkKey(study_key="ab", revision=2, model="ct-lung").workflow_id == "ab-2-ct-lung"
