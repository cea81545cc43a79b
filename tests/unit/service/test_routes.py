"""What rules read of what was received."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import Dataset

from dicomnode.config import Config
from dicomnode.encoded import encode_dataset
from dicomnode.service import routes
from dicomnode.service.routes import open_router
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow
from tests.unit.storage.samples import STUDY, intake, metadata, row

_MOST_BYTES = 120_000


def kept(spool: Spool, number: int, pixels: int) -> InstanceRow:
    dataset = Dataset()
    dataset.Modality, dataset.Rows = "PT", 4
    dataset.add_new(0x7FE00010, "OW", bytes(pixels))
    data = encode_dataset(dataset, "1.2.840.10008.1.2.1")
    address = spool.append(STUDY, metadata(data, number), data)
    return replace(row(number), address=address, series_key=f"{number:02x}" * 16)


def test_of_an_object_of_any_length_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "HEAD_BYTES", 8192, raising=False)
    read_bytes, pread = [0], os.pread

    def counted(descriptor: int, count: int, place: int) -> bytes:
        read_bytes[0] += count
        return pread(descriptor, count, place)

    with (
        Ledger.open(tmp_path / "ledger.db") as ledger,
        Spool(tmp_path / "spool", intake("append"), MemoryKeys()) as spool,
    ):
        rows = [kept(spool, 1, 100), kept(spool, 2, 1_000_000)]
        router = open_router(Config(), spool, ledger, (), b"k" * 32)
        monkeypatch.setattr(os, "pread", counted)
        found = router.facts(STUDY, rows)
    assert [one.header and (one.header.Modality, one.header.Rows) for one in found.series] == [("PT", 4)] * 2
    assert [one.calling_ae_title for one in found.series] == ["SENDER"] * 2
    assert read_bytes[0] < _MOST_BYTES
