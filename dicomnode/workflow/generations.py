"""Generations of results: what is made again of the same input gets UIDs of its own where the first results may be known.

May live here: which generation a work's results are of, and how it enters what their UIDs derive from. A destination may
have rejected the first ones, or be about to: by our own note, which goes with the new ones. What decides lies in works of
earlier revisions, of which none is let go any more, and in what is kept of studies that were shredded: a stage that runs
again after a kill finds the same generation.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from itertools import count
from typing import Any, Final

from dicomnode.storage.ledger import Ledger
from dicomnode.study import OVERTAKEN, SOURCE, WORK_STAGES, StudyRow, WorkKey, WorkRow

#: The stage that ends when the results of a work are let go, or held; none that was superseded before has it.
_LET_GO: Final = "wait"


def fresh(ledger: Ledger, key: WorkKey, source: str) -> str:
    """What the UIDs of a work's results derive from.

    Parameters
    ----------
    source
        As of `Analyst.source_of`: of the first generation, which it is where no earlier revision of the study let such
        results go.

    Returns
    -------
    str
        64 hexadecimal digits, those of no results that went before: whatever became of them, and of whatever model, since
        one may have been given another name; nor of any that we had rejected before the study was shredded.
    """
    study = ledger.study(key.study_key)
    earlier = [work for work in (() if study is None else study.works) if work.key.revision < key.revision]
    known = {work.facts.get(SOURCE) for work in earlier if _was_let_go(work)}
    generations = (_of(source, generation) for generation in count())
    return next(one for one in generations if one not in known and not ledger.is_issued(_spent(one)))


def remember(connection: Any, ledger: Ledger, study: StudyRow, at: datetime) -> None:
    """Enter, for good, which results of a study that is shredded a destination may have rejected by a note of ours.

    It stands where the times of first results do, which outlive a study: a digest, under which nobody finds a patient. What
    was not rejected is left out: the same input makes the same bytes again.
    """
    for work in study.works:
        source = work.facts.get(SOURCE)
        if source and _was_let_go(work) and (work.is_wrong or OVERTAKEN in work.facts or _is_noted(work, study)):
            ledger.issue_time(_spent(str(source)), at, connection=connection)


def _is_noted(work: WorkRow, study: StudyRow) -> bool:
    """Whether a note of newer results may be anywhere: it names those before."""
    newer = [one for one in study.works if one.key.model == work.key.model and one.key.revision > work.key.revision]
    return any(row.may_be_there and not row.is_result for one in newer for row in one.deliveries)


def _spent(source: str) -> str:
    return hashlib.sha256(f"{source} spent".encode()).hexdigest()


def record_wait(connection: Any, ledger: Ledger, work: WorkRow, now: datetime) -> None:
    """Note that the results of a work are let go, or held: those that are made again get UIDs of their own.

    With it stands for how many seconds they waited, finished, until the study was surely whole.
    """
    busy = sum(seconds for name, seconds in work.stages.items() if name in WORK_STAGES)
    ledger.record_stage(
        work.key, _LET_GO, max((now - work.created_at).total_seconds() - busy, 0.0), connection=connection
    )


def record_retry(connection: Any, ledger: Ledger, work: WorkRow, now: datetime) -> None:
    """The same where people let go what waited, and was cancelled or given up, by having it tried."""
    if _LET_GO not in work.stages:
        record_wait(connection, ledger, work, now)


def _was_let_go(work: WorkRow) -> bool:
    """Whether a destination may have, or get, results of a work: a try may be under way that the ledger does not know of."""
    return work.may_be_delivered or (_LET_GO in work.stages and any(one.is_result for one in work.deliveries))


def _of(source: str, generation: int) -> str:
    """The first generation is what it was before there were any: UIDs of ordinary results stay."""
    return hashlib.sha256(f"{source} {generation}".encode()).hexdigest() if generation else source
