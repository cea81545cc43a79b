"""Priors: earlier studies of a patient, fetched for a work whose model wants them, and kept with that work alone.

They are sealed under the keys of the study that they are fetched for and never enter the index: no revision, no work and no
result of their own comes of them, and they go when the study goes. A work waits for them for a bounded time, then goes on.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, Final

from pydicom import Dataset

from dicomnode.encoded import Limits, read_dataset, wrap_part10
from dicomnode.errors import NodeError, PeerError, PeerRefusal, StudyError
from dicomnode.events import Emit
from dicomnode.manifest import InputRule
from dicomnode.manifest import Priors as PriorRule
from dicomnode.network.retrieval import Allowance, Fetched, Retriever, Taking, Wanted
from dicomnode.source_sections import RetrievalSection
from dicomnode.study import Purpose, WorkKey, WorkRow, WorkState, World, blind_key
from dicomnode.workflow.analysis import Analyst
from dicomnode.workflow.copying import Copier
from dicomnode.workflow.handover import Handover, Rooms, framed, name
from dicomnode.workflow.ports import Monotonic
from dicomnode.workflow.prior_choice import (
    SERIES_KEYS,
    PriorStudy,
    Subject,
    choose_series,
    choose_studies,
    days_before,
    is_patient,
    said_by,
    study_query,
    subject_of,
)
from dicomnode.workflow.prior_volumes import copies_of
from dicomnode.workflow.routing import series_of
from dicomnode.workflow.selection import Header, relevant, without_pixels
from dicomnode.workflow.sources import Asked, Sources

#: Earlier studies that are looked at for each that is wanted, and series of each.
_STUDIES: Final = 3
_SERIES: Final = 3
_LISTING: Final = "priors"
#: What says nothing of the other studies of a source.
_OF_ONE_STUDY: Final = frozenset({"retrieval-other-patient", "retrieval-incomplete"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """One series of an earlier study, as it is kept.

    Attributes
    ----------
    images
        Names of the sealed images, in source order.
    digest
        Of all their contents, under a key.
    """

    images: tuple[str, ...]
    days_before: int
    digest: str


class Priors:
    """Fetches priors, keeps them, and makes the copies that the network sees.

    Parameters
    ----------
    sources
        Whom to ask.
    settings, limits
        How much and how long; budgets of reading.
    report
        Told of an exception that nobody foresaw.
    ending
        Set when the node ends: nothing is waited for any more.
    """

    def __init__(
        self,
        rooms: Rooms,
        sources: Sources,
        *,
        settings: RetrievalSection,
        limits: Limits,
        report: Callable[[str, BaseException], None],
        ending: threading.Event,
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self._rooms = rooms
        self._ending = ending
        self._handover = Handover(rooms)
        self._sources = sources
        self._settings = settings
        self._limits = limits
        self._report = report
        self._monotonic = monotonic
        self._emit = emit

    def are_wanted(self, model: str) -> bool:
        """Whether a model wants any."""
        analyst = self._rooms.analysts.get(model)
        return analyst is not None and analyst.package.manifest.priors is not None

    def fetch(self, key: WorkKey) -> None:
        """Fetch what a work's model wants, unless that was done; the work goes on whatever comes of it.

        Raises
        ------
        NodeError
            Only when the node ends: it is to be done again.
        """
        try:
            self._fetch(key)
        except NodeError as error:
            if self._ending.is_set():
                raise
            self._do_without(key, error.code)
        except Exception as error:  # noqa: BLE001 - the border: the work goes on without, and the fault is told
            self._report("priors", error)
            self._do_without(key, "internal")

    def copy(self, key: WorkKey) -> list[dict[str, Any]]:
        """Pseudonymous copies of what was fetched; of each its digest, its number of images and its days before."""
        copied: list[dict[str, Any]] = []
        analyst = self._rooms.analysts[key.model]
        for prior in self._kept(key):
            files = (self._handover.get(key, World.IDENTITY, one, Purpose.PRIOR) for one in prior.images)
            copier = Copier(analyst.deidentifier, self._limits)
            place = copies_of(key, len(copied))
            try:
                self._handover.put(key, World.PSEUDONYM, place, Purpose.COPY, framed(copier.copy(one) for one in files))
            except NodeError as error:
                if error.may_pass:
                    raise
                self._emit("priors.dropped", level="warning", work=key.workflow_id, reason=error.code)
                continue
            copied.append({"digest": prior.digest, "images": len(prior.images), "days_before": prior.days_before})
        return copied

    def facts(self, key: WorkKey) -> dict[str, int | float | str]:
        """What is kept with the work: how many there are, and why there is none."""
        listing = self._listing(key) or {}
        reason = listing.get("reason")
        return {"priors": len(listing.get("priors", ())), **({"priors_reason": reason} if reason else {})}

    def _fetch(self, key: WorkKey) -> None:
        work = self._rooms.ledger.work(key)
        if work is None or work.state is not WorkState.QUEUED or self._listing(key) is not None:
            return
        analyst = self._rooms.analysts[key.model]
        rule = analyst.package.manifest.priors
        subject = self._subject(work)
        if rule is None or subject is None:
            raise NodeError("priors-none")
        began = self._monotonic()
        allowance = Allowance(
            objects=self._settings.maximum_objects,
            size=self._settings.maximum_bytes,
            until=began + self._settings.priors_seconds,
            monotonic=self._monotonic,
            ended=self._ending.is_set,
        )
        gathering = _Gathering(self, key, analyst=analyst, rule=rule, subject=subject, allowance=allowance)
        priority = self._rooms.ledger.priority(key.study_key)
        asked = Asked(purpose="priors", priority=priority, allowance=allowance, pause=self._ending.wait)
        source, found = self._sources.ask(asked, gathering.of)
        if self._ending.is_set():  # what is there by now may be the half of it
            raise PeerError("timeout")
        self._keep(key, found, None)
        images, seconds = sum(len(one.images) for one in found), round(self._monotonic() - began, 3)
        work_id, number = key.workflow_id, len(found)
        self._emit("priors.fetched", work=work_id, source=source, priors=number, images=images, seconds=seconds)

    def _subject(self, work: WorkRow) -> Subject | None:
        """Patient and study of a work, by the first of its images that can be read."""
        series = series_of(work.facts)
        for row in relevant(self._rooms.ledger.instances(work.key.study_key), self._rooms.sop_classes):
            if series is not None and row.series_key not in series:
                continue
            try:
                metadata, encoded = self._rooms.spool.read(row.study_key, row.address)
                return subject_of(read_dataset(encoded, metadata.transfer_syntax_uid, self._limits))
            except StudyError:
                continue
        return None

    def _do_without(self, key: WorkKey, reason: str) -> None:
        level = "info" if reason == "priors-none" else "warning"
        try:
            if self._listing(key) is not None:  # before a kill
                return
            self._keep(key, (), reason)
        except NodeError as error:  # the work's own stages will say so, too
            reason, level = error.code, "error"
        self._emit("priors.none", level=level, work=key.workflow_id, reason=reason)

    def _keep(self, key: WorkKey, priors: Sequence[Prior], reason: str | None) -> None:
        """Write down last of all what there is: what was sealed before counts from here on, or not at all."""
        encoded = json.dumps({"priors": [asdict(one) for one in priors], "reason": reason}).encode()
        self._handover.put(key, World.IDENTITY, name(key, _LISTING), Purpose.PRIOR, encoded)

    def _listing(self, key: WorkKey) -> dict[str, Any] | None:
        found = self._handover.find(key, World.IDENTITY, name(key, _LISTING), Purpose.PRIOR)
        return None if found is None else dict(json.loads(found))

    def _kept(self, key: WorkKey) -> Iterator[Prior]:
        for one in (self._listing(key) or {}).get("priors", ()):
            yield Prior(images=tuple(one["images"]), days_before=one["days_before"], digest=one["digest"])

    # what `_Gathering` needs

    def retrieve(
        self,
        source: str,
        retriever: Retriever,
        wanted: Wanted,
        *,
        take: Callable[[Fetched], None],
        allowance: Allowance,
    ) -> frozenset[str]:
        """Fetch one series; SOP Instance UIDs of what came of it."""
        taking = Taking(wanted, take, allowance=allowance, limits=self._limits)
        self._sources.retrieve(source, retriever, taking)
        return frozenset(taking.kept | taking.refusals.keys())

    def seal(self, key: WorkKey, image: str, one: Fetched) -> Dataset | None:
        """Seal one image; its header, None where it cannot be read."""
        try:
            header = without_pixels(read_dataset(one.encoded, one.transfer_syntax_uid, self._limits))
        except StudyError:
            return None
        file = wrap_part10(
            one.encoded,
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
            transfer_syntax_uid=one.transfer_syntax_uid,
        )
        self._handover.put(key, World.IDENTITY, image, Purpose.PRIOR, file)
        return header

    def drop(self, key: WorkKey, images: Iterable[str]) -> None:
        """Take images away that are not used."""
        for one in images:
            self._rooms.objects.delete(key.study_key, World.IDENTITY, one, Purpose.PRIOR)

    def digest(self, contents: Sequence[str]) -> str:
        """Digest of contents, by their own."""
        return blind_key(self._rooms.derivation_key, "prior", *contents)

    def tell(self, event: str, reason: str, **facts: Any) -> None:
        """Say what a source does."""
        self._emit(event, level="warning", reason=reason, **facts)


class _Gathering:
    """One work's priors out of one source."""

    def __init__(
        self,
        priors: Priors,
        key: WorkKey,
        *,
        analyst: Analyst,
        rule: PriorRule,
        subject: Subject,
        allowance: Allowance,
    ) -> None:
        self._priors = priors
        self._key = key
        self._analyst = analyst
        self._rule = rule
        self._subject = subject
        self._allowance = allowance
        self._sealed = 0

    def of(self, source: str, retriever: Retriever) -> tuple[str, tuple[Prior, ...]] | None:
        """What a source has; None where it shows nothing that would do.

        Raises
        ------
        PeerError
            Where it failed before there was anything, or all that it has is another patient's.
        """
        found = retriever.find("STUDY", study_query(self._subject, self._rule), self._left())
        studies, strangers = choose_studies(found, self._subject, self._rule)
        if strangers:
            self._priors.tell("source.strange", "retrieval-other-patient", source=source, studies=strangers)
        kept: list[Prior] = []
        fault: PeerError | None = None
        for study in studies[: _STUDIES * self._rule.number]:
            if len(kept) == self._rule.number:
                break
            try:
                prior = self._prior(source, retriever, study)
            except PeerError as error:
                fault = error
                self._priors.tell("source.failed", error.code, source=source)
                if error.code not in _OF_ONE_STUDY:
                    break
            else:
                kept += [prior] if prior is not None else []
        if not kept and fault is not None:
            raise fault
        return (source, tuple(sorted(kept, key=lambda one: one.days_before))) if kept else None

    def _left(self) -> float:
        if not self._allowance.seconds:
            raise PeerError("timeout")
        return self._allowance.seconds

    def _prior(self, source: str, retriever: Retriever, study: PriorStudy) -> Prior | None:
        """The best series of a study that the model's rule takes, with what is too much of it."""
        query = {**dict.fromkeys(SERIES_KEYS, ""), "StudyInstanceUID": study.study_instance_uid}
        shown = choose_series(retriever.find("SERIES", query, self._left()), self._rule)
        for uid, number in islice(shown.items(), _SERIES):
            wanted = Wanted(
                study_instance_uid=study.study_instance_uid,
                series_instance_uid=uid,
                sop_classes=tuple(sorted(self._input.sop_classes)),
            )
            prior = self._series(source, retriever, wanted, number)
            if prior is not None:
                return prior
        return None

    @property
    def _input(self) -> InputRule:
        """The model's own rule, with the kinds of image that it takes of earlier studies."""
        own = self._analyst.package.manifest.input
        parts = self._rule.body_parts or own.body_parts
        return replace(own, modalities=self._rule.modalities, body_parts=parts)

    def _prove_whole(self, retriever: Retriever, wanted: Wanted, shown: int, came: AbstractSet[str]) -> None:
        """Raise a PeerError where fewer images came than the source shows: half a scan looks like a whole one."""
        if shown and len(came) >= shown:
            return
        uids = {"StudyInstanceUID": wanted.study_instance_uid, "SeriesInstanceUID": wanted.series_instance_uid}
        try:
            listed = retriever.find("IMAGE", {**uids, "SOPInstanceUID": "", "SOPClassUID": ""}, self._left())
        except PeerError:
            if shown or not self._allowance.seconds:
                raise
            return  # a source that says nowhere how many there are
        for one in listed:
            is_wanted = one.get("SOPClassUID", "").strip() in ("", *wanted.sop_classes)
            if is_wanted and (uid := one.get("SOPInstanceUID", "").strip()) and uid not in came:
                raise PeerError("retrieval-incomplete", objects=len(came))

    def _series(self, source: str, retriever: Retriever, wanted: Wanted, shown: int) -> Prior | None:
        """A series as its own images tell it: whose it is, and when it was; what the source shows is no proof of either."""
        headers: list[Header] = []
        days: dict[str, int] = {}
        misdated: list[str] = []
        sealed: dict[str, str] = {}  # names of images, with the digests of their contents

        def take(one: Fetched) -> None:
            self._sealed += 1
            image = name(self._key, f"prior-{self._sealed}")
            header = self._priors.seal(self._key, image, one)
            if header is None:
                return
            sealed[image] = hashlib.sha256(one.encoded).hexdigest()
            said = said_by(header)
            if not is_patient(said, self._subject):
                raise PeerRefusal("retrieval-other-patient")
            before = days_before(said, self._subject, self._rule)
            if before is None:
                misdated.append(image)
                return
            days[image] = before
            headers.append(Header(series_key="", instance_key=image, dataset=header))

        chosen: tuple[str, ...] = ()
        try:
            came = self._priors.retrieve(source, retriever, wanted, take=take, allowance=self._allowance)
            if headers:
                self._prove_whole(retriever, wanted, shown, came)
                chosen = self._analyst.select(headers, self._input).instance_keys
        except StudyError:  # this one does not suit the model
            chosen = ()
        finally:
            self._priors.drop(self._key, [image for image in sealed if image not in chosen])
            if misdated:
                self._priors.tell("source.strange", "retrieval-strange", source=source, objects=len(misdated))
        if not chosen:
            return None
        digest = self._priors.digest([sealed[image] for image in chosen])
        return Prior(images=chosen, days_before=min(days[one] for one in chosen), digest=digest)
