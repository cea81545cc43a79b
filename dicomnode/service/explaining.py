"""Opens what a node has received, read-only and beside it, and has studies explained: `dicomnode explain`, `replay`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from dicomnode.config import Config
from dicomnode.errors import ConfigError
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.service.routes import open_router, reader, reader_of_heads
from dicomnode.storage import audit
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.storage.writer import WriteMode
from dicomnode.study import InstanceRow, InstanceState, StudyRow, World, blind_key
from dicomnode.workflow.explaining import NOTE, Explainer, StudyExplained, without_waiting
from dicomnode.workflow.inputs import beside, inputs
from dicomnode.workflow.orders import EXPORT
from dicomnode.workflow.provenance import guard_of

#: Nothing is written, so no trial is made of how.
_UNWRITTEN: Final = WriteMode("append", 4096)


class Looking:
    """A state folder, looked at; nothing is made or changed.

    Parameters
    ----------
    tree
        Configuration with its state folder filled in.
    environment
        The process's environment, for the keys.

    Raises
    ------
    ConfigError
        ``state-not-found``.
    KeyStoreError
        When keys are missing or wrong.
    StorageError
        If the ledger cannot be read.
    """

    def __init__(self, tree: Config, environment: Mapping[str, str]) -> None:
        layout = Layout.of(tree)
        self._state = layout.state
        rooms.require_state(layout)
        if not layout.ledger.exists():
            raise ConfigError("study-not-found", studies=0)
        with ExitStack() as stack:
            self._ring = rooms.open_key_ring(tree, layout, environment, create=False)
            self._ledger = stack.enter_context(Ledger.open_read_only(layout.ledger))
            quiet = tree.intake.model_copy(update={"prepared_bytes": 0, "maximum_spool_bytes": 0})
            self._keys = DataKeys(self._ledger, self._ring)
            self._spool = stack.enter_context(Spool(layout.spool, quiet, self._keys, write_mode=_UNWRITTEN))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """It itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go of it."""
        self._stack.close()

    def study_key(self, given: str) -> str:
        """Key of a study, out of its beginning or of a Study Instance UID.

        Raises
        ------
        ConfigError
            ``study-not-found`` where none or several fit.
        """
        beginning = blind_key(self._ring.derivation, "study", given) if "." in given else given
        found = self._ledger.study_keys(beginning)
        if len(found) != 1:
            raise ConfigError("study-not-found", studies=len(found))
        return found[0]

    def study(self, study_key: str) -> StudyRow:
        """What the ledger says of a study.

        Raises
        ------
        ConfigError
            ``study-not-found``.
        KeyStoreError
            ``key-missing`` where it was shredded.
        """
        found = self._ledger.study(study_key)
        if found is None:
            raise ConfigError("study-not-found", studies=0)
        self._keys.get(study_key, World.IDENTITY)
        return found

    def since(self, moment: datetime) -> tuple[str, ...]:
        """Studies that received something since a moment, the oldest first."""
        return self._ledger.studies_since(moment)

    def rank(self, study_key: str) -> str:
        """How urgent a study is by now."""
        found = self._ledger.rank_of_study(study_key)
        return "routine" if found is None else found[1]

    def sent_as(self, study_key: str) -> str:
        """How urgent the senders of a study are, whatever rules say."""
        return self._ledger.sent_as(study_key)

    def exports_by_rules(self) -> dict[str, list[tuple[datetime, str]]]:
        """By study, the exports that rules ordered, each with its time, as far as the audit trail can be read.

        Raises
        ------
        StorageError
            ``storage-failed`` where the disk refuses.
        """
        found: dict[str, list[tuple[datetime, str]]] = defaultdict(list)
        for entry in audit.events(self._state, f"order-{EXPORT}"):
            with suppress(KeyError, ValueError):  # a line that somebody changed
                if "rules" in entry:  # a person's order has none
                    at = datetime.fromisoformat(str(entry["at"])).astimezone()
                    found[str(entry["study_key"])].append((at, str(entry["destination"])))
        return found

    def explainer(self, tree: Config) -> StudyExplainer:
        """Who explains studies by a configuration, this one or another.

        Raises
        ------
        ConfigErrors
            Where its rules name a model that is not there.
        ModelError
            If its models cannot be read.
        """
        return StudyExplainer(tree, self._spool, self._ledger, self._ring.derivation)


class StudyExplainer:
    """Explains studies by one configuration."""

    def __init__(self, tree: Config, spool: Spool, ledger: Ledger, key: bytes) -> None:
        takes = {package.manifest.name: package.manifest.input for package in rooms.load_packages(tree)}
        self._sop_classes = frozenset[str]().union(*(rule.sop_classes for rule in takes.values()))
        read = without_waiting(reader(tree, spool))
        heads = without_waiting(reader_of_heads(tree, spool))
        router = open_router(tree, spool, ledger, tuple(takes), key, read=heads)
        self._explainer = Explainer(router, takes, guard=guard_of(tree, key), read=read)
        self._ledger = ledger

    def explain(self, study_key: str) -> StudyExplained | None:
        """One study; None where nothing of it counts."""
        rows = inputs(self._ledger, study_key, self._sop_classes)
        others = beside(self._ledger, study_key, rows)
        if not (rows or others):
            return None
        return replace(
            self._explainer.explain(study_key, rows, others), left_out=self._left_out(study_key, (*rows, *others))
        )

    def _left_out(self, study_key: str, judged: Sequence[InstanceRow]) -> dict[str, dict[str, int]]:
        """Series of which nothing is judged, with what became of their instances."""
        here, found = {row.series_key for row in judged}, defaultdict[str, Counter[str]](Counter)
        for row in self._ledger.instances(study_key, None):
            if row.series_key not in here:
                found[row.series_key][NOTE if row.state is InstanceState.CURRENT else row.state.value] += 1
        return {series: dict(sorted(states.items())) for series, states in sorted(found.items())}
