"""Every received record read again and held against the index: what was damaged or lost since is named and set aside.

A start reads what the index lacks; this reads everything, as often as somebody asks for it. Where the same object came
twice, the other one takes the place of one that is damaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from dicomnode.encoded import Limits
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.segment_reader import LOST_KEYS, Damage
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, RecordAddress
from dicomnode.workflow.damage import set_aside
from dicomnode.workflow.ports import Clock
from dicomnode.workflow.records import differ

#: Kinds of damage that are said of a record, or of the first of a segment of which none can be read.
_OF_RECORDS: Final = frozenset({"damaged", "unreadable"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was found: records that are whole, by study, and whatever is not.

    Attributes
    ----------
    instead
        Of faults in whose place a whole duplicate is input, that one.
    """

    whole: Counter[str]
    faults: tuple[Damage, ...]
    instead: Mapping[Damage, RecordAddress]


class Verification:
    """Reads the whole spool; nothing may be written to it meanwhile.

    Parameters
    ----------
    ledger, spool
        The index, and what it speaks of.
    limits
        Of what is read.
    clock
        Time of what is set aside.
    """

    def __init__(self, ledger: Ledger, spool: Spool, limits: Limits, clock: Clock) -> None:
        self._ledger = ledger
        self._spool = spool
        self._differ = partial(differ, spool, limits)
        self._clock = clock

    def run(self) -> Verified:
        """Verify; every fault stands in the quarantine when this returns, once, and is no input of its study any more.

        What is whole and came twice is input in its place.

        Raises
        ------
        StorageError
            ``storage-failed`` if the disk or the ledger refuses.
        """
        damages: list[Damage] = []
        whole: Counter[str] = Counter()
        found: dict[str, set[int]] = {}
        for study_key, address, _ in self._spool.recover(on_damage=damages.append):
            whole[study_key] += 1
            found.setdefault(address.segment_id, set()).add(address.number)
        faults = [damage for damage in damages if damage.kind != "torn"]
        faults += self._missing(found, faults)
        taken = {fault: self._set_aside(fault, found) for fault in faults}
        instead = {fault: address for fault, address in taken.items() if address is not None}
        return Verified(whole=whole, faults=tuple(faults), instead=instead)

    def _set_aside(self, fault: Damage, found: dict[str, set[int]]) -> RecordAddress | None:
        """Set a fault aside; where the whole duplicate is that is input in its place, if there is one."""
        rows = self._ledger.instances(fault.study_key, None) if fault.kind in _OF_RECORDS else ()
        for row in rows:  # where it begins is not known of a segment that cannot be read at all
            if (row.address.segment_id, row.address.number) == (fault.segment_id, fault.number):
                aside = set_aside(
                    self._ledger,
                    row,
                    at=self._clock(),
                    is_whole=lambda one: _is_in(one, found),
                    differ=self._differ,
                )
                heir = aside.heir  # of a record that was replaced before, it is of another content
                return heir.address if heir and (aside.is_new or heir.digest == row.digest) else None
        address = fault.address
        self._ledger.quarantine(fault.study_key, "segment", fault.reason, self._clock(), address=address)
        return None

    def _missing(self, found: dict[str, set[int]], faults: list[Damage]) -> list[Damage]:
        """Records that the index knows, and that were neither found whole nor told to be damaged."""
        told = {(fault.segment_id, fault.number) for fault in faults}
        without_key = {fault.segment_id for fault in faults if fault.kind in LOST_KEYS.values()}
        return [
            Damage(
                study_key=study_key,
                segment_id=row.address.segment_id,
                number=row.address.number,
                offset=row.address.offset,
                kind="damaged",
            )
            for study_key in self._ledger.all_study_keys()
            for row in self._ledger.instances(study_key, None)
            if row.address.segment_id not in without_key
            and (row.address.segment_id, row.address.number) not in told
            and row.address.number not in found.get(row.address.segment_id, ())
        ]


def _is_in(row: InstanceRow, found: dict[str, set[int]]) -> bool:
    return row.address.number in found.get(row.address.segment_id, ())
