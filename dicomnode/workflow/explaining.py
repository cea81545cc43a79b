"""Why a study goes where it goes: for every series what each rule and each model says of it, and which one wins.

Decides nothing: it asks those who do. No value of an attribute leaves here but modality, numbers and codes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydicom import Dataset

from dicomnode.errors import NodeError, StorageError, StudyError
from dicomnode.manifest import InputRule
from dicomnode.study import InstanceRow, RecordMetadata
from dicomnode.workflow.provenance import REFUSALS, Guard
from dicomnode.workflow.router import Read, Router
from dicomnode.workflow.routing import Judgement, Route, StudyFacts
from dicomnode.workflow.selection import Header, SurveyedSeries, choose, patient_of, survey, without_pixels
from dicomnode.workflow.whose import count_patients

#: What a model says of a series that it takes: it works on it, or on a better one. It looks at no series of some kinds.
CHOSEN, SECOND, NOT_GIVEN, OTHER_KIND = "chosen", "not-the-best", "not-given", "other-kind"
#: What an instance is that counts and is not judged: it says what else does not count.
NOTE = "rejection-note"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesExplained:
    """One series.

    Attributes
    ----------
    unreadable
        Instances that no model can read.
    lost
        Segments, by their names, that storage does not give whole, and the code of why.
    models
        By model `CHOSEN`, `SECOND`, `NOT_GIVEN` (no rule gives it the series), `OTHER_KIND` (none could), or the code of why
        it is refused.
    is_input
        Whether models look at it; else `images` counts objects, whatever they are.
    """

    series_key: str
    calling_ae_title: str
    called_ae_title: str
    modality: str
    images: int
    unreadable: int
    lost: Mapping[str, str]
    slice_spacing_mm: float | None
    extent_mm: float | None
    judgements: tuple[Judgement, ...]
    models: Mapping[str, str]
    is_input: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyExplained:
    """One study.

    Attributes
    ----------
    outcomes
        By model that gets any series: None where it works on one, else the code of why it works on none.
    left_out
        Series of which nothing is judged, each with how many of its instances became what.
    """

    study_key: str
    began_at: datetime
    route: Route
    series: tuple[SeriesExplained, ...]
    outcomes: Mapping[str, str | None]
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Explainer:
    """Explains studies.

    Parameters
    ----------
    router
        Of the configuration that is asked.
    inputs
        What each model takes.
    guard
        Tells what no model takes.
    read
        Opens an instance; a NodeError says that it cannot be opened or read. The router reads in the same way.
    """

    def __init__(self, router: Router, inputs: Mapping[str, InputRule], *, guard: Guard, read: Read) -> None:
        self._router = router
        self._guard = guard
        self._inputs = inputs
        self._read = read

    def explain(
        self, study_key: str, rows: Sequence[InstanceRow], beside: Sequence[InstanceRow] = ()
    ) -> StudyExplained:
        """Ask rules and models about a study of these instances, of which there are some.

        Parameters
        ----------
        rows
            What models look at.
        beside
            What else there is of it: only rules are asked.

        Raises
        ------
        StorageError
            Where disk or ledger refuse for now.
        """
        facts = self._router.facts(study_key, rows, beside)
        route = self._router.decide(facts)
        headers, unreadable, lost = self._headers(rows)
        said: dict[str, dict[str, str]] = {}
        outcomes: dict[str, str | None] = {}
        several = count_patients({patient_of(header.dataset) for header in headers}) > 1
        surveyed = {name: survey(headers, rule, self._guard) for name, rule in self._inputs.items()}
        for model, share in route.shares.items():
            given = [one for one in surveyed[model] if _is_given(one, share.series)]
            said[model], outcomes[model] = _judged(given, self._inputs[model])
            if several:
                said[model], outcomes[model] = dict.fromkeys(said[model], "patient-mismatch"), "patient-mismatch"
        looks = next(iter(surveyed.values()), ())
        others = Counter(row.series_key for row in beside)
        return StudyExplained(
            study_key=study_key,
            began_at=facts.began_at,
            route=route,
            series=tuple(_series(facts, route, said, looks, unreadable=unreadable, lost=lost, others=others)),
            outcomes=outcomes,
        )

    def _headers(self, rows: Sequence[InstanceRow]) -> tuple[list[Header], dict[str, int], dict[str, dict[str, str]]]:
        """What can be read; by series, how many cannot be, and the segments in which they lie, where those are at fault."""
        headers: list[Header] = []
        unreadable: dict[str, int] = {}
        lost: dict[str, dict[str, str]] = {}
        for row in rows:
            try:
                _, dataset = self._read(row)
            except NodeError as error:
                if error.may_pass:
                    raise
                unreadable[row.series_key] = unreadable.get(row.series_key, 0) + 1
                if isinstance(error, StorageError):
                    lost.setdefault(row.series_key, {})[row.address.segment_id] = error.code
                continue
            headers.append(
                Header(series_key=row.series_key, instance_key=row.instance_key, dataset=without_pixels(dataset))
            )
        return headers, unreadable, lost


def without_waiting(read: Read) -> Read:
    """For who looks once: what the disk does not give now is told as lost, and is not waited for."""

    def read_now(row: InstanceRow) -> tuple[RecordMetadata, Dataset]:
        try:
            return read(row)
        except StorageError as error:
            if error.code == "storage-failed":
                raise StorageError(error.code, missing=1) from None
            raise

    return read_now


def _is_given(series: SurveyedSeries, keys: frozenset[str] | None) -> bool:
    return keys is None or series.summary.series_key in keys


def _judged(given: Sequence[SurveyedSeries], rule: InputRule) -> tuple[dict[str, str], str | None]:
    """What a model says of each series that it is given, and why it works on none, if so."""
    said: dict[str, str] = {}
    try:
        best, outcome = choose(given, rule).summary.series_key, None
    except StudyError as error:
        best, outcome = "", error.code
    for one in given:
        key = one.summary.series_key
        codes = rule.judge(one.summary)
        if one.problem is not None and (not codes or one.problem.code in REFUSALS):
            codes = (one.problem.code,)
        elif not codes and one.doubt is not None:
            codes = (one.doubt.code,)
        said[key] = CHOSEN if key == best else codes[0] if codes else SECOND
    return said, outcome


def _series(
    facts: StudyFacts,
    route: Route,
    said: Mapping[str, Mapping[str, str]],
    looks: Sequence[SurveyedSeries],
    *,
    unreadable: Mapping[str, int],
    lost: Mapping[str, Mapping[str, str]],
    others: Mapping[str, int],
) -> list[SeriesExplained]:
    seen = {one.summary.series_key: one.summary for one in looks}
    found = []
    for one in facts.series:
        summary = seen.get(one.series_key)
        found.append(
            SeriesExplained(
                series_key=one.series_key,
                calling_ae_title=one.calling_ae_title.strip(),
                called_ae_title=one.called_ae_title.strip(),
                modality=summary.modality if summary else _modality(one.header),
                images=summary.slices if summary else others.get(one.series_key, 0),
                unreadable=unreadable.get(one.series_key, 0),
                lost=lost.get(one.series_key, {}),
                slice_spacing_mm=summary.slice_spacing_mm if summary else None,
                extent_mm=summary.extent_mm if summary else None,
                judgements=tuple(item for item in route.judgements if item.series_key == one.series_key),
                models={
                    model: answers.get(one.series_key, NOT_GIVEN) if one.is_input else OTHER_KIND
                    for model, answers in said.items()
                },
                is_input=one.is_input,
            )
        )
    return found


def _modality(header: Dataset | None) -> str:
    return "" if header is None else str(header.get("Modality") or "")
