"""Images that were announced and did not come: asked of the sources, before a study is called incomplete.

What is announced is known by blind keys alone (`evidence`); a source that lists the study's images tells their UIDs. What it
sends goes the way of everything that comes: the same limits, scan, seal and index.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count
from typing import Final

from dicomnode.encoded import Limits
from dicomnode.errors import NodeError, PeerError, StudyError
from dicomnode.events import Emit
from dicomnode.network.association import storage_classes
from dicomnode.network.intake import Intake, Peer, StoreRequest
from dicomnode.network.retrieval import Allowance, Fetched, Retriever, Taking, Wanted
from dicomnode.network.status import SUCCESS
from dicomnode.pulses import FAR_SECONDS, Pulse, Tries
from dicomnode.source_sections import RetrievalSection, Source
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import blind_key
from dicomnode.workflow.evidence import own_results
from dicomnode.workflow.ports import Monotonic
from dicomnode.workflow.prior_choice import uid_of
from dicomnode.workflow.records import study_instance_uid
from dicomnode.workflow.sources import Asked, Sources

#: Studies that are asked about at a time.
_AT_ONCE: Final = 2
#: Seconds until a source is asked for the same study again; doubled each time.
_AGAIN_SECONDS: Final = 30.0
_MOST_SERIES: Final = 1000
_REMEMBERED: Final = 256


@dataclass(slots=True)
class _Search:
    """What is known of the search for one study's images: when it was asked for, and whether it waits or goes on."""

    tries: int = 0
    asked: float = 0.0
    due: float = 0.0
    waits: bool = False
    goes_on: bool = False
    listed: frozenset[str] = frozenset()


@dataclass(slots=True, kw_only=True)
class _Sought:
    """What is asked for: blind keys that are missing still, and why an image of them was refused that came."""

    study_instance_uid: str
    missing: set[str]
    allowance: Allowance
    refusal: StudyError | None = None

    def left(self) -> float:
        """Seconds that are left; raises PeerError ``timeout`` where none are."""
        if not self.allowance.seconds:
            raise PeerError("timeout")
        return self.allowance.seconds


class MissingImages:
    """Seeks what studies lack; every method may be called from any thread.

    Parameters
    ----------
    intake
        Takes objects, as it does those of associations.
    sections
        Sources that may be asked, by name: in whose name their objects come.
    sop_classes
        Those of images of which a source does not say what they are.
    called_ae_title
        Our own.
    derivation_key
        Key of the blind keys.
    wake
        Called when something was found, or not.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        sources: Sources,
        intake: Intake,
        *,
        sections: Mapping[str, Source],
        sop_classes: frozenset[str],
        called_ae_title: str,
        derivation_key: bytes,
        settings: RetrievalSection,
        wake: Callable[[], None],
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._sources = sources
        self._intake = intake
        self._sections = sections
        self._sop_classes = sop_classes
        self._called = called_ae_title
        self._key = derivation_key
        self._settings = settings
        self._wake = wake
        self._monotonic = monotonic
        self._emit = emit
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._searches: dict[str, _Search] = {}
        self._waiting: list[tuple[int, int, str]] = []  # a heap: priority, number, study
        self._numbers = count()
        self._tries = Tries("missing", settings.missing_seconds + FAR_SECONDS)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="missing")

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the searches that are under way."""
        return self._tries.pulses

    def seek(self, study_key: str, listed: frozenset[str] = frozenset()) -> bool:
        """Ask for what a study lacks, unless that was just done; whether the answer is still to come. Waits for nothing.

        The most urgent study is asked about first; one whose turn does not come in `missing_seconds` is not waited for.
        `listed` are blind keys of what is missing beside what was announced.
        """
        if not self._sections:
            return False
        priority, now = self._ledger.priority(study_key), self._monotonic()
        with self._lock:
            self._tidy()
            search = self._searches.setdefault(study_key, _Search())
            if search.waits or search.goes_on:
                return search.goes_on or now - search.asked < self._settings.missing_seconds
            if now < search.due:
                return False
            try:
                self._pool.submit(self._serve)
            except RuntimeError:  # the node ends
                return False
            search.asked, search.waits = now, True
            search.due = now + _AGAIN_SECONDS * 2 ** min(search.tries, 16)
            search.tries += 1
            search.listed = listed
            heappush(self._waiting, (priority, next(self._numbers), study_key))
            return True

    def _serve(self) -> None:
        """Search for the images of the most urgent study that waits."""
        with self._lock:
            if not self._waiting:
                return
            study_key = heappop(self._waiting)[2]
            search = self._searches[study_key]
            search.waits, search.goes_on = False, True
        try:
            with self._tries.one(study=study_key):
                self._search(study_key, search.listed)
        finally:
            with self._lock:
                search.goes_on = False
            self._wake()

    def end(self) -> None:
        """Ask no more; what is being asked ends by its own limits."""
        self._ended.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _tidy(self) -> None:
        """Forget studies that nobody has asked about for long: they are settled."""
        if len(self._searches) > _REMEMBERED:
            now = self._monotonic()
            self._searches = {
                key: one
                for key, one in self._searches.items()
                if one.waits or one.goes_on or now < 2 * one.due + _AGAIN_SECONDS - one.asked
            }

    def _search(self, study_key: str, listed: frozenset[str]) -> None:
        try:
            self._fetch(study_key, listed)
        except NodeError as error:
            self._emit("study.unfound", level="warning", study=study_key, objects=0, reason=error.code)
        except Exception as error:  # noqa: BLE001 - the border: nobody waits for this thread's exception
            kind = type(error).__name__
            self._emit("study.unfound", level="error", study=study_key, objects=0, reason="internal", kind=kind)

    def _fetch(self, study_key: str, listed: frozenset[str]) -> None:
        """Ask one source after the other for what is still missing, and say what came."""
        own = own_results(self._ledger, self._key, study_key)
        missing = listed | frozenset(self._ledger.missing_instances(study_key, besides=own))
        uid = study_instance_uid(self._spool, self._ledger.instances(study_key))
        if not missing or uid is None:
            self._emit("study.unfound", study=study_key, objects=0)
            return
        sought = _Sought(
            study_instance_uid=uid,
            missing=set(missing),
            allowance=Allowance(
                objects=self._settings.maximum_objects,
                size=self._settings.maximum_bytes,
                until=self._monotonic() + self._settings.missing_seconds,
                monotonic=self._monotonic,
            ),
        )
        asked = Asked(
            purpose="missing",
            priority=self._ledger.priority(study_key),
            allowance=sought.allowance,
            pause=self._ended.wait,
        )
        try:
            self._sources.ask(asked, lambda name, source: self._from(name, source, sought))
        except NodeError as error:
            objects = len(missing) - len(sought.missing)
            reason = (sought.refusal or error).code
            self._emit("study.unfound", level="warning", study=study_key, objects=objects, reason=reason)
        else:
            self._emit("study.completed", study=study_key, objects=len(missing))

    def _from(self, name: str, source: Retriever, sought: _Sought) -> bool | None:
        """Have a source give what is missing; None where some of it is missing still.

        Raises
        ------
        NodeError
            ``timeout`` where no time is left to ask it at all; that is not its fault.
        """
        if not sought.allowance.seconds:
            raise NodeError("timeout")
        study = sought.study_instance_uid
        found = source.find("SERIES", {"StudyInstanceUID": study, "SeriesInstanceUID": ""}, sought.left())
        for series in dict.fromkeys(uid_of(one, "SeriesInstanceUID") for one in found[:_MOST_SERIES]):
            query = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": "", "SOPClassUID": ""}
            shown = source.find("IMAGE", query, sought.left()) if series else []
            here = {
                uid: one.get("SOPClassUID", "").strip()
                for one in shown
                if (uid := uid_of(one, "SOPInstanceUID")) and self._instance_key(uid) in sought.missing
            }
            if here:
                classes = frozenset(here.values()) & frozenset(storage_classes()) or self._sop_classes
                wanted = Wanted(
                    study_instance_uid=study,
                    series_instance_uid=series,
                    sop_instance_uids=tuple(sorted(here)),
                    sop_classes=tuple(sorted(classes)),
                )
                self._take_all(name, source, wanted, sought)
            if not sought.missing:
                return True
        return None

    def _instance_key(self, sop_instance_uid: str) -> str:
        return blind_key(self._key, "instance", sop_instance_uid)

    def _take_all(self, name: str, source: Retriever, wanted: Wanted, sought: _Sought) -> None:
        """Take what a source sends as one association of its."""
        peer = Peer(
            calling_ae_title=self._sections[name].ae_title,
            called_ae_title=self._called,
            address=self._sections[name].host,
            association_id=os.urandom(16).hex(),
        )
        taking = Taking(wanted, lambda one: self._take(one, peer), allowance=sought.allowance, limits=Limits())
        reception = self._intake.reception
        reception.admit(peer)
        reception.opened(peer)
        try:
            self._sources.retrieve(name, source, taking)
        finally:
            reception.closed(peer, aborted=False)
            sought.missing -= {self._instance_key(uid) for uid in taking.kept}
            sought.refusal = sought.refusal or next(iter(taking.refusals.values()), None)

    def _take(self, one: Fetched, peer: Peer) -> None:
        """Seal one object.

        Raises
        ------
        NodeError
            Where it is not taken.
        """
        request = StoreRequest(
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
            transfer_syntax_uid=one.transfer_syntax_uid,
        )
        transfer = self._intake.begin(request, peer)
        if transfer.take_whole(one.encoded) != SUCCESS:
            raise transfer.fault or NodeError("internal")
