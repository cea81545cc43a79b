"""What comes beside a study's input opens no revision; rules judge it all the same, and may order exports.

May live here: what of it was not looked at yet, and what that orders. Counted in records, as `Ledger.open_studies` counts: the
transaction that orders also settles the study with what was looked at, so that a kill leaves both or neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dicomnode.storage.ledger import Ledger
from dicomnode.study import STOPPING
from dicomnode.workflow.inputs import beside, inputs
from dicomnode.workflow.openings import RoutingPort
from dicomnode.workflow.routing import Route


@dataclass(frozen=True, slots=True)
class Latecomers:
    """Where a study goes of which more came beside its input, and the exports that this orders."""

    route: Route
    exports: Mapping[str, Sequence[str]]


def look_beside(
    ledger: Ledger,
    routing: RoutingPort,
    study_key: str,
    sop_classes: Collection[str],
    *,
    route: Route | None,
    judged: int,
) -> Latecomers | None:
    """What came beside an input that has a revision, of the first `judged` records; None: nothing, or no matter.

    Parameters
    ----------
    route
        Where the study goes, if that was decided already.
    """
    latest = ledger.latest_revision(study_key) if routing.looks_beside else None
    if latest is None or latest.records >= judged:
        return None
    rows = inputs(ledger, study_key, sop_classes)
    others = beside(ledger, study_key, rows)
    came = {row.address for row in ledger.instances(study_key, None)[latest.records : judged]}
    series = frozenset(row.series_key for row in others if row.address in came)
    if not series:
        return None
    route = route or routing.route(study_key, rows, others)
    return Latecomers(route, route.exports_of(series))


def order_late(
    connection: Any, ledger: Ledger, routing: RoutingPort, study_key: str, late: Latecomers | None
) -> Mapping[str, Sequence[str]]:
    """Order what latecomers order of a study, unless it is stopped, where no revision is opened that orders exports of all; which exports."""
    mark = ledger.mark(study_key, connection=connection)
    if late is None or (mark is not None and mark.mark in STOPPING):
        return {}
    for export, rules in late.exports.items():
        routing.order_export(connection, study_key, export, rules)
    return late.exports
