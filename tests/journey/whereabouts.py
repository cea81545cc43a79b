"""Where on its way a study stands, by what its node said of it, and a table of the kills that fell there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from tests.journey.running_node import RunningNode

#: Work before the study was settled (`completion.start_early`).
EARLY = ("early prepare", "early infer", "early encode", "early made")
#: What there is only where nothing began before.
LATE = ("settled", "prepare", "infer", "encode")
#: In the order of the way. `starting`: the node is not ready yet; `made`: settled, all results are there, none is released.
STATES = ("starting", "receiving", "received", *EARLY, *LATE, "made", "released", "delivering", "confirmed")
ENDED = "ended"
_AFTERWARDS = {
    "work.released": "released",
    "delivery.begun": "delivering",
    "delivery.confirmed": "confirmed",
    "work.ended": ENDED,
}


def place(events: Iterable[Mapping[str, Any]], study_key: str) -> str:
    """One of `STATES` after `received`, or `ENDED`: what the last event of a study says."""
    settled, last = False, ""
    for event in events:
        name = str(event.get("event"))
        if name == "study.settled" and event.get("study") == study_key:
            settled = True
        elif not str(event.get("work", "")).startswith(f"{study_key}-"):
            continue
        elif name == "stage.begun":
            last = str(event["stage"])
        elif name == "stage.ended" and event["stage"] == "encode":
            last = "made"
        else:
            last = _AFTERWARDS.get(name, last)
    if not last:
        return "settled" if settled else "received"
    return last if settled or last in _AFTERWARDS.values() else f"early {last}"


class Way:
    """One study and its sender, through all starts of its node.

    Parameters
    ----------
    node
        Where it is worked on.
    study_key
        Its key.
    sent
        The sender: ended when everything was acknowledged.
    """

    def __init__(self, node: RunningNode, study_key: str, sent: Future[None]) -> None:
        self._node, self._study_key, self._sent = node, study_key, sent
        self._before: list[dict[str, Any]] = []

    def state(self) -> str:
        """Where it is now, or was when the node died."""
        events = list(self._node.events)
        if not any(event.get("event") == "node.ready" for event in events):
            return "starting"
        return self._place(events) if self._sent.done() else "receiving"

    def keep(self) -> None:
        """Remember what a dead node said: its next start forgets it."""
        self._before += self._node.events

    def reach(self, aim: str) -> None:
        """Wait until the study is there, or was: nothing is ever waited for that has been passed."""
        if aim in STATES[:2]:
            return
        self._sent.result(120)
        reached = [*STATES, ENDED][STATES.index(aim) :]
        assert self._node.wait_until(lambda events: self._place(events) in reached, 90), (aim, self._node.log())

    def _place(self, events: list[dict[str, Any]]) -> str:
        return place([*self._before, *events], self._study_key)


class Tally:
    """How many processes of a kind were killed where."""

    def __init__(self) -> None:
        self._fell: Counter[tuple[str, str]] = Counter()
        self.tried: Counter[str] = Counter()  # a state that is soon over is missed at times, and takes no other's turn

    def add(self, kind: str, state: str) -> None:
        """One more."""
        self._fell[kind, state] += 1

    def of_kind(self, kind: str) -> int:
        """Kills of a kind."""
        return sum(count for (one, _), count in self._fell.items() if one == kind)

    def total(self) -> int:
        """All kills."""
        return self._fell.total()

    def at(self, state: str, kind: str = "node") -> int:
        """Kills of a kind in a state."""
        return self._fell[kind, state]

    def table(self) -> str:
        """A row for each state, a column for each kind."""
        kinds = sorted({"node", *(kind for kind, _ in self._fell)})
        rows = [["state of the study", *(kind.rpartition(".")[2] for kind in kinds)]]
        rows += [[state, *(str(self._fell[kind, state]) for kind in kinds)] for state in (*STATES, ENDED)]
        rows.append(["all", *(str(self.of_kind(kind)) for kind in kinds)])
        return "\n".join(
            "".join(f"{word:<20}" if not at else f"{word:>10}" for at, word in enumerate(row)) for row in rows
        )
