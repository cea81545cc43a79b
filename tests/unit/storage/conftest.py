from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.storage.ledger import Ledger
from tests.unit.storage import samples


@pytest.fixture
def disk() -> Iterator[Path]:
    """Folder on a real disk."""
    with samples.disk_folder() as folder:
        yield folder


@pytest.fixture(autouse=True)
def ledgers() -> None:
    """Here they are made by all revisions, and wait for their disk."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """New ledger."""
    with Ledger.open(tmp_path / "ledger.sqlite3") as opened:
        yield opened
