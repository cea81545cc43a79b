"""Records that were damaged or lost since they came: they leave the inputs, and a whole duplicate takes their place.

May live here: which duplicate that is, and which instances of a study are lost. Opens no record, and tells nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from dicomnode.storage.ledger import Ledger
from dicomnode.study import InstanceRow, InstanceState, WorkState

#: What is told of them, in the quarantine: what, and why.
_WHAT: Final = "segment"
_REASON: Final = "sealed-damaged"
#: In one of these an instance has its place in the study, or was taken out of it by its owner: nothing takes that.
_STANDING: Final = frozenset({InstanceState.CURRENT, InstanceState.REJECTED, InstanceState.EXPIRED})


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


def heirs(row: InstanceRow, rows: Sequence[InstanceRow]) -> tuple[InstanceRow, ...]:
    """Duplicates of an instance out of a study's rows in the order of their arrival: those of equal bytes first.

    A duplicate of other bytes, in another transfer syntax, is one of what counted when it came: what came before the
    instance may be one of what that replaced.
    """
    same = [one for one in rows if one.instance_key == row.instance_key]
    began = next(
        number
        for number, one in enumerate([*same, row])
        if one.address == row.address or (one.state is InstanceState.QUARANTINED and one.digest == row.digest)
    )
    found = [(number, one) for number, one in enumerate(same) if one.state is InstanceState.DUPLICATE]
    equal = [one for _, one in found if one.digest == row.digest]
    return (*equal, *(one for number, one in found if one.digest != row.digest and number > began))


def set_aside(ledger: Ledger, row: InstanceRow, *, at: datetime, is_whole: Callable[[InstanceRow], bool]) -> Aside:
    """Take an instance whose record is damaged out of the inputs, and put a whole duplicate in its place; again is fine.

    Both in one transaction, so that no input lacks what is there; what else it changes is seen to after a kill, too: the
    study counts as not settled then.

    Parameters
    ----------
    is_whole
        Whether a duplicate can be read.

    Raises
    ------
    NodeError
        Where the ledger refuses; what `is_whole` raises.
    """
    wanted = heirs(row, ledger.instances(row.study_key, None))
    heir = next((one for one in wanted if is_whole(one)), None)
    with ledger.transaction() as connection:
        ledger.quarantine(row.study_key, _WHAT, _REASON, at, address=row.address, connection=connection)
        rows = ledger.instances(row.study_key, None, connection=connection)
        same = {one.address: one for one in rows if one.instance_key == row.instance_key}
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
    return any(work.state is WorkState.FAILED for work in works if study and work.key.revision == study.revision)
