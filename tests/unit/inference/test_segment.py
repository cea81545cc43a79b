"""From a volume to its label map, whatever way its slices lie, with the stand-in."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from dicomnode.errors import ModelError, StudyError
from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.plane import Vector
from dicomnode.imaging.volume import Volume, build
from dicomnode.inference import standin
from dicomnode.inference.engine import Batch, EngineInfo
from dicomnode.inference.segment import _foreground, look, memory_needed
from dicomnode.inference.standin import StandInEngine
from dicomnode.manifest import Manifest
from tests.unit.imaging.test_straighten import STACKS
from tests.unit.inference.chests import ORIENTATIONS, chest, dice, geometry, truth, values
from tests.unit.inference.models import tiny_manifest

MANIFEST = standin.package().manifest
AXIAL: tuple[Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


def run(volume: Volume, manifest: Manifest = MANIFEST, *, limit: int | None = None) -> np.ndarray:
    return look(volume, manifest, StandInEngine(manifest), maximum_memory_bytes=limit).labels


def test_there_are_24_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 24


@pytest.mark.parametrize(("row", "column"), ORIENTATIONS)
def test_labels_lie_where_the_lungs_are_in_every_orientation(row: Vector, column: Vector) -> None:
    grid = geometry(row, column)
    labels = run(chest(grid))
    expected = truth(grid)
    assert labels.dtype == np.uint8
    assert labels.shape == grid.shape
    assert labels.flags.c_contiguous
    assert dice(labels, expected, 1) > 0.9
    assert dice(labels, expected, 2) > 0.9


@pytest.mark.parametrize("degrees", [-20, 15])
def test_labels_lie_where_the_lungs_are_in_oblique_slices(degrees: int) -> None:
    cosine, sine = float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))
    grid = geometry((cosine, sine, 0.0), (-sine, cosine, 0.0))
    expected = truth(grid)
    labels = run(chest(grid))
    assert dice(labels, expected, 1) > 0.9
    assert dice(labels, expected, 2) > 0.9


@pytest.mark.parametrize("stack", STACKS)
def test_labels_of_tilted_and_uneven_stacks_lie_on_their_own_planes(stack: VolumeGeometry) -> None:
    labels, expected = run(chest(stack)), truth(stack)
    assert labels.shape == stack.shape
    assert labels.flags.c_contiguous
    for number in (1, 2):
        assert dice(labels, expected, number) > 0.9
    assert memory_needed(chest(stack), MANIFEST) > memory_needed(
        chest(replace(stack, heights=None, drift=None)), MANIFEST
    )


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (1.0, 1.5, 1.5), (7.0, 2.0, 2.0), (4.1, 5.0, 3.9)])
def test_labels_come_back_to_any_spacing_without_a_shift(spacing: Vector) -> None:
    grid = geometry(*AXIAL, spacing=spacing)
    labels, expected = run(chest(grid)), truth(grid)
    for number in (1, 2):
        found = np.argwhere(labels == number).mean(axis=0) * spacing
        wanted = np.argwhere(expected == number).mean(axis=0) * spacing
        np.testing.assert_allclose(found, wanted, atol=1.0)


def test_slices_that_come_in_any_order_and_from_below_end_in_source_order() -> None:
    """Through real Data Sets: slices received from the top downward, then shuffled, give labels at equal places."""
    grid = geometry(*AXIAL)
    hu = values(grid)
    sets = [_data_set(index, hu[index].shape, -66.0 + 4.0 * index) for index in range(len(hu))]
    order = np.random.default_rng(3).permutation(len(sets))
    results = []
    for received in (sets, sets[::-1], [sets[i] for i in order]):
        volume = build(received, decoder=_Reader(hu))
        assert volume.sop_instance_uids == tuple(f"1.2.3.{index}" for index in range(len(hu)))
        results.append(run(volume))
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    assert dice(results[0], truth(grid), 1) > 0.9


def test_finds_the_lungs_of_the_projects_phantom() -> None:
    phantom = chest_phantom(np.random.default_rng(5), shape=(48, 96, 96), spacing=(7.0, 4.0, 4.0))
    grid = replace(
        geometry(*AXIAL), spacing=phantom.spacing, shape=phantom.hu.shape, order=tuple(range(len(phantom.hu)))
    )
    labels = run(Volume(values=phantom.hu, geometry=grid, padding=None, sop_instance_uids=()))
    assert dice(labels, phantom.labels, 1) > 0.9
    assert dice(labels, phantom.labels, 2) > 0.9


def test_tiles_and_one_piece_agree_in_the_main() -> None:
    """The stand-in looks at whole slices: tiles along z alone change nothing but what interpolation rounds."""
    grid = geometry(*AXIAL)
    tiled = replace(MANIFEST, network=replace(MANIFEST.network, tile=(12, 64, 64)))
    assert np.array_equal(run(chest(grid), tiled), run(chest(grid)))


def test_nothing_found_is_all_zero() -> None:
    grid = geometry(*AXIAL)
    empty = replace(chest(grid), values=np.full(grid.shape, 40, np.int16))
    assert not run(empty).any()


def test_a_lung_below_the_least_volume_is_not_given() -> None:
    grid = geometry(*AXIAL)
    largest = replace(MANIFEST, postprocess=replace(MANIFEST.postprocess, minimum_component_ml=50.0))
    assert set(np.unique(run(chest(grid), largest))) == {0, 1}


def test_a_single_segment_is_both_lungs() -> None:
    grid = geometry(*AXIAL)
    both = replace(
        MANIFEST,
        segments=MANIFEST.segments[:1],
        postprocess=replace(MANIFEST.postprocess, keep_largest_per_label=False),
    )
    assert dice(run(chest(grid), both), (truth(grid) != 0).astype(np.uint8), 1) > 0.9


def test_a_window_of_either_scale_and_a_float_volume_give_the_same() -> None:
    volume = chest(geometry(*AXIAL))
    window = replace(MANIFEST.preprocess.intensity, scale="zero-to-one")
    other = replace(MANIFEST, preprocess=replace(MANIFEST.preprocess, intensity=window))
    floats = replace(volume, values=volume.values.astype(np.float32))
    assert np.array_equal(run(volume), run(floats, other))


def test_the_volume_is_left_alone() -> None:
    volume = chest(geometry(*AXIAL, spacing=(4.0, 4.0, 4.0)))
    floats = replace(volume, values=volume.values.astype(np.float32))
    run(floats)
    assert np.array_equal(floats.values, volume.values)


def test_progress_grows_to_one() -> None:
    volume = chest(geometry(*AXIAL))
    tiled = replace(MANIFEST, network=replace(MANIFEST.network, tile=(12, 64, 64)))
    shares: list[float] = []
    look(volume, tiled, StandInEngine(tiled), progress=shares.append)
    assert len(shares) > 3
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_too_large_a_study_is_refused_before_it_is_touched() -> None:
    volume = chest(geometry(*AXIAL))
    needed = memory_needed(volume, MANIFEST)
    engine = StandInEngine(MANIFEST)
    engine.close()
    with pytest.raises(StudyError) as caught:
        look(volume, MANIFEST, engine, maximum_memory_bytes=needed - 1)
    assert caught.value.code == "memory-too-large"
    assert caught.value.facts == {"needed": needed, "maximum": needed - 1}
    assert run(volume, limit=needed).any()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (6.0, 6.0, 6.0)])
def test_the_estimate_of_memory_holds(spacing: Vector) -> None:
    grid = geometry(*AXIAL, spacing=spacing)
    volume = chest(grid)
    volume = replace(volume, padding=np.zeros(grid.shape, bool))
    tracemalloc.start()
    run(volume)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert volume.padding is not None
    assert peak + volume.values.nbytes + volume.padding.nbytes <= memory_needed(volume, MANIFEST)


def test_a_machine_without_memory_gives_the_same_code() -> None:
    volume = chest(geometry(*AXIAL))
    with pytest.raises(StudyError) as caught:
        look(volume, tiny_manifest(), _Hungry())
    assert caught.value.code == "memory-too-large"


def test_a_closed_engine_is_the_models_fault() -> None:
    engine = StandInEngine(MANIFEST)
    engine.close()
    with pytest.raises(ModelError) as caught:
        look(chest(geometry(*AXIAL)), MANIFEST, engine)
    assert caught.value.code == "inference-failed"


class _Hungry:
    info = EngineInfo(name="hungry", precision="fp32", version="1")

    def run(self, batch: Batch) -> Batch:
        raise MemoryError

    def rest(self) -> None: ...

    def close(self) -> None: ...


class _Reader:
    """Gives the pixels of a slice by its number."""

    def __init__(self, hu: np.ndarray) -> None:
        self._hu = hu

    def pixels(self, dataset: Dataset) -> np.ndarray:
        return self._hu[int(dataset.InstanceNumber)] + np.int16(1024)


def _data_set(index: int, size: tuple[int, ...], height: float) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = f"1.2.3.{index}"
    dataset.FrameOfReferenceUID = "1.2.3"
    dataset.Modality = "CT"
    dataset.InstanceNumber = index
    dataset.Rows, dataset.Columns = size
    dataset.PixelSpacing = [2.0, 3.0]
    dataset.ImageOrientationPatient = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    dataset.ImagePositionPatient = [-66.0, -66.0, height]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    return dataset


@pytest.mark.parametrize("stack", STACKS)
def test_probabilities_lie_where_the_labels_lie(stack: VolumeGeometry) -> None:
    with_map = replace(MANIFEST, results=replace(MANIFEST.results, parametric_map=True))
    volume = chest(stack)
    seen = look(volume, with_map, StandInEngine(with_map))
    assert look(volume, MANIFEST, StandInEngine(MANIFEST)).probability is None
    assert np.array_equal(seen.labels, run(volume))
    assert seen.probability is not None
    assert (seen.probability.dtype, seen.probability.shape) == (np.uint16, volume.values.shape)
    assert seen.probability.flags.c_contiguous
    found = seen.labels > 0
    assert seen.probability[found].min() > seen.probability[~found].mean()
    assert seen.probability[found].mean() > 2 * seen.probability[~found].mean()
    assert memory_needed(volume, with_map) > memory_needed(volume, MANIFEST) + seen.probability.nbytes


def test_probabilities_are_those_of_the_scores() -> None:
    scores = np.log(np.array([0.5, 0.3, 0.2], np.float32)).reshape(3, 1, 1, 1) + np.float32(400)
    assert _foreground(np.tile(scores, (1, 2, 2, 2))) == pytest.approx(0.5, rel=1e-4)
