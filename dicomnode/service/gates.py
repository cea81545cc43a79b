"""Who receives for a node: the acceptor in its own process, or receivers in processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol

from dicomnode.config import Config
from dicomnode.encoded import Limits
from dicomnode.errors import StorageError
from dicomnode.events import Emit
from dicomnode.network.asking import Event
from dicomnode.network.inlets import Inlets
from dicomnode.network.session import Service
from dicomnode.pulses import Pulse
from dicomnode.service.intakes import open_reception
from dicomnode.service.receivers import Receivers
from dicomnode.service.rooms import Layout
from dicomnode.service.seat import House
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import World
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.allowances import Allowances
from dicomnode.workflow.indexing import Indexer
from dicomnode.workflow.reception import Reception
from dicomnode.workflow.recovery import Recovery

#: Of receivers that nobody counted. One interpreter runs Python on one core: parallel associations gain most by the second.
_MOST_BY_ITSELF = 4
_LEAST_BY_ITSELF = 2


class Gate(Protocol):
    """What receives."""

    def start(self) -> tuple[str, int]:
        """Listen; address and port."""
        ...

    @property
    def pulses(self) -> Sequence[Pulse]:
        """Of its threads in this process."""
        ...

    @property
    def web_address(self) -> tuple[str, int] | None:
        """Address and port of STOW-RS, once it listens; None where it is not enabled."""
        ...

    def reload_certificates(self) -> None:
        """Read the files of TLS anew."""
        ...

    def report(self, association_id: str, event: Event, seconds: float) -> int | None:
        """Send an N-EVENT-REPORT in an association that is open; None where it is not."""
        ...

    def close_study(self, study_key: str) -> None:
        """Close the segments of a study."""
        ...

    def barred(self, study_key: str) -> AbstractContextManager[bool]:
        """Keep new instances of a study waiting; False where anything of it is under way already."""
        ...

    def drain(self, timeout: float) -> bool:
        """Stop listening, let what is open finish, then abort the rest."""
        ...


def count_of(tree: Config, cores: int) -> int:
    """How many processes receive, beside the node's."""
    wanted = tree.intake.receivers
    return min(cores, max(cores // 2, _LEAST_BY_ITSELF), _MOST_BY_ITSELF) if wanted == "auto" else wanted


class OwnGate(Inlets):
    """The node's own process receives."""

    def __init__(self, tree: Config, limits: Limits, reception: Reception, spool: Spool, **more: object) -> None:
        super().__init__(tree, limits, reception, **more)  # type: ignore[arg-type]
        self._spool = spool
        self._activity = reception.activity
        self._writing = reception.writing

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the threads that accept, and of what is being made durable."""
        return (*super().pulses, *self._writing.pulses)

    def close_study(self, study_key: str) -> None:
        """Close the segments of a study."""
        self._spool.close_study(study_key)

    def barred(self, study_key: str) -> AbstractContextManager[bool]:
        """As `ActivityTable.closed`."""
        return self._activity.closed(study_key)


def open_gate(
    tree: Config,
    *,
    limits: Limits,
    ledger: Ledger,
    spool: Spool,
    keys: DataKeys,
    indexer: Indexer,
    activity: ActivityTable,
    recovery: Recovery,
    derivation_key: bytes,
    services: Mapping[tuple[str, int], Service],
    wake: Callable[[], None],
    emit: Emit,
) -> Gate:
    """What the configuration says."""
    allowances = _allowances(ledger, indexer, activity)
    count = count_of(tree, len(os.sched_getaffinity(0)))
    if count:
        house = House(
            rows=indexer,
            flush=indexer.flush,
            activity=activity,
            key=lambda study_key: keys.get_or_create(study_key, World.IDENTITY),
            allowances=allowances,
            services=services,
            rules={rule.name: rule for rule in tree.peers},
            take_up=recovery.take_up,
            wake=wake,
            monotonic=time.monotonic,
            emit=emit,
        )
        return Receivers(
            tree,
            count,
            limits=limits,
            spool=Layout.of(tree).spool,
            write_mode=spool.write_mode,
            identity=spool.identity,
            derivation_key=derivation_key,
            house=house,
        )
    reception = open_reception(
        spool=spool, indexer=indexer, activity=activity, derivation_key=derivation_key, allowances=allowances,
        wake=wake, emit=emit,
    )  # fmt: skip
    return OwnGate(tree, limits, reception, spool, services=services, emit=emit)


def _allowances(ledger: Ledger, indexer: Indexer, activity: ActivityTable) -> Allowances:
    return Allowances(
        known=ledger.size_of_study,
        is_open=activity.is_open,
        rank=ledger.rank_study,
        straight=ledger.mark_straight,
        stored=partial(_stored, indexer, ledger),
    )


def _stored(indexer: Indexer, ledger: Ledger, study_key: str, instance_key: str) -> Collection[str]:
    """Digests of what is stored of an instance, what came a moment ago included."""
    if not indexer.flush(study_key):
        raise StorageError("index-behind")
    return ledger.digests_of(study_key, instance_key)
