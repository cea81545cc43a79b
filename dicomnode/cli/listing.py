"""`dicomnode studies`: what the ledger knows, as a table for people or as JSON for programs; never a name."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from dicomnode.config import Config
from dicomnode.errors import REASONS
from dicomnode.service.status import read_studies
from dicomnode.study import DeliveryState, StudyRow, WorkRow, stages_in_order

_COLOURS = {"done": "green", "refused": "yellow", "failed": "red", "superseded": "dim"}


def list_studies(tree: Config, *, limit: int, as_json: bool, console: Console) -> None:
    """Print the newest studies of the state folder."""
    rows = read_studies(tree, limit)
    if as_json:
        console.out(json.dumps([study_json(row) for row in rows], indent=2), highlight=False)
        return
    if not rows:
        console.print("No study has arrived yet.")
        return
    table = Table("study", "last image", "images", "model", "state", "stages", "deliveries")
    for row in rows:
        for work in row.works or (None,):
            table.add_row(*_cells(row, work))
    console.print(table)
    for code in sorted({work.reason for row in rows for work in row.works if work.reason}):
        reason = REASONS.get(code)
        console.print(f"{code}: {reason.text}; {reason.advice}" if reason else code, soft_wrap=True)


def study_json(row: StudyRow) -> dict[str, Any]:
    """A study as plain values: keys, states, counts, seconds and statuses."""
    return {
        "study": row.study_key,
        "first_received_at": _time(row.first_received_at),
        "last_received_at": _time(row.last_received_at),
        "instances": row.instances,
        "quarantined": row.quarantined,
        "revision": row.revision,
        "works": [_work_json(work) for work in row.works],
    }


def _work_json(work: WorkRow) -> dict[str, Any]:
    return {
        "model": work.key.model,
        "revision": work.key.revision,
        "state": work.state.value,
        "reason": work.reason,
        "facts": work.facts,
        "created_at": _time(work.created_at),
        "settled_at": _time(work.settled_at),
        "stages": {name: round(seconds, 3) for name, seconds in stages_in_order(work.stages).items()},
        "deliveries": [
            {
                "role": delivery.role.value,
                "destination": delivery.destination,
                "state": delivery.state.value,
                "status": None if delivery.status is None else f"0x{delivery.status:04X}",
                "reason": delivery.reason,
                "attempts": delivery.attempts,
                "updated_at": _time(delivery.updated_at),
            }
            for delivery in work.deliveries
        ],
    }


def _cells(row: StudyRow, work: WorkRow | None) -> tuple[str, ...]:
    images = str(row.instances) + (f" (+{row.quarantined} in quarantine)" if row.quarantined else "")
    first = (row.study_key[:12], row.last_received_at.astimezone().strftime("%Y-%m-%d %H:%M:%S"), images)
    if work is None:
        return (*first, "", "receiving", "", "")
    colour = _COLOURS.get(work.state.value, "cyan")
    state = f"[{colour}]{work.state.value}[/]" + (f"\n{work.reason}" if work.reason else "")
    stages = "\n".join(f"{name} {seconds:.1f} s" for name, seconds in stages_in_order(work.stages).items())
    model = f"{work.key.model} (revision {work.key.revision})"
    return (*first, model, state, stages, _deliveries(work))


def _deliveries(work: WorkRow) -> str:
    lines = []
    for name in dict.fromkeys(delivery.destination for delivery in work.deliveries):
        rows = [delivery for delivery in work.deliveries if delivery.destination == name]
        confirmed = sum(delivery.state is DeliveryState.CONFIRMED for delivery in rows)
        reasons = sorted({delivery.reason for delivery in rows if delivery.reason})
        lines.append(f"{name}: {confirmed} of {len(rows)}" + (f" ({', '.join(reasons)})" if reasons else ""))
    if not lines and work.state.value == "done":
        return "no destination configured; results stay sealed"
    return "\n".join(lines)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
