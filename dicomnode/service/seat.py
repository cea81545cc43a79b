"""One receiver as the node sees it: its process, its channel, what it holds, and what is done for it.

Nothing here starts another one or decides what a death means: that is the keeper's, in `receivers`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dicomnode.errors import NodeError, StorageError
from dicomnode.events import Emit, Fact
from dicomnode.network.session import Service
from dicomnode.network_sections import PeerRule
from dicomnode.service.channel import Channel
from dicomnode.service.messages import call_of_plain, plain_reply, row_of_plain
from dicomnode.storage.datakeys import DataKey
from dicomnode.study import InstanceRow
from dicomnode.workflow.activity import NOBODY, ActivityTable
from dicomnode.workflow.allowances import Allowances, Allowed
from dicomnode.workflow.ports import Monotonic
from dicomnode.workflow.reception import RowsPort

_PATIENCE_SECONDS: Final = 0.005


class TakeUp(Protocol):
    """Whoever reads again what a process that died had made durable."""

    def __call__(self, studies: set[str], mark: str) -> Iterator[InstanceRow]:
        """Rows of these studies in segments whose identifiers begin so."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """What the node does for its receivers.

    Attributes
    ----------
    rows, flush
        The index, and what waits until a study's rows are in it.
    activity
        Table that completion reads.
    key
        Gives the data key of a study's identity world; a new one is committed by then.
    allowances
        What each peer may send.
    services
        What answers requests other than C-ECHO and C-STORE.
    rules
        Peers' rules by name.
    take_up
        Finds the rows that a dead receiver could not tell.
    wake
        Called when an association ended.
    """

    rows: RowsPort
    flush: Callable[[str], bool]
    activity: ActivityTable
    key: Callable[[str], DataKey]
    allowances: Allowances
    services: Mapping[tuple[str, int], Service]
    rules: Mapping[str, PeerRule]
    take_up: TakeUp
    wake: Callable[[], None]
    monotonic: Monotonic
    emit: Emit


class Seat:
    """A receiver that was started.

    Parameters
    ----------
    number
        From 1; the next process in this seat has it again.
    mark
        What the identifiers of its segments begin with; no other process has it.
    process
        The process.
    end
        The node's end of the channel.
    ready
        Called when it listens.
    """

    def __init__(
        self,
        house: House,
        number: int,
        mark: str,
        process: subprocess.Popen[bytes],
        *,
        end: Any,
        ready: Callable[[], None],
    ) -> None:
        self.number = number
        self.mark = mark
        self.process = process
        self.associations: dict[str, str] = {}  # with the address of each
        self.studies: set[str] = set()  # in which it may have made something durable that it could not tell
        self.drained = self.clean = False
        self._refused_from = NOBODY  # what it knows
        self._house = house
        self._allowed: dict[int, Allowed] = {}
        self._last_allowed = 0
        self._weighed: dict[tuple[str, int], set[int]] = {}  # of these, by study and bytes
        self._held_at = 0.0  # when its death was known, and studies that were arriving for nobody else then
        self._woken: set[str] = set()
        self.channel = Channel(
            end,
            {
                "ready": ready,
                "alive": self._alive,
                "opened": self._opened,
                "row": self._row,
                "received": self._received,
                "ended": self._ended,
                "left": self.studies.discard,
                "allowed": self._came,
                "emit": self._emit,
                "drained": self._drained,
            },
            {
                "key": self._key,
                "serve": self._serve,
                "allow": self._allow,
                "weigh": self._weigh,
                "take": self._take,
                "stored": self._stored,
            },
            quick=("allow", "weigh", "take"),
            patience=_PATIENCE_SECONDS,
        )

    def bury(self) -> int:
        """The process is dead: its associations end as aborted; how many.

        A study in which it may have made something durable that it could not tell is arriving until `take_up`.
        """
        house = self._house
        self._held_at = house.monotonic()
        for study_key in self._untold():
            if not house.activity.is_open(study_key):
                self._woken.add(study_key)
            house.activity.held(study_key, self.mark, self._held_at)
        left = list(self.associations.items())
        for association_id, address in left:
            carried = house.activity.ended(association_id, house.monotonic())
            house.emit(
                "association.closed", association=association_id, address=address, aborted=True, studies=len(carried)
            )
            for study_key in carried:
                house.emit("study.arrived", study=study_key)
        return len(left)

    def take_up(self) -> int:
        """After `bury`: what it made durable and could not tell comes into the index; how many records.

        Raises
        ------
        NodeError
            Where disk or ledger refuse, or the index is behind: to be called again.
        """
        house, studies = self._house, self._untold()
        for study_key in studies:  # what it did tell is in the index then, and is not read again
            if not house.flush(study_key):
                raise StorageError("index-behind")
        rows = list(house.take_up(studies, self.mark))  # all or none: each is counted once
        for row in rows:
            self._durable(row)
            house.activity.held(row.study_key, self.mark, house.monotonic())
        for allowed in self._allowed.values():
            allowed.close()
        house.activity.ended(self.mark, house.monotonic())
        for study_key in self._woken - {row.study_key for row in rows}:  # nothing of it was under way
            house.activity.forget(study_key, self._held_at)
        house.wake()
        return len(rows)

    def _alive(self) -> None:
        """It lives; it hears who is to be refused, where that has changed since it heard of it last."""
        refused_from = self._house.activity.refused_from
        if refused_from != self._refused_from:
            self._refused_from = refused_from
            with suppress(StorageError):  # it has just died
                self.channel.tell("refuse", refused_from)

    def _untold(self) -> set[str]:
        return set() if self.drained else set(self.studies)

    def _opened(self, association_id: str, address: str) -> None:
        self.associations[association_id] = address

    def _row(self, plain: list[Any]) -> None:
        self._durable(row_of_plain(plain))

    def _durable(self, row: InstanceRow) -> None:
        """A record is durable: of those that are weighed and as long as it, one counts as kept if no more is heard of it."""
        self._house.rows.add(row)
        numbers = self._weighed.get((row.study_key, row.length))
        if numbers:
            self._allowed[numbers.pop()].keep()

    def _received(self, study_key: str, association_id: str) -> None:
        self._house.activity.received(study_key, association_id, self._house.monotonic())

    def _ended(self, association_id: str) -> None:
        self.associations.pop(association_id, None)
        self._house.activity.ended(association_id, self._house.monotonic())
        self._house.wake()

    def _emit(self, name: str, level: str, facts: dict[str, Fact]) -> None:
        self._house.emit(name, level=level, **facts)

    def _drained(self, clean: bool) -> None:
        self.drained, self.clean = True, clean

    def _key(self, study_key: str) -> tuple[str, str]:
        self.studies.add(study_key)  # before it can make anything durable
        found = self._house.key(study_key)
        return found.key.hex(), found.key_id.hex()

    def _serve(self, plain: list[Any]) -> list[list[Any]]:
        call = call_of_plain(plain, self._house.rules)
        service = self._house.services[call.context.abstract_syntax, call.command.command_field]
        return [plain_reply(reply) for reply in service(call)]

    def _allow(self, rule: str, study_key: str) -> int:
        return self._enter(self._house.allowances.begin(self._house.rules[rule], study_key))

    def _weigh(self, number: int, size: int) -> bool:
        allowed = self._allowed[number]
        allowed.weigh(size)
        self._weighed.setdefault((allowed.study_key, size), set()).add(number)
        return allowed.is_ample

    def _take(self, rule: str, study_key: str, size: int) -> tuple[int, bool]:
        allowed = self._house.allowances.begin(self._house.rules[rule], study_key)
        number = self._enter(allowed)
        try:
            return number, self._weigh(number, size)
        except NodeError:
            self._came(number, kept=False)
            raise

    def _stored(self, study_key: str, instance_key: str) -> list[str]:
        return sorted(self._house.allowances.stored(study_key, instance_key))

    def _enter(self, allowed: Allowed) -> int:
        self._last_allowed += 1
        self._allowed[self._last_allowed] = allowed
        return self._last_allowed

    def _came(self, number: int, kept: bool) -> None:
        allowed = self._allowed.pop(number)
        place = allowed.study_key, allowed.size
        numbers = self._weighed.get(place, set())
        numbers.discard(number)
        if not numbers:
            self._weighed.pop(place, None)
        allowed.keep(kept=kept)
        allowed.close()
