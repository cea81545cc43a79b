"""Freed memory that is handed back, and a C library that keeps none."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from dicomnode.inference.memory import give_back


def test_what_is_freed_is_asked_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=asked.append))
    give_back()
    assert asked == [0]


def test_a_library_that_keeps_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    give_back()
