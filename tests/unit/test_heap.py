"""Freed memory that is handed back, and a C library that keeps none."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from types import SimpleNamespace

import pytest

from dicomnode import heap
from dicomnode.heap import give_back, keep_little, stay

#: Allocates in twelve threads at once; prints the arenas there are then, in a process that asked for few and in one that did not.
ARENAS = """
import ctypes, os, re, sys, tempfile, threading
from dicomnode.heap import keep_little

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]

def arenas(few):
    if few:
        keep_little()
    here = threading.Barrier(12)
    def allocate():
        here.wait()
        libc.malloc(1000)
        here.wait()
    threads = [threading.Thread(target=allocate) for _ in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    with tempfile.NamedTemporaryFile() as said:
        stream = libc.fopen(said.name.encode(), b"w")
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        return len(re.findall("<heap nr", said.read().decode()))

for few in (True, False):
    pid = os.fork()
    if not pid:
        print(arenas(few), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
"""


def test_what_is_freed_is_asked_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=asked.append))
    give_back()
    assert asked == [0]


def test_a_library_that_keeps_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    give_back()
    keep_little()


def test_what_a_start_leaves_is_not_looked_through_again() -> None:
    left = [[] for _ in range(1000)]  # type: list[list[int]]
    before = gc.get_freeze_count()
    try:
        stay()
        assert gc.get_freeze_count() >= before + len(left)
        assert not any(one is left[0] for one in gc.get_objects())
    finally:
        gc.unfreeze()


def test_threads_share_what_was_freed() -> None:
    """glibc: as many arenas as asked for, however many threads allocate at once (malloc_info(3))."""
    counted = subprocess.run([sys.executable, "-c", ARENAS], capture_output=True, text=True, check=True).stdout
    shared, apart = map(int, counted.split())
    assert shared == 2
    assert apart > 2


def test_where_no_more_is_allowed_the_limit_of_a_core_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[tuple[int, int]] = []

    def allow(_: int, limits: tuple[int, int]) -> None:
        if limits[1] == 1:
            raise ValueError("not allowed to raise maximum limit")
        set_to.append(limits)

    monkeypatch.setattr(heap.resource, "setrlimit", allow)
    monkeypatch.setattr(heap.resource, "getrlimit", lambda _: (0, 0))
    heap.leave_no_core()
    assert set_to == [(0, 0)]
