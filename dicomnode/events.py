"""Typed events of the house, and the one place that decides what of them may be written down.

Floor 1, pure. Rooms emit; logs, metrics and audit subscribe. An event has a name that a support desk can quote and
facts that are numbers, codes, blind keys or names out of the configuration: never a value of a Data Set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

Fact = int | float | bool | str | None

_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_BLIND: Final = re.compile(r"[0-9a-f]{8,64}(-[0-9]+-[a-z0-9-]+)?")
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f.:]{2,45}")
_AE_TITLE: Final = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
_NAMES: Final = re.compile(r"[a-z][a-z0-9-]{0,31}(,[a-z][a-z0-9-]{0,31}){0,63}")
_TEXT: Final = re.compile(r"[\x20-\x7e]{0,200}")

#: Facts that may be written down, each with the form that its text must have.
ALLOWED: Final[Mapping[str, re.Pattern[str]]] = MappingProxyType(
    {
        "study": _BLIND,
        "series": _BLIND,
        "work": _BLIND,
        "result": _BLIND,
        "association": _BLIND,
        "segment": _BLIND,
        "model": _WORD,
        "stage": _WORD,
        "thread": _WORD,
        "state": _WORD,
        "reason": _WORD,
        "destination": _WORD,
        "source": _WORD,
        "folder": _WORD,
        "peer": _WORD,
        "role": _WORD,
        "rules": _NAMES,
        "policy": _WORD,
        "engine": _TEXT,
        "mode": _WORD,
        "world": _WORD,
        "level": _WORD,
        "kind": _WORD,
        "service": _WORD,
        "version": _TEXT,
        "host": _ADDRESS,
        "address": _ADDRESS,
        "ae_title": _AE_TITLE,
        "calling_ae_title": _AE_TITLE,
        "called_ae_title": _AE_TITLE,
        "status": _WORD,
        "advice": _TEXT,
        "text": _TEXT,
        "origin": _TEXT,
    }
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Attributes
    ----------
    name
        ``room.what``, for instance ``study.received``.
    level
        ``debug``, ``info``, ``warning`` or ``error``.
    facts
        Only those of `ALLOWED`, and numbers.
    """

    name: str
    level: str
    facts: Mapping[str, Fact]


class Emit(Protocol):
    """Where a room drops its events; never blocks, never raises."""

    def __call__(self, name: str, /, *, level: str = "info", **facts: Fact) -> None:
        """Emit one event."""
        ...


def silent(name: str, /, *, level: str = "info", **facts: Fact) -> None:
    """An `Emit` that nobody listens to."""


def admit(facts: Mapping[str, Fact]) -> dict[str, Fact]:
    """Facts that may be written down: numbers under any name, text only where its name and form allow it.

    Anything else is replaced by ``"withheld"``: a mistake in a room shows, and leaks nothing.
    """
    return {name: fact if _allowed(name, fact) else "withheld" for name, fact in facts.items()}


def _allowed(name: str, fact: Fact) -> bool:
    if fact is None or isinstance(fact, bool | int | float):
        return True
    form = ALLOWED.get(name)
    return form is not None and form.fullmatch(fact) is not None
