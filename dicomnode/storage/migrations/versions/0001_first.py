"""The first schema. Revision 0001, revises nothing."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    _create_keys()
    _create_index()
    _create_works()
    _create_stages()
    _create_results()
    _create_rest()


def _create_keys() -> None:
    op.create_table(
        "node_wrapped_key",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("world", sa.String(length=16), nullable=False),
        sa.Column("wrapping_key_id", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("study_key", "world", name=op.f("pk_node_wrapped_key")),
    )


def _create_index() -> None:
    op.create_table(
        "node_study",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("first_received_at", sa.BigInteger(), nullable=False),
        sa.Column("last_received_at", sa.BigInteger(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("quarantined", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("study_key", name=op.f("pk_node_study")),
    )
    op.create_index(op.f("ix_node_study_last_received_at"), "node_study", ["last_received_at"], unique=False)
    op.create_table(
        "node_instance",
        sa.Column("segment_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("series_key", sa.String(length=64), nullable=False),
        sa.Column("instance_key", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["study_key"], ["node_study.study_key"], name=op.f("fk_node_instance_node_study")),
        sa.PrimaryKeyConstraint("segment_id", "number", name=op.f("pk_node_instance")),
    )
    op.create_index(
        op.f("ix_node_instance_study_key_instance_key_state"),
        "node_instance",
        ["study_key", "instance_key", "state"],
        unique=False,
    )


def _create_works() -> None:
    op.create_table(
        "node_revision",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("input_digest", sa.String(length=64), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.Column("records", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["study_key"], ["node_study.study_key"], name=op.f("fk_node_revision_node_study")),
        sa.PrimaryKeyConstraint("study_key", "revision", name=op.f("pk_node_revision")),
    )
    op.create_index(op.f("ix_node_revision_settled_at"), "node_revision", ["settled_at"], unique=False)
    op.create_table(
        "node_work",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("input_digest", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_key", "revision"],
            ["node_revision.study_key", "node_revision.revision"],
            name=op.f("fk_node_work_node_revision"),
        ),
        sa.PrimaryKeyConstraint("study_key", "revision", "model", name=op.f("pk_node_work")),
    )
    op.create_index(op.f("ix_node_work_state"), "node_work", ["state"], unique=False)


def _create_stages() -> None:
    op.create_table(
        "node_stage",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("stage", sa.String(length=32), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_key", "revision", "model"],
            ["node_work.study_key", "node_work.revision", "node_work.model"],
            name=op.f("fk_node_stage_node_work"),
        ),
        sa.PrimaryKeyConstraint("study_key", "revision", "model", "stage", name=op.f("pk_node_stage")),
    )


def _create_results() -> None:
    op.create_table(
        "node_result",
        sa.Column("result_id", sa.String(length=128), nullable=False),
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=32), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_key", "revision", "model"],
            ["node_work.study_key", "node_work.revision", "node_work.model"],
            name=op.f("fk_node_result_node_work"),
        ),
        sa.PrimaryKeyConstraint("result_id", name=op.f("pk_node_result")),
    )
    op.create_index(
        op.f("ix_node_result_study_key_revision_model"), "node_result", ["study_key", "revision", "model"], unique=False
    )
    op.create_table(
        "node_delivery",
        sa.Column("result_id", sa.String(length=128), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["node_result.result_id"], name=op.f("fk_node_delivery_node_result")),
        sa.PrimaryKeyConstraint("result_id", "destination", name=op.f("pk_node_delivery")),
    )
    op.create_index(op.f("ix_node_delivery_state"), "node_delivery", ["state"], unique=False)


def _create_rest() -> None:
    op.create_table(
        "node_issued",
        sa.Column("result_key", sa.String(length=64), nullable=False),
        sa.Column("issued_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("result_key", name=op.f("pk_node_issued")),
    )
    op.create_table(
        "node_quarantine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("what", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("segment_id", sa.String(length=64), nullable=True),
        sa.Column("number", sa.Integer(), nullable=True),
        sa.Column("position", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_node_quarantine")),
    )
    op.create_index(op.f("ix_node_quarantine_study_key"), "node_quarantine", ["study_key"], unique=False)
    op.create_table(
        "node_vault",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("series_key", sa.String(length=64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("study_key", "series_key", "revision", name=op.f("pk_node_vault")),
    )
