"""The identity of a result, as pydicom and DCMTK decode it from the file."""

from __future__ import annotations

import re
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomnode.encoded.quiet import hushed
from dicomnode.identity import IDENTITY_KEYWORDS
from dicomnode.study import ResultRole
from tests.conformance import results_material
from tests.unit.results import material

CASES = {
    "latin-1": ("ISO_IR 100", "Müller^Jürgen", "Größe^Änne", "ISO_IR 100"),
    "utf-8": ("ISO_IR 192", "Wang^XiaoDong=王^小东", "Ørsted^Åse", "ISO_IR 192"),
    "japanese": (
        ["", "ISO 2022 IR 87"],
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "Suzuki^Ichiro=鈴木^一郎",
        "\\ISO 2022 IR 87",
    ),
    "korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "Kim^A", "\\ISO 2022 IR 149"),
    "greek": ("ISO_IR 126", "Διονυσιος", "Παπαδοπουλος^Α", "ISO_IR 126"),
    "does not fit": ("ISO_IR 100", "Łukasiewicz^Jan", "Größe^Änne", "ISO_IR 192"),
}
#: What DCMTK on glibc cannot convert: its bytes are decoded by Python's codec, which is not pydicom's.
_PRINTED = {"\\ISO 2022 IR 87": "iso2022_jp"}


def dumped(path: Path, tag: str, encoding: str) -> str:
    """Value of an element as dcmdump decodes it into UTF-8, or as it prints its bytes where it cannot convert."""
    conversion = ["+U8"] if encoding == "utf-8" else []
    text = results_material.run("dcmdump", *conversion, "+P", tag, "-s", path, encoding=encoding)
    match = re.search(r"\[(.*)\]", text.splitlines()[0]) if text.strip() else None
    return match[1].rstrip() if match else ""


@pytest.mark.parametrize("case", list(CASES))
def test_names_are_equal_for_every_reader(case: str, tmp_path: Path) -> None:
    terms, patient, physician, written_terms = CASES[case]
    originals = material.source_series()
    for original in originals:
        original.SpecificCharacterSet = terms
        original.PatientName, original.ReferringPhysicianName = patient, physician
        original.RequestAttributesSequence = []
    written = results_material.write(tmp_path, originals, material.labels_for())
    for path in written.files.values():
        decoded = pydicom.dcmread(path)
        assert str(decoded.PatientName) == patient
        assert str(decoded.ReferringPhysicianName) == physician
        found = decoded.SpecificCharacterSet
        assert (found if isinstance(found, str) else "\\".join(found)) == written_terms
        encoding = _PRINTED.get(written_terms, "utf-8")
        assert dumped(path, "0010,0010", encoding) == patient
        assert dumped(path, "0008,0090", encoding) == physician


def test_a_real_source_gets_its_own_identity_back_faults_and_all(tmp_path: Path) -> None:
    originals = results_material.thorax()
    written = results_material.write(tmp_path, originals, results_material.ellipsoids(105, 512, 512))
    with hushed():
        for role, path in written.files.items():
            decoded = pydicom.dcmread(path)
            for keyword in set(IDENTITY_KEYWORDS) - {"RequestAttributesSequence"}:
                assert _text(decoded, keyword) == _text(originals[0], keyword), (role, keyword)
            if role is ResultRole.SEGMENTATION:
                assert decoded.FrameOfReferenceUID == originals[0].FrameOfReferenceUID


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "")
