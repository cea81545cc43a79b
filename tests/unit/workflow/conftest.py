from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicomnode.config import IntakeSection
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.spool import Spool
from tests.unit.workflow.samples import Events, Time, ring


@pytest.fixture
def time() -> Time:
    """Clocks that stand still."""
    return Time()


@pytest.fixture
def events() -> Events:
    """An emitter that remembers."""
    return Events()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """New ledger."""
    with Ledger.open(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def keys(ledger: Ledger) -> DataKeys:
    """Data keys under fixed root keys."""
    return DataKeys(ledger, ring())


@pytest.fixture
def spool(tmp_path: Path, keys: DataKeys) -> Iterator[Spool]:
    """New spool that appends: /tmp may refuse direct writes."""
    small = {"segment_bytes": 1 << 22, "extent_bytes": 1 << 16, "chunk_bytes": 4096, "minimum_free_bytes": 0}
    intake = IntakeSection.model_validate({"write_mode": "append", **small})
    with contextlib.closing(Spool(tmp_path / "spool", intake, keys)) as opened:
        yield opened


@pytest.fixture
def objects(tmp_path: Path, keys: DataKeys) -> Objects:
    """New object store."""
    return Objects(tmp_path / "objects", keys)
