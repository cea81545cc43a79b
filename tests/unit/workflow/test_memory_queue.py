from __future__ import annotations

from dicomnode.storage.ledger import Ledger
from dicomnode.study import WorkKey
from dicomnode.workflow.memory_queue import Entry, MemoryQueue
from tests.unit.workflow.samples import WORK, Time


def test_it_says_what_waits_and_runs_what_is_queued_meanwhile(ledger: Ledger, time: Time) -> None:
    ran: list[tuple[object, ...]] = []

    def deliver(key: WorkKey, destination: str, attempt: int) -> None:
        ran.append((destination, attempt))
        if attempt < 3:
            with ledger.transaction() as connection:
                queue.enqueue_delivery(connection, key, destination, attempt + 1, 5.0 if attempt == 2 else 0.0)

    queue = MemoryQueue(run_stage=lambda stage, key: True, run_delivery=deliver, monotonic=time.monotonic)
    with ledger.transaction() as connection:
        queue.enqueue_delivery(connection, WORK, "pacs", 1, 0.0)
        assert queue.waiting == ()
    assert queue.waiting == (
        Entry(name=f"{WORK.workflow_id}:pacs:1", key=WORK, destination="pacs", attempt=1, due=0.0, priority=1),
    )
    assert queue.run_due() == 2
    assert queue.run_due() == 0
    assert queue.waiting[0].due == time.monotonic() + 5
    time.forward(5)
    assert queue.run_due() == 1
    assert ran == [("pacs", 1), ("pacs", 2), ("pacs", 3)]
