from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom import Dataset

from dicomnode.config import Config
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, read_dataset
from dicomnode.errors import ModelError, StudyError
from dicomnode.findings import Findings
from dicomnode.inference import standin
from dicomnode.results.encode import KeyImage
from dicomnode.study import ResultRole
from dicomnode.workflow.analysis import Analysis, Analyst, Copied, contours_of, copy_series, picture_of, unpack_labels
from tests.unit.workflow.samples import EXPLICIT, KEY, encoded, tiny_series

ISSUED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def deidentifier() -> Deidentifier:
    return Deidentifier(AI, Pseudonyms(KEY, project="tests", default_issuer="", maximum_date_shift_days=3650))


def analyst(tree: Config | None = None) -> Analyst:
    package = standin.package()
    return Analyst(
        package,
        standin.StandInEngine(package.manifest),
        deidentifier(),
        tree=tree or Config(),
        derivation_key=KEY,
        issued_at=lambda key: ISSUED,
    )


def read(image: Dataset) -> Dataset:
    return read_dataset(encoded(image), EXPLICIT, Limits())


@pytest.fixture(scope="module")
def copied() -> Copied:
    """Pseudonymous copies of the tiny chest; to be copied before use."""
    return copy_series(map(read, tiny_series()), deidentifier())


@pytest.fixture(scope="module")
def analysis(copied: Copied) -> Analysis:
    """What the stand-in makes of it."""
    return analyst().analyse(deepcopy(copied.datasets)[::-1])


def test_a_series_is_copied_with_the_identity_that_it_lost(copied: Copied) -> None:
    sources = tiny_series()
    assert len(copied.datasets) == len(sources)
    assert {str(one.PatientName) for one in copied.datasets}.isdisjoint({str(sources[0].PatientName)})
    originals = set(copied.identity.uids.values())
    assert {str(one.SOPInstanceUID) for one in sources} <= originals
    for copy, source in zip(copied.datasets, sources, strict=True):
        assert copied.identity.uids[str(copy.SOPInstanceUID)] == str(source.SOPInstanceUID)
    assert "Phantom" not in repr(copied)


def test_a_series_without_images_is_none() -> None:
    with pytest.raises(StudyError, match="no-suitable-series"):
        copy_series([], deidentifier())


def test_the_lungs_are_found_and_measured_in_source_order(analysis: Analysis) -> None:
    assert set(np.unique(analysis.labels)) == {0, 1, 2}
    positions = [float(one.ImagePositionPatient[2]) for one in analysis.sources]
    assert positions == sorted(positions)
    assert all("PixelData" not in one for one in analysis.sources)
    assert analysis.labels.shape == analysis.volume.values.shape
    names = {item.concept.meaning for region in analysis.findings.regions for item in region.measurements}
    assert "Volume" in names
    assert analysis.findings.algorithm.engine == "stand-in fp32"


def test_what_was_sealed_recalls_the_same_analysis(analysis: Analysis, copied: Copied) -> None:
    recalled = analyst().recall(deepcopy(copied.datasets), analysis.packed_labels(), analysis.findings.to_json())
    assert np.array_equal(recalled.labels, analysis.labels)
    assert np.array_equal(recalled.volume.values, analysis.volume.values)
    assert recalled.findings == analysis.findings == Findings.from_json(analysis.findings.to_json())
    assert [one.SOPInstanceUID for one in recalled.sources] == [one.SOPInstanceUID for one in analysis.sources]


def test_labels_are_packed_small_and_unpack_to_themselves(analysis: Analysis) -> None:
    packed = analysis.packed_labels()
    assert len(packed) < analysis.labels.size / 4
    assert np.array_equal(unpack_labels(packed), analysis.labels)


def results(
    what: Analysis, copied: Copied, tree: Config | None = None, digest: str = "d" * 64
) -> dict[ResultRole, str]:
    picture = KeyImage(rgb=np.zeros((64, 64, 3), np.uint8), slices=(4,))
    made = analyst(tree).encode(what, picture, identity=copied.identity, input_digest=digest)
    return {one.role: f"{one.sop_instance_uid} {one.digest}" for one in made}


def test_equal_input_makes_equal_bytes_and_any_other_setting_other_uids(analysis: Analysis, copied: Copied) -> None:
    first = results(analysis, copied)
    assert set(first) == set(ResultRole)
    assert results(analysis, copied) == first
    other = Config.model_validate({"node": {"station_name": "OTHER"}})
    for changed in (results(analysis, copied, digest="e" * 64), results(analysis, copied, other)):
        for role, text in changed.items():
            assert text.split()[0] != first[role].split()[0]


def test_each_segment_has_its_outline_and_the_picture_its_slices(analysis: Analysis) -> None:
    outlines = contours_of(analysis)
    assert [one.segment for one in outlines] == [1, 2]
    for one in outlines:
        assert len(one.points) > 3
        assert (analysis.labels[one.slice_index] == one.segment).any()
    picture = picture_of(analysis)
    assert picture.rgb.dtype == np.uint8
    assert 1 <= len(picture.slices) <= 3


def test_a_study_in_which_nothing_is_found_says_so(copied: Copied) -> None:
    empty = deepcopy(copied.datasets)
    for one in empty:
        one.PixelData = np.full((one.Rows, one.Columns), 1024, "<u2").tobytes()
    with pytest.raises(StudyError, match="nothing-found"):
        analyst().analyse(empty)


def test_a_closed_engine_fails_with_a_code(copied: Copied) -> None:
    closed = analyst()
    closed.close()
    with pytest.raises(ModelError, match="inference-failed"):
        closed.analyse(deepcopy(copied.datasets))
