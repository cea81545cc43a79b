"""Sections of the configuration about what is fetched: whom a node asks for what a study lacks, and how much may come.

Floor 1. Part of the tree that `config` reads; nothing is read here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dicomnode.bounds import GIBI, MEBI, TEBI, AETitle, Hours, Network, Seconds
from dicomnode.sections import Place, Section


class Source(Place):
    """A PACS that is asked for what a study lacks: earlier studies of its patient, and announced images that did not come."""

    retrieve: Literal["get", "move"] = Field(
        "get",
        description="how it sends: C-GET, or C-MOVE to retrieval.ae_title; with a url WADO-RS, whatever this says",
    )
    move_ae_title: AETitle | None = Field(
        None, description="AE title with which it calls when it sends by C-MOVE; without it: ae_title"
    )
    move_addresses: tuple[Network, ...] = Field(
        (), description="addresses and networks from which it sends by C-MOVE; empty: those of host"
    )
    priors: bool = Field(True, description="ask it for earlier studies, where a model wants them")
    missing: bool = Field(True, description="ask it for images that were announced and did not come")
    listing: bool = Field(
        False,
        description="ask it which images a study has: whether all came, before the quiet time is over, and what is missing",
    )
    hours: tuple[Hours, ...] = Field(
        (), description='local times of day in which it is asked, such as "19:00-06:30", STAT at any time; empty: all'
    )
    objects_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="mean number of objects that it is asked for at most; 0: any"
    )
    bytes_per_second: int = Field(0, ge=0, le=100 * GIBI, description="mean of bytes that it sends at most; 0: any")

    @property
    def moves(self) -> bool:
        """Whether it sends by C-MOVE."""
        return self.retrieve == "move" and self.url is None

    @property
    def way(self) -> str:
        """How it sends, in words."""
        return "WADO-RS" if self.url is not None else f"C-{self.retrieve.upper()}"


class RetrievalSection(Section):
    """Limits of what is fetched from sources."""

    ae_title: AETitle = Field("DICOMNODE-MOVE", description="AE title that a source with C-MOVE sends to")
    port: int = Field(
        0,
        ge=0,
        le=65535,
        description="TCP port of that AE title, at listen.host; 0: none, and no C-MOVE. With TLS where `listen` has no "
        "port without, or such sources have `tls`",
    )
    priors_seconds: Seconds = Field(
        300, description="time for fetching the earlier studies of one work; it then goes on without them"
    )
    missing_seconds: Seconds = Field(120, description="time for one try to fetch the images that a study lacks")
    maximum_objects: int = Field(5000, ge=1, le=1_000_000, description="objects that are fetched for one work at most")
    maximum_bytes: int = Field(4 * GIBI, ge=MEBI, le=TEBI, description="bytes that are fetched for one work at most")
