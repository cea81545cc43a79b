"""What the world sends: every object gets its status, every study a coded state, and no name leaves the sealed world.

One node with the stand-in engine takes all of it; the last test of the module searches what it left on the disk.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate

from dicomnode.encoded import encode_dataset, split_part10
from dicomnode.errors import REASONS
from dicomnode.imaging.phantom_series import PhantomPatient
from dicomnode.network.requestor import OutgoingObject, Requestor
from dicomnode.sections import Destination
from dicomnode.study import FINAL_STATES, InstanceState, StudyRow, WorkRow, WorkState
from tests import tools
from tests.journey.inside import Inside
from tests.journey.running_node import RunningNode
from tests.journey.studies import EXPLICIT, write_study
from tests.neighbours import dcmsend, storescu, wait_for

IMPLICIT = "1.2.840.10008.1.2"
JPEG_2000 = "1.2.840.10008.1.2.4.90"
CT = "1.2.840.10008.5.1.4.1.1.2"
SETS = (
    "pydicom_testfiles",
    "pynetdicom_testfiles",
    "codecs_cornerstone",
    "geometry_edges",
    "dcmqi_seg_sr",
    "highdicom_seg_sr",
    "enhanced_mr",
    "us_burnedin",
    "deid_msft",
    "sts025_ct_mr_pet_rtstruct",
    "pseudophi_mr_tcia",
)
NO_OBJECTS = {".md", ".xml", ".txt", ".json", ".gz", ".nii"}


@dataclass(frozen=True)
class Ward:
    """The node, and every object that was sent to it with the status that it got."""

    node: RunningNode
    inside: Inside
    sent: list[tuple[OutgoingObject, int | None]] = field(default_factory=list)

    @property
    def peer(self) -> Requestor:
        return Requestor(
            Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=self.node.port), "SENDER"
        )

    def store(self, objects: Iterable[OutgoingObject]) -> dict[str, int | None]:
        """Send; statuses by `result_id`."""
        chosen = list(objects)
        outcomes = self.peer.store(chosen)
        self.sent.extend((one, outcome.status) for one, outcome in zip(chosen, outcomes, strict=True))
        return {outcome.result_id: outcome.status for outcome in outcomes}

    def ended(self, study_instance_uids: Iterable[str]) -> dict[str, WorkRow]:
        """Last work of each study, by Study Instance UID, when all have ended."""
        keys = {self.inside.study_key(uid): uid for uid in study_instance_uids}

        def of_these(work: WorkRow) -> bool:
            return work.key.study_key in keys and work.state in FINAL_STATES

        works = self.node.wait_for_work(120, ended=of_these, count=len(keys))
        return {keys[work.key.study_key]: work for work in works}

    def row(self, study_instance_uid: str) -> StudyRow:
        """What the ledger says of a study."""
        key = self.inside.study_key(study_instance_uid)
        return next(row for row in self.node.studies() if row.study_key == key)


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    settings = "[intake]\nextent_bytes = 65536\n"
    with RunningNode(tmp_path_factory.mktemp("bad") / "node", settings) as node:
        yield Ward(node, Inside(node.tree))


def outgoing(path: Path) -> tuple[OutgoingObject, Dataset]:
    """A file as a careless sender sends it, and what pydicom makes of it."""
    transfer_syntax_uid, encoded = split_part10(path.read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=True)
        meta = getattr(dataset, "file_meta", Dataset())
        one = OutgoingObject(
            result_id=str(path),
            sop_class_uid=str(dataset.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or CT),
            sop_instance_uid=str(dataset.get("SOPInstanceUID") or meta.get("MediaStorageSOPInstanceUID") or "2.25.1"),
            transfer_syntax_uid=transfer_syntax_uid,
            encoded=bytes(encoded),
        )
    return one, dataset


def assert_sound(ward: Ward) -> None:
    """It still answers, said nothing that it should not, and holds every byte that it acknowledged."""
    ward.peer.echo()
    log = ward.node.log()
    assert "Traceback" not in log
    assert not {event["event"] for event in ward.node.events} & {"node.fault", "internal", "text"}, log
    originals = ward.inside.originals()
    lost = [
        one.result_id
        for one, status in ward.sent
        if status == 0 and bytes(one.encoded) not in originals.get(one.sop_instance_uid, [])
    ]
    assert lost == []


@pytest.mark.parametrize("name", SETS)
def test_real_files_get_a_status_and_their_studies_a_code(ward: Ward, name: str) -> None:
    folder = tools.shared_data_set(name)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in NO_OBJECTS]
    files = [outgoing(path) for path in paths]

    statuses = ward.store(one for one, _ in files)

    expected: dict[str, int] = {}
    studies = set()
    for one, dataset in files:
        whole = all(dataset.get(keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID"))
        expected[one.result_id] = 0x0000 if whole else 0xC000
        if whole:
            studies.add(str(dataset.StudyInstanceUID))
    assert statuses == expected
    for work in ward.ended(studies).values():
        assert work.state in (WorkState.DONE, WorkState.REFUSED), work
        assert (work.reason is None) == (work.state is WorkState.DONE)
        assert work.reason is None or work.reason in REASONS
    assert_sound(ward)


# Series that a scanner, a router or a human broke ----------------------------------------------------------------


def _at(number: int, change: Callable[[Dataset], None]) -> Callable[[int, Dataset], None]:
    return lambda index, image: change(image) if index == number else None


def _duplicate(image: Dataset) -> None:
    image.ImagePositionPatient = [*image.ImagePositionPatient[:2], float(image.ImagePositionPatient[2]) - 8.0]


def _irregular(image: Dataset) -> None:
    image.ImagePositionPatient = [*image.ImagePositionPatient[:2], float(image.ImagePositionPatient[2]) - 7.0]


def _tilt(index: int, image: Dataset) -> None:
    x, y, z = image.ImagePositionPatient
    image.ImagePositionPatient = [x, float(y) + 10.0 * index, z]  # 51 degrees


def _halve(image: Dataset) -> None:
    image.Rows //= 2
    image.PixelData = image.PixelData[: len(image.PixelData) // 2]


def _turn(image: Dataset) -> None:
    image.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]


def _no_position(image: Dataset) -> None:
    del image.ImagePositionPatient


def _no_rescale(image: Dataset) -> None:
    del image.RescaleSlope


def _other_frame(image: Dataset) -> None:
    image.FrameOfReferenceUID = "2.25.7"


def _no_pixels(image: Dataset) -> None:
    del image.PixelData


def _fewer_pixels(image: Dataset) -> None:
    image.PixelData = image.PixelData[:100]


def _water(index: int, image: Dataset) -> None:
    image.PixelData = b"\0\4" * (len(image.PixelData) // 2)


def _other_patient(image: Dataset) -> None:
    image.PatientID = "QUITE-ANOTHER-ONE"


def _localizer(index: int, image: Dataset) -> None:
    image.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def _magnetic(index: int, image: Dataset) -> None:
    image.Modality = "MR"
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def _rubbish(index: int, image: Dataset) -> None:
    image.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True


Change = Callable[[int, Dataset], None]
#: Case → (what is done to each image, which of the 40 images are sent, transfer syntax, code).
BROKEN: dict[str, tuple[Change | None, slice, str, str]] = {
    "duplicate position": (_at(20, _duplicate), slice(None), EXPLICIT, "geometry-duplicate-position"),
    "irregular": (_at(20, _irregular), slice(None), EXPLICIT, "geometry-irregular-spacing"),
    "tilt": (_tilt, slice(None), EXPLICIT, "geometry-gantry-tilt"),
    "mixed size": (_at(20, _halve), slice(None), EXPLICIT, "geometry-mixed-size"),
    "mixed orientation": (_at(20, _turn), slice(None), EXPLICIT, "geometry-mixed-orientation"),
    "mixed frame": (_at(20, _other_frame), slice(None), EXPLICIT, "geometry-mixed-frame-of-reference"),
    "no position": (_at(20, _no_position), slice(None), EXPLICIT, "geometry-attribute-missing"),
    "no rescale": (_at(20, _no_rescale), slice(None), EXPLICIT, "rescale-attribute-missing"),
    "too few": (None, slice(0, 3), EXPLICIT, "geometry-too-few-slices"),
    "one": (None, slice(0, 1), EXPLICIT, "geometry-too-few-slices"),
    "no pixels": (_at(20, _no_pixels), slice(None), EXPLICIT, "pixel-missing"),
    "fewer pixels": (_at(20, _fewer_pixels), slice(None), EXPLICIT, "pixel-missing"),
    "rubbish": (_rubbish, slice(0, 8), JPEG_2000, "pixel-undecodable"),
    "water": (_water, slice(None), EXPLICIT, "nothing-found"),
    "two patients": (_at(20, _other_patient), slice(None), EXPLICIT, "patient-mismatch"),
    "localizer": (_localizer, slice(None), EXPLICIT, "no-suitable-series"),
    "another modality": (_magnetic, slice(None), EXPLICIT, "no-suitable-series"),
}


def _write(folder: Path, case: str, change: Change | None, syntax: str) -> tuple[list[Path], PhantomPatient]:
    number = zlib.crc32(case.encode()) % 10**6
    return write_study(
        folder,
        f"bad-{case}",
        change=change,
        transfer_syntax_uid=syntax,
        name=f"Kowalska^Wanda{number:06}",
        patient_id=f"GEHEIM-{number:06}",
        accession_number=f"ACCNO-{number:06}",
    )


@pytest.fixture(scope="module")
def broken(ward: Ward, tmp_path_factory: pytest.TempPathFactory) -> dict[str, WorkRow]:
    """Every broken study, sent at once; what became of each."""
    folder = tmp_path_factory.mktemp("broken")
    studies: dict[str, str] = {}
    objects: list[OutgoingObject] = []
    for case, (change, sent, syntax, _) in BROKEN.items():
        paths, who = _write(folder / case, case, change, syntax)
        objects += [outgoing(path)[0] for path in paths[sent]]
        studies[case] = who.uid("study")
    paths, who = _write(folder / "gap", "gap", None, EXPLICIT)
    objects += [outgoing(path)[0] for path in [*paths[:19], *paths[21:]]]
    studies["gap"] = who.uid("study")
    assert set(ward.store(objects).values()) == {0}
    works = ward.ended(studies.values())
    return {case: works[uid] for case, uid in studies.items()}


@pytest.mark.parametrize("case", [*BROKEN, "gap"])
def test_a_broken_series_has_its_code(broken: dict[str, WorkRow], case: str) -> None:
    work = broken[case]
    assert (work.state, work.reason) == (WorkState.REFUSED, BROKEN[case][3] if case in BROKEN else "geometry-gap")


def test_a_gap_that_is_filled_gives_a_new_revision(ward: Ward, tmp_path: Path) -> None:
    paths, who = _write(tmp_path, "filled", None, EXPLICIT)
    objects = [outgoing(path)[0] for path in paths]
    ward.store([*objects[:19], *objects[21:]])
    assert ward.ended([who.uid("study")])[who.uid("study")].reason == "geometry-gap"
    ward.store(objects[19:21])
    key = ward.inside.study_key(who.uid("study"))
    done = ward.node.wait_for_work(
        ended=lambda work: work.key.study_key == key and work.state is WorkState.DONE and work.key.revision == 2
    )
    assert len(done) == 1
    assert_sound(ward)


# The same SOP Instance UID again ---------------------------------------------------------------------------------


def _send_again(ward: Ward, tmp_path: Path, case: str, change: Change | None, syntax: str = EXPLICIT) -> str:
    """A study that was done, and one image of it again; its Study Instance UID."""
    paths, who = _write(tmp_path / "first", case, None, EXPLICIT)
    assert set(ward.store(outgoing(path)[0] for path in paths).values()) == {0}
    assert ward.ended([who.uid("study")])[who.uid("study")].state is WorkState.DONE
    again, _ = _write(tmp_path / "again", case, change, syntax)
    assert set(ward.store([outgoing(again[20])[0]]).values()) == {0}
    return who.uid("study")


def test_the_same_uid_with_other_pixels_is_kept_in_quarantine(ward: Ward, tmp_path: Path) -> None:
    uid = _send_again(ward, tmp_path, "other pixels", _water)
    event = ward.node.wait_for_event("object.quarantined", study=ward.inside.study_key(uid))
    assert event["reason"] == "same-uid-other-content"
    assert ward.row(uid).quarantined == 1
    assert ward.row(uid).revision == 1
    assert_sound(ward)


def test_the_same_uid_with_another_header_gives_a_new_revision(ward: Ward, tmp_path: Path) -> None:
    def comment(index: int, image: Dataset) -> None:
        image.ImageComments = "corrected"

    uid = _send_again(ward, tmp_path, "other header", comment)
    key = ward.inside.study_key(uid)
    ward.node.wait_for_event("object.replaced", study=key)
    ward.node.wait_for_work(
        ended=lambda work: work.key.study_key == key and work.state is WorkState.DONE and work.key.revision == 2
    )
    assert len(ward.inside.instances(uid)) == 40
    assert_sound(ward)


def test_the_same_uid_in_another_transfer_syntax_is_nothing_new(ward: Ward, tmp_path: Path) -> None:
    uid = _send_again(ward, tmp_path, "other syntax", None, IMPLICIT)
    wait_for(lambda: len(ward.inside.instances(uid, InstanceState.DUPLICATE)) == 1, what="the decision")
    row = ward.row(uid)
    assert (row.instances, row.quarantined, row.revision) == (40, 0, 1)
    assert_sound(ward)


# Objects that are none -------------------------------------------------------------------------------------------


def _without_series(path: Path, *, empty: bool) -> bytes:
    image = pydicom.dcmread(path)
    image.SeriesInstanceUID = ""
    if not empty:
        del image.SeriesInstanceUID
    return encode_dataset(image, EXPLICIT)


def test_objects_that_cannot_be_taken_have_their_status(ward: Ward, tmp_path: Path) -> None:
    path = _write(tmp_path, "statuses", None, EXPLICIT)[0][0]
    good, _ = outgoing(path)

    def variant(name: str, **changes: Any) -> OutgoingObject:
        values = {"sop_class_uid": CT, "sop_instance_uid": good.sop_instance_uid, "encoded": good.encoded}
        return OutgoingObject(**{"result_id": name, "transfer_syntax_uid": EXPLICIT, **values, **changes})

    statuses = ward.store(
        [
            variant("noise", encoded=bytes(range(256)) * 40),
            variant("no uids", encoded=good.encoded[-200:]),
            variant("no series", encoded=_without_series(path, empty=False)),
            variant("empty series", encoded=_without_series(path, empty=True)),
            variant("another instance", sop_instance_uid="2.25.99"),
            variant("another class", sop_class_uid="1.2.840.10008.5.1.4.1.1.4"),
            variant("another syntax", transfer_syntax_uid=JPEG_2000),
            variant("good"),
        ]
    )

    assert statuses == {
        "noise": 0xC000,
        "no uids": 0xC000,
        "no series": 0xC000,
        "empty series": 0xC000,
        "another instance": 0xA900,
        "another class": 0xA900,
        "another syntax": 0x0000,
        "good": 0x0000,
    }
    assert_sound(ward)


def test_a_full_disk_sends_senders_away_until_there_is_space(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "full", patient_id="F-1")
    with RunningNode(tmp_path / "node", f"[intake]\nminimum_free_bytes = {2**60}\n") as node:
        done = storescu(node.port, *paths, called="DICOMNODE")
        assert done.returncode != 0
        assert node.wait_for_event("association.refused")["reason"] == "storage-full"
        assert node.studies() == ()
        assert node.terminate() == 0
    with RunningNode(tmp_path / "node") as node:
        assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
        assert node.wait_for_work()[0].state is WorkState.DONE
        assert node.studies()[0].instances == len(paths)


def mended(path: Path, target: Path) -> Path:
    """The file with the UIDs that were blanked before it was published."""
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, dataset.file_meta.MediaStorageSOPInstanceUID
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, f"2.25.{len(keyword)}")
    dataset.save_as(target)
    return target


@pytest.mark.parametrize("name", ["ct_thorax_siemens105_rtstruct", "ct_body_siemens_j2k20_seg"])
def test_real_cts_from_a_foreign_sender_are_worked_on(tmp_path: Path, name: str) -> None:
    folder = tools.shared_data_set(name)
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in NO_OBJECTS]
    if "j2k" in name:
        paths = [mended(path, tmp_path / f"{number}.dcm") for number, path in enumerate(paths)]
    with RunningNode(tmp_path / "node") as node:
        sent = dcmsend(node.port, *paths, called="DICOMNODE")
        assert sent.returncode == 0, sent.stdout[-2000:]
        (work,) = node.wait_for_work(120)
        assert (work.state, work.reason) == (WorkState.DONE, None), node.log()
        assert node.studies()[0].instances == len(paths)
        assert "Traceback" not in node.log()


# Must be the last one --------------------------------------------------------------------------------------------


def test_no_identity_is_to_be_found_outside_what_is_sealed(ward: Ward, broken: dict[str, WorkRow]) -> None:
    names, uids = identities(ward)
    assert len(names) >= len(broken)
    command = [sys.executable, "-m", "dicomnode", "studies", "--json", "--limit", "1000"]
    listing = subprocess.run(
        [*command, "--state", str(ward.node.state)], capture_output=True, check=True, timeout=60
    ).stdout
    assert len(json.loads(listing)) == len(ward.node.studies())
    places: dict[str, bytes] = {"log": ward.node.log().encode(), "studies --json": listing}
    for path in sorted(ward.node.state.rglob("*")):
        places[f"name of {path.name}"] = str(path.relative_to(ward.node.state)).encode()
        if path.is_file():
            places[str(path.name)] = path.read_bytes()
    found = [
        (place, text)
        for place, data in places.items()
        for text in [*(name for name in names if name in data), *uids_in(data, uids)]
    ]
    assert found == []


def identities(ward: Ward) -> tuple[set[bytes], set[bytes]]:
    """Names, ids and accession numbers, and UIDs, of all that was sent."""
    names: set[bytes] = set()
    uids: set[bytes] = set()
    for one, _ in ward.sent:
        if one.result_id.endswith(".dcm") and Path(one.result_id).is_file():
            dataset = outgoing(Path(one.result_id))[1]
            for keyword in ("PatientName", "PatientID", "AccessionNumber"):
                text = str(dataset.get(keyword) or "").split("=")[0].strip()
                if len(text) >= 9 and not text.isdecimal() and text.isascii():
                    names.add(text.encode())
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
                uids.add(str(dataset.get(keyword) or "-").encode())
    return names, uids


def uids_in(data: bytes, uids: set[bytes]) -> set[bytes]:
    return {text for text in re.findall(rb"[12]\.[0-9][0-9.]{3,62}", data) if text.rstrip(b".") in uids}
