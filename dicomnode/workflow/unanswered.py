"""A question before delivery that brought no answer: what that says of whoever was asked, and how long it is asked again.

Pure. May live here: the reading of errors of C-FIND and QIDO-RS, and the time that tries count. What follows stands in `inquiry`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from dicomnode.errors import PeerError, PeerRefusal


class Silence(StrEnum):
    """Why there is no answer.

    ``unknown``: it knows no such question, or does not grant it. ``shut``: it lets nobody in, as one does that starts.
    ``failed``: anything else, which may pass by itself.
    """

    UNKNOWN = "unknown"
    SHUT = "shut"
    FAILED = "failed"


#: Permanent refusals of the question as such: PS3.7 C.5.12, C.5.15, C.5.22 and C.5.14; PS3.4 Table C.4-1 (the identifier does
#: not match the SOP Class). "Unable to process" (Cxxx) is none of them: the next try may succeed.
_STATUSES: Final = frozenset({"x0118", "x0122", "x0124", "x0211", "xA900"})
#: Answers of HTTP that speak of the question, and not of who asks (RFC 9110 15.5, 15.6.2).
_HTTP: Final = frozenset({400, 404, 405, 406, 410, 411, 413, 415, 422, 501})
#: What the one question that failed is called where the status says it is the peer's trouble with it: its stores may be well.
FAILED: Final = "query-failed"


def silence_of(error: PeerError) -> Silence:
    """Why a question that failed so has no answer."""
    status = error.facts.get("status")
    if error.code == "peer-context-refused" or status in _STATUSES or status in _HTTP:
        return Silence.UNKNOWN
    return Silence.SHUT if isinstance(error, PeerRefusal) and error.code == "peer-rejected" else Silence.FAILED


def told(error: PeerError) -> PeerError:
    """The error as one of a question: what C-FIND says in statuses of its own is no refusal of an object."""
    if error.code != "peer-refused-object" or silence_of(error) is Silence.UNKNOWN:
        return error
    return PeerError(FAILED, **error.facts)


class Patience:
    """Time for which something has been seen again and again.

    Between two looks at most half of the whole time counts, so that it takes three looks at least: what lies between may have
    been an outage in which nobody looked, and the first look after one decides nothing.

    Parameters
    ----------
    seconds
        How long it is to be seen.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[object, tuple[float, float]] = {}

    def has_lasted(self, what: object, now: float) -> bool:
        """Whether what is seen now is so for long enough; from then on it is counted anew."""
        last, counted = self._seen.get(what, (now, 0.0))
        counted += min(now - last, self._seconds / 2)
        self._seen[what] = (now, counted)
        if counted < self._seconds:
            return False
        self.forget(what)
        return True

    def forget(self, what: object) -> None:
        """It is so no more."""
        self._seen.pop(what, None)


class Quiet:
    """Who is not asked for a while: for twice as long each time, until it answers.

    Parameters
    ----------
    first, longest
        Seconds of the first time, and of any.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = max(first, longest)
        self._until: dict[str, tuple[float, float, str]] = {}

    def begin(self, who: str, now: float, reason: str) -> None:
        """It gave no answer again, for a reason."""
        length = self._until[who][1] * 2 if who in self._until else self._first
        length = min(length, self._longest)
        self._until[who] = (now + length, length, reason)

    def reason(self, who: str, now: float) -> str | None:
        """Why it is not asked now; None: it is."""
        until, _, reason = self._until.get(who, (now, 0.0, ""))
        return reason if now < until else None

    def knows(self, who: str) -> bool:
        """Whether it has not answered since it was left in peace."""
        return who in self._until

    def end(self, who: str) -> None:
        """It answered, or may be another one by now."""
        self._until.pop(who, None)
