"""The stages of a work, each idempotent: prepare (select, de-identify), infer (labels, measurements), encode (results).

What one stage hands to the next lies sealed in the object store; what it tells the durable queue is whether to go on.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any, Final

from pydicom import Dataset

from dicomnode.config import Config
from dicomnode.encoded import SeriesReader, read_part10_raw
from dicomnode.errors import NodeError, StorageError, StudyError
from dicomnode.events import Emit
from dicomnode.identity import SourceIdentity
from dicomnode.study import (
    FINAL_STATES,
    Purpose,
    WorkKey,
    WorkRow,
    WorkState,
    World,
)
from dicomnode.workflow.ahead import Ahead, let_go
from dicomnode.workflow.analysis import Analysis, Analyst, Issue
from dicomnode.workflow.beforehand import Early
from dicomnode.workflow.encoding import Encoding
from dicomnode.workflow.handover import Handover, Rooms, name
from dicomnode.workflow.packed import pack_voxels
from dicomnode.workflow.picture import picture_of
from dicomnode.workflow.ports import Clock, Monotonic
from dicomnode.workflow.preparing import Preparing
from dicomnode.workflow.prior_volumes import open_priors
from dicomnode.workflow.priors import Priors
from dicomnode.workflow.reading import Coming, limits_of
from dicomnode.workflow.records import Records
from dicomnode.workflow.sealing import Sealing
from dicomnode.workflow.selection import relevant, without_pixels
from dicomnode.workflow.unchanged import Unchanged

__all__ = ["Rooms", "Stages"]

_STATE_OF: Final = {"prepare": WorkState.PREPARING, "infer": WorkState.INFERRING, "encode": WorkState.ENCODING}
_ORDER: Final = (
    WorkState.QUEUED,
    WorkState.PREPARING,
    WorkState.INFERRING,
    WorkState.ENCODING,
    WorkState.READY,
    WorkState.DELIVERING,
    WorkState.DONE,
)
#: How often a stage is tried that storage failed: what people mend by making space, for about half an hour.
_TRIES: Final = {"storage-full": 64, "ledger-failed": 64, "storage-failed": 3}
_PAUSE_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
#: For how long copies are not sealed when the results are on their way.
_SENDING_SECONDS: Final = 1.0


class _EndsError(Exception):
    """The node ends while something is waited for."""


class Stages:
    """Runs the stages of works.

    Parameters
    ----------
    rooms
        Storage and one analyst per model.
    tree
        Configuration.
    released
        Called with a study key when its results are ready.
    pause
        Waits some seconds before a stage is tried again; returns True, and early, when the node ends.
    report
        Told of an exception that nobody foresaw.
    refused
        SOP Classes that a destination, by its name, is known not to support.
    early, used
        What of a study was read and de-identified while it came, by instance; and told when a work was made of it.
    priors
        Has what was fetched for models that want priors; None: no source is configured.
    """

    def __init__(
        self,
        rooms: Rooms,
        tree: Config,
        *,
        released: Callable[[str], None],
        pause: Callable[[float], bool],
        report: Callable[[str, BaseException], None],
        clock: Clock,
        monotonic: Monotonic,
        emit: Emit,
        refused: Callable[[str], frozenset[str]] = lambda _: frozenset(),
        early: Callable[[str], Mapping[str, Early]] = lambda _: {},
        used: Callable[[str], None] = lambda _: None,
        priors: Priors | None = None,
    ) -> None:
        self._rooms = rooms
        self._tree = tree
        self._handover = Handover(rooms)
        self._limits = limits_of(tree)
        self.records = Records(rooms.spool, rooms.ledger, self._limits, remember=rooms.remember, clock=clock, emit=emit)
        self._released = released
        self._pause = pause
        self._report = report
        self._places = max((analyst.places for analyst in rooms.analysts.values()), default=1)
        self.encoding = Encoding(
            rooms, tree, refused=refused, copies=self._copies, places=self._places, clock=clock, emit=emit
        )
        self.sealing = Sealing(
            self._handover.put_copies, places=self._places, monotonic=monotonic, report=report, emit=emit
        )
        self._preparing = Preparing(
            rooms,
            self.records,
            limits=self._limits,
            early=early,
            used=used,
            begin=self._begin,
            seal=self.sealing.begin,
            priors=priors,
            unchanged=self._is_unchanged,
            clock=clock,
            emit=emit,
        )
        self._unchanged = Unchanged(rooms.ledger, clock=clock, emit=emit)
        self._clock = clock
        self._monotonic = monotonic
        self._emit = emit
        #: What the network's stage leaves for the one after it, beside what is sealed.
        self._latest: dict[WorkKey, Analysis] = {}
        self._ahead: Ahead[Analysis] = Ahead(self._places)
        self._alone = Lock()
        self._running: dict[WorkKey, float] = {}

    def run(self, stage: str, key: WorkKey) -> bool:
        """Run one stage; whether the next may follow. Never raises: what went wrong is the work's state."""
        going_on = False
        try:
            going_on = self._run(stage, key)
        except NodeError as error:
            self._end(stage, key, error)
        except Exception as error:  # noqa: BLE001 - the border: whatever it is becomes a coded state
            self._report(stage, error)
            self._end(stage, key, NodeError("internal", stage=stage))
        finally:
            if stage != "prepare" or not going_on:
                self._ahead.forget(key)
            if stage == "encode" or not going_on:
                self.encoding.forget(key)
                self.sealing.stand_back(key, _SENDING_SECONDS)
        return going_on

    def _run(self, stage: str, key: WorkKey) -> bool:
        try:
            return self._again(stage, key, lambda: self._once(stage, key))
        except _EndsError:
            return False  # the next start takes the work up in the state that it has

    def _again(self, stage: str, key: WorkKey, act: Callable[[], bool]) -> bool:
        """Do something, again and again where storage fails that may do later; what it raises in the end."""
        tried = 0
        while True:
            self._running[key] = self._monotonic()
            try:
                return act()
            except StorageError as error:
                tried += 1
                if tried >= _TRIES.get(error.code, 1):
                    raise
                self._emit("stage.again", level="warning", work=key.workflow_id, stage=stage, reason=error.code)
            finally:
                del self._running[key]
            if self._pause(min(_PAUSE_SECONDS * tried, _LONGEST_PAUSE_SECONDS)):
                raise _EndsError

    @contextmanager
    def between(self) -> Iterator[bool]:
        """A turn between stages, for what may wait: False where any runs. One that begins meanwhile waits for its end."""
        free = not self._running and self._alone.acquire(blocking=False)
        try:
            yield free
        finally:
            if free:
                self._alone.release()

    def close(self, seconds: float) -> None:
        """Seal what is left, in so many seconds at most, and give the engines' memory back; no stage runs any more."""
        self.sealing.close(seconds)
        for analyst in self._rooms.analysts.values():
            analyst.close()

    def overdue(self, seconds: float) -> tuple[WorkKey, ...]:
        """Works with a stage that has been running for longer than `seconds`."""
        now = self._monotonic()
        return tuple(key for key, began in tuple(self._running.items()) if now - began > seconds)

    def _once(self, stage: str, key: WorkKey) -> bool:
        work = self._rooms.ledger.work(key)
        state = _STATE_OF[stage]
        if work is None or work.state not in _ORDER:
            return False
        if _ORDER.index(work.state) > _ORDER.index(state):
            return work.state in _STATE_OF.values()  # it was done before a crash
        latest = self._rooms.ledger.latest_revision(key.study_key)
        if latest is not None and latest.revision != key.revision:
            self._rooms.ledger.set_work_state(key, WorkState.SUPERSEDED, at=self._clock())
            return False
        self._rooms.ledger.set_work_state(key, state, at=self._clock())
        self._emit("stage.begun", work=key.workflow_id, stage=stage)
        began = self._monotonic()
        act = {"prepare": self._prepare, "infer": self._infer, "encode": self._encode}[stage]
        # Networks on several devices run at once; what is Python alone would only take turns with itself.
        with nullcontext() if stage == "infer" else self._alone:
            going_on = act(key, work)
        seconds = self._monotonic() - began
        self._rooms.ledger.record_stage(key, stage, seconds)
        self._emit("stage.ended", work=key.workflow_id, stage=stage, seconds=round(seconds, 3))
        return going_on

    def _end(self, stage: str, key: WorkKey, error: NodeError) -> None:
        ours = error.is_fault
        state = WorkState.FAILED if ours else WorkState.REFUSED
        level = "error" if ours else "warning"
        try:
            work = self._rooms.ledger.work(key)
            if work is not None and work.state in FINAL_STATES:  # superseded or past its deadline meanwhile
                self._emit("work.overtaken", work=key.workflow_id, state=work.state.value)
                return
            if work is not None and self._told(stage, key, error):
                return
            self._rooms.ledger.set_work_state(key, state, at=self._clock(), reason=error.code, facts=dict(error.facts))
        except _EndsError:
            return
        except NodeError as second:
            self._emit("ledger.failed", level="error", work=key.workflow_id, reason=second.code)
            return  # it has not ended: it is taken up again in the state that it has
        self._emit(f"work.{state.value}", level=level, work=key.workflow_id, model=key.model, reason=error.code)

    def _analyst(self, key: WorkKey) -> Analyst:
        analyst = self._rooms.analysts.get(key.model)
        if analyst is None:  # taken out of the configuration since
            raise NodeError("model-not-found")
        return analyst

    # prepare -----------------------------------------------------------------------------------------------------

    def _prepare(self, key: WorkKey, work: WorkRow) -> bool:
        return self._preparing.prepare(key, work, self._analyst(key))

    def _is_unchanged(self, key: WorkKey, analyst: Analyst, input_digest: str, keep: Callable[[], object]) -> bool:
        if key.revision == 1:  # there is nothing before it, and most studies have no other
            return False
        basis = analyst.source_of(analyst.algorithm(), input_digest, None)
        return self._unchanged.ends(key, basis, self.encoding.plans(key, analyst), keep)

    def _begin(self, key: WorkKey, plan: Mapping[str, Any], identity: bytes, images: deque[Dataset]) -> None:
        copies = Coming(let_go(images), len(images))
        self._ahead.begin(key, plan["digest"], partial(self._analyse, key, plan, identity, copies))

    # infer -------------------------------------------------------------------------------------------------------

    def _infer(self, key: WorkKey, work: WorkRow) -> bool:
        self._analyst(key)
        plan = self._handover.plan(key)
        analysis = self._ahead.of(key, plan["digest"])
        if analysis is None:
            identity = self._handover.identity(key, plan["series_key"])
            analysis = self._analyse(key, plan, identity, self._copies(key))
        self._handover.put(key, World.PSEUDONYM, name(key, "labels"), Purpose.LABELS, analysis.packed)
        if analysis.probability is not None:
            packed = pack_voxels(analysis.probability)
            self._handover.put(key, World.PSEUDONYM, name(key, "probability"), Purpose.LABELS, packed)
        findings = json.dumps(analysis.findings.to_json()).encode()
        self._handover.put(key, World.PSEUDONYM, name(key, "findings"), Purpose.FINDINGS, findings)
        self._latest[key] = analysis
        for overtaken in list(self._latest)[: -self._places]:
            self._latest.pop(overtaken, None)
        return True

    def _analyse(self, key: WorkKey, plan: Mapping[str, Any], identity: bytes, copies: Coming) -> Analysis:
        analyst = self._analyst(key)
        issue = Issue(identity=SourceIdentity.from_json(json.loads(identity)), input_digest=plan["digest"])
        priors = open_priors(self._handover, key, plan, analyst=analyst, tree=self._tree, emit=self._emit)
        analysis = analyst.analyse(copies, issue=issue, priors=priors)
        self.sealing.stand_back(key)  # what follows is short, and waited for
        analysis = replace(analysis, picture=analyst.beside.begin(partial(picture_of, analysis, analyst.words)))
        with suppress(NodeError):  # the stage says why
            self.encoding.begin(key, analyst, analysis, issue)
        return analysis

    def _copies(self, key: WorkKey) -> Coming:
        self.sealing.finish(key)
        if not self._handover.has_copies(key):
            self._preparing.seal_again(key)
        images = map(SeriesReader(self._limits).read, self._handover.copies(key))
        return Coming(images, self._handover.plan(key).get("images", 0))

    # encode ------------------------------------------------------------------------------------------------------

    def _encode(self, key: WorkKey, work: WorkRow) -> bool:
        analyst = self._analyst(key)
        self.encoding.encode(key, analyst, self._latest.get(key) or self.encoding.recall(key, analyst))
        self._latest.pop(key, None)
        self._released(key.study_key)
        return True

    # outcome -----------------------------------------------------------------------------------------------------

    def _told(self, stage: str, key: WorkKey, error: NodeError) -> bool:
        """Whether somebody gets a document in place of the results; then the work goes on to its delivery."""
        if not isinstance(error, StudyError):
            return False
        if error.code.startswith("result-"):
            self.encoding.quarantine(key, error.code)
            return False
        try:
            told = self._again(stage, key, lambda: self.encoding.tell(key, error, lambda: self._looked_at(key)))
        except _EndsError:
            raise
        except Exception as second:  # the border: the work ends for the reason that it has
            code = second.code if isinstance(second, NodeError) else "internal"
            if code == "ledger-failed":
                raise
            if code == "internal":
                self._report(stage, second)
            self.encoding.quarantine(key, code)
            return False
        if told:
            self._emit("work.told", work=key.workflow_id, model=key.model, reason=error.code)
            self._released(key.study_key)
        return told

    def _looked_at(self, key: WorkKey) -> tuple[Dataset, Dataset] | None:
        """Header of an image that the model's rule takes, as received, converted and not."""
        modalities = self._analyst(key).package.manifest.input.modalities
        passing: StorageError | None = None
        for row in relevant(self._rooms.ledger.instances(key.study_key), self._rooms.sop_classes):
            try:
                dataset = without_pixels(self.records.read(row))
                if dataset.get("Modality") in modalities:
                    return dataset, read_part10_raw(self.records.file(row), self._limits)
            except StudyError:
                continue
            except StorageError as error:
                passing = error if error.may_pass else passing
        if passing is not None:
            raise passing
        return None
