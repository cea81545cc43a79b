"""What Alembic runs: our tables alone, on the connection that `database.upgrade` hands over."""

from __future__ import annotations

from alembic import context

from dicomnode.storage import schema


def _ours(name: str | None, kind: str, parents: object) -> bool:  # noqa: ARG001
    return kind != "table" or (name is not None and name.startswith(schema.PREFIX))


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    version_table=schema.VERSION_TABLE,
    include_name=_ours,
)
with context.begin_transaction():
    context.run_migrations()
