"""What every source does that the node fetches from, whichever way it sends: Orthanc by all three, dcmqrscp by two."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from dicomnode.config import IntakeSection
from dicomnode.encoded import Limits, encode_dataset
from dicomnode.errors import NodeError, PeerError, StorageError
from dicomnode.network.moving import MoveDoor
from dicomnode.network.requestor import OutgoingObject, Requestor
from dicomnode.network.retrieval import Allowance, Fetched, Retriever, Taking, Wanted
from dicomnode.network.retrieving import GetRetriever, MoveRetriever
from dicomnode.network.wado import WebRetriever
from dicomnode.network_sections import ListenSection
from dicomnode.sections import Destination
from dicomnode.source_sections import Source
from tests import tools
from tests.neighbours import HOST, Dcmqrscp, Orthanc, free_port
from tests.unit.network.samples import EXPLICIT_LITTLE, Events, small_object

OURS = "DICOMNODE-MOVE"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
STUDY, SERIES, OTHER = "1.2.3", "1.2.3.1", "1.2.3.2"


class Where(NamedTuple):
    retriever: Retriever
    sop_class_uid: str


@pytest.fixture(scope="module", params=["orthanc-get", "orthanc-move", "orthanc-web", "dcmqrscp-get", "dcmqrscp-move"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Where]:
    kind, _, way = request.param.partition("-")
    folder = tmp_path_factory.mktemp(request.param)
    port = free_port()
    modalities = {"node": (OURS, HOST, port)}
    plugins = [Path(tools.require_file(PLUGIN, setup="make setup"))] if way == "web" else []
    neighbour = (
        Orthanc(folder, modalities=modalities, plugins=plugins)
        if kind == "orthanc"
        else Dcmqrscp(folder, modalities=modalities)
    )
    neighbour.start()
    place = {"name": "pacs", "ae_title": neighbour.ae_title, "host": HOST, "port": neighbour.dicom_port}
    sop_class_uid = fill(Destination.model_validate(place), folder)
    door = MoveDoor(OURS, ListenSection(host=HOST, port=port), IntakeSection(), Limits(), emit=Events())
    door.start()
    if way == "web":
        assert isinstance(neighbour, Orthanc)
        place = {"name": "pacs", "url": f"http://{HOST}:{neighbour.http_port}/dicom-web"}
    target = Source.model_validate({**place, "timeout_seconds": 20})
    retriever: Retriever = {
        "get": lambda: GetRetriever(target, "DICOMNODE"),
        "move": lambda: MoveRetriever(target, "DICOMNODE", door),
        "web": lambda: WebRetriever(target),
    }[way]()
    try:
        yield Where(retriever, sop_class_uid)
    finally:
        door.stop()
        neighbour.stop()


def objects() -> dict[str, bytes]:
    """Encoded Data Sets of what lies in the source, by UID."""
    found = {}
    for series, numbers in ((SERIES, range(5)), (OTHER, range(2))):
        for number in numbers:
            uid = f"{series}.{number + 1}"
            one = small_object(uid, study_instance_uid=STUDY, series_instance_uid=series)
            found[uid] = encode_dataset(one, EXPLICIT_LITTLE)
    return found


def fill(place: Destination, folder: Path) -> str:
    one = small_object(f"{SERIES}.1", study_instance_uid=STUDY, series_instance_uid=SERIES)
    outgoing = [
        OutgoingObject(
            result_id=uid,
            sop_class_uid=str(one.SOPClassUID),
            sop_instance_uid=uid,
            transfer_syntax_uid=EXPLICIT_LITTLE,
            encoded=encoded,
        )
        for uid, encoded in objects().items()
    ]
    assert all(outcome.status == 0 for outcome in Requestor(place, "DICOMNODE").store(outgoing))
    return str(one.SOPClassUID)


def ask(
    source: Where,
    *uids: str,
    series: str = SERIES,
    study: str = STUDY,
    objects: int = 100,
    size: int = 1 << 20,
    seconds: float = 30,
    fault: NodeError | None = None,
) -> tuple[Taking, dict[str, Fetched], PeerError | None]:
    came: dict[str, Fetched] = {}

    def take(one: Fetched) -> None:
        if fault is not None:
            raise fault
        came[one.sop_instance_uid] = one

    allowance = Allowance(objects=objects, size=size, until=time.monotonic() + seconds, monotonic=time.monotonic)
    wanted = Wanted(
        study_instance_uid=study,
        series_instance_uid=series,
        sop_instance_uids=uids,
        sop_classes=(source.sop_class_uid,),
    )
    taking = Taking(wanted, take, allowance=allowance, limits=Limits())
    try:
        source.retriever.retrieve(taking)
    except PeerError as error:
        return taking, came, error
    return taking, came, None


def test_it_answers_whether_it_is_there(source: Where) -> None:
    source.retriever.echo()


def test_it_shows_studies_series_and_images(source: Where) -> None:
    series = source.retriever.find("SERIES", {"StudyInstanceUID": STUDY, "SeriesInstanceUID": "", "Modality": ""}, 20)
    assert {one["SeriesInstanceUID"] for one in series} == {SERIES, OTHER}
    query = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "SOPInstanceUID": ""}
    assert len(source.retriever.find("IMAGE", query, 20)) == 5


def test_a_series_comes_as_it_is_stored(source: Where) -> None:
    taking, came, error = ask(source)
    assert error is None
    assert (taking.taken, taking.strange, taking.exhausted) == (5, 0, False)
    known = objects()
    assert sorted(came) == sorted(uid for uid in known if uid.startswith(f"{SERIES}."))
    for uid, one in came.items():
        assert one.transfer_syntax_uid == EXPLICIT_LITTLE
        assert bytes(one.encoded) == known[uid]


def test_some_images_of_a_series_come_alone(source: Where) -> None:
    taking, came, error = ask(source, f"{SERIES}.2", f"{SERIES}.4")
    assert (error, taking.taken, sorted(came)) == (None, 2, [f"{SERIES}.2", f"{SERIES}.4"])


def test_what_is_not_there_does_not_come(source: Where) -> None:
    taking, came, error = ask(source, study="9.9.9", series="9.9.9.9")
    assert (taking.taken, came) == (0, {})
    assert error is None or error.code in ("retrieval-refused", "peer-rejected")


@pytest.mark.parametrize("limit", [{"objects": 2}, {"size": 1500}])
def test_no_more_is_taken_than_may_come(source: Where, limit: dict[str, int]) -> None:
    taking, came, _ = ask(source, objects=limit.get("objects", 100), size=limit.get("size", 1 << 20))
    assert taking.exhausted
    assert taking.taken == len(came) < 5


def test_a_full_disk_of_ours_ends_it(source: Where) -> None:
    fault = StorageError("storage-full")
    taking, came, _ = ask(source, fault=fault)
    assert (str(taking.fault), taking.taken, came) == (str(fault), 0, {})


def test_it_can_be_asked_again_afterwards(source: Where) -> None:
    assert ask(source, objects=1)[0].exhausted
    assert ask(source)[0].taken == 5
