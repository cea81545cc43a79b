"""The sources that may be asked for what a study lacks: one after the other, none that is down, shut or asked too much.

May live here: whom to ask, and what its failures mean. What is asked stands in `priors` and `missing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import inf
from typing import Final, Literal, Protocol, TypeVar

from dicomnode.errors import NodeError, PeerError
from dicomnode.events import Emit
from dicomnode.network.requestor import StoreOutcome
from dicomnode.network.retrieval import Allowance, Retriever, Taking
from dicomnode.source_sections import Source
from dicomnode.workflow.paces import Paces

#: A source that rests for no longer, for its rate or until its hours begin, is waited for.
_REST_SECONDS: Final = 10.0
#: Whoever says nothing at all for so long is down, however short our own time was.
_SILENCE_SECONDS: Final = 10.0

Purpose = Literal["priors", "missing", "listing"]
_Found = TypeVar("_Found")


class Breakers(Protocol):
    """Which sources are down (`circuits.Circuits`)."""

    def is_open(self, destination: str) -> bool:
        """Whether it is left alone."""
        ...

    def heard(self, destination: str, outcomes: Sequence[StoreOutcome]) -> None:
        """What became of something that was asked of it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a source is asked for, and within which bounds.

    Attributes
    ----------
    priority
        0 is STAT.
    allowance
        Of all sources together: each has an equal share of the time that those before it left; None: no bounds.
    pause
        Waits some seconds; returns True, and early, where nothing is waited for any more.
    """

    purpose: Purpose
    priority: int
    allowance: Allowance | None = None
    pause: Callable[[float], bool] = bool

    @property
    def is_over(self) -> bool:
        """Whether our own time is, and not the source's fault."""
        return self.allowance is not None and not self.allowance.seconds

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.allowance is not None and self.allowance.is_ended

    @property
    def seconds(self) -> float:
        """Seconds that are left."""
        return inf if self.allowance is None else self.allowance.seconds

    def share(self, parts: int) -> AbstractContextManager[None]:
        """As `Allowance.share`."""
        return nullcontext() if self.allowance is None else self.allowance.share(parts)


class _Heard:
    """A source, and whether it said anything yet that was asked of it."""

    def __init__(self, retriever: Retriever) -> None:
        self.has_spoken = False
        self._retriever = retriever

    def echo(self) -> None:
        self._retriever.echo()

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        found = self._retriever.find(level, query, seconds)
        self.has_spoken = True
        return found

    def retrieve(self, taking: Taking) -> None:
        try:
            self._retriever.retrieve(taking)
            self.has_spoken = True
        finally:
            self.has_spoken |= bool(taking.taken or taking.strange)


class Sources:
    """Implements asking.

    Parameters
    ----------
    sections, retrievers
        Sources by name, in the order in which they are asked.
    circuits
        Breakers by the names of `circuit_of`.
    paces
        When and how fast each may be asked.
    """

    def __init__(
        self,
        sections: Mapping[str, Source],
        retrievers: Mapping[str, Retriever],
        *,
        circuits: Breakers,
        paces: Paces,
        emit: Emit,
    ) -> None:
        self._sections = sections
        self._retrievers = retrievers
        self._circuits = circuits
        self._paces = paces
        self._emit = emit

    def ask(self, asked: Asked, act: Callable[[str, Retriever], _Found | None]) -> _Found:
        """What the first source gives that has it; `act` is called with its name and itself, and gives None where it has nothing.

        Raises
        ------
        NodeError
            Why none did: of the last that was asked, else ``source-down``, ``source-closed`` or ``source-none``. What
            is no PeerError of `act` is raised at once. A source that uses up its share of the time leaves the others theirs.
        """
        fault = NodeError("source-none")
        names = [name for name, section in self._sections.items() if getattr(section, asked.purpose)]
        for number, name in enumerate(names):
            if (code := self._hindrance(name, asked)) is not None:
                fault = NodeError(code)
                continue
            others = sum(self._hindrance(other, asked) is None for other in names[number + 1 :])
            try:
                with asked.share(1 + others):
                    found = self._ask(name, asked, act)
            except PeerError as error:
                fault = error
                continue
            if found is not None:
                return found
            fault = NodeError("priors-none" if asked.purpose == "priors" else "retrieval-incomplete")
        raise fault

    def _ask(self, name: str, asked: Asked, act: Callable[[str, Retriever], _Found | None]) -> _Found | None:
        """Ask one source, after the moment for which it may rest, and say how it went."""
        if (seconds := self._paces.wait(name, asked.priority)) and asked.pause(seconds):
            raise PeerError("timeout")
        given, source = asked.seconds, _Heard(self._retrievers[name])
        try:
            found = act(name, source)
        except PeerError as error:
            is_silent = not source.has_spoken and given >= _SILENCE_SECONDS and not asked.is_given_up
            if error.code != "timeout" or not asked.is_over or is_silent:  # else our time ended, and not its answers
                self._circuits.heard(circuit_of(name), [StoreOutcome(result_id="", status=None, error=error)])
            self._emit("source.failed", level="warning", source=name, reason=error.code)
            raise
        self._circuits.heard(circuit_of(name), [StoreOutcome(result_id="", status=0, error=None)])
        return found

    def retrieve(self, name: str, retriever: Retriever, taking: Taking) -> None:
        """Fetch one series; raises as `Retriever.retrieve`, and what keeping what came raised."""
        before = taking.allowance.size
        try:
            retriever.retrieve(taking)
        finally:
            taking.end()
            self._paces.passed(name, taking.taken, before - taking.allowance.size)
            if taking.strange:
                self._emit(
                    "source.strange",
                    level="warning",
                    source=name,
                    objects=taking.strange,
                    reason="retrieval-strange",
                )
        if taking.fault is not None:
            raise taking.fault
        if taking.exhausted:
            raise PeerError("retrieval-too-large") if taking.allowance.seconds else PeerError("timeout")

    def _hindrance(self, name: str, asked: Asked) -> str | None:
        if self._circuits.is_open(circuit_of(name)):
            return "source-down"
        return "source-closed" if self._paces.wait(name, asked.priority) > _REST_SECONDS else None


def circuit_of(source: str) -> str:
    """Name of a source's circuit: no destination has it, since no name holds a dot."""
    return f"source.{source}"
