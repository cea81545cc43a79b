"""What a study will take is known by its geometry: never more than it takes, and where it will be computed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.volume import Volume
from dicomnode.inference.foresight import Foresight, fitting, foresee, memory_at_least
from dicomnode.inference.gpu_course import see
from dicomnode.inference.gpu_guard import GuardedEngine
from dicomnode.inference.segment import memory_needed
from dicomnode.inference.standin import StandInEngine
from dicomnode.inference.standin_device import StandInDevice, StandInNetwork
from tests.unit.inference.chests import chest, geometry
from tests.unit.inference.gpu_program import manifest
from tests.unit.inference.test_gpu_fleet import Fleet, Gate

MANIFEST = manifest()
GEOMETRY = geometry((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), spacing=(6.0, 3.0, 4.0))
VOLUME = chest(GEOMETRY)


def needed() -> tuple[int, int]:
    """Bytes of a device for the whole, and for slabs."""
    ((whole, all_of_it),) = [one for one in fitting(VOLUME.geometry, MANIFEST, [0]) if one]
    assert whole
    for room in range(all_of_it, 0, -256 * 1024):
        (found,) = fitting(VOLUME.geometry, MANIFEST, [room])
        if found is None:
            break
        smallest = found[1]
    return all_of_it, smallest


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(2, 40), st.integers(4, 60), st.integers(4, 60)),
    spacing=st.tuples(st.floats(0.5, 9), st.floats(0.4, 3), st.floats(0.4, 3)),
    shares=st.booleans(),
    floats=st.booleans(),
    padded=st.booleans(),
)
def test_what_is_foreseen_is_never_more_than_is_needed(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], shares: bool, floats: bool, padded: bool
) -> None:
    lying = replace(GEOMETRY, shape=shape, spacing=spacing, order=tuple(range(shape[0])))
    asked = replace(MANIFEST, results=replace(MANIFEST.results, parametric_map=shares))
    values = np.zeros(shape, np.float32 if floats else np.int16)
    padding = np.zeros(shape, np.bool_) if padded else None
    volume = Volume(values=values, geometry=lying, padding=padding, sop_instance_uids=("",) * shape[0])
    more = memory_needed(volume, asked) - memory_at_least(lying, asked)
    assert more == (2 * math.prod(shape) if floats else 0) + (math.prod(shape) if padded else 0)


def test_on_the_cpu_only_memory_is_foreseen() -> None:
    found = foresee(GEOMETRY, MANIFEST, StandInEngine(MANIFEST))
    assert found == Foresight(memory_bytes=memory_at_least(GEOMETRY, MANIFEST))


def test_where_a_study_will_be_computed_is_known() -> None:
    whole, smallest = needed()
    assert smallest < whole

    def place(*rooms: int) -> tuple[str, int, str]:
        engine = Fleet(*(None for _ in rooms)).engine
        engine.rooms = rooms
        found = foresee(GEOMETRY, MANIFEST, engine)
        assert found.memory_bytes == memory_at_least(GEOMETRY, MANIFEST)
        return found.place, found.device_bytes, found.reason

    assert place(whole) == ("gpu", whole, "")
    assert place(0) == ("gpu", whole, "")
    assert place(smallest) == ("gpu-slabs", smallest, "")
    assert place(smallest, whole) == ("gpu", whole, "")
    assert place(smallest - 1024 * 1024) == ("cpu", 0, "device-too-small")


def test_what_is_foreseen_to_fit_no_device_is_refused_by_the_device_too() -> None:
    """The stand-in device, with as much memory as was said to be too little."""
    whole, smallest = needed()
    network = StandInNetwork(StandInEngine(MANIFEST), MANIFEST.channels)
    with pytest.raises(Exception, match="inference-failed") as caught:
        see(VOLUME, MANIFEST, StandInDevice(smallest - 1024 * 1024), network, lambda _: None)
    assert caught.value.facts["cause"] == "device-too-small"  # type: ignore[attr-defined]
    room = whole + network.memory_bytes()
    assert see(VOLUME, MANIFEST, StandInDevice(room), network, lambda _: None).labels.any()


def test_a_study_goes_to_a_device_that_it_fits() -> None:
    _, smallest = needed()
    small, large = Gate("small"), Gate("large")
    large.go.release(2)
    fleet = Fleet(small, large)
    fleet.engine.rooms = (smallest - 1024 * 1024, smallest)
    assert [fleet.see().engine.name for _ in range(2)] == ["large", "large"]
    assert small.most == 0


def test_a_study_that_fits_none_goes_to_the_cpu_and_the_result_says_so() -> None:
    _, smallest = needed()
    gates = [Gate("zero"), Gate("one")]
    fleet = Fleet(*gates)
    fleet.engine.rooms = (smallest // 4, smallest // 2)
    assert str(fleet.see().engine) == "stand-in fp32 (GPU failed: device-too-small)"
    assert fleet.told[-1] == ("fell-back", 1, "device-too-small")
    assert [gate.most for gate in gates] == [0, 0]
    assert all(gate.alive for gate in gates)


def test_memory_that_nobody_knows_is_taken_to_be_enough() -> None:
    engine = GuardedEngine(
        [], StandInEngine(MANIFEST), MANIFEST, tell=lambda event, facts: None, clock=lambda: 0.0, rooms=()
    )
    assert engine.rooms == ()
    lying: VolumeGeometry = replace(GEOMETRY, shape=(400, 512, 512), order=tuple(range(400)))
    assert fitting(lying, MANIFEST, [0]) != [None]
