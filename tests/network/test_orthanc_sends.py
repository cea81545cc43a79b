"""Orthanc as the sender: by its Lua auto-routing and by its REST API, in the syntax that it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dicomnode.encoded import Limits, encode_part10, scan_header, split_part10
from tests.neighbours import HOST, Orthanc, wait_for
from tests.network.nodes import node
from tests.unit.network.samples import EXPLICIT_LITTLE, small_object

ROUTING = """
function OnStoredInstance(instanceId, tags, metadata)
  SendToModality(instanceId, 'node')
end
"""


def test_auto_routing_by_lua(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(encode_part10(small_object(f"1.2.3.{number}"), transfer_syntax_uid=EXPLICIT_LITTLE))
        paths.append(path)
    with node() as target:
        orthanc = Orthanc(tmp_path / "orthanc", lua=ROUTING, modalities={"node": ("DICOMNODE", HOST, target.port)})
        orthanc.start()
        try:
            orthanc.upload(paths)
            wait_for(lambda: len(target.reception.objects) == 3, what="three objects")
            assert orthanc.get("/system")["Name"] == "neighbour"
            assert len(orthanc.instances()) == 3
        finally:
            orthanc.stop()
        arrived = sorted(encoded for _, encoded in target.reception.objects)
        assert arrived == sorted(bytes(split_part10(path.read_bytes())[1]) for path in paths)
        assert {received.peer.calling_ae_title for received, _ in target.reception.objects} == {"ORTHANC"}


def test_a_study_by_the_rest_api(tmp_path: Path, shared_data: Callable[[str], Path]) -> None:
    files = sorted(shared_data("codecs_cornerstone").glob("*J*Lossless*.dcm"))
    with node() as target:
        orthanc = Orthanc(tmp_path / "orthanc", modalities={"node": ("DICOMNODE", HOST, target.port)}).start()
        try:
            orthanc.upload(files[:1])
            (identifier,) = orthanc.instances()
            orthanc.post("/modalities/node/store", [identifier])
        finally:
            orthanc.stop()
        ((received, encoded),) = target.reception.objects
        syntax, original = split_part10(files[0].read_bytes())
        assert received.transfer_syntax_uid == syntax
        assert received.sop_instance_uid == scan_header(original, syntax, Limits()).sop_instance_uid
        assert len(encoded) >= len(original) - 64
