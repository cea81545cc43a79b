"""What a result is told from outside: when it is made, by whom, and where its UIDs come from.

May live here: plain values and how they turn into DICOM dates, numbers and descriptions. No Data Set is built here, and
no clock, no random number and no environment is read: the same context gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Final

from dicomnode.findings import Algorithm
from dicomnode.study import ResultRole
from dicomnode.texts import Words

Mint = Callable[..., str]

MANUFACTURER: Final = "dicomnode project"
MODEL_NAME: Final = "dicomnode"
#: Offset of the Series Number.
_SERIES: Final = MappingProxyType({role: offset for offset, role in enumerate(ResultRole)})
_OFFSET: Final = re.compile(r"([+-])(\d{2})(\d{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultContext:
    """Everything that is the node's own in a result.

    Attributes
    ----------
    mint
        ``mint(role, *parts)`` gives a deterministic UID; every UID that a result does not take from its source.
    content_datetime
        Aware; dates and times are written as the clock of its zone shows them, which is to be the hospital's.
    series_number_base
        Series Number of the segmentation; the report and the key image follow.
    device_uid
        UID of this installation (PS3.3 C.7.5.1, Device UID), under 2.25.
    words
        Texts in the language of the results.
    form
        Name of the variant that is being written: two forms of one result are two objects.
    """

    mint: Mint = field(repr=False)
    content_datetime: datetime
    series_number_base: int
    station_name: str
    institution_name: str
    software_versions: tuple[str, ...]
    device_uid: str
    words: Words = field(default_factory=Words)
    form: str = ""

    def __post_init__(self) -> None:
        if self.content_datetime.tzinfo is None:
            raise ValueError("content_datetime is aware")
        if self.series_number_base < 0 or not self.software_versions:
            raise ValueError("a result has a Series Number and a software version")

    def series_uid(self, role: ResultRole) -> str:
        """Series Instance UID of a kind of result."""
        return self.mint("series", role.value, self.form)

    def object_uid(self, role: ResultRole) -> str:
        """SOP Instance UID of a kind of result."""
        return self.mint("object", role.value, self.form)

    def written_as(self, form: str) -> ResultContext:
        """The same context for one variant."""
        return replace(self, form=form)

    def tracking_uid(self, segments: tuple[int, ...]) -> str:
        """Tracking UID (PS3.3 C.8.20.2) of a region: the same in the segmentation and the report."""
        return self.mint("tracking", *(str(number) for number in segments))

    def series_number(self, role: ResultRole) -> int:
        """Series Number of a kind of result."""
        return self.series_number_base + _SERIES[role]

    @property
    def date(self) -> str:
        """DA of the content."""
        return self.content_datetime.strftime("%Y%m%d")

    @property
    def time(self) -> str:
        """TM of the content."""
        return self.content_datetime.strftime("%H%M%S.%f")

    @property
    def date_time(self) -> str:
        """DT of the content, with its own offset from UTC (PS3.5 6.2)."""
        return self.content_datetime.strftime("%Y%m%d%H%M%S.%f%z")[:26]

    def in_timezone(self, offset: str) -> ResultContext:
        """The same moment on the clock of a source that has Timezone Offset From UTC (0008,0201).

        Parameters
        ----------
        offset
            ``&ZZXX`` of PS3.3 C.12.1.1.1; empty or invalid: the context stays as it is.
        """
        match = _OFFSET.fullmatch(offset.strip())
        if match is None:
            return self
        minutes = int(match[2]) * 60 + int(match[3])
        delta = timedelta(minutes=minutes if match[1] == "+" else -minutes)
        if abs(delta) > timedelta(hours=14):
            return self
        return replace(self, content_datetime=self.content_datetime.astimezone(timezone(delta)))


def series_description(role: ResultRole, algorithm: Algorithm, words: Words, *, what: str | None = None) -> str:
    """Series Description: begins with "AI", at most 64 characters (LO), says when the model is for research only."""
    what = words.say(role.value) if what is None else what
    end = f": {what} {words.say('research-only-short')}" if algorithm.research_only else f": {what}"
    return f"AI {algorithm.title}"[: 64 - len(end)].rstrip() + end


def content_description(what: str, algorithm: Algorithm, words: Words) -> str:
    """Content Description (LO): that nobody has reviewed it, and what it shows."""
    remark = f" {words.say('research-only-short')}" if algorithm.research_only else ""
    return f"{words.say('not-reviewed-short')}: {what}"[: 64 - len(remark)] + remark


def content_label(algorithm: Algorithm) -> str:
    """Content Label (CS, at most 16): the model's name in capitals."""
    return re.sub(r"[^A-Z0-9]+", "_", algorithm.name.upper())[:16].strip("_") or "AI"
