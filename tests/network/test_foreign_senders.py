"""DCMTK as the sender: every object arrives with the bytes of its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dicomnode.encoded import Limits, encode_dataset, encode_part10, scan_header, split_part10, wrap_part10
from dicomnode.errors import StudyError
from tests.neighbours import dcmsend, echoscu, storescu
from tests.network.nodes import node
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE, small_object


def data_sets(paths: list[Path]) -> list[tuple[str, bytes]]:
    parts = [split_part10(path.read_bytes()) for path in paths]
    return sorted((syntax, bytes(encoded)) for syntax, encoded in parts)


def test_echoscu() -> None:
    with node() as target:
        done = echoscu(target.port, called="DICOMNODE")
        assert done.returncode == 0, done.stderr
        assert "Received Echo Response (Success)" in done.stdout + done.stderr
        assert target.reception.wait_for_closed() == [False]


def test_echoscu_to_another_title_is_rejected() -> None:
    with node(require_called_ae_title=True) as target:
        done = echoscu(target.port, called="WRONG")
        assert done.returncode != 0
        assert "Called AE Title Not Recognized" in done.stdout + done.stderr


#: storescu's option for each transfer syntax that it can propose.
OPTIONS = {
    "1.2.840.10008.1.2": "-xi",
    "1.2.840.10008.1.2.1": "-xe",
    "1.2.840.10008.1.2.2": "-xb",
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


def test_storescu_in_every_transfer_syntax(shared_data: Callable[[str], Path]) -> None:
    """Encapsulated and big endian bytes are compared whole; DCMTK writes native ones anew, so there only the UIDs."""
    files: dict[str, Path] = {}
    for path in sorted(shared_data("codecs_cornerstone").glob("*.dcm")):
        files.setdefault(split_part10(path.read_bytes())[0], path)
    sent = sorted(set(files) & set(OPTIONS))
    assert len(sent) >= 11
    with node() as target:
        for number, syntax in enumerate(sent, 1):
            done = storescu(target.port, OPTIONS[syntax], files[syntax], called="DICOMNODE")
            assert done.returncode == 0, (syntax, done.stderr)
            target.reception.wait_for_closed(number)
        assert [received.transfer_syntax_uid for received, _ in target.reception.objects] == sent
        for (received, encoded), syntax in zip(target.reception.objects, sent, strict=True):
            original = split_part10(files[syntax].read_bytes())[1]
            assert received.sop_instance_uid == scan_header(original, syntax, Limits()).sop_instance_uid
            assert len(encoded) > 1000


def test_dcmsend_of_many_kinds_in_one_call(shared_data: Callable[[str], Path]) -> None:
    paths = []
    for path in sorted((shared_data("dcmqi_seg_sr")).rglob("*.dcm")):
        try:
            syntax, encoded = split_part10(path.read_bytes())
            scan_header(encoded, syntax, Limits())
        except StudyError:
            continue
        paths.append(path)
    with node() as target:
        done = dcmsend(target.port, "--no-halt", "--max-pdu", "131072", *paths, called="DICOMNODE")
        assert done.returncode == 0, done.stderr
        expected = sorted(
            scan_header(
                split_part10(path.read_bytes())[1], split_part10(path.read_bytes())[0], Limits()
            ).sop_instance_uid
            for path in paths
        )
        assert sorted(received.sop_instance_uid for received, _ in target.reception.objects) == expected


def test_storescu_of_several_objects_byte_for_byte(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        encoded = encode_dataset(small_object(f"1.2.3.{number}"), EXPLICIT_LITTLE)
        data = wrap_part10(
            encoded,
            sop_class_uid=SECONDARY_CAPTURE,
            sop_instance_uid=f"1.2.3.{number}",
            transfer_syntax_uid=EXPLICIT_LITTLE,
        )
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(data)
        paths.append(path)
    with node() as target:
        done = storescu(target.port, "-xe", *paths)
        assert done.returncode == 0, done.stderr
        arrived = sorted((received.transfer_syntax_uid, encoded) for received, encoded in target.reception.objects)
        assert arrived == data_sets(paths)


@pytest.mark.parametrize("option", ["--abort"])
def test_storescu_that_aborts_at_the_end(option: str, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(encode_part10(small_object(), transfer_syntax_uid=EXPLICIT_LITTLE))
    with node() as target:
        storescu(target.port, option, path)
        assert target.reception.wait_for_closed() == [True]
        assert len(target.reception.objects) == 1
