"""The key pair of the way back: exports encrypt for its certificate, and its private key opens them again.

RSA of 3072 bits, with a self-signed certificate (PS3.15 C.3: recipients are named by their certificates). The private
key lies in the keys folder, 0400, and is made at the first wish for its certificate.
"""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key
from cryptography.x509.oid import NameOID

from dicomnode.errors import KeyStoreError
from dicomnode.storage import files

_BITS: Final = 3072
_LEAST_BITS: Final = 2048
_PRIVATE: Final = "reidentify.key"
_CERTIFICATE: Final = "reidentify.pem"
_BEGIN: Final = datetime(2020, 1, 1, tzinfo=UTC)
_END: Final = datetime(9999, 12, 31, tzinfo=UTC)


def public_certificate(folder: Path) -> str:
    """Certificate in PEM; the pair is made where there is none.

    Raises
    ------
    KeyStoreError
        ``key-permissions``; ``key-missing`` where the certificate is there and its private key is not: what was enclosed
        for it needs that one; ``key-wrong`` also where they are no pair, since nobody could open what is enclosed.
    """
    with files.disk_errors(), files.alone_in(folder, wait=True):  # of two pairs made at once, halves would stay
        if not (folder / _PRIVATE).exists():
            if (folder / _CERTIFICATE).exists():
                raise KeyStoreError("key-missing", missing=1)
            key = generate_private_key(65537, _BITS)
            data = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            files.replace_file(folder / _PRIVATE, (data,), mode=0o400)
        private = private_key(folder / _PRIVATE)
        if not (folder / _CERTIFICATE).exists():
            files.replace_file(folder / _CERTIFICATE, (_certificate(private).public_bytes(serialization.Encoding.PEM),))
        pem = (folder / _CERTIFICATE).read_bytes()
        if certificates((folder / _CERTIFICATE,))[0].public_key() != private.public_key():
            raise KeyStoreError("key-wrong")
        return pem.decode("ascii")


def private_key(path: Path) -> RSAPrivateKey:
    """Private key of a file that its owner alone can read.

    Raises
    ------
    KeyStoreError
        ``key-missing``, ``key-permissions`` or ``key-wrong``.
    """
    try:
        found = path.stat()
    except OSError:
        raise KeyStoreError("key-missing", missing=1) from None
    if not stat.S_ISREG(found.st_mode):  # a pipe would keep us waiting for good
        raise KeyStoreError("key-wrong")
    if stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in (0, os.geteuid()):
        raise KeyStoreError("key-permissions", mode=f"o{stat.S_IMODE(found.st_mode):04o}")
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError:
        raise KeyStoreError("key-missing", missing=1) from None
    except (ValueError, TypeError):
        raise KeyStoreError("key-wrong") from None
    if not isinstance(key, RSAPrivateKey):
        raise KeyStoreError("key-wrong")
    return key


def certificates(paths: tuple[Path, ...]) -> tuple[x509.Certificate, ...]:
    """Certificates of recipients, RSA of 2048 bits or more all of them.

    Raises
    ------
    KeyStoreError
        ``key-missing``; ``key-wrong`` where a file holds no certificate in PEM, or a key is of another kind or too short.
    """
    found: list[x509.Certificate] = []
    for path in paths:
        try:
            found += x509.load_pem_x509_certificates(path.read_bytes())
            keys = [certificate.public_key() for certificate in found]
        except OSError:
            raise KeyStoreError("key-missing", missing=1) from None
        except (ValueError, UnsupportedAlgorithm):
            raise KeyStoreError("key-wrong") from None
        if not all(isinstance(key, RSAPublicKey) and key.key_size >= _LEAST_BITS for key in keys):
            raise KeyStoreError("key-wrong", least=_LEAST_BITS)
    return tuple(found)


def _certificate(key: RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dicomnode reidentification")])
    builder = x509.CertificateBuilder(
        issuer_name=name, subject_name=name, public_key=key.public_key(), serial_number=x509.random_serial_number(),
        not_valid_before=_BEGIN, not_valid_after=_END,
    )  # fmt: skip
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=True, data_encipherment=False,
        key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    return builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
