"""Nothing reports to its maker: loading and running the engine leaves no trace in a home folder and opens no socket."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import socket, sys
def forbidden(*_arguments, **_named):
    sys.exit("a socket was opened")
socket.socket.connect = forbidden
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.package import load, shipped_models_folder
package = load(shipped_models_folder() / "ct-lung")
engine = OnnxEngine.from_package(package, threads=1)
import numpy as np
steps = package.manifest.preprocess.multiple_of
engine.run(np.zeros((1, 1, *steps), np.float32))
engine.close()
print("ran")
"""


def test_onnx_runtime_leaves_nothing_behind(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("ORT_", "XDG_"))}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.stdout.strip() == "ran", result.stderr
    assert sorted(path.name for path in tmp_path.rglob("*")) == []
