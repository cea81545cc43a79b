"""Outcomes as documents: the measurements for those who take no other report, "no finding", and "not processed".

May live here: what a Basic Text SR says. An outcome is coded: what was sought, what came of it, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset

from dicomnode.coding import dcm, private, sct
from dicomnode.errors import REASONS
from dicomnode.findings import Findings, Segment
from dicomnode.results import document
from dicomnode.results.concepts import SOURCE_IMAGE, code_item
from dicomnode.results.context import ResultContext
from dicomnode.results.report import Predecessor, predecessor_item, remarks_of
from dicomnode.results.sources import SourceSeries
from dicomnode.study import ResultRole
from dicomnode.texts import Words

_TARGET: Final = dcm("123014", "Target Region")
_LATERALITY: Final = sct("272741003", "Laterality")
_OUTCOME: Final = private("OUTCOME", "Outcome of processing")
_REASON: Final = private("REASON", "Reason for not processing")
NO_FINDING: Final = private("NOFINDING", "Sought and not found")
NOT_PROCESSED: Final = private("NOTPROCESSED", "Not processed")
#: The code under which a network that found nothing ends a work.
NOTHING_FOUND: Final = "nothing-found"


def build_report(
    series: SourceSeries,
    findings: Findings,
    slices: Sequence[int],
    context: ResultContext,
    *,
    found: frozenset[int],
    predecessor: Predecessor | None = None,
) -> Dataset:
    """The measurements as text.

    Parameters
    ----------
    slices
        Key slices, in source order.
    found
        Numbers of the segments that have a voxel.
    """
    headers = [series.headers[index] for index in sorted(set(slices))] or [series.headers[0]]
    lines = [document.text(document.FINDING, line) for line in lines_of(findings, context.words)]
    images = [document.image(header, SOURCE_IMAGE) for header in headers]
    remarks = document.comments(remarks_of(findings, found.__contains__, context.words))
    sections = [
        document.container(document.FINDINGS, [*lines, *images, *document.algorithm_items(findings.algorithm)]),
        document.container(document.SUMMARY, remarks),
    ]
    dataset = document.basic_text(sections, headers, findings, context, ResultRole.REPORT)
    return _replacing(dataset, predecessor)


def build_outcome(
    code: str,
    header: Dataset,
    findings: Findings,
    context: ResultContext,
    predecessor: Predecessor | None = None,
) -> Dataset:
    """Nothing found, or not processed, with what was sought and why.

    Parameters
    ----------
    code
        ``nothing-found``, or the code of `errors.REASONS` for which the study was not processed.
    header
        Of an image that was looked at.
    findings
        Of the model: its segments are what was sought.
    """
    words = context.words
    sought = [_target(segment) for segment in findings.segments]
    said, notes = told(code, findings, words)
    coded = [document.code(_OUTCOME, NO_FINDING)]
    if code != NOTHING_FOUND:
        coded = [document.code(_OUTCOME, NOT_PROCESSED), _reason(code)]
    sections = [
        document.container(
            document.FINDINGS,
            [
                document.text(document.FINDING, said),
                *coded,
                *sought,
                document.image(header, SOURCE_IMAGE),
                *document.algorithm_items(findings.algorithm),
            ],
        ),
        document.container(document.SUMMARY, document.comments(notes)),
    ]
    dataset = document.basic_text(sections, [header], findings, context, ResultRole.OUTCOME)
    return _replacing(dataset, predecessor)


def told(code: str, findings: Findings, words: Words) -> tuple[str, list[str]]:
    """What an outcome says in words: the outcome itself, and what a reader must know of it."""
    what = words.say("sought", what=", ".join(segment.label for segment in findings.segments))
    remarks = remarks_of(findings, lambda _: True, words)
    if code == NOTHING_FOUND:
        return words.say("no-finding"), [what, words.say("nothing-else"), *remarks]
    return words.say("not-processed", reason=words.reason(code)), [what, *remarks]


def lines_of(findings: Findings, words: Words) -> list[str]:
    """Everything that was found, a line for each region, evaluation and detection."""
    lines = []
    for region in findings.regions:
        values = [
            f"{words.measurement(one.concept)} {one.value:.7g} {words.unit(one.unit.value)}".rstrip()
            for one in region.measurements
        ]
        values += [
            _judged(one.concept.meaning, one.value.meaning, one.probability, words) for one in region.evaluations
        ]
        lines.append(f"{region.label}: {'; '.join(values)}")
    lines += [_judged(one.concept.meaning, one.value.meaning, one.probability, words) for one in findings.evaluations]
    for one in findings.detections:
        size = "" if one.diameter_mm is None else f" {one.diameter_mm:.1f} mm"
        sure = "" if one.probability is None else f" ({words.say('probability')} {100 * one.probability:.0f} %)"
        lines.append(f"{one.label}: {one.finding.meaning}{size}{sure}")
    return lines


def _judged(concept: str, value: str, probability: float | None, words: Words) -> str:
    sure = "" if probability is None else f" ({words.say('probability')} {100 * probability:.0f} %)"
    return f"{concept}: {value}{sure}"


def _replacing(dataset: Dataset, predecessor: Predecessor | None) -> Dataset:
    if predecessor is not None:
        dataset.PredecessorDocumentsSequence = [predecessor_item(predecessor)]
    return dataset


def _target(segment: Segment) -> Dataset:
    target = document.code(_TARGET, segment.type)
    if segment.laterality is not None:
        target.ContentSequence = [document.code(_LATERALITY, segment.laterality, "HAS CONCEPT MOD")]
    return target


def _reason(code: str) -> Dataset:
    """The reason under its own code, which may be longer than a Code Value (PS3.3 8.1)."""
    item = document.code(_REASON, private("X", REASONS[code].text[:64]))
    value = code_item(private("X", REASONS[code].text[:64]))
    del value.CodeValue
    keyword = "CodeValue" if len(code) <= 16 else "LongCodeValue"
    setattr(value, keyword, code)
    item.ConceptCodeSequence = [value]
    return item
