"""Verification of what a node that stands still has received: `dicomnode verify`."""

from __future__ import annotations

from collections.abc import Mapping

from dicomnode.config import Config
from dicomnode.errors import StorageError
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage import audit
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.lock import StateLock
from dicomnode.storage.spool_identity import is_own
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.verification import Verification, Verified


def damaged_line(tree: Config) -> int | None:
    """Number of the first line of the audit trail that is not what was written, from 0; None where it is whole.

    Raises
    ------
    StorageError
        If the disk refuses.
    """
    try:
        audit.verify(Layout.of(tree).state)
    except StorageError as error:
        if error.code != "sealed-damaged":
            raise
        return int(error.facts["line"])
    return None


def verify(tree: Config, environment: Mapping[str, str], *, spool_is_lost: bool = False) -> Verified:
    """Read every received record again; what is damaged or lost is set aside.

    Parameters
    ----------
    spool_is_lost
        Whether the spool's folder counts as it is, though it is not the one that the ledger knows; audited.

    Raises
    ------
    ConfigError
        ``state-not-found``, ``node-running``.
    KeyStoreError
        ``key-missing`` where the node's keys are not there; ``key-wrong`` where they are others.
    StorageError
        ``ledger-missing``, ``spool-missing``; if disk or ledger refuse.
    """
    layout = Layout.of(tree)
    rooms.require_state(layout)
    with StateLock(layout.state):
        ring, ledger = rooms.open_ledger(tree, layout, environment, create=False)
        try:
            if spool_is_lost and not is_own(layout.state, layout.spool):
                audit.append(layout.state, "spool-accepted", rooms.now())
            spool = rooms.open_spool(tree, layout, ledger, DataKeys(ledger, ring), accept=spool_is_lost)
            try:
                return Verification(ledger, spool, limits_of(tree), rooms.now).run()
            finally:
                spool.close()
        finally:
            ledger.close()
