"""Clocks that stand still, events that are remembered, rows and small studies: what the tests of the workflow share."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
from pydicom import Dataset

from dicomnode.encoded import encode_dataset
from dicomnode.events import Fact
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import PhantomPatient, ct_series
from dicomnode.storage.keys import KeyRing
from dicomnode.study import InstanceRow, RecordAddress, RecordMetadata, WorkKey, blind_key

KEY = b"d" * 32
STUDY = "ab" * 16
OTHER_STUDY = "cd" * 16
MODEL = "stand-in"
WORK = WorkKey(study_key=STUDY, revision=1, model=MODEL)
EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def ring() -> KeyRing:
    return KeyRing(identity=b"i" * 32, pseudonym=b"p" * 32, derivation=KEY)


class Time:
    """Both clocks of the house, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds - 1000.0)

    def sure(self) -> datetime:
        return self.now()

    def late(self) -> datetime:
        return self.now()

    def monotonic(self) -> float:
        return self.seconds

    def forward(self, seconds: float) -> None:
        self.seconds += seconds


class Events:
    """An `Emit` that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, dict[str, Fact]]] = []

    def __call__(self, name: str, /, *, level: str = "info", **facts: Fact) -> None:
        self.seen.append((name, level, facts))

    def end(self) -> None:
        """As a log that sums up floods is ended."""

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.seen]

    def facts(self, name: str) -> list[dict[str, Fact]]:
        return [facts for seen, _, facts in self.seen if seen == name]


def row(number: int, *, study_key: str = STUDY, instance: str | None = None, digest: str | None = None) -> InstanceRow:
    return InstanceRow(
        study_key=study_key,
        series_key="5e" * 16,
        instance_key=f"{number:032x}" if instance is None else instance,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid=EXPLICIT,
        digest=f"{number:064x}" if digest is None else digest,
        length=3000,
        address=RecordAddress(segment_id=study_key[:2] * 8, number=number, offset=4096 * (number + 1)),
        received_at=START + timedelta(seconds=number),
    )


def metadata(dataset: Dataset, encoded: bytes, *, transfer_syntax_uid: str = EXPLICIT) -> RecordMetadata:
    return RecordMetadata(
        sop_class_uid=str(dataset.get("SOPClassUID", "")),
        sop_instance_uid=str(dataset.get("SOPInstanceUID", "")),
        study_instance_uid=str(dataset.get("StudyInstanceUID", "")),
        series_instance_uid=str(dataset.get("SeriesInstanceUID", "")),
        transfer_syntax_uid=transfer_syntax_uid,
        calling_ae_title="SENDER",
        called_ae_title="DICOMNODE",
        peer_address="127.0.0.1",
        received_at=START,
        digest=hashlib.sha256(encoded).hexdigest(),
        length=len(encoded),
    )


@cache
def tiny_chest() -> tuple[np.ndarray[Any, Any], tuple[float, float, float]]:
    """HU and spacing of a chest in very few voxels."""
    phantom = chest_phantom(np.random.default_rng(3), shape=(16, 48, 48), spacing=(20.0, 8.0, 8.0), diseases=())
    return phantom.hu, phantom.spacing


def tiny_series(**patient: Any) -> list[Dataset]:
    """CT images of the tiny chest."""
    hu, spacing = tiny_chest()
    return list(ct_series(hu, spacing, PhantomPatient(**{"seed": "tiny", **patient})))


def encoded(dataset: Dataset, transfer_syntax_uid: str = EXPLICIT) -> bytes:
    return encode_dataset(dataset, transfer_syntax_uid)


def study_key_of(dataset: Dataset) -> str:
    return blind_key(KEY, "study", str(dataset.StudyInstanceUID))
