"""What was taken out of a queue and is run by nobody: found, and put back.

The library takes a workflow out of its queue in one transaction (a claim, under a token of its own) and starts it after
that; it swallows what fails in between. A thread that could not write down the end of its workflow leaves the same: a row
that says until the next start that it is under way. So a claim counts as lost that this process made, and that no thread of
its runs at several looks in a row, a minute apart: the moment between claim and start is no such thing, and a workflow
that waits for its ledger is run. It is put back under its token alone, as after a crash: what had a second start meanwhile
stays, and a start that comes late after all finds its token gone and writes nothing. What waits for a thread is not lost.

May live here: how the library's claims are known. It offers no way; a version that is built otherwise goes on as it did.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Any, Final

from dbos import _sys_db

#: Looks in a row at which nobody runs it.
LOOKS: Final = 3
_CLAIM: Final = "start_queued_workflows"
_OF_THE_LIBRARY: Final = getattr(_sys_db.SystemDatabase, _CLAIM, None)


class Claims:
    """Counts looks; pure but for what it hears of the library's claims."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ours: set[str] = set()
        self._seen: dict[tuple[str, str], int] = {}

    def hear(self) -> None:
        """Know from now on the tokens of what this process takes out of its queues: what another host took is not ours to judge."""
        if _OF_THE_LIBRARY is None:
            return

        def heard(*arguments: Any, **options: Any) -> Any:
            try:
                return _OF_THE_LIBRARY(*arguments, **options)
            finally:  # where it failed it may be committed all the same
                with self._lock:
                    self._ours.add(str(options.get("owner_xid")))

        setattr(_sys_db.SystemDatabase, _CLAIM, heard)

    @property
    def ours(self) -> frozenset[str]:
        """Tokens of this process, of claims that are over: to be asked for before the rows are read."""
        with self._lock:
            return frozenset(self._ours)

    def look(
        self, ours: Collection[str], claimed: Mapping[str, str], run: Collection[str] | None
    ) -> list[tuple[str, str]]:
        """Compare with the looks before; what is lost, by its identifier and its token.

        Parameters
        ----------
        ours
            Tokens that were known before the rows were read.
        claimed
            Identifiers of what the rows say is under way, and their tokens.
        run
            Identifiers of what threads of this process run, asked for after that; None: nobody knows, and the row of looks ends.
        """
        mine = {(name, token) for name, token in claimed.items() if token in ours}
        with self._lock:
            self._ours -= set(ours) - {token for _, token in mine}
            left = set() if run is None else {one for one in mine if one[0] not in run}
            self._seen = {one: self._seen.get(one, 0) + 1 for one in left}
            return sorted(one for one, looks in self._seen.items() if looks >= LOOKS)


def run_by(library: Any) -> frozenset[str] | None:
    """Identifiers of what threads of this process run; None where the library does not say, or something waits for a thread.

    The library hands it over before it begins a thread, and where none can be begun it waits for one that ends: it was not
    lost, it would be run a second time, and behind what it waits for itself.
    """
    running = getattr(library, "_active_workflows_set", None)
    handed_over = getattr(getattr(library, "_executor_field", None), "_work_queue", None)
    if running is None or handed_over is None or handed_over.qsize():
        return None
    return frozenset(running.activeList())
