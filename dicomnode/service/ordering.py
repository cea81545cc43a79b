"""Orders for a node, running or not: what one would be about, its line in the audit trail, and its place in the ledger."""

from __future__ import annotations

import os

from dicomnode.config import Config
from dicomnode.errors import ConfigError
from dicomnode.service.rooms import Layout, now, require_state
from dicomnode.storage import audit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import OrderRow
from dicomnode.study import Mark, StudyRow, WorkRow
from dicomnode.workflow.orders import EXPORT, Verb, concerned, is_of_any_use


def give_order(
    tree: Config, verb: str, study_key: str, *, model: str | None = None, destination: str | None = None
) -> tuple[WorkRow, ...]:
    """Leave an order for the node, which carries it out within seconds, or at its next start; the same again is one order.

    Parameters
    ----------
    verb
        A value of `workflow.orders.Verb`.
    study_key
        Or the beginning of one, as `dicomnode studies` shows it.
    model, destination
        Only of this model, only for this destination; None: of and for all.

    Returns
    -------
    tuple
        Works that it is about as they stand now.

    Raises
    ------
    ConfigError
        ``state-not-found``; ``study-not-found`` where none or several begin so; ``order-empty`` where there is nothing to do.
    StorageError
        ``ledger-failed``, ``storage-failed``; ``sealed-damaged`` where the audit trail was changed.
    """
    with _ledger(tree) as ledger:
        study = _study(ledger, study_key)
        order = OrderRow(
            verb=Verb(verb).value, study_key=study.study_key, model=model or "", destination=destination or "", at=now()
        )
        if not is_of_any_use(study, order, ledger.orders()):
            raise ConfigError("order-empty", works=len(study.works))
        _give(tree, ledger, order)
    return concerned(study, order)


def give_order_to_flood(tree: Config, verb: str) -> int:
    """Leave the same order for every study that is held as one of a flood of old ones; how many. Errors as `give_order`."""
    with _ledger(tree) as ledger:
        held = ledger.marked((Mark.FLOOD,))
        if not held:
            raise ConfigError("order-empty", works=0)
        for study_key, _ in held:
            _give(tree, ledger, OrderRow(verb=Verb(verb).value, study_key=study_key, at=now()))
    return len(held)


def give_export(tree: Config, study_key: str, export: str) -> str:
    """Leave an order to export a study; the same again is one order. Errors as `give_order`.

    Returns
    -------
    str
        Key of the study.

    Raises
    ------
    ConfigError
        ``destination-not-found`` where no export has this name.
    """
    if export not in {one.name for one in tree.exports}:
        raise ConfigError("destination-not-found", exports=len(tree.exports))
    with _ledger(tree) as ledger:
        study = _study(ledger, study_key)
        _give(tree, ledger, OrderRow(verb=EXPORT, study_key=study.study_key, destination=export, at=now()))
    return study.study_key


def _ledger(tree: Config) -> Ledger:
    layout = Layout.of(tree)
    require_state(layout)
    if not layout.ledger.exists():
        raise ConfigError("study-not-found", studies=0)
    return Ledger.open(layout.ledger)


def _study(ledger: Ledger, study_key: str) -> StudyRow:
    found = ledger.study_keys(study_key)
    study = ledger.study(found[0]) if len(found) == 1 else None
    if study is None:
        raise ConfigError("study-not-found", studies=len(found))
    return study


def _give(tree: Config, ledger: Ledger, order: OrderRow) -> None:
    """Audited before it is given: who, of which study, to where."""
    facts = {"model": order.model, "destination": order.destination}
    audit.append(
        Layout.of(tree).state,
        f"order-{order.verb}",
        now(),
        study_key=order.study_key,
        uid=os.getuid(),
        **{name: value for name, value in facts.items() if value},
    )
    ledger.give_order(order)
