"""Processes that decode frames: they stay for the next object, die alone, and end when nobody asks."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dicomnode.deidentification import children
from dicomnode.deidentification.children import Children, DecodingLimits, serve
from dicomnode.encoded import encode_part10
from tests.neighbours import wait_for
from tests.unit.deidentification.pictures import capture, drawn

LIMITS = DecodingLimits(timeout_seconds=60)


@pytest.fixture
def some() -> Iterator[Children]:
    some = Children()
    yield some
    some.end()


def picture() -> bytes:
    return encode_part10(capture([drawn(size=64)]), transfer_syntax_uid="1.2.840.10008.1.2.1")


def pids(some: Children) -> set[int]:
    return {child.pid for _, child in some._idle}


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_child_serves_one_after_the_other(some: Children) -> None:
    first = some.ask(picture(), LIMITS)
    (pid,) = pids(some)
    assert some.ask(picture(), LIMITS) == first
    assert first.startswith(b"MONOCHROME2\n")
    assert pids(some) == {pid}


def test_what_cannot_be_decoded_costs_itself_alone(some: Children) -> None:
    some.ask(picture(), LIMITS)
    before = pids(some)
    with pytest.raises(OSError, match="undecodable"):
        some.ask(b"no object", LIMITS)
    assert some.ask(picture(), LIMITS)
    assert pids(some) == before


def test_a_child_that_was_killed_is_replaced(some: Children) -> None:
    some.ask(picture(), LIMITS)
    (pid,) = pids(some)
    os.kill(pid, signal.SIGKILL)
    assert some.ask(picture(), LIMITS)
    assert pid not in pids(some)


def test_children_that_die_of_an_object_are_two(some: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def dying(_: DecodingLimits) -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return begun[-1]

    monkeypatch.setattr(children, "_start", dying)
    with pytest.raises(ChildProcessError, match="no answer"):
        some.ask(b"deadly", LIMITS)
    assert len(begun) == 2
    assert all(one.returncode is not None for one in begun)
    assert pids(some) == set()


@pytest.mark.parametrize(
    "says", ["import time; time.sleep(60)", "import sys; sys.stdin.buffer.read(1); print('x' * 9)"]
)
def test_a_child_that_is_late_or_lies_about_its_length_is_ended(
    some: Children, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    def odd(_: DecodingLimits) -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen([sys.executable, "-c", says], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        return begun[-1]

    monkeypatch.setattr(children, "_start", odd)
    with pytest.raises(OSError, match=r"late|no answer"):
        some.ask(b"x", DecodingLimits(timeout_seconds=3))
    assert all(one.returncode is not None for one in begun)


def test_each_thread_has_its_own_and_few_are_kept(some: Children) -> None:
    together = threading.Barrier(3)

    def ask(_: int) -> bytes:
        together.wait()
        return some.ask(picture(), LIMITS)

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(ask, range(3)))) == 1
    assert 1 <= len(pids(some)) <= 2


def test_those_of_other_limits_are_others(some: Children) -> None:
    some.ask(picture(), LIMITS)
    before = pids(some)
    some.ask(picture(), DecodingLimits(timeout_seconds=61))
    assert len(pids(some)) == 2
    assert before < pids(some)


def test_those_that_nobody_asks_end() -> None:
    some = Children(idle_seconds=0.2)
    some.ask(picture(), LIMITS)
    pid = max(pids(some) or {0})
    wait_for(lambda: not pids(some), 20, what="an end of the child")
    wait_for(lambda: not pid or not is_there(pid), 20, what="an end of its process")


def test_one_that_dies_keeps_no_other_waiting_for_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    some = Children(idle_seconds=1.0)
    some.ask(picture(), LIMITS)
    (pid,) = pids(some)
    with monkeypatch.context() as patch:

        def none(_: DecodingLimits) -> subprocess.Popen[bytes]:
            raise OSError("no process can be had")

        patch.setattr(children, "_start", none)
        with pytest.raises(OSError, match="no process"):
            some.ask(picture(), DecodingLimits(timeout_seconds=61))
    wait_for(lambda: not pids(some), 20, what="an end of the child that nobody asks")
    wait_for(lambda: not is_there(pid), 20, what="an end of its process")


def test_a_child_goes_on_after_what_it_could_not_decode() -> None:
    def decoded(data: bytes) -> bytes:
        if data == b"bad":
            raise ValueError(data)
        return data[::-1]

    def framed(*parts: bytes) -> bytes:
        return b"".join(struct.pack("<Q", len(part)) + part for part in parts)

    sink = io.BytesIO()
    serve(io.BytesIO(framed(b"abc", b"bad", b"xy")), sink, decoded=decoded)
    assert sink.getvalue() == framed(b"cba", b"", b"yx")
