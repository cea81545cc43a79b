"""Records that were damaged or lost since they came: they leave the inputs, and a whole duplicate takes their place.

May live here: which duplicate that is, and which instances of a study are lost. Opens no record, and tells nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dicomnode.storage.ledger import Ledger
from dicomnode.study import InstanceRow, InstanceState, RecordAddress, WorkState

#: What is told of them, in the quarantine: what, and why.
_WHAT: Final = "segment"
_REASON: Final = "sealed-damaged"
#: In one of these an instance has its place in the study, or was taken out of it by its owner: nothing takes that.
_STANDING: Final = frozenset({InstanceState.CURRENT, InstanceState.REJECTED, InstanceState.EXPIRED})

#: In one of these it has, or had, its place for a while; of damaged records see `heirs`.
_COUNTED: Final = _STANDING | {InstanceState.REPLACED}
#: Whoever has the same bytes has the same content.
_EQUAL: Final = frozenset({InstanceState.DUPLICATE, InstanceState.REPLACED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Aside:
    """What became of an instance whose record is damaged.

    Attributes
    ----------
    heir
        What counts in its place; None where there is nothing whole.
    is_new
        Whether it takes that place now.
    is_open
        Whether the study is to be looked at again: its input is another one, or its work had failed.
    """

    heir: InstanceRow | None = None
    is_new: bool = False
    is_open: bool = False


def heirs(
    row: InstanceRow,
    rows: Iterable[InstanceRow],
    *,
    damaged: Collection[RecordAddress],
    differ: Callable[[InstanceRow, InstanceRow], bool],
) -> Iterator[InstanceRow]:
    """What has the content of an instance, out of a study's rows: of equal bytes first, then its other duplicates.

    A duplicate of other bytes, in another transfer syntax, is one of what counted when that was decided. Which one that was
    stands nowhere, and the order of arrival does not tell: what came in between may have waited for its decision, or lain
    in a receiver that died. So it is one of this instance where it is proved to be one of nothing else that ever counted;
    else it may bring back a header that an update of the patient replaced, and the instance is rather lost.

    Parameters
    ----------
    damaged
        Records of the study that are known to be damaged.
    differ
        Whether the headers of two instances are proved to differ; asked where it matters alone.
    """
    same = [one for one in rows if one.instance_key == row.instance_key and one.address != row.address]
    yield from (one for one in same if one.digest == row.digest and one.state in _EQUAL)
    counted = [
        one
        for one in same
        if one.digest != row.digest
        and (one.state in _COUNTED or (one.state is InstanceState.QUARANTINED and one.address in damaged))
    ]
    others = (one for one in same if one.digest != row.digest and one.state is InstanceState.DUPLICATE)
    yield from (one for one in others if all(differ(one, other) for other in counted))


def set_aside(
    ledger: Ledger,
    row: InstanceRow,
    *,
    at: datetime,
    is_whole: Callable[[InstanceRow], bool],
    differ: Callable[[InstanceRow, InstanceRow], bool],
) -> Aside:
    """Take an instance whose record is damaged out of the inputs, and put a whole duplicate in its place; again is fine.

    Both in one transaction, so that no input lacks what is there; what else it changes is seen to after a kill, too: the
    study counts as not settled then.

    Parameters
    ----------
    is_whole
        Whether a duplicate can be read.
    differ
        As of `heirs`.

    Raises
    ------
    NodeError
        Where the ledger refuses; what `is_whole` and `differ` raise.
    """
    rows, damaged = ledger.instances(row.study_key, None), ledger.damaged(row.study_key)
    wanted = heirs(row, rows, damaged=damaged, differ=differ)
    heir = next((one for one in wanted if is_whole(one)), None)
    with ledger.transaction() as connection:
        ledger.quarantine(row.study_key, _WHAT, _REASON, at, address=row.address, connection=connection)
        now = ledger.instances(row.study_key, None, connection=connection)
        same = {one.address: one for one in now if one.instance_key == row.instance_key}
        own = same.pop(row.address, None)
        here = (
            _STANDING if own is None or own.state is not InstanceState.CURRENT else _STANDING - {InstanceState.EXPIRED}
        )
        if any(one.state in here for one in same.values()):
            return Aside(heir=next((one for one in same.values() if one.state is InstanceState.CURRENT), None))
        if own is None or own.state not in (InstanceState.CURRENT, InstanceState.QUARANTINED):
            return Aside()
        ledger.set_instance_state(row.study_key, row.address, InstanceState.QUARANTINED, connection=connection)
        if heir is None:
            return Aside()
        ledger.set_instance_state(row.study_key, heir.address, InstanceState.CURRENT, connection=connection)
        is_open = heir.digest != row.digest or _has_failed(ledger, row.study_key, connection)
        if is_open:
            ledger.reopen(row.study_key, connection=connection)
        return Aside(heir=heir, is_new=True, is_open=is_open)


def lost(ledger: Ledger, study_key: str) -> tuple[InstanceRow, ...]:
    """Instances of a study whose records are damaged, and in whose place there is nothing: each content once."""
    damaged = ledger.damaged(study_key)
    if not damaged:
        return ()
    rows = ledger.instances(study_key, None)
    standing = {row.instance_key for row in rows if row.state in _STANDING - {InstanceState.EXPIRED}}
    found = {
        (row.instance_key, row.digest): row
        for row in rows
        if row.state is InstanceState.QUARANTINED and row.address in damaged and row.instance_key not in standing
    }
    return tuple(row for row in found.values() if not _has_expired(ledger, row))


def _has_expired(ledger: Ledger, row: InstanceRow) -> bool:
    at = ledger.expired_at(row.study_key, row.instance_key)
    return at is not None and row.received_at <= at


def _has_failed(ledger: Ledger, study_key: str, connection: Any) -> bool:
    study = ledger.study(study_key, connection=connection)
    works = () if study is None else study.works
    latest = [work for work in works if study and work.key.revision == study.revision]
    return any(work.state is WorkState.FAILED and not work.deliveries for work in latest)
