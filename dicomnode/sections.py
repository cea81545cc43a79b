"""Sections of the configuration that stand for themselves: TLS, folders, where results and exports go and as what, what results look like, keys, how long data stays, logs.

Floor 1. Part of the tree that `config` reads; nothing is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dicomnode.bounds import (
    DAY,
    EXBI,
    GIBI,
    MEBI,
    TEBI,
    AETitle,
    Age,
    Bucket,
    Host,
    Hours,
    Location,
    LongString,
    Name,
    Port,
    Prefix,
    Region,
    Seconds,
    WebAddress,
)


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


class Place(Section):
    """Another system that takes objects, and how it is called."""

    name: Name = Field(description="name in logs, in the ledger and on the command line")
    ae_title: AETitle = Field(description="AE title of the destination")
    host: Host = Field(min_length=1, max_length=253, description="host name or address")
    port: Port = Field(description="TCP port")
    url: WebAddress | None = Field(
        None,
        description="send by STOW-RS (DICOMweb) to this address instead; ae_title, host and port are then not needed, nor used",
    )
    authorization_file: Location | None = Field(
        None, description='file with the Authorization that `url` asks for, such as "Bearer ...", read for each request'
    )
    calling_ae_title: AETitle | None = Field(None, description="AE title that we call with; default: node.ae_title")
    tls: Tls | None = Field(None, description="connect with TLS")
    timeout_seconds: Seconds = Field(
        30, description="silence after which it is given up: connecting, in a message, for an answer"
    )
    hours: tuple[Hours, ...] = Field(
        (),
        description='local times of day in which it is sent anything, such as "19:00-06:30", STAT at any time; empty: all',
    )
    objects_per_minute: int = Field(
        0, ge=0, le=1_000_000, description="mean number of objects that are sent at most; 0: any"
    )
    bytes_per_second: int = Field(0, ge=0, le=100 * GIBI, description="mean of bytes that are sent at most; 0: any")

    @model_validator(mode="before")
    @classmethod
    def _place_is_that_of_the_url(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("url"), str):
            parts = urlsplit(data["url"])
            with suppress(ValueError):  # a port that is none: told of the address itself
                port = parts.port or (443 if parts.scheme == "https" else 80)
                return {**data, "ae_title": "STOW-RS", "host": parts.hostname or "", "port": port}
        return data

    @model_validator(mode="after")
    def _web_makes_sense(self) -> Self:
        if self.url is None and self.authorization_file is not None:
            raise ValueError("authorization_file is for a url")
        local = self.host in ("127.0.0.1", "::1", "localhost")
        if self.authorization_file is not None and not local and not (self.url or "").startswith("https:"):
            raise ValueError("authorization_file needs https: it would be sent in the clear")
        return self

    @property
    def peer(self) -> str:
        """Whom the name stands for: what is learnt of it holds as long as this stays."""
        if self.url is not None:
            return self.url
        return f"{self.ae_title}@{self.host}:{self.port}"


class Destination(Place):
    """Where results go."""

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
    identity_check: Literal["auto", "required", "off"] = Field(
        "auto",
        description="ask it by C-FIND (QIDO-RS) before results go whether patient and study are still what they were, and hold "
        "them where not; auto: where it cannot be asked they go; required: without an answer they do not",
    )
    identity_source: Name | None = Field(
        None, description="one of [[sources]] that is asked in its place, such as the PACS behind a router"
    )

    @model_validator(mode="after")
    def _commitment_is_of_dimse(self) -> Self:
        if self.url is not None and self.storage_commitment:
            raise ValueError("storage_commitment is not for a url: DICOMweb has none")
        return self


class BucketSection(Section):
    """A bucket of S3, or of what speaks as S3 does."""

    bucket: Bucket = Field(description="name of the bucket")
    prefix: Prefix = Field("", description="what stands before the names of objects: <prefix>/<study>/<instance>.dcm")
    region: Region = Field("us-east-1", description="region of the bucket")
    endpoint: WebAddress | None = Field(None, description="address of a server that is not Amazon's; https, but here")
    path_style: bool = Field(
        False, description="name the bucket in the path, not in the host; such servers often need it"
    )
    credentials_file: Location | None = Field(
        None,
        description="file as of the AWS tools, [default] with aws_access_key_id and aws_secret_access_key, readable by "
        "the node alone; without it: systemd's credential s3-<name of the export>, else AWS_ACCESS_KEY_ID and its kind",
    )
    sse: Literal["default", "AES256", "aws:kms"] = Field(
        "default", description="encryption by the server that is asked for; default: that of the bucket"
    )
    kms_key_id: str | None = Field(None, max_length=256, description="key of aws:kms; without it: the bucket's")
    checksums: bool = Field(True, description="have the server check SHA-256 of what it gets; some servers cannot")
    part_bytes: int = Field(
        64 * MEBI, ge=5 * MEBI, le=GIBI, description="larger objects go in parts of so many bytes, one after the other"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.kms_key_id is not None and self.sse != "aws:kms":
            raise ValueError("kms_key_id is for sse aws:kms")
        if self.endpoint is not None:
            parts = urlsplit(self.endpoint)
            if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
                raise ValueError("endpoint needs https: objects would be sent in the clear")
        return self


class Export(Place):
    """Where de-identified studies go for research, when somebody orders it: `dicomnode export`; policy `export`."""

    project: LongString = Field(
        min_length=1, description="pseudonyms, UIDs and date shifts of exports differ between projects"
    )
    into: Location | None = Field(
        None,
        description="write files into this folder; nothing is then sent: no url, ae_title, host and port are needed, nor used",
    )
    s3: BucketSection | None = Field(
        None,
        description="put objects into a bucket (extra `s3`); no url, ae_title, host and port are then needed, nor used",
    )
    results: bool = Field(False, description="export also what this node made, where a study came with it")

    @model_validator(mode="before")
    @classmethod
    def _folder_is_no_peer(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("into") and "url" not in data:
            return {"ae_title": "FOLDER", "host": "localhost", "port": 104, **data}
        if isinstance(data, dict) and data.get("s3") and "url" not in data:
            return {"ae_title": "S3", "host": "localhost", "port": 443, **data}
        return data

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(one is not None for one in (self.into, self.s3, self.url)) > 1:
            raise ValueError("into, s3 and url: it goes to one place")
        return self

    @property
    def peer(self) -> str:
        """As of `Place`."""
        if self.s3 is not None:
            return f"s3://{self.s3.bucket}/{self.s3.prefix}"
        return super().peer


def faults_of_folders(folders: Sequence[FolderSection], exports: Sequence[Export] = ()) -> Iterator[str]:
    """What is wrong with folders beside each other: what is exported is not to come in again, nor beside other projects."""
    for number, export in enumerate(exports):
        for earlier in exports[:number]:
            if export.into is not None and earlier.into is not None and _overlap(export.into, earlier.into):
                yield f"exports.{export.name}: its folder and that of {earlier.name} lie within each other"
    for number, one in enumerate(folders):
        for other in folders[:number]:
            if _overlap(one.path, other.path):
                yield f"folders.{one.name}: it and {other.name} lie within each other"
        for export in exports:
            if export.into is not None and _overlap(one.path, export.into):
                yield f"exports.{export.name}: it and the watched folder {one.name} lie within each other"


def _overlap(one: Path, other: Path) -> bool:
    here, there = one.absolute(), other.absolute()
    return here.is_relative_to(there) or there.is_relative_to(here)


class CompletionSection(Section):
    """When a study is whole."""

    quiet_seconds: Seconds = Field(
        30, description="silence after the last instance, with no association open, before delivery"
    )
    evidence_seconds: Seconds = Field(
        1800, description="silence that is borne while a step is in progress or announced instances are missing"
    )
    open_seconds: Seconds = Field(
        300, description="silence of a study that is borne while an association that carried it stays open for it"
    )
    arrival_seconds: Age = Field(
        4 * 3600, description="time after its first image at which a study is settled though more of it comes"
    )
    start_early: bool = Field(True, description="begin to work before a study is known to be whole")
    early_bytes: int = Field(
        256 * MEBI, ge=0, le=TEBI, description="memory for images de-identified while their study comes; 0: none are"
    )
    deadline_seconds: Age = Field(3600, description="time after which a stage that does not end fails its work")


class ResultsSection(Section):
    """What results look like."""

    series_number_base: int = Field(9000, ge=0, le=99000, description="Series Number of the first result series")
    language: Literal["en", "de", "fr", "zh"] = Field(
        "en", description="language of texts in results; codes stay codes"
    )


class KeysSection(Section):
    """Where the keys come from."""

    source: Literal["auto", "files", "credentials", "command"] = Field(
        "auto", description="files of the keys folder, systemd credentials, whichever of them is there, or a program"
    )
    command: tuple[str, ...] = Field(
        (), description="program that prints a key, whose name it gets as its last argument (KMS, PKCS#11)"
    )
    command_timeout_seconds: Seconds = Field(30, description="time for that program, for each key")
    folder: Location | None = Field(None, description="keys folder; default: <state>/keys")

    @model_validator(mode="after")
    def _command_is_named(self) -> Self:
        if (self.source == "command") != bool(self.command):
            raise ValueError("source is command where, and only where, a command is named")
        return self


class RetentionSection(Section):
    """How long data stays."""

    days: float = Field(
        30,
        ge=0.01,
        le=36_500,
        allow_inf_nan=False,
        description="days after its last image at which a finished study is shredded, keys and all; results that are "
        "held until then, and for a week, are given up; what failed keeps its study for a week from then, or for so many "
        "days if these are less; an export that was ordered keeps it until it is done or given up",
    )
    remind_seconds: Age = Field(
        DAY, description="how often it is told again that something is held and waits for somebody"
    )
    archive: Name | None = Field(
        None,
        description="destination that is asked, by C-FIND, whether it holds studies that came from a modality; default: the first",
    )


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
