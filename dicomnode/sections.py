"""Sections of the configuration that stand for themselves: TLS, watched folders, where results go and in what form, logs.

Floor 1. Part of the tree that `config` reads; nothing is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dicomnode.bounds import DAY, EXBI, MEBI, AETitle, Host, Location, Name, Port, Seconds


class Section(BaseModel):
    """A table of the configuration: frozen, without settings that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(Section):
    """DICOM TLS (PS3.15 B.12) of one side: PEM files."""

    certificate: Location = Field(description="certificate chain of this node, PEM")
    private_key: Location = Field(description="private key of this node, PEM, readable by the node alone")
    trusted_certificates: Location = Field(description="certificates of the authorities whose peers are let in, PEM")


class FolderSection(Section):
    """A folder whose DICOM files are taken in as if they had been sent."""

    name: Name = Field(description="name in logs")
    path: Location = Field(description="the folder; what lies below it is taken too")
    ae_title: AETitle = Field("FOLDER", description="AE title of the sender, for rules")
    settle_seconds: Seconds = Field(5, description="time for which a file has not changed before it is taken")
    after: Literal["move", "delete"] = Field(
        "move",
        description="what becomes of a file whose object is sealed: it goes into the folder `taken` within this one, or "
        "is deleted; what cannot be taken goes into `refused`",
    )


def faults_of_folders(folders: Sequence[FolderSection]) -> Iterator[str]:
    """What is wrong with folders beside each other."""
    for number, one in enumerate(folders):
        for other in folders[:number]:
            here, there = one.path.absolute(), other.path.absolute()
            if here.is_relative_to(there) or there.is_relative_to(here):
                yield f"folders.{one.name}: it and {other.name} lie within each other"


class Destination(Section):
    """Where results go."""

    name: Name = Field(description="name in logs, in the ledger and on the command line")
    ae_title: AETitle = Field(description="AE title of the destination")
    host: Host = Field(min_length=1, max_length=253, description="host name or address")
    port: Port = Field(description="TCP port")
    calling_ae_title: AETitle | None = Field(None, description="AE title that we call with; default: node.ae_title")
    tls: Tls | None = Field(None, description="connect with TLS")
    timeout_seconds: Seconds = Field(
        30, description="silence after which it is given up: connecting, in a message, for an answer"
    )
    segmentation: Literal["binary", "fractional", "labelmap", "rtstruct", "none"] = Field(
        "binary",
        description="form of the regions; OHIF shows binary alone well; rtstruct may reach treatment planning",
    )
    report: Literal["comprehensive", "comprehensive-3d", "basic-text", "none"] = Field(
        "comprehensive", description="form of the measurements: SOP Class of the structured report"
    )
    key_image: bool = Field(True, description="send the key image, a Secondary Capture")
    key_objects: bool = Field(True, description="send a Key Object Selection that names the slices that matter")
    no_finding: bool = Field(False, description="say so in a report where a model found none of what it looks for")
    not_processed: bool = Field(
        False, description="say so in a report where a model's rule took the study and it could not be processed"
    )
    rejection_notes: bool = Field(
        False, description="retract replaced results by a rejection note (IHE IOCM, code 113001)"
    )
    fallbacks: bool = Field(
        True, description="where a SOP Class is not supported, send the next form of the declared chain"
    )
    maximum_object_bytes: int = Field(
        512 * MEBI,
        ge=0,
        le=EXBI,
        description="bytes of one result object that the destination is to get at most; 0: any",
    )
    maximum_series: int = Field(
        8,
        ge=0,
        le=1000,
        description="series that one model may add to a study at the destination with each revision, rejection notes apart; 0: any number",
    )

    @property
    def peer(self) -> str:
        """Whom the name stands for: what is learnt of it holds as long as this stays."""
        return f"{self.ae_title}@{self.host}:{self.port}"


class LoggingSection(Section):
    """Logs."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is written")
    format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere"
    )
    summary_seconds: float = Field(
        60.0,
        ge=0,
        le=DAY,
        allow_inf_nan=False,
        description="what a peer causes again and again is written once, then summed up at this interval; 0: every time",
    )
    summary_sources: int = Field(
        256, ge=1, le=65536, description="kinds of event and addresses that summaries tell apart at once"
    )
