"""What a study is worked on with: what came and counts, less what rejection notes took out; and what lies beside that.

May live here: which instances these are, whether any came again, whether that is a new try, and whether what is gone was
wrong or has only expired. Opens and changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import RevisionRow
from dicomnode.study import FINAL_STATES, InstanceRow, InstanceState, WorkState, input_digest
from dicomnode.workflow.selection import relevant

#: A work that was superseded by what is left made nothing: it is no reason to leave that alone.
_FINISHED = (FINAL_STATES - {WorkState.SUPERSEDED}) | {WorkState.READY, WorkState.HELD, WorkState.DELIVERING}


def inputs(
    ledger: Ledger, study_key: str, sop_classes: Collection[str], connection: Any = None
) -> tuple[InstanceRow, ...]:
    """Instances of a study that count; none where all that a model would look at was rejected, or notes alone came."""
    rows = relevant(ledger.instances(study_key, connection=connection), sop_classes)
    if any(row.sop_class_uid in sop_classes for row in rows):
        return rows
    gone = [
        *ledger.instances(study_key, InstanceState.REJECTED, connection=connection),
        *ledger.instances(study_key, InstanceState.EXPIRED, connection=connection),
    ]
    if any(row.sop_class_uid in sop_classes for row in gone):
        return ()
    notes = ledger.notes(study_key, connection=connection)
    return () if all(row.instance_key in notes for row in rows) else rows


def beside(ledger: Ledger, study_key: str, rows: Sequence[InstanceRow]) -> tuple[InstanceRow, ...]:
    """What else of a study counts than its input (`rows`), rejection notes aside: no model looks at it, but rules do."""
    taken = {row.address for row in rows}
    notes = ledger.notes(study_key)
    current = ledger.instances(study_key)
    return tuple(row for row in current if row.address not in taken and row.instance_key not in notes)


def has_only_expired(
    ledger: Ledger, latest: RevisionRow, rows: Sequence[InstanceRow], sop_classes: Collection[str]
) -> bool:
    """Whether all that a finished revision had and that is not there any more was right, and only its time was over."""
    expired = ledger.instances(latest.study_key, InstanceState.EXPIRED)
    whole = {row.instance_key: row.digest for row in (*relevant(expired, sop_classes), *rows)}
    study = ledger.study(latest.study_key)
    if not expired or study is None or input_digest(list(whole.items())) != latest.input_digest:
        return False
    return all(work.state in _FINISHED for work in study.works if work.key.revision == latest.revision)


def has_come_again(ledger: Ledger, latest: RevisionRow, sop_classes: Collection[str], connection: Any = None) -> bool:
    """Whether anything of a study's input came since a revision was settled, were it the same again.

    Counted in records, as in `Ledger.open_studies`: where a clock was set back, it may be taken to have come, once.
    """
    rows = ledger.instances(latest.study_key, None, connection=connection)
    taken = {row.address for row in relevant(rows, sop_classes)}
    return any(row.address in taken for row in rows[latest.records :])


def is_to_be_tried_again(ledger: Ledger, study_key: str, sop_classes: Collection[str], connection: Any = None) -> bool:
    """Whether the latest revision was whole and failed by a fault before it had results: then the same input, sent again, is a new try.

    Only where something of it was sent again since: our own results, which the PACS forwards, order nothing.
    """
    latest = ledger.latest_revision(study_key, connection=connection)
    study = ledger.study(study_key, connection=connection)
    if latest is None or latest.settled_at is None or study is None:
        return False
    works = [work for work in study.works if work.key.revision == latest.revision]
    states = {work.state for work in works}
    had_results = any(work.deliveries for work in works)  # `dicomnode retry` delivers, `reprocess` makes others
    if WorkState.FAILED not in states or had_results or not states <= {WorkState.FAILED, WorkState.REFUSED}:
        return False
    return has_come_again(ledger, latest, sop_classes, connection)
