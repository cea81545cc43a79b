"""`dicomnode studies`: what the ledger knows, as a table for people or as JSON for programs; never a name."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console

from dicomnode.cli.reasons import what_and_what_to_do
from dicomnode.config import Config
from dicomnode.errors import REASONS
from dicomnode.network.status import WARNINGS, StatusKind, classify
from dicomnode.service import status
from dicomnode.study import (
    INCOMPLETE,
    NOTED,
    REJECTED,
    REPLACES,
    RETRACTION,
    SOURCE,
    STAGES,
    STANDING,
    DeliveryRow,
    DeliveryState,
    Mark,
    StudyRow,
    WorkRow,
)
from dicomnode.workflow.routing import CLASSES, SERIES
from dicomnode.workflow.unchanged import BASIS, SAME_AS

_RETRACTIONS = {
    "wished": "asked for; the node takes it up when it runs",
    "sent": "rejection notes were sent to the destinations that take them",
    "nothing-delivered": "nothing was done: no destination that takes rejection notes holds these results; ask again when one does",
}
#: Why nothing is made of a study.
STOPPED = {
    Mark.CANCELLED: "cancelled: nothing more is made of it until dicomnode release or reprocess",
    Mark.OLD: "too old: nothing is made of it until dicomnode release",
    Mark.FLOOD: "one of too many old ones at a time: nothing is made of it until dicomnode release",
}
_COLOURS = {
    "done": "green",
    "refused": "yellow",
    "failed": "red",
    "superseded": "dim",
    "cancelled": "dim",
    "held": "yellow",
}


def stages_in_order(stages: Mapping[str, float]) -> dict[str, float]:
    """Stage times in the order in which the stages follow each other."""
    return {name: stages[name] for name in STAGES if name in stages}


def list_studies(tree: Config, *, limit: int, as_json: bool, console: Console) -> None:
    """Print the newest studies of the state folder."""
    rows = status.list_studies(tree, limit)
    if as_json:
        console.out(json.dumps([study_json(row) for row in rows], indent=2), highlight=False)
        return
    if not rows:
        console.print("No study has arrived yet.")
        return
    for row in rows:
        for line in _lines(row):
            console.print(line, soft_wrap=True)
    for line in _counted(rows):
        console.print(line, soft_wrap=True)
    for code in sorted({work.reason for row in rows for work in row.works if work.reason}):
        console.print(f"[bold]{code}[/]: {what_and_what_to_do(code)}" if code in REASONS else code, soft_wrap=True)


def study_json(row: StudyRow) -> dict[str, Any]:
    """A study as plain values: keys, states, counts, seconds and statuses."""
    return {
        "study": row.study_key,
        "first_received_at": _time(row.first_received_at),
        "last_received_at": _time(row.last_received_at),
        "instances": row.instances,
        "quarantined": row.quarantined,
        "rejected": row.rejected,
        "revision": row.revision,
        "stopped_by": row.stopped_by,
        "works": [_work_json(work) for work in row.works],
    }


def _work_json(work: WorkRow) -> dict[str, Any]:
    return {
        "model": work.key.model,
        "revision": work.key.revision,
        "state": work.state.value,
        "reason": work.reason,
        "facts": {
            name: fact for name, fact in work.facts.items() if name not in (BASIS, CLASSES, SERIES, SOURCE, REPLACES)
        },
        "created_at": _time(work.created_at),
        "settled_at": _time(work.settled_at),
        "stages": {name: round(seconds, 3) for name, seconds in stages_in_order(work.stages).items()},
        "deliveries": [
            {
                "role": delivery.role.value,
                "form": delivery.form,
                "destination": delivery.destination,
                "state": delivery.state.value,
                "status": None if delivery.status is None else f"0x{delivery.status:04X}",
                "reason": delivery.reason,
                "attempts": delivery.attempts,
                "updated_at": _time(delivery.updated_at),
                "commitment": delivery.commitment,
            }
            for delivery in work.deliveries
        ],
    }


def _lines(row: StudyRow) -> Iterator[str]:
    """A study for people: one line, and some for each work."""
    images = f"{row.instances} objects" + (f", {row.quarantined} in quarantine" if row.quarantined else "")
    images += f", [yellow]{row.rejected} rejected[/]" if row.rejected else ""
    when = row.last_received_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    yield f"[bold]{row.study_key[:16]}[/]  last object {when}  {images}"
    if row.stopped_by is not None:
        yield f"  [yellow]{STOPPED[row.stopped_by]}[/]"
    elif not row.works:
        unrouted = "[yellow]in no rule[/]: dicomnode explain tells why"
        refused = "[yellow]rejected[/] by its sender: nothing is left to work on"
        none = refused if row.rejected else "[cyan]receiving[/]"
        yield f"  {unrouted if row.revision else none}"
    for work in row.works:
        colour = _COLOURS.get(work.state.value, "cyan")
        reason = f" ({work.reason})" if work.reason else ""
        yield f"  {work.key.model}, revision {work.key.revision}: [{colour}]{work.state.value}[/]{reason}"
        if lacking := work.facts.get(INCOMPLETE):
            yield f"    [yellow]incomplete[/]: {lacking}"
        stages = stages_in_order(work.stages).items()
        if stages:
            yield "    " + " · ".join(f"{name} {seconds:.1f} s" for name, seconds in stages)
        yield from (f"    {line}" for line in _deliveries(work).splitlines())


def _deliveries(work: WorkRow) -> str:
    lines = []
    for name in dict.fromkeys(delivery.destination for delivery in work.deliveries):
        all_rows = [delivery for delivery in work.deliveries if delivery.destination == name]
        rows = [delivery for delivery in all_rows if delivery.state is not DeliveryState.DOWNGRADED]
        confirmed = sum(delivery.state is DeliveryState.CONFIRMED for delivery in rows)
        reasons = sorted({delivery.reason for delivery in rows if delivery.reason})
        lines.append(f"{name}: {confirmed} of {len(rows)} confirmed" + (f" ({', '.join(reasons)})" if reasons else ""))
        pledged = Counter(row.commitment.value for row in rows if row.commitment is not None)
        if pledged:
            counts = ", ".join(f"{count} {state}" for state, count in sorted(pledged.items()))
            lines.append(f"{name}: storage commitment: {counts}")
        lines += [f"{name}: {line}" for line in _warnings(rows)]
        lines += [f"{name}: {line}" for line in _downgrades(work, name, rows)]
    if outcome := work.facts.get("outcome"):
        lines.append(f"told why there are no results: {outcome}")
    if same := work.facts.get(SAME_AS):
        lines.append(f"nothing new for the model: its results are those of revision {same}")
    if rejected := work.facts.get(REJECTED):
        lines.append(f"images that it was made of were rejected: {rejected}")
    if standing := work.facts.get(STANDING):
        lines.append(f"its results are still at {standing}, where no rejection note goes: reject them there")
    if noted := work.facts.get(NOTED):
        lines.append(f"taken behind newer ones, and retracted there: {noted}")
    if retraction := work.facts.get(RETRACTION):
        lines.append(f"retraction: {_RETRACTIONS.get(str(retraction), retraction)}")
    if not lines and work.state.value == "done":
        return "no destination configured; results stay sealed"
    return "\n".join(lines)


def _warnings(rows: list[DeliveryRow]) -> Iterator[str]:
    """With what remarks a destination took objects."""
    for row in rows:
        if row.state is DeliveryState.CONFIRMED and row.status and classify(row.status) is StatusKind.WARNING:
            yield f"{row.role.value} taken with a warning, 0x{row.status:04X}: {WARNINGS.get(row.status, 'see the peer')}"


def _downgrades(work: WorkRow, name: str, rows: list[DeliveryRow]) -> Iterator[str]:
    """What a destination did not take, and what it got instead."""
    sent = ", ".join(f"{row.role.value} as {row.form.partition('+')[0]}" for row in rows if row.form)
    prefix = f"downgraded.{name}."
    for fact, form in work.facts.items():
        if fact.startswith(prefix):
            yield f"does not take {fact.removeprefix(prefix)} as {form}; sent: {sent or 'nothing'}"


def _counted(rows: Sequence[StudyRow]) -> Iterator[str]:
    """How many of the studies shown went to each destination in other forms than were wished."""
    facts = Counter(
        (*fact.removeprefix("downgraded.").rsplit(".", 1), form)
        for row in rows
        for work in row.works
        for fact, form in work.facts.items()
        if fact.startswith("downgraded.")
    )
    for (destination, role, form), count in sorted(facts.items()):
        times = "once" if count == 1 else f"{count} times"
        yield f"{destination} did not take {role} as {form}: {times} in the studies above"


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
