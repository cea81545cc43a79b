"""Builds what reads and de-identifies studies while they still come, out of the configuration.

May live here: what stands between `[completion]` and `workflow.beforehand`. May not: studies.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from dicomnode.config import Config
from dicomnode.encoded import Limits
from dicomnode.events import Emit
from dicomnode.service.telemetry import report_fault
from dicomnode.study import WorkState
from dicomnode.workflow.beforehand import Beforehand
from dicomnode.workflow.copying import Copier
from dicomnode.workflow.handover import Rooms
from dicomnode.workflow.stages import Stages

_TO_BE_PREPARED: Final = frozenset({WorkState.QUEUED, WorkState.PREPARING})


def open_beforehand(tree: Config, storage: Rooms, stages: Stages, *, limits: Limits, emit: Emit) -> Beforehand:
    """Early copies of studies; none where the configuration wants no early start, or gives no memory for it."""
    settings = tree.completion
    deidentifier = next(iter(storage.analysts.values())).deidentifier  # of the same policy for every model
    return Beforehand(
        storage.spool,
        lambda: Copier(deidentifier, limits),
        limits=limits,
        most_bytes=settings.early_bytes if settings.start_early else 0,
        sop_classes=storage.sop_classes,
        rank=storage.ledger.priority,
        wanted=partial(_is_wanted, storage),
        held=lambda: stages.sealing.held_bytes,
        turn=stages.between,
        report=partial(report_fault, emit),
        emit=emit,
    )


def _is_wanted(storage: Rooms, study_key: str) -> bool:
    study = storage.ledger.study(study_key)
    return study is not None and any(work.state in _TO_BE_PREPARED for work in study.works)
