"""Builds what sends results out of the configuration: requestors, what is known of their peers, circuits, delivery."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, Self

from dicomnode.config import Config
from dicomnode.events import Emit
from dicomnode.forms import Wishes
from dicomnode.network.committing import CommitmentRequestor
from dicomnode.network.dicomweb import WebRequestor
from dicomnode.sections import Destination
from dicomnode.service import rooms
from dicomnode.service.inquiring import open_inquiry
from dicomnode.service.telemetry import report_fault
from dicomnode.storage.ledger import Ledger
from dicomnode.workflow.analysis import Analyst
from dicomnode.workflow.circuits import Circuits
from dicomnode.workflow.delivery import Delivery
from dicomnode.workflow.downgrade import Capabilities, Downgrade
from dicomnode.workflow.encoding import Encoding
from dicomnode.workflow.handover import Rooms
from dicomnode.workflow.paces import Paces
from dicomnode.workflow.pledges import Pledges
from dicomnode.workflow.ports import Clocks, Queue
from dicomnode.workflow.wishes import wishes_of

#: For how long back what was sent counts at a start, where a destination has a rate.
_RATED: Final = timedelta(days=1)

#: Who calls a destination.
Requesting = CommitmentRequestor | WebRequestor


def requestor_of(tree: Config, destination: Destination) -> Requesting:
    """Who calls a destination: by DICOMweb where it has a `url`, else by DIMSE.

    Raises
    ------
    ConfigError
        ``tls-failed`` if its TLS files cannot be used.
    """
    if destination.url is not None:
        return WebRequestor(destination)
    return CommitmentRequestor(destination, tree.node.ae_title)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """The destinations: who calls them, what they take, which are down; and who is asked for originals, if anybody."""

    requestors: Mapping[str, Requesting]
    capabilities: Capabilities
    circuits: Circuits
    archive: Requesting | None

    @classmethod
    def of(cls, tree: Config, ledger: Ledger, *, hasten: Callable[[str], int], emit: Emit) -> Self:
        """Out of the configuration; `hasten` lets all that waits for a destination run.

        Raises
        ------
        ConfigError
            ``tls-failed`` if the TLS files of one cannot be used.
        """
        requestors = {one.name: requestor_of(tree, one) for one in tree.destinations}
        capabilities = Capabilities(
            ledger,
            destinations=requestors,
            peers={one.name: one.peer for one in tree.destinations},
            probe_seconds=tree.delivery.probe_seconds,
            clock=rooms.now,
            emit=emit,
        )
        circuits = Circuits(
            ledger,
            destinations=requestors,
            hasten=hasten,
            settings=tree.delivery,
            jitter=random.random,
            clock=rooms.now,
            emit=emit,
        )
        first = next(iter(requestors.values()), None)
        archive = first if tree.retention.archive is None else requestors[tree.retention.archive]
        return cls(requestors=requestors, capabilities=capabilities, circuits=circuits, archive=archive)


def delivery(
    tree: Config, storage: Rooms, outbound: Outbound, *, encoding: Encoding, clocks: Clocks, emit: Emit
) -> Delivery:
    """What makes tries to deliver; `encoding` makes further forms of a work's results."""
    downgrade = Downgrade(
        storage.ledger,
        outbound.capabilities,
        wishes=partial(_wishes, tree, storage.analysts),
        remake=encoding.more,
        clock=rooms.now,
        emit=emit,
    )
    paces = Paces({one.name: one for one in tree.destinations}, clock=rooms.now, monotonic=time.monotonic)
    if any(one.objects_per_minute or one.bytes_per_second for one in tree.destinations):
        paces.recall(storage.ledger.sent_since(rooms.now() - _RATED))
    return Delivery(
        storage.ledger,
        storage.objects,
        destinations=outbound.requestors,
        circuits=outbound.circuits,
        paces=paces,
        downgrade=downgrade,
        settings=tree.delivery,
        report=partial(report_fault, emit),
        clocks=clocks,
        emit=emit,
        inquiry=open_inquiry(tree, storage, encoding, outbound.requestors, emit=emit),
        committing=committing(tree),
    )


def committing(tree: Config) -> frozenset[str]:
    """Destinations that are asked to commit to results."""
    return frozenset(one.name for one in tree.destinations if one.storage_commitment)


def pledges(
    tree: Config, storage: Rooms, queue: Queue, outbound: Outbound, *, clocks: Clocks, emit: Emit
) -> Pledges | None:
    """What asks destinations to commit to results; None where none is to be asked."""
    names = committing(tree)
    if not names:
        return None
    return Pledges(
        storage.ledger,
        storage.objects,
        queue,
        destinations={
            name: one
            for name, one in outbound.requestors.items()
            if name in names and isinstance(one, CommitmentRequestor)
        },
        derivation_key=storage.derivation_key,
        is_down=outbound.circuits.is_open,
        settings=tree.delivery,
        clocks=clocks,
        emit=emit,
    )


def _wishes(tree: Config, analysts: Mapping[str, Analyst], destination: str, model: str) -> Wishes:
    """What a destination is to get of a model; nothing in another form where either is not known any more."""
    found = [one for one in tree.destinations if one.name == destination]
    if not found or model not in analysts:
        return Wishes(fallbacks=False)
    return wishes_of(found[0], analysts[model].package.manifest)
