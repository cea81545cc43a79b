"""DICOM TLS with DCMTK on both sides, and certificates from the recipe of certs/: right ones work, wrong ones do not."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dicomnode.encoded import encode_dataset, encode_part10
from dicomnode.errors import PeerError
from dicomnode.network.requestor import OutgoingObject, Requestor
from dicomnode.sections import Destination, Tls
from tests import tools
from tests.neighbours import HOST, echoscu, free_port, listens, run, storescu, wait_for
from tests.network.nodes import node
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE, small_object

RECIPE = Path(__file__).resolve().parents[2] / "certs" / "make-development-ca.sh"


def make(folder: Path, *names: str) -> Path:
    subprocess.run(["sh", str(RECIPE), str(folder), *names], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority of this hospital."""
    tools.require("openssl")
    return make(tmp_path_factory.mktemp("ours") / "tls")


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another authority."""
    tools.require("openssl")
    return make(tmp_path_factory.mktemp("strange") / "tls")


def tls(folder: Path, who: str = "node") -> Tls:
    return Tls(
        certificate=folder / f"{who}.pem",
        private_key=folder / f"{who}.key",
        trusted_certificates=folder / "authority.pem",
    )


def dcmtk(folder: Path, trusts: Path | None = None) -> list[str]:
    """DCMTK's options for the PACS's certificate of one authority, and trust in another's."""
    authority = (trusts or folder) / "authority.pem"
    return ["+tls", str(folder / "pacs.key"), str(folder / "pacs.pem"), "+cf", str(authority), "-rc"]


def outgoing() -> OutgoingObject:
    dataset = small_object()
    return OutgoingObject(
        result_id="one",
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid=str(dataset.SOPInstanceUID),
        transfer_syntax_uid=EXPLICIT_LITTLE,
        encoded=encode_dataset(dataset, EXPLICIT_LITTLE),
    )


@contextmanager
def storescp(folder: Path, certificates: Path, trusts: Path | None = None) -> Iterator[int]:
    """DCMTK's receiver with TLS; gives its port."""
    program, port = tools.require("storescp"), free_port()
    folder.mkdir()
    process = subprocess.Popen(
        [program, *dcmtk(certificates, trusts), "-od", str(folder), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: listens(port), what="storescp")
        yield port
    finally:
        process.terminate()
        process.wait(10)


def requestor(port: int, certificates: Tls, host: str = HOST) -> Requestor:
    pacs = Destination(name="pacs", ae_title="PACS", host=host, port=port, tls=certificates, timeout_seconds=10)
    return Requestor(pacs, "DICOMNODE")


def test_recipe_leaves_no_authority_key_and_no_key_that_others_read(ours: Path) -> None:
    assert sorted(path.name for path in ours.iterdir()) == [
        "authority.pem",
        "node.key",
        "node.pem",
        "pacs.key",
        "pacs.pem",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in ours.glob("*.key")} == {0o400}
    checked = run("openssl", "verify", "-x509_strict", "-CAfile", ours / "authority.pem", ours / "node.pem")
    assert checked.returncode == 0, checked.stderr


def test_recipe_writes_names_and_addresses(tmp_path: Path) -> None:
    tools.require("openssl")
    folder = make(tmp_path / "tls", "node.hospital.example,10.1.2.3,fd00::7")
    text = run("openssl", "x509", "-in", folder / "node.pem", "-noout", "-ext", "subjectAltName").stdout
    assert "DNS:node.hospital.example, IP Address:10.1.2.3, IP Address:FD00:0:0:0:0:0:0:7" in text


def test_recipe_overwrites_nothing(ours: Path) -> None:
    before = (ours / "node.key").read_bytes()
    again = subprocess.run(["sh", str(RECIPE), str(ours)], check=False, capture_output=True)
    assert again.returncode == 1
    assert (ours / "node.key").read_bytes() == before


def test_dcmtk_sends_with_tls(ours: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.dcm"
    path.write_bytes(encode_part10(small_object(), transfer_syntax_uid=EXPLICIT_LITTLE))
    with node(tls=tls(ours)) as target:
        echoed = echoscu(target.port, *dcmtk(ours), called="DICOMNODE")
        assert echoed.returncode == 0, echoed.stderr
        stored = storescu(target.port, *dcmtk(ours), path, called="DICOMNODE")
        assert stored.returncode == 0, stored.stderr
        assert len(target.reception.objects) == 1


def test_sender_with_a_strange_certificate_is_refused(ours: Path, strange: Path) -> None:
    with node(tls=tls(ours)) as target:
        refused = echoscu(target.port, *dcmtk(strange, trusts=ours), called="DICOMNODE")
        assert refused.returncode != 0
        wait_for(lambda: bool(target.events.named("connection.failed")), what="the event")
        assert echoscu(target.port, *dcmtk(ours), called="DICOMNODE").returncode == 0


def test_sender_without_tls_or_certificate_is_refused(ours: Path) -> None:
    with node(tls=tls(ours)) as target:
        assert echoscu(target.port, called="DICOMNODE").returncode != 0
        anonymous = echoscu(target.port, "+tla", "+cf", str(ours / "authority.pem"), called="DICOMNODE")
        assert anonymous.returncode != 0
        assert not target.reception.named("opened")


def test_sender_that_does_not_trust_the_node_goes_away(ours: Path, strange: Path) -> None:
    with node(tls=tls(ours)) as target:
        assert echoscu(target.port, *dcmtk(ours, trusts=strange), called="DICOMNODE").returncode != 0


def test_delivery_with_tls(ours: Path, tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", ours) as port:
        pacs = requestor(port, tls(ours))
        pacs.echo()
        (outcome,) = pacs.store([outgoing()])
        assert (outcome.status, outcome.error) == (0, None)
    assert len(list((tmp_path / "pacs").iterdir())) == 1


def test_delivery_to_a_pacs_of_a_strange_authority_is_refused(ours: Path, strange: Path, tmp_path: Path) -> None:
    with storescp(tmp_path / "pacs", strange, trusts=ours) as port:
        with pytest.raises(PeerError) as caught:
            requestor(port, tls(ours)).echo()
        assert caught.value.code == "tls-failed"
        assert caught.value.retryable


def test_delivery_with_a_certificate_that_the_pacs_does_not_trust_is_refused(
    ours: Path, strange: Path, tmp_path: Path
) -> None:
    """In TLS 1.3 the refusal comes after the handshake, so it shows as a connection that breaks off."""
    mixed = tls(strange).model_copy(update={"trusted_certificates": ours / "authority.pem"})
    with storescp(tmp_path / "pacs", ours) as port:
        with pytest.raises(PeerError) as caught:
            requestor(port, mixed).echo()
        assert caught.value.code in {"tls-failed", "peer-aborted"}


def test_delivery_to_a_pacs_whose_certificate_names_another_host_is_refused(tmp_path: Path) -> None:
    tools.require("openssl")
    elsewhere = make(tmp_path / "tls", "localhost,127.0.0.1", "pacs.hospital.example")
    with storescp(tmp_path / "pacs", elsewhere) as port:
        with pytest.raises(PeerError) as caught:
            requestor(port, tls(elsewhere)).echo()
        assert caught.value.code == "tls-failed"


def test_delivery_to_a_pacs_without_tls_is_refused(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "pacs").mkdir()
    port = free_port()
    process = subprocess.Popen([tools.require("storescp"), "-od", str(tmp_path / "pacs"), str(port)])
    try:
        wait_for(lambda: listens(port), what="storescp")
        with pytest.raises(PeerError) as caught:
            requestor(port, tls(ours)).echo()
        assert caught.value.code in {"tls-failed", "peer-aborted"}
    finally:
        process.terminate()
        process.wait(10)
