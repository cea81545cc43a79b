"""What runs beside the network begins when its first progress is told, once, and what it raises is the plain way's business."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Event, Thread

import pytest

from dicomnode.errors import ModelError, StudyError
from dicomnode.workflow.meanwhile import Beside, Meanwhile, ready


def done(value: int = 1, error: Exception | None = None) -> Future[int | None]:
    future: Future[int | None] = Future()
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)
    return future


def test_it_begins_with_the_first_progress_and_once() -> None:
    begun, told = list[Future[int | None]](), list[float]()

    def begin() -> Future[int | None]:
        begun.append(done(len(begun)))
        return begun[-1]

    meanwhile = Meanwhile(begin, told.append)
    assert meanwhile.begun is None
    assert begun == []
    meanwhile(0.05)
    meanwhile(1.0)
    meanwhile.start()
    assert [meanwhile.begun] == begun
    assert told == [0.05, 1.0]


def test_nobody_needs_to_be_told_and_it_may_be_that_nothing_begins() -> None:
    tries = list[int]()
    meanwhile: Meanwhile[int] = Meanwhile(lambda: tries.append(1), None)
    meanwhile.start()
    meanwhile(0.5)
    assert meanwhile.begun is None
    assert tries == [1]


def test_what_follows_the_network_waits_for_it() -> None:
    """Both are Python: side by side they take several times as long as one behind the other."""
    future: Future[int | None] = Future()
    ended = list[float]()

    def tell() -> None:
        for share in (0.05, 0.5, 0.85):
            meanwhile(share)
            ended.append(share)

    meanwhile = Meanwhile(lambda: future, None, until=0.85)
    network = Thread(target=tell)
    network.start()
    network.join(1.0)
    assert ended == [0.05, 0.5]
    future.set_exception(StudyError("result-invalid"))
    network.join(30.0)
    assert ended == [0.05, 0.5, 0.85]


def test_a_close_that_cancels_it_ends_the_wait() -> None:
    beside, busy, go = Beside(), Event(), Event()

    def other() -> None:
        busy.set()
        go.wait(30.0)

    beside.begin(other)
    assert busy.wait(30.0)
    meanwhile: Meanwhile[None] = Meanwhile(lambda: beside.begin(lambda: None), None, until=0.85)
    meanwhile.start()
    network = Thread(target=meanwhile, args=(0.9,), daemon=True)
    closing = Thread(target=beside.close, daemon=True)
    network.start()
    closing.start()
    network.join(30.0)
    assert not network.is_alive()
    go.set()
    closing.join(30.0)
    assert not closing.is_alive()


def test_what_a_study_is_to_blame_for_the_plain_way_says() -> None:
    assert ready(done(7)) == 7
    assert ready(None) is None
    assert ready(done(error=StudyError("result-invalid"))) is None
    with pytest.raises(ModelError):
        ready(done(error=ModelError("inference-failed")))
