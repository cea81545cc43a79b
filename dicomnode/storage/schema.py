"""Tables of the ledger, all with the prefix ``node_``: what else lies in the database (DBOS's) is not ours. No queries here.

Every change of these tables is a new file in ``migrations/versions`` and a new last entry of `REVISIONS`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
)

PREFIX: Final = "node_"
VERSION_TABLE: Final = "node_schema_version"
#: Alembic revisions that this version knows, oldest first.
REVISIONS: Final = (
    "0001",
    "0002",
    "0003",
    "0004",
    "0005",
    "0006",
    "0007",
    "0009",
    "0010",
    "0011",
    "0012",
    "0013",
    "0014",
    "0015",
    "0016",
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class UtcTime(TypeDecorator[datetime]):
    """Aware UTC time as whole microseconds since 1970: sorts and compares alike in SQLite and PostgreSQL."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Microseconds; a naive time is refused by the subtraction."""
        return None if value is None else (value - _EPOCH) // timedelta(microseconds=1)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Aware UTC time."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_KEY: Final = String(64)

wrapped_keys = Table(
    "node_wrapped_key",
    metadata,
    Column("study_key", _KEY, primary_key=True),
    Column("world", String(16), primary_key=True),
    Column("wrapping_key_id", LargeBinary, nullable=False),
    Column("key_id", LargeBinary, nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
)

studies = Table(
    "node_study",
    metadata,
    Column("study_key", _KEY, primary_key=True),
    Column("first_received_at", UtcTime, nullable=False),
    Column("last_received_at", UtcTime, nullable=False, index=True),
    Column("instances", Integer, nullable=False),
    Column("quarantined", Integer, nullable=False),
    Column("rejected", Integer, nullable=False, server_default="0"),
)

instances = Table(
    "node_instance",
    metadata,
    Column("segment_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, nullable=False),
    Column("study_key", _KEY, ForeignKey("node_study.study_key"), nullable=False),
    Column("series_key", _KEY, nullable=False),
    Column("instance_key", _KEY, nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("received_at", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),
    Index(None, "study_key", "instance_key", "state"),
)

revisions = Table(
    "node_revision",
    metadata,
    Column("study_key", _KEY, ForeignKey("node_study.study_key"), primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("input_digest", String(64), nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime, index=True),
    Column("records", Integer),
)

works = Table(
    "node_work",
    metadata,
    Column("study_key", _KEY, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("model", String(64), primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("reason", String(64)),
    Column("facts", Text, nullable=False),
    Column("input_digest", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    ForeignKeyConstraint(["study_key", "revision"], ["node_revision.study_key", "node_revision.revision"]),
)

stages = Table(
    "node_stage",
    metadata,
    Column("study_key", _KEY, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("model", String(64), primary_key=True),
    Column("stage", String(32), primary_key=True),
    Column("seconds", Float, nullable=False),
    ForeignKeyConstraint(
        ["study_key", "revision", "model"], ["node_work.study_key", "node_work.revision", "node_work.model"]
    ),
)

results = Table(
    "node_result",
    metadata,
    Column("result_id", String(128), primary_key=True),
    Column("study_key", _KEY, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("model", String(64), nullable=False),
    Column("role", String(32), nullable=False),
    Column("form", String(64), nullable=False, server_default=""),
    Column("sop_class_uid", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    ForeignKeyConstraint(
        ["study_key", "revision", "model"], ["node_work.study_key", "node_work.revision", "node_work.model"]
    ),
    Index(None, "study_key", "revision", "model"),
)

deliveries = Table(
    "node_delivery",
    metadata,
    Column("result_id", String(128), ForeignKey("node_result.result_id"), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("status", Integer),
    Column("reason", String(64)),
    Column("attempts", Integer, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("commitment", String(16)),
    Column("sent", Boolean, nullable=False, server_default=false()),
    Column("under_way", Boolean, nullable=False, server_default=false()),
)

pledges = Table(
    "node_pledge",
    metadata,
    Column("study_key", _KEY, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("model", String(64), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("resends", Integer, nullable=False),
    Column("begun_at", UtcTime, nullable=False),
    Column("due_at", UtcTime, nullable=False),
    Column("earlier", Integer, nullable=False, server_default="0"),
)

capabilities = Table(
    "node_capability",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("sop_class_uid", String(64), primary_key=True),
    Column("peer", String(400), nullable=False),
    Column("supported", Boolean, nullable=False),
    Column("at", UtcTime, nullable=False),
)

circuits = Table(
    "node_circuit",
    metadata,
    Column("destination", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("openings", Integer, nullable=False),
    Column("reason", String(64)),
    Column("since", UtcTime, nullable=False),
    Column("due_at", UtcTime),
)

orders = Table(
    "node_order",
    metadata,
    Column("verb", String(16), primary_key=True),
    Column("study_key", _KEY, primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("destination", String(64), primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("failed_at", UtcTime),
)

marks = Table(
    "node_mark",
    metadata,
    Column("study_key", _KEY, primary_key=True),
    Column("mark", String(16), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("at", UtcTime, nullable=False),
)

issued = Table(
    f"{PREFIX}issued",
    metadata,
    Column("result_key", _KEY, primary_key=True),
    Column("issued_at", UtcTime, nullable=False),
)
vault = Table(
    "node_vault",
    metadata,
    Column("study_key", _KEY, primary_key=True),
    Column("series_key", _KEY, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
)

quarantine = Table(
    "node_quarantine",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_key", _KEY, nullable=False, index=True),
    Column("what", String(64), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("segment_id", String(64)),
    Column("number", Integer),
    Column("position", BigInteger),
)

rejections = Table(
    "node_rejection",
    metadata,
    Column("study_key", _KEY, primary_key=True),
    Column("instance_key", _KEY, primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("note_key", _KEY, nullable=False),
    Column("note_study_key", _KEY, nullable=False, index=True),
    Column("received_at", UtcTime, nullable=False),
)

origins = Table(
    "node_origin",
    metadata,
    Column("study_key", _KEY, primary_key=True),
    Column("peer", String(32), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("straight", Boolean, nullable=False, server_default=false()),
    Column("ruled", Boolean, nullable=False, server_default=false()),
    Column("sent_as", String(16)),  # how urgent its senders are, whatever a rule says
)

procedures = Table(
    "node_procedure",
    metadata,
    Column("procedure_key", _KEY, primary_key=True),
    Column("study_key", _KEY, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Index(None, "study_key"),
)

announced = Table(
    "node_announced",
    metadata,
    Column("procedure_key", _KEY, primary_key=True),
    Column("study_key", _KEY, primary_key=True),
    Column("instance_key", _KEY, primary_key=True),
    ForeignKeyConstraint(["procedure_key", "study_key"], ["node_procedure.procedure_key", "node_procedure.study_key"]),
)

commitments = Table(
    "node_commitment",
    metadata,
    Column("transaction_key", _KEY, primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("due_at", UtcTime, nullable=False),
)
