"""Decoding ahead: in parallel, in the order that is asked for, and a bad image costs itself alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicomnode.errors import StudyError
from dicomnode.imaging import ahead
from dicomnode.imaging.ahead import DecodingAhead
from dicomnode.imaging.decode import Decoder
from tests.unit.imaging.slices import slice_of
from tests.unit.imaging.test_decode import MEMORY, RAMP, compressed


@pytest.fixture
def two() -> Iterator[DecodingAhead]:
    with DecodingAhead(children=2, timeout_seconds=60, memory_bytes=MEMORY) as it:
        yield it


def test_images_come_out_as_they_are_asked_for(two: DecodingAhead) -> None:
    syntaxes = [JPEG2000Lossless, JPEGLSLossless, RLELossless]
    images = [compressed(syntaxes[index % 3], RAMP + index) for index in range(9)]
    for image in images:
        two.begin(image)
    for index in (8, *range(8)):
        np.testing.assert_array_equal(two.pixels(images[index]), RAMP + index)


def test_native_images_and_those_that_nobody_announced_are_read_all_the_same(two: DecodingAhead) -> None:
    native = slice_of(RAMP)
    two.begin(native)
    np.testing.assert_array_equal(two.pixels(native), RAMP)
    assert [decoder._child for decoder in two._decoders] == [None, None]
    np.testing.assert_array_equal(two.pixels(compressed(RLELossless)), RAMP)


def test_a_bad_image_costs_itself_alone(two: DecodingAhead) -> None:
    bomb = compressed(RLELossless)
    bomb.Rows = bomb.Columns = 65535
    bomb.BitsAllocated = bomb.BitsStored = 32
    bomb.HighBit = 31
    garbage = compressed(JPEG2000Lossless)
    garbage.PixelData = encapsulate([b"\xff\x4f" + b"garbage" * 40])
    good = [compressed(RLELossless, RAMP + index) for index in range(4)]
    for image in (good[0], bomb, good[1], garbage, good[2], good[3]):
        two.begin(image)
    for bad in (bomb, garbage):
        with pytest.raises(StudyError) as caught:
            two.pixels(bad)
        assert caught.value.code == "pixel-undecodable"
    for index, image in enumerate(good):
        np.testing.assert_array_equal(two.pixels(image), RAMP + index)


def test_as_many_as_there_are_children_are_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3, timeout=30)

    class Waiting(Decoder):
        def pixels(self, dataset: Any) -> Any:
            together.wait()
            return RAMP

    monkeypatch.setattr(ahead, "Decoder", Waiting)
    images = [compressed(RLELossless) for _ in range(3)]
    with DecodingAhead(children=3, timeout_seconds=60, memory_bytes=MEMORY) as it:
        for image in images:
            it.begin(image)
        assert all(it.pixels(image) is RAMP for image in images)


def test_what_nobody_asked_for_is_left(two: DecodingAhead) -> None:
    for _ in range(50):
        two.begin(compressed(RLELossless))
    two.close()
    assert [decoder._child for decoder in two._decoders] == [None, None]


def test_at_least_one_child_decodes() -> None:
    with pytest.raises(ValueError, match="at least one"):
        DecodingAhead(children=0, timeout_seconds=60, memory_bytes=MEMORY)
