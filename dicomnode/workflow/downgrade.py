"""Destinations that cannot: what each takes is asked and remembered, and what it does not take goes in the next form.

The declared chain (`forms.CHAIN`) is followed on "not supported" alone, said of the presentation context or by the
status of a C-STORE. Every downgrade is an event, a fact of the work, and a row of its own in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from dicomnode.errors import PeerError
from dicomnode.events import Emit
from dicomnode.forms import (
    DISPENSABLE,
    SOP_CLASSES,
    Variant,
    Wishes,
    choose,
    choose_outcome,
    missed,
    sop_classes,
)
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import CapabilityRow
from dicomnode.study import FINAL_STATES, DeliveryRow, DeliveryState, ResultRole, WorkKey
from dicomnode.workflow.ports import Clock, Destination

#: Gives a work's results the forms that are asked for, and returns their names; what cannot be made is left out.
Remake = Callable[[WorkKey, Sequence[Variant]], Mapping[Variant, str]]
#: The code under which a form ends that was not taken.
NOT_TAKEN: Final = "peer-context-refused"
#: Roles that say what a role says: regions are outlined in the key image, and a report that is a PDF is the document.
INSTEAD: Final = MappingProxyType(
    {ResultRole.SEGMENTATION: (ResultRole.KEY_IMAGE,), ResultRole.DOCUMENT: (ResultRole.REPORT,)}
)


class Capabilities:
    """What destinations take.

    Parameters
    ----------
    destinations
        By name.
    peers
        Whom each name stands for.
    probe_seconds
        Age at which an answer is asked for anew.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        destinations: Mapping[str, Destination],
        peers: Mapping[str, str],
        probe_seconds: float,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._destinations = destinations
        self._peers = peers
        self._probe_seconds = probe_seconds
        self._clock = clock
        self._emit = emit

    def refused(self, destination: str) -> frozenset[str]:
        """SOP Classes that it is known not to support."""
        return frozenset(row.sop_class_uid for row in self._known(destination) if not row.supported)

    def learn(self, destination: str, sop_class_uid: str, *, supported: bool) -> None:
        """Remember what an answer said."""
        self._write(destination, {sop_class_uid: supported})

    def refresh(self, destination: str, wanted: Sequence[str]) -> None:
        """Ask the destination where an answer is missing or old; that it does not answer is told by what follows."""
        now = self._clock()
        fresh = {
            row.sop_class_uid
            for row in self._known(destination)
            if abs((now - row.at).total_seconds()) < self._probe_seconds  # from the future: the clock was set back
        }
        peer = self._destinations.get(destination)
        if peer is None or fresh >= set(wanted):
            return
        try:
            accepted = peer.probe(wanted)
        except PeerError as error:
            self._emit("destination.unprobed", level="warning", destination=destination, reason=error.code)
            return
        self._write(destination, {uid: uid in accepted for uid in wanted})
        self._emit("destination.probed", destination=destination, accepted=len(accepted), asked=len(wanted))

    def _known(self, destination: str) -> list[CapabilityRow]:
        peer = self._peers.get(destination)
        return [row for row in self._ledger.capabilities(destination) if row.peer == peer]

    def _write(self, destination: str, supported: Mapping[str, bool]) -> None:
        self._ledger.learn(destination, self._peers.get(destination, ""), supported, self._clock())


class Downgrade:
    """Brings the deliveries of a work to one destination into the forms that it takes.

    Parameters
    ----------
    wishes
        Of a destination and a model, by their names.
    remake
        Makes further forms of a work's results.
    """

    def __init__(
        self,
        ledger: Ledger,
        capabilities: Capabilities,
        *,
        wishes: Callable[[str, str], Wishes],
        remake: Remake,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._capabilities = capabilities
        self._wishes = wishes
        self._remake = remake
        self._clock = clock
        self._emit = emit
        self._proven: set[tuple[str, str]] = set()

    def prove(self, destination: str, sop_class_uid: str) -> None:
        """An object was taken: the SOP Class is supported, whatever the contexts say."""
        self._proven.add((destination, sop_class_uid))

    def is_proven(self, destination: str, sop_class_uids: Iterable[str]) -> bool:
        """Whether objects of all these SOP Classes were taken since the node began."""
        return all((destination, uid) in self._proven for uid in sop_class_uids)

    def begin(self, key: WorkKey, destination: str) -> None:
        """Ask the destination where that is due, and align what waits for it."""
        self._capabilities.refresh(destination, sop_classes(self._wishes(destination, key.model)))
        self.align(key, destination)

    def not_supported(self, key: WorkKey, destination: str, sop_class_uid: str) -> bool:
        """Remember that a SOP Class is not supported, and align; whether other forms wait now in place of all of its kind."""
        self._capabilities.learn(destination, sop_class_uid, supported=False)
        aligned = self.align(key, destination)
        left = [row for row in self._ledger.deliveries(key) if row.destination == destination and _waits(row)]
        return aligned and all(
            Variant.of(row.role, row.form).sop_class_uid != sop_class_uid for row in left if row.form and row.is_result
        )

    def align(self, key: WorkKey, destination: str) -> bool:
        """Replace what waits and is not taken by what is; whether anything was replaced.

        What nothing takes the place of is not replaced: it is sent, and its refusal shows, or is given up here where only
        what it refers to is not taken.
        """
        wishes = self._wishes(destination, key.model)
        refused = self._capabilities.refused(destination)
        rows = [row for row in self._ledger.deliveries(key) if row.destination == destination]
        managed = [row for row in rows if row.form and row.role is not ResultRole.REJECTION]
        outcome = any(row.role is ResultRole.OUTCOME for row in managed)
        target = choose_outcome(wishes, refused) if outcome else choose(wishes, refused)
        names = {(variant.role, variant.name) for variant in target}
        late = [row for row in managed if _waits(row) and (row.role, row.form) not in names and _must_go(row, refused)]
        if not wishes.fallbacks or not late:
            return False
        done = {row.role for row in managed if row.state is DeliveryState.CONFIRMED}
        open_forms = {(row.role, row.form) for row in managed if row.state is not DeliveryState.DOWNGRADED}
        open_target = [one for one in target if one.role not in done and one.sop_class_uid not in refused]
        needed = [one for one in open_target if (one.role, one.name) not in open_forms]
        ids = self._results(key, needed)
        there = done | {one.role for one in open_target if one in ids or one not in needed}
        replaced = [row for row in late if _is_replaced(row, there)]
        dangling = [row for row in late if row not in replaced and not _is_refused(row, refused)]
        if not self._replace(key, destination, replaced, dangling, list(ids.values())) or not replaced:
            return False
        self._tell(key, destination, missed(wishes, target, outcome=outcome))
        return True

    def _results(self, key: WorkKey, needed: Sequence[Variant]) -> dict[Variant, str]:
        """Names of results in the forms that are needed: those that are there, the others made."""
        there = {(row.role, row.form): row.result_id for row in self._ledger.results(key)}
        found = {one: there[one.role, one.name] for one in needed if (one.role, one.name) in there}
        missing = [one for one in needed if one not in found]
        return {**found, **(self._remake(key, missing) if missing else {})}

    def _replace(
        self,
        key: WorkKey,
        destination: str,
        replaced: Sequence[DeliveryRow],
        dangling: Sequence[DeliveryRow],
        ids: Sequence[str],
    ) -> bool:
        """Let other forms wait in place of those; not where it all ended while they were made (encoding takes its time)."""
        now = self._clock()
        with self._ledger.transaction() as connection:
            work = self._ledger.work(key, connection=connection)
            if work is None or work.state in FINAL_STATES:
                return False
            here = {row.result_id: row for row in work.deliveries if row.destination == destination}
            ended = 0
            for rows, state in ((replaced, DeliveryState.DOWNGRADED), (dangling, DeliveryState.REFUSED)):
                still = [here[row.result_id] for row in rows if row.result_id in here and _waits(here[row.result_id])]
                for row in still:
                    self._ledger.record_delivery(
                        row.result_id, destination, state=state, status=row.status, reason=NOT_TAKEN, at=now,
                        connection=connection,
                    )  # fmt: skip
                ended += len(still)
            if ended:
                again = [here[one] for one in ids if one in here and here[one].state is DeliveryState.DOWNGRADED]
                self._ledger.put_deliveries(again, DeliveryState.WAITING, now, connection=connection)
                self._ledger.add_deliveries(destination, ids, now, connection=connection)
        for _ in dangling if ended else ():
            self._emit("delivery.refused", level="error", work=key.workflow_id, reason=NOT_TAKEN)
        return bool(ended)

    def _tell(self, key: WorkKey, destination: str, variants: Sequence[Variant]) -> None:
        self._ledger.add_facts(key, facts_of(destination, variants))
        tell(self._emit, key, destination, variants)


def _waits(row: DeliveryRow) -> bool:
    return row.state is DeliveryState.WAITING


def _is_refused(row: DeliveryRow, refused: frozenset[str]) -> bool:
    return Variant.of(row.role, row.form).sop_class_uid in refused


def _must_go(row: DeliveryRow, refused: frozenset[str]) -> bool:
    """Whether a waiting form is not taken, or refers to one that is not."""
    links = Variant.of(row.role, row.form).links
    return _is_refused(row, refused) or (links is not None and SOP_CLASSES[links] in refused)


def _is_replaced(row: DeliveryRow, there: Collection[ResultRole]) -> bool:
    """Whether something that the destination has, or that goes there, says what a form says that is not taken."""
    return row.role in there or any(role in there for role in INSTEAD.get(row.role, ())) or row.role in DISPENSABLE


def tell(emit: Emit, key: WorkKey, destination: str, variants: Sequence[Variant]) -> None:
    """An event for each form that a destination did not take, of a study whose results it gets in others."""
    for variant in variants:
        emit(
            "delivery.downgraded",
            level="warning",
            work=key.workflow_id,
            destination=destination,
            role=variant.role.value,
            kind=variant.form.value,
            reason=NOT_TAKEN,
        )


def facts_of(destination: str, variants: Sequence[Variant]) -> dict[str, int | float | str]:
    """Facts of a work that say which forms a destination did not take."""
    return {f"downgraded.{destination}.{variant.role.value}": variant.form.value for variant in variants}
