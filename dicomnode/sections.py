"""Sections of the configuration that are about others: TLS, where results go and as what, how long data stays.

Floor 1. Part of the tree that `config` reads; nothing is read here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from dicomnode.bounds import EXBI, GIBI, MEBI, AETitle, Host, Hours, Location, Name, Port, Seconds


class Section(BaseModel):
    """A table of the configuration: frozen, without settings that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(Section):
    """DICOM TLS (PS3.15 B.12) of one side: PEM files."""

    certificate: Location = Field(description="certificate chain of this node, PEM")
    private_key: Location = Field(description="private key of this node, PEM, readable by the node alone")
    trusted_certificates: Location = Field(description="certificates of the authorities whose peers are let in, PEM")


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
    storage_commitment: bool = Field(
        False, description="ask it to commit to what it took; what it does not commit to is sent once more, then told"
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
    hours: tuple[Hours, ...] = Field(
        (),
        description='local times of day in which results are sent, such as "19:00-06:30", STAT at any time; empty: all',
    )
    objects_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="mean number of objects that are sent at most; 0: any"
    )
    bytes_per_second: int = Field(0, ge=0, le=100 * GIBI, description="mean of bytes that are sent at most; 0: any")

    @property
    def peer(self) -> str:
        """Whom the name stands for: what is learnt of it holds as long as this stays."""
        return f"{self.ae_title}@{self.host}:{self.port}"


class RetentionSection(Section):
    """How long data stays."""

    days: float = Field(
        30,
        ge=0.01,
        le=36_500,
        allow_inf_nan=False,
        description="days after its last image at which a finished study is shredded, keys and all",
    )

    archive: Name | None = Field(
        None,
        description="destination that is asked, by C-FIND, whether it holds studies that came from a modality; default: the first",
    )
