"""Who sent a study, what procedure steps announced, transactions of storage commitment. Revision 0003, revises 0002."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "node_origin",
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("peer", sa.String(length=32), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.PrimaryKeyConstraint("study_key", name=op.f("pk_node_origin")),
    )
    op.create_table(
        "node_procedure",
        sa.Column("procedure_key", sa.String(length=64), nullable=False),
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("procedure_key", "study_key", name=op.f("pk_node_procedure")),
    )
    op.create_index(op.f("ix_node_procedure_study_key"), "node_procedure", ["study_key"], unique=False)
    op.create_table(
        "node_announced",
        sa.Column("procedure_key", sa.String(length=64), nullable=False),
        sa.Column("study_key", sa.String(length=64), nullable=False),
        sa.Column("instance_key", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["procedure_key", "study_key"],
            ["node_procedure.procedure_key", "node_procedure.study_key"],
            name=op.f("fk_node_announced_node_procedure"),
        ),
        sa.PrimaryKeyConstraint("procedure_key", "study_key", "instance_key", name=op.f("pk_node_announced")),
    )
    op.create_table(
        "node_commitment",
        sa.Column("transaction_key", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("transaction_key", name=op.f("pk_node_commitment")),
    )
    op.create_index(op.f("ix_node_commitment_state"), "node_commitment", ["state"], unique=False)
