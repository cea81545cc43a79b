"""Keys are in no repr of what goes between the rooms, and in no core dump."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import dicomnode


def classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(dicomnode.__path__, "dicomnode."):
        if "__main__" in module.name or "migrations" in module.name:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name and dataclasses.is_dataclass(value):
                yield value


def test_no_repr_shows_a_key() -> None:
    holding = {
        (f"{one.__module__}.{one.__qualname__}.{field.name}", field.repr)
        for one in classes()
        for field in dataclasses.fields(one)
        if "bytes" in str(field.type) and field.name.endswith(("key", "wrapped"))
    }
    assert {name.rpartition(".")[2] for name, _ in holding} == {"cache_key", "key", "derivation_key", "wrapped"}
    assert {name for name, shown in holding if shown} == set()


@pytest.mark.parametrize("words", [("keys", "list"), ("deidentify", "a", "b"), ("check",)], ids=lambda words: words[0])
def test_no_command_leaves_a_core_dump(words: tuple[str, ...]) -> None:
    program = (
        "import resource, sys\n"
        "from dicomnode.cli import main\n"
        "main.app = lambda: print(resource.getrlimit(resource.RLIMIT_CORE))\n"
        f"sys.argv = ['dicomnode', *{words!r}]\n"
        "main.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "(1, 1)", "at 0 the kernel hands it to a program all the same"


def test_a_process_that_dies_leaves_no_core_dump_and_none_is_handed_over(tmp_path: Path) -> None:
    program = (
        "import os, resource, signal\n"
        "from dicomnode.heap import leave_no_core\n"
        "most = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (most, most))\n"
        "leave_no_core()\n"
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=False, timeout=60)
    assert done.returncode == -signal.SIGSEGV
    assert list(tmp_path.iterdir()) == []
