"""Who is at the other end: what a connection shows of itself against the rules of the configuration. Pure: no socket."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509

from dicomnode.network_sections import PeerRule


class Stranger(StrEnum):
    """What about a caller no rule knows; the peer itself hears of all of them the same (PS3.8 9.3.4: 1, 1, 3)."""

    AE_TITLE = "ae-title-unknown"
    ADDRESS = "address-unknown"
    CERTIFICATE = "certificate-unknown"
    TOKEN = "token-unknown"  # noqa: S105 (a word for the log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a rule may ask of a certificate: SHA-256 of its DER in hex, and its names as RFC 4514 writes them."""

    sha256: str
    subject: str
    issuer: str


#: Tells by calling AE title, address and certificate who calls: the rule that lets in, or what about the caller is unknown.
Recogniser = Callable[[str, str, Certificate | None], PeerRule | Stranger]


def read_certificate(der: bytes) -> Certificate:
    """Certificate that TLS has verified; names that cannot be read are empty, and so fit no rule."""
    fingerprint = hashlib.sha256(der).hexdigest()
    try:
        parsed = x509.load_der_x509_certificate(der)
        return Certificate(
            sha256=fingerprint, subject=parsed.subject.rfc4514_string(), issuer=parsed.issuer.rfc4514_string()
        )
    except ValueError:
        return Certificate(sha256=fingerprint, subject="", issuer="")


def recognise(
    rules: Sequence[PeerRule], calling_ae_title: str, address: str, certificate: Certificate | None
) -> PeerRule | Stranger:
    """The first rule that fits whole, or what came closest to one.

    Parameters
    ----------
    rules
        Peers in the order of the configuration.
    address
        Of the connection, IPv4 plain.
    certificate
        Of the connection; None without TLS.
    """
    stranger = Stranger.AE_TITLE
    for rule in rules:
        if rule.ae_title not in (None, calling_ae_title):
            continue
        if not _calls_from(rule, address):
            stranger = Stranger.ADDRESS if stranger is Stranger.AE_TITLE else stranger
        elif not _shows(rule, certificate):
            stranger = Stranger.CERTIFICATE
        else:
            return rule
    return stranger


def recognise_web(
    rules: Sequence[PeerRule], token: str | None, address: str, certificate: Certificate | None
) -> PeerRule | Stranger:
    """The first rule of STOW-RS that fits whole, or what came closest to one; rules that prove nobody fit nobody.

    Parameters
    ----------
    token
        Bearer token; None where the request has none.
    address, certificate
        As of `recognise`.
    """
    shown = hashlib.sha256((token or "").encode("ascii")).hexdigest()
    stranger = Stranger.TOKEN
    for rule in rules:
        if not rule.by_web:
            continue
        known = [hmac.compare_digest(shown, one) for one in rule.token_sha256]  # all of them, in any case
        if rule.token_sha256 and (token is None or not any(known)):
            continue
        if not _shows(rule, certificate):
            stranger = Stranger.CERTIFICATE
        elif not _calls_from(rule, address):
            stranger = Stranger.ADDRESS
        else:
            return rule
    return stranger


def _calls_from(rule: PeerRule, address: str) -> bool:
    if not rule.addresses:
        return True
    caller = ipaddress.ip_address(address)
    return any(caller in ipaddress.ip_network(network) for network in rule.addresses)


def _shows(rule: PeerRule, certificate: Certificate | None) -> bool:
    asked = rule.certificate_sha256 or rule.certificate_subject or rule.certificate_issuer
    if not asked:
        return True
    if certificate is None:
        return False
    return (
        (not rule.certificate_sha256 or certificate.sha256 in rule.certificate_sha256)
        and rule.certificate_subject in (None, certificate.subject)
        and rule.certificate_issuer in (None, certificate.issuer)
    )
