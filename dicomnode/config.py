"""The configuration: one frozen tree, read from TOML, checked whole, with every error told at once.

Floor 1. Every limit of the house is a named field here, with its unit and its default; nothing else reads a file or
the environment for its settings.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from dicomnode.bounds import (
    DAY,
    EXBI,
    GIBI,
    MEBI,
    TEBI,
    YEAR,
    AETitle,
    Age,
    Location,
    LongString,
    Receivers,
    Seconds,
    ShortString,
    Uid,
    Word,
    problem_of,
)
from dicomnode.errors import ConfigError
from dicomnode.network_sections import (
    ListenSection,
    PeerRule,
    ServicesSection,
    StowSection,
    faults_of_callers,
    faults_of_doors,
)
from dicomnode.routing_rules import FloodGuardSection, LoopGuardSection, RoutingRule, faults_of_rules
from dicomnode.sections import (
    CompletionSection,
    Destination,
    Export,
    FolderSection,
    KeysSection,
    LoggingSection,
    ResultsSection,
    RetentionSection,
    Section,
    faults_of_folders,
)
from dicomnode.site_rules import DeviceRules, PolicySection
from dicomnode.source_sections import RetrievalSection, Source

#: Sections of which there may be any number, each with a name of its own.
_NAMED = ("destinations", "peers", "folders", "rules", "exports", "sources")


class NodeSection(Section):
    """Who the node is and where it keeps its state."""

    ae_title: AETitle = Field("DICOMNODE", description="AE title, called and calling")
    state: Location | None = Field(
        None, description="state folder; default: $STATE_DIRECTORY of systemd, else the user's data folder"
    )
    station_name: ShortString = Field("DICOMNODE", description="Station Name (0008,1010) in results")
    institution_name: LongString = Field("", description="Institution Name (0008,0080) in results; empty: none")


class IntakeSection(Section):
    """Limits of receiving and of the spool."""

    receivers: Receivers = Field(
        "auto",
        description="processes that receive; 0: the node's own; auto: half as many as cores, 2 to 4; 1 where there is one core",
    )
    header_scan_bytes: int = Field(
        MEBI, ge=4096, le=64 * MEBI, description="bytes of a Data Set that are searched for its UIDs"
    )
    maximum_object_bytes: int = Field(4 * GIBI, ge=MEBI, le=TEBI, description="bytes of one object")
    minimum_free_bytes: int = Field(
        GIBI,
        ge=0,
        le=EXBI,
        description="free bytes of the disk below which new associations are rejected and C-STORE is answered 0xA700",
    )
    segment_bytes: int = Field(GIBI, ge=MEBI, le=TEBI, description="bytes after which a new segment is begun")
    extent_bytes: int = Field(
        8 * MEBI, ge=4096, le=GIBI, description="most bytes by which a segment grows at once; at most segment_bytes"
    )
    prepared_bytes: int = Field(
        512 * MEBI,
        ge=0,
        le=TEBI,
        description="bytes of empty space that each receiver makes ready while nothing comes, so that what comes then "
        "is written faster; given back where the disk gets full; 0, with maximum_spool_bytes or without O_DIRECT: none",
    )
    open_segments: int = Field(64, ge=1, le=4096, description="segments open at once")
    chunk_bytes: int = Field(
        256 * 1024, ge=4096, le=16 * MEBI, description="plaintext bytes of one sealed chunk, at most segment_bytes"
    )
    minimum_fragment_bytes: int = Field(
        64, ge=1, le=4096, description="mean size of a message's fragments, where there are more than 1024"
    )
    minimum_bytes_per_second: int = Field(
        256,
        ge=0,
        le=MEBI,
        description="mean that a sender must reach over a network timeout, in the middle of an object",
    )
    maximum_pdu_bytes: int = Field(131072, ge=4096, le=1024 * 1024, description="largest PDU that we advertise")
    private_sop_classes: tuple[Uid, ...] = Field((), description="SOP Classes that are stored beside the standard's")
    maximum_spool_bytes: int = Field(
        0,
        ge=0,
        le=EXBI,
        description="bytes that the spool may hold; beyond it C-STORE is answered 0xA700; 0: as the disk has",
    )
    maximum_queue_seconds: float = Field(
        DAY / 2,
        ge=0,
        le=YEAR,
        allow_inf_nan=False,
        description="time for which a study may wait for its turn; beyond it new associations of senders as urgent as it, or "
        "less, are rejected as transient; 0: any time",
    )
    write_mode: Literal["auto", "direct", "append"] = Field(
        "auto", description="O_DIRECT, append + fdatasync, or what a trial shows"
    )

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        for name in ("extent_bytes", "chunk_bytes"):
            if getattr(self, name) > self.segment_bytes:
                raise ValueError(f"{name} is larger than segment_bytes")
        return self


class ReadingSection(Section):
    """Budgets for parsing what strangers encoded."""

    maximum_nesting: int = Field(32, ge=1, le=100, description="depth of sequences")
    maximum_items: int = Field(100_000, ge=1, le=100_000_000, description="items and elements of one Data Set")
    maximum_inflated_bytes: int = Field(
        1 * GIBI, ge=MEBI, le=TEBI, description="bytes of an inflated deflated Data Set"
    )
    decode_timeout_seconds: Seconds = Field(60, description="time for decoding one compressed image")
    decode_memory_bytes: int = Field(
        4 * GIBI, ge=256 * MEBI, le=TEBI, description="address space of a decoding process"
    )
    decode_processes: int = Field(
        0, ge=0, le=64, description="processes that decode the compressed images of a study; 0: one per core"
    )


class ModelsSection(Section):
    """Which models run, and how."""

    folder: Location | None = Field(
        None, description="folder of model packages; default: those that ship with the node"
    )
    enabled: tuple[str, ...] = Field((), description="names of the models that run; empty: all of the folder")
    engine: Literal["auto", "tensorrt", "openvino", "onnxruntime", "stand-in"] = Field(
        "auto",
        description="what runs the networks; auto: the fastest that is installed and can; stand-in: thresholds in their "
        "place, for tests alone",
    )
    threads: int = Field(
        0, ge=0, le=256, description="CPU threads of one inference; 0: one per core that the process may use"
    )
    maximum_memory_bytes: int = Field(6 * GIBI, ge=256 * MEBI, le=TEBI, description="memory that one study may take")
    precision: Literal["auto", "fp16", "bf16", "tf32", "fp32", "int8", "fp8"] = Field(
        "auto",
        description="what TensorRT computes in; auto: the fastest of fp16, tf32 and fp32 that agrees with the CPU",
    )
    gpu: str = Field(
        "",
        pattern=r"^([0-9A-Za-z-]{1,64}(,[0-9A-Za-z-]{1,64}){0,15})?$",
        description="GPU: number or UUID (GPU-..., MIG-...), several with commas between, all: every whole one; empty: "
        "the first. Each takes a study at a time",
    )
    gpu_opening_seconds: Seconds = Field(3600, description="time for opening an engine on the GPU, building included")
    gpu_silence_seconds: Seconds = Field(120, description="silence after which a GPU process that works is ended")
    gpu_study_seconds: Seconds = Field(900, description="time for one study on the GPU")
    gpu_again_seconds: Seconds = Field(300, description="wait before a GPU that failed to open is tried again")
    engine_cache: Location | None = Field(
        None, description="folder of built engines, for this user alone; default: <state>/engines"
    )
    engine_cache_bytes: int = Field(
        16 * GIBI, ge=GIBI, le=TEBI, description="built engines that are kept; the least used go first"
    )

    @property
    def gpus(self) -> tuple[str, ...]:
        """GPUs one by one, as they are named; empty text: the first."""
        return tuple(self.gpu.split(","))

    @model_validator(mode="after")
    def _gpus_differ(self) -> Self:
        if len(set(self.gpus)) < len(self.gpus) or ("all" in self.gpus and len(self.gpus) > 1):
            raise ValueError("gpu names each device once, or all alone")
        return self


class DeliverySection(Section):
    """How results are sent."""

    first_retry_seconds: Seconds = Field(5, description="wait after the first failed try; doubled each time")
    longest_retry_seconds: Seconds = Field(600, description="longest wait between two tries")
    give_up_seconds: Age = Field(7 * DAY, description="age at which a delivery is given up with a reason")
    circuit_failures: int = Field(
        5,
        ge=1,
        le=100_000,
        description="failures of a destination one after the other after which it is left alone and only asked, by "
        "C-ECHO, whether it is there again; a rejection that is permanent counts as all of them",
    )
    commitment_seconds: Age = Field(
        3600, description="time for a destination's report of storage commitment; then C-FIND shows what it holds"
    )
    probe_seconds: Age = Field(
        DAY, description="age at which what is known of a destination's SOP Classes is asked anew"
    )
    ask_seconds: Seconds = Field(
        60,
        description="time for which a destination that gives no answer about a study, or does not show it any more, is asked "
        "again; then results go unasked, or are held",
    )
    hold_after_seconds: float = Field(
        0,
        ge=0,
        le=YEAR,
        allow_inf_nan=False,
        description="time since the last image of a study after which results that become ready are held, not "
        "delivered, until somebody releases them; 0: never",
    )

    @model_validator(mode="after")
    def _waits_grow(self) -> Self:
        if self.first_retry_seconds > self.longest_retry_seconds:
            raise ValueError("first_retry_seconds is longer than longest_retry_seconds")
        return self


class DeidentificationSection(Section):
    """De-identification (PS3.15 Annex E)."""

    project: LongString = Field(
        "dicomnode", min_length=1, description="pseudonyms and date shifts differ between projects"
    )
    default_issuer: LongString = Field("", description="issuer of patient ids that come without one")
    maximum_date_shift_days: int = Field(3650, ge=1, le=36500, description="dates move back by 1 to this many days")
    known_words: tuple[Word, ...] = Field((), description="names of models, coils and sequences that may stay in texts")
    text_in_pixels: Literal["blank", "withhold"] = Field(
        "blank", description="what is done where text is read in pixels; unread it is always withheld"
    )
    images_without_pixels: Literal["withhold", "pass"] = Field(
        "withhold",
        description="what is done with the header of an image alone, which a file cut before its pixels is too",
    )
    recipients: tuple[Location, ...] = Field(
        (),
        description="certificates, PEM, for whose keys exports enclose the original attributes, encrypted; empty: none",
    )
    ai: PolicySection = Field(
        PolicySection(), description="changes to what the network sees, by options and by keywords of attributes"
    )
    export: PolicySection = Field(PolicySection(), description="the same for what leaves the house")
    devices: DeviceRules = Field((), description="what the site knows of devices that write into images, each a block")

    @model_validator(mode="after")
    def _policies_differ(self) -> Self:
        if self.ai.faces == "deface":
            raise ValueError("ai.faces is not deface: a network sees the pixels that the scanner made")
        if self.export.on_leak == "minimal":
            raise ValueError(
                "export.on_leak is not minimal: what that leaves of an object is enough for networks alone"
            )
        return self


class Config(Section):
    """The whole tree.

    Raises
    ------
    pydantic.ValidationError
        With every error at once; `load` turns it into `ConfigErrors`.
    """

    node: NodeSection = NodeSection()
    listen: ListenSection = ListenSection()
    stow: StowSection = StowSection()
    intake: IntakeSection = IntakeSection()
    services: ServicesSection = ServicesSection()
    reading: ReadingSection = ReadingSection()
    completion: CompletionSection = CompletionSection()
    keys: KeysSection = KeysSection()
    models: ModelsSection = ModelsSection()
    peers: tuple[PeerRule, ...] = ()
    folders: tuple[FolderSection, ...] = ()
    rules: tuple[RoutingRule, ...] = ()
    loop_guard: LoopGuardSection = LoopGuardSection()
    flood_guard: FloodGuardSection = FloodGuardSection()
    destinations: tuple[Destination, ...] = ()
    exports: tuple[Export, ...] = ()
    sources: tuple[Source, ...] = ()
    retrieval: RetrievalSection = RetrievalSection()
    delivery: DeliverySection = DeliverySection()
    deidentification: DeidentificationSection = DeidentificationSection()
    results: ResultsSection = ResultsSection()
    retention: RetentionSection = RetentionSection()
    logging: LoggingSection = LoggingSection()

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        for what in _NAMED:
            if len({block.name for block in getattr(self, what)}) != len(getattr(self, what)):
                raise ValueError(f"two {what} have the same name")
        destinations = [block.name for block in self.destinations]
        if faults := (
            *faults_of_folders(self.folders, self.exports),
            *faults_of_rules(self.rules, destinations, self.models.enabled, [one.name for one in self.exports]),
            *faults_of_callers(self.peers, self.listen, self.stow),
            *faults_of_doors(self.listen, self.stow, self.sources, self.retrieval),
        ):
            raise ValueError("; ".join(faults))
        if self.retention.archive not in {None, *destinations}:
            raise ValueError("retention.archive names no destination")
        sources = {None, *(one.name for one in self.sources)}
        if unknown := [one.name for one in self.destinations if one.identity_source not in sources]:
            raise ValueError(f"destinations.{unknown[0]}: identity_source names none of sources")
        if any(peer.modality for peer in self.peers) and not self.destinations:
            raise ValueError("a peer is a modality, and no destination can be asked whether it holds its studies")
        return self


class ConfigErrors(ConfigError):
    """Every error of a configuration, each as ``where: what``."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("config-invalid", errors=len(problems))
        self.problems = problems


def parse(data: Mapping[str, Any]) -> Config:
    """Configuration out of plain values.

    Raises
    ------
    ConfigErrors
        With every problem found.
    """
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        problems = [problem_of(item, "configuration") for item in error.errors(include_url=False)]
        for what in _NAMED:  # pydantic tells it only when all else is well
            if _same_name(data.get(what)) and not any("same name" in problem for problem in problems):
                problems.append(f"{what}: two have the same name")
        raise ConfigErrors(tuple(problems)) from None


def _same_name(given: object) -> bool:
    blocks = given if isinstance(given, list | tuple) else ()
    names = [str(block.get("name")) for block in blocks if isinstance(block, Mapping)]
    return len(set(names)) != len(names)


def load(path: Path) -> Config:
    """Configuration out of a TOML file.

    Raises
    ------
    ConfigErrors
        If it cannot be read, is no TOML, or breaks a rule.
    """
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigErrors((f"{path}: {os.strerror(error.errno or 0)}",)) from None
    except UnicodeDecodeError as error:
        raise ConfigErrors((f"{path}: byte {error.start} is not UTF-8",)) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigErrors((f"{path}: {error}",)) from None
    return parse(data)


def default_state_folder(environment: Mapping[str, str]) -> Path:
    """State folder where the configuration names none: systemd's ``STATE_DIRECTORY``, else the user's data folder."""
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    home = Path(environment.get("HOME") or "/")
    return Path(environment.get("XDG_DATA_HOME") or home / ".local" / "share") / "dicomnode"
