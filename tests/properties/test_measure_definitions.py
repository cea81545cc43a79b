"""Statistics against numpy's, for any values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode import coding
from dicomnode.findings import Segment
from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.measure import Acquisition, measure
from dicomnode.manifest import Density

LUNG = Segment(
    number=1,
    label="Lung",
    category=coding.ANATOMICAL_STRUCTURE,
    type=coding.LUNG,
    laterality=None,
    colour=(0, 0, 0),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-1500, 3000), min_size=1, max_size=99), st.sampled_from([np.int16, np.float32]))
def test_numbers_agree_with_their_definitions(values: Any, kind: Any) -> None:
    count = len(values)
    array = np.full((2, 2, count), 5000, kind)
    array[1, 1] = values
    labels = np.zeros(array.shape, np.uint8)
    labels[1, 1] = 1
    geometry = VolumeGeometry(
        origin=(0.0, 0.0, 0.0),
        row_direction=(1.0, 0.0, 0.0),
        column_direction=(0.0, 1.0, 0.0),
        slice_direction=(0.0, 0.0, 1.0),
        spacing=(1.0, 1.0, 1.0),
        shape=array.shape,
        frame_of_reference_uid="1",
        order=(0, 1),
    )
    acquisition = Acquisition(slice_thickness_mm=1.0, kernel=None, contrast=False)
    (region,), _ = measure(array, labels, None, geometry, (LUNG,), density=Density(), acquisition=acquisition)
    found = {item.concept: item.value for item in region.measurements}
    assert found[coding.VOLUME] == pytest.approx(count / 1000)
    assert found[coding.MEAN_LUNG_DENSITY] == pytest.approx(np.mean(values))
    assert found[coding.LAA_950] == pytest.approx(100 * np.mean(np.array(values) < -950))
    rank = -(-15 * count // 100)
    assert found[coding.PERC15] == sorted(values)[rank - 1]
    if count % 20:  # there, 15 % of the count is whole, and floats of numpy may err by one rank
        assert found[coding.PERC15] == np.percentile(values, 15, method="inverted_cdf")
