"""What a study will take, and where it will be computed, by its geometry alone: known before its images are copied.

Pure. What is foreseen is the least that is certain (whole numbers of 16 bits, no padding, an empty device): what is
refused here would have been refused later, and what passes is looked at again when the volume is there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from dicomnode.errors import ModelError
from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.straighten import straighten
from dicomnode.inference.engine import Engine
from dicomnode.inference.gpu_course import study_of
from dicomnode.inference.gpu_plan import plan
from dicomnode.inference.segment import memory_of
from dicomnode.manifest import Manifest

_BYTES_PER_VOXEL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """What a study will take.

    Attributes
    ----------
    memory_bytes
        Of the node, at least.
    place
        ``gpu``, ``gpu-slabs`` (its scores do not fit at once) or ``cpu``.
    device_bytes
        Of a GPU, at least, for the quickest course that one has room for; 0 on the CPU.
    reason
        Why not on the GPU that there is, in a token; empty: nothing stands in the way.
    """

    memory_bytes: int
    place: str = "cpu"
    device_bytes: int = 0
    reason: str = ""


@runtime_checkable
class OnDevices(Protocol):
    """An engine on GPUs."""

    @property
    def rooms(self) -> Sequence[int]:
        """Memory of each device, bytes; 0: nobody knows."""
        ...


def memory_at_least(geometry: VolumeGeometry, manifest: Manifest) -> int:
    """Bytes of the node's memory that a study takes, at least."""
    return memory_of(geometry, manifest, held=_BYTES_PER_VOXEL * math.prod(geometry.shape))


def foresee(geometry: VolumeGeometry, manifest: Manifest, engine: Engine) -> Foresight:
    """What a study will take on an engine, and where."""
    memory = memory_at_least(geometry, manifest)
    if not isinstance(engine, OnDevices):
        return Foresight(memory_bytes=memory)
    found = fitting(straighten(geometry).geometry, manifest, engine.rooms)
    known = [one for one in found if one is not None]
    if not known:
        return Foresight(memory_bytes=memory, reason="device-too-small")
    whole, needed = max(known, key=lambda one: (one[0], -one[1]))
    return Foresight(memory_bytes=memory, place="gpu" if whole else "gpu-slabs", device_bytes=needed)


def fitting(
    geometry: VolumeGeometry, manifest: Manifest, rooms: Sequence[int], *, itemsize: int = _BYTES_PER_VOXEL
) -> list[tuple[bool, int] | None]:
    """For each device whether the scores fit at once, and the bytes needed; None: the study does not fit, however.

    Parameters
    ----------
    geometry
        Even and straight.
    rooms
        Memory of each device, bytes; 0: nobody knows, and it is taken to be enough.
    """
    study = study_of(geometry, manifest, itemsize=itemsize)
    found: list[tuple[bool, int] | None] = []
    for room in rooms:
        try:
            course = plan(study, batch=1, network_bytes=0, available=room or 1 << 62)
            found.append((course.whole, course.needed))
        except ModelError:
            found.append(None)
    return found
