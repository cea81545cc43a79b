"""Destinations that take Implicit VR Little Endian and nothing else: DCMTK's storescp, and a peer without a longest PDU."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, evt

from dicomnode.encoded import encode_dataset, encode_part10, implicit_parts, split_part10
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.network.parts import DataSetParts
from dicomnode.network.requestor import OutgoingObject, Requestor
from dicomnode.sections import Destination
from dicomnode.workflow.delivery import outgoing
from tests import tools
from tests.conformance import known_faults, results_material
from tests.conformance.results_material import Written
from tests.conformance.sources import everything
from tests.neighbours import HOST, free_port, listens, wait_for
from tests.unit.network.samples import EXPLICIT_LITTLE, IMPLICIT_LITTLE, small_object

#: DCMTK 3.6.7 does not know the SOP Class.
UNKNOWN = SOP_CLASSES[Form.LABELMAP]


@pytest.fixture(scope="module", params=["axial", "oblique"])
def written(request: pytest.FixtureRequest) -> Written:
    return everything(request.param)


@pytest.fixture
def implicit_peer(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """DCMTK's storescp that accepts Implicit VR Little Endian alone: its port, and where its files go."""
    folder, port = tmp_path / "arrived", free_port()
    folder.mkdir()
    process = subprocess.Popen(
        [tools.require("storescp"), "+xi", "-pdu", "16384", "-od", folder, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: listens(port), what="storescp")
        yield port, folder
    finally:
        process.terminate()
        process.wait(10)


def requestor(port: int) -> Requestor:
    target = Destination(name="x", ae_title="DEST", host=HOST, port=port, timeout_seconds=20)
    return Requestor(target, "DICOMNODE")


def objects_of(written: Written) -> list[OutgoingObject]:
    made = {kind: outgoing(f"{kind.role.value} {kind.name}", path.read_bytes()) for kind, path in written.kinds.items()}
    return [one for kind, one in made.items() if Form.LABELMAP not in (kind.form, kind.links)]


def by_uid(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by SOP Instance UID."""
    return {str(pydicom.dcmread(path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID): path for path in paths}


def complaints(path: Path) -> list[str]:
    """What dciodvfy says of a file: its errors, and the warnings that nobody reviewed."""
    done = subprocess.run([tools.require("dciodvfy"), path], capture_output=True, check=False, timeout=60)
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    assert lines
    warnings = [line for line in lines if line.startswith("Warning")]
    errors = [line for line in lines if line.startswith("Error")]
    return errors + known_faults.unexplained(warnings, known_faults.DCIODVFY_WARNINGS)


def tree_of(path: Path) -> str:
    """A document as dsrdump reads it, without the heading that names its file."""
    text = results_material.run("dsrdump", "-Ec", "+Pl", "+U8", path)
    assert "AI result, not reviewed by a physician." in text or "Key Object" in text
    return text


def test_every_kind_of_result_arrives_whole_and_valid(written: Written, implicit_peer: tuple[int, Path]) -> None:
    port, folder = implicit_peer
    objects = objects_of(written)
    outcomes = requestor(port).store(objects)
    assert [(one.result_id, one.status, one.error) for one in outcomes] == [(one.result_id, 0, None) for one in objects]
    files, sources = by_uid(folder.iterdir()), by_uid(written.kinds.values())
    assert files.keys() == {one.sop_instance_uid for one in objects}
    wanted = {SOP_CLASSES[form] for form in Form} - {UNKNOWN}
    assert {one.sop_class_uid for one in objects} == wanted, "SEG, RTSTRUCT, SR, PDF, SC, KO and map"
    for one in objects:
        path = files[one.sop_instance_uid]
        data = path.read_bytes()
        syntax, encoded = split_part10(data)
        assert syntax == IMPLICIT_LITTLE
        assert bytes(encoded) == b"".join(implicit_parts(one.encoded))
        got, sent = pydicom.dcmread(BytesIO(data)), pydicom.dcmread(BytesIO(one.encoded), force=True)
        assert got.file_meta.TransferSyntaxUID == IMPLICIT_LITTLE
        assert got.to_json_dict() == _as_implicit(sent.to_json_dict())
        assert complaints(path) == []
        if got.Modality in ("SR", "KO"):
            assert tree_of(path) == tree_of(sources[one.sop_instance_uid])


def _as_implicit(values: dict[str, dict[str, object]]) -> dict[str, dict[str, object]]:
    """PS3.5 A.1: pixel data of an implicit syntax is OW."""
    if "7FE00010" in values:
        values["7FE00010"]["vr"] = "OW"
    return values


def test_the_same_object_again_is_the_same_bytes(written: Written, implicit_peer: tuple[int, Path]) -> None:
    port, folder = implicit_peer
    objects = objects_of(written)[:2]
    first = requestor(port).store(objects) and {
        uid: path.read_bytes() for uid, path in by_uid(folder.iterdir()).items()
    }
    assert len(first) == 2
    requestor(port).store(objects)
    assert {uid: path.read_bytes() for uid, path in by_uid(folder.iterdir()).items()} == first


def test_probing_finds_what_it_takes(implicit_peer: tuple[int, Path]) -> None:
    wanted = [SOP_CLASSES[Form.BINARY], SOP_CLASSES[Form.COMPREHENSIVE], UNKNOWN]
    assert requestor(implicit_peer[0]).probe(wanted) == frozenset(wanted[:2])


@pytest.mark.parametrize("syntaxes", [[EXPLICIT_LITTLE, IMPLICIT_LITTLE], [IMPLICIT_LITTLE, EXPLICIT_LITTLE]])
def test_who_takes_both_gets_the_bytes_that_were_sealed(written: Written, syntaxes: list[str]) -> None:
    one = objects_of(written)[0]
    assert _taken(one, syntaxes, maximum_pdu=16382) == one.encoded


@pytest.mark.parametrize("maximum_pdu", [0, 4096])
def test_pdus_of_any_length(maximum_pdu: int) -> None:
    dataset = small_object()
    dataset.Rows, dataset.Columns, dataset.PixelData = 512, 512, bytes(range(256)) * 1024
    one = outgoing("large", encode_part10(dataset, transfer_syntax_uid=EXPLICIT_LITTLE))
    assert len(implicit_parts(one.encoded)) == 2, "its pixels are not copied"
    assert _taken(one, [IMPLICIT_LITTLE], maximum_pdu) == encode_dataset(dataset, IMPLICIT_LITTLE)


def _taken(one: OutgoingObject, syntaxes: list[str], maximum_pdu: int) -> bytes:
    """What a peer receives that accepts these syntaxes."""
    got: list[bytes] = []

    def store(event: evt.Event) -> int:
        got.append(event.request.DataSet.getvalue())
        return 0x0000

    entity = AE("DEST")
    entity.maximum_pdu_size = maximum_pdu
    entity.add_supported_context(one.sop_class_uid, syntaxes)
    server = entity.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        (outcome,) = requestor(server.socket.getsockname()[1]).store([one])
    finally:
        server.shutdown()
    assert (outcome.status, outcome.error) == (0, None)
    return got[0]


def test_what_cannot_be_written_implicitly_is_refused_by_itself(
    written: Written, implicit_peer: tuple[int, Path]
) -> None:
    good = objects_of(written)[0]
    damaged = OutgoingObject(
        result_id="damaged",
        sop_class_uid=good.sop_class_uid,
        sop_instance_uid="1.2.3",
        transfer_syntax_uid=EXPLICIT_LITTLE,
        encoded=good.encoded[:-1],
    )
    first, second = requestor(implicit_peer[0]).store([damaged, good])
    assert (first.status, first.error and first.error.code) == (None, "peer-context-refused")
    assert (second.status, second.error) == (0, None)


def test_parts_are_sliced_as_if_they_were_one() -> None:
    value = DataSetParts([b"abc", memoryview(b"defg"), b"", b"h"]).getvalue()
    assert len(value) == 8
    assert [value[at : at + 3] for at in (0, 3, 6)] == [b"abc", b"def", b"gh"]
    assert value[1:2] == b"b", "and back"
    assert value[8:9] == b""
    assert b"\2" + value == b"\2abcdefgh"
