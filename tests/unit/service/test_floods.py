from __future__ import annotations

import io
import json
import threading

import pytest

from dicomnode.events import Fact
from dicomnode.sections import LoggingSection
from dicomnode.service.floods import CAUSED_BY_PEERS, Calm, Line, Repeats
from dicomnode.service.telemetry import configure
from tests.neighbours import wait_for

SECONDS = 60.0


class Log:
    """An `Emit` that keeps what it gets."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Fact]]] = []
        self.changed = threading.Event()

    def __call__(self, name: str, /, *, level: str = "info", **facts: Fact) -> None:
        self.lines.append((name, {"level": level, **facts}))
        self.changed.set()

    def total(self) -> int:
        """Events that the lines stand for."""
        return sum(int(facts.get("repeats") or 1) for _, facts in self.lines)


def refused(address: str = "10.0.0.1", **facts: Fact) -> Line:
    return Line("object.refused", "warning", {"address": address, "reason": "storage-full", **facts})


def repeats(sources: int = 256) -> Repeats:
    return Repeats(seconds=SECONDS, sources=sources)


def test_the_first_is_written_at_once_and_the_others_once_an_interval_with_their_number() -> None:
    calm = repeats()
    assert calm.event(refused(association="aa" * 8), 0.0) == [refused(association="aa" * 8)]
    for second in range(1, 11):
        assert calm.event(refused(association="bb" * 8), float(second)) == []
    assert calm.due(59.9) == []
    (summary,) = calm.due(60.0)
    assert (summary.name, summary.level) == ("object.refused", "warning")
    told = {name: fact for name, fact in summary.facts.items() if fact is not None}
    assert told == {"address": "10.0.0.1", "reason": "storage-full", "repeats": 10, "seconds": 60.0}


def test_a_flood_that_goes_on_is_one_line_an_interval() -> None:
    calm = repeats()
    lines = [line for second in range(601) for line in calm.event(refused(), float(second))]
    assert len(lines) == 1 + 10
    assert sum(int(line.facts.get("repeats") or 1) for line in [*lines, *calm.all(601.0)]) == 601


def index_failed(**facts: Fact) -> Line:
    return Line("index.failed", "error", {"reason": "ledger-failed", "rows": 500, **facts})


def test_a_fault_that_is_tried_every_second_is_one_line_an_interval() -> None:
    log = Log()
    clock = iter(range(10_000))
    calm = Calm(log, seconds=SECONDS, sources=16, monotonic=lambda: float(next(clock)))
    for _ in range(600):
        calm("index.failed", level="error", reason="ledger-failed", rows=500)
    calm.end()
    assert log.total() == 600
    assert len(log.lines) <= 12
    assert log.lines[0] == ("index.failed", {"level": "error", "reason": "ledger-failed", "rows": 500})
    assert {facts["level"] for _, facts in log.lines} == {"error"}


def test_faults_of_two_studies_two_receivers_or_two_reasons_are_not_one() -> None:
    calm = repeats()
    kinds = [
        index_failed(),
        index_failed(study="ab" * 16),
        index_failed(study="cd" * 16),
        index_failed(receiver=1),
        index_failed(reason="storage-failed"),
        Line("completion.failed", "error", {"study": "ab" * 16, "reason": "ledger-failed"}),
    ]
    assert [calm.event(line, 0.0) for line in kinds] == [[line] for line in kinds]
    assert [calm.event(line, 1.0) for line in kinds] == [[]] * len(kinds)
    told = [{name: fact for name, fact in line.facts.items() if fact is not None} for line in calm.due(60.0)]
    assert told[1] == {"study": "ab" * 16, "reason": "ledger-failed", "repeats": 1, "seconds": 60.0}
    assert told[3] == {"receiver": 1, "reason": "ledger-failed", "repeats": 1, "seconds": 60.0}
    assert len(told) == len(kinds)


def test_faults_of_very_many_studies_are_bounded() -> None:
    calm = repeats(sources=4)
    lines = [line for number in range(100) for line in calm.event(index_failed(study=f"{number:032x}"), 0.0)]
    assert len(lines) == 5
    assert len(calm) == 5


def test_what_pauses_for_an_interval_is_a_first_one_again() -> None:
    calm = repeats()
    calm.event(refused(), 0.0)
    assert calm.event(refused(), 61.0) == [refused()]
    calm.event(refused(), 62.0)
    assert [line.facts["repeats"] for line in calm.due(122.0)] == [1]
    assert calm.due(183.0) == []
    assert len(calm) == 0
    assert calm.event(refused(), 184.0) == [refused()]


def test_a_summary_is_written_before_the_event_that_finds_it_due() -> None:
    calm = repeats()
    calm.event(refused(), 0.0)
    calm.event(refused(), 1.0)
    other = refused("10.0.0.2")
    summary, line = calm.event(other, 60.0)
    assert (summary.facts["repeats"], line) == (1, other)


@pytest.mark.parametrize(
    "other",
    [
        refused("10.0.0.2"),
        refused(reason="quota-full"),
        refused(status="xA700"),
        Line("object.refused", "error", dict(refused().facts)),
        Line("connection.failed", "warning", dict(refused().facts)),
    ],
)
def test_another_event_address_or_reason_is_another_line(other: Line) -> None:
    calm = repeats()
    assert calm.event(refused(), 0.0) == [refused()]
    assert calm.event(other, 0.0) == [other]


def test_what_a_peer_says_of_itself_does_not_tell_lines_apart() -> None:
    calm = repeats()
    names = [f"MODALITY{number}" for number in range(100)]
    lines = [
        calm.event(Line("peer.unknown", "warning", {"address": "10.0.0.1", "calling_ae_title": name}), 0.0)
        for name in names
    ]
    assert sum(map(len, lines)) == 1
    (summary,) = calm.due(60.0)
    assert "calling_ae_title" not in summary.facts


def test_memory_and_lines_are_bounded_under_many_addresses_and_nothing_goes_uncounted() -> None:
    calm = repeats(sources=16)
    lines: list[Line] = []
    for number in range(10_000):
        lines += calm.event(refused(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"), number / 100)
        assert len(calm) <= 16 + 1
    lines += calm.all(100.0)
    assert len(lines) < 100
    assert sum(int(line.facts.get("repeats") or 1) for line in lines) == 10_000
    beyond = [line for line in lines if line.facts.get("address") is None]
    assert max(int(line.facts["repeats"] or 0) for line in beyond) > 5000


def test_every_other_event_is_written_as_it_comes() -> None:
    log = Log()
    calm = Calm(log, seconds=SECONDS, sources=16)
    for _ in range(5):
        calm("study.arrived", study="ab" * 16)
        calm("node.fault", level="error")
    assert len(log.lines) == 10
    assert not any(name.startswith(("study.", "node.", "delivery.")) for name in CAUSED_BY_PEERS)


def test_a_summary_comes_though_nothing_else_happens_and_the_thread_ends() -> None:
    log = Log()
    calm = Calm(log, seconds=0.2, sources=16)
    before = threading.active_count()
    for _ in range(1000):
        calm("connection.refused", level="warning", address="10.0.0.1", connections=16)
    wait_for(lambda: log.total() == 1000, 10, what="the summary")
    assert len(log.lines) <= 1 + 10
    wait_for(lambda: threading.active_count() <= before, 10, what="the end of the thread")


def test_what_is_owed_is_written_at_the_end_and_nothing_is_held_back_after_it() -> None:
    log = Log()
    calm = Calm(log, seconds=SECONDS, sources=16)
    for _ in range(7):
        calm("association.rejected", level="warning", address="10.0.0.1", result=2, source=3, diagnostic=2)
    assert len(log.lines) == 1
    calm.end()
    assert [facts.get("repeats") for _, facts in log.lines] == [None, 6]
    assert log.lines[1][1]["diagnostic"] == 2
    calm("association.rejected", level="warning", address="10.0.0.1")
    calm("association.rejected", level="warning", address="10.0.0.1")
    assert log.total() == 9


def test_threads_that_flood_together_are_counted_whole() -> None:
    log = Log()
    calm = Calm(log, seconds=SECONDS, sources=16)

    def flood() -> None:
        for _ in range(500):
            calm("connection.failed", level="warning", address="10.0.0.1", reason="peer-aborted")

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    calm.end()
    assert (len(log.lines), log.total()) == (2, 2000)


def test_the_log_of_a_node_is_calm_and_a_setting_makes_it_write_everything() -> None:
    for seconds, lines in ((60, 2), (0, 50)):
        stream = io.StringIO()
        emit = configure(LoggingSection(summary_seconds=seconds), stream=stream)
        for _ in range(50):
            emit("object.refused", level="warning", address="10.0.0.1", reason="storage-full", status="xA700")
        emit.end()
        written = [json.loads(line) for line in stream.getvalue().splitlines()]
        assert len(written) == lines
        assert sum(line.get("repeats", 1) for line in written) == 50
        assert "withheld" not in stream.getvalue()
        assert all(line["advice"] for line in written)
