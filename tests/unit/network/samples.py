"""Small objects and a recording reception, for the tests of the network room."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicomnode.errors import NodeError
from dicomnode.events import Fact
from dicomnode.network.collected import Collected
from dicomnode.network.intake import Peer, ReceivedObject, Sink

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def small_object(
    sop_instance_uid: str = "1.2.3.4",
    *,
    sop_class_uid: str = SECONDARY_CAPTURE,
    study_instance_uid: str = "1.2.3",
    series_instance_uid: str = "1.2.3.1",
) -> Dataset:
    """A whole little Secondary Capture."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = UID(sop_class_uid)
    dataset.SOPInstanceUID = UID(sop_instance_uid)
    dataset.StudyDate = "20260102"
    dataset.StudyTime = "101112"
    dataset.AccessionNumber = ""
    dataset.Modality = "OT"
    dataset.ConversionType = "SYN"
    dataset.ReferringPhysicianName = ""
    dataset.PatientName = "Test^Äußerst"
    dataset.PatientID = "P-1"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = UID(study_instance_uid)
    dataset.SeriesInstanceUID = UID(series_instance_uid)
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows = 4
    dataset.Columns = 4
    dataset.BitsAllocated = 8
    dataset.BitsStored = 8
    dataset.HighBit = 7
    dataset.PixelRepresentation = 0
    dataset.add_new(0x7FE00010, "OB", bytes(range(16)))
    return dataset


@dataclass
class Recording:
    """A Reception that remembers; with a refusal set, it refuses."""

    refuse_association: NodeError | None = None
    refuse_object: Exception | None = None
    objects: list[tuple[ReceivedObject, bytes]] = field(default_factory=list)
    calls: list[tuple[str, object]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    gate: threading.Event | None = None
    entered: threading.Event = field(default_factory=threading.Event)

    def admit(self, peer: Peer) -> None:
        self._note("admit", peer)
        if self.refuse_association is not None:
            raise self.refuse_association

    def opened(self, peer: Peer) -> None:
        self._note("opened", peer)

    def sink(self) -> Sink:
        return Collected(self.store)

    def store(self, received: ReceivedObject, encoded: bytes, /) -> None:
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.refuse_object is not None:
            raise self.refuse_object
        with self.changed:
            self.objects.append((received, encoded))
            self.changed.notify_all()

    def closed(self, peer: Peer, *, aborted: bool) -> None:
        self._note("closed", aborted)

    def _note(self, what: str, fact: object) -> None:
        with self.changed:
            self.calls.append((what, fact))
            self.changed.notify_all()

    def named(self, what: str) -> list[object]:
        with self.changed:
            return [fact for name, fact in self.calls if name == what]

    def wait_for_closed(self, count: int = 1) -> list[object]:
        """How the associations ended, once so many have."""
        with self.changed:
            assert self.changed.wait_for(lambda: sum(name == "closed" for name, _ in self.calls) >= count, 20)
        return self.named("closed")


@dataclass
class Events:
    """An Emit that remembers."""

    events: list[tuple[str, str, dict[str, Fact]]] = field(default_factory=list)

    def __call__(self, name: str, /, *, level: str = "info", **facts: Fact) -> None:
        self.events.append((name, level, facts))

    def named(self, name: str) -> list[dict[str, Fact]]:
        return [facts for one, _, facts in self.events if one == name]
