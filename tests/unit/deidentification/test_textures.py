"""Codes aslant, grey, blurred, inverted and mirrored: found by their texture; anatomy, noise, grids and letters are none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dicomnode.deidentification.barcodes import barcodes
from dicomnode.deidentification.textures import textured
from tests.unit.deidentification.hands import GROUNDS, ground, put, written_by_hand

SIZE = 256


def modules(kind: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Random modules of a square code with its finder patterns or rings, or of bars, or of stacked bars."""
    if kind == "bars":
        line = np.repeat(np.arange(40) % 2, rng.integers(1, 4, 40))
        return np.repeat(line[None], 40, axis=0).astype(np.uint8)
    if kind == "stacked":
        rows = [np.repeat(np.arange(40) % 2, rng.integers(1, 4, 40))[:70] for _ in range(8)]
        return np.repeat(np.stack(rows), 4, axis=0).astype(np.uint8)
    code = rng.integers(0, 2, (23, 23)).astype(np.uint8)
    if kind == "rings":
        away = np.maximum(*np.abs(np.mgrid[:23, :23] - 11))
        code = np.where(away <= 5, away % 2, code).astype(np.uint8)
    else:
        code[0], code[:, 0], code[-1, ::2], code[::2, -1] = 0, 0, 1, 1
    return code


def code(kind: str, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A picture with a code in it, and where."""
    rng = np.random.default_rng(seed)
    module = int(rng.integers(2, 5)) if kind in ("matrix", "rings") else int(rng.integers(1, 3))
    plain = np.pad(
        np.kron(modules(kind, rng), np.ones((1 if kind == "bars" else module, module))), 2 * module, constant_values=1
    )
    if rng.integers(2):
        plain = 1 - plain
    low, span = float(rng.integers(20, 90)), float(rng.integers(80, 160))
    shown = Image.fromarray((low + span * plain[:, :: 1 if rng.integers(2) else -1]).astype(np.uint8))
    angle = int(rng.integers(0, 360))
    turned = np.asarray(shown.rotate(angle, Image.Resampling.BICUBIC, expand=True)).astype(float)
    there = np.asarray(Image.new("L", shown.size, 255).rotate(angle, expand=True)) > 127
    turned = ndimage.gaussian_filter(turned, float(rng.uniform(0, 0.7)))
    behind = ground(GROUNDS[seed % len(GROUNDS)], seed, SIZE)
    picture = (behind - behind.min()) * (255 / max(float(np.ptp(behind)), 1.0))
    rows, columns = (int(rng.integers(0, SIZE - size)) for size in turned.shape)
    part = np.s_[rows : rows + turned.shape[0], columns : columns + turned.shape[1]]
    picture[part][there] = turned[there]
    ink = np.zeros(picture.shape, bool)
    ink[part] = there
    return np.repeat(picture.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), ink


@pytest.mark.parametrize("kind", ["matrix", "rings", "bars", "stacked"])
def test_codes_however_they_stand(kind: str) -> None:
    covered = []
    for seed in range(12):
        picture, ink = code(kind, seed)
        mask = np.zeros(ink.shape, bool)
        for x0, y0, x1, y1 in barcodes(picture):
            mask[y0 : y1 + 1, x0 : x1 + 1] = True
        covered.append(float(mask[ink].mean()))
    assert sum(share > 0.6 for share in covered) >= 9, covered


@pytest.mark.parametrize("kind", GROUNDS)
def test_what_is_no_code(kind: str) -> None:
    for seed in range(3):
        picture = ground(kind, seed)
        put(picture, written_by_hand("HANNA BERNER", 14), 1500, (20, 20))
        eight = ((picture - picture.min()) * (255 / max(float(np.ptp(picture)), 1.0))).astype(np.uint8)
        assert textured(np.repeat(eight[..., None], 3, axis=2)) == []
    assert textured(np.zeros((20, 300, 3), np.uint8)) == []
