"""Small libraries that stand in front of the C library's functions, in a running node and in its children."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests import tools
from tests.journey.running_node import altered

#: The node gives its children no environment but what they need: here they get what says how the machine is, too.
_CHILDREN = """
import subprocess
_start = subprocess.Popen.__init__
def _shared(self, *words, env=None, **more):
    _start(self, *words, env=None if env is None else {{**env, **{shared!r}}}, **more)
subprocess.Popen.__init__ = _shared
"""


def built(folder: Path, name: str, source: str) -> Path:
    """A library of this C; skips the test where there is no compiler."""
    compiler = tools.require("g++")
    folder.mkdir(parents=True, exist_ok=True)
    code, library = folder / f"{name}.c", folder / f"{name}.so"
    code.write_text(source)
    words = [compiler, "-x", "c", "-shared", "-fPIC", "-O1", "-o", str(library), str(code), "-ldl"]
    subprocess.run(words, check=True, timeout=60)
    return library


def house(folder: Path, environment: Mapping[str, str], program: str = "") -> dict[str, str]:
    """Environment of a node that shares this one with all its children, and of which `program` alters something."""
    return {**environment, **altered(folder, _CHILDREN.format(shared=dict(environment)) + program)}
