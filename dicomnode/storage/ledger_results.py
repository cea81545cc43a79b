"""Result objects and their deliveries: one row for each object and destination, with the peer's status."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, case, select, tuple_, update

from dicomnode.errors import NodeError, StudyError
from dicomnode.storage import schema
from dicomnode.storage.database import Database, changed_rows, insert_or_ignore
from dicomnode.storage.rows import ResultRow
from dicomnode.study import CommitmentState, DeliveryRow, DeliveryState, ResultRole, WorkKey

_T = schema.results
_D = schema.deliveries
#: PS3.7 C.5.3: duplicate SOP instance, also where C-FIND does not show it.
_DUPLICATE = 0x0111
#: What is known of a try after which the destination may have the object: it went out, and no answer came.
_UNANSWERED = frozenset({"peer-aborted", "timeout", "peer-too-much", "duplicate-unproven"})
_ENDED = (DeliveryState.CANCELLED, DeliveryState.REFUSED, DeliveryState.DOWNGRADED)


class ResultRows(Database):
    """Results and deliveries."""

    def record_results(
        self,
        key: WorkKey,
        results: Sequence[ResultRow],
        destinations: Sequence[str],
        at: datetime,
        *,
        connection: Connection | None = None,
    ) -> None:
        """Enter the results of a work and a waiting delivery of each to every destination; again changes nothing.

        Raises
        ------
        StudyError
            ``result-invalid`` if a result is there with other content: the same name never carries another.
        """
        with self._writing(connection) as writing:
            insert_or_ignore(writing, _T, [_result_values(key, row, at) for row in results])
            stored = dict(_results(writing, [row.result_id for row in results]))
            if any(stored[row.result_id] != (key, row) for row in results):
                raise StudyError("result-invalid", results=len(results))
            for destination in destinations:
                self.add_deliveries(destination, [row.result_id for row in results], at, connection=writing)

    def add_deliveries(
        self, destination: str, result_ids: Sequence[str], at: datetime, *, connection: Connection | None = None
    ) -> None:
        """Enter a waiting delivery of each result to one destination; one that is there stays as it is."""
        fresh = {"destination": destination, "state": DeliveryState.WAITING.value, "attempts": 0, "updated_at": at}
        with self._writing(connection) as writing:
            insert_or_ignore(writing, _D, [{"result_id": result_id, **fresh} for result_id in result_ids])

    def issue_time(self, result_key: str, at: datetime, *, connection: Connection | None = None) -> datetime:
        """Moment at which a result was first made: the first call for a key enters `at`, which then stands for good.

        It outlives the study: the same input makes the same bytes again.
        """
        query = select(schema.issued.c.issued_at).where(schema.issued.c.result_key == result_key)
        with self._writing(connection) as writing:
            insert_or_ignore(writing, schema.issued, ({"result_key": result_key, "issued_at": at},))
            issued_at: datetime = writing.execute(query).scalar_one()
            return issued_at

    def is_issued(self, result_key: str) -> bool:
        """Whether `issue_time` was ever called for a key."""
        query = select(schema.issued.c.result_key).where(schema.issued.c.result_key == result_key)
        with self._reading(None) as reading:
            return reading.execute(query).first() is not None

    def results(self, key: WorkKey, *, connection: Connection | None = None) -> tuple[ResultRow, ...]:
        """Results of a work, in the order of their roles."""
        query = select(_T).where(_T.c.study_key == key.study_key, _T.c.revision == key.revision)
        with self._reading(connection) as reading:
            found = [_result(row) for row in reading.execute(query.where(_T.c.model == key.model))]
        order = list(ResultRole)
        return tuple(sorted(found, key=lambda row: (order.index(row.role), row.result_id)))

    def is_overtaken(self, result_id: str, *, connection: Connection | None = None) -> bool:
        """Whether there are results of a newer revision of the study by the same model; a rejection note is none that is."""
        own = _T.alias()
        same = own.c.study_key == _T.c.study_key, own.c.model == _T.c.model, own.c.revision < _T.c.revision
        query = select(_T.c.result_id).join(own, and_(*same)).where(own.c.result_id == result_id)
        with self._reading(connection) as reading:
            return reading.execute(query.where(own.c.role != ResultRole.REJECTION.value).limit(1)).first() is not None

    def work_of_result(self, result_id: str, *, connection: Connection | None = None) -> WorkKey | None:
        """Which work a result is of."""
        with self._reading(connection) as reading:
            found = _results(reading, [result_id])
        return found[0][1][0] if found else None

    def deliveries(self, key: WorkKey, *, connection: Connection | None = None) -> tuple[DeliveryRow, ...]:
        """Deliveries of a work's results."""
        wanted = select(_T.c.study_key, _T.c.revision, _T.c.model).where(
            _T.c.study_key == key.study_key, _T.c.revision == key.revision, _T.c.model == key.model
        )
        with self._reading(connection) as reading:
            return delivery_rows(reading, wanted).get(key, ())

    def record_delivery(
        self,
        result_id: str,
        destination: str,
        *,
        state: DeliveryState,
        status: int | None,
        reason: str | None,
        at: datetime,
        asked: bool = False,
        ends_try: bool = False,
        connection: Connection | None = None,
    ) -> bool:
        """Enter the outcome of one try; counts it. Whether the peer may have the object by it.

        What was ended while it was tried (cancelled, given up, replaced by another form) stays so, with its reason: that the
        peer has the object is all that is more than that. That it may have it stands for good, whatever it says later.

        Parameters
        ----------
        status
            DIMSE status of the peer; None where no answer came.
        asked
            Whether the peer was only asked something: the object did not go out.
        ends_try
            Whether it is the outcome of what `begin_try` said of this object.

        Raises
        ------
        NodeError
            ``internal`` if there is no such delivery.
        """
        values: dict[str, Any] = {"state": state.value, "reason": reason}
        if state is not DeliveryState.CONFIRMED:
            ended = _D.c.state.in_([one.value for one in _ENDED])
            values = {name: case((ended, _D.c[name]), else_=value) for name, value in values.items()}
        unanswered = status is None and not asked and reason in _UNANSWERED
        sent = state is DeliveryState.CONFIRMED or status == _DUPLICATE or unanswered
        values |= ({"sent": True} if sent else {}) | ({"under_way": False} if ends_try else {})
        statement = (
            update(_D)
            .where(_D.c.result_id == result_id, _D.c.destination == destination)
            .values(**values, status=status, updated_at=at, attempts=_D.c.attempts + 1)
        )
        with self._writing(connection) as writing:
            if not changed_rows(writing, statement):
                raise NodeError("internal", deliveries=0)
        return sent

    def begin_try(self, result_ids: Sequence[str], destination: str, *, connection: Connection | None = None) -> bool:
        """Enter, before the first byte goes, that objects are being sent; whether of any that was never ended: it may be there.

        Not yet of those of this try: while it lasts, nothing is known of what it adds.
        """
        here = _D.c.destination == destination, _D.c.result_id.in_(result_ids)
        with self._writing(connection) as writing:
            left = changed_rows(writing, update(_D).where(*here, _D.c.under_way.is_(True)).values(sent=True))
            writing.execute(update(_D).where(*here).values(under_way=True))
        return bool(left)

    def end_try(self, result_ids: Sequence[str], destination: str) -> None:
        """Enter of objects that the destination did not take that they are not being sent any more."""
        with self._writing(None) as writing:
            here = _D.c.destination == destination, _D.c.result_id.in_(result_ids)
            writing.execute(update(_D).where(*here).values(under_way=False))

    def end_tries(self, *, connection: Connection | None = None) -> tuple[str, ...]:
        """Before any try begins: what one that was killed was sending may be there; which results."""
        with self._writing(connection) as writing:
            found = writing.execute(select(_D.c.result_id).where(_D.c.under_way.is_(True))).scalars().all()
            if found:
                ended = {"sent": True, "under_way": False}
                writing.execute(update(_D).where(_D.c.under_way.is_(True)).values(**ended))
        return tuple(dict.fromkeys(found))

    def sent_since(
        self, moment: datetime, *, connection: Connection | None = None
    ) -> tuple[tuple[str, datetime, int], ...]:
        """What destinations took since a moment, in its order: which one, when, and bytes of the object."""
        query = (
            select(_D.c.destination, _D.c.updated_at, _T.c.length)
            .join(_T, _T.c.result_id == _D.c.result_id)
            .where(_D.c.state == DeliveryState.CONFIRMED.value, _D.c.updated_at >= moment)
            .order_by(_D.c.updated_at)
        )
        with self._reading(connection) as reading:
            return tuple((row[0], row[1], row[2]) for row in reading.execute(query))

    def dead_letters(
        self, limit: int, *, connection: Connection | None = None
    ) -> tuple[tuple[WorkKey, DeliveryRow], ...]:
        """Deliveries that ended without the destination having the object and that nobody cancelled, newest first."""
        query = (
            select(_D, _T.c.study_key, _T.c.revision, _T.c.model, _T.c.role, _T.c.form)
            .join(_T, _T.c.result_id == _D.c.result_id)
            .where(_D.c.state == DeliveryState.REFUSED.value)
            .order_by(_D.c.updated_at.desc(), _D.c.destination, _D.c.result_id)
            .limit(limit)
        )
        with self._reading(connection) as reading:
            return tuple((_work_key(row), _delivery(row)) for row in reading.execute(query))

    def put_deliveries(
        self,
        rows: Sequence[DeliveryRow],
        state: DeliveryState,
        at: datetime,
        *,
        reason: str | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Bring deliveries into a state because somebody ordered it; one that is to be made again has no tries yet."""
        values: dict[str, Any] = {"state": state.value, "reason": reason, "updated_at": at}
        if state is DeliveryState.WAITING:
            values |= {"attempts": 0, "commitment": None}
        with self._writing(connection) as writing:
            for row in rows:
                here = _D.c.result_id == row.result_id, _D.c.destination == row.destination
                writing.execute(update(_D).where(*here).values(**values))


def delivery_rows(connection: Connection, works: Select[Any]) -> dict[WorkKey, tuple[DeliveryRow, ...]]:
    """Deliveries of the works that a query gives as (study key, revision, model)."""
    query = (
        select(_D, _T.c.study_key, _T.c.revision, _T.c.model, _T.c.role, _T.c.form)
        .join(_T, _T.c.result_id == _D.c.result_id)
        .where(tuple_(_T.c.study_key, _T.c.revision, _T.c.model).in_(works))
    )
    order = list(ResultRole)
    found: dict[WorkKey, list[DeliveryRow]] = {}
    for row in connection.execute(query):
        found.setdefault(_work_key(row), []).append(_delivery(row))
    return {
        key: tuple(sorted(rows, key=lambda row: (row.destination, order.index(row.role), row.result_id)))
        for key, rows in found.items()
    }


def _results(connection: Connection, result_ids: Sequence[str]) -> list[tuple[str, tuple[WorkKey, ResultRow]]]:
    query = select(_T).where(_T.c.result_id.in_(result_ids))
    return [(row.result_id, (_work_key(row), _result(row))) for row in connection.execute(query)]


def _work_key(row: Row[Any]) -> WorkKey:
    return WorkKey(study_key=row.study_key, revision=row.revision, model=row.model)


def _result(row: Row[Any]) -> ResultRow:
    return ResultRow(
        result_id=row.result_id,
        role=ResultRole(row.role),
        form=row.form,
        sop_class_uid=row.sop_class_uid,
        digest=row.digest,
        length=row.length,
    )


def _delivery(row: Row[Any]) -> DeliveryRow:
    return DeliveryRow(
        result_id=row.result_id,
        role=ResultRole(row.role),
        form=row.form,
        destination=row.destination,
        state=DeliveryState(row.state),
        status=row.status,
        reason=row.reason,
        attempts=row.attempts,
        updated_at=row.updated_at,
        commitment=None if row.commitment is None else CommitmentState(row.commitment),
        sent=row.sent,
    )


def _result_values(key: WorkKey, row: ResultRow, at: datetime) -> dict[str, Any]:
    return {
        "study_key": key.study_key,
        "revision": key.revision,
        "model": key.model,
        "result_id": row.result_id,
        "role": row.role.value,
        "form": row.form,
        "sop_class_uid": row.sop_class_uid,
        "digest": row.digest,
        "length": row.length,
        "created_at": at,
    }
