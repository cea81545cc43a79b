"""The part of the configuration that faces the network: where the node listens, who may call, what else it answers.

Floor 1. Part of the tree that `config` reads; nothing is read here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from dicomnode.bounds import (
    EXBI,
    GIBI,
    MEBI,
    Address,
    AETitle,
    DistinguishedName,
    Fingerprint,
    Host,
    ListenPort,
    Location,
    Name,
    Network,
    Port,
    Seconds,
    Uid,
    WebPath,
)
from dicomnode.sections import Section, Tls
from dicomnode.source_sections import RetrievalSection, Source


class ListenSection(Section):
    """Where the node listens."""

    host: Address = Field(
        "127.0.0.1", description="address to listen on; 127.0.0.1 is this machine alone, 0.0.0.0 every network"
    )
    port: ListenPort = Field(11112, description="TCP port without TLS; 0 takes a free one")
    plain: Literal["auto", "on", "off"] = Field(
        "auto", description="whether that port is open; auto: unless `tls` is set, so that nothing comes unencrypted"
    )
    calling_ae_titles: tuple[AETitle, ...] = Field((), description="AE titles that may call; empty: any")
    require_called_ae_title: bool = Field(False, description="refuse associations that call another AE title than ours")
    maximum_associations: int = Field(96, ge=1, le=1000, description="associations at a time, in all")
    associations_per_address: int = Field(
        64, ge=1, le=1000, description="associations of one address at a time: the rest is for others"
    )
    waiting_per_address: int = Field(
        32, ge=1, le=1000, description="connections of one address that have not asked for an association yet"
    )
    maximum_connections: int = Field(512, ge=1, le=10_000, description="connections at a time, in all")
    network_timeout_seconds: Seconds = Field(60, description="silence after which an association is ended")
    acse_timeout_seconds: Seconds = Field(30, description="time for the association request and release")
    tls: Tls | None = Field(None, description="listen with TLS (mutual) on `tls_port`")
    tls_port: ListenPort = Field(2762, description="TCP port of TLS; 0 takes a free one")

    @property
    def listens_plain(self) -> bool:
        """Whether the port without TLS is open."""
        return self.plain == "on" or (self.plain == "auto" and self.tls is None)

    @model_validator(mode="after")
    def _ports_make_sense(self) -> Self:
        if not self.listens_plain and self.tls is None:
            raise ValueError("plain is off and tls is not set: nothing would listen")
        if self.listens_plain and self.tls is not None and self.port == self.tls_port != 0:
            raise ValueError("port and tls_port are the same")
        return self


class WebTls(Section):
    """TLS of the STOW-RS side: PEM files."""

    certificate: Location = Field(description="certificate chain of this node, PEM")
    private_key: Location = Field(description="private key of this node, PEM, readable by the node alone")
    trusted_certificates: Location | None = Field(
        None, description="certificates of the authorities of callers' certificates, PEM; without it none is asked for"
    )


class StowSection(Section):
    """DICOMweb STOW-RS (PS3.18 10.5) in: only for peers whose rule asks for a token or a certificate."""

    enabled: bool = Field(False, description="take objects by STOW-RS")
    host: Address = Field("127.0.0.1", description="address to listen on; without `tls` one of this machine alone")
    port: ListenPort = Field(8042, description="TCP port; 0 takes a free one")
    path: WebPath = Field("/dicom-web", description="what stands before /studies in the addresses")
    tls: WebTls | None = Field(None, description="listen with TLS (HTTPS)")
    head_seconds: Seconds = Field(20, description="time for the head of a request")
    idle_seconds: Seconds = Field(15, description="time that a connection may wait for its next request")
    maximum_request_bytes: int = Field(64 * GIBI, ge=MEBI, le=EXBI, description="bytes of one request")
    maximum_parts: int = Field(10_000, ge=1, le=1_000_000, description="objects of one request")
    retry_after_seconds: int = Field(
        30, ge=1, le=86_400, description="when a caller that cannot be served now is told to ask again"
    )

    @model_validator(mode="after")
    def _nothing_in_the_clear(self) -> Self:
        if self.tls is None and not ipaddress.ip_address(self.host).is_loopback:
            raise ValueError("host is not of this machine alone, and tls is not set: images and tokens in the clear")
        return self


class PeerRule(Section):
    """Who may send, and what."""

    name: Name = Field(description="name in logs and in the ledger")
    ae_title: AETitle | None = Field(
        None,
        description="calling AE title; without it: any; by STOW-RS: what rules of routing call it, without it the name",
    )
    token_sha256: tuple[Fingerprint, ...] = Field(
        (),
        description="SHA-256 of bearer tokens (`dicomnode keys new-token`), one of which it shows; so it comes by STOW-RS alone",
    )
    addresses: tuple[Network, ...] = Field((), description="addresses and networks it calls from; empty: any")
    certificate_sha256: tuple[Fingerprint, ...] = Field(
        (), description="SHA-256 of its certificate (DER), one of these; so it must come by TLS"
    )
    certificate_subject: DistinguishedName | None = Field(
        None, description="subject of its certificate (RFC 4514); so it must come by TLS"
    )
    certificate_issuer: DistinguishedName | None = Field(
        None, description="issuer of its certificate (RFC 4514); so it must come by TLS"
    )
    sop_classes: tuple[Uid, ...] = Field(
        (), description="SOP Classes that it may store; empty: all that the node takes"
    )
    maximum_associations: int = Field(64, ge=1, le=1000, description="associations at a time")
    maximum_open_studies: int = Field(1000, ge=1, le=1_000_000, description="studies of it that are arriving at a time")
    maximum_study_instances: int = Field(100_000, ge=1, le=10_000_000, description="instances of one study")
    maximum_study_bytes: int = Field(256 * GIBI, ge=MEBI, le=EXBI, description="bytes of one study")
    modality: bool = Field(
        False,
        description="sends straight from a modality: its studies are shredded only when the PACS "
        "(`retention.archive`) shows that it holds every object of them; false: after `retention.days`, and nobody is asked",
    )
    report_host: Host | None = Field(
        None, description="where it takes reports of storage commitment; without it: where it asked"
    )
    report_port: Port = Field(104, description="TCP port of `report_host`")
    report_tls: Tls | None = Field(None, description="reports go with TLS (mutual); without it in the clear")
    priority: Literal["stat", "routine", "research"] = Field(
        "routine", description="how urgent its studies are; kept with each study"
    )

    @property
    def by_dimse(self) -> bool:
        """Whether it is of associations: who has tokens is known by them alone."""
        return not self.token_sha256

    @property
    def by_web(self) -> bool:
        """Whether it lets in by STOW-RS: an AE title and an address alone prove nothing there."""
        asked = self.token_sha256 or self.certificate_sha256 or self.certificate_subject or self.certificate_issuer
        return bool(asked)

    @property
    def web_title(self) -> str:
        """Stands for the calling AE title of who comes by STOW-RS."""
        return self.ae_title or self.name.upper()[:16]


class ServicesSection(Section):
    """Services beside C-ECHO and C-STORE."""

    procedure_steps: bool = Field(
        True, description="take Modality Performed Procedure Steps and Instance Availability Notifications as evidence"
    )
    storage_commitment: bool = Field(
        False, description="answer requests of storage commitment with what the PACS has committed"
    )
    rejection_notes_from: tuple[AETitle, ...] = Field(
        ("*",),
        description="AE titles, * for any part, of senders whose rejection notes (IHE IOCM) count; empty: nobody's",
    )
    commitment_destination: Name | None = Field(
        None, description="destination that is asked to commit; default: the first"
    )
    commitment_wait_seconds: Seconds = Field(
        5, description="time for its report on the association that asked; later it comes on one of its own"
    )
    commitment_give_up_seconds: Seconds = Field(
        86400, description="age at which a request is reported as failed, or its report given up"
    )


def faults_of_doors(
    listen: ListenSection, stow: StowSection, sources: Sequence[Source], retrieval: RetrievalSection
) -> Iterator[str]:
    """What is wrong with ports beside each other, and with sources that need one."""
    ports = {
        "listen.port": listen.port if listen.listens_plain else 0,
        "listen.tls_port": 0 if listen.tls is None else listen.tls_port,
        "stow.port": stow.port if stow.enabled else 0,
        "retrieval.port": retrieval.port,
    }
    taken: dict[int, str] = {}
    for name, port in ports.items():
        if port and taken.setdefault(port, name) != name:
            yield f"{name}: {port} is {taken[port]}, too"
    for one in sources:
        if one.moves and not retrieval.port:
            yield f"sources.{one.name}: C-MOVE needs retrieval.port"
    yield from _faults_of_moves(listen, sources)


def faults_of_callers(peers: Sequence[PeerRule], listen: ListenSection, stow: StowSection) -> Iterator[str]:
    """Callers by STOW-RS that rules of routing could not tell from another: their names, in capitals and cut, are taken."""
    if not stow.enabled:
        return
    for one in peers:
        if not one.by_web or one.ae_title is not None:  # an AE title that two are given is meant
            continue
        others = [other.name for other in peers if other is not one and one.web_title in _titles_of(other)]
        others += ["listen.calling_ae_titles"] * (one.web_title in listen.calling_ae_titles)
        if others:
            yield (
                f"peers.{one.name}: rules of routing call it {one.web_title} by STOW-RS, and {others[0]} too; "
                "give it an ae_title of its own"
            )


def _titles_of(peer: PeerRule) -> tuple[str | None, ...]:
    return (peer.ae_title, peer.web_title) if peer.by_web else (peer.ae_title,)


def tls_of_moves(listen: ListenSection, sources: Sequence[Source]) -> Tls | None:
    """TLS of the port that sources send to by C-MOVE: where they have it, or where the node has no port without."""
    of_sources = [one.tls for one in sources if one.moves and one.tls is not None]
    return listen.tls or of_sources[0] if of_sources or not listen.listens_plain else None


def _faults_of_moves(listen: ListenSection, sources: Sequence[Source]) -> Iterator[str]:
    """Sources that cannot send to one port: with TLS and without, or with files that differ."""
    moving = [one for one in sources if one.moves]
    first = next((one for one in moving if one.tls is not None), None)
    if first is None:
        return
    for one in moving:
        if one.tls is None and listen.listens_plain:
            yield f"sources.{one.name}: no tls, while {first.name} sends by C-MOVE with TLS to the same retrieval.port"
        elif one.tls not in (None, first.tls) and listen.tls is None:
            yield f"sources.{one.name}: tls is not that of {first.name}; listen.tls would stand for both at retrieval.port"
