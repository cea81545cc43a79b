"""A thread is at work while what it calls does not return, rests while it waits for work, and takes a step for each thing it does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dicomnode.errors import PeerError, PeerRefusal
from dicomnode.pulses import Pulse
from dicomnode.sections import FolderSection
from dicomnode.storage.ledger import Ledger
from dicomnode.study import InstanceState
from dicomnode.workflow.admission import Admission
from dicomnode.workflow.circuits import Circuits
from dicomnode.workflow.folder import FolderIntake
from dicomnode.workflow.indexing import Indexer
from dicomnode.workflow.orders import Overseer
from dicomnode.workflow.overtaken import Overtaken
from dicomnode.workflow.reception import Arriving, Reception
from dicomnode.workflow.retraction import Retraction
from dicomnode.workflow.withdrawal import Withdrawal
from tests.unit.workflow import test_completion
from tests.unit.workflow.samples import Events, Time, row
from tests.unit.workflow.test_delivery import SETTINGS


@dataclass
class Blocked:
    """A call that does not return before it is let go; then it gives what it is to give."""

    entered: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    def __call__(self, *_: Any, **__: Any) -> None:
        self.entered.set()
        assert self.free.wait(60)

    def holds(self, pulse: Pulse) -> None:
        """The thread is in it, and at work until it is let go."""
        assert self.entered.wait(30)
        assert pulse.is_at_work
        self.free.set()
        waited = threading.Event()
        for _ in range(3000):
            if not pulse.is_at_work:
                return
            waited.wait(0.01)
        raise AssertionError("it does not rest")


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    call = Blocked()
    yield call
    call.free.set()


def test_of_completion(blocked: Blocked, time: Time, events: Events) -> None:
    world = test_completion.World(time, events, evidence=blocked)
    world.table.received("s", "a", time.monotonic())
    world.table.ended("a", time.monotonic())
    (pulse,) = world.completion.pulses
    assert not pulse.is_at_work
    world.completion.begin()
    blocked.holds(pulse)
    world.completion.end()
    steps = pulse.steps
    world.table.received("t", "b", time.monotonic())
    world.completion.look()
    assert pulse.steps == steps + 2, "each study is a step"


class Index:
    """Blocks, and gives back what it got as in quarantine."""

    def __init__(self, blocked: Blocked) -> None:
        self.blocked = blocked

    def record_instances(self, rows: Any) -> Any:
        self.blocked()
        return tuple(one for one in rows)


@pytest.mark.parametrize("which", [0, 1])
def test_of_the_index_and_of_conflicts(blocked: Blocked, events: Events, which: int) -> None:
    free = Blocked()
    free.free.set()
    index, decide = ((blocked, free), (free, blocked))[which]
    indexer = Indexer(Index(index), conflict=decide, emit=events)
    indexer.begin()
    indexer.add(replace(row(1), state=InstanceState.QUARANTINED))
    blocked.holds(indexer.pulses[which])
    indexer.end()
    assert [pulse.hard_seconds is None for pulse in indexer.pulses] == [False, True]


def test_of_who_asks_whether_a_destination_is_back(
    blocked: Blocked, ledger: Ledger, time: Time, events: Events
) -> None:
    class Peer:
        def echo(self) -> None:
            blocked()
            raise PeerError("peer-unreachable")

    circuits = Circuits(
        ledger,
        destinations={"pacs": Peer()},
        hasten=lambda _: 0,
        settings=SETTINGS.model_copy(update={"first_retry_seconds": 0.01, "longest_retry_seconds": 60}),
        jitter=lambda: 0.0,
        clock=time.now,
        emit=events,
    )
    circuits.begin()
    circuits._failed("pacs", PeerRefusal("peer-rejected"))
    (pulse,) = circuits.pulses
    assert pulse.about == {"destination": "pacs"}
    assert pulse.hard_seconds is None, "a destination that is dead must not end the node"
    circuits.hurry("pacs")
    blocked.holds(pulse)
    circuits.end(30)


def test_of_a_watched_folder_each_file_is_a_step(tmp_path: Path, time: Time, events: Events) -> None:
    reception: Any = None
    intake = FolderIntake(
        FolderSection(name="inbox", path=tmp_path, settle_seconds=1),
        reception,
        called_ae_title="NODE",
        private_sop_classes=(),
        monotonic=time.monotonic,
        emit=events,
    )
    intake._trying(tmp_path / "a", lambda: None)
    intake._trying(tmp_path / "b", lambda: None)
    assert (intake.pulse.steps, intake.pulse.about) == (2, {"folder": "inbox"})


def test_of_an_object_that_is_being_made_durable(blocked: Blocked, time: Time, events: Events) -> None:
    """The disk that does not answer holds up the sender's thread, which is none of ours by name."""
    anything: Any = lambda *_, **__: None  # noqa: E731

    class Arrival:
        window = advance = head = begin = close = anything
        length = 7
        finish = staticmethod(blocked)

    class Spool:
        def arrival(self, _: Any) -> Arrival:
            return Arrival()

    spool: Any = Spool()
    activity: Any = test_completion.ActivityTable()
    reception = Reception(
        spool=spool, digest=anything, indexer=anything, activity=activity, derivation_key=b"k" * 32,
        wake=anything, clock=time.now, monotonic=time.monotonic, emit=events,
    )  # fmt: skip
    arriving = Arriving(reception, anything())
    received: Any = SimpleNamespace(study_instance_uid="1.2", series_instance_uid="1.3")
    arriving._received, arriving._study_key = received, "ab" * 16

    def finish() -> None:
        with pytest.raises(AssertionError):  # this disk has no metadata
            arriving.finish()

    thread = threading.Thread(target=finish)
    thread.start()
    assert blocked.entered.wait(30)
    (pulse,) = reception.writing.pulses
    assert (pulse.name, pulse.about, pulse.is_at_work) == ("writing", {"study": "ab" * 16}, True)
    blocked.free.set()
    thread.join(30)
    assert reception.writing.pulses == ()


def works(count: int) -> Any:
    """A ledger in which so many works wait for every chore."""
    key = SimpleNamespace(workflow_id="w", study_key="s")
    rows = [SimpleNamespace(key=key, deliveries=())] * count
    return SimpleNamespace(
        to_withdraw=lambda: rows,
        overtaken=lambda: rows,
        wished_back=lambda: rows,
        works=lambda _: rows,
        work=lambda _: None,
    )


def test_chores_take_a_step_for_each_work(events: Events, time: Time) -> None:
    pulse, ledger = Pulse("housekeeping", 1.0), works(3)
    more: dict[str, Any] = {"emit": events, "beat": pulse.beat}
    queue: Any = SimpleNamespace(deliveries=tuple)
    rooms: Any = SimpleNamespace(ledger=ledger)
    nobody: Any = None
    chores: list[Any] = [
        Withdrawal(ledger, queue, takers=(), clock=time.now, **more),
        Overtaken(ledger, queue, nobody, destinations=(), **more),
        Retraction(rooms, queue, destinations=(), encoding=nobody, clock=time.now, **more),
        Overseer(ledger, queue, clock=time.now, **more),
    ]
    steps = []
    for chore in chores:
        before = pulse.steps
        for name in ("_look", "_retract"):
            setattr(chore, name, lambda _: None)
        chore.sweep()
        steps.append(pulse.steps - before)
    assert steps == [3, 3, 3, 6]
    Admission.reconcile(
        SimpleNamespace(  # type: ignore[arg-type]
            _ledger=ledger,
            release=lambda _: None,
            _overdue=tuple,
            _queue=SimpleNamespace(hasten=lambda _: 0),
            _longest_retry_seconds=1.0,
        ),
        pulse.beat,
    )
    assert pulse.steps == 18
