"""Makers' models that people are called too stay whole beside their product line; the same names elsewhere go."""

from __future__ import annotations

import pytest

from dicomnode.deidentification.labels import filtered, is_plain


@pytest.mark.parametrize(
    "model",
    ["SIGNA Victor", "Luminos dRF Max", "Axiom Iconos", "Clinac iX", "Giotto Class", "Aquilion ONE / PRISM Edition"],
)
def test_a_model_stays_whole(model: str) -> None:
    assert filtered(model, is_plain) == model


@pytest.mark.parametrize(("text", "left"), [("CT Victor", "CT"), ("Giotto", ""), ("CT Giotto", "CT"), ("MR Max", "MR")])
def test_a_name_beside_no_product_line_goes(text: str, left: str) -> None:
    assert filtered(text, is_plain) == left
