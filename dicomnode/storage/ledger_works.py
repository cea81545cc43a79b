"""Revisions of a study's input, and the work on them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, tuple_, update

from dicomnode.errors import Fact, NodeError
from dicomnode.storage import schema
from dicomnode.storage.database import Database, changed_rows, insert_or_ignore
from dicomnode.storage.ledger_results import delivery_rows
from dicomnode.storage.rows import RevisionRow
from dicomnode.study import (
    FINAL_STATES,
    HELD_AT,
    IN_STAGES,
    INCOMPLETE,
    OPEN,
    OVERTAKEN,
    PRIORITIES,
    RETRACTION,
    STAGE_AT,
    WISHED,
    WITHDRAWAL,
    DeliveryRow,
    WorkKey,
    WorkRow,
    WorkState,
    check_transition,
)

_I = schema.instances
_O = schema.origins
_R = schema.revisions
_S = schema.studies
_W = schema.works
_G = schema.stages


class WorkRows(Database):
    """Revisions, works, stage times."""

    def open_revision(
        self,
        study_key: str,
        input_digest: str,
        at: datetime,
        *,
        anew: bool = False,
        records: int | None = None,
        connection: Connection | None = None,
    ) -> tuple[int, bool]:
        """Revision of an input set: the latest if its digest is equal, else (or with `anew`) a new one (True).

        `records`: how many of the study's records were looked at for it.
        """
        with self._writing(connection) as writing:
            latest = _latest(writing, study_key)
            if latest is not None and latest.input_digest == input_digest and not anew:
                return latest.revision, False
            revision = 1 if latest is None else latest.revision + 1
            row = {"study_key": study_key, "revision": revision, "input_digest": input_digest, "opened_at": at}
            writing.execute(_R.insert(), {**row, "records": records})
            return revision, True

    def latest_revision(self, study_key: str, *, connection: Connection | None = None) -> RevisionRow | None:
        """Newest revision of a study."""
        with self._reading(connection) as reading:
            return _latest(reading, study_key)

    def records(self, study_key: str, *, connection: Connection | None = None) -> int:
        """How many records of a study the index has, whatever became of them."""
        with self._reading(connection) as reading:
            return int(reading.execute(_received(study_key)).scalar_one())

    def settle(
        self,
        study_key: str,
        revision: int,
        at: datetime,
        *,
        records: int | None = None,
        lacking: str | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Say that an input set is whole, or all that came; the first time stands.

        Parameters
        ----------
        records
            How many of the study's records were looked at: with more the study is open. None: as many as at its last
            settlement, or all where this is the first.
        lacking
            What the study lacks ("" nothing), kept with the works of the revision; the last time stands. None: as with those
            of the revision before it.

        Raises
        ------
        NodeError
            ``internal`` if there is no such revision.
        """
        here = (_R.c.study_key == study_key, _R.c.revision == revision)
        with self._writing(connection) as writing:
            if writing.execute(select(_R.c.revision).where(*here)).one_or_none() is None:
                raise NodeError("internal", revision=revision)
            if records is None:
                before = select(func.max(_R.c.records)).where(_R.c.study_key == study_key)
                records = writing.execute(before).scalar()
            if records is None:
                records = self.records(study_key, connection=writing)
            writing.execute(update(_R).where(*here).values(records=records))
            writing.execute(update(_R).where(*here, _R.c.settled_at.is_(None)).values(settled_at=at))
            if lacking is None:
                before = select(_W.c.facts).where(_W.c.study_key == study_key, _W.c.revision == revision - 1)
                lacking = next((_lacking(facts) for facts in writing.execute(before).scalars()), "")
            _keep_lacking(writing, study_key, revision, lacking)

    def unsettled(self, *, connection: Connection | None = None) -> tuple[RevisionRow, ...]:
        """Revisions that wait for evidence or the quiet time, oldest first."""
        query = select(_R).where(_R.c.settled_at.is_(None)).order_by(_R.c.opened_at, _R.c.study_key, _R.c.revision)
        with self._reading(connection) as reading:
            return tuple(_revision(row) for row in reading.execute(query))

    def open_studies(self, *, connection: Connection | None = None) -> tuple[tuple[str, datetime], ...]:
        """Studies that got records since their input was last settled, with the time of their last instance.

        Counted in records, not in times: a clock that was set back hides nothing.
        """
        received = select(func.count()).select_from(_I).where(_I.c.study_key == _R.c.study_key).scalar_subquery()
        settled = (
            select(_R.c.study_key)
            .where(_R.c.study_key == _S.c.study_key, _R.c.settled_at.is_not(None), _R.c.records >= received)
            .exists()
        )
        query = select(_S.c.study_key, _S.c.last_received_at).where(~settled).order_by(_S.c.last_received_at)
        with self._reading(connection) as reading:
            return tuple((row.study_key, row.last_received_at) for row in reading.execute(query))

    def reopen(self, study_key: str, *, connection: Connection | None = None) -> None:
        """Its inputs changed though nothing came: the study counts as not settled until it was looked at again."""
        with self._writing(connection) as writing:
            writing.execute(update(_R).where(_R.c.study_key == study_key).values(records=0))

    def create_work(
        self,
        key: WorkKey,
        input_digest: str,
        at: datetime,
        *,
        facts: Mapping[str, Fact] | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Enter a queued work; one that is there stays as it is."""
        row = {
            **_identity(key),
            "state": WorkState.QUEUED.value,
            "facts": json.dumps(dict(facts or {}), sort_keys=True),
            "input_digest": input_digest,
            "created_at": at,
        }
        with self._writing(connection) as writing:
            insert_or_ignore(writing, _W, (row,))

    def work(self, key: WorkKey, *, connection: Connection | None = None) -> WorkRow | None:
        """One work with its stage times and deliveries."""
        with self._reading(connection) as reading:
            found = work_rows(reading, select(_W).where(*_here(key)))
        return found[0] if found else None

    def works(
        self, states: Collection[WorkState] | None = None, *, connection: Connection | None = None
    ) -> tuple[WorkRow, ...]:
        """Works in any of the states (None: all), oldest first."""
        query = select(_W).order_by(_W.c.created_at, _W.c.study_key, _W.c.revision, _W.c.model)
        if states is not None:
            query = query.where(_W.c.state.in_([state.value for state in states]))
        with self._reading(connection) as reading:
            return work_rows(reading, query)

    def waiting_works(self, *, connection: Connection | None = None) -> tuple[tuple[datetime, int], ...]:
        """Since when each work waits that waits for its turn, and its priority (0 STAT, 1 routine, 2 research); oldest first."""
        query = (
            select(_W.c.created_at, _O.c.priority)
            .outerjoin(_O, _O.c.study_key == _W.c.study_key)
            .where(_W.c.state == WorkState.QUEUED.value)
            .order_by(_W.c.created_at)
        )
        with self._reading(connection) as reading:
            found = reading.execute(query)
            return tuple((row.created_at, PRIORITIES.index(row.priority or "routine")) for row in found)

    def wished_back(self, *, connection: Connection | None = None) -> tuple[WorkRow, ...]:
        """Works whose results somebody wishes to be retracted."""
        return self._with_fact(RETRACTION, WISHED, connection)

    def to_withdraw(self, *, connection: Connection | None = None) -> tuple[WorkRow, ...]:
        """Works whose results are still to be withdrawn, since images that they were made of were rejected."""
        return self._with_fact(WITHDRAWAL, OPEN, connection)

    def overtaken(self, *, connection: Connection | None = None) -> tuple[WorkRow, ...]:
        """Works of which a destination took something after newer results were made, and nobody decided on that yet."""
        return self._with_fact(OVERTAKEN, OPEN, connection)

    def _with_fact(self, name: str, value: str, connection: Connection | None) -> tuple[WorkRow, ...]:
        written = json.dumps({name: value})[1:-1]
        with self._reading(connection) as reading:
            return work_rows(reading, select(_W).where(_W.c.facts.contains(written, autoescape=True)))

    def set_work_state(
        self,
        key: WorkKey,
        state: WorkState,
        *,
        at: datetime,
        reason: str | None = None,
        facts: Mapping[str, Fact] | None = None,
        connection: Connection | None = None,
    ) -> None:
        """Move a work to a state that may follow its own; the same again is fine.

        Parameters
        ----------
        reason
            Code of the new state; None takes the old one away, unless the state stays.
        facts
            Joined to those that stand.

        Raises
        ------
        NodeError
            ``transition-forbidden``; ``internal`` if there is no such work.
        """
        with self._writing(connection) as writing:
            found = select(_W.c.state, _W.c.reason, _W.c.facts).where(*_here(key)).with_for_update()
            row = writing.execute(found).one_or_none()
            if row is None:
                raise NodeError("internal", works=0)
            old = WorkState(row.state)
            check_transition(old, state)
            values: dict[str, Any] = {"state": state.value, "reason": reason}
            if old is state and reason is None:
                values["reason"] = row.reason
            if old is not state:
                values["settled_at"] = at if state in FINAL_STATES else None
                if state is WorkState.HELD:
                    facts = {**(facts or {}), HELD_AT: int(at.timestamp())}
            stands = json.loads(row.facts)
            kept = {name: fact for name, fact in stands.items() if name != STAGE_AT} | dict(facts or {})
            if state in IN_STAGES:
                kept[STAGE_AT] = int(at.timestamp())
            if kept != stands:
                values["facts"] = json.dumps(kept, sort_keys=True)
            writing.execute(update(_W).where(*_here(key)).values(**values))

    def add_facts(self, key: WorkKey, facts: Mapping[str, Fact], *, connection: Connection | None = None) -> None:
        """Join facts to those of a work, in whatever state it is by now.

        Raises
        ------
        NodeError
            ``internal`` if there is no such work.
        """
        with self._writing(connection) as writing:
            row = writing.execute(select(_W.c.facts).where(*_here(key))).one_or_none()
            if row is None:
                raise NodeError("internal", works=0)
            values = {"facts": json.dumps({**json.loads(row.facts), **facts}, sort_keys=True)}
            writing.execute(update(_W).where(*_here(key)).values(**values))

    def record_stage(self, key: WorkKey, stage: str, seconds: float, *, connection: Connection | None = None) -> None:
        """Enter how long a stage took; the last run of it stands."""
        here = (*_same(_G, key), _G.c.stage == stage)
        with self._writing(connection) as writing:
            if not changed_rows(writing, update(_G).where(*here).values(seconds=seconds)):
                writing.execute(_G.insert(), {**_identity(key), "stage": stage, "seconds": seconds})


def work_rows(connection: Connection, query: Select[Any]) -> tuple[WorkRow, ...]:
    """Works that a query over the works' table selects, filled, in three queries whatever their number."""
    found = connection.execute(query).all()
    wanted = query.with_only_columns(_W.c.study_key, _W.c.revision, _W.c.model).order_by(None)
    stages: dict[WorkKey, dict[str, float]] = {}
    for row in connection.execute(select(_G).where(tuple_(_G.c.study_key, _G.c.revision, _G.c.model).in_(wanted))):
        stages.setdefault(_key(row), {})[row.stage] = row.seconds
    deliveries = delivery_rows(connection, wanted)
    return tuple(_work(row, stages.get(_key(row), {}), deliveries.get(_key(row), ())) for row in found)


def _lacking(facts: str) -> str:
    return str(json.loads(facts).get(INCOMPLETE, ""))


def _keep_lacking(connection: Connection, study_key: str, revision: int, lacking: str) -> None:
    its = select(_W.c.model, _W.c.facts).where(_W.c.study_key == study_key, _W.c.revision == revision)
    for row in connection.execute(its).all():
        if _lacking(row.facts) == lacking:
            continue
        facts = {name: fact for name, fact in json.loads(row.facts).items() if name != INCOMPLETE}
        facts |= {INCOMPLETE: lacking} if lacking else {}
        key = WorkKey(study_key=study_key, revision=revision, model=row.model)
        connection.execute(update(_W).where(*_here(key)).values(facts=json.dumps(facts, sort_keys=True)))


def _received(study_key: str) -> Select[Any]:
    return select(func.count()).select_from(_I).where(_I.c.study_key == study_key)


def _latest(connection: Connection, study_key: str) -> RevisionRow | None:
    query = select(_R).where(_R.c.study_key == study_key).order_by(_R.c.revision.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _revision(row)


def _revision(row: Row[Any]) -> RevisionRow:
    return RevisionRow(
        study_key=row.study_key,
        revision=row.revision,
        input_digest=row.input_digest,
        opened_at=row.opened_at,
        settled_at=row.settled_at,
        records=row.records or 0,
    )


def _work(row: Row[Any], stages: dict[str, float], deliveries: tuple[DeliveryRow, ...]) -> WorkRow:
    return WorkRow(
        key=_key(row),
        state=WorkState(row.state),
        reason=row.reason,
        facts=json.loads(row.facts),
        input_digest=row.input_digest,
        created_at=row.created_at,
        settled_at=row.settled_at,
        stages=stages,
        deliveries=deliveries,
    )


def _key(row: Row[Any]) -> WorkKey:
    return WorkKey(study_key=row.study_key, revision=row.revision, model=row.model)


def _identity(key: WorkKey) -> dict[str, Any]:
    return {"study_key": key.study_key, "revision": key.revision, "model": key.model}


def _same(table: Any, key: WorkKey) -> tuple[Any, ...]:
    columns = table.c
    return columns.study_key == key.study_key, columns.revision == key.revision, columns.model == key.model


def _here(key: WorkKey) -> tuple[Any, ...]:
    return _same(_W, key)
