"""DICOM TLS (PS3.15 B.12, BCP 195): contexts of both sides, certificates that change, why a handshake failed."""

from __future__ import annotations

import ssl
import threading
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography import x509

from dicomnode.errors import ConfigError
from dicomnode.events import Emit
from dicomnode.network_sections import WebTls
from dicomnode.sections import Tls

#: RFC 9325 4.2 with TLS 1.2: forward secrecy and AEAD alone; TLS 1.3 brings its own.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_SERVER_OPTIONS: Final = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
_Signature = tuple[tuple[int, int, int], ...]

#: Results of X.509 verification (OpenSSL's X509_V_ERR_*) by what a person does about them.
_VERIFICATION: Final = MappingProxyType(
    {
        9: "certificate-not-yet-valid",
        10: "certificate-expired",
        2: "unknown-authority",  # issuer not there
        18: "unknown-authority",  # self-signed
        19: "unknown-authority",  # self-signed in the chain
        20: "unknown-authority",  # local issuer not there
        21: "unknown-authority",  # first certificate cannot be verified
        23: "certificate-revoked",
        26: "certificate-purpose",
    }
)
#: Reasons of OpenSSL, without their prefix, by kind.
_REASONS: Final = MappingProxyType(
    {
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no-certificate",
        "UNSUPPORTED_PROTOCOL": "version",
        "VERSION_TOO_LOW": "version",
        "NO_PROTOCOLS_AVAILABLE": "version",
        "TLSV1_ALERT_PROTOCOL_VERSION": "version",
        "NO_SHARED_CIPHER": "cipher",
        "NO_SUITABLE_KEY_SHARE": "cipher",
        "NO_SUITABLE_SIGNATURE_ALGORITHM": "cipher",
        "NO_SHARED_SIGNATURE_ALGORITHMS": "cipher",
        "SSLV3_ALERT_HANDSHAKE_FAILURE": "cipher",
        "TLSV1_ALERT_INSUFFICIENT_SECURITY": "cipher",
        "WRONG_VERSION_NUMBER": "not-tls",  # a record that is none: most often DICOM without TLS
        "HTTP_REQUEST": "not-tls",
        "UNKNOWN_PROTOCOL": "not-tls",
        "RECORD_LAYER_FAILURE": "not-tls",
        "UNEXPECTED_MESSAGE": "not-tls",
        "PACKET_LENGTH_TOO_LONG": "not-tls",
        "BAD_RECORD_TYPE": "not-tls",
        "TLSV1_ALERT_UNKNOWN_CA": "peer-does-not-know-our-authority",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED": "peer-finds-our-certificate-expired",
        "SSLV3_ALERT_BAD_CERTIFICATE": "peer-refuses-our-certificate",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "peer-refuses-our-certificate",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "peer-refuses-our-certificate",
        "TLSV1_ALERT_ACCESS_DENIED": "peer-refuses-our-certificate",
        "UNEXPECTED_EOF_WHILE_READING": "peer-went-away",
    }
)


def failure_kind(error: Exception) -> str:
    """Why a handshake failed, as a word that a support desk can look up."""
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFICATION.get(error.verify_code, "certificate-invalid")
    if isinstance(error, ssl.SSLError):
        if isinstance(error, ssl.SSLEOFError):
            return "peer-went-away"
        reason = error.reason or ""
        return _REASONS.get(reason, "other")
    return "peer-went-away"


def server_tls(tls: Tls) -> ssl.SSLContext:
    """TLS of the acceptor: mutual, 1.2 at least, AEAD with forward secrecy, and no tickets: each handshake proves anew.

    Raises
    ------
    ConfigError
        ``tls-failed`` if a file is missing, unreadable or does not fit the others.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, tls)
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= _SERVER_OPTIONS
    context.num_tickets = 0
    return context


def web_tls(tls: Tls | WebTls) -> ssl.SSLContext:
    """TLS of the STOW-RS side: as `server_tls`, but a certificate of the caller's is asked for only where authorities are named.

    Whether it must have one, the rules say: a token may do instead.

    Raises
    ------
    ConfigError
        ``tls-failed``.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, tls)
    context.verify_mode = ssl.CERT_OPTIONAL if tls.trusted_certificates is not None else ssl.CERT_NONE
    context.options |= _SERVER_OPTIONS
    context.num_tickets = 0
    return context


def client_tls(tls: Tls) -> ssl.SSLContext:
    """TLS of the requestor: the peer's certificate must name the host that is called.

    Raises
    ------
    ConfigError
        ``tls-failed``.
    """
    return _context(ssl.PROTOCOL_TLS_CLIENT, tls)


def _context(protocol: int, tls: Tls | WebTls) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    try:
        context.load_cert_chain(tls.certificate, tls.private_key)
        if tls.trusted_certificates is not None:
            context.load_verify_locations(tls.trusted_certificates)
    except (OSError, ValueError):  # SSLError is an OSError
        raise ConfigError("tls-failed") from None
    return context


def valid_until(certificate: Path) -> datetime:
    """End of the validity of the first certificate of a file, in UTC.

    Raises
    ------
    ConfigError
        ``tls-failed`` if there is none that can be read.
    """
    try:
        return x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        raise ConfigError("tls-failed") from None


class Certificates:
    """The acceptor's TLS context, made anew when its files change; associations that are open keep theirs.

    Parameters
    ----------
    tls
        The files.
    emit
        Where events go.

    Raises
    ------
    ConfigError
        ``tls-failed`` if they cannot be used at the start. Later, files that cannot be used change nothing.
    """

    def __init__(self, tls: Tls | WebTls, emit: Emit) -> None:
        self._tls = tls
        self._emit = emit
        self._lock = threading.Lock()
        self._signature = self._look()
        self._context = self._made()

    def context(self) -> ssl.SSLContext:
        """Context for the next connection."""
        with self._lock:
            signature = self._look()
            if signature != self._signature:
                self._signature = signature  # files that are bad are tried again when they change again
                self._load()
            return self._context

    def reload(self) -> bool:
        """Read the files now, whether they look changed or not; whether they can be used."""
        with self._lock:
            self._signature = self._look()
            return self._load()

    def _load(self) -> bool:
        try:
            self._context = self._made()
        except ConfigError as error:
            self._emit("tls.reload_failed", level="error", reason=error.code)
            return False
        self._emit("tls.reloaded")
        return True

    def _made(self) -> ssl.SSLContext:
        return server_tls(self._tls) if isinstance(self._tls, Tls) else web_tls(self._tls)

    def _look(self) -> _Signature:
        found = []
        for path in (self._tls.certificate, self._tls.private_key, self._tls.trusted_certificates):
            if path is None:
                continue
            try:
                about = path.stat()
            except OSError:
                found.append((0, 0, 0))
            else:
                found.append((about.st_mtime_ns, about.st_size, about.st_ino))
        return tuple(found)
