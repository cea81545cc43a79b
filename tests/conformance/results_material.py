"""Results written as files, for programs of others to read."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.encoded import wrap_part10
from dicomnode.encoded.quiet import hushed
from dicomnode.results.encode import EncodedResult, encode_results
from dicomnode.study import ResultRole
from tests import tools
from tests.unit.results import material

#: An invented identity, for sources whose own one was hashed into nonsense.
INVENTED = {
    "PatientName": "Beispiel^Änne",
    "PatientID": "4711",
    "PatientBirthDate": "19500102",
    "PatientSex": "F",
    "StudyDate": "20191031",
    "StudyTime": "215249",
    "StudyID": "1",
    "AccessionNumber": "A1",
    "ReferringPhysicianName": "Größe^Max",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Written:
    """Results of one source series, and where their files are."""

    originals: list[Dataset]
    labels: NDArray[np.uint8]
    results: dict[ResultRole, EncodedResult]
    files: dict[ResultRole, Path]


def write(folder: Path, originals: Sequence[Dataset], labels: NDArray[np.uint8]) -> Written:
    given = material.input_for(originals, labels)
    results = encode_results(given, material.context_for(), material.identity_of(originals))
    files = {}
    for result in results:
        files[result.role] = folder / f"{result.role.value}.dcm"
        files[result.role].write_bytes(
            wrap_part10(
                result.encoded,
                sop_class_uid=result.sop_class_uid,
                sop_instance_uid=result.sop_instance_uid,
                transfer_syntax_uid=result.transfer_syntax_uid,
            )
        )
    return Written(
        originals=list(originals), labels=labels, results={result.role: result for result in results}, files=files
    )


def ellipsoids(slices: int, rows: int, columns: int) -> NDArray[np.uint8]:
    """Two bodies where lungs would be, empty at both ends."""
    z, y, x = np.ogrid[:slices, :rows, :columns]
    middle = (z - slices / 2) / (slices * 0.42)
    labels = np.zeros((slices, rows, columns), dtype=np.uint8)
    for number, centre in ((1, 0.3), (2, 0.7)):
        inside = middle**2 + ((y - rows / 2) / (rows / 4)) ** 2 + ((x - columns * centre) / (columns / 6)) ** 2 < 1
        labels[inside] = number
    return labels


def thorax() -> list[Dataset]:
    """Headers of the real chest CT, in source order."""
    folder = tools.shared_data_set("ct_thorax_siemens105_rtstruct")
    with hushed():
        headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in folder.glob("CT_*.dcm")]
        for header in headers:
            header.walk(lambda *_: None)
    return sorted(headers, key=lambda header: float(header.ImagePositionPatient[2]))


def with_identity(headers: list[Dataset], values: dict[str, object]) -> list[Dataset]:
    for header in headers:
        for keyword, value in values.items():
            if keyword in header:
                delattr(header, keyword)
            setattr(header, keyword, value)
    return headers


def run(program: str, *arguments: object, encoding: str = "utf-8") -> str:
    """Both streams of a program, which must not fail."""
    done = subprocess.run([tools.require(program), *map(str, arguments)], capture_output=True, check=False, timeout=120)
    text = (done.stdout + done.stderr).decode(encoding, "replace")
    if done.returncode != 0:
        pytest.fail(f"{program} ended with {done.returncode}:\n{text[-2000:]}")
    return text
