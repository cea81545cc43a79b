"""What is asked of a source, and the judgement of what it sends: a peer may send other things, more, or nothing.

Pure: no socket. Whoever speaks with the source (`retrieving`, `moving`, `wado`) offers here what comes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Protocol

from dicomnode.encoded import Limits, scan_header
from dicomnode.errors import NodeError, StudyError
from dicomnode.network.status import DATA_SET_MISMATCH, OUT_OF_RESOURCES, SUCCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One series, or some instances of it.

    Attributes
    ----------
    sop_instance_uids
        Empty: the whole series.
    sop_classes
        Those that may come.
    """

    study_instance_uid: str = field(repr=False)
    series_instance_uid: str = field(repr=False)
    sop_instance_uids: tuple[str, ...] = field(default=(), repr=False)
    sop_classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """An object as a source sent it: ``encoded`` is its Data Set in ``transfer_syntax_uid``."""

    sop_class_uid: str
    sop_instance_uid: str = field(repr=False)
    transfer_syntax_uid: str
    encoded: bytes = field(repr=False)


class Allowance:
    """How much may still come, over several requests; and until when.

    Parameters
    ----------
    objects, size
        Numbers of objects, and of bytes.
    until, monotonic
        When it ends, by a clock in seconds.
    ended
        Whether it is over before that.

    Attributes
    ----------
    size
        Bytes that are left.
    """

    def __init__(
        self,
        *,
        objects: int,
        size: int,
        until: float,
        monotonic: Callable[[], float],
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ended = ended
        self._objects = objects
        self.size = size
        self._until = until
        self._monotonic = monotonic

    @property
    def seconds(self) -> float:
        """Seconds that are left, not below 0."""
        return 0.0 if self._ended() else max(self._until - self._monotonic(), 0.0)

    @property
    def is_ended(self) -> bool:
        """Whether it is over for another reason than time."""
        return self._ended()

    @contextmanager
    def share(self, parts: int) -> Iterator[None]:
        """Within it, no more than an equal part of the seconds that are left may be used; the rest is for who comes after."""
        until = self._until
        self._until = self._monotonic() + max(until - self._monotonic(), 0.0) / parts
        try:
            yield
        finally:
            self._until = until

    def use(self, size: int) -> bool:
        """Take one object of so many bytes off; False where that is more than is left."""
        if not self._objects or size > self.size or not self.seconds:
            return False
        self._objects -= 1
        self.size -= size
        return True


class Taking:
    """What comes in answer to one request; may be offered from any thread.

    Parameters
    ----------
    take
        Keeps an object; a StudyError refuses it, any other NodeError ends the taking.
    limits
        Budget of the header scan.

    Attributes
    ----------
    taken, strange
        Objects that were kept; those that were not asked for, or came twice.
    kept
        SOP Instance UIDs of what was kept.
    refusals
        Why objects were refused for what they are, by SOP Instance UID: each costs itself alone.
    exhausted
        Whether more came than may.
    fault
        What `take` raised that is no such refusal, and ends it all.
    """

    def __init__(
        self, wanted: Wanted, take: Callable[[Fetched], None], *, allowance: Allowance, limits: Limits
    ) -> None:
        self.wanted = wanted
        self.allowance = allowance
        self.taken = 0
        self.strange = 0
        self.kept: set[str] = set()
        self.refusals: dict[str, StudyError] = {}
        self.exhausted = False
        self.fault: NodeError | None = None
        self._take = take
        self._limits = limits
        self._ended = False
        self._lock = threading.Lock()

    def offer(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, encoded: bytes) -> int:
        """One object came, under these names: the status that its sender gets (PS3.4 Table B.2-1)."""
        one = Fetched(
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            encoded=encoded,
        )
        with self._lock:
            if self._ended or self.exhausted or self.fault is not None:
                return OUT_OF_RESOURCES
            if not self._is_asked_for(one):
                self.strange += 1
                return DATA_SET_MISMATCH
            if not self.allowance.use(len(encoded)):
                self.exhausted = True
                return OUT_OF_RESOURCES
            return self._keep(one)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is taken, so that the source need not go on."""
        return self.exhausted or self.fault is not None or not self.allowance.seconds

    def end(self) -> None:
        """Take nothing more; returns when nothing is being taken."""
        with self._lock:
            self._ended = True

    def _keep(self, one: Fetched) -> int:
        try:
            self._take(one)
        except StudyError as error:
            self.refusals[one.sop_instance_uid] = copy(error)  # without its traceback, which holds the object
            return error.dimse_status
        except NodeError as error:
            self.fault = copy(error)
            return error.dimse_status
        self.kept.add(one.sop_instance_uid)
        self.taken += 1
        return SUCCESS

    def _is_asked_for(self, one: Fetched) -> bool:
        """Whether it is what was asked for, by what it says itself; once."""
        wanted = self.wanted
        try:
            header = scan_header(one.encoded, one.transfer_syntax_uid, self._limits)
        except StudyError:
            return False
        return (
            (header.sop_class_uid, header.sop_instance_uid) == (one.sop_class_uid, one.sop_instance_uid)
            and (header.study_instance_uid, header.series_instance_uid)
            == (wanted.study_instance_uid, wanted.series_instance_uid)
            and header.sop_class_uid in wanted.sop_classes
            and header.sop_instance_uid not in self.kept
            and header.sop_instance_uid not in self.refusals
            and (not wanted.sop_instance_uids or header.sop_instance_uid in wanted.sop_instance_uids)
        )


class Retriever(Protocol):
    """A source, as the node asks it; every method raises PeerError for what the source does, and nothing else."""

    def echo(self) -> None:
        """Ask whether it is there."""
        ...

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        """What it shows at a level of the Study Root model."""
        ...

    def retrieve(self, taking: Taking) -> None:
        """Have it send what is wanted, and offer what comes; returns when it says that it is through."""
        ...


def identifier_of(wanted: Wanted) -> dict[str, str | list[str]]:
    """Unique keys of what is wanted (PS3.4 C.4.2.1.4), with the level that they are of."""
    keys: dict[str, str | list[str]] = {
        "QueryRetrieveLevel": "IMAGE" if wanted.sop_instance_uids else "SERIES",
        "StudyInstanceUID": wanted.study_instance_uid,
        "SeriesInstanceUID": wanted.series_instance_uid,
    }
    if wanted.sop_instance_uids:
        keys["SOPInstanceUID"] = list(wanted.sop_instance_uids)
    return keys
