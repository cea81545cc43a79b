"""A ledger taken back to what an older release had: what came later goes, and so does all that it said."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection, text

from dicomnode.storage import schema

#: What undoes each revision; `tests.unit.workflow.test_older_ledgers` holds it against what the revisions make.
UNDOES: Final = MappingProxyType(
    {
        "0016": ("ALTER TABLE node_order DROP COLUMN failed_at",),
        "0015": ("ALTER TABLE node_delivery DROP COLUMN under_way",),
        "0014": ("ALTER TABLE node_delivery DROP COLUMN sent",),
        "0013": ("ALTER TABLE node_origin DROP COLUMN sent_as",),
        "0012": ("ALTER TABLE node_pledge DROP COLUMN earlier",),
        "0011": ("ALTER TABLE node_origin DROP COLUMN ruled",),
        "0010": ("DROP TABLE node_rejection", "ALTER TABLE node_study DROP COLUMN rejected"),
        "0009": ("DROP TABLE node_mark",),
        "0007": ("DROP TABLE node_pledge", "ALTER TABLE node_delivery DROP COLUMN commitment"),
        "0006": ("ALTER TABLE node_origin DROP COLUMN straight",),
        "0005": ("DROP TABLE node_order",),
        "0004": ("DROP TABLE node_circuit",),
        "0003": (
            "DROP TABLE node_announced",
            "DROP TABLE node_procedure",
            "DROP TABLE node_origin",
            "DROP TABLE node_commitment",
        ),
        "0002": ("DROP TABLE node_capability", "ALTER TABLE node_result DROP COLUMN form"),
    }
)


def take_back(connection: Connection, revision: str) -> None:
    """Make of a ledger of any later revision one of this."""
    found = connection.execute(text(f"SELECT version_num FROM {schema.VERSION_TABLE}")).scalar_one()
    later = schema.REVISIONS[schema.REVISIONS.index(revision) + 1 : schema.REVISIONS.index(found) + 1]
    for one in reversed(later):
        for statement in UNDOES[one]:
            connection.execute(text(statement))
    connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '{revision}'"))
