"""The rules of routing, joined to what they read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset

from dicomnode.config import Config, ConfigErrors
from dicomnode.encoded import read_dataset, read_head
from dicomnode.routing_rules import RoutingRule, faults_of_rules
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage import audit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import OrderRow
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, RecordMetadata
from dicomnode.workflow.damage import lost
from dicomnode.workflow.orders import EXPORT
from dicomnode.workflow.provenance import guard_of
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.router import Read, Router
from dicomnode.workflow.routing import OWN
from dicomnode.workflow.standing import Standing

#: Bytes of an instance in which rules look for attributes: what may be of any length is not read whole to be routed.
HEAD_BYTES: Final = 4 * 1024 * 1024


class Routing:
    """The rules of a node: where a study goes, whether it is worked on, and its exports ordered in their name.

    Parameters
    ----------
    router
        Decides where to.
    standing
        Decides whether at all.
    state, ledger
        Where the audit trail lies, and the orders.
    """

    def __init__(self, router: Router, standing: Standing, state: Path, ledger: Ledger) -> None:
        self.route = router.route
        self.looks_beside = router.looks_beside
        self.judge = standing.judge
        self._state = state
        self._ledger = ledger

    def order_export(self, connection: Any, study_key: str, export: str, rules: Sequence[str]) -> None:
        """Order an export in a transaction of the ledger; audited before, as what people order.

        Raises
        ------
        StorageError
            Where ledger or audit trail refuse: nothing is ordered.
        """
        at = rooms.now()
        named = {"destination": export, "rules": ",".join(rules)}
        audit.append(self._state, f"order-{EXPORT}", at, study_key=study_key, **named)
        order = OrderRow(verb=EXPORT, study_key=study_key, destination=export, at=at)
        self._ledger.give_order(order, connection=connection)


def open_routing(tree: Config, spool: Spool, ledger: Ledger, models: tuple[str, ...], key: bytes) -> Routing:
    """The rules of a node with this derivation key.

    Raises
    ------
    ConfigErrors
        Where a rule names a model that is not enabled.
    """
    standing = Standing(ledger, tree.flood_guard, clock=rooms.now)
    router = open_router(tree, spool, ledger, models, key, is_watched=standing.is_watched)
    return Routing(router, standing, Layout.of(tree).state, ledger)


def open_router(
    tree: Config,
    spool: Spool,
    ledger: Ledger,
    models: tuple[str, ...],
    key: bytes,
    *,
    is_watched: Callable[[str], bool] = lambda _: False,
    read: Read | None = None,
) -> Router:
    """Router over what was received; `read` opens it, if in another way than the node does (`reader_of_heads`).

    Raises
    ------
    ConfigErrors
        Where a rule names a model that is not enabled.
    """
    prove_rules(tree, models)
    limit, guard = tree.flood_guard.maximum_age_days, guard_of(tree, key)
    return Router(
        tree.rules,
        models,
        read=read or reader_of_heads(tree, spool),
        maximum_age_days=limit,
        is_watched=is_watched,
        came=lambda study_key: ledger.instances(study_key, None),
        lost=lambda study_key: lost(ledger, study_key),
        is_own=lambda header: guard.refusal(header) == OWN,
    )


def reader(tree: Config, spool: Spool) -> Read:
    """Opens instances that were received."""
    limits = limits_of(tree)

    def read(row: InstanceRow) -> tuple[RecordMetadata, Dataset]:
        metadata, encoded = spool.read(row.study_key, row.address)
        return metadata, read_dataset(encoded, metadata.transfer_syntax_uid, limits)

    return read


def reader_of_heads(tree: Config, spool: Spool) -> Read:
    """As `reader`, in bounded memory: of what is longer than `HEAD_BYTES`, what stands whole in these and before the pixels."""
    limits = limits_of(tree)

    def read(row: InstanceRow) -> tuple[RecordMetadata, Dataset]:
        metadata, head = spool.head(row.study_key, row.address, HEAD_BYTES)
        decode = read_dataset if len(head) == metadata.length else read_head
        return metadata, decode(head, metadata.transfer_syntax_uid, limits)

    return read


def prove_rules(tree: Config, models: tuple[str, ...]) -> None:
    """Raise ConfigErrors where a rule names a model that is not there: it would wait for it for ever."""
    destinations, exports = ([one.name for one in places] for places in (tree.destinations, tree.exports))
    problems = tuple(faults_of_rules(tree.rules, destinations, models, exports))
    if problems:
        raise ConfigErrors(problems)


def describe_rule(rule: RoutingRule) -> str:
    """What a rule does, in one line."""
    asked = (*RoutingRule.model_fields,)[1:9]
    conditions = [name for name in asked if getattr(rule, name) not in ((), 100)]
    takes = f"{rule.name}: by {', '.join(conditions)}" if conditions else f"{rule.name}: everything"
    if rule.action == "ignore":
        return f"{takes}; is ignored"
    models = "all models" if rule.models is None else ", ".join(rule.models) or "no model"
    to = "all destinations" if rule.destinations is None else ", ".join(rule.destinations) or "no destination"
    export = f", whole studies to the export {rule.export}" if rule.export is not None else ""
    return f"{takes}; to {models}, results to {to}{export}, {rule.priority or 'as urgent as its sender'}"
