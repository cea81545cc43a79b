"""`dicomnode explain`: why a study goes where it goes, for people or for programs; never a name, and no value of a header."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from dicomnode.cli.options import ConfigOption, StateOption, read_config
from dicomnode.errors import REASONS
from dicomnode.study import INCOMPLETE, StudyRow, WorkRow
from dicomnode.workflow.routing import DESTINATIONS, OWN, RULES, Judgement

if TYPE_CHECKING:
    from dicomnode.workflow.explaining import SeriesExplained, StudyExplained

_out = Console(highlight=False)
#: What stands in the way of a rule, by its setting.
_MISSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "calling_ae_titles": "another sender",
        "called_ae_titles": "the sender called another AE title",
        "addresses": "from another address",
        "modalities": "another modality",
        "hours": "at another time of day",
        "weekdays": "on another day",
        "sample_percent": "not in the sample",
        "ignored": "an earlier rule ignores it",
        OWN: "it is a result of this node or another dicomnode",
        "unreadable": "none of its first objects can be read",
    }
)


def explain(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="study key as `dicomnode studies` lists it, its beginning, or the UID"),
    ],
    json_output: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
    config_file: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Tell for every series of a study which rule takes it, which model works on it, and why not; also beside a running node.

    Series of kinds that no model takes (a report, a PET beside the CT of a CT model) are judged by rules alone.
    """
    from dicomnode.service.explaining import Looking

    tree = read_config(config_file, state)
    with Looking(tree, os.environ) as looking:
        key = looking.study_key(study)
        row, found = looking.study(key), looking.explainer(tree).explain(key)
        if json_output:
            _out.out(json.dumps(explained_json(row, found), indent=2), highlight=False)
            return
        priority = looking.rank(key) if found is None or found.route.priority is None else found.route.priority
        for line in _lines(row, found, priority):
            _out.print(line, soft_wrap=True)


def explained_json(row: StudyRow, found: StudyExplained | None) -> dict[str, Any]:
    """A study as plain values."""
    mark = (
        None if row.mark is None else {"mark": row.mark.mark.value, "since": row.mark.at.isoformat(timespec="seconds")}
    )
    base = {
        "study": row.study_key,
        "instances": row.instances,
        "quarantined": row.quarantined,
        "rejected": row.rejected,
        "mark": mark,
        "works": [_work_json(work) for work in row.works],
    }
    if found is None:
        return {**base, "series": [], "left_out": {}, "models": {}, "exports": {}, "priority": None}
    return {
        **base,
        "began_at": found.began_at.isoformat(timespec="milliseconds"),
        "priority": found.route.priority,
        "old_days": found.route.old_days,
        "models": {
            model: {
                "rules": list(share.rules),
                "destinations": None if share.destinations is None else list(share.destinations),
                "refused": found.outcomes[model],
            }
            for model, share in found.route.shares.items()
        },
        "exports": {export: list(rules) for export, rules in found.route.exports.items()},
        "series": [_series_json(one) for one in found.series],
        "left_out": {series: dict(states) for series, states in found.left_out.items()},
    }


def _work_json(work: WorkRow) -> dict[str, Any]:
    return {
        "model": work.key.model,
        "revision": work.key.revision,
        "state": work.state.value,
        "reason": work.reason,
        "incomplete": work.facts.get(INCOMPLETE),
        "rules": _split(work, RULES),
        "destinations": _split(work, DESTINATIONS),
    }


def _series_json(one: SeriesExplained) -> dict[str, Any]:
    return {
        "series": one.series_key,
        "calling_ae_title": one.calling_ae_title,
        "called_ae_title": one.called_ae_title,
        "modality": one.modality,
        "images": one.images,
        "unreadable": one.unreadable,
        "lost": dict(one.lost),
        "slice_spacing_mm": one.slice_spacing_mm,
        "extent_mm": one.extent_mm,
        "rules": {item.rule: {"taken": item.missed is None, "because": item.missed} for item in one.judgements},
        "models": dict(one.models),
        "input": one.is_input,
    }


def _split(work: WorkRow, fact: str) -> list[str] | None:
    kept = work.facts.get(fact)
    return None if kept is None else [name for name in str(kept).split(",") if name]


def _lines(row: StudyRow, found: StudyExplained | None, priority: str) -> Iterator[str]:
    """A study for people."""
    from dicomnode.cli.listing import STOPPED
    from dicomnode.workflow.explaining import NOTE

    left = {"quarantined": "in quarantine", NOTE: "rejection notes"}  # where its state does not say what became of it
    quarantined = f", {row.quarantined} in quarantine" if row.quarantined else ""
    quarantined += f", [yellow]{row.rejected} rejected by a rejection note[/]" if row.rejected else ""
    yield f"[bold]{row.study_key[:16]}[/]  {row.instances} objects{quarantined}, {priority}"
    if row.mark is not None and row.stopped_by is not None:
        yield f"[yellow]{STOPPED[row.stopped_by]}[/] (since {row.mark.at.astimezone().isoformat(timespec='seconds')})"
    if left_out := row.quarantined + row.rejected:
        yield f"[yellow]not judged[/]: {left_out} objects in quarantine or rejected; what was made before may be of them, too"
    if found is None:
        yield "  nothing of it can be worked on"
        return
    for one in found.series:
        yield from _series_lines(one)
    for series, states in found.left_out.items():
        what = ", ".join(f"{count} {left.get(state, state)}" for state, count in states.items())
        yield f"series {series[:8]}  [yellow]not judged[/]: {what}"
    for model, share in found.route.shares.items():
        code = found.outcomes[model]
        to = "all destinations" if share.destinations is None else ", ".join(share.destinations) or "no destination"
        told = f"results to {to}" if code is None else f"[yellow]{code}[/]: {_text(code)}"
        yield f"model {model}" + (f", by {', '.join(share.rules)}" if share.rules else "") + f": {told}"
    for export, by in found.route.exports.items():
        yield f"export {export}, by {', '.join(by)}: the whole study"
    if found.route.old_days is not None:
        yield f"[yellow]too old[/] by flood_guard.maximum_age_days ({found.route.old_days} days)"
    if not found.route.shares:
        yield "[yellow]no rule[/] gives it to a model"
    for work in row.works:
        yield from _work_lines(work)


def _work_lines(work: WorkRow) -> Iterator[str]:
    reason = f" ({work.reason})" if work.reason else ""
    rules = f", then by {', '.join(_split(work, RULES) or [])}" if RULES in work.facts else ""
    yield f"was worked on: {work.key.model}, revision {work.key.revision}{rules}: {work.state.value}{reason}"
    if lacking := work.facts.get(INCOMPLETE):
        yield f"  [yellow]incomplete[/]: {lacking}"


def _series_lines(one: SeriesExplained) -> Iterator[str]:
    from dicomnode.workflow.explaining import CHOSEN, NOT_GIVEN, OTHER_KIND, SECOND

    answers = {
        CHOSEN: "works on it",
        SECOND: "would work on it, but another series is better",
        NOT_GIVEN: "does not get it: no rule gives it to it",
        OTHER_KIND: "does not get it: it looks at no series of this kind",
    }
    facts = [f"{one.images} images" if one.is_input else f"{one.images} objects"]
    facts += [f"{one.unreadable} objects that cannot be read"] if one.unreadable else []
    facts += [f"{one.slice_spacing_mm:.2g} mm apart"] if one.slice_spacing_mm else []
    facts += [f"{one.extent_mm:.0f} mm long"] if one.extent_mm else []
    sender = escape(f"from {one.calling_ae_title} to {one.called_ae_title}")
    yield f"series {one.series_key[:8]}  {escape(one.modality) or 'unknown'}, {', '.join(facts)}, {sender}"
    for segment, code in one.lost.items():
        yield f"  [yellow]segment {segment}[/]: {code}: {_text(code)}"
    for item in one.judgements:
        yield f"  rule {item.rule}: {'[green]takes it[/]' if item.missed is None else _missed(item)}"
    for model, answer in one.models.items():
        said = answers.get(answer) or f"{answer}: {_text(answer)}"
        yield f"  model {model}: " + (f"[green]{said}[/]" if answer == CHOSEN else said)


def _missed(item: Judgement) -> str:
    """Why a rule does not take a series; of an attribute its keyword, never its value."""
    missed = str(item.missed)
    setting, _, keyword = missed.partition(" ")
    return f"no: {keyword} is not as the rule asks" if keyword else f"no: {_MISSED[setting]}"


def _text(code: str) -> str:
    return REASONS[code].text
