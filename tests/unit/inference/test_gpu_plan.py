"""How a study fits a device: what is chosen, that it fits, and that every tile, row and slice is there once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.errors import ModelError
from dicomnode.inference import tiles
from dicomnode.inference.gpu_plan import Course, Study, parts, plan

GIBI = 1024**3


def study(
    *,
    source: tiles.Size = (500, 512, 512),
    coarse: tiles.Size = (334, 234, 234),
    tile: tiles.Size = (128, 128, 128),
    channels: int = 121,
    shares: bool = False,
) -> Study:
    layout = tiles.plan(coarse, tile, 0.25)
    step = (coarse[0] - 1) / max(1, source[0] - 1)
    last = max(0, coarse[0] - 2)
    return Study(
        source=source,
        itemsize=2,
        coarse=coarse,
        padded=coarse,
        layout=layout,
        channels=channels,
        back=tuple(min(int(index * step), last) for index in range(source[0])),
        tables=40_000,
        shares=shares,
    )


def made(available: int, *, batch: int = 4, one: Study | None = None) -> Course:
    return plan(one or study(), batch=batch, network_bytes=GIBI, available=available)


def test_a_large_device_holds_everything_and_works_in_two_slots() -> None:
    course = made(80 * GIBI)
    assert (course.whole, course.batch, course.slots, course.rows) == (True, 4, 2, 334)
    assert len(course.slabs) == len(course.parts) == 1
    assert course.needed < 30 * GIBI


def test_120_labels_on_500_slices_go_over_a_device_of_8_gibibytes_in_slabs() -> None:
    course = made(8 * GIBI)
    assert not course.whole
    assert course.rows == 128
    assert len(course.slabs) == len(study().layout.axes[0].starts)
    assert course.needed <= 8 * GIBI
    assert dict(course.buffers)["scores"] < dict(made(80 * GIBI).buffers)["scores"] / 2


def test_less_memory_never_means_a_larger_course() -> None:
    needed = [made(available * GIBI).needed for available in (80, 24, 16, 12, 8, 7)]
    assert needed == sorted(needed, reverse=True)


def test_what_does_not_fit_at_all_says_how_much_it_would_take() -> None:
    with pytest.raises(ModelError) as caught:
        made(2 * GIBI)
    assert caught.value.code == "inference-failed"
    assert caught.value.facts["cause"] == "device-too-small"
    least = int(caught.value.facts["needed"])
    assert caught.value.facts["available"] == 2 * GIBI
    assert made(least).needed == least
    with pytest.raises(ModelError):
        made(least - 1)


def test_one_tile_takes_one_slot_and_one_slab() -> None:
    course = made(80 * GIBI, one=study(coarse=(100, 100, 100)))
    assert (course.batch, course.slots, course.whole) == (1, 1, True)


def test_a_map_of_probabilities_takes_its_share() -> None:
    plain, more = made(80 * GIBI), made(80 * GIBI, one=study(shares=True))
    assert dict(more.buffers)["shares"] == 4 * 334 * 234 * 234
    assert more.needed > plain.needed


def test_labels_and_shares_find_room_where_the_volume_was() -> None:
    bytes_ = replace(study(), itemsize=1, shares=True)
    assert dict(made(80 * GIBI, one=bytes_).buffers)["source"] == 2 * 500 * 512 * 512


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 12), st.integers(1, 12)),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.integers(1, 90),
    st.integers(1, 6),
    st.integers(1, 8),
    st.floats(0.01, 1.2),
    st.booleans(),
)
def test_every_tile_row_and_slice_is_there_once(  # noqa: PLR0917 - hypothesis fills them in
    coarse: tiles.Size, tile: tiles.Size, slices: int, channels: int, batch: int, share: float, shares: bool
) -> None:
    one = study(source=(slices, 5, 7), coarse=coarse, tile=tile, channels=channels, shares=shares)
    whole = plan(one, batch=batch, network_bytes=0, available=10**12)
    try:
        course = plan(one, batch=batch, network_bytes=0, available=int(whole.needed * share))
    except ModelError:
        return
    assert course.needed <= max(int(whole.needed * share), 0)
    assert 1 <= course.batch <= batch
    assert [index for slab in course.slabs for index in range(slab.first, slab.first + slab.patches)] == list(
        range(one.layout.count)
    )
    row = 0
    for slab in course.slabs:
        assert slab.row == row
        row += slab.done
        reach = one.layout.tile[0] if not course.whole else one.padded[0]
        assert reach <= course.rows
    assert row == one.padded[0]
    assert [index for part in course.parts for index in range(part.slices[0], sum(part.slices))] == list(range(slices))
    for part in course.parts:
        first, count = part.rows
        assert count <= course.rows
        assert first + count <= coarse[0]
        for index in range(part.slices[0], sum(part.slices)):
            assert first <= one.back[index]
            assert min(one.back[index] + 2, coarse[0]) <= first + count


def test_parts_begin_where_a_slab_is_full() -> None:
    found = parts((0, 0, 1, 2, 3, 3), rows=2, total=5)
    assert [(part.slices, part.rows) for part in found] == [
        ((0, 2), (0, 2)),
        ((2, 1), (1, 2)),
        ((3, 1), (2, 2)),
        ((4, 2), (3, 2)),
    ]
