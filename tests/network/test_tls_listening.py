"""The listening side's TLS: ports, certificates that are renewed, and why a handshake failed."""

from __future__ import annotations

import hashlib
import socket
import ssl
from pathlib import Path

import pytest
from pynetdicom.presentation import build_context

from dicomnode.errors import ConfigError, PeerError
from dicomnode.sections import Tls
from tests.neighbours import wait_for
from tests.network.certificates import Authority, fingerprint
from tests.network.nodes import Node, node
from tests.network.test_acceptor import outgoing


def shake(target: Node, context: ssl.SSLContext) -> None:
    """One handshake of a foreign client, to its end."""
    with socket.create_connection((target.host, target.tls_port), 10) as raw:
        try:
            with context.wrap_socket(raw) as secured:
                secured.recv(1)
        except OSError:
            return


def client(trusts: Tls, shows: Tls | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(trusts.trusted_certificates)
    if shows is not None:
        context.load_cert_chain(shows.certificate, shows.private_key)
    return context


def kinds(target: Node) -> list[object]:
    return [event["kind"] for event in target.events.named("connection.failed")]


def of(target: Node, tls: Tls) -> str:
    """Fingerprint of the certificate that the node shows."""
    raw = socket.create_connection((target.host, target.tls_port), 10)
    with raw, client(tls, tls).wrap_socket(raw) as secured:
        der = secured.getpeercert(binary_form=True)
    assert der is not None
    return hashlib.sha256(der).hexdigest()


def test_tls_alone_closes_the_plain_port(tmp_path: Path) -> None:
    with node(tls=Authority(tmp_path).issue("node")) as target:
        assert len(target.acceptor.addresses) == 1


def test_both_ports_are_open_where_both_are_asked_for(tmp_path: Path) -> None:
    tls = Authority(tmp_path).issue("node")
    with node(tls=tls, plain="on") as target:
        assert target.port != target.tls_port
        target.requestor().echo()
        target._replace(port=target.tls_port).requestor(tls=tls).echo()


def test_a_tls_port_that_is_taken_leaves_no_plain_port_behind(tmp_path: Path) -> None:
    tls = Authority(tmp_path).issue("node")
    with (
        node() as first,
        pytest.raises(ConfigError, match="port-unavailable"),
        node(tls=tls, plain="on", tls_port=first.port),
    ):
        pass


def test_certificates_are_renewed_under_an_open_association(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, peer = authority.issue("node"), authority.issue("peer")
    with node(tls=ours) as target:
        before = of(target, peer)
        sender = target.requestor(tls=peer)
        with sender._association([build_context("1.2.840.10008.1.1")]) as association:
            authority.issue("node")
            after = of(target, peer)
            assert after != before
            assert after == fingerprint(ours)
            assert association.send_c_echo().Status == 0, "it goes on"
        assert len(target.events.named("tls.reloaded")) == 1


def test_files_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, peer = authority.issue("node"), authority.issue("peer")
    with node(tls=ours) as target:
        before = of(target, peer)
        ours.certificate.write_text("torn")
        assert of(target, peer) == before
        target.acceptor.reload_certificates()
        assert of(target, peer) == before
        assert len(target.events.named("tls.reload_failed")) == 2
        authority.issue("node")
        target.acceptor.reload_certificates()
        assert of(target, peer) == fingerprint(ours) != before


def test_the_log_says_why_a_handshake_failed(tmp_path: Path) -> None:
    ours, strange = Authority(tmp_path), Authority(tmp_path, "strange")
    tls = ours.issue("node")
    old, young, foreign = ours.issue("old", (-9, -1)), ours.issue("young", (2, 9)), strange.issue("foreign")
    good = ours.issue("good")
    legacy = client(tls, good)
    legacy.minimum_version, legacy.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    legacy.set_ciphers("AES256-SHA256:@SECLEVEL=0")
    attempts = [
        (client(tls, old), "certificate-expired"),
        (client(tls, young), "certificate-not-yet-valid"),
        (client(tls, foreign), "unknown-authority"),
        (client(tls), "no-certificate"),
        (legacy, "cipher"),
        (client(foreign, good), "peer-does-not-know-our-authority"),
    ]
    with node(tls=tls) as target:
        for number, (context, _) in enumerate(attempts, 1):
            shake(target, context)
            wait_for(lambda number=number: len(kinds(target)) == number, what="the event")  # type: ignore[misc]
        assert kinds(target) == [kind for _, kind in attempts]
        target.requestor(tls=good).echo()


def test_an_old_version_is_named(tmp_path: Path) -> None:
    tls = Authority(tmp_path).issue("node")
    with node(tls=tls) as target, socket.create_connection((target.host, target.tls_port), 10) as raw:
        raw.sendall(_HELLO_TLS_1_0)
        wait_for(lambda: bool(kinds(target)), what="the event")
        assert kinds(target) == ["version"]


def test_dicom_without_tls_is_named(tmp_path: Path) -> None:
    with node(tls=Authority(tmp_path).issue("node")) as target:
        with pytest.raises(PeerError):
            target._replace(port=target.tls_port).requestor().echo()
        wait_for(lambda: bool(kinds(target)), what="the event")
        assert kinds(target) == ["not-tls"]


def test_a_client_of_each_version_gets_in(tmp_path: Path) -> None:
    tls = Authority(tmp_path).issue("node")
    with node(tls=tls) as target:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = client(tls, tls)
            context.minimum_version = context.maximum_version = version
            raw = socket.create_connection((target.host, target.tls_port), 10)
            with raw, context.wrap_socket(raw) as secured:
                assert secured.version() == version.name.replace("_", ".")
        assert target.requestor(tls=tls).store([outgoing()])[0].status == 0


#: ClientHello of TLS 1.0 with one cipher, as OpenSSL of its day sent it: versions 0x0301, 32 random bytes, no session.
_HELLO_TLS_1_0 = bytes.fromhex("160301002d010000290301" + "11" * 32 + "000002002f0100")
