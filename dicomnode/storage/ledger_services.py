"""What the services beside C-STORE leave behind: who sent a study, what was announced of it, commitments asked for."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, or_, select, update

from dicomnode.storage import schema
from dicomnode.storage.database import Database, changed_rows, insert_or_ignore, inserted_rows
from dicomnode.storage.ledger_index import DAMAGED
from dicomnode.storage.rows import CommitmentRow, ProcedureRow
from dicomnode.study import PRIORITIES, InstanceState

_A = schema.announced
_C = schema.commitments
_I = schema.instances
_O = schema.origins
_P = schema.procedures
_WRONG_ENTRY = "wrong-entry"


class ServiceRows(Database):
    """Origins, procedure steps, commitments."""

    def size_of_study(self, study_key: str, *, connection: Connection | None = None) -> tuple[int, int]:
        """Current instances of a study, and their bytes."""
        query = select(func.count(), func.coalesce(func.sum(_I.c.length), 0)).where(
            _I.c.study_key == study_key, _I.c.state == InstanceState.CURRENT.value
        )
        with self._reading(connection) as reading:
            found = reading.execute(query).one()
        return int(found[0]), int(found[1])

    def digests_of(self, study_key: str, instance_key: str, *, connection: Connection | None = None) -> frozenset[str]:
        """Digests of what is stored of an instance, whatever became of it; not of records that are damaged since."""
        here = _I.c.study_key == study_key, _I.c.instance_key == instance_key
        query = select(_I.c.digest).where(*here, ~DAMAGED)
        with self._reading(connection) as reading:
            return frozenset(reading.execute(query).scalars())

    def rank_study(self, study_key: str, peer: str, priority: str, *, connection: Connection | None = None) -> None:
        """Keep who sent a study and how urgent it is: the most urgent of its senders stands, unless a rule said it."""
        with self._writing(connection) as writing:
            said = {"peer": peer, "priority": priority, "sent_as": priority}
            insert_or_ignore(writing, _O, ({"study_key": study_key, **said},))
            this, lesser = _O.c.study_key == study_key, PRIORITIES[PRIORITIES.index(priority) + 1 :]
            own = or_(_O.c.sent_as.is_(None), _O.c.sent_as.in_(lesser))
            writing.execute(update(_O).where(this, own).values(sent_as=priority))
            writing.execute(update(_O).where(this, _O.c.priority.in_(lesser), _O.c.ruled.is_(False)).values(said))

    def rank_of_study(self, study_key: str, *, connection: Connection | None = None) -> tuple[str, str] | None:
        """Name of the peer that sent a study, and its priority; None where no rule let it in."""
        with self._reading(connection) as reading:
            row = reading.execute(select(_O).where(_O.c.study_key == study_key)).one_or_none()
        return None if row is None else (row.peer, row.priority)

    def sent_as(self, study_key: str) -> str:
        """How urgent the senders of a study are, whatever rules say."""
        with self._reading(None) as reading:
            row = reading.execute(select(_O.c.sent_as, _O.c.priority).where(_O.c.study_key == study_key)).one_or_none()
        return "routine" if row is None else row.sent_as or row.priority

    def set_priority(self, study_key: str, priority: str | None, *, connection: Connection | None = None) -> None:
        """Say by a rule how urgent a study is, whoever sends more of it; None: no rule says it (any more)."""
        this = _O.c.study_key == study_key
        with self._writing(connection) as writing:
            if priority is None:
                own = func.coalesce(_O.c.sent_as, _O.c.priority)
                writing.execute(update(_O).where(this, _O.c.ruled.is_(True)).values(ruled=False, priority=own))
                return
            insert_or_ignore(writing, _O, ({"study_key": study_key, "peer": "", "priority": priority},))
            writing.execute(update(_O).where(this).values(priority=priority, ruled=True))

    def mark_straight(self, study_key: str, *, connection: Connection | None = None) -> None:
        """Keep that something of a study came straight from a modality; to be called after `rank_study`."""
        with self._writing(connection) as writing:
            writing.execute(update(_O).where(_O.c.study_key == study_key).values(straight=True))

    def is_straight(self, study_key: str, *, connection: Connection | None = None) -> bool:
        """Whether anything of a study came straight from a modality."""
        with self._reading(connection) as reading:
            return bool(reading.execute(select(_O.c.straight).where(_O.c.study_key == study_key)).scalar())

    def priority(self, study_key: str, *, connection: Connection | None = None) -> int:
        """How urgent a study is: 0 STAT, 1 routine (also where no rule says), 2 research."""
        rank = self.rank_of_study(study_key, connection=connection)
        return PRIORITIES.index("routine" if rank is None else rank[1])

    def begin_procedure(
        self,
        procedure_key: str,
        study_keys: Collection[str],
        state: str,
        at: datetime,
        *,
        connection: Connection | None = None,
    ) -> bool:
        """Enter a procedure step, with a row for each of its studies; False where it is known already."""
        with self._writing(connection) as writing:
            if writing.execute(select(_P.c.state).where(_P.c.procedure_key == procedure_key)).first() is not None:
                return False
            rows = [
                {"procedure_key": procedure_key, "study_key": key, "state": state, "updated_at": at}
                for key in sorted(set(study_keys))
            ]
            return inserted_rows(writing, _P, rows) == len(rows)  # else another one entered it just now

    def update_procedure(
        self,
        procedure_key: str,
        state: str | None,
        announced: Collection[str] | None,
        at: datetime,
        *,
        connection: Connection | None = None,
    ) -> None:
        """Set state and announced instances (blind keys) of a step; None leaves what stands.

        Instances are entered where the step has one study: with several, nobody says which belongs to which.
        """
        here = _P.c.procedure_key == procedure_key
        with self._writing(connection) as writing:
            values = {"updated_at": at} if state is None else {"updated_at": at, "state": state}
            writing.execute(update(_P).where(here).values(**values))
            studies = list(writing.execute(select(_P.c.study_key).where(here)).scalars())
            if announced is not None and len(studies) == 1:
                writing.execute(delete(_A).where(_A.c.procedure_key == procedure_key))
                base = {"procedure_key": procedure_key, "study_key": studies[0]}
                insert_or_ignore(writing, _A, [{**base, "instance_key": key} for key in sorted(set(announced))])

    def procedure(self, procedure_key: str, *, connection: Connection | None = None) -> tuple[ProcedureRow, ...]:
        """A step: one row for each of its studies."""
        query = select(_P).where(_P.c.procedure_key == procedure_key).order_by(_P.c.study_key)
        with self._reading(connection) as reading:
            return tuple(
                ProcedureRow(study_key=row.study_key, state=row.state, updated_at=row.updated_at)
                for row in reading.execute(query)
            )

    def studies_with_procedures(self, *, connection: Connection | None = None) -> tuple[str, ...]:
        """Studies of which a step says something."""
        with self._reading(connection) as reading:
            return tuple(reading.execute(select(_P.c.study_key).distinct()).scalars())

    def evidence(
        self, study_key: str, *, besides: Collection[str] = (), connection: Connection | None = None
    ) -> tuple[int, int, int, int, int]:
        """Steps of a study, those of them that are under way; instances announced, missing of those, and come unnamed.

        Parameters
        ----------
        besides
            Keys of instances that do not count, named or come.
        """
        names = _announced(study_key, besides)
        here = select(_I.c.instance_key).where(_I.c.study_key == study_key, _I.c.instance_key.not_in(besides))
        with self._reading(connection) as reading:
            states = list(reading.execute(select(_P.c.state).where(_P.c.study_key == study_key)).scalars())
            if not states:
                return 0, 0, 0, 0, 0
            named = reading.execute(select(func.count()).select_from(names.subquery())).scalar_one()
            absent = names.where(_A.c.instance_key.not_in(here)).subquery()
            missing = reading.execute(select(func.count()).select_from(absent)).scalar_one()
            others = here.where(_I.c.instance_key.not_in(names)).distinct().subquery()
            unnamed = reading.execute(select(func.count()).select_from(others)).scalar_one()
        return len(states), states.count("in-progress"), int(named), int(missing), int(unnamed)

    def steps_broken_off(self, study_key: str, *, connection: Connection | None = None) -> int:
        """How many steps of a study were discontinued, for whatever reason."""
        here = _P.c.study_key == study_key, _P.c.state.in_(("discontinued", _WRONG_ENTRY))
        with self._reading(connection) as reading:
            return int(reading.execute(select(func.count()).select_from(_P).where(*here)).scalar_one())

    def is_of_wrong_entry(self, study_key: str, *, connection: Connection | None = None) -> bool:
        """Whether a step of a study was discontinued since it was begun for another patient or procedure."""
        here = _P.c.study_key == study_key, _P.c.state == _WRONG_ENTRY
        with self._reading(connection) as reading:
            return reading.execute(select(_P.c.study_key).where(*here)).first() is not None

    def missing_instances(
        self, study_key: str, *, besides: Collection[str] = (), connection: Connection | None = None
    ) -> tuple[str, ...]:
        """Keys of a study's instances that were announced and have not come; `besides` as of `evidence`."""
        here = select(_I.c.instance_key).where(_I.c.study_key == study_key)
        query = _announced(study_key, besides).where(_A.c.instance_key.not_in(here))
        with self._reading(connection) as reading:
            return tuple(reading.execute(query).scalars())

    def forget_procedures(self, before: datetime, *, connection: Connection | None = None) -> None:
        """Delete steps that nothing was heard of since a time."""
        old = select(_P.c.procedure_key).where(_P.c.updated_at < before)
        with self._writing(connection) as writing:
            writing.execute(delete(_A).where(_A.c.procedure_key.in_(old)))
            writing.execute(delete(_P).where(_P.c.updated_at < before))

    def begin_commitment(self, transaction_key: str, at: datetime, *, connection: Connection | None = None) -> bool:
        """Enter a transaction whose request is still to be kept, as ``begun``; False where it is known already."""
        row = {"transaction_key": transaction_key, "state": "begun", "attempts": 0, "created_at": at, "due_at": at}
        with self._writing(connection) as writing:
            return inserted_rows(writing, _C, (row,)) > 0  # to look first lets two at once begin it

    def move_commitment(
        self,
        transaction_key: str,
        state: str,
        *,
        attempts: int,
        due_at: datetime,
        was: str | None = None,
        connection: Connection | None = None,
    ) -> bool:
        """Say where a transaction stands; False where there is none, or none in the state that it was in."""
        statement = (
            update(_C)
            .where(_C.c.transaction_key == transaction_key)
            .values(state=state, attempts=attempts, due_at=due_at)
        )
        if was is not None:
            statement = statement.where(_C.c.state == was)
        with self._writing(connection) as writing:
            return changed_rows(writing, statement) > 0

    def commitment(self, transaction_key: str, *, connection: Connection | None = None) -> CommitmentRow | None:
        """One transaction."""
        with self._reading(connection) as reading:
            row = reading.execute(select(_C).where(_C.c.transaction_key == transaction_key)).one_or_none()
        return None if row is None else CommitmentRow(**row._mapping)

    def commitments(self, *, connection: Connection | None = None) -> tuple[CommitmentRow, ...]:
        """The transactions that are not done, in the order in which they are due."""
        with self._reading(connection) as reading:
            found = reading.execute(select(_C).order_by(_C.c.due_at, _C.c.transaction_key)).all()
        return tuple(CommitmentRow(**row._mapping) for row in found)

    def end_commitment(self, transaction_key: str, *, connection: Connection | None = None) -> None:
        """Delete a transaction."""
        with self._writing(connection) as writing:
            writing.execute(delete(_C).where(_C.c.transaction_key == transaction_key))


def _announced(study_key: str, besides: Collection[str]) -> Select[Any]:
    """Keys of what was announced of a study."""
    here = _A.c.study_key == study_key, _A.c.instance_key.not_in(besides)
    return select(_A.c.instance_key).where(*here).distinct()
