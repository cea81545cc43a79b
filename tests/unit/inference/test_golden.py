"""The golden input reaches every label of a real model; an engine that strays from the reference does not serve."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dicomnode.inference import golden, package
from dicomnode.inference.engine import check_batch
from dicomnode.inference.onnx import OnnxEngine
from tests.unit.inference.models import tiny_manifest

REFERENCE = np.random.default_rng(3).normal(size=(1, 3, 8, 8, 8)).astype(np.float32)


def test_the_shipped_network_finds_all_its_labels_in_it() -> None:
    shipped = package.load(package.shipped_models_folder() / "ct-lung")
    batch = golden.golden_batch(shipped.manifest, (80, 112, 112))
    check_batch(batch, shipped.manifest)
    engine = OnnxEngine.from_package(shipped, threads=1)
    logits = engine.run(batch)
    verdict = golden.judge(logits, logits, "fp32")
    assert verdict.labels == 3
    assert verdict.may_serve
    assert verdict.error == verdict.differing == 0


def test_it_is_the_same_everywhere_and_within_the_scale() -> None:
    centred = golden.golden_batch(tiny_manifest(), (8, 8, 8), patches=2)
    shares = golden.golden_batch(
        tiny_manifest(lambda values: values["preprocess"]["intensity"].update(scale="zero-to-one")),
        (8, 8, 8),
        patches=2,
    )
    assert centred.shape == (2, 1, 8, 8, 8)
    assert np.array_equal(centred, golden.golden_batch(tiny_manifest(), (8, 8, 8), patches=2))
    assert not np.array_equal(centred[0], centred[1])
    assert (centred.min(), shares.min()) == (-1, 0)
    np.testing.assert_array_equal(centred, shares * 2 - 1)
    assert len(np.unique(np.round(shares, 1))) > 4


def test_sizes_are_a_tile_and_a_piece() -> None:
    assert golden.golden_sizes(tiny_manifest()) == ((32, 32, 32), (16, 16, 16))
    fixed = tiny_manifest(lambda values: values["preprocess"].update(multiple_of=[32, 32, 32]))
    assert golden.golden_sizes(fixed) == ((32, 32, 32),)


@pytest.mark.parametrize("precision", golden.TOLERANCES)
def test_an_error_of_a_logit_beyond_the_tolerance_is_seen(precision: str) -> None:
    error, _ = golden.TOLERANCES[precision]
    for share, serves in ((0.5, True), (2.0, False)):
        strayed = REFERENCE.copy()
        at = np.unravel_index(REFERENCE.argmax(), REFERENCE.shape)  # leads anyway: no label changes
        strayed[at] += share * error * REFERENCE.std()
        assert golden.judge(strayed, REFERENCE, precision).may_serve is serves


def test_labels_that_differ_are_seen_however_small_the_error() -> None:
    close = REFERENCE * np.float32(1e-6)
    other = close.copy()
    other[:, 0] += 4e-6
    base = np.concatenate([close, np.full((1, 3, 8, 8, 8), 1.0, np.float32)])
    verdict = golden.judge(np.concatenate([other, base[1:]]), base, "fp16")
    assert verdict.error < 1e-4
    assert not verdict.may_serve
    assert "must not serve" in str(verdict)


@pytest.mark.parametrize("spoil", [lambda logits: logits[..., :-1], lambda logits: np.full_like(logits, np.nan)])
def test_nonsense_does_not_serve(spoil: object) -> None:
    assert not golden.judge(spoil(REFERENCE), REFERENCE, "int8").may_serve  # type: ignore[operator]


def test_a_verdict_speaks() -> None:
    verdict = golden.judge(REFERENCE, REFERENCE, "fp16")
    assert str(verdict).startswith("may serve: greatest error 0 of the logits' spread (allowed 0.03)")
    assert not replace(verdict, independent=False).may_serve
