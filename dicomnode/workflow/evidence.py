"""Evidence of completeness: what procedure steps and notifications announced of a study, and what of it has come.

The ledger keeps it, under blind keys alone; studies that have any are remembered, so that nobody else is asked about.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dicomnode.events import Emit
from dicomnode.network.procedures import Step, StepState
from dicomnode.storage.ledger import Ledger
from dicomnode.study import SOURCE, DeliveryState, InstanceRow, WorkRow, WorkState, blind_key, mint_uid
from dicomnode.workflow.ports import Clock

#: Why results of a study are held of which a step was begun for another patient or procedure.
WRONG_ENTRY: Final = "worklist-entry-wrong"
#: Of so many modalities it is told that the configuration does not know them: who calls may call himself anything.
_MOST_TOLD: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is announced of a study.

    Attributes
    ----------
    under_way
        Procedure steps that are in progress.
    announced, missing
        Instances that were named, and those of them that have not come.
    unnamed
        Instances that came and that nobody named.
    broken_off
        Procedure steps that were discontinued: what they name is not all, or is repeated.
    """

    under_way: int
    announced: int
    missing: int
    unnamed: int = 0
    broken_off: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether everything has come that was announced, nobody is still at it, and nobody broke it off."""
        return not self.under_way and not self.broken_off and self.announced > 0 and not self.missing

    @property
    def is_exact(self) -> bool:
        """Whether just what was announced has come, and nothing else."""
        return self.is_whole and not self.unnamed

    @property
    def is_lacking(self) -> bool:
        """Whether more is to be expected."""
        return self.under_way > 0 or self.missing > 0


def joined(one: Evidence | None, other: Evidence | None) -> Evidence | None:
    """What two know of a study: whatever one of them misses is missing, and what one of them names is named."""
    if one is None or other is None:
        return one or other
    return Evidence(
        under_way=max(one.under_way, other.under_way),
        announced=max(one.announced, other.announced),
        missing=max(one.missing, other.missing),
        unnamed=min(one.unnamed, other.unnamed),
        broken_off=max(one.broken_off, other.broken_off),
    )


def shortfall(evidence: Evidence | None, *, is_endless: bool) -> str:
    """What a study lacks that is settled now, in words and numbers; "" where nothing is known to be missing."""
    said = []
    if evidence is not None and evidence.missing:
        said.append(f"{evidence.missing} of {evidence.announced} announced images did not come")
    if evidence is not None and evidence.under_way:
        said.append(f"procedure steps that did not end: {evidence.under_way}")
    if is_endless:
        said.append("images came without an end (study-endless)")
    return "; ".join(said)


class EvidenceBook:
    """Implements what `network.procedures` expects of whoever keeps steps.

    Parameters
    ----------
    ledger
        Keeps them.
    derivation_key
        Key of the blind keys.
    flush
        Waits a little until the index has what came of a study: what it lacks would pass for missing.
    wake
        Called when something was said of a study.
    clock, emit
        Wall clock in UTC; where events go.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        derivation_key: bytes,
        flush: Callable[[str], object] = lambda _: None,
        wake: Callable[[], None],
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._key = derivation_key
        self._flush = flush
        self._wake = wake
        self._clock = clock
        self._emit = emit
        self._lock = threading.Lock()
        self._studies = set(ledger.studies_with_procedures())
        self._undeclared: set[str] = set()

    def begin(self, step: Step) -> bool:
        """Enter a step; False where it is known. Durable on return."""
        studies = [blind_key(self._key, "study", uid) for uid in step.study_instance_uids]
        name, now, state = self._name(step), self._clock(), step.state or StepState.IN_PROGRESS
        with self._ledger.transaction() as connection:
            new = self._ledger.begin_procedure(name, studies, state.value, now, connection=connection)
            if new and step.instances is not None:
                self._ledger.update_procedure(name, None, self._named(step), now, connection=connection)
        if new:
            with self._lock:
                self._studies.update(studies)
            self._tell(studies, state, step)
            self._tell_undeclared(step.undeclared)
        return new

    def update(self, step: Step) -> StepState | None:
        """Change a step that is in progress; the state that it was in before, None where it is not known."""
        name = self._name(step)
        with self._ledger.transaction() as connection:
            rows = self._ledger.procedure(name, connection=connection)
            if not rows:
                return None
            before = StepState(rows[0].state)
            if before is not StepState.IN_PROGRESS:
                return before
            state = step.state.value if step.state else None
            named = self._named(step) if step.instances is not None else None
            self._ledger.update_procedure(name, state, named, self._clock(), connection=connection)
            held = (
                self._hold(connection, [row.study_key for row in rows]) if step.state is StepState.WRONG_ENTRY else {}
            )
        for study_key, works in held.items():
            self._emit("study.doubted", level="warning", study=study_key, reason=WRONG_ENTRY, works=works)
        self._tell([row.study_key for row in rows], step.state or before, step)
        return before

    def of(self, study_key: str) -> Evidence | None:
        """What is announced of a study; None where nothing is."""
        with self._lock:
            if study_key not in self._studies:
                return None
        self._flush(study_key)
        own = own_results(self._ledger, self._key, study_key)
        steps, under_way, announced, missing, unnamed = self._ledger.evidence(study_key, besides=own)
        if not steps:  # shredded meanwhile
            with self._lock:
                self._studies.discard(study_key)
            return None
        broken_off = self._ledger.steps_broken_off(study_key)
        return Evidence(
            under_way=under_way, announced=announced, missing=missing, unnamed=unnamed, broken_off=broken_off
        )

    def came(self, study_key: str) -> tuple[InstanceRow, ...]:
        """All that came of a study, whatever became of it, once the index has it; raises NodeError ``index-behind``."""
        self._flush(study_key)
        return self._ledger.instances(study_key, None)

    def records(self, study_key: str) -> int:
        """How many records these are; raises as `came`."""
        self._flush(study_key)
        return self._ledger.records(study_key)

    def _hold(self, connection: Any, study_keys: list[str]) -> dict[str, int]:
        """Hold results that are on their way; how many works of each study destinations have, or may have, something of."""
        delivered = {}
        for study_key in study_keys:
            study = self._ledger.study(study_key, connection=connection)
            works = () if study is None else study.works
            for work in works:
                if _is_to_be_held(work):
                    self._ledger.set_work_state(
                        work.key, WorkState.HELD, at=self._clock(), reason=WRONG_ENTRY, connection=connection
                    )
            delivered[study_key] = sum(work.may_be_delivered for work in works)
        return delivered

    def _name(self, step: Step) -> str:
        return blind_key(self._key, "procedure", step.sop_instance_uid)

    def _named(self, step: Step) -> list[str]:
        return [blind_key(self._key, "instance", uid) for uid in step.instances or ()]

    def _tell_undeclared(self, ae_title: str) -> None:
        """Say once that the originals of a modality are shredded like a PACS's: nobody said what it is."""
        with self._lock:
            known = not ae_title or ae_title in self._undeclared or len(self._undeclared) >= _MOST_TOLD
            self._undeclared.update(() if known else (ae_title,))
        if not known:
            self._emit("modality.undeclared", level="warning", calling_ae_title=ae_title)

    def _tell(self, studies: list[str], state: StepState, step: Step) -> None:
        for study_key in studies:
            self._emit("study.announced", study=study_key, state=state.value, instances=len(step.instances or ()))
        self._wake()


def own_results(ledger: Ledger, derivation_key: bytes, study_key: str) -> frozenset[str]:
    """Blind keys of results of ours that a PACS may have of a study, and name: they need not come, and are no images.

    Their UIDs are minted of facts of their works (`results.context.ResultContext.object_uid`). Our rejection notes are not
    among them.
    """
    study = ledger.study(study_key) if ledger.latest_revision(study_key) else None  # most have no work yet: one query
    return frozenset(
        blind_key(
            derivation_key, "instance", mint_uid(derivation_key, "result:object", source, row.role.value, row.form)
        )
        for work in (() if study is None else study.works)
        if (source := str(work.facts.get(SOURCE, "")))
        for row in work.deliveries
        if row.is_result
    )


def _is_to_be_held(work: WorkRow) -> bool:
    """Whether results of a work wait to be sent that nobody takes back: a note that does goes on, and so does what is asked of the rest."""
    waits = any(one.is_result and one.state is DeliveryState.WAITING for one in work.deliveries)
    return work.state is WorkState.DELIVERING and waits and not work.is_wrong
