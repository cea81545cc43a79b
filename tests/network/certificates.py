"""Certificates for a test: an authority and one certificate for loopback, made anew."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dicomnode.sections import Tls


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: str, issuer: str, key: ec.EllipticCurvePublicKey, days: tuple[int, int] = (-1, 1)
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
    )


class Authority:
    """An authority of a test, in a folder."""

    def __init__(self, folder: Path, name: str = "test") -> None:
        self._folder = folder
        self._name = f"{name} authority"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.path = folder / f"{name}-authority.pem"
        root = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path.write_bytes(root.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, days: tuple[int, int] = (-1, 1)) -> Tls:
        """A certificate of 127.0.0.1, valid from and to so many days from now; issued again, it takes the old one's place."""
        own = ec.generate_private_key(ec.SECP256R1())
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        leaf = (
            _builder(name, self._name, own.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(addresses, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        certificate, key = (self._folder / f"{name}-{part}.pem" for part in ("certificate", "key"))
        certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key.write_bytes(own.private_bytes(pem, pkcs8, serialization.NoEncryption()))
        return Tls(certificate=certificate, private_key=key, trusted_certificates=self.path)


def fingerprint(tls: Tls) -> str:
    """SHA-256 of a certificate."""
    return x509.load_pem_x509_certificate(tls.certificate.read_bytes()).fingerprint(hashes.SHA256()).hex()


def make_tls(folder: Path, name: str = "test") -> Tls:
    """An authority and a certificate of 127.0.0.1 in a folder."""
    return Authority(folder, name).issue(name)
