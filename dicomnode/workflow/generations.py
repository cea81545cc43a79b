"""Generations of results: what is made again of the same input gets UIDs of its own where the first results may be known.

May live here: which generation a work's results are of, and how it enters what their UIDs derive from. A destination may
have rejected the first ones, or be about to: by our own note, which goes with the new ones. What decides lies in works of
earlier revisions, of which none is let go any more: a stage that runs again after a kill finds the same generation.
"""

from __future__ import annotations

import hashlib
from itertools import count
from typing import Final

from dicomnode.storage.ledger import Ledger
from dicomnode.study import SOURCE, WorkKey, WorkRow

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
        one may have been given another name.
    """
    study = ledger.study(key.study_key)
    earlier = [work for work in (() if study is None else study.works) if work.key.revision < key.revision]
    known = {work.facts.get(SOURCE) for work in earlier if _was_let_go(work)}
    return next(one for one in (_of(source, generation) for generation in count()) if one not in known)


def _was_let_go(work: WorkRow) -> bool:
    """Whether a destination may have, or get, results of a work: a try may be under way that the ledger does not know of."""
    return work.may_be_delivered or (_LET_GO in work.stages and any(one.is_result for one in work.deliveries))


def _of(source: str, generation: int) -> str:
    """The first generation is what it was before there were any: UIDs of ordinary results stay."""
    return hashlib.sha256(f"{source} {generation}".encode()).hexdigest() if generation else source
