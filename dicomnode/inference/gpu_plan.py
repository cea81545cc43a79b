"""How a study fits a device: what memory its course takes, and slabs of it where the whole does not fit. Pure.

A course holds the volume, the network's input, the labels on the network's grid and the scores. The scores are what is
large (120 labels on 500 slices: gigabytes). Where they do not fit, the device holds those of one layer of tiles alone:
layers go from low z to high; rows that no later layer reaches are finished and go to the host; in the end they come
back, slab by slab, to be interpolated to the source's grid. Each score is summed in the same order either way.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dicomnode.errors import ModelError
from dicomnode.inference.tiles import Plan, Size

_ALIGNMENT: Final = 512  # of what a device allocates
_STAGING: Final = 32 * 1024 * 1024  # what drivers and copies take beside


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What a study asks of a device; sizes are (z, y, x) on canonical axes.

    Attributes
    ----------
    source, itemsize
        Voxels of the source's grid, and bytes of one.
    coarse, padded
        The network's grid, without and with its padding.
    layout
        Tiles over the padded grid.
    channels
        Of the network's output.
    back
        For each slice of the source the first row of the network's grid that it is interpolated from.
    tables
        Bytes of the tables of taps that are held at once.
    shares
        Whether a map of probabilities is wanted, too.
    """

    source: Size
    itemsize: int
    coarse: Size
    padded: Size
    layout: Plan
    channels: int
    back: tuple[int, ...]
    tables: int
    shares: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Slab:
    """Tiles that are run over one slab of scores.

    Attributes
    ----------
    first, patches
        Index of the first tile, in the order of the plan, and their number.
    row
        Row of the network's grid at which the slab begins.
    done
        Rows, from there on, that are finished after it.
    """

    first: int
    patches: int
    row: int
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Slices of the source (from, count) and the rows of scores (first, count) that they are interpolated from."""

    slices: tuple[int, int]
    rows: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a study goes over a device.

    Attributes
    ----------
    batch
        Most patches of one run.
    slots
        Batches and logits that are held at once: with two, patches are gathered while the network runs.
    rows
        Rows of the scores' slab.
    whole
        Whether all scores stay on the device.
    buffers
        Name and bytes of everything that is allocated.
    needed
        Bytes in all, the network's own included.
    """

    batch: int
    slots: int
    rows: int
    whole: bool
    slabs: tuple[Slab, ...]
    parts: tuple[Part, ...]
    buffers: tuple[tuple[str, int], ...]
    needed: int


def plan(study: Study, *, batch: int, network_bytes: int, available: int) -> Course:
    """The quickest course that fits: the whole rather than slabs, two slots rather than one, large batches.

    Parameters
    ----------
    batch
        Most patches that the network takes.
    network_bytes
        What the network takes of the device for itself.
    available
        Memory of the device that is free, bytes.

    Raises
    ------
    ModelError
        ``inference-failed``, ``device-too-small``, with the bytes that the smallest course needs.
    """
    needed = 0
    for rows, size, slots in _choices(study, batch):
        buffers = tuple(_buffers(study, rows=rows, batch=size, slots=slots))
        needed = network_bytes + _STAGING + sum(_aligned(bytes_) for _, bytes_ in buffers)
        if needed <= available:
            whole = rows == study.padded[0]
            return Course(
                batch=size,
                slots=slots,
                rows=rows,
                whole=whole,
                slabs=_slabs(study, whole=whole),
                parts=parts(study.back, rows=rows, total=study.coarse[0]),
                buffers=buffers,
                needed=needed,
            )
    raise ModelError("inference-failed", cause="device-too-small", needed=needed, available=max(0, available))


def parts(back: Sequence[int], *, rows: int, total: int) -> tuple[Part, ...]:
    """Slices of the source, in order, by the rows that a slab holds; each needs its first row and the next.

    Parameters
    ----------
    back
        First row of each slice, ascending.
    total
        Rows that there are.
    """
    found: list[Part] = []
    start = 0
    for index in range(1, len(back) + 1):
        if index < len(back) and min(back[index] + 2, total) - back[start] <= rows:
            continue
        first, last = back[start], min(back[index - 1] + 2, total)
        found.append(Part(slices=(start, index - start), rows=(first, last - first)))
        start = index
    return tuple(found)


def _choices(study: Study, batch: int) -> Iterator[tuple[int, int, int]]:
    """Rows, batch and slots, best first."""
    whole = study.padded[0]
    tile = study.layout.tile[0]
    for rows in (whole, *((max(tile, 2),) if tile < whole else ())):
        size = min(batch, study.layout.count)
        while size >= 1:
            for slots in (2, 1):
                if slots == 1 or study.layout.count > size:
                    yield rows, size, slots
            size //= 2


def _buffers(study: Study, *, rows: int, batch: int, slots: int) -> Iterator[tuple[str, int]]:
    _, y, x = study.padded
    tile = math.prod(study.layout.tile)
    # Labels and shares of the source's grid are written where the volume was: nobody reads that any more.
    yield "source", math.prod(study.source) * max(study.itemsize, 2 if study.shares else 1)
    yield "coarse", 4 * math.prod(study.padded)
    yield "labels", math.prod(study.padded)
    yield "scores", 4 * study.channels * rows * y * x
    if study.shares:
        yield "shares", 4 * rows * y * x
    yield "tables", study.tables
    yield "origins", 12 * study.layout.count
    yield "weights", 4 * sum(len(axis.starts) * axis.size for axis in study.layout.axes)
    for slot in range(slots):
        yield f"batch{slot}", 4 * batch * tile
        yield f"logits{slot}", 4 * batch * study.channels * tile


def _slabs(study: Study, *, whole: bool) -> tuple[Slab, ...]:
    layout, total = study.layout, study.padded[0]
    if whole:
        return (Slab(first=0, patches=layout.count, row=0, done=total),)
    starts = layout.axes[0].starts
    each = layout.count // len(starts)
    ends = (*starts[1:], total)
    return tuple(
        Slab(first=index * each, patches=each, row=start, done=end - start)
        for index, (start, end) in enumerate(zip(starts, ends, strict=True))
    )


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
