"""Builds what judges instances that came again with other bytes, and rejection notes, out of the configuration."""

from __future__ import annotations

from dicomnode.config import Config
from dicomnode.encoded import Limits
from dicomnode.events import Emit
from dicomnode.service import rooms
from dicomnode.workflow.conflicts import Conflicts
from dicomnode.workflow.handover import Rooms
from dicomnode.workflow.rejections import Rejections


def open_conflicts(tree: Config, storage: Rooms, *, limits: Limits, emit: Emit) -> Conflicts:
    """What judges them; a study whose inputs a note of another one changed is looked at again as if it had just fallen silent."""
    rejections = Rejections(
        storage,
        limits=limits,
        senders=tree.services.rejection_notes_from,
        remember=storage.remember,
        clock=rooms.now,
        emit=emit,
    )
    return Conflicts(
        storage.ledger,
        storage.spool,
        tree.reading,
        limits=limits,
        judge=rejections.judge,
        clock=rooms.now,
        emit=emit,
    )
