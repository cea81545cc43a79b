"""Rows of the ledger that `study` does not already name. Data alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from dicomnode.study import CircuitState, DeliveryState, RecordAddress, ResultRole, WorkKey


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRow:
    """One input set of a study; a late instance opens the next.

    Attributes
    ----------
    settled_at
        When evidence or the quiet time said that the set is whole; None until then.
    records
        How many records of the study there were then, of whatever kind; 0 where its inputs changed since by themselves.
    """

    study_key: str
    revision: int
    input_digest: str
    opened_at: datetime
    settled_at: datetime | None = None
    records: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One result object, encoded and sealed.

    Attributes
    ----------
    result_id
        Blind name of the object, never its UID.
    digest
        SHA-256 of the encoded object, in hex.
    length
        Bytes of the encoded object.
    form
        How it is written: `forms.Variant.name`.
    """

    result_id: str
    role: ResultRole
    form: str = ""
    sop_class_uid: str
    digest: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRow:
    """Something set aside.

    Attributes
    ----------
    what
        Token: ``instance``, ``segment``, ``result``.
    reason
        A code of `errors.REASONS`.
    """

    study_key: str
    what: str
    reason: str
    at: datetime
    address: RecordAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilityRow:
    """What is known of a destination and one SOP Class.

    Attributes
    ----------
    peer
        Whom the destination's name stood for when it was learnt.
    supported
        False: the presentation context or the C-STORE was answered with "not supported".
    """

    destination: str
    peer: str
    sop_class_uid: str
    supported: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitRow:
    """How a destination fares.

    Attributes
    ----------
    failures
        Failures one after the other, in this state.
    openings
        How often it was left alone since it last took something.
    reason
        Code of the last failure; None while all is well.
    since
        When it came into this state.
    due_at
        When it is asked again, where it is left alone.
    """

    destination: str
    state: CircuitState
    failures: int = 0
    openings: int = 0
    reason: str | None = None
    since: datetime
    due_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BacklogRow:
    """What a destination is still to get, and what it is not to get any more: objects in one state, oldest first entered.

    Attributes
    ----------
    is_held
        Whether they wait for a person, and not for the destination.
    changed
        When the last of them came to this state, or was tried.
    """

    destination: str
    state: DeliveryState
    objects: int
    works: int
    oldest: datetime
    changed: datetime
    is_held: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRow:
    """What somebody orders of the node.

    Attributes
    ----------
    verb
        A value of `workflow.orders.Verb`.
    model, destination
        Empty: whichever.
    at
        When it was given, last if more than once.
    failed_at
        Of an export: when the first of its tries failed; says nothing of which order it is.
    """

    verb: str
    study_key: str
    model: str = ""
    destination: str = ""
    at: datetime
    failed_at: datetime | None = field(default=None, compare=False)

    def is_as(self, other: OrderRow) -> bool:
        """Whether it orders the same, whenever it was given."""
        return replace(self, at=other.at) == other


@dataclass(frozen=True, slots=True, kw_only=True)
class PledgeRow:
    """Storage commitment of a work's results at one destination.

    Attributes
    ----------
    state
        ``due`` (it is to be asked), ``taken`` (it is to report), ``ended``.
    attempts
        Requests so far: each has its Transaction UID.
    earlier
        How many of them belong to earlier rounds: a round begins when something of the work is to be committed anew, and
        what is reported of an earlier one says nothing of it.
    resends
        How often objects were sent again because it did not commit them.
    begun_at
        When it was to be asked first.
    """

    key: WorkKey
    destination: str
    state: str
    attempts: int = 0
    earlier: int = 0
    resends: int = 0
    begun_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcedureRow:
    """What a performed procedure step, or a notification, says of one study: ``in-progress``, ``completed``, ``discontinued``."""

    study_key: str
    state: str
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRow:
    """A transaction of storage commitment.

    Attributes
    ----------
    state
        ``asked`` (of us), ``waiting`` (for the PACS), ``answered`` (by it; the asker is to be told).
    attempts
        Tries in this state.
    due_at
        Not to be looked at before.
    """

    transaction_key: str
    state: str
    attempts: int
    created_at: datetime
    due_at: datetime
