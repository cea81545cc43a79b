"""dciodvfy finds no error in a de-identified object that it did not find in its source."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dicomnode.deidentification.apply import Deidentifier, Seen
from dicomnode.deidentification.minimal import minimal
from dicomnode.deidentification.policy import AI, EXPORT, Faces, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests import tools
from tests.head_phantom import Scan, taken_off
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import (
    Object,
    angiography,
    ct,
    digital_x_ray,
    kinds,
    mammogram,
    mr,
    nuclear,
    pet,
)

#: Values and UIDs; the names of attributes and modules, in the same brackets, are none.
_VALUES = re.compile(r"(?<!Element=)(?<!Module=)<[^>]*>|\d+(\.\d+){2,}")
IMAGES = (ct, mr, pet, digital_x_ray, mammogram, nuclear, angiography)
PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")


@pytest.fixture(autouse=True)
def _validator() -> None:
    tools.require("dciodvfy")


def errors(path: Path, data: bytes) -> set[str]:
    """Errors of a file; values and UIDs, which are meant to differ, are left out of their texts."""
    path.write_bytes(data)
    done = subprocess.run(["dciodvfy", path], capture_output=True, timeout=60, check=False)
    lines = (done.stdout + done.stderr).decode("utf-8", "replace").splitlines()
    return {_VALUES.sub("", line) for line in lines if line.startswith("Error")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
@pytest.mark.parametrize("make", kinds(), ids=lambda make: make.__name__)
def test_no_new_error(make: Callable[[], Object], policy: Policy, tmp_path: Path) -> None:
    one = make()
    source = one.raw(planted.encoded(one.dataset))
    done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(source, Limits())).dataset
    output = encode_part10(done, transfer_syntax_uid=str(done.file_meta.TransferSyntaxUID))
    assert errors(tmp_path / "out.dcm", output) - errors(tmp_path / "in.dcm", source) == set()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", IMAGES, ids=lambda make: make.__name__)
def test_no_new_error_in_what_is_left_after_a_leak(make: Callable[[], Object], tmp_path: Path) -> None:
    """Of images that networks see; what is left of other objects is for nobody else."""
    source = planted.encoded(make().dataset)
    least = minimal(Deidentifier(AI, PSEUDONYMS).deidentify(read_part10(source, Limits())).dataset)
    output = encode_part10(least, transfer_syntax_uid=str(least.file_meta.TransferSyntaxUID))
    assert errors(tmp_path / "out.dcm", output) - errors(tmp_path / "in.dcm", source) == set()


@pytest.mark.parametrize("contrast", ["ct", "t1"])
def test_no_new_error_without_a_face(contrast: str, tmp_path: Path) -> None:
    series = Scan(contrast=contrast).series()
    source = encode_part10(series[20], transfer_syntax_uid=planted.EXPLICIT)
    assert taken_off(series)
    engine = Deidentifier(replace(EXPORT, faces=Faces.DEFACE), PSEUDONYMS)
    done = engine.deidentify(series[20], Seen.TAKEN_OFF).dataset
    output = encode_part10(done, transfer_syntax_uid=str(done.file_meta.TransferSyntaxUID))
    assert errors(tmp_path / "out.dcm", output) - errors(tmp_path / "in.dcm", source) == set()
