"""Nothing reports to its maker: loading and running the engine leaves no trace in a home folder and opens no socket."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.inference.choice import KINDS

PROGRAM = """
import socket, sys
def forbidden(*_arguments, **_named):
    sys.exit("a socket was opened")
socket.socket.connect = forbidden
from dicomnode.inference.choice import open_engine
from dicomnode.inference.package import load, shipped_models_folder
opened = open_engine(load(shipped_models_folder() / "ct-lung"), sys.argv[1], threads=1)
opened.engine.close()
print("ran")
"""


@pytest.mark.parametrize("engine", KINDS)
def test_an_engine_leaves_nothing_behind(engine: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, engine],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.stdout.strip() == "ran", result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == []
