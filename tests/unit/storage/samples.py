"""Samples and folders that the tests of storage share."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dicomnode.config import IntakeSection
from dicomnode.study import InstanceRow, RecordAddress, RecordMetadata

STUDY = "ab" * 16
OTHER_STUDY = "cd" * 16
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BUILD = Path(__file__).resolve().parents[3] / "build"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def encoded(number: int, size: int = 3000) -> bytes:
    """Bytes that differ at every place between numbers."""
    block = hashlib.sha512(number.to_bytes(8, "big")).digest()
    return (block * (size // len(block) + 1))[:size]


def metadata(data: bytes, number: int = 0) -> RecordMetadata:
    return RecordMetadata(
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid=f"2.25.{number + 1}",
        study_instance_uid="2.25.1000",
        series_instance_uid="2.25.1001",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        calling_ae_title="SENDER",
        called_ae_title="DICOMNODE",
        peer_address="127.0.0.1",
        received_at=at(number),
        digest=hashlib.sha256(data).hexdigest(),
        length=len(data),
    )


def row(
    number: int, *, study_key: str = STUDY, instance: str | None = None, digest: str = "d0", segment: str = "s0"
) -> InstanceRow:
    return InstanceRow(
        study_key=study_key,
        series_key="5e",
        instance_key=f"i{number}" if instance is None else instance,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        digest=digest,
        length=3000,
        address=RecordAddress(segment_id=segment, number=number, offset=4096 * (number + 1)),
        received_at=at(number),
    )


def intake(mode: str = "auto", **changes: int) -> IntakeSection:
    small = {
        "segment_bytes": 1 << 20,
        "extent_bytes": 1 << 16,
        "chunk_bytes": 4096,
        "minimum_free_bytes": 0,
        "prepared_bytes": 0,
    }
    return IntakeSection.model_validate({"write_mode": mode, **small, **changes})


@contextlib.contextmanager
def disk_folder() -> Iterator[Path]:
    """Folder on the disk of the checkout: /tmp may be a tmpfs, which takes unaligned direct writes."""
    BUILD.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="storage-", dir=BUILD))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
