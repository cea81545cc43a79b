"""The kernels' sources, compiled for the host, give what their numpy twins give; the twins give what the CPU path gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dicomnode.imaging import resample as grids
from dicomnode.imaging.resample import Taps, finer_taps, resampling_taps
from dicomnode.inference import postprocess, preprocess, segment, tiles, twins
from dicomnode.inference.standin_device import HostBuffer, StandInDevice
from dicomnode.manifest import Intensity, Postprocess, Preprocess
from tests.unit.inference.host_kernels import CompiledDevice, library

Array = np.ndarray[Any, np.dtype[Any]]
SETTINGS = settings(max_examples=40, deadline=None)

seeds = st.integers(0, 2**32 - 1)
small = st.tuples(*[st.integers(1, 9)] * 3)
spacings = st.tuples(*[st.floats(0.4, 5.0)] * 3)
orders = st.permutations(range(3))
flips = st.tuples(*[st.booleans()] * 3)
grids_of_threads = st.sampled_from([(1, 1), (1, 7), (3, 2), (40, 1)])


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    library()


def both(
    kernel: str, count: int, arguments: Sequence[Any], outputs: Sequence[int], grid: tuple[int, int]
) -> tuple[list[bytes], list[bytes]]:
    """Bytes of the outputs after a launch of the twin, and of the compiled kernel."""
    found = []
    for device in (StandInDevice(), CompiledDevice(blocks=grid[0], threads=grid[1])):
        stream = device.stream()
        given_ = [device.allocate(max(1, one.nbytes)) if isinstance(one, np.ndarray) else one for one in arguments]
        for buffer, one in zip(given_, arguments, strict=True):
            if isinstance(buffer, HostBuffer):
                device.upload(one, buffer, stream)
        device.launch(kernel, count, given_, stream)
        found.append([bytes(given_[at].data) for at in outputs])
    return found[0], found[1]


def tables(taps: Sequence[Taps]) -> tuple[Array, Array]:
    starts = np.concatenate([one.starts for one in taps]).astype(np.int32)
    return starts, np.concatenate([one.weights.ravel() for one in taps])


def steps_of(shape: tuple[int, int, int], order: Sequence[int], flipped: Sequence[bool]) -> tuple[int, int, int, int]:
    """Base and steps along canonical axes whose source axes these are."""
    strides = (shape[1] * shape[2], shape[2], 1)
    base = sum(strides[axis] * (shape[axis] - 1) for axis, flip in zip(order, flipped, strict=True) if flip)
    z, y, x = (-strides[axis] if flip else strides[axis] for axis, flip in zip(order, flipped, strict=True))
    return base, z, y, x


def turned(array: Array, order: Sequence[int], flipped: Sequence[bool]) -> Array:
    return array.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flipped)]


def stored(kind: str, shape: tuple[int, int, int], random: np.random.Generator) -> Array:
    if kind == "i16":
        return random.integers(-32768, 32768, shape).astype(np.int16)
    return random.uniform(-3e4, 3e4, shape).astype(np.float32)


@pytest.mark.parametrize("kind", ["i16", "f32"])
@SETTINGS
@given(small, spacings, spacings, orders, flips, st.booleans(), st.booleans(), seeds, grids_of_threads)
def test_resampling(  # noqa: PLR0917 - hypothesis fills them in
    kind: str,
    shape: Any,
    old: Any,
    new: Any,
    order: Any,
    flipped: Any,
    antialias: bool,
    centred: bool,
    seed: int,
    grid: Any,
) -> None:
    random = np.random.default_rng(seed)
    source = stored(kind, shape, random)
    view = turned(source, order, flipped)
    factors = random.integers(1, 4, 3)
    rule = Preprocess(
        spacing_mm=new,
        intensity=Intensity(lower=-1000.0, upper=602.5, scale="minus-one-to-one" if centred else "zero-to-one"),
        pad_hu=-1024.0,
        multiple_of=tuple(int(one) for one in factors),
        antialias=antialias,
    )
    expected, valid = preprocess.prepare(view, old, rule)
    taps, nesting = resampling_taps(view.shape, old, new, antialias=antialias)
    window = twins.Window(np.float32(-1000), np.float32(602.5), np.float32(1 / 1602.5), centred)
    twin = twins.resample(view, taps, nesting, size=expected.shape, pad=np.float32(-1024), window=window)
    assert tuple(len(one.starts) for one in taps) == valid
    np.testing.assert_array_equal(twin, expected)
    target = np.zeros(expected.shape, np.float32)
    arguments = [
        *(source, target, *steps_of(source.shape, order, flipped), *expected.shape, *valid, *tables(taps)),
        *(*(one.weights.shape[1] for one in taps), *nesting, -1024.0, -1000.0, 602.5, 1 / 1602.5, int(centred)),
    ]
    (ours,), (theirs,) = both(f"resample_{kind}", target.size, arguments, [1], grid)
    assert ours == theirs == expected.tobytes()


@SETTINGS
@given(small, small, st.floats(0, 0.75), st.integers(1, 4), seeds, grids_of_threads)
@example((9, 8, 9), (4, 5, 3), 0.5, 2, 1, (3, 2))  # several tiles along every axis
def test_tiles(  # noqa: PLR0917 - hypothesis fills them in
    shape: Any, tile: Any, overlap: float, channels: int, seed: int, grid: Any
) -> None:
    random = np.random.default_rng(seed)
    volume = random.uniform(-1, 1, shape).astype(np.float32)
    layout = tiles.plan(shape, tile, overlap)
    answers: list[Array] = []

    def network(batch: Array) -> Array:
        answers.append(random.normal(size=(1, channels, *batch.shape[2:])).astype(np.float32))
        return answers[-1].copy()

    expected = tiles.run(volume, layout, network, channels=channels)
    origins = np.array([[one.start for one in place] for place, _ in layout.tiles()], np.int32)
    batch = np.zeros((len(origins), 1, *layout.tile), np.float32)
    (ours,), (theirs,) = both(
        "gather", batch.size, [volume, batch, origins, len(origins), *shape[1:], *layout.tile], [1], grid
    )
    patches = np.stack([volume[place][None] for place, _ in layout.tiles()])
    assert ours == theirs == patches.tobytes()
    devices = StandInDevice(), CompiledDevice(blocks=grid[0], threads=grid[1])
    totals = []
    for device in devices:
        stream = device.stream()
        total = device.allocate(expected.nbytes)
        device.clear(total, expected.nbytes, stream)
        logits = device.allocate(4 * answers[0].size * 2)
        for index, (origin, answer) in enumerate(zip(origins, answers, strict=True)):
            numbers = np.unravel_index(index, [len(axis.starts) for axis in layout.axes])
            weights = []
            for axis, number in zip(layout.axes, numbers, strict=True):
                weights.append(device.allocate(4 * axis.size))
                device.upload(axis.weights(int(number)), weights[-1], stream)
            first = int(random.integers(0, answer.size + 1)) if device is devices[0] else 0
            device.upload(answer, logits.part(4 * first), stream)
            device.launch(
                "accumulate",
                answer.size,
                [logits, total, *weights, first, channels, *shape, *layout.tile, *(int(one) for one in origin)],
                stream,
            )
        totals.append(total.view(np.float32, expected.shape))
    np.testing.assert_array_equal(totals[0], totals[1])
    np.testing.assert_array_equal(totals[0], expected)


def scores_of(channels: int, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    """Scores with ties: few values, so that equal ones meet."""
    return random.integers(-3, 4, (channels, *shape)).astype(np.float32)


@SETTINGS
@given(st.integers(1, 255), small, st.integers(0, 30), seeds, grids_of_threads)
def test_labels_of_scores(channels: int, shape: Any, gap: int, seed: int, grid: Any) -> None:
    random = np.random.default_rng(seed)
    voxels = math.prod(shape)
    flat = scores_of(channels, (voxels + gap,), random)
    scores = flat[:, :voxels]
    expected = scores.argmax(axis=0).astype(np.uint8)
    labels = np.zeros(voxels, np.uint8)
    (ours,), (theirs,) = both("argmax", voxels, [flat, labels, channels, voxels + gap, voxels], [1], grid)
    assert ours == theirs == expected.tobytes()

    wanted = np.where(random.random(voxels) < 0.3, random.integers(0, channels, voxels), expected).astype(np.uint8)
    (ours,), (theirs,) = both("agree", voxels, [flat, wanted, channels, voxels + gap, voxels, 1.0], [0], grid)
    assert ours == theirs
    after = np.frombuffer(ours, np.float32).reshape(channels, voxels + gap)
    np.testing.assert_array_equal(after[:, :voxels].argmax(axis=0), wanted)
    np.testing.assert_array_equal(after[:, voxels:], flat[:, voxels:])

    shares = np.zeros(voxels, np.float32)
    (ours,), (theirs,) = both("foreground", voxels, [flat, shares, channels, voxels + gap, voxels], [1], grid)
    np.testing.assert_allclose(np.frombuffer(ours, np.float32), np.frombuffer(theirs, np.float32), atol=3e-6)
    path = segment._foreground(np.ascontiguousarray(scores).reshape(channels, *shape))
    np.testing.assert_allclose(np.frombuffer(theirs, np.float32), path.ravel(), atol=3e-6)


@SETTINGS
@given(st.integers(1, 5), small, seeds)
def test_scores_agree_with_the_rules_as_on_the_cpu(channels: int, shape: Any, seed: int) -> None:
    rule = Postprocess(keep_largest_per_label=True, fill_holes=True, minimum_component_ml=2.0)
    scores = scores_of(channels, shape, np.random.default_rng(seed))
    expected = scores.copy()
    labels = postprocess.clean(expected, rule, voxel_ml=1.0)
    twins.agree(scores, labels, margin=postprocess.MARGIN)
    np.testing.assert_array_equal(scores, expected)


@SETTINGS
@given(st.integers(1, 6), small, st.tuples(*[st.floats(0.2, 3.0)] * 3), orders, flips, seeds, grids_of_threads)
def test_labels_go_back_to_the_source(  # noqa: PLR0917 - hypothesis fills them in
    channels: int, fine: Any, new: Any, order: Any, flipped: Any, seed: int, grid: Any
) -> None:
    random = np.random.default_rng(seed)
    coarse = grids.resampled_shape(fine, new, (1.0, 1.0, 1.0))
    scores = random.normal(size=(channels, *coarse)).astype(np.float32)
    if random.random() < 0.5:
        scores[0] += 2  # large pieces of one label
    padded = tuple(n + int(more) for n, more in zip(coarse, random.integers(0, 3, 3), strict=True))
    wide = np.full((channels, *padded), np.nan, np.float32)
    wide[:, : coarse[0], : coarse[1], : coarse[2]] = scores
    source_shape = tuple(fine[list(order).index(axis)] for axis in range(3))
    taps = [
        Taps(one.starts, one.weights if one.weights.shape[1] == 2 else np.pad(one.weights, ((0, 0), (0, 1))))
        for one in finer_taps(coarse, (1.0, 1.0, 1.0), fine, new)
    ]
    twin = twins.labels_back(scores, taps)
    margin = top_two(scores, taps)
    path = grids.labels_on(scores, (1.0, 1.0, 1.0), fine, new)
    assert (twin == path)[margin > 1e-5].all()

    target = np.zeros(source_shape, np.uint8)
    labels = twins.argmax(np.nan_to_num(wide, nan=0))
    plane, steps = padded[1] * padded[2], steps_of(source_shape, order, flipped)
    common = [0, *padded[1:], *fine, 0, fine[0], *steps, *tables(taps)]
    arguments = [wide, labels, target, channels, padded[0] * plane, *common]
    (ours,), (theirs,) = both("labels_back", target.size, arguments, [2], grid)
    found = turned(np.frombuffer(theirs, np.uint8).reshape(source_shape), order, flipped)
    assert ours == turned_back(twin, order, flipped).tobytes()
    assert (found == twin)[margin > 1e-5].all()

    shares = np.abs(scores[0]) / 3
    wide_shares = np.full(padded, np.nan, np.float32)
    wide_shares[: coarse[0], : coarse[1], : coarse[2]] = shares
    expected = grids.shares_on(shares, (1.0, 1.0, 1.0), fine, new)
    (ours,), (theirs,) = both(
        "shares_back", target.size, [wide_shares, np.zeros(source_shape, np.uint16), *common], [1], grid
    )
    assert ours == theirs
    back = turned(np.frombuffer(theirs, np.uint16).reshape(source_shape), order, flipped)
    assert np.abs(back.astype(int) - expected).max() <= 1  # a product of matrices may fuse its steps


def top_two(scores: Array, taps: Sequence[Taps]) -> Array:
    """How far the best interpolated score leads at each fine voxel."""
    fine = np.sort(np.stack([twins._fine(channel, taps) for channel in scores]), axis=0)
    return fine[-1] - fine[-2] if len(fine) > 1 else np.full(fine.shape[1:], np.inf)


def turned_back(array: Array, order: Sequence[int], flipped: Sequence[bool]) -> Array:
    """Inverse of `turned`."""
    straight = array[tuple(slice(None, None, -1 if flip else 1) for flip in flipped)]
    return np.ascontiguousarray(straight.transpose(np.argsort(order)))
