"""Studies as the node keeps them: keys, states with the one table of transitions, rows, and the minting of UIDs.

Floor 1, pure: no disk, no socket, no clock. A study is known by a key, an HMAC of its Study Instance UID, everywhere
but inside sealed data.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dicomnode.errors import NodeError

KEY_LENGTH: Final = 32  # hex digits: 128 bits, beyond accidental collision

#: How urgent studies are, the most urgent first.
PRIORITIES: Final = ("stat", "routine", "research")


class World(StrEnum):
    """Which of the two worlds a sealed object belongs to."""

    IDENTITY = "identity"
    PSEUDONYM = "pseudonym"


class Purpose(StrEnum):
    """What a sealed object is; bound into its framing, so that one cannot stand for another."""

    RECORD = "record"
    CLOSE_RECORD = "close-record"
    VAULT = "vault"
    COPY = "copy"
    LABELS = "labels"
    FINDINGS = "findings"
    RESULT = "result"
    COLUMN = "column"
    COMMITMENT = "commitment"
    PRIOR = "prior"


class WorkState(StrEnum):
    """Where the work of one model on one input set stands."""

    QUEUED = "queued"
    PREPARING = "preparing"
    INFERRING = "inferring"
    ENCODING = "encoding"
    READY = "ready"
    HELD = "held"
    DELIVERING = "delivering"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"


_ENDS: Final = frozenset({WorkState.REFUSED, WorkState.FAILED, WorkState.SUPERSEDED, WorkState.CANCELLED})
#: The one table of transitions. A state may follow itself: a step that was killed runs again.
TRANSITIONS: Final = MappingProxyType(
    {
        WorkState.QUEUED: frozenset({WorkState.PREPARING}) | _ENDS,
        # From the first two a work may be ready at once, with the document that says why there are no results; or done.
        WorkState.PREPARING: frozenset({WorkState.INFERRING, WorkState.READY, WorkState.DONE}) | _ENDS,
        WorkState.INFERRING: frozenset({WorkState.ENCODING, WorkState.READY}) | _ENDS,
        WorkState.ENCODING: frozenset({WorkState.READY}) | _ENDS,
        WorkState.READY: frozenset({WorkState.HELD, WorkState.DELIVERING, WorkState.SUPERSEDED, WorkState.CANCELLED}),
        WorkState.HELD: frozenset(  # until released, or for as long as anything is kept
            {WorkState.DELIVERING, WorkState.FAILED, WorkState.SUPERSEDED, WorkState.CANCELLED}
        ),
        WorkState.DELIVERING: frozenset(
            # Held where the destination shows another patient; superseded before any was delivered.
            {WorkState.DONE, WorkState.FAILED, WorkState.HELD, WorkState.CANCELLED, WorkState.SUPERSEDED}
        ),
        WorkState.DONE: frozenset({WorkState.DELIVERING}),  # to be retracted, as all that a destination may have
        WorkState.REFUSED: frozenset(),
        WorkState.FAILED: frozenset({WorkState.DELIVERING}),  # to be tried again, or retracted
        WorkState.SUPERSEDED: frozenset({WorkState.DELIVERING}),  # a try under way may have delivered something
        WorkState.CANCELLED: frozenset({WorkState.DELIVERING}),  # to be tried again, or retracted
    }
)
FINAL_STATES: Final = _ENDS | {WorkState.DONE}
IN_STAGES: Final = (WorkState.PREPARING, WorkState.INFERRING, WorkState.ENCODING)

#: Stages of a work that compute, and all stages, in their order.
WORK_STAGES: Final = ("prepare", "infer", "encode")
STAGES: Final = ("receive", *WORK_STAGES, "wait", "deliver")


#: Facts of a work that has results: what they were made of (a digest), and which report they replace (a blind key; "" for
#: none). Whatever is made of it later belongs to them.
SOURCE, REPLACES = "source", "replaces"
#: Fact of a work of which somebody wishes that its results are retracted; then of what became of that.
RETRACTION: Final = "retraction"
WISHED: Final = "wished"
#: Facts of a work some of whose images were rejected: why (`Rejected`), whether its results are still to be withdrawn, and
#: destinations that have some and take no rejection notes.
REJECTED, WITHDRAWAL, STANDING = "rejected", "withdrawal", "standing"
OPEN: Final = "open"
#: Facts of a work: `OPEN` where a destination took results of it behind newer ones, whose notes do not name them; where noted.
OVERTAKEN, NOTED = "overtaken", "overtaken_noted"
INCOMPLETE: Final = "incomplete"  # what its study lacked when that was last settled
#: Facts of a work: since when it is held, or was; when it was let go; when its stage began (anew). Seconds since 1970.
HELD_AT, RELEASED, STAGE_AT = "held_at", "released_at", "stage_at"


def check_transition(old: WorkState, new: WorkState) -> None:
    """Raise ``transition-forbidden`` unless `new` may follow `old`."""
    if new is not old and new not in TRANSITIONS[old]:
        raise NodeError("transition-forbidden", old=old.value, new=new.value)


class DeliveryState(StrEnum):
    """Where the delivery of one object to one destination stands."""

    WAITING = "waiting"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    DOWNGRADED = "downgraded"
    CANCELLED = "cancelled"


class CommitmentState(StrEnum):
    """What a destination has said of an object that it took, where it is asked to commit.

    ``found``: it did not report in time, and shows the object to C-FIND. ``unproven``: nor can it be asked.
    """

    ASKED = "asked"
    COMMITTED = "committed"
    FOUND = "found"
    UNPROVEN = "unproven"


class CircuitState(StrEnum):
    """Whether results are sent to a destination: as usual, not at all, or to try whether it takes them again."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Rejected(StrEnum):
    """Why an instance was rejected by a rejection note (IHE IOCM), by the note's title."""

    QUALITY = "quality"
    SAFETY = "safety"
    WORKLIST = "worklist"
    EXPIRED = "expired"


class InstanceState(StrEnum):
    """What became of a received instance.

    ``rejected``: a rejection note says that it is wrong. ``expired``: one says that its time is over.
    """

    CURRENT = "current"
    DUPLICATE = "duplicate"
    REPLACED = "replaced"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"
    EXPIRED = "expired"


class Mark(StrEnum):
    """What stands beside a study about whether it is worked on at all; of each study the last one.

    ``cancelled``: somebody wants no more of it. ``old``: its images are older than the site lets be worked on by
    themselves. ``flood``: one of too many old ones at a time. ``aged``: old, and worked on. ``released``: somebody ordered
    that it is worked on, whatever stood in the way.
    """

    CANCELLED = "cancelled"
    OLD = "old"
    FLOOD = "flood"
    AGED = "aged"
    RELEASED = "released"


#: Marks of studies of which nothing is made until somebody orders it.
STOPPING: Final = frozenset({Mark.CANCELLED, Mark.OLD, Mark.FLOOD})


class ResultRole(StrEnum):
    """Which part of a result an object is."""

    SEGMENTATION = "segmentation"
    REPORT = "report"
    KEY_IMAGE = "key-image"
    KEY_OBJECTS = "key-objects"
    DOCUMENT = "document"
    PARAMETRIC_MAP = "parametric-map"
    OUTCOME = "outcome"
    REJECTION = "rejection"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordMetadata:
    """What stands beside an encoded Data Set in its sealed record.

    Attributes
    ----------
    digest
        SHA-256 of the encoded Data Set as received, in hex.
    received_at
        Aware UTC time at which the last byte had come.
    """

    sop_class_uid: str
    sop_instance_uid: str = field(repr=False)
    study_instance_uid: str = field(repr=False)
    series_instance_uid: str = field(repr=False)
    transfer_syntax_uid: str
    calling_ae_title: str = field(repr=False)
    called_ae_title: str
    peer_address: str = field(repr=False)
    received_at: datetime
    digest: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class RecordAddress:
    """Where a record stands in the spool."""

    segment_id: str
    number: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRow:
    """One received instance as the index knows it; the keys are blind, no UID of a patient's object stands here."""

    study_key: str
    series_key: str
    instance_key: str
    sop_class_uid: str
    transfer_syntax_uid: str
    digest: str
    length: int
    address: RecordAddress
    received_at: datetime
    state: InstanceState = InstanceState.CURRENT


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkKey:
    """One model's work on one revision of a study's input."""

    study_key: str
    revision: int
    model: str

    @property
    def workflow_id(self) -> str:
        """Identifier of the durable workflow."""
        return f"{self.study_key}-{self.revision}-{self.model}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRow:
    """One object on its way to one destination.

    Attributes
    ----------
    form
        How the object is written: `forms.Variant.name`; empty in a row of a version that knew one form alone.
    sent
        Whether any try ended so that the destination may have the object, whatever it said later.
    """

    result_id: str
    role: ResultRole
    form: str = ""
    destination: str
    state: DeliveryState
    status: int | None
    reason: str | None
    attempts: int
    updated_at: datetime
    commitment: CommitmentState | None = None
    sent: bool = False

    @property
    def may_be_there(self) -> bool:
        """Whether the destination has it or may have it: it may have vanished before its answer, or not commit what it shows."""
        return self.sent or self.state is DeliveryState.CONFIRMED

    @property
    def is_result(self) -> bool:
        """Whether it is a result, and not a rejection note of ours."""
        return self.role is not ResultRole.REJECTION


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRow:
    """State of a work, its stage times in seconds and its deliveries."""

    key: WorkKey
    state: WorkState
    reason: str | None
    facts: dict[str, int | float | str] = field(default_factory=dict)
    input_digest: str
    created_at: datetime
    settled_at: datetime | None
    stages: dict[str, float] = field(default_factory=dict)
    deliveries: tuple[DeliveryRow, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether its images were rejected, or somebody found its results wrong: these go nowhere any more."""
        return REJECTED in self.facts or RETRACTION in self.facts

    @property
    def may_be_delivered(self) -> bool:
        """Whether any destination has, or may have, a result of it; a rejection note is none."""
        return any(one.may_be_there and one.is_result for one in self.deliveries)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkRow:
    """A mark, since when, and the newest revision of the study's input then; 0: it had none."""

    mark: Mark
    revision: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """A study with all that is under way for it; `rejected` are instances that a rejection note took out of the inputs."""

    study_key: str
    first_received_at: datetime
    last_received_at: datetime
    instances: int
    quarantined: int
    rejected: int = 0
    revision: int
    works: tuple[WorkRow, ...] = ()
    mark: MarkRow | None = None

    @property
    def stopped_by(self) -> Mark | None:
        """Why nothing is made of it; None where nothing stands in the way."""
        return self.mark.mark if self.mark is not None and self.mark.mark in STOPPING else None


def blind_key(derivation_key: bytes, kind: str, *parts: str) -> str:
    """Key under which something with a UID is known outside sealed data.

    Parameters
    ----------
    derivation_key
        32 bytes of the identity world.
    kind
        ``study``, ``series``, ``instance``: separates the domains.
    parts
        The UIDs.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    return _mac(derivation_key, f"blind:{kind}", parts).hex()[:KEY_LENGTH]


def mint_uid(derivation_key: bytes, kind: str, *parts: str) -> str:
    """Deterministic UID under the UUID root (PS3.5 B.2): ``2.25.`` and 128 bits of an HMAC.

    Equal parts give equal UIDs on every host that holds the key; any other part gives another one.
    """
    digest = bytearray(_mac(derivation_key, f"uid:{kind}", parts)[:16])
    digest[6] = digest[6] & 0x0F | 0x80  # RFC 9562 version 8: vendor-made
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{int.from_bytes(digest, 'big')}"


def _mac(key: bytes, domain: str, parts: tuple[str, ...]) -> bytes:
    if len(key) < 32:
        raise ValueError("a derivation key has at least 32 bytes")
    encoded = [part.encode() for part in (domain, *parts)]
    return hmac.digest(key, b"".join([len(data).to_bytes(4, "big") + data for data in encoded]), "sha256")


def input_digest(digests: list[tuple[str, str]]) -> str:
    """Digest of an input set: SHA-256 over the sorted (instance key, content digest) pairs, in hex."""
    whole = hashlib.sha256()
    for instance_key, digest in sorted(digests):
        whole.update(f"{instance_key}:{digest}\n".encode())
    return whole.hexdigest()
