"""Builds what fetches out of the configuration: sources, their circuits, the door for C-MOVE, priors and missing images."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dicomnode.config import Config
from dicomnode.events import Emit
from dicomnode.network.intake import Intake
from dicomnode.network.moving import MoveDoor
from dicomnode.network.retrieval import Retriever
from dicomnode.network.retrieving import GetRetriever, MoveRetriever
from dicomnode.network.wado import WebRetriever
from dicomnode.network_sections import ListenSection, tls_of_moves
from dicomnode.pulses import Pulse
from dicomnode.service import rooms
from dicomnode.service.telemetry import report_fault
from dicomnode.source_sections import Source
from dicomnode.storage.ledger import Ledger
from dicomnode.workflow.circuits import Circuits
from dicomnode.workflow.evidence import Evidence, EvidenceBook
from dicomnode.workflow.handover import Rooms
from dicomnode.workflow.listing import Listings
from dicomnode.workflow.missing import MissingImages
from dicomnode.workflow.paces import Paces
from dicomnode.workflow.priors import Priors
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.sources import Sources, circuit_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Sourcing:
    """The sources of a node, to be begun and ended."""

    sources: Sources
    circuits: Circuits
    door: MoveDoor | None

    @property
    def pulses(self) -> Sequence[Pulse]:
        """Of the threads that ask whether sources are back."""
        return self.circuits.pulses

    def begin(self) -> None:
        """Listen for what C-MOVE sends, if anything may; raises ConfigError ``port-unavailable``."""
        self.circuits.begin()
        if self.door is not None:
            self.door.start()

    def reload_certificates(self) -> None:
        """Read the files of TLS anew, for what C-MOVE sends."""
        if self.door is not None:
            self.door.reload_certificates()

    def end(self, timeout: float) -> None:
        """Listen no more."""
        if self.door is not None:
            self.door.stop()
        self.circuits.end(timeout)


def retriever_of(tree: Config, source: Source, door: MoveDoor | None) -> Retriever:
    """Who asks a source, in the way that it sends.

    Raises
    ------
    ConfigError
        ``tls-failed`` if its TLS files cannot be used.
    """
    if source.url is not None:
        return WebRetriever(source, maximum_object_bytes=tree.intake.maximum_object_bytes)
    if source.retrieve == "get" or door is None:
        return GetRetriever(source, tree.node.ae_title, maximum_object_bytes=tree.intake.maximum_object_bytes)
    return MoveRetriever(source, tree.node.ae_title, door)


def open_door(tree: Config, emit: Emit) -> MoveDoor | None:
    """The door for C-MOVE; None where no source sends so."""
    moving = [one for one in tree.sources if one.moves]
    if not moving:
        return None
    port, tls = tree.retrieval.port, tls_of_moves(tree.listen, moving)
    listen = ListenSection(
        host=tree.listen.host,
        port=port if tls is None else 0,
        tls=tls,
        tls_port=port if tls is not None else 0,
        require_called_ae_title=True,
        network_timeout_seconds=tree.listen.network_timeout_seconds,
    )
    return MoveDoor(tree.retrieval.ae_title, listen, tree.intake, limits_of(tree), sources=moving, emit=emit)


def open_sources(tree: Config, ledger: Ledger, *, emit: Emit) -> Sourcing:
    """Those of the configuration."""
    door = open_door(tree, emit)
    retrievers = {one.name: retriever_of(tree, one, door) for one in tree.sources}
    sections = {one.name: one for one in tree.sources}
    circuits = Circuits(
        ledger,
        destinations={circuit_of(name): one for name, one in retrievers.items()},
        hasten=lambda _: 0,
        settings=tree.delivery,
        jitter=random.random,
        clock=rooms.now,
        emit=emit,
        kind="source",
    )
    paces = Paces(sections, clock=rooms.now, monotonic=time.monotonic)
    sources = Sources(sections, retrievers, circuits=circuits, paces=paces, emit=emit)
    return Sourcing(sources=sources, circuits=circuits, door=door)


def open_priors(tree: Config, storage: Rooms, sourcing: Sourcing, *, ending: threading.Event, emit: Emit) -> Priors:
    """What fetches priors for works."""
    return Priors(
        storage,
        sourcing.sources,
        settings=tree.retrieval,
        limits=limits_of(tree),
        report=partial(report_fault, emit),
        ending=ending,
        monotonic=time.monotonic,
        emit=emit,
    )


@dataclass(frozen=True, slots=True)
class Search:
    """What is known of what studies lack, and what seeks it."""

    listings: Listings
    missing: MissingImages

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of what is asked and sought now."""
        return (*self.listings.pulses, *self.missing.pulses)

    def of(self, study_key: str) -> Evidence | None:
        """As of `Listings`."""
        return self.listings.of(study_key)

    def seek(self, study_key: str) -> bool:
        """As of `MissingImages`."""
        return self.missing.seek(study_key, self.listings.missing(study_key))

    def end(self) -> None:
        """Ask no more."""
        self.listings.end()
        self.missing.end()


def open_search(
    tree: Config,
    storage: Rooms,
    sourcing: Sourcing,
    intake: Intake,
    book: EvidenceBook,
    *,
    wake: Callable[[], None],
    emit: Emit,
) -> Search:
    """What asks which images studies have, and seeks those that did not come; `intake` takes them."""
    listings = Listings(
        storage.ledger,
        storage.spool,
        sourcing.sources,
        book,
        sop_classes=storage.sop_classes if any(one.listing for one in tree.sources) else frozenset(),
        derivation_key=storage.derivation_key,
        settings=tree.retrieval,
        quiet_seconds=tree.completion.quiet_seconds,
        wake=wake,
        monotonic=time.monotonic,
        emit=emit,
    )
    missing = MissingImages(
        storage.ledger,
        storage.spool,
        sourcing.sources,
        intake,
        sections={one.name: one for one in tree.sources if one.missing},
        sop_classes=storage.sop_classes,
        called_ae_title=tree.node.ae_title,
        derivation_key=storage.derivation_key,
        settings=tree.retrieval,
        wake=wake,
        monotonic=time.monotonic,
        emit=emit,
    )
    return Search(listings, missing)
