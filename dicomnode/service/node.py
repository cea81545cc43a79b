"""The composition root: builds the rooms of a node, joins them, starts them in order and ends them in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

from dicomnode import __version__
from dicomnode.config import Config
from dicomnode.events import Emit
from dicomnode.network.asking import Event
from dicomnode.network.committing import CommitmentRequestor
from dicomnode.pulses import Pulse
from dicomnode.service import rooms
from dicomnode.service.beforehand import open_beforehand
from dicomnode.service.chores import housekeeping
from dicomnode.service.conflicts import open_conflicts
from dicomnode.service.delivering import Outbound, delivery, pledges
from dicomnode.service.exports import open_exports
from dicomnode.service.folders import open_folders
from dicomnode.service.gates import open_gate
from dicomnode.service.housekeeping import Households
from dicomnode.service.intakes import open_intake
from dicomnode.service.rooms import Layout
from dicomnode.service.routes import open_routing
from dicomnode.service.services import Askers, committing_destination, services
from dicomnode.service.sourcing import open_priors, open_search, open_sources
from dicomnode.service.telemetry import report_fault
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import KeyRing
from dicomnode.storage.lock import StateLock
from dicomnode.storage.medium import IN_MEMORY, is_volatile
from dicomnode.storage.objects import Objects
from dicomnode.study import WorkKey
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.commitment import CommitmentDesk
from dicomnode.workflow.completion import Completion
from dicomnode.workflow.downgrade import Capabilities
from dicomnode.workflow.evidence import EvidenceBook
from dicomnode.workflow.indexing import Indexer
from dicomnode.workflow.pipeline import DurableQueue
from dicomnode.workflow.priors import Priors
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.recovery import Recovery, end_tries
from dicomnode.workflow.stages import Rooms, Stages
from dicomnode.workflow.timekeeping import Timekeeper

#: Seconds that a drain gives to open associations and to running stages together, and least to the latter.
DRAIN_SECONDS = 60.0
_LEAST_SECONDS = 10.0
#: Seconds for which evidence of a study waits for the index; conflicts may take longer, and are looked at again.
_EVIDENCE_SECONDS = 0.25


class Node:
    """A node: `start` it, `stop` it; what it was doing when it was killed it takes up at its next start.

    Parameters
    ----------
    tree
        Configuration with its state folder filled in.
    environment
        The process's environment: systemd's folders are named there.
    emit
        Where events go.
    hung
        Told when a stage does not end: whoever started the node is to stop it, and to start another.

    Raises
    ------
    NodeError
        When the state folder is in use, a key is missing, a model is damaged, or the disk cannot keep data.
    """

    def __init__(
        self, tree: Config, environment: Mapping[str, str], emit: Emit, *, hung: Callable[[], None] = lambda: None
    ) -> None:
        self._tree = tree
        self._hung = hung
        self._emit = emit
        self._ending = threading.Event()
        layout = Layout.of(tree)
        rooms.make_state_folder(layout)
        self._lock = StateLock(layout.state)
        if is_volatile(layout.state):
            emit("storage.volatile", level="warning", text=IN_MEMORY)
        try:
            ring, self._ledger = rooms.open_ledger(tree, layout, environment, create=True)
            self._keys = DataKeys(self._ledger, ring)
            self._spool = rooms.open_spool(tree, layout, self._ledger, self._keys)
        except BaseException:
            self._lock.release()
            raise
        self._objects = Objects(layout.objects, self._keys)
        self._analysts = rooms.open_analysts(tree, ring, self._ledger, emit=emit, gpu=True)
        self._activity = ActivityTable()
        self._timekeeper = Timekeeper(layout.clock, clock=rooms.now, monotonic=time.monotonic, emit=emit)
        self._build_work(ring.derivation)
        self._build_intake(ring.derivation)
        self._exports = self._open_exports(ring, environment)
        self._folders = open_folders(tree, self._found, emit=emit)

    def _open_exports(self, ring: KeyRing, environment: Mapping[str, str]) -> Households:
        return open_exports(
            self._tree,
            ring,
            self._ledger,
            self._stages.records,
            environment=environment,
            ready=self._is_all_here,
            clocks=self._timekeeper,
            ending=self._ending,
            emit=self._emit,
        )

    def _build_work(self, derivation_key: bytes) -> None:
        tree, emit = self._tree, self._emit
        storage = self._storage_rooms(derivation_key)
        outbound = Outbound.of(tree, self._ledger, hasten=self._hasten, emit=emit)
        self._circuits = outbound.circuits
        self._sourcing = sourcing = open_sources(tree, self._ledger, emit=emit)
        priors = open_priors(tree, storage, sourcing, ending=self._ending, emit=emit)
        self._stages = self._build_stages(storage, outbound.capabilities, priors)
        self._beforehand = open_beforehand(tree, storage, self._stages, limits=limits_of(tree), emit=emit)
        self._delivery = delivery(
            tree, storage, outbound, encoding=self._stages.encoding, clocks=self._timekeeper, emit=emit
        )
        self._queue = DurableQueue(
            self._ledger.engine,
            self._ledger.url,
            run_stage=self._stages.run,
            run_delivery=self._deliver,
            destinations=tuple(outbound.requestors),
            urgency=self._ledger.priority,
            fetches=priors.are_wanted,
            run_fetch=priors.fetch,
            concurrency=max(analyst.places for analyst in self._analysts.values()),
            fetch_seconds=tree.retrieval.priors_seconds,
        )
        self._pledges = pledges(tree, storage, self._queue, outbound, clocks=self._timekeeper, emit=emit)
        self._admission = self._build_admission(storage, tuple(outbound.requestors))
        self._housekeeping = housekeeping(
            tree,
            storage,
            self._queue,
            admission=self._admission,
            stages=self._stages,
            activity=self,
            arriving=self._activity,
            timekeeper=self._timekeeper,
            outbound=outbound,
            emit=emit,
        )

    def _build_admission(self, storage: Rooms, destinations: tuple[str, ...]) -> Admission:
        return Admission(
            self._ledger,
            self._queue,
            routing=open_routing(self._tree, self._spool, self._ledger, tuple(self._analysts), storage.derivation_key),
            sop_classes=storage.sop_classes,
            destinations=destinations,
            overdue=self._overdue,
            flush=self._flush,
            close_segments=self._close_segments,
            arriving=self._activity.is_awaited,
            settings=self._tree.delivery,
            clocks=self._timekeeper,
            emit=self._emit,
        )

    def _storage_rooms(self, derivation_key: bytes) -> Rooms:
        return Rooms(
            spool=self._spool,
            ledger=self._ledger,
            objects=self._objects,
            keys=self._keys,
            derivation_key=derivation_key,
            analysts=self._analysts,
            remember=lambda study_key: self._activity.remembered(study_key, time.monotonic()),
        )

    def _build_stages(self, storage: Rooms, capabilities: Capabilities, priors: Priors) -> Stages:
        return Stages(
            storage,
            self._tree,
            released=self._release,
            pause=self._ending.wait,
            report=partial(report_fault, self._emit),
            clock=rooms.now,
            monotonic=time.monotonic,
            emit=self._emit,
            refused=capabilities.refused,
            early=lambda study_key: self._beforehand.of(study_key),  # noqa: PLW0108 (it is built after this)
            used=lambda study_key: self._beforehand.used(study_key),  # noqa: PLW0108
            priors=priors,
        )

    def _hasten(self, destination: str) -> int:
        return self._queue.hasten(0.0, destination)

    def _build_intake(self, derivation_key: bytes) -> None:
        tree, emit = self._tree, self._emit
        limits = limits_of(tree)
        self._conflicts = conflicts = open_conflicts(
            tree, self._storage_rooms(derivation_key), limits=limits, emit=emit
        )
        told, settle, resolve = self._beforehand.offer, conflicts.settle, conflicts.resolve
        self._indexer = Indexer(self._ledger, conflict=settle, unreadable=resolve, told=told, emit=emit)
        intake = partial(
            open_intake, tree, spool=self._spool, indexer=self._indexer, activity=self._activity,
            derivation_key=derivation_key, wake=self._wake, emit=emit,
        )  # fmt: skip
        self._found, self._asked_for = intake(), intake(is_asked=True)
        self._evidence = self._build_evidence(derivation_key)
        self._completion = self._build_completion(derivation_key)
        self._desk = self._build_desk(derivation_key)
        self._recovery = Recovery(
            self._ledger, self._spool, self._activity, self._queue, conflict=settle, later=self._indexer.judge,
            derivation_key=derivation_key, clock=rooms.now, monotonic=time.monotonic, emit=emit,
        )  # fmt: skip
        self._gate = open_gate(
            tree,
            limits=limits,
            ledger=self._ledger,
            spool=self._spool,
            keys=self._keys,
            indexer=self._indexer,
            activity=self._activity,
            recovery=self._recovery,
            derivation_key=derivation_key,
            services=services(tree, limits, self._evidence, self._desk, self._pledges),
            wake=self._completion.wake,
            emit=emit,
        )

    def _build_evidence(self, derivation_key: bytes) -> EvidenceBook:
        return EvidenceBook(
            self._ledger,
            derivation_key=derivation_key,
            flush=partial(self._indexer.catch_up, timeout=_EVIDENCE_SECONDS),
            wake=self._wake,
            clock=rooms.now,
            emit=self._emit,
        )

    def _build_desk(self, derivation_key: bytes) -> CommitmentDesk | None:
        if not self._tree.services.storage_commitment:
            return None
        tree, pacs = self._tree, committing_destination(self._tree)
        return CommitmentDesk(
            self._ledger,
            self._objects,
            self._keys,
            derivation_key=derivation_key,
            pacs=CommitmentRequestor(pacs, tree.node.ae_title) if pacs else None,
            pacs_ae_title=pacs.ae_title if pacs else "",
            tell_here=self._report,
            tell_there=Askers(tree).tell,
            settings=tree.services,
            retries=tree.delivery,
            clocks=self._timekeeper,
            emit=self._emit,
        )

    def _build_completion(self, derivation_key: bytes) -> Completion:
        self._search = open_search(
            self._tree,
            self._storage_rooms(derivation_key),
            self._sourcing,
            self._asked_for,
            self._evidence,
            wake=self._wake,
            emit=self._emit,
        )
        return Completion(
            self._activity,
            start=self._admission.start,
            settle=self._settle,
            evidence=self._search.of,
            seek=self._search.seek,
            settings=self._tree.completion,
            monotonic=time.monotonic,
            emit=self._emit,
        )

    def _wake(self) -> None:
        self._completion.wake()

    def _settle(self, study_key: str, lacking: str) -> None:
        self._admission.settle(study_key, lacking)
        self._beforehand.settled(study_key)

    def closed(self, study_key: str) -> AbstractContextManager[bool]:
        """Keep new instances of a study waiting, in every process that receives."""
        return self._gate.barred(study_key)

    def _close_segments(self, study_key: str) -> None:
        self._spool.close_study(study_key)  # what came through watched folders
        self._gate.close_study(study_key)

    def _report(self, association_id: str, event: Event, seconds: float) -> int | None:
        return self._gate.report(association_id, event, seconds)

    def _deliver(self, key: WorkKey, destination: str, number: int) -> None:
        self._delivery.attempt(self._queue, key, destination, number)

    def _release(self, study_key: str) -> None:
        self._admission.release(study_key)

    def _flush(self, study_key: str) -> bool:
        return self._indexer.catch_up(study_key)

    def _is_all_here(self, study_key: str) -> bool:
        return not self._activity.is_awaited(study_key) and self._flush(study_key)

    def _overdue(self) -> Sequence[WorkKey]:
        """Works that are past their deadline: what hangs keeps its thread, and with it the place of other work, until a new start."""
        keys = self._stages.overdue(self._tree.completion.deadline_seconds)
        if keys and not self._ending.is_set():
            self._emit("node.hung", level="error", work=keys[0].workflow_id, reason="timeout")
            self._hung()
        return keys

    def start(self) -> tuple[str, int]:
        """Take up what was interrupted, then listen; returns the bound address."""
        end_tries(self._ledger)
        self._recovery.rebuild_index()
        self._indexer.begin()
        self._sourcing.begin()  # before what waits for it goes on
        self._queue.launch()
        self._recovery.resume()
        self._circuits.begin()
        self._admission.reconcile()
        for one in (self._beforehand, self._housekeeping, self._exports, self._desk, self._pledges):
            if one is not None:
                one.begin()
        host, port = self._gate.start()
        self._activity.deaf_until(time.monotonic())
        self._completion.begin()
        self._folders.begin()
        for analyst in self._analysts.values():
            analyst.warm()
        self._emit(
            "node.ready",
            host=host,
            port=port,
            ae_title=self._tree.node.ae_title,
            version=__version__,
            mode=self._spool.write_mode.name,
            models=len(self._analysts),
            destinations=len(self._tree.destinations),
            stow_port=(self._gate.web_address or ("", None))[1],
        )
        return host, port

    @property
    def pulses(self) -> Iterator[Pulse]:
        """Of all its threads; waits for none of them."""
        rooms = (self._completion, self._indexer, self._housekeeping, self._queue, self._gate, self._folders, self._desk,
            self._exports, self._circuits, self._sourcing, self._search, self._pledges, self._beforehand, self._stages.sealing)  # fmt: skip
        return (pulse for room in rooms if room is not None for pulse in room.pulses)

    def reload(self) -> None:
        """Take up certificates that were changed; associations that are open go on."""
        self._gate.reload_certificates()
        self._sourcing.reload_certificates()

    def stop(self, seconds: float = DRAIN_SECONDS) -> None:
        """Drain: no new associations, open ones may end, running stages end; then close everything."""
        deadline = time.monotonic() + seconds
        self._ending.set()
        self._indexer.yield_way()
        self._folders.end(0)
        self._gate.drain(seconds)
        for one in (self._folders, self._housekeeping, self._exports, self._circuits, self._sourcing, self._pledges):
            if one is not None:
                one.end(_LEAST_SECONDS)
        self._search.end()
        self._completion.end()
        self._beforehand.end()
        if self._desk is not None:
            self._desk.end()
        self._indexer.end()
        self._queue.close(max(deadline - time.monotonic(), _LEAST_SECONDS))
        self.close()

    def close(self) -> None:
        """Give back files and memory; also of a node that was never started."""
        self._queue.close(0)  # a second call does nothing
        self._beforehand.end()
        self._conflicts.close()
        self._spool.close()
        self._stages.close(_LEAST_SECONDS)
        self._ledger.close()
        self._lock.release()
        self._emit("node.stopped")
