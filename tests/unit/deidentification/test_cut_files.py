"""Files that end too early: at the end of an element nothing is torn, and what is left says whether it is whole."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.kinds import is_image
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import Limits
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import kinds

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
FILES = FileDeidentifier(Deidentifier(EXPORT, PSEUDONYMS), Limits())
#: Of a site that has headers alone, as real sample files of character sets are.
HEADERS = FileDeidentifier(Deidentifier(replace(EXPORT, headers_alone=True), PSEUDONYMS), Limits())
Shared = Callable[[str], Path]
STORAGE = "1.2.840.10008.5.1.4.1.1."
LAST_OF_DESCRIPTION = 0x00280100
NO_IMAGES = ("SR", "RTSTRUCT", "RTPLAN", "PR", "KO", "REG", "ECG")

pytestmark = pytest.mark.filterwarnings("ignore")


def until(dataset: Dataset, tag: int) -> bytes:
    """A file that ends with the elements before a tag."""
    whole = pydicom.dcmread(io.BytesIO(planted.encoded(dataset, planted.EXPLICIT)))
    for later in [element for element in whole.keys() if element >= tag]:  # noqa: SIM118 - not parsed
        del whole[later]
    return planted.encoded(whole, planted.EXPLICIT)


@pytest.mark.parametrize("files", [FILES, HEADERS], ids=["withheld", "passed"])
@pytest.mark.parametrize("tag", [0x00080060, 0x00100010, 0x0020000D, 0x00280002, 0x00280010, LAST_OF_DESCRIPTION])
def test_an_image_that_says_nothing_of_its_pixels_is_cut(tag: int, files: FileDeidentifier) -> None:
    with pytest.raises(StudyError, match="object-malformed") as caught:
        files.deidentify(until(planted.slice_of_ct(), tag))
    assert caught.value.facts["because"] == "cut"


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
@pytest.mark.parametrize("last", ["2", "4", "1.1", "66.4", "30", "7"])
def test_a_header_that_describes_its_pixels_is_withheld_without_them(last: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.SOPClassUID = STORAGE + last
    with pytest.raises(StudyError, match="withheld-pixels") as caught:
        FileDeidentifier(Deidentifier(policy, PSEUDONYMS), Limits()).deidentify(until(ds, 0x7FE00010))
    assert caught.value.facts["because"] == "missing"


def test_a_header_may_stand_alone_where_the_site_says_so_or_it_names_where_its_pixels_are() -> None:
    ds = planted.slice_of_ct()
    assert pydicom.dcmread(io.BytesIO(HEADERS.deidentify(until(ds, 0x7FE00010)).data)).Rows == 8
    ds.PixelDataProviderURL = "https://pacs.example/jpip?target=1"
    done = pydicom.dcmread(io.BytesIO(FILES.deidentify(until(ds, 0x7FE00010)).data))
    assert done.Rows == 8
    assert "pacs.example" not in str(done)
    ds.PixelDataProviderURL = ""
    with pytest.raises(StudyError, match="withheld-pixels"):
        FILES.deidentify(until(ds, 0x7FE00010))


def test_what_has_no_pixels_by_its_definition_needs_no_description() -> None:
    done = set()
    for make in kinds():
        dataset = make().dataset
        if dataset.Modality in NO_IMAGES:
            FILES.deidentify(planted.encoded(dataset, planted.EXPLICIT))
            done.add(dataset.Modality)
    assert len(done) > 3


@pytest.mark.parametrize("name", ["chrJapMulti", "chrKoreanMulti", "chrJapMultiExplicitIR6"])
def test_real_headers_that_stand_alone(shared_data: Shared, name: str) -> None:
    data = (shared_data("pydicom_testfiles") / f"charset_files/{name}.dcm").read_bytes()
    assert HEADERS.deidentify(data).data
    with pytest.raises(StudyError, match="withheld-pixels"):
        FILES.deidentify(data)


@pytest.mark.parametrize(
    ("last", "image"),
    [("2", True), ("4", True), ("128", True), ("66.4", True), ("30", True), ("77.1.6", True), ("481.2", False),
     ("4.2", False), ("88.11", False), ("11.1", False), ("481.3", False), ("66.5", False), ("9.1.1", False), ("7.99", False)],
)  # fmt: skip
def test_classes_of_images(last: str, image: bool) -> None:
    assert is_image(STORAGE + last) is image
