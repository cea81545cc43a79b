"""`dicomnode status`, `retry`, `cancel`, `reprocess`, `release`, `export`: how deliveries stand, and what is to become of a study."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from dicomnode.cli.options import ConfigOption, StateOption, read_config
from dicomnode.cli.reasons import what_and_what_to_do
from dicomnode.config import Config
from dicomnode.errors import REASONS
from dicomnode.sections import Destination, Source
from dicomnode.storage.rows import CircuitRow
from dicomnode.study import CircuitState, DeliveryState
from dicomnode.workflow.paces import seconds_until
from dicomnode.workflow.sources import circuit_of

_out = Console(highlight=False)
_COLOURS = {CircuitState.CLOSED: "green", CircuitState.HALF_OPEN: "yellow", CircuitState.OPEN: "red"}

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="study key, or its beginning, as `dicomnode studies` lists it")
]
ModelOption = Annotated[str | None, typer.Option(help="of this model alone; default: of all")]
DestinationOption = Annotated[str | None, typer.Option(help="for this destination alone; default: for all")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (status, retry, cancel, reprocess, release, export):
        app.command()(command)


def status(
    json_output: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="dead letters that are listed, newest first")] = 20,
    config_file: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Show for each destination whether results are sent, what waits, and what could not be delivered (exit status 1 if one is left alone or there are dead letters)."""
    from dicomnode.service.status import read_traffic

    tree = read_config(config_file, state)
    told = traffic_json(tree, read_traffic(tree, limit))
    if json_output:
        _out.out(json.dumps(told, indent=2), highlight=False)
    else:
        for line in _lines(told):
            _out.print(line, soft_wrap=True)
    if told["dead_letters"] or any(one["circuit"] == CircuitState.OPEN for one in told["destinations"]):
        raise typer.Exit(1)


def traffic_json(tree: Config, traffic: Any) -> dict[str, Any]:
    """How deliveries stand as plain values."""
    known = {one.name: one for one in tree.destinations}
    names = dict.fromkeys([*known, *(row.destination for row in traffic.backlog)])
    return {
        "destinations": [_destination(name, known.get(name), traffic) for name in names],
        "dead_letters": [
            {
                "study": key.study_key,
                "model": key.model,
                "revision": key.revision,
                "destination": row.destination,
                "role": row.role.value,
                "status": None if row.status is None else f"0x{row.status:04X}",
                "reason": row.reason,
                "attempts": row.attempts,
                "at": _time(row.updated_at),
            }
            for key, row in traffic.dead
        ],
        "sources": [_source(one, traffic) for one in tree.sources],
        "orders": [{"verb": one.verb, "study": one.study_key, "at": _time(one.at)} for one in traffic.orders],
    }


def _destination(name: str, known: Destination | None, traffic: Any) -> dict[str, Any]:
    circuit: CircuitRow | None = traffic.circuits.get(name)
    counts = {row.state: row for row in traffic.backlog if row.destination == name}
    waiting = counts.get(DeliveryState.WAITING)
    return {
        "name": name,
        "peer": known.peer if known else None,
        "sent_in_seconds": seconds_until(known.hours, datetime.now().astimezone()) if known else 0,
        "circuit": (circuit.state if circuit else CircuitState.CLOSED).value,
        "reason": circuit.reason if circuit else None,
        "since": _time(circuit.since) if circuit else None,
        "asked_at": _time(circuit.due_at) if circuit else None,
        "waiting_objects": waiting.objects if waiting else 0,
        "waiting_works": waiting.works if waiting else 0,
        "oldest_waiting": _time(waiting.oldest) if waiting else None,
        **{
            state.value: counts[state].objects if state in counts else 0
            for state in (DeliveryState.CONFIRMED, DeliveryState.REFUSED, DeliveryState.CANCELLED)
        },
    }


def _source(source: Source, traffic: Any) -> dict[str, Any]:
    """How a source that is asked for priors and missing images fares."""
    circuit: CircuitRow | None = traffic.circuits.get(circuit_of(source.name))
    return {
        "name": source.name,
        "peer": source.peer,
        "circuit": (circuit.state if circuit else CircuitState.CLOSED).value,
        "reason": circuit.reason if circuit else None,
        "asked_at": _time(circuit.due_at) if circuit else None,
    }


def _lines(told: dict[str, Any]) -> Iterator[str]:
    for one in told["destinations"]:
        state = CircuitState(one["circuit"])
        about = f" since {one['since']}: {one['reason']}; asked again {one['asked_at']}" if one["asked_at"] else ""
        place = f" ({escape(one['peer'])})" if one["peer"] else " (no longer configured)"
        yield f"[bold]{one['name']}[/]{place}: circuit [{_COLOURS[state]}]{state.value}[/]{about}"
        if one["sent_in_seconds"]:
            yield f"  outside its hours; all but STAT goes in {one['sent_in_seconds'] / 3600:.1f} h"
        oldest = f", the oldest since {one['oldest_waiting']}" if one["oldest_waiting"] else ""
        yield (
            f"  {one['waiting_objects']} objects of {one['waiting_works']} works wait{oldest}; "
            f"{one['confirmed']} confirmed, {one['refused']} dead letters, {one['cancelled']} cancelled"
        )
    for one in told["sources"]:
        about = f": {one['reason']}; asked again {one['asked_at']}" if one["asked_at"] else ""
        colour = _COLOURS[CircuitState(one["circuit"])]
        yield f"source [bold]{one['name']}[/] ({escape(one['peer'])}): circuit [{colour}]{one['circuit']}[/]{about}"
    for one in told["dead_letters"]:
        answer = f", the peer said {one['status']}" if one["status"] else ""
        yield (
            f"[red]dead letter[/] {one['study'][:16]} {one['model']}, revision {one['revision']}: {one['role']} to "
            f"{one['destination']}: {one['reason']}{answer}, {one['attempts']} tries"
        )
    for code in sorted({one["reason"] for one in told["dead_letters"] if one["reason"] in REASONS}):
        yield f"[bold]{code}[/]: {what_and_what_to_do(code)}"
    for one in told["orders"]:
        yield f"[cyan]ordered[/] {one['verb']} of {one['study'][:16]}; the node does so when it runs"


def retry(
    study: StudyArgument,
    model: ModelOption = None,
    destination: DestinationOption = None,
    config_file: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Deliver again what was refused, given up or cancelled, and try now what waits; bytes and UIDs are the same."""
    _order("retry", study, model, destination, read_config(config_file, state))


def cancel(
    study: StudyArgument,
    model: ModelOption = None,
    destination: DestinationOption = None,
    config_file: ConfigOption = None,
    state: StateOption = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Work on a study no further and deliver no more of it; dead letters of it are settled. What a destination has, it keeps."""
    if not yes:
        typer.confirm(f"Cancel what is under way of study {study}?", abort=True)
    _order("cancel", study, model, destination, read_config(config_file, state))


def reprocess(study: StudyArgument, config_file: ConfigOption = None, state: StateOption = None) -> None:
    """Work on a study anew, with the models and settings of now; its results name those before as predecessors."""
    _order("reprocess", study, None, None, read_config(config_file, state))


def release(
    study: StudyArgument, model: ModelOption = None, config_file: ConfigOption = None, state: StateOption = None
) -> None:
    """Deliver results that are held."""
    _order("release", study, model, None, read_config(config_file, state))


def export(
    study: StudyArgument,
    to: Annotated[str, typer.Option(metavar="NAME", help="name of one of the configuration's exports")],
    config_file: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """De-identify a study by the policy `export` and send it to a research destination, or into its folder; audited."""
    from dicomnode.service.ordering import give_export

    key = give_export(read_config(config_file, state), study, to)
    _out.print(f"[green]ordered[/] export of {key[:16]} to {to}", soft_wrap=True)
    _out.print(
        "The node does so within seconds, or at its next start; how many left and how many were withheld and why"
    )
    _out.print("stands in its log (export.done, export.withheld) and in the audit trail")


def _order(verb: str, study: str, model: str | None, destination: str | None, tree: Config) -> None:
    from dicomnode.service.ordering import give_order

    for work in give_order(tree, verb, study, model=model, destination=destination):
        where = f" to {destination}" if destination else ""
        _out.print(
            f"[green]ordered[/] {verb} of {work.key.model}, revision {work.key.revision}{where}: now {work.state.value}",
            soft_wrap=True,
        )
    _out.print("The node does so within seconds, or at its next start: see dicomnode studies and dicomnode status")


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone().isoformat(timespec="seconds")
