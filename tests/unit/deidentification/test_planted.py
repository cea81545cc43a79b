"""The engine against planted identifiers: none survives, and what is needed does."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests.unit.deidentification import planted

LIMITS = Limits(header_scan_bytes=1 << 20, maximum_nesting=32, maximum_items=100_000, maximum_inflated_bytes=1 << 30)
PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
SOP_CLASSES = (
    planted.CT,
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.481.3",
)


def output_of(dataset: Dataset, policy: Policy, syntax: str = planted.EXPLICIT) -> bytes:
    source = read_part10(planted.encoded(dataset, syntax), LIMITS)
    result = Deidentifier(policy, PSEUDONYMS).deidentify(source)
    assert result.leaks == ()
    return encode_part10(result.dataset, transfer_syntax_uid=str(result.dataset.file_meta.TransferSyntaxUID))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [planted.EXPLICIT, planted.IMPLICIT])
@pytest.mark.parametrize("sop_class_uid", SOP_CLASSES)
def test_a_token_in_every_attribute_survives_nowhere(sop_class_uid: str, syntax: str) -> None:
    source = planted.everywhere(sop_class_uid)
    assert source.survivors(output_of(source.dataset, EXPORT, syntax)) == {}


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
def test_needed_values_are_kept(policy: Policy) -> None:
    source = planted.slice_of_ct()
    output = read_part10(output_of(source, policy), LIMITS)
    lost = [keyword for keyword in planted.NEEDED if output.get(keyword) != source.get(keyword)]
    assert lost == []
    assert output.SeriesDescription == "Thorax 5.0mm B31s"
    assert output.StudyDescription == "CT Chest"
