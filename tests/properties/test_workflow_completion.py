"""Properties of the rule of completeness and of retries: no history of arrivals settles early, every one settles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dicomnode.config import DeliverySection
from dicomnode.sections import CompletionSection
from dicomnode.workflow.activity import Activity, ActivityTable
from dicomnode.workflow.completion import Completion, Move, decide
from dicomnode.workflow.delivery import wait_before
from tests.unit.workflow.samples import Events, Time

seconds = st.floats(0, 1e6, allow_nan=False)
settings_of = st.builds(CompletionSection, quiet_seconds=st.floats(0.1, 600), start_early=st.booleans())
activities = st.builds(
    Activity,
    first_received=st.floats(-20_000, 0),
    study_key=st.just("s"),
    last_received=seconds,
    last_released=st.none() | seconds,
    open_associations=st.integers(0, 3),
    has_moved_on=st.booleans(),
)


@given(activities, st.booleans(), settings_of, seconds)
def test_never_settled_before_the_quiet_time_nor_for_long_while_anything_is_open(
    activity: Activity, started: bool, settings: CompletionSection, now: float
) -> None:
    decision = decide(activity, started=started, settings=settings, now=now)
    assert decision.again_seconds >= 0
    if decision.is_late:
        assert now >= activity.first_received + settings.arrival_seconds
    elif decision.move is Move.SETTLE:
        is_held = activity.open_associations and not activity.has_moved_on
        bearable = settings.open_seconds if is_held else settings.quiet_seconds
        assert now >= activity.last_received + max(bearable, settings.quiet_seconds)
        assert activity.last_released is None or now >= activity.last_released + settings.quiet_seconds
    if decision.move is Move.START:
        assert not started
        assert settings.start_early
        silence = now - max(activity.last_received, activity.last_released or 0.0)
        if activity.open_associations:
            assert (
                silence >= min(5.0 if activity.has_moved_on else settings.quiet_seconds, settings.quiet_seconds) - 1e-6
            )
        else:
            assert activity.last_released is not None


@given(activities, st.booleans(), settings_of, seconds)
def test_who_looks_again_when_told_gets_there(
    activity: Activity, started: bool, settings: CompletionSection, now: float
) -> None:
    quiet = Activity(
        study_key="s",
        first_received=activity.first_received,
        last_received=activity.last_received,
        last_released=activity.last_released,
        open_associations=0,
    )
    for _ in range(6):
        decision = decide(quiet, started=started, settings=settings, now=now)
        if decision.move is Move.SETTLE:
            return
        started = started or decision.move is Move.START
        now += max(decision.again_seconds, 0.01)
    raise AssertionError("it never settles")


steps = st.lists(
    st.tuples(st.sampled_from(["receive", "end", "pass"]), st.sampled_from("ab"), st.floats(0, 40)), max_size=30
)


@given(steps, settings_of)
def test_every_history_ends_settled_and_nothing_came_unseen(
    history: list[tuple[str, str, float]], settings: CompletionSection
) -> None:
    time, table = Time(), ActivityTable()
    arrivals, seen, acts = 0, 0, []

    def settle(key: str, _: str) -> None:
        nonlocal seen
        assert not table.snapshot()[0].open_associations
        seen = arrivals
        acts.append(key)

    completion = Completion(
        table,
        start=lambda key: None,
        settle=settle,
        settings=settings,
        monotonic=time.monotonic,
        emit=Events(),
    )
    for what, association, passing in history:
        if what == "receive":
            arrivals += 1
            table.received("s", association, time.monotonic())
        elif what == "end":
            table.ended(association, time.monotonic())
        time.forward(passing)
        completion.look()
    for association in "ab":
        table.ended(association, time.monotonic())
    for _ in range(4):
        time.forward(completion.look())
    assert table.snapshot() == ()
    assert seen == arrivals
    assert bool(acts) == bool(arrivals)


@given(st.integers(2, 10_000), st.floats(0.1, 1e5), st.floats(0.1, 1e5))
def test_waits_grow_up_to_the_longest(attempt: int, one: float, other: float) -> None:
    first, longest = sorted((one, other))
    settings = DeliverySection(first_retry_seconds=first, longest_retry_seconds=longest)
    assert 0 < wait_before(attempt, settings) <= wait_before(attempt + 1, settings) <= longest
