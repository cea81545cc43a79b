"""A ledger whose disk is full or fails, under the durable queue: its workflows wait until they can write down what they did.

The library waits so for PostgreSQL that lacks space, not for SQLite: what a workflow could not write down, its end included,
was lost with its thread, and its row said until the next start that it was under way. May live here: which errors are waited
for. It knows no other way; a version that is built otherwise goes on as it did.
"""

from __future__ import annotations

import threading
from typing import Final

from dbos import _sys_db

from dicomnode.storage.database import is_of_the_disk

_JUDGE: Final = "retriable_sqlite_exception"
_OF_THE_LIBRARY: Final = getattr(_sys_db, _JUDGE, None)
#: What the library calls the threads that run workflows begins so. All others look again by themselves, and tell.
_WORKFLOW: Final = "dbos-executor-"


def outlast() -> None:
    """Have the library's workflows wait for their ledger from now on, in this process."""
    if _OF_THE_LIBRARY is not None:
        setattr(_sys_db, _JUDGE, _is_waited_for)


def _is_waited_for(error: Exception) -> bool:
    if is_of_the_disk(error) and threading.current_thread().name.startswith(_WORKFLOW):
        return True
    return bool(_OF_THE_LIBRARY is not None and _OF_THE_LIBRARY(error))
