"""What a state folder holds, read beside a running node."""

from __future__ import annotations

from dicomnode.config import Config
from dicomnode.service.rooms import Layout
from dicomnode.storage.ledger import Ledger
from dicomnode.study import StudyRow


def read_studies(tree: Config, limit: int) -> tuple[StudyRow, ...]:
    """Newest studies of the configured state folder; none where no node has run yet.

    Raises
    ------
    StorageError
        If the ledger cannot be read.
    """
    layout = Layout.of(tree)
    if not layout.ledger.exists():
        return ()
    ledger = Ledger.open_read_only(layout.ledger)
    try:
        return ledger.studies(limit=limit)
    finally:
        ledger.close()
