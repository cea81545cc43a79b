"""Objects of many kinds, planted hard: nothing planted comes out, everything needed does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import Object, ct, kinds

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
BIG_ENDIAN = "1.2.840.10008.1.2.2"
#: What Retain Device Identity keeps under the policy of the network, in the house.
DEVICE = {"station", "serial", "machine", "detector", "cassette", "plate", "device name"}

pytestmark = pytest.mark.filterwarnings("ignore")


def output_of(one: Object, policy: Policy, syntax: str) -> tuple[bytes, Dataset]:
    source = read_part10(one.raw(planted.encoded(one.dataset, syntax)), Limits())
    result = Deidentifier(policy, PSEUDONYMS).deidentify(source)
    assert result.leaks == ()
    data = encode_part10(result.dataset, transfer_syntax_uid=str(result.dataset.file_meta.TransferSyntaxUID))
    return data, read_part10(data, Limits())


def _cases() -> list[Any]:
    """Kinds and transfer syntaxes; a CT's UN values are little endian, which pydicom cannot write into a big endian file."""
    syntaxes = (planted.EXPLICIT, planted.IMPLICIT, BIG_ENDIAN)
    return [
        pytest.param(make, syntax, id=f"{make.__name__}-{syntax}")
        for make in kinds()
        for syntax in syntaxes
        if (make, syntax) != (ct, BIG_ENDIAN)
    ]


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
@pytest.mark.parametrize(("make", "syntax"), _cases())
def test_nothing_planted_comes_out_and_everything_needed_does(
    make: Callable[[], Object], policy: Policy, syntax: str
) -> None:
    one = make()
    if syntax == BIG_ENDIAN:
        one.needed = [path for path in one.needed if not path.endswith(("PixelData", "WaveformData"))]  # other bytes
    data, output = output_of(one, policy, syntax)
    kept = DEVICE if policy is AI else set()
    assert (set(one.leaks(data)) - kept, one.lost(output)) == (set(), [])
