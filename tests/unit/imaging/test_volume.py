"""Volumes out of slices: rescaling, padding, types, order."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicomnode.errors import StudyError
from dicomnode.imaging import volume
from dicomnode.imaging.decode import Decoder
from dicomnode.imaging.geometry import canonical_axes
from tests.unit.imaging.slices import slice_of

RANDOM = np.random.default_rng(7)
STORED = RANDOM.integers(0, 4096, (4, 5, 6)).astype(np.uint16)


def build(slices: Any) -> Any:
    with Decoder(timeout_seconds=60, memory_bytes=1 << 30) as decoder:
        return volume.build(slices, decoder=decoder)


def stack(stored: Any, **attributes: Any) -> Any:
    return [slice_of(plane, z=2.0 * k, **attributes) for k, plane in enumerate(stored)]


def test_plain_slices_become_int16_in_order_of_position() -> None:
    slices = stack(STORED, BitsStored=12, HighBit=11)
    built = build([slices[k] for k in (2, 0, 3, 1)])
    assert built.values.dtype == np.int16
    np.testing.assert_array_equal(built.values, STORED.astype(np.int16) - 1024)
    assert built.padding is None
    assert built.sop_instance_uids == tuple(item.SOPInstanceUID for item in slices)
    assert built.geometry.order == (1, 3, 0, 2)
    assert "1.2.3" not in repr(built)


def test_overlay_bits_are_no_density() -> None:
    dirty = STORED | 0xF000
    np.testing.assert_array_equal(build(stack(dirty, BitsStored=12, HighBit=11)).values, STORED.astype(np.int16) - 1024)


def test_slope_and_intercept_per_slice() -> None:
    slices = stack(STORED)
    slices[1].RescaleSlope, slices[1].RescaleIntercept = 2, -500
    built = build(slices)
    assert built.values.dtype == np.int16
    np.testing.assert_array_equal(built.values[1], STORED[1].astype(int) * 2 - 500)
    np.testing.assert_array_equal(built.values[2], STORED[2].astype(int) - 1024)


def test_a_slope_that_is_not_whole_makes_floats_without_losing_what_was_read() -> None:
    slices = stack(STORED)
    slices[2].RescaleSlope = 0.5
    built = build(slices)
    assert built.values.dtype == np.float32
    np.testing.assert_array_equal(built.values[0], STORED[0].astype(np.float32) - 1024)
    np.testing.assert_array_equal(built.values[2], STORED[2] * 0.5 - 1024)
    np.testing.assert_array_equal(built.values[3], STORED[3].astype(np.float32) - 1024)


def test_values_beyond_16_bits_become_floats() -> None:
    built = build(stack(np.full((2, 3, 3), 65000, np.uint16), RescaleIntercept=0))
    assert built.values.dtype == np.float32
    assert built.values.max() == 65000


def test_padding_value_is_compared_as_stored_and_holds_air() -> None:
    stored = STORED.astype(np.int16)
    stored[0, 0, :3] = -32768
    built = build(stack(stored, PixelPaddingValue=-32768))
    assert built.values.dtype == np.int16
    assert built.padding.sum() == 3
    assert built.padding[0, 0, :3].all()
    assert (built.values[0, 0, :3] == -1024).all()
    np.testing.assert_array_equal(built.values[1:], stored[1:] - 1024)


def test_padding_range() -> None:
    stored = STORED.copy()
    stored[1] = 3000
    stored[1, 0] = (100, 101, 102, 103, 104, 99)
    built = build(stack(stored, PixelPaddingValue=103, PixelPaddingRangeLimit=100))
    np.testing.assert_array_equal(built.padding[1, 0], [True, True, True, True, False, False])
    np.testing.assert_array_equal(built.padding, (stored >= 100) & (stored <= 103))


def test_padding_value_under_the_wrong_sign() -> None:
    stored = STORED.astype(np.int16)
    stored[0, 0, 0] = -2000
    slices = stack(stored)
    for item in slices:
        item.add_new("PixelPaddingValue", "US", 63536)
    assert build(slices).padding.sum() == 1


def test_undeclared_values_outside_the_circle() -> None:
    stored = STORED.astype(np.int16)
    stored[0, 0, 0] = -2000
    stored[0, 0, 1] = -400  # -1424 HU: a very noisy voxel, not padding
    built = build(stack(stored))
    assert np.argwhere(built.padding).tolist() == [[0, 0, 0]]
    assert built.values[0, 0, 0] == -1024
    assert built.values[0, 0, 1] == -1424


def test_monochrome1_keeps_its_hounsfield_units() -> None:
    built = build(stack(STORED, PhotometricInterpretation="MONOCHROME1"))
    np.testing.assert_array_equal(built.values, STORED.astype(np.int16) - 1024)


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"RescaleSlope": None}, "RescaleSlope"),
        ({"RescaleIntercept": None}, "RescaleIntercept"),
        ({"RescaleSlope": 0}, "RescaleSlope"),
        ({"RescaleSlope": None, "RescaleIntercept": None}, "RescaleSlope"),
    ],
)
def test_a_ct_says_how_it_is_rescaled(changes: Any, attribute: Any) -> None:
    with pytest.raises(StudyError) as caught:
        build(stack(STORED, **changes))
    assert caught.value.code == "rescale-attribute-missing"
    assert caught.value.facts == {"attribute": attribute}


@pytest.mark.parametrize("text", [b"nan", b"one"])
def test_a_rescale_that_is_no_number(text: Any) -> None:
    slices = stack(STORED)
    tag = Tag("RescaleSlope")
    slices[0]._dict[tag] = RawDataElement(tag, "DS", len(text), text, 0, False, True)
    with pytest.raises(StudyError, match="rescale-attribute-missing"):
        build(slices)


def test_other_modalities_need_no_rescale() -> None:
    stored = STORED.astype(np.int16) - 3000
    built = build(stack(stored, Modality="MR", RescaleSlope=None, RescaleIntercept=None))
    np.testing.assert_array_equal(built.values, stored)
    assert built.padding is None


def test_no_memory_is_taken_for_what_headers_claim() -> None:
    slices = stack(STORED)
    for item in slices:
        item.Rows = item.Columns = 65_535
    tracemalloc.start()
    with pytest.raises(StudyError, match="pixel-"):
        build(slices)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_decoder_that_gives_another_size() -> Any:
    class Wrong:
        def pixels(self, dataset: Any) -> Any:
            return np.zeros((2, 2), np.int16)

    with pytest.raises(StudyError, match="pixel-undecodable"):
        volume.build(stack(STORED), decoder=Wrong())


def test_canonical_is_a_view_that_grows_toward_superior_posterior_left() -> None:
    upside_down = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    built = build([slice_of(plane, z=2.0 * k, orientation=upside_down) for k, plane in enumerate(STORED)])
    turned = volume.canonical(built.values, built.geometry)
    assert np.shares_memory(turned, built.values)
    np.testing.assert_array_equal(turned, (STORED.astype(np.int16) - 1024)[:, :, ::-1])
    np.testing.assert_array_equal(volume.from_canonical(turned, built.geometry), built.values)
    channels = np.stack([built.values, built.values + 1])
    np.testing.assert_array_equal(volume.canonical(channels, built.geometry)[1], turned + 1)


def test_a_real_compressed_series(shared_data: Any) -> None:
    folder = shared_data("ct_body_siemens_j2k20_seg")
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "nii" not in path.name)
    slices = [pydicom.dcmread(path) for path in files][:4]
    for number, item in enumerate(slices):  # who published them took the UIDs away
        item.SOPInstanceUID, item.FrameOfReferenceUID = f"1.2.{number}", "1.3"
    built = build(slices)
    assert built.values.shape == (4, 512, 512)
    assert built.geometry.spacing[0] == pytest.approx(2.0)
    assert -1024 <= built.values.min() < -900
    assert canonical_axes(built.geometry).permutation == (0, 1, 2)


def test_padding_on_several_slices() -> None:
    stored = STORED.astype(np.int16)
    stored[1, 0, 0] = stored[3, 1, 1] = -3000
    built = build(stack(stored))
    assert built.padding is not None
    assert np.argwhere(built.padding).tolist() == [[1, 0, 0], [3, 1, 1]]


def test_a_slice_after_one_of_floats() -> None:
    slices = stack(STORED)
    slices[0].RescaleSlope = slices[2].RescaleSlope = 1.5
    built = build(slices)
    np.testing.assert_array_equal(built.values[2], STORED[2] * 1.5 - 1024)
    np.testing.assert_array_equal(built.values[3], STORED[3] - 1024.0)


def test_other_modalities_have_no_outside_of_the_circle() -> None:
    stored = STORED.astype(np.int16) - 3000
    built = build(stack(stored, Modality="MR", RescaleSlope=2, RescaleIntercept=0, PixelPaddingValue=int(stored.max())))
    assert built.padding is not None
    np.testing.assert_array_equal(built.padding, stored == stored.max())
    assert built.values.min() == stored.min() * 2
    plain = build(stack(stored, Modality="MR", RescaleSlope=2, RescaleIntercept=0))
    np.testing.assert_array_equal(plain.values, stored * 2)
