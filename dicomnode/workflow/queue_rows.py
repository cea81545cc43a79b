"""Rows of the library's table of workflows that are read or changed directly, where it offers nothing for it.

Where the library has an index of some states alone, a statement holds its very condition, spelled: else SQLite reads all
workflows that ever were. May live here: those statements.
"""

from __future__ import annotations

import time
from typing import Any, Final

from dicomnode.storage.database import spelled

DELAYED: Final = "DELAYED"
READY: Final = "ENQUEUED"
PENDING: Final = "PENDING"
UNDER_WAY: Final = frozenset({PENDING, READY, DELAYED})
#: As the condition of the library's index of what is in its queues.
_IN_FLIGHT: Final = tuple(spelled(state) for state in (READY, PENDING))


class QueueRows:
    """Of one version of workflows; each call takes part in the caller's transaction.

    Parameters
    ----------
    system
        The library's access to its tables.
    version
        Of the workflows.
    """

    def __init__(self, system: Any, version: str) -> None:
        self._rows = system.tables.workflow_status
        self._options = system.engine.get_execution_options()  # they name the schema
        self._is_ours = self._rows.c.application_version == version

    def due(self, connection: Any) -> int | None:
        """Time of day, in milliseconds, at which that was due which waits for longest; None where nothing is due."""
        at = self._rows.c.delay_until_epoch_ms
        late = self._in(DELAYED).where(at <= int(time.time() * 1000)).with_only_columns(at).order_by(at).limit(1)
        found: int | None = self._ask(connection, late).scalar()
        return found

    def ready(self, connection: Any) -> list[str]:
        """Queues that hold something that may begin."""
        ready = self._in(READY).where(self._rows.c.status.in_(_IN_FLIGHT))
        return list(self._ask(connection, ready.with_only_columns(self._rows.c.queue_name).distinct()).scalars())

    def claimed(self, connection: Any) -> dict[str, str]:
        """What was taken out of a queue and has not ended: identifiers and tokens."""
        columns = self._rows.c.workflow_uuid, self._rows.c.owner_xid
        return {
            name: str(token) for name, token in self._ask(connection, self._in(PENDING).with_only_columns(*columns))
        }

    def put_back(self, connection: Any, name: str, token: str) -> bool:
        """Into its queue, if it is still claimed under this token; whether it was. As the library does it after a crash."""
        values = {"status": READY, "owner_xid": None, "started_at_epoch_ms": None}
        change = self._rows.update().where(
            self._rows.c.workflow_uuid == name, self._rows.c.status == PENDING, self._rows.c.owner_xid == token
        )
        return bool(self._ask(connection, change.values(values)).rowcount)

    def bring_forward(self, connection: Any, study_key: str, *, priority: int, waits: bool) -> None:
        """Let what is queued of a study be as urgent as this, at least; what is delayed goes on to wait, or not."""
        its = self._rows.c.workflow_uuid.between(
            f"{study_key}-", f"{study_key}-z"
        )  # a number follows, in any collation
        lesser = self._rows.c.status.in_(sorted(UNDER_WAY)), self._rows.c.priority > priority
        values = {"priority": priority, **({} if waits else {"delay_until_epoch_ms": 0})}
        self._ask(connection, self._rows.update().where(its, *lesser).values(values))

    def _in(self, state: str) -> Any:
        return self._rows.select().where(self._is_ours, self._rows.c.status == spelled(state))

    def _ask(self, connection: Any, statement: Any) -> Any:
        return connection.execute(statement, execution_options=self._options)
