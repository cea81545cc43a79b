"""The error family: what went wrong, whose fault it is, whether trying again helps, and what to tell a DICOM peer.

Floor 0: imports nothing of the project but a table. No message holds PHI (it is a code and numbers): it may be logged and shown.
"""

from __future__ import annotations

import re
from functools import partial
from types import MappingProxyType
from typing import ClassVar, Final, NamedTuple

from dicomnode.source_reasons import SOURCE_REASONS

_TOKEN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,47}")
Fact = int | float | str


class Reason(NamedTuple):
    """What a code means, and what to do about it."""

    text: str
    advice: str


REASONS: Final = MappingProxyType(
    {
        # Objects as they arrive (PS3.4 B.2.3, PS3.7 C).
        "object-without-uids": Reason(
            "the object lacks a SOP Class, SOP Instance, Study Instance or Series Instance UID",
            "ask the sender's vendor to send complete objects",
        ),
        "object-uid-mismatch": Reason(
            "the Data Set and the C-STORE command name different objects",
            "ask the sender's vendor; the object was not taken",
        ),
        "object-malformed": Reason(
            "the Data Set cannot be parsed", "send it again; if it stays so, the sender writes invalid DICOM"
        ),
        "object-too-complex": Reason(
            "the Data Set exceeds the limits on nesting, items, element lengths or inflation",
            "raise the limits under [reading] if the object is legitimate",
        ),
        "object-too-large": Reason(
            "the object is larger than memory or intake.maximum_object_bytes", "raise the limit if that is expected"
        ),
        "same-uid-other-content": Reason(
            "a second object with the same SOP Instance UID has other content",
            "the second one was set aside; find out which is right and send it under a new UID",
        ),
        "identity-unwritable": Reason(
            "an attribute of the source's patient, study or request cannot be written into a result as it stands",
            "correct that attribute in the PACS or at the scanner, and send the study again",
        ),
        "patient-mismatch": Reason(
            "the images of a study say two patients, or those of a series two names, birth dates, sexes or accession numbers",
            "correct the study in the PACS and send it again",
        ),
        # Pixels.
        "pixel-undecodable": Reason(
            "the pixel data cannot be decoded", "check that the file opens in a viewer; send it again"
        ),
        "pixel-unsupported": Reason(
            "no decoder for this transfer syntax or pixel format", "send the study uncompressed or in JPEG 2000"
        ),
        "pixel-missing": Reason("an image has no pixel data, or less than its header says", "send the image again"),
        "rescale-attribute-missing": Reason(
            "an image does not say what its pixel values mean: Rescale Slope or Intercept is missing, zero or no number",
            "send the images as the scanner made them; a CT image has both (PS3.3 C.8.2.1)",
        ),
        # Geometry of a series (PS3.3 C.7.6.2).
        "geometry-attribute-missing": Reason(
            "a slice lacks position, orientation, spacing or size",
            "the series cannot be placed in space; send an axial series",
        ),
        "geometry-too-few-slices": Reason("the series has too few slices for this model", "send the whole series"),
        "geometry-gap": Reason(
            "slices are missing in the middle of the series", "send the missing slices; the work starts anew by itself"
        ),
        "geometry-irregular-spacing": Reason(
            "the distance between slices varies too much", "send a reconstruction with equal spacing"
        ),
        "geometry-duplicate-position": Reason(
            "two slices lie at the same position", "the series mixes several acquisitions; send them as separate series"
        ),
        "geometry-gantry-tilt": Reason(
            "the slices are shifted against each other, by more than a gantry tilts",
            "send a reconstruction without tilt",
        ),
        "geometry-mixed-orientation": Reason(
            "the slices of the series have different orientations", "send one reconstruction per series"
        ),
        "geometry-mixed-size": Reason(
            "the slices of the series have different sizes or spacings", "send one reconstruction per series"
        ),
        "geometry-mixed-frame-of-reference": Reason(
            "the slices of the series have different Frames of Reference", "send one per series"
        ),
        "geometry-spacing-too-wide": Reason(
            "the slices lie too far apart for this model", "send a thinner reconstruction"
        ),
        "geometry-extent-too-short": Reason(
            "the series covers too little of the body for this model", "send the whole scan"
        ),
        "geometry-multi-frame": Reason(
            "a multi-frame image does not say where its frames lie", "send enhanced or single-frame images"
        ),
        # What a model wants.
        "no-model": Reason(
            "no model is installed or enabled", "run `dicomnode check`; put a package into the models folder"
        ),
        "no-suitable-series": Reason(
            "no series of the study is of the kind that the model wants", "nothing to do if the study is not for it"
        ),
        "ai-output": Reason("an AI made these images", 'nothing, or set loop_guard.ai_output = "take"'),
        "own-output": Reason("a dicomnode made these images", "nothing: results are never an input"),
        "too-many-hops": Reason("these images were processed too often", "look for a loop; loop_guard.maximum_hops"),
        "nothing-found": Reason(
            "the network found none of what it looks for", "look at the images; this is a result, not a fault"
        ),
        "model-package-invalid": Reason("the model package is incomplete or damaged", "install the package again"),
        "model-not-found": Reason("no model of that name is installed", "`dicomnode check` lists the installed models"),
        "engine-unavailable": Reason(
            "the engine that models.engine names cannot be used here",
            "for a GPU see `dicomnode doctor gpu`; else install its extra; under systemd see systemd/README.md; or set "
            "models.engine to auto",
        ),
        "engine-not-used": Reason(
            "models.engine names the GPU, which this command does not use: the CPU computes",
            "to have the GPU compute, send the study to the node (`dicomnode serve`); where the CPU is meant, set "
            "models.engine to auto",
        ),
        "inference-failed": Reason("the network could not be run", "see the log; `dicomnode check` tests the engine"),
        "memory-too-large": Reason(
            "the study needs more memory than models.maximum_memory_bytes", "raise the limit or send fewer slices"
        ),
        # De-identification.
        "withheld-leak": Reason(
            "an identifier of the source was found in the de-identified copy", "report it; `--explain` says where"
        ),
        "withheld-pixels": Reason(
            "the pixels may show identifying text", "policy withholds it; install the `ocr` extra to clean pixels"
        ),
        "withheld-face": Reason(
            "an image of a head alone, or of a kind from which no face can be taken off",
            "de-identify its whole series at once, or let policy flag heads",
        ),
        "withheld-face-geometry": Reason(
            "the images of a head make no volume that shows where its face is",
            "de-identify its whole series at once, or let policy flag heads",
        ),
        "withheld-face-not-found": Reason(
            "nothing in a series of a head proves where its face is", "it is withheld by policy; flag heads instead"
        ),
        "withheld-face-unsaid": Reason(
            "no word tells what an image shows, so it may be a head", "name its body part, or let policy flag heads"
        ),
        "withheld-document": Reason("an encapsulated document cannot be de-identified", "it is withheld by policy"),
        "object-not-reidentifiable": Reason(
            "the object encloses no original attributes", "export with deidentification.recipients encloses them"
        ),
        "withheld-malformed": Reason("what cannot be parsed cannot be proved clean", "it is withheld by policy"),
        "withheld-sop-class": Reason("objects of this kind cannot be de-identified", "it is withheld by policy"),
        # Results.
        "result-identity-differs": Reason(
            "a result's patient, study or Frame of Reference differs from its source",
            "report it; what was made is withheld",
        ),
        "result-geometry-differs": Reason(
            "a result does not round-trip to the mask it was made from", "report it; what was made is withheld"
        ),
        "result-invalid": Reason("a result object breaks its own definition", "report it; what was made is withheld"),
        "result-reference-dangling": Reason(
            "a result refers to an object that is not of its source", "report it; what was made is withheld"
        ),
        "result-over-budget": Reason(
            "a result is larger, or of more series, than the destination is to get",
            "raise maximum_object_bytes or maximum_series of the destination, or send it less",
        ),
        # Storage.
        "storage-full": Reason(
            "less space is free than intake.minimum_free_bytes",
            "free space; what was refused, its sender sends again; what was taken, the node works on by itself",
        ),
        "spool-quota": Reason(
            "the spool holds as many bytes as intake.maximum_spool_bytes allows",
            "raise the limit, or let retention.days end studies sooner; senders send again what was refused",
        ),
        "storage-failed": Reason("the disk refused a read or a write", "look at the disk and the system log"),
        "spool-missing": Reason(
            "the folder of the spool is empty, or not the one that the ledger knows: its disk may not be mounted",
            "mount it, and start again; where it is lost for good: `dicomnode verify --lost-spool`, then start",
        ),
        "storage-not-durable": Reason(
            "the state folder can neither write directly nor flush", "put the state on a local disk"
        ),
        "sealed-damaged": Reason(
            "a sealed file was changed, cut or swapped", "restore it from the source; the object is in quarantine"
        ),
        "key-missing": Reason(
            "a key is not there", "restore the keys folder from its backup; without it sealed data stays sealed"
        ),
        "key-permissions": Reason(
            "a key file can be read by others than its owner", "chmod 0400 the file, and ask who read it"
        ),
        "key-wrong": Reason(
            "a key does not open what was sealed with it, or is none",
            "restore the keys that belong to this state; a recipient's is RSA of 2048 bits or more, in a "
            "PEM certificate that is valid now",
        ),
        "index-behind": Reason(
            "the index has not caught up with what was received", "nothing; it is looked at again by itself"
        ),
        "ledger-missing": Reason(
            "the spool holds studies, but their ledger is gone",
            "restore ledger.sqlite from its backup; without it nothing can be opened",
        ),
        "ledger-in-use": Reason(
            "another program reads the ledger, so what was deleted may still stand on the disk",
            "end it (a backup, a shell of sqlite3) and call again",
        ),
        "ledger-failed": Reason(
            "the ledger cannot be read or written", "look at the disk; `dicomnode check` tests the ledger"
        ),
        "ledger-newer": Reason(
            "the ledger was written by a newer version", "install that version again; nothing was changed"
        ),
        "receiver-failed": Reason(
            "a receiving process ended by itself, or does not answer",
            "another one is started; what was acknowledged is safe. If it stays so, report it with the log",
        ),
        "state-not-found": Reason(
            "no node has run on this state folder",
            "name the right one: --state, or node.state of --config; a node makes it at its first start",
        ),
        "state-unusable": Reason(
            "the state folder is no folder, or cannot be made or looked into",
            "name a folder that the node may write: --state, or node.state of --config",
        ),
        "node-running": Reason(
            "another node already runs on this state folder", "stop it first, or give --state another folder"
        ),
        "transition-forbidden": Reason(
            "a study cannot go from its state to the asked one", "report it; this is a fault of the node"
        ),
        # Peers (PS3.7 C, PS3.8 9.3.4).
        "peer-unreachable": Reason("the destination does not answer", "check host and port"),
        "peer-rejected": Reason("the destination rejected the association", "check the AE titles on both sides"),
        "peer-context-refused": Reason("the destination does not take such objects", "enable the SOP Class there"),
        "peer-aborted": Reason("the destination broke the association off", "see its log"),
        "peer-too-much": Reason("the peer answers without end", "see what it sends; ask its vendor"),
        "peer-refused-object": Reason(
            "the destination refused the object", "see the status in `dicomnode studies`, and the destination's log"
        ),
        "duplicate-unproven": Reason("said to be a duplicate; C-FIND cannot tell", "look for it at the destination"),
        "cancelled": Reason("somebody cancelled it", "`dicomnode retry` or `dicomnode reprocess` takes it up again"),
        "not-committed": Reason("the destination did not commit what it has", "ask who runs it, and `dicomnode retry`"),
        "order-empty": Reason("the study has nothing that this order is about", "see `dicomnode studies`"),
        "peer-out-of-resources": Reason("the destination has no space left (0xA7xx)", "free space there"),
        "peer-protocol": Reason(
            "the peer broke the rules of the protocol", "ask its vendor; the association was aborted"
        ),
        "caller-unknown": Reason(
            "no rule of [[peers]] knows the caller", "see `kind` in the log; compare token_sha256"
        ),
        "node-busy": Reason("too many requests are open, or the node ends", "later; see listen.maximum_associations"),
        "tls-failed": Reason(
            "no TLS connection came about", "see the kind of the event in the runbook; `dicomnode check` tests our side"
        ),
        "port-unavailable": Reason(
            "the port cannot be listened on", "another program has it, or the address is not of this host"
        ),
        **{code: Reason(*said) for code, said in SOURCE_REASONS.items()},
        # The user's input.
        "config-invalid": Reason("the configuration has errors", "`dicomnode check` lists them all"),
        "study-not-found": Reason(
            "no study, or more than one, has a key that begins so", "`dicomnode studies` lists them; write more of it"
        ),
        "rejection-notes-off": Reason(
            "no destination takes rejection notes", "set `rejection_notes = true` at a destination that honours them"
        ),
        "destination-not-found": Reason("the configuration names no such destination", "`dicomnode check` lists them"),
        "extra-missing": Reason("an extra of the package is not installed", "install dicomnode[s3] for exports to S3"),
        "credentials-missing": Reason("a bucket has no credentials", "see credentials_file of the export's s3"),
        "source-not-found": Reason("the source folder is missing or holds no file", "name a folder with DICOM files"),
        "path-unreadable": Reason("a path cannot be read, or is a linked folder", "see who may read it, or name it"),
        "source-unreadable": Reason(
            "the source holds no DICOM object that can be read",
            "the lines above tell why; `dicomnode infer` tells it file by file in _outcome.json",
        ),
        "output-not-empty": Reason("the output folder is not writable, not empty, or in use", "name a new folder"),
        "output-failed": Reason("a file of the output cannot be written", "free space, and name a new folder"),
        "map-unwritable": Reason("the file that --map names cannot be written", "name another one; nothing was done"),
        "map-in-output": Reason("the file that --map names is in the output", "name another one; nothing was done"),
        "thread-stalled": Reason("a thread of the node hangs", "see `dicomnode status`, and this code in the runbook"),
        "timeout": Reason("it did not end in time", "see `dicomnode studies` and the log"),
        "internal": Reason("a fault of the node", "report it with the log; the data is safe"),
    }
)


class NodeError(Exception):
    """Root of the family.

    Parameters
    ----------
    code
        A key of `REASONS`.
    facts
        Numbers, or tokens of at most 48 letters, digits, ``_ . -`` (never values out of a Data Set).

    Raises
    ------
    ValueError
        If the code is not in the table or a fact could hold more than a token.
    """

    retryable: ClassVar[bool] = False
    dimse_status: ClassVar[int] = 0x0110  # PS3.7 C.5.6: processing failure

    def __init__(self, code: str, /, **facts: Fact) -> None:
        if code not in REASONS:
            raise ValueError(f"unknown code {code!r}")
        for name, fact in facts.items():
            if isinstance(fact, str) and not _TOKEN.fullmatch(fact):
                raise ValueError(f"fact {name} of {code} is no token")
        super().__init__(code)
        self.code = code
        self.facts: dict[str, Fact] = dict(facts)

    @property
    def is_fault(self) -> bool:
        """Whether it is the node that failed, and not a study that cannot be worked on or has no result."""
        return not isinstance(self, StudyError) or self.code.startswith("result-")

    @property
    def may_pass(self) -> bool:
        """Whether the next try may do: not where what was sealed is damaged, or lost."""
        return self.retryable and self.code != "sealed-damaged" and "missing" not in self.facts

    @property
    def reason(self) -> Reason:
        """Text and advice of the code."""
        return REASONS[self.code]

    def __str__(self) -> str:
        """One line: code, text and the numbers."""
        numbers = ", ".join(f"{name} {value}" for name, value in self.facts.items())
        return f"{self.code}: {self.reason.text}" + (f" ({numbers})" if numbers else "")

    def __reduce__(self) -> tuple[object, ...]:
        """Survive a pickle: the default would drop the facts."""
        return partial(type(self), self.code, **self.facts), ()


class PeerError(NodeError):
    """Another system lied, stalled, refused or vanished."""

    retryable = True
    dimse_status = 0xC000


class PeerRefusal(PeerError):
    """Another system said no in a way that will not change by itself."""

    retryable = False


class StudyError(NodeError):
    """The study, as it is, cannot be worked on; its sender did nothing that trying again would mend."""

    dimse_status = 0xC000  # PS3.4 Table B.2-1: cannot understand


class LimitError(NodeError):
    """A peer has used up what it was given; later there may be room again."""

    retryable = True
    dimse_status = 0xA700  # PS3.4 Table B.2-1: out of resources


class ModelError(NodeError):
    """A model package or an engine failed."""


class StorageError(NodeError):
    """A disk, a key or the ledger failed."""

    retryable = True
    dimse_status = 0xA700  # PS3.4 Table B.2-1: out of resources


class KeyStoreError(StorageError):
    """A key is missing, wrong or readable by others."""

    retryable = False


class ConfigError(NodeError):
    """The configuration or a command line cannot be carried out."""
