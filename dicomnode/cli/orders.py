"""`dicomnode status`, `retry`, `cancel`, `reprocess`, `release`, `export`: how deliveries stand, and what is to become of a study."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from dicomnode.cli.options import ConfigOption, StateOption, read_config
from dicomnode.cli.reasons import what_and_what_to_do
from dicomnode.config import Config
from dicomnode.errors import REASONS
from dicomnode.sections import Destination, Export
from dicomnode.source_sections import Source
from dicomnode.study import STOPPING, CircuitState, DeliveryState, Mark, WorkRow, WorkState

if TYPE_CHECKING:
    from dicomnode.storage.rows import CircuitRow, OrderRow
    from dicomnode.workflow.lateness import Late

_out = Console(highlight=False)
#: Why nothing is made of studies, and what ends that.
_STOPPED = {
    Mark.FLOOD: "too many old ones at a time (flood_guard.burst_studies); nothing is made of them until "
    "dicomnode release --flood, or cancel --flood",
    Mark.OLD: "older than flood_guard.maximum_age_days; nothing is made of each until dicomnode release",
    Mark.CANCELLED: "cancelled; nothing is made of each, whatever comes of it, until dicomnode release or reprocess",
}
_COLOURS = {CircuitState.CLOSED: "green", CircuitState.HALF_OPEN: "yellow", CircuitState.OPEN: "red"}

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="study key, or its beginning, as `dicomnode studies` lists it")
]
NoStudyArgument = Annotated[
    str | None, typer.Argument(metavar="STUDY", help="study key, or its beginning, as `dicomnode studies` lists it")
]
FloodOption = Annotated[bool, typer.Option("--flood", help="all studies that are held as a flood of old ones")]
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
    """Show for each destination whether results are sent, what waits, what hangs, is held, failed or could not be delivered (exit status 1 if anything wants somebody)."""
    from dicomnode.service.status import read_traffic

    tree = read_config(config_file, state)
    told = traffic_json(tree, read_traffic(tree, limit))
    if json_output:
        _out.out(json.dumps(told, indent=2), highlight=False)
    else:
        for line in _lines(told):
            _out.print(line, soft_wrap=True)
    if wants_somebody(told):
        raise typer.Exit(1)


def wants_somebody(told: dict[str, Any]) -> bool:
    """Whether something stays as it is until a person sees to it; studies past an age that the site set are as it wishes."""
    left_alone = any(one["circuit"] == CircuitState.OPEN for one in told["destinations"])
    wanting = any(told[name] for name in ("stalled", "late", "dead_letters", "held", "failed"))
    failing = any(one["late"] for one in told["orders"])
    return bool(left_alone or wanting or failing or told["stopped"][Mark.FLOOD])


def traffic_json(tree: Config, traffic: Any) -> dict[str, Any]:
    """How deliveries stand as plain values."""
    known = {one.name: one for one in tree.destinations}
    exports = {one.name: one for one in tree.exports}
    names = dict.fromkeys([*known, *(row.destination for row in traffic.backlog)])
    return {
        "destinations": [_destination(name, known.get(name), traffic) for name in names],
        "stalled": [dict(one) for one in traffic.stalled],
        "late": [_late(one) for one in (*traffic.still, *_late_works(tree, traffic))],
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
        "held": [_work(one) for one in traffic.held],
        "failed": [_work(one) for one in traffic.failed],
        "stopped": {mark.value: len(traffic.marked.get(mark, ())) for mark in sorted(STOPPING)},
        "stopped_since": {mark.value: _time(times[0]) for mark, times in traffic.marked.items() if times},
        "sources": [_source(one, traffic) for one in tree.sources],
        "orders": [_given(one, exports.get(one.destination), tree, traffic.believed) for one in traffic.orders],
    }


def _late_works(tree: Config, traffic: Any) -> Iterator[Late]:
    from dicomnode.workflow.lateness import late

    taken = {row.destination: row.changed for row in traffic.backlog if row.state is DeliveryState.CONFIRMED}
    return late(
        traffic.delivering,
        {one.name: one for one in tree.destinations},
        circuits=traffic.circuits,
        taken=taken,
        stat=traffic.stat,
        settings=tree.delivery,
        now=traffic.believed.astimezone(),
    )


def _late(one: Late) -> dict[str, Any]:
    return {
        "study": one.key.study_key,
        "model": one.key.model,
        "revision": one.key.revision,
        "state": one.state.value,
        "destination": one.destination,
        "objects": one.objects,
        "reason": one.reason,
        "since": _time(one.since),
    }


def _destination(name: str, known: Destination | None, traffic: Any) -> dict[str, Any]:
    from dicomnode.workflow.paces import seconds_until

    circuit: CircuitRow | None = traffic.circuits.get(name)
    rows = [row for row in traffic.backlog if row.destination == name]
    counts = {row.state: row for row in rows if not row.is_held}
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
        "held_objects": sum(row.objects for row in rows if row.is_held),
        **{
            state.value: counts[state].objects if state in counts else 0
            for state in (DeliveryState.CONFIRMED, DeliveryState.REFUSED, DeliveryState.CANCELLED)
        },
    }


def _given(order: OrderRow, export: Export | None, tree: Config, now: datetime) -> dict[str, Any]:
    """An order that is not carried out yet; one to export waits for the hours of its export, too, and is late like results."""
    from dicomnode.workflow.lateness import longest_wait
    from dicomnode.workflow.orders import EXPORT
    from dicomnode.workflow.paces import seconds_until

    hours = export.hours if export is not None and order.verb == EXPORT else ()
    return {
        "verb": order.verb,
        "study": order.study_key,
        "destination": order.destination or None,
        "at": _time(order.at),
        "failed_since": _time(order.failed_at),
        "late": order.failed_at is not None and (now - order.failed_at).total_seconds() > longest_wait(tree.delivery),
        "sent_in_seconds": seconds_until(hours, datetime.now().astimezone()),
    }


def _work(work: WorkRow) -> dict[str, Any]:
    return {
        "study": work.key.study_key,
        "model": work.key.model,
        "revision": work.key.revision,
        "reason": work.reason,
        "made_at": _time(work.created_at),
    }


def _source(source: Source, traffic: Any) -> dict[str, Any]:
    """How a source that is asked for priors and missing images fares."""
    from dicomnode.workflow.sources import circuit_of

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
        held = f"{one['held_objects']} held, " if one["held_objects"] else ""
        yield (
            f"  {one['waiting_objects']} objects of {one['waiting_works']} works wait{oldest}; "
            f"{held}{one['confirmed']} confirmed, {one['refused']} dead letters, {one['cancelled']} cancelled"
        )
    for one in told["sources"]:
        about = f": {one['reason']}; asked again {one['asked_at']}" if one["asked_at"] else ""
        colour = _COLOURS[CircuitState(one["circuit"])]
        yield f"source [bold]{one['name']}[/] ({escape(one['peer'])}): circuit [{colour}]{one['circuit']}[/]{about}"
    for one in told["stalled"]:
        whose = "".join(f", {name} {fact}" for name, fact in one.items() if name not in ("thread", "since"))
        yield f"[red]stalled[/] thread {escape(one['thread'] + whose)} has hung since {one['since']}"
    yield from _late_lines(told["late"])
    for one in told["dead_letters"]:
        answer = f", the peer said {one['status']}" if one["status"] else ""
        yield (
            f"[red]dead letter[/] {one['study'][:16]} {one['model']}, revision {one['revision']}: {one['role']} to "
            f"{one['destination']}: {one['reason']}{answer}, {one['attempts']} tries"
        )
    for word, colour in (("held", "yellow"), ("failed", "red")):
        for one in told[word]:
            about = f"revision {one['revision']}, made {one['made_at']}: {one['reason']}"
            yield f"[{colour}]{word}[/] {one['study'][:16]} {one['model']}, {about}"
    for mark, count in told["stopped"].items():
        if count:
            yield f"[yellow]{count} studies[/] since {told['stopped_since'][mark]}: {_STOPPED[Mark(mark)]}"
    wanting = (*told["late"], *told["dead_letters"], *told["held"], *told["failed"])
    codes = {one["reason"] for one in wanting if one["reason"] in REASONS} | {"thread-stalled" for _ in told["stalled"]}
    for code in sorted(codes):
        yield f"[bold]{code}[/]: {what_and_what_to_do(code)}"
    yield from map(_order_line, told["orders"])


def _order_line(one: dict[str, Any]) -> str:
    to = f" to {one['destination']}" if one["destination"] else ""
    shut = (
        f", outside its hours, in {one['sent_in_seconds'] / 3600:.1f} h unless STAT" if one["sent_in_seconds"] else ""
    )
    since = one["failed_since"]
    failing = f"; [red]its tries fail[/] since {since}: export.failed in the log says why" if since else ""
    return f"[cyan]ordered[/] {one['verb']} of {one['study'][:16]}{to}; the node does so when it runs{shut}{failing}"


def _late_lines(late: list[dict[str, Any]]) -> Iterator[str]:
    """Each work that is late; those that wait for their turn are many, and told as one."""
    queued = [one["since"] for one in late if one["state"] == WorkState.QUEUED]
    if queued:
        yield f"[red]late[/] {len(queued)} works wait for their turn, the first since {queued[0]}"
    for one in late:
        about = f"[red]late[/] {one['study'][:16]} {one['model']}, revision {one['revision']}"
        why = f": {one['reason']}" if one["reason"] else ""
        if one["destination"] is not None:
            objects = f"{one['objects']} objects wait for {one['destination']}"
            yield f"{about}: {objects} since {one['since']}, which is not left alone{why}"
        elif one["state"] != WorkState.QUEUED:
            yield f"{about}: {one['state']} since {one['since']}, longer than any stage lasts"


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
    study: NoStudyArgument = None,
    model: ModelOption = None,
    destination: DestinationOption = None,
    config_file: ConfigOption = None,
    state: StateOption = None,
    *,
    flood: FloodOption = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Work on a study no further, whatever still comes of it, and deliver no more of it; dead letters of it are settled. What a destination has, it keeps."""
    _prove_one_or_flood(study, flood=flood and not (model or destination))
    if not yes:
        typer.confirm(f"Cancel what is under way of {'the flood' if study is None else 'study ' + study}?", abort=True)
    _order("cancel", study, model, destination, read_config(config_file, state))


def reprocess(study: StudyArgument, config_file: ConfigOption = None, state: StateOption = None) -> None:
    """Work on a study anew, with the models and settings of now; its results name those before as predecessors."""
    _order("reprocess", study, None, None, read_config(config_file, state))


def release(
    study: NoStudyArgument = None,
    model: ModelOption = None,
    config_file: ConfigOption = None,
    state: StateOption = None,
    *,
    flood: FloodOption = False,
) -> None:
    """Deliver results that are held; have a study worked on of which nothing is made: held as old, or cancelled."""
    _prove_one_or_flood(study, flood=flood and not model)
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


def _prove_one_or_flood(study: str | None, *, flood: bool) -> None:
    if (study is None) is not flood:
        raise typer.BadParameter("name a STUDY, or --flood alone")


def _order(verb: str, study: str | None, model: str | None, destination: str | None, tree: Config) -> None:
    """Order something of a study; None: of every study of a flood."""
    from dicomnode.service.ordering import give_order, give_order_to_flood

    if study is None:
        count = give_order_to_flood(tree, verb)
        _out.print(
            f"[green]ordered[/] {verb} of {count} studies; the node does so within seconds, or at its next start"
        )
        return
    works = give_order(tree, verb, study, model=model, destination=destination)
    if not works:
        _out.print(f"[green]ordered[/] {verb} of {escape(study)}, of which nothing is under way", soft_wrap=True)
    for work in works:
        where = f" to {destination}" if destination else ""
        _out.print(
            f"[green]ordered[/] {verb} of {work.key.model}, revision {work.key.revision}{where}: now {work.state.value}",
            soft_wrap=True,
        )
    _out.print("The node does so within seconds, or at its next start: see dicomnode studies and dicomnode status")


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone().isoformat(timespec="seconds")
