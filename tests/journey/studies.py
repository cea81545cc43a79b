"""Studies for the journeys: small phantoms, written as files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset

from dicomnode.encoded import encode_part10
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import PhantomPatient, ct_series

EXPLICIT = "1.2.840.10008.1.2.1"


@cache
def small_chest() -> tuple[np.ndarray[Any, Any], tuple[float, float, float]]:
    """HU and spacing of a chest in few voxels."""
    phantom = chest_phantom(np.random.default_rng(3), shape=(40, 96, 96), spacing=(8.0, 4.0, 4.0), diseases=())
    return phantom.hu, phantom.spacing


def write_study(
    folder: Path,
    seed: str,
    *,
    change: Callable[[int, Dataset], None] | None = None,
    transfer_syntax_uid: str = EXPLICIT,
    **patient: Any,
) -> tuple[list[Path], PhantomPatient]:
    """Files of a small chest CT; `change` may alter an image before it is written."""
    who = PhantomPatient(seed=seed, **patient)
    hu, spacing = small_chest()
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, image in enumerate(ct_series(hu, spacing, who)):
        if change is not None:
            change(index, image)
        path = folder / f"{index:03}.dcm"
        path.write_bytes(encode_part10(image, transfer_syntax_uid=transfer_syntax_uid))
        paths.append(path)
    return paths, who
