"""What takes objects in the node's own process: one way to build it, whether peers send them, folders hold them or sources give them."""

from __future__ import annotations

import time
from collections.abc import Callable

from dicomnode.config import Config
from dicomnode.events import Emit
from dicomnode.network.intake import Intake
from dicomnode.service import rooms
from dicomnode.storage.digest import ContentDigests
from dicomnode.storage.spool import Spool
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.allowances import Allowances
from dicomnode.workflow.indexing import Indexer
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.reception import Reception


def open_reception(
    *,
    spool: Spool,
    indexer: Indexer,
    activity: ActivityTable,
    derivation_key: bytes,
    allowances: Allowances | None = None,
    is_asked: bool = False,
    wake: Callable[[], None],
    emit: Emit,
) -> Reception:
    """Who makes objects durable and known, by the clocks of this process; see `Reception`."""
    return Reception(
        spool=spool,
        digest=ContentDigests(derivation_key).begin,
        indexer=indexer,
        activity=activity,
        derivation_key=derivation_key,
        allowances=allowances,
        is_asked=is_asked,
        wake=wake,
        clock=rooms.now,
        monotonic=time.monotonic,
        emit=emit,
    )


def open_intake(
    tree: Config,
    *,
    spool: Spool,
    indexer: Indexer,
    activity: ActivityTable,
    derivation_key: bytes,
    is_asked: bool = False,
    wake: Callable[[], None],
    emit: Emit,
) -> Intake:
    """What takes objects that the node itself fetches (`is_asked`) or finds, with the limits of those that peers send."""
    reception = open_reception(
        spool=spool,
        indexer=indexer,
        activity=activity,
        derivation_key=derivation_key,
        is_asked=is_asked,
        wake=wake,
        emit=emit,
    )
    return Intake(reception, limits=limits_of(tree), maximum_object_bytes=tree.intake.maximum_object_bytes, emit=emit)
