"""A look at CUDA and TensorRT from a process that may crash: ``python -m dicomnode.inference.gpu_probe LIBRARY`` prints JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from dicomnode.errors import ModelError
from dicomnode.inference import cuda_device, tensorrt


def look(library: str) -> dict[str, object]:
    """Version of the library, devices, and what stands in the way."""
    version, devices, problem = "", [], ""
    try:
        devices = [asdict(facts) for facts in cuda_device.devices()]
        version = str(tensorrt.library(library).__version__)
    except ModelError as error:
        problem = str(error.facts.get("cause", error.code))
    return {"version": version, "devices": devices, "problem": problem}


if __name__ == "__main__":  # pragma: no cover - runs in a process of its own
    sys.stdout.write(json.dumps(look(sys.argv[1])))
    sys.stdout.flush()
    os._exit(0)  # libraries of drivers have crashed at the end of processes that were done
