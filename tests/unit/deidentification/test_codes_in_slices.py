"""Codes that show by their texture alone in slices as scanners make them: blanked where they are, noise of air left as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.children import DecodingLimits
from dicomnode.deidentification.frames import frames_of
from dicomnode.deidentification.policy import EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.unflagged import is_ordinary, suspicion
from dicomnode.encoded import Limits, read_part10
from tests.unit.deidentification import planted
from tests.unit.deidentification.pictures import Silent
from tests.unit.deidentification.test_inks import SIZE, Slice, slice_of, tissue
from tests.unit.deidentification.test_textures import modules


def blanked(image: Slice) -> Slice:
    engine = FileDeidentifier(Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project"), reader=Silent()), Limits())
    done = read_part10(engine.deidentify(planted.encoded(slice_of(image))).data, Limits())
    return np.frombuffer(done.PixelData, "<u2").reshape(SIZE, SIZE)


@pytest.mark.parametrize(("kind", "high"), [("rings", 300), ("rings", 1200), ("stacked", 1200)])
def test_a_code_that_shows_strokes_is_blanked(kind: str, high: int) -> None:
    image = tissue(5, noise=4).astype(np.int64)
    shape = np.kron(modules(kind, np.random.default_rng(7)), np.ones((3, 1 if kind == "stacked" else 3), np.int64))
    place = np.s_[SIZE - 20 - shape.shape[0] : SIZE - 20, 20 : 20 + shape.shape[1]]
    image[place] = 100 + shape * high
    source = image.astype(np.uint16)
    dataset = slice_of(source)
    assert suspicion(dataset, str(dataset.SOPClassUID), DecodingLimits(), reads=True) == "strokes"
    assert is_ordinary(dataset, str(dataset.SOPClassUID))
    done = blanked(source)
    assert (done[place] == done.min()).mean() > 0.6
    assert np.array_equal(done[:60], source[:60])


def test_air_beside_the_body_is_no_code(shared_data: Callable[[str], Path]) -> None:
    """A slice at the upper end of a chest, sharp kernel: a narrow contrast leaves the noise of its air two values."""
    path = shared_data("ct_chest_philips64") / "1-03.dcm"
    source = dcmread(path)
    assert suspicion(source, str(source.SOPClassUID), DecodingLimits(), reads=True) == "strokes"
    engine = FileDeidentifier(Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project"), reader=Silent()), Limits())
    done = read_part10(engine.deidentify(path.read_bytes()).data, Limits())
    shown, before = (frames_of(ds, DecodingLimits()).values for ds in (done, source))
    assert np.array_equal(shown, before)
