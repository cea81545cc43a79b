"""What a state folder holds, read beside a running node, and what it is wished to do."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dicomnode.config import Config
from dicomnode.errors import ConfigError
from dicomnode.service.rooms import Layout, now, require_state
from dicomnode.service.stalls import read_stalls
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import BacklogRow, CircuitRow, OrderRow
from dicomnode.study import IN_STAGES, STOPPING, DeliveryRow, Mark, StudyRow, WorkKey, WorkRow, WorkState
from dicomnode.workflow.lateness import Late, longest_stage
from dicomnode.workflow.lateness import standing as standing_still
from dicomnode.workflow.ports import STAT
from dicomnode.workflow.retraction import standing, wish
from dicomnode.workflow.timekeeping import Timekeeper


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


def list_studies(tree: Config, limit: int) -> tuple[StudyRow, ...]:
    """The same for somebody who asks: a state folder on which no node has run is his mistake.

    Raises
    ------
    ConfigError
        ``state-not-found``.
    StorageError
        If the ledger cannot be read.
    """
    require_state(Layout.of(tree))
    return read_studies(tree, limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How deliveries stand.

    Attributes
    ----------
    circuits
        By destination; of a node that stands still: as it left them.
    dead
        Deliveries that ended without success, newest first; at most a number of them.
    orders
        Given and not carried out.
    held
        Works whose results wait for a person, the oldest first.
    failed
        Works of newest revisions that failed and made nothing, the oldest first; not those of cancelled studies.
    delivering
        Works whose results are on their way, the oldest first.
    stat
        Keys of the studies of those that are STAT.
    believed
        What time it is for `late`: a wall clock that jumped makes nothing late, a stop of the node does.
    still
        Works that wait for their turn, or are in a stage, for too long, the oldest first.
    stalled
        Threads of the node that hang, or hung when it was ended by force: whose each is, and since when.
    marked
        When each study was stopped of which nothing is made, by its mark, the oldest first.
    """

    circuits: dict[str, CircuitRow]
    backlog: tuple[BacklogRow, ...]
    dead: tuple[tuple[WorkKey, DeliveryRow], ...]
    orders: tuple[OrderRow, ...]
    held: tuple[WorkRow, ...] = ()
    failed: tuple[WorkRow, ...] = ()
    delivering: tuple[WorkRow, ...] = ()
    stat: frozenset[str] = frozenset()
    believed: datetime = field(default_factory=now)
    still: tuple[Late, ...] = ()
    marked: Mapping[Mark, tuple[datetime, ...]] = field(default_factory=dict)
    stalled: tuple[Mapping[str, str], ...] = ()


def read_traffic(tree: Config, limit: int) -> Traffic:
    """How deliveries stand, read beside a node that may be running.

    Raises
    ------
    ConfigError
        ``state-not-found``.
    StorageError
        If the ledger cannot be read.
    """
    layout = Layout.of(tree)
    require_state(layout)
    if not layout.ledger.exists():
        return Traffic(circuits={}, backlog=(), dead=(), orders=())
    with Ledger.open_read_only(layout.ledger) as ledger:
        clock = Timekeeper(layout.clock, clock=now, monotonic=time.monotonic, emit=lambda *_, **__: None)
        delivering, believed = ledger.works((WorkState.DELIVERING,)), clock.late()
        return Traffic(
            circuits=ledger.circuits(),
            backlog=ledger.backlog(),
            dead=ledger.dead_letters(limit),
            orders=ledger.orders(),
            held=ledger.works((WorkState.HELD,)),
            failed=_failed(ledger),
            delivering=delivering,
            stat=frozenset(key for key in {work.key.study_key for work in delivering} if ledger.priority(key) == STAT),
            believed=believed,
            still=_still(tree, ledger, believed),
            marked={mark: tuple(at for _, at in ledger.marked((mark,))) for mark in sorted(STOPPING)},
            stalled=read_stalls(layout.stalls),
        )


def _failed(ledger: Ledger) -> tuple[WorkRow, ...]:
    found = []
    for work in ledger.works((WorkState.FAILED,)):
        study = ledger.study(work.key.study_key)
        if study is None or study.stopped_by is Mark.CANCELLED or work.key.revision != study.revision:
            continue
        if not work.deliveries:  # else they are dead letters, or settled
            found.append(work)
    return tuple(found)


def _still(tree: Config, ledger: Ledger, believed: datetime) -> tuple[Late, ...]:
    longest = tree.intake.maximum_queue_seconds
    found = standing_still(
        ledger.works((WorkState.QUEUED, *IN_STAGES)),
        queued_seconds=longest,
        stage_seconds=longest_stage(tree.completion, longest),
        now=believed,
    )
    return tuple(found)


def wish_retraction(
    tree: Config, study_key: str, model: str | None
) -> tuple[tuple[WorkKey, ...], tuple[str, ...], tuple[str, ...]]:
    """Ask the node to retract the results of a study: it does so within seconds, or at its next start.

    Parameters
    ----------
    study_key
        Or the beginning of one, as `dicomnode studies` shows it.

    Returns
    -------
    tuple
        Works concerned, names of the destinations that take rejection notes, and of those that have such results and take none.

    Raises
    ------
    ConfigError
        ``state-not-found``; ``study-not-found`` where none or several begin so; ``rejection-notes-off`` where no destination takes them.
    """
    layout = Layout.of(tree)
    require_state(layout)
    takers = tuple(one.name for one in tree.destinations if one.rejection_notes)
    if not takers:
        raise ConfigError("rejection-notes-off", destinations=len(tree.destinations))
    if not layout.ledger.exists():
        raise ConfigError("study-not-found", studies=0)
    ledger = Ledger.open(layout.ledger)
    try:
        found = ledger.study_keys(study_key)
        if len(found) != 1:
            raise ConfigError("study-not-found", studies=len(found))
        works = wish(ledger, found[0], model, now)
        rows = [row for row in map(ledger.work, works) if row is not None]
        return works, takers, tuple(sorted({name for row in rows for name in standing(row, tree.destinations)}))
    finally:
        ledger.close()
