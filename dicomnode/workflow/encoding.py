"""The last stage that computes: from an analysis to sealed objects, and to who is to get which of them.

May live here: which forms are made for whom, what an earlier result has to do with a new one, and what is done where a
proof fails. A result that does not prove true is quarantined with its reason, and somebody is told.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from pydicom import Dataset

from dicomnode.config import Config
from dicomnode.deidentification.vault import source_identity
from dicomnode.errors import NodeError, StudyError
from dicomnode.events import Emit, Fact
from dicomnode.forms import Variant, choose, choose_outcome, missed
from dicomnode.identity import SourceIdentity
from dicomnode.results.encode import EncodedResult
from dicomnode.results.report import Predecessor
from dicomnode.sections import Destination
from dicomnode.storage.rows import ResultRow
from dicomnode.study import (
    NOTED,
    OPEN,
    OVERTAKEN,
    REPLACES,
    SOURCE,
    DeliveryState,
    Purpose,
    ResultRole,
    WorkKey,
    WorkRow,
    WorkState,
    World,
    blind_key,
)
from dicomnode.workflow.ahead import Ahead
from dicomnode.workflow.analysis import Analysis, Analyst, Issue
from dicomnode.workflow.downgrade import facts_of, tell
from dicomnode.workflow.generations import fresh
from dicomnode.workflow.handover import Handover, Rooms, name
from dicomnode.workflow.leftovers import Leftovers
from dicomnode.workflow.meanwhile import ready
from dicomnode.workflow.picture import picture_of
from dicomnode.workflow.ports import Clock
from dicomnode.workflow.predecessors import UNSURE, Predecessors
from dicomnode.workflow.routing import destinations_of
from dicomnode.workflow.unchanged import BASIS
from dicomnode.workflow.wishes import default_wishes, is_told, wishes_of

_OVER_BUDGET: Final = "result-over-budget"
#: Results that are sealed at once: each waits for the disk, and hardly for anything else.
_AT_ONCE: Final = 4


class Encoding:
    """Makes the results of works.

    Parameters
    ----------
    rooms
        Storage and one analyst per model.
    refused
        SOP Classes that a destination, by its name, is known not to support.
    copies
        Pseudonymous copies of a work's images.
    places
        For how many works results are begun at a time.
    """

    def __init__(
        self,
        rooms: Rooms,
        tree: Config,
        *,
        refused: Callable[[str], frozenset[str]],
        copies: Callable[[WorkKey], Iterable[Dataset]],
        places: int,
        clock: Clock,
        emit: Emit,
    ) -> None:
        self._rooms = rooms
        self._tree = tree
        self._refused = refused
        self._copies = copies
        self._handover = Handover(rooms)
        self._predecessors = Predecessors(rooms)
        configured = [one.name for one in tree.destinations]
        self._leftovers = Leftovers(rooms.ledger, self._predecessors, configured=configured, emit=emit)
        self._ahead: Ahead[tuple[EncodedResult, ...]] = Ahead(places)
        self._clock = clock
        self._emit = emit

    def encode(self, key: WorkKey, analyst: Analyst, analysis: Analysis) -> None:
        """Make what the destinations take, seal it, and enter who is to get it; the work is then ready."""
        plans = self.plans(key, analyst)
        variants, predecessor = _wanted(plans, analyst), self._predecessors.report(key)
        issue = self._issue(key)
        source = self._source(key, analyst, analysis, issue, predecessor)
        results = self._ahead.of(key, (variants, predecessor, source))
        results = results or _made(analyst, analysis, variants, issue, predecessor, source=source)
        missing = {one.name: missed(wishes_of(one, analyst.package.manifest), plans[one.name]) for one in self._to(key)}
        basis = analyst.source_of(analysis.findings.algorithm, issue.input_digest, None)
        made_of = {SOURCE: source, BASIS: basis, REPLACES: self._name(predecessor)}
        self._enter(key, results, plans, missing=missing, identity=issue.identity, facts=made_of)

    def begin(self, key: WorkKey, analyst: Analyst, analysis: Analysis, issue: Issue) -> None:
        """Begin with the results of an analysis while it is sealed, for `encode` to take if the same are wanted then."""
        variants, predecessor = _wanted(self.plans(key, analyst), analyst), self._predecessors.report(key)
        source = self._source(key, analyst, analysis, issue, predecessor)
        make = partial(_made, analyst, analysis, variants, issue, predecessor, source=source)
        self._ahead.begin(key, (variants, predecessor, source), make)

    def forget(self, key: WorkKey) -> None:
        """Nobody asks any more for the results that were begun."""
        self._ahead.forget(key)

    def plans(self, key: WorkKey, analyst: Analyst) -> dict[str, tuple[Variant, ...]]:
        """Who is to get which forms."""
        manifest = analyst.package.manifest
        return {one.name: choose(wishes_of(one, manifest), self._refused(one.name)) for one in self._to(key)}

    def more(self, key: WorkKey, variants: Sequence[Variant]) -> dict[Variant, str]:
        """Further forms of a work's results, made of what was sealed; returns their names.

        What cannot be made (a work with no analysis has no key image) is left out.
        """
        analyst = self._rooms.analysts.get(key.model)
        work = self._rooms.ledger.work(key)
        if analyst is None or work is None:
            return {}
        if any(variant.role is ResultRole.OUTCOME for variant in variants):
            results = self._outcome_again(key, work, analyst, variants, str(work.facts.get(SOURCE, "")))
        else:
            analysis = self.recall(key, analyst)
            source, predecessor = str(work.facts.get(SOURCE, "")), self._replaced(work)
            results = _made(analyst, analysis, tuple(variants), self._issue(key), predecessor, source=source)
        rows = [self.keep(key, result) for result in results]
        self._rooms.ledger.record_results(key, rows, [], self._clock())
        ids = {(row.role, row.form): row.result_id for row in rows}
        return {one: ids[one.role, one.name] for one in variants if (one.role, one.name) in ids}

    def recall(self, key: WorkKey, analyst: Analyst) -> Analysis:
        """The analysis again, out of what was sealed."""
        labels = self._handover.get(key, World.PSEUDONYM, name(key, "labels"), Purpose.LABELS)
        findings = self._handover.get(key, World.PSEUDONYM, name(key, "findings"), Purpose.FINDINGS)
        probability = None
        if analyst.package.manifest.results.parametric_map:
            probability = self._handover.find(key, World.PSEUDONYM, name(key, "probability"), Purpose.LABELS)
        return analyst.recall(self._copies(key), labels, json.loads(findings), probability)

    def tell(self, key: WorkKey, error: StudyError, look: Callable[[], tuple[Dataset, Dataset] | None]) -> bool:
        """Make the document that says why there are no results, where anybody wants it; whether the work is ready.

        Parameters
        ----------
        look
            Gives the header of an image that the model's rule took, in its own space, converted and as it came; None
            where there is none.
        """
        wanted = [one for one in self._to(key) if is_told(one, error)]
        analyst = self._rooms.analysts.get(key.model)
        if not wanted or analyst is None:
            return False
        work = self._rooms.ledger.work(key)
        looked_at = look()
        if looked_at is None or work is None:
            return False
        header, raw = looked_at
        identity = source_identity([raw], {})
        plan = {"code": error.code, "identity": identity.to_json(), "header": _reference(header).to_json_dict()}
        self._handover.put(key, World.IDENTITY, name(key, "outcome"), Purpose.VAULT, json.dumps(plan).encode())
        plans = {
            one.name: choose_outcome(wishes_of(one, analyst.package.manifest), self._refused(one.name))
            for one in wanted
        }
        variants = tuple(dict.fromkeys(variant for plan in plans.values() for variant in plan))
        digest, predecessor = f"{work.input_digest} {error.code}", self._replaced(work)
        source = fresh(self._rooms.ledger, key, analyst.source_of(analyst.algorithm(), digest, predecessor))
        results = self._outcome_again(key, work, analyst, variants, source)
        facts: dict[str, int | float | str] = {"outcome": error.code, SOURCE: source, REPLACES: self._name(predecessor)}
        missing = {
            one.name: missed(wishes_of(one, analyst.package.manifest), plans[one.name], outcome=True) for one in wanted
        }
        self._enter(key, results, plans, missing=missing, identity=identity, facts=facts)
        return True

    def _to(self, key: WorkKey) -> tuple[Destination, ...]:
        """Whom the results of a work are for."""
        work = self._rooms.ledger.work(key)
        wanted = None if work is None else destinations_of(work.facts)
        return tuple(one for one in self._tree.destinations if wanted is None or one.name in wanted)

    def identity(self, key: WorkKey) -> SourceIdentity:
        """Whose results a work's are."""
        series_key = self._handover.plan(key)["series_key"]
        return SourceIdentity.from_json(json.loads(self._handover.identity(key, series_key)))

    def whose(self, key: WorkKey) -> SourceIdentity:
        """As `identity`; that of its outcome where it had no results."""
        try:
            return self.identity(key)
        except NodeError:
            plan = json.loads(self._handover.get(key, World.IDENTITY, name(key, "outcome"), Purpose.VAULT))
            return SourceIdentity.from_json(plan["identity"])

    def _issue(self, key: WorkKey) -> Issue:
        return Issue(identity=self.identity(key), input_digest=self._handover.plan(key)["digest"])

    def _source(
        self, key: WorkKey, analyst: Analyst, analysis: Analysis, issue: Issue, predecessor: Predecessor | None
    ) -> str:
        source = analyst.source_of(analysis.findings.algorithm, issue.input_digest, predecessor)
        return fresh(self._rooms.ledger, key, source)

    def _outcome_again(
        self, key: WorkKey, work: WorkRow, analyst: Analyst, variants: Sequence[Variant], source: str
    ) -> tuple[EncodedResult, ...]:
        plan = json.loads(self._handover.get(key, World.IDENTITY, name(key, "outcome"), Purpose.VAULT))
        return analyst.encode_outcome(
            plan["code"],
            Dataset.from_json(plan["header"]),
            identity=SourceIdentity.from_json(plan["identity"]),
            input_digest=work.input_digest,
            variants=variants,
            predecessor=self._replaced(work),
            source=source,
        )

    def _replaced(self, work: WorkRow) -> Predecessor | None:
        """The report that a work's results replace: the one that its first results name, where there are any."""
        if REPLACES not in work.facts:
            return self._predecessors.report(work.key)
        named = (one for one in self._predecessors.reports(work.key) if self._name(one) == work.facts[REPLACES])
        return next(named, None)

    def _name(self, predecessor: Predecessor | None) -> str:
        if predecessor is None:
            return ""
        return blind_key(self._rooms.derivation_key, "report", predecessor.sop_instance_uid)

    def _enter(
        self,
        key: WorkKey,
        results: Sequence[EncodedResult],
        plans: Mapping[str, Sequence[Variant]],
        *,
        missing: Mapping[str, Sequence[Variant]],
        identity: SourceIdentity,
        facts: Mapping[str, int | float | str],
    ) -> None:
        """Seal results, enter who is to get which, and let the work be ready, in one transaction.

        Parameters
        ----------
        missing
            What each destination is known not to take of what it was to get.
        facts
            What the results were made of; why there are no other ones.
        """
        entered: dict[str, int | float | str] = dict(facts)
        for destination, variants in missing.items():
            entered |= facts_of(destination, variants)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="keep") as executor:
            rows = {(row.role, row.form): row for row in executor.map(partial(self.keep, key), results)}
        named, left = self._predecessors.arrived(key), self._leftovers.of(key)
        notes = self._rejections(key, plans, identity, results)
        now, ledger, to = self._clock(), self._rooms.ledger, self._to(key)
        over: list[tuple[str, str]] = []
        with ledger.transaction() as connection:
            made = [*rows.values(), *itertools.chain(*notes.values())]
            ledger.record_results(key, made, [], now, connection=connection)
            for one in to:
                places = [(variant.role, variant.name) for variant in plans.get(one.name, ())]
                wanted = [rows[place] for place in places if place in rows]
                wanted += notes.get(one.name, ())
                ledger.add_deliveries(one.name, [row.result_id for row in wanted], now, connection=connection)
                over += [(one.name, row.result_id) for row in _over_budget(one, wanted)]
            for destination, result_id in over:
                ledger.record_delivery(
                    result_id,
                    destination,
                    state=DeliveryState.REFUSED,
                    status=None,
                    reason=_OVER_BUDGET,
                    at=now,
                    connection=connection,
                )
            ledger.set_work_state(key, WorkState.READY, at=now, facts=entered, connection=connection)
            for earlier in {one for one, *_ in self._predecessors.arrived(key, connection=connection) - named}:
                ledger.add_facts(earlier, {OVERTAKEN: OPEN, NOTED: ""}, connection=connection)
            standing = self._leftovers.enter(connection, left)
        self._leftovers.tell(standing)
        for destination, variants in missing.items():
            tell(self._emit, key, destination, variants)
        for destination, result_id in over:
            self.quarantine(key, _OVER_BUDGET, destination=destination, result=result_id)

    def quarantine(self, key: WorkKey, code: str, **facts: Fact) -> None:
        """Enter that a result of a work is set aside, and alert."""
        self._rooms.ledger.quarantine(key.study_key, "result", code, self._clock())
        self._emit("result.quarantined", level="error", work=key.workflow_id, model=key.model, reason=code, **facts)

    def _rejections(
        self,
        key: WorkKey,
        plans: Mapping[str, Sequence[Variant]],
        identity: SourceIdentity,
        results: Sequence[EncodedResult],
    ) -> dict[str, tuple[ResultRow, ...]]:
        """Notes for each destination that wants them and has, or may have, results that these replace.

        They never name what they go with: results of before there were generations may bear the same UIDs.
        """
        own = {result.sop_instance_uid for result in results}
        analyst = self._rooms.analysts[key.model]
        notes: dict[str, tuple[ResultRow, ...]] = {}
        takers = [one.name for one in self._to(key) if one.rejection_notes and one.name in plans]
        for taker, (why, sure) in itertools.product(takers, (("", True), (UNSURE, False))):
            replaced = self._predecessors.delivered(key, taker, sure=sure)
            if named := [header for header in replaced if header.SOPInstanceUID not in own]:
                note = analyst.encode_rejection(named, identity, destination=taker, work=key.workflow_id, why=why)
                notes[taker] = (*notes.get(taker, ()), self.keep(key, note))
        return notes

    def keep(self, key: WorkKey, result: EncodedResult) -> ResultRow:
        """Seal a result; its row."""
        result_id = blind_key(self._rooms.derivation_key, "result", key.workflow_id, result.role.value, result.form)
        self._handover.put(key, World.IDENTITY, result_id, Purpose.RESULT, result.part10())
        return ResultRow(
            result_id=result_id,
            role=result.role,
            form=result.form,
            sop_class_uid=result.sop_class_uid,
            digest=result.digest,
            length=len(result.encoded),
        )


def _made(
    analyst: Analyst,
    analysis: Analysis,
    variants: tuple[Variant, ...],
    issue: Issue,
    predecessor: Predecessor | None,
    *,
    source: str = "",
) -> tuple[EncodedResult, ...]:
    return analyst.encode(
        analysis,
        ready(analysis.picture) or picture_of(analysis, analyst.words),
        identity=issue.identity,
        input_digest=issue.input_digest,
        variants=variants,
        predecessor=predecessor,
        source=source,
    )


def _wanted(plans: Mapping[str, Sequence[Variant]], analyst: Analyst) -> tuple[Variant, ...]:
    """What is made: whatever anybody is to get, or the usual."""
    everything = tuple(dict.fromkeys(variant for plan in plans.values() for variant in plan))
    return _in_order(everything or choose(default_wishes(analyst.package.manifest)))


def _in_order(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    roles = list(ResultRole)
    return tuple(sorted(variants, key=lambda variant: (roles.index(variant.role), variant.name)))


def _over_budget(destination: Destination, rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Results that are too large for a destination, and those by which their number of series is too high.

    Each result is a series of its own; those that come last in the order of sending are left out first. A rejection note
    takes away more than it adds, and does not count.
    """
    large = [row for row in rows if 0 < destination.maximum_object_bytes < row.length]
    fitting = [row for row in rows if row not in large and row.role is not ResultRole.REJECTION]
    limit = destination.maximum_series
    return [*large, *(fitting[limit:] if limit else [])]


def _reference(header: Dataset) -> Dataset:
    """What an outcome names of an image."""
    kept = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality"):
        if header.get(keyword):
            kept.add(header[keyword])
    if "StudyInstanceUID" not in kept or "SOPInstanceUID" not in kept:
        raise NodeError("internal", stage="outcome")
    return kept
