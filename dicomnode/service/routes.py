"""The rules of routing, joined to what they read."""

from __future__ import annotations

from pydicom import Dataset

from dicomnode.config import Config, ConfigErrors
from dicomnode.encoded import read_dataset
from dicomnode.routing_rules import RoutingRule, faults_of_rules
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, RecordMetadata
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.router import Read, Router


def open_router(tree: Config, spool: Spool, models: tuple[str, ...]) -> Router:
    """Router over what was received.

    Raises
    ------
    ConfigErrors
        Where a rule names a model that is not enabled.
    """
    prove_rules(tree, models)
    limit = tree.flood_guard.maximum_age_days
    return Router(tree.rules, models, read=reader(tree, spool), maximum_age_days=limit)


def reader(tree: Config, spool: Spool) -> Read:
    """Opens instances that were received."""
    limits = limits_of(tree)

    def read(row: InstanceRow) -> tuple[RecordMetadata, Dataset]:
        metadata, encoded = spool.read(row.study_key, row.address)
        return metadata, read_dataset(encoded, metadata.transfer_syntax_uid, limits)

    return read


def prove_rules(tree: Config, models: tuple[str, ...]) -> None:
    """Raise ConfigErrors where a rule names a model that is not there: it would wait for it for ever."""
    problems = tuple(faults_of_rules(tree.rules, [one.name for one in tree.destinations], models))
    if problems:
        raise ConfigErrors(problems)


def describe_rule(rule: RoutingRule) -> str:
    """What a rule does, in one line."""
    asked = (*RoutingRule.model_fields,)[1:9]
    conditions = [name for name in asked if getattr(rule, name) not in ((), 100)]
    takes = f"{rule.name}: by {', '.join(conditions)}" if conditions else f"{rule.name}: everything"
    if rule.action == "ignore":
        return f"{takes}; is ignored"
    models = "all models" if rule.models is None else ", ".join(rule.models)
    to = "all destinations" if rule.destinations is None else ", ".join(rule.destinations) or "no destination"
    return f"{takes}; to {models}, results to {to}, {rule.priority or 'as urgent as its sender'}"
