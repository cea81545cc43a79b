"""Which window a picture has: the source's own where it shows anything, else one of the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.imaging.windows import window_of

VALUES = np.linspace(0, 1000, 2500).reshape(50, 50)


def header(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    ("centre", "width", "window"),
    [
        ("500", "800", (500, 800)),
        (["400", "40"], ["600", "80"], (400, 600)),
        ("40.5", "80", (40.5, 80)),
    ],
)
def test_the_window_of_the_source(centre: Any, width: Any, window: Any) -> None:
    assert window_of(header(WindowCenter=centre, WindowWidth=width), VALUES) == window


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"WindowCenter": "500"},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": "500", "WindowWidth": "0"},
        {"WindowCenter": "-600", "WindowWidth": "1000"},
    ],
)
def test_else_one_of_the_values(values: Any) -> None:
    centre, width = window_of(header(**values), VALUES)
    assert centre == pytest.approx(507.5, abs=1)
    assert width == pytest.approx(975, abs=1)


def test_an_even_image_has_a_window_too() -> None:
    assert window_of(header(), np.zeros((4, 4))) == (0, 1)


def test_what_shows_low_values_bright_stays_so() -> None:
    one = header(WindowCenter="500", WindowWidth="800", PhotometricInterpretation="MONOCHROME1")
    assert window_of(one, VALUES) == (500, -800)
