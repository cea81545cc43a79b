"""Children that run codecs: asked within a time, never believed, and gone when anything goes wrong."""

from __future__ import annotations

import io
import signal
import struct
import subprocess
import sys
from typing import Any

import pytest

from dicomnode.imaging.codec_child import ChildGone, alarm, asked, parts, read_part, write

ECHO = "import sys\nwhile part := sys.stdin.buffer.read(9): sys.stdout.buffer.write(part); sys.stdout.flush()"


def child_of(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_child_answers_and_stays() -> None:
    child = child_of(ECHO)
    for letter in (b"a", b"b"):
        with asked(child, 60) as (question, answer):
            write(question, letter)
            assert read_part(answer) == letter
    assert child.poll() is None
    child.communicate()


@pytest.mark.parametrize(("program", "seconds", "late"), [("import time; time.sleep(60)", 0.3, True), ("", 60, False)])
def test_a_child_that_gives_no_answer_is_ended(program: str, seconds: float, late: bool) -> None:
    child = child_of(program)
    with pytest.raises(ChildGone) as caught, asked(child, seconds) as (_, answer):
        read_part(answer)
    assert caught.value.late is late
    assert child.returncode is not None


def test_a_child_that_was_killed_just_after_its_answer_is_not_asked_again() -> None:
    child = child_of("import time; time.sleep(60)")
    with pytest.raises(ChildGone) as caught, asked(child, 0.1):
        child.wait(60)
    assert caught.value.late


def test_whatever_goes_wrong_with_who_asks_nothing_is_left_of_the_child() -> None:
    child = child_of(ECHO)
    with pytest.raises(MemoryError), asked(child, 60):
        raise MemoryError
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize("said", [b"", b"\x05", struct.pack("<Q", 5) + b"four", struct.pack("<Q", 9) + bytes(9)])
def test_parts_that_are_cut_off_or_too_long_are_none(said: bytes) -> None:
    with pytest.raises(EOFError):
        read_part(io.BytesIO(said), most=8)


def test_parts_come_until_the_input_ends() -> None:
    stream = io.BytesIO()
    write(stream, b"one", memoryview(b""), bytearray(b"three"))
    assert list(parts(io.BytesIO(stream.getvalue() + b"\x01"))) == [b"one", b"", b"three"]


def test_an_alarm_is_over_with_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(signal, "setitimer", lambda *what: told.append(what))
    with alarm(3.0):
        assert told == [(signal.ITIMER_REAL, 3.0)]
    assert told[1:] == [(signal.ITIMER_REAL, 0.0)]


@pytest.mark.parametrize(
    ("gone", "tries"),
    [(ChildGone(late=True), 1), (ChildGone(late=False), 2), (ChildGone(late=False, killed=True), 4)],
    ids=["late", "crashed", "killed"],
)
def test_how_often_another_child_is_asked_the_same(gone: ChildGone, tries: int) -> None:
    assert [gone.is_to_be_asked_again(number) for number in range(1, 6)] == [number < tries for number in range(1, 6)]


@pytest.mark.parametrize(("sent", "killed"), [(signal.SIGKILL, True), (signal.SIGSEGV, False)])
def test_a_kill_is_told_from_a_crash(sent: signal.Signals, killed: bool) -> None:
    child = child_of("import time; time.sleep(60)")
    child.send_signal(sent)
    with pytest.raises(ChildGone) as caught, asked(child, 30) as (_, answer):
        read_part(answer)
    assert caught.value.killed is killed
