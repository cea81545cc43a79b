"""A study that was arriving when the node was killed was settled at the next start: half of it went out as a result.

The time for which the node was down counted as the sender's silence.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dicomnode.events import silent
from dicomnode.sections import CompletionSection
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.completion import Move, decide
from dicomnode.workflow.recovery import Recovery

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class OneOpenStudy:
    """The part of a ledger that `Recovery.resume` asks."""

    def open_studies(self) -> tuple[tuple[str, datetime], ...]:
        return (("a" * 32, LONG_AGO),)

    def quarantined(self, study_key: str) -> tuple[Any, ...]:
        return ()

    def instances(self, study_key: str, state: Any = None) -> tuple[Any, ...]:
        return ()

    def works(self, states: Any) -> tuple[Any, ...]:
        return ()


def test_the_quiet_time_begins_anew_at_a_start() -> None:
    activity = ActivityTable()
    nothing: Any = None
    recovery = Recovery(
        OneOpenStudy(),  # type: ignore[arg-type]
        nothing,
        activity,
        nothing,
        conflict=lambda row: None,
        later=lambda rows: None,
        derivation_key=b"",
        clock=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        monotonic=lambda: 100.0,
        emit=silent,
    )

    recovery.resume()

    (study,) = activity.snapshot()
    settings = CompletionSection(quiet_seconds=30)
    assert decide(study, started=True, settings=settings, now=129.0).move is Move.WAIT
    assert decide(study, started=True, settings=settings, now=130.0).move is Move.SETTLE
