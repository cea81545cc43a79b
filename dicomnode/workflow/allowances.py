"""What each peer may send: studies at a time, and instances and bytes of one study. Counted as it comes.

A tally is begun out of the ledger with the first instance of a study that is arriving, and ends with the arriving:
what it says is right after a restart as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from dicomnode.errors import LimitError, StudyError
from dicomnode.network_sections import PeerRule
from dicomnode.study import PRIORITIES

_AMPLE: Final = 7 / 8  # of a limit: as long as no more is used, much more may come


@dataclass(slots=True)
class _Tally:
    peer: str
    instances: int
    size: int
    rank: int = 0
    arriving: int = 0
    straight: bool = False


class Allowances:
    """Tallies of the studies that are arriving; every method may be called from any thread.

    Parameters
    ----------
    known
        Gives instances and bytes of a study in the ledger.
    is_open
        Whether a study is still arriving, by its key.
    rank
        Keeps who sent a study and how urgent it is: study key, name of the peer, priority.
    straight
        Keeps that something of a study came straight from a modality.
    stored
        Digests of what is stored of an instance: study key, instance key.
    """

    def __init__(
        self,
        *,
        known: Callable[[str], tuple[int, int]],
        is_open: Callable[[str], bool],
        rank: Callable[[str, str, str], None],
        straight: Callable[[str], None] = lambda _: None,
        stored: Callable[[str, str], Collection[str]] = lambda *_: (),
    ) -> None:
        self._known = known
        self._is_open = is_open
        self._rank = rank
        self._straight = straight
        self.stored = stored
        self._lock = threading.Lock()
        self._tallies: dict[str, _Tally] = {}

    def begin(self, rule: PeerRule, study_key: str) -> Allowed:
        """One instance of a study comes; to be closed.

        Raises
        ------
        LimitError
            ``peer-limit``: too many studies at a time.
        StudyError
            ``study-limit``: too much of this one.
        """
        with self._lock:
            tally, rank = self._tallies.get(study_key), PRIORITIES.index(rule.priority)
            if tally is None or not (tally.arriving or self._is_open(study_key)):  # it may be gone since
                tally = self._open(rule, study_key)
            elif rank < tally.rank:
                self._rank(study_key, rule.name, rule.priority)
                tally.rank = rank
            if tally.instances >= rule.maximum_study_instances or tally.size >= rule.maximum_study_bytes:
                raise StudyError("study-limit", instances=tally.instances)
            if rule.modality and not tally.straight:
                self._straight(study_key)
                tally.straight = True
            tally.instances += 1
            tally.arriving += 1
        return Allowed(self, rule, study_key, tally)

    def _open(self, rule: PeerRule, study_key: str) -> _Tally:
        for key in [key for key, one in self._tallies.items() if not (one.arriving or self._is_open(key))]:
            del self._tallies[key]
        studies = sum(one.peer == rule.name for one in self._tallies.values())
        if studies >= rule.maximum_open_studies:
            raise LimitError("peer-limit", studies=studies)
        self._rank(study_key, rule.name, rule.priority)
        instances, size = self._known(study_key)
        rank = PRIORITIES.index(rule.priority)
        tally = self._tallies[study_key] = _Tally(rule.name, instances, size, rank)
        return tally

    def add(self, tally: _Tally, size: int, limit: int) -> None:
        """Add bytes to a study, unless that is too many."""
        with self._lock:
            if tally.size + size > limit:
                raise StudyError("study-limit", bytes=tally.size)
            tally.size += size

    def is_ample(self, rule: PeerRule, tally: _Tally) -> bool:
        """Whether a study may have much more: the next instance is hardly one too many."""
        with self._lock:
            return (
                tally.instances <= rule.maximum_study_instances * _AMPLE
                and tally.size <= rule.maximum_study_bytes * _AMPLE
            )

    def end(self, tally: _Tally, size: int, *, kept: bool) -> None:
        """An instance came, or did not: then what was counted of it is taken back."""
        with self._lock:
            tally.arriving -= 1
            if not kept:
                tally.instances -= 1
                tally.size -= size


class Allowed:
    """One instance that may come; used by one thread.

    Attributes
    ----------
    study_key
        Its study.
    size
        Its bytes; 0 until they are known.
    """

    def __init__(self, allowances: Allowances, rule: PeerRule, study_key: str, tally: _Tally) -> None:
        self.study_key = study_key
        self.size = 0
        self._allowances = allowances
        self._rule = rule
        self._tally = tally
        self._kept = False

    def weigh(self, size: int) -> None:
        """Its bytes are known now; StudyError ``study-limit`` if they are too many for the study."""
        self._allowances.add(self._tally, size, self._rule.maximum_study_bytes)
        self.size = size

    @property
    def is_ample(self) -> bool:
        """Whether its study may have much more."""
        return self._allowances.is_ample(self._rule, self._tally)

    def keep(self, *, kept: bool = True) -> None:
        """It is durable, or is not after all."""
        self._kept = kept

    def close(self) -> None:
        """It has come, or not."""
        self._allowances.end(self._tally, self.size, kept=self._kept)
