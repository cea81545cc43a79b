"""The index: what was received. Rebuilt from the spool after a crash; `resolve`, which decides what a row is, is pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, func, or_, select, update

from dicomnode.errors import NodeError
from dicomnode.storage import schema
from dicomnode.storage.database import Database, batches, changed_rows, insert_or_ignore
from dicomnode.storage.ledger_rejections import standing
from dicomnode.study import InstanceRow, InstanceState, RecordAddress

_T = schema.instances
_S = schema.studies
#: Made once: to make a statement costs more than to run it, and each new study needs all of them.
_BETWEEN = select(_T).where(
    _T.c.segment_id == bindparam("segment"), _T.c.number.between(bindparam("first"), bindparam("last"))
)
_DIGESTS = select(_T.c.instance_key, _T.c.digest, _T.c.state).where(
    _T.c.study_key == bindparam("study"),
    _T.c.instance_key.in_(bindparam("instances", expanding=True)),
    _T.c.state.in_([InstanceState.CURRENT.value, InstanceState.REPLACED.value]),
)
_COUNTS = (
    select(_T.c.study_key, _T.c.state, func.count(), func.min(_T.c.received_at), func.max(_T.c.received_at))
    .where(_T.c.study_key.in_(bindparam("studies", expanding=True)))
    .group_by(_T.c.study_key, _T.c.state)
)
_REFRESH = (
    update(_S)
    .where(_S.c.study_key == bindparam("study"))
    .values(
        instances=bindparam("current"),
        quarantined=bindparam("set_aside"),
        rejected=bindparam("taken_out"),
        first_received_at=bindparam("first"),
        last_received_at=bindparam("last"),
    )
)
_Q = schema.quarantine
#: Whether the record of an instance is known to be damaged or lost.
DAMAGED = (
    select(_Q.c.id)
    .where(_Q.c.what == "segment", _Q.c.study_key == _T.c.study_key)
    .where(_Q.c.segment_id == _T.c.segment_id, _Q.c.number == _T.c.number)
    .correlate(_T)
    .exists()
)
_LOST = select(_T.c.instance_key).where(
    _T.c.study_key == bindparam("study"),
    _T.c.instance_key.in_(bindparam("instances", expanding=True)),
    _T.c.state == InstanceState.QUARANTINED.value,
    DAMAGED,
)
_STATE = (
    update(_T)
    .where(_T.c.segment_id == bindparam("segment"), _T.c.number == bindparam("place"))
    .values(state=bindparam("becomes"))
)


def resolve(row: InstanceRow, current_digests: Collection[str], *, is_correction_lost: bool = False) -> InstanceState:
    """What a received instance is, given the digests of the current instances of its key.

    The first is current; the same content again a duplicate; other content under the same UID is set aside, until
    somebody who can read it says whether only its header differs. So is whatever comes where a correction is damaged: it
    may be what that replaced.
    """
    if not current_digests:
        return InstanceState.QUARANTINED if is_correction_lost else InstanceState.CURRENT
    return InstanceState.DUPLICATE if row.digest in current_digests else InstanceState.QUARANTINED


class InstanceRows(Database):
    """Instances and the studies that they make."""

    def record_instances(
        self, rows: Sequence[InstanceRow], *, connection: Connection | None = None
    ) -> tuple[InstanceRow, ...]:
        """Enter received instances, each once by its segment and number.

        Returns
        -------
        tuple of InstanceRow
            The rows in their order, each with the state that stands.

        Raises
        ------
        NodeError
            ``internal`` if a record is known as another study's.

        Notes
        -----
        A UID is looked for within its study: a PACS that splits or merges studies sends the same objects under a new
        Study Instance UID, and there they are inputs.
        """
        with self._writing(connection) as writing:
            stored = _stored(writing, rows)
            current, lost = _current_digests(writing, rows)
            rejected = standing(writing, {row.study_key for row in rows})
            done = []
            for row in rows:
                known = stored.get(_place(row))
                if known is None:
                    key = row.study_key, row.instance_key
                    digests = current.setdefault(key, set())
                    state = resolve(row, digests, is_correction_lost=key in lost)
                    if key in rejected:
                        state = InstanceState.REJECTED
                    known = row if state is row.state else replace(row, state=state)
                    if known.state is InstanceState.CURRENT:
                        digests.add(row.digest)
                    stored[_place(row)] = known
                if known.study_key != row.study_key:  # a segment belongs to one study
                    raise NodeError("internal", number=row.address.number)
                done.append(known)
            _ensure_studies(writing, rows)
            insert_or_ignore(writing, _T, [_values(row) for row in {_place(row): row for row in done}.values()])
            _refresh_studies(writing, sorted({row.study_key for row in rows}))
            return tuple(done)

    def set_instance_state(
        self, study_key: str, address: RecordAddress, state: InstanceState, *, connection: Connection | None = None
    ) -> None:
        """Say what an instance is after all; one that was rejected is never current again.

        Raises
        ------
        NodeError
            ``internal`` if there is no such instance.
        """
        here = _T.c.study_key == study_key, _T.c.segment_id == address.segment_id, _T.c.number == address.number
        with self._writing(connection) as writing:
            instance_key = writing.execute(select(_T.c.instance_key).where(*here)).scalar()
            if state is InstanceState.CURRENT and (study_key, instance_key) in standing(writing, [study_key]):
                state = InstanceState.REJECTED
            if not changed_rows(writing, update(_T).where(*here).values(state=state.value)):
                raise NodeError("internal", instances=0)
            _refresh_studies(writing, [study_key])

    def take_out(
        self,
        study_key: str,
        instance_keys: Collection[str],
        state: InstanceState,
        *,
        until: datetime | None = None,
        now: datetime | None = None,
        connection: Connection | None = None,
    ) -> tuple[InstanceRow, ...]:
        """Take instances out of a study's inputs; those that were among them, or had expired and are rejected now, as they were.

        Among them are those whose records were damaged since, and that results may have been made of.

        Parameters
        ----------
        until
            Time after which what came stays; None: all goes.
        now
            What came later than that came while the clock was ahead: it goes as well. None: nobody knows what time it is.
        """
        found: list[InstanceRow] = []
        from_states = {InstanceState.CURRENT, InstanceState.EXPIRED} - {state}
        was_input = _T.c.state.in_([one.value for one in from_states])
        lost = and_(_T.c.state == InstanceState.QUARANTINED.value, DAMAGED)
        query = select(_T).where(_T.c.study_key == study_key, or_(was_input, lost))
        if until is not None:
            ahead = [] if now is None else [_T.c.received_at > now]
            query = query.where(or_(_T.c.received_at <= until, *ahead))
        with self._writing(connection) as writing:
            for batch in batches(sorted(set(instance_keys))):
                found += map(_row, writing.execute(query.where(_T.c.instance_key.in_(batch))))
            if found:
                places = [{"segment": row.address.segment_id, "place": row.address.number} for row in found]
                writing.execute(_STATE, [{**place, "becomes": state.value} for place in places])
                _refresh_studies(writing, [study_key])
        return tuple(found)

    def bring_back(
        self,
        study_key: str,
        instance_keys: Collection[str],
        after: datetime,
        *,
        now: datetime | None,
        connection: Connection | None = None,
    ) -> None:
        """Of instances that were taken out, let the first whole duplicate count that came after a time, and not later than now.

        Where nobody knows what time it is (None), however late.
        """
        query = select(_T).where(
            _T.c.study_key == study_key,
            _T.c.state == InstanceState.DUPLICATE.value,
            _T.c.received_at > after,
            ~DAMAGED,
        )
        if now is not None:
            query = query.where(_T.c.received_at <= now)
        with self._writing(connection) as writing:
            first: dict[str, InstanceRow] = {}
            for batch in batches(sorted(set(instance_keys))):
                found = writing.execute(query.where(_T.c.instance_key.in_(batch)).order_by(_T.c.received_at))
                for row in map(_row, found):
                    first.setdefault(row.instance_key, row)
            for row in first.values():
                self.set_instance_state(study_key, row.address, InstanceState.CURRENT, connection=writing)

    def instances(
        self,
        study_key: str,
        state: InstanceState | None = InstanceState.CURRENT,
        *,
        connection: Connection | None = None,
    ) -> tuple[InstanceRow, ...]:
        """Instances of a study in one state (None: in any), in the order of their arrival."""
        query = select(_T).where(_T.c.study_key == study_key)
        if state is not None:
            query = query.where(_T.c.state == state.value)
        with self._reading(connection) as reading:
            found = reading.execute(query.order_by(_T.c.received_at, _T.c.segment_id, _T.c.number))
            return tuple(_row(row) for row in found)

    def known_addresses(self, segment_id: str, *, connection: Connection | None = None) -> tuple[RecordAddress, ...]:
        """Addresses of a segment's records that the index has."""
        query = select(_T.c.segment_id, _T.c.number, _T.c.position).where(_T.c.segment_id == segment_id)
        with self._reading(connection) as reading:
            found = reading.execute(query.order_by(_T.c.number))
            return tuple(RecordAddress(segment_id=row[0], number=row[1], offset=row[2]) for row in found)

    def known_records(self, segment_id: str, *, connection: Connection | None = None) -> int:
        """How many of a segment's first records the index has without a gap; what `Spool.recover` asks."""
        known = 0
        for address in self.known_addresses(segment_id, connection=connection):
            if address.number != known:
                break
            known += 1
        return known


def _place(row: InstanceRow) -> tuple[str, int]:
    return row.address.segment_id, row.address.number


def _stored(connection: Connection, rows: Sequence[InstanceRow]) -> dict[tuple[str, int], InstanceRow]:
    found: dict[tuple[str, int], InstanceRow] = {}
    for segment_id in {row.address.segment_id for row in rows}:
        numbers = [row.address.number for row in rows if row.address.segment_id == segment_id]
        within = {"segment": segment_id, "first": min(numbers), "last": max(numbers)}
        for row in map(_row, connection.execute(_BETWEEN, within)):
            found[_place(row)] = row
    return found


def _current_digests(
    connection: Connection, rows: Sequence[InstanceRow]
) -> tuple[dict[tuple[str, str], set[str]], set[tuple[str, str]]]:
    """Digests of what counts, by study and instance; and of which instances a correction counted that is damaged."""
    keys: dict[str, set[str]] = {}
    for row in rows:
        keys.setdefault(row.study_key, set()).add(row.instance_key)
    found: dict[tuple[str, str], set[str]] = {}
    lost: set[tuple[str, str]] = set()
    for study_key, of_study in keys.items():
        replaced: set[str] = set()
        for batch in batches(sorted(of_study)):
            for instance_key, digest, state in connection.execute(
                _DIGESTS, {"study": study_key, "instances": list(batch)}
            ):
                if state == InstanceState.CURRENT.value:
                    found.setdefault((study_key, instance_key), set()).add(digest)
                else:
                    replaced.add(instance_key)
        for batch in batches(sorted(replaced)):
            damaged = connection.execute(_LOST, {"study": study_key, "instances": list(batch)})
            lost |= {(study_key, instance_key) for instance_key in damaged.scalars()}
    return found, lost


def _ensure_studies(connection: Connection, rows: Sequence[InstanceRow]) -> None:
    times: dict[str, list[Any]] = {}
    for row in rows:
        times.setdefault(row.study_key, []).append(row.received_at)
    insert_or_ignore(
        connection,
        _S,
        [
            {
                "study_key": study_key,
                "first_received_at": min(received),
                "last_received_at": max(received),
                "instances": 0,
                "quarantined": 0,
            }
            for study_key, received in times.items()
        ],
    )


def _refresh_studies(connection: Connection, study_keys: Sequence[str]) -> None:
    found: dict[str, list[tuple[Any, ...]]] = {}
    for batch in batches(study_keys):
        for study_key, *of_state in connection.execute(_COUNTS, {"studies": list(batch)}):
            found.setdefault(study_key, []).append(tuple(of_state))
    changed = []
    for study_key, rows in found.items():
        counts: Mapping[str, int] = {row[0]: row[1] for row in rows}
        changed.append(
            {
                "study": study_key,
                "current": counts.get(InstanceState.CURRENT.value, 0),
                "set_aside": counts.get(InstanceState.QUARANTINED.value, 0),
                "taken_out": sum(counts.get(one.value, 0) for one in (InstanceState.REJECTED, InstanceState.EXPIRED)),
                "first": min(row[2] for row in rows),
                "last": max(row[3] for row in rows),
            }
        )
    if changed:
        connection.execute(_REFRESH, changed)


def _values(row: InstanceRow) -> dict[str, Any]:
    return {
        "segment_id": row.address.segment_id,
        "number": row.address.number,
        "position": row.address.offset,
        "study_key": row.study_key,
        "series_key": row.series_key,
        "instance_key": row.instance_key,
        "sop_class_uid": row.sop_class_uid,
        "transfer_syntax_uid": row.transfer_syntax_uid,
        "digest": row.digest,
        "length": row.length,
        "received_at": row.received_at,
        "state": row.state.value,
    }


def _row(row: Row[Any]) -> InstanceRow:
    return InstanceRow(
        study_key=row.study_key,
        series_key=row.series_key,
        instance_key=row.instance_key,
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        digest=row.digest,
        length=row.length,
        address=RecordAddress(segment_id=row.segment_id, number=row.number, offset=row.position),
        received_at=row.received_at,
        state=InstanceState(row.state),
    )
