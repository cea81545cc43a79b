"""`dicomnode replay`: what another configuration would have done with the studies of the last days; nothing is done."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from dicomnode import config
from dicomnode.cli.options import StateOption, read_config
from dicomnode.errors import ConfigError, KeyStoreError

if TYPE_CHECKING:
    from dicomnode.workflow.replaying import Fate, Orders, Replay, ReplayedOrders

_out = Console(highlight=False)
_UNITS: Final[Mapping[str, timedelta]] = MappingProxyType(
    {
        "m": timedelta(minutes=1),
        "h": timedelta(hours=1),
        "d": timedelta(days=1),
        "w": timedelta(weeks=1),
    }
)
_MOST_DAYS: Final = 36_500


def replay(
    config_file: Annotated[Path, typer.Option("--config", "-c", help="the other configuration (TOML)")],
    since: Annotated[
        str, typer.Option(help="studies of this long: 90m, 12h, 7d, 2w, or since a date 2026-03-01")
    ] = "7d",
    json_output: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
    state: StateOption = None,
) -> None:
    """Tell what another configuration would have done with past studies; also beside a running node, and nothing is done.

    Compared are rules, models, destinations, exports and priorities that rules order, and the age of studies
    (flood_guard.maximum_age_days). Not compared: priorities of senders (`peers`), what people ordered, where an export
    leads, the brake on bursts of old studies, and studies that are shredded.
    """
    from dicomnode.service.explaining import Looking
    from dicomnode.service.rooms import now
    from dicomnode.workflow.replaying import Orders, replay_orders
    from dicomnode.workflow.replaying import replay as compare

    begin = beginning(since, now())
    tree = read_config(config_file, state)
    names = [one.name for one in tree.destinations]
    found: list[Replay] = []
    orders: list[ReplayedOrders] = []
    gone = partial = 0
    with Looking(tree, os.environ) as looking:
        explainer = looking.explainer(tree)
        keys, exports = looking.since(begin), looking.exports_by_rules()
        for key in keys:
            try:
                row = looking.study(key)
                explained = explainer.explain(key)
                found += compare(row, explained, names)
                to = frozenset(export for at, export in exports.get(key, ()) if at >= row.first_received_at)
                then = Orders(exports=to, priority=looking.rank(key))
                orders.append(replay_orders(row, explained, then, sent_as=looking.sent_as(key)))
                partial += bool(row.quarantined or row.rejected)
            except (ConfigError, KeyStoreError) as error:
                if error.code not in ("study-not-found", "key-missing"):
                    raise
                gone += 1  # shredded meanwhile
    if json_output:
        record = {"since": begin.isoformat(timespec="seconds"), "studies": len(keys), "gone": gone, "partial": partial}
        _out.out(
            json.dumps(
                {**record, "models": [_json(one) for one in found], "orders": [_orders_json(one) for one in orders]},
                indent=2,
            ),
            highlight=False,
        )
        return
    for line in _lines(found, orders, len(keys), begin, gone=gone, partial=partial):
        _out.print(line, soft_wrap=True)


def beginning(since: str, now: datetime) -> datetime:
    """Moment that an option means.

    Raises
    ------
    ConfigErrors
        If it is neither a time span nor a date.
    """
    match = re.fullmatch(r"([0-9]{1,6})([mhdw])", since)
    if match:
        span = int(match[1]) * _UNITS[match[2]]
        if span.days <= _MOST_DAYS:
            return now - span
    else:
        try:
            return datetime.fromisoformat(since).astimezone()
        except (ValueError, OverflowError):
            pass
    raise config.ConfigErrors((f"--since {since}: write 90m, 12h, 7d, 2w, or a date as in 2026-03-01",))


def _json(one: Replay) -> dict[str, Any]:
    return {
        "study": one.study_key,
        "model": one.model,
        "differs": one.differs,
        "then": {"outcome": one.then.outcome, "destinations": sorted(one.then.destinations)},
        "now": {"outcome": one.now.outcome, "destinations": sorted(one.now.destinations)},
    }


def _orders_json(one: ReplayedOrders) -> dict[str, Any]:
    sides = {"then": one.then, "now": one.now}
    said = {name: {"exports": sorted(side.exports), "priority": side.priority} for name, side in sides.items()}
    return {"study": one.study_key, "differs": one.differs, **said}


def _lines(
    found: Sequence[Replay],
    orders: Sequence[ReplayedOrders],
    studies: int,
    begin: datetime,
    *,
    gone: int,
    partial: int,
) -> Iterator[str]:
    differing = [one for one in found if one.differs]
    for one in differing:
        yield f"[bold]{one.study_key[:16]}[/]  {one.model}: {_fate(one.then)} [yellow]→[/] {_fate(one.now)}"
    for order in orders:
        then, now = order.then, order.now
        if then.exports != now.exports:
            yield f"[bold]{order.study_key[:16]}[/]  exports: {_exports(then)} [yellow]→[/] {_exports(now)}"
        if then.priority != now.priority:
            yield f"[bold]{order.study_key[:16]}[/]  priority: {then.priority} [yellow]→[/] {now.priority}"
    said = "1 study" if studies == 1 else f"{studies} studies"
    others = {one.study_key for one in differing} | {one.study_key for one in orders if one.differs}
    yield (
        f"{said} since {begin.astimezone().strftime('%Y-%m-%d %H:%M')}: {studies - len(others) - gone} as it was, {len(others)} otherwise"
        + (f", {gone} shredded since" if gone else "")
    )
    if partial:
        yield f"[yellow]{partial} judged by what is left[/]: objects of {'it' if partial == 1 else 'them'} are rejected or in quarantine"
    yield "studies that were shredded before are not here and were not judged"
    yield "priorities of senders are those that they had; what people ordered is left out"


def _exports(orders: Orders) -> str:
    return ", ".join(sorted(orders.exports)) or "none"


def _fate(fate: Fate) -> str:
    from dicomnode.workflow.replaying import NOT_ROUTED, TOO_OLD, UNDER_WAY, WORKED_ON

    if fate.outcome == WORKED_ON:
        return f"results to {', '.join(sorted(fate.destinations)) or 'no destination'}"
    said = {NOT_ROUTED: "in no rule", UNDER_WAY: "not done yet", TOO_OLD: "too old, held"}
    return said.get(fate.outcome, fate.outcome)
