"""The leak check on outputs that anybody made: it needs no walk before it to find what the source held."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.leakcheck import Leak, encoded_without_pixels, find_leaks
from dicomnode.deidentification.policy import EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

pytestmark = pytest.mark.filterwarnings("ignore")


def source_and_output(**changes: object) -> tuple[Dataset, Dataset]:
    source = planted.slice_of_ct()
    for keyword, value in changes.items():
        setattr(source, keyword, value)
    output = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project")).deidentify(source).dataset
    assert find_leaks(source, output) == ()
    return source, output


@pytest.mark.parametrize(("keyword", "tag"), [("ScanOptions", 0x00180022), ("SeriesDescription", 0x0008103E)])
def test_an_identifier_with_a_mark_in_terms_and_texts(keyword: str, tag: int) -> None:
    source, output = source_and_output(PatientID="A1B2")
    setattr(output, keyword, "A1_B2")
    assert find_leaks(source, output) == (Leak(kind="code", tag=tag),)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95"])
def test_deflated_objects_are_searched_inflated(syntax: str) -> None:
    source, output = source_and_output(PatientName="Wolkenstein^Jane")
    output.file_meta.TransferSyntaxUID = UID(syntax)
    assert find_leaks(source, output) == ()
    output.add_new(0x00281201, "OW", b"Wolkenstein ")  # no value that is decoded
    assert b"Wolkenstein" in encoded_without_pixels(output)
    assert find_leaks(source, output) == (Leak(kind="name", tag=0),)


@pytest.mark.parametrize(
    ("tag", "vr"), [(0x7FE00008, "OF"), (0x7FE00009, "OD"), (0x7FE00010, "OW"), (0x00281201, "OW")]
)
def test_pixels_are_no_text(tag: int, vr: str) -> None:
    source, output = source_and_output(PatientName="Wolkenstein^Jane")
    output.add_new(tag, vr, b" Wolkenstein    ")
    assert bool(find_leaks(source, output)) is (vr == "OW" and tag != 0x7FE00010)
