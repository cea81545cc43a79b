"""What a source lists of a study: evidence that all of it has come, or of what did not.

Two equal answers, some seconds apart, while nothing comes of it (design section 4). What may be missing are images of series
and SOP Classes of which something came: derived objects, and series that nobody sends here, are not waited for. But where
other series are listed that models could look at, nobody says that all came: they may still come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.network.retrieval import Allowance, Retriever
from dicomnode.pulses import FAR_SECONDS, Pulse, Tries
from dicomnode.source_sections import RetrievalSection
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, blind_key
from dicomnode.workflow.evidence import Evidence, EvidenceBook, joined
from dicomnode.workflow.ports import Monotonic
from dicomnode.workflow.prior_choice import uid_of
from dicomnode.workflow.records import study_instance_uid
from dicomnode.workflow.sources import Asked, Sources

#: Seconds between two answers that are compared; less where the quiet time would be over before.
BETWEEN_SECONDS: Final = 5.0
#: Seconds until a study is asked about again of which the answers said nothing; doubled each time, up to half the quiet time:
#: what ends to come is asked about before it is settled.
_AGAIN_SECONDS: Final = 10.0
#: Studies that are asked about at a time: each waits between its answers.
_AT_ONCE: Final = 4
_REMEMBERED: Final = 256
#: As wanted where an image does not say what it is: it counts.
_UNKNOWN: Final = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a source lists: of how many records of the study, how many images, and blind keys of those that did not come."""

    records: int
    instances: int
    missing: frozenset[str]


@dataclass(slots=True)
class _Study:
    """What is known of a study: what two answers agreed on, or when it may be asked about again."""

    tries: int = 0
    due: float = 0.0
    goes_on: bool = False
    answer: _Answer | None = None


class Listings:
    """Asks sources that list; every method may be called from any thread.

    Parameters
    ----------
    book
        What others announced of studies, which is joined to what is listed.
    sop_classes
        Those that models take; empty where no source may be asked.
    derivation_key
        Key of the blind keys.
    quiet_seconds
        Silence after which a study is settled without any answer.
    wake
        Called when something is known of a study.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        sources: Sources,
        book: EvidenceBook,
        *,
        sop_classes: frozenset[str],
        derivation_key: bytes,
        settings: RetrievalSection,
        quiet_seconds: float,
        wake: Callable[[], None],
        monotonic: Monotonic,
        emit: Emit,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._sources = sources
        self._book = book
        self._sop_classes = sop_classes
        self._key = derivation_key
        self._settings = settings
        self._between_seconds = min(BETWEEN_SECONDS, quiet_seconds / 4)
        self._longest_seconds = max(_AGAIN_SECONDS, quiet_seconds / 2)
        self._wake = wake
        self._monotonic = monotonic
        self._emit = emit
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._studies: dict[str, _Study] = {}
        self._tries = Tries("listing", settings.missing_seconds + FAR_SECONDS)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="listing")

    @property
    def pulses(self) -> tuple[Pulse, ...]:
        """Of the questions that are under way."""
        return self._tries.pulses

    def of(self, study_key: str) -> Evidence | None:
        """What is known of a study, announced and listed; where nothing is listed yet, sources are asked meanwhile.

        Raises
        ------
        NodeError
            ``index-behind``: it is not known yet what came.
        """
        said = self._book.of(study_key)
        if not self._sop_classes:
            return said
        answer = self._answer(study_key)
        if answer is None:
            return said
        return joined(said, Evidence(under_way=0, announced=answer.instances, missing=len(answer.missing)))

    def missing(self, study_key: str) -> frozenset[str]:
        """Blind keys of images of a study that are listed and did not come."""
        with self._lock:
            study = self._studies.get(study_key)
            answer = None if study is None else study.answer
        return frozenset() if answer is None else answer.missing

    def end(self) -> None:
        """Ask no more; what is being asked ends by its own limits."""
        self._ended.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, study_key: str) -> _Answer | None:
        """What two answers agreed on, if nothing came since; else has sources asked, unless that was just done."""
        with self._lock:
            study = self._studies.setdefault(study_key, _Study())
            answer = study.answer
        if answer is not None and answer.records == self._book.records(study_key):
            return answer
        with self._lock:
            study.answer, now = None, self._monotonic()
            if study.goes_on or now < study.due:
                return None
            try:
                self._pool.submit(self._look, study_key, study)
            except RuntimeError:  # the node ends
                return None
            study.goes_on = True
            study.due = now + min(_AGAIN_SECONDS * 2 ** min(study.tries, 16), self._longest_seconds)
            study.tries += 1
            self._tidy(now)
        return None

    def _tidy(self, now: float) -> None:
        """Forget studies that nobody has asked about for long: they are settled."""
        if len(self._studies) > _REMEMBERED:
            keep = list(self._studies)[-_REMEMBERED:]
            self._studies = {
                key: one for key, one in self._studies.items() if key in keep or one.goes_on or now < one.due
            }

    def _look(self, study_key: str, study: _Study) -> None:
        answer: _Answer | None = None
        try:
            with self._tries.one(study=study_key):
                answer = self._agreed(study_key)
            if answer is not None:
                study.tries, missing = 0, len(answer.missing)
                self._emit("study.listed", study=study_key, instances=answer.instances, missing=missing)
        except NodeError as error:
            self._emit("study.unlisted", study=study_key, reason=error.code)
        except Exception as error:  # noqa: BLE001 - the border: nobody waits for this thread's exception
            kind = type(error).__name__
            self._emit("study.unlisted", level="error", study=study_key, reason="internal", kind=kind)
        finally:
            with self._lock:
                study.goes_on, study.answer = False, answer
            self._wake()

    def _agreed(self, study_key: str) -> _Answer | None:
        """What two answers agree on."""
        first = self._ask(study_key)
        is_same = first is not None and not self._ended.wait(self._between_seconds) and self._ask(study_key) == first
        return first if is_same else None

    def _ask(self, study_key: str) -> _Answer | None:
        """What came, and what the first source lists that knows of all of it; None where none does."""
        rows = self._book.came(study_key)
        uid = study_instance_uid(self._spool, rows)
        if uid is None:
            return None
        asked = Asked(
            purpose="listing",
            priority=self._ledger.priority(study_key),
            allowance=Allowance(
                objects=0,
                size=0,
                until=self._monotonic() + self._settings.missing_seconds,
                monotonic=self._monotonic,
            ),
            pause=self._ended.wait,
        )
        listed = self._sources.ask(asked, lambda _, source: self._listed(source, uid, rows, asked))
        return _Answer(records=len(rows), instances=len(listed), missing=listed - _keys(rows))

    def _listed(
        self, source: Retriever, uid: str, rows: tuple[InstanceRow, ...], asked: Asked
    ) -> frozenset[str] | None:
        """Blind keys of what a source lists in the series that came.

        None where it does not list all that came, or just that and series beside it which models could look at.
        """
        came, wanted, has_others = _keys(rows), dict[str, set[str]](), False
        for row in rows:
            wanted.setdefault(row.series_key, {_UNKNOWN}).add(row.sop_class_uid)
        listed: set[str] = set()
        found = source.find("SERIES", {"StudyInstanceUID": uid, "SeriesInstanceUID": ""}, asked.seconds)
        for series in dict.fromkeys(uid_of(one, "SeriesInstanceUID") for one in found):
            if not series:
                continue
            query = {"StudyInstanceUID": uid, "SeriesInstanceUID": series, "SOPInstanceUID": "", "SOPClassUID": ""}
            shown = [(uid_of(one, "SOPInstanceUID"), one) for one in source.find("IMAGE", query, asked.seconds)]
            kinds = {instance: one.get("SOPClassUID", "").strip() for instance, one in shown if instance}
            classes = wanted.get(blind_key(self._key, "series", uid, series))
            if classes is None:
                has_others |= not ({_UNKNOWN} | self._sop_classes).isdisjoint(kinds.values())
            else:
                listed |= {blind_key(self._key, "instance", one) for one, kind in kinds.items() if kind in classes}
        return None if not came <= listed or (has_others and listed == came) else frozenset(listed)


def _keys(rows: tuple[InstanceRow, ...]) -> frozenset[str]:
    return frozenset(row.instance_key for row in rows)
