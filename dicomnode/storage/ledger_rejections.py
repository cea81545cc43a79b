"""Which instances a rejection note named, whether they came before it, came after it, or never came. Blind keys alone."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, select, update

from dicomnode.storage import schema
from dicomnode.storage.database import Database, batches, insert_or_ignore
from dicomnode.study import InstanceRow, Rejected

_R = schema.rejections
#: A note of these holds for whatever comes later, too; one of `Rejected.EXPIRED` for what was there alone (RAD TF-2 4.66).
LASTING: Final = frozenset({Rejected.QUALITY, Rejected.SAFETY, Rejected.WORKLIST})
_STANDING = select(_R.c.study_key, _R.c.instance_key).where(
    _R.c.study_key.in_(bindparam("studies", expanding=True)), _R.c.kind.in_([kind.value for kind in LASTING])
)


class RejectionRows(Database):
    """Rejections."""

    def enter_rejections(
        self,
        study_key: str,
        instance_keys: Collection[str],
        kind: Rejected,
        *,
        note: InstanceRow,
        connection: Connection | None = None,
    ) -> int:
        """Enter that a note names instances of a study, whether they are known or not; how many that were not named so before."""
        base = {
            "study_key": study_key,
            "kind": kind.value,
            "note_key": note.instance_key,
            "note_study_key": note.study_key,
            "received_at": note.received_at,
        }
        count = select(func.count()).select_from(_R).where(_R.c.study_key == study_key)
        with self._writing(connection) as writing:
            before = writing.execute(count).scalar_one()
            insert_or_ignore(writing, _R, [{**base, "instance_key": key} for key in sorted(set(instance_keys))])
            for batch in batches(sorted(set(instance_keys))):  # of several notes the last one's time counts
                here = _R.c.study_key == study_key, _R.c.kind == kind.value, _R.c.instance_key.in_(batch)
                later = update(_R).where(*here, _R.c.received_at < note.received_at)
                writing.execute(later.values(received_at=note.received_at))
            return int(writing.execute(count).scalar_one() - before)

    def is_entered(
        self,
        study_key: str,
        instance_keys: Collection[str],
        kind: Rejected,
        at: datetime,
        *,
        connection: Connection | None = None,
    ) -> bool:
        """Whether a note that came at a time, or a later one of its kind, was judged that names all of these instances."""
        wanted = sorted(set(instance_keys))
        here = _R.c.study_key == study_key, _R.c.kind == kind.value, _R.c.received_at >= at
        query = select(func.count()).select_from(_R).where(*here)
        with self._reading(connection) as reading:
            found = (reading.execute(query.where(_R.c.instance_key.in_(one))).scalar_one() for one in batches(wanted))
            return sum(found) == len(wanted)

    def notes(self, study_key: str, *, connection: Connection | None = None) -> frozenset[str]:
        """Instance keys of the rejection notes that came in a study."""
        query = select(_R.c.note_key).where(_R.c.note_study_key == study_key).distinct()
        with self._reading(connection) as reading:
            return frozenset(reading.execute(query).scalars())

    def expired_at(self, study_key: str, instance_key: str, *, connection: Connection | None = None) -> datetime | None:
        """When the last note came that says that what was there of an instance has expired; None where none did."""
        here = _R.c.study_key == study_key, _R.c.instance_key == instance_key, _R.c.kind == Rejected.EXPIRED.value
        with self._reading(connection) as reading:
            found: datetime | None = reading.execute(select(_R.c.received_at).where(*here)).scalar()
            return found


def standing(connection: Connection, study_keys: Collection[str]) -> frozenset[tuple[str, str]]:
    """Study and instance of what stays rejected, however often it comes."""
    found: set[tuple[str, str]] = set()
    for batch in batches(sorted(set(study_keys))):
        found |= {(row[0], row[1]) for row in connection.execute(_STANDING, {"studies": list(batch)})}
    return frozenset(found)


def forget(connection: Connection, study_key: str) -> None:
    """Delete what is known of a study that goes, and what notes of it say of studies that never came."""
    unknown = _R.c.study_key.not_in(select(schema.studies.c.study_key))
    connection.execute(delete(_R).where(_R.c.study_key == study_key))
    connection.execute(delete(_R).where(_R.c.note_study_key == study_key, unknown))
