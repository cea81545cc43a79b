"""Priors of a real PACS: fetched for a model that wants them, kept with its work alone, and gone on without where they do not come."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from dicomnode.network.requestor import Requestor
from dicomnode.sections import Destination
from dicomnode.study import WorkRow, WorkState
from tests import tools
from tests.journey.inside import Inside, send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study
from tests.neighbours import HOST, Dcmqrscp, Orthanc, free_port

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
OURS = "DICOMNODE-MOVE"
WANTS = '\n[priors]\nmodalities = ["CT"]\nnumber = 2\nmaximum_age_days = 1000\n'


def package(folder: Path, wants: str = WANTS) -> str:
    """TOML of a folder of models with one that wants priors; the stand-in computes."""
    models = folder / "models"
    if not models.exists():
        shutil.copytree(
            ROOT / "models" / "ct-lung", models / "compare", ignore=shutil.ignore_patterns("train", "pict*")
        )
        manifest = models / "compare" / "model.toml"
        manifest.write_text(manifest.read_text().replace('name = "ct-lung"', 'name = "compare"', 1) + wants)
    return f'[models]\nengine = "stand-in"\nfolder = "{models}"\n'


def of_day(day: str) -> Any:
    def change(_: int, image: Dataset) -> None:
        image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = day

    return change


def source(place: str, **settings: Any) -> str:
    more = "".join(
        f"{name} = {value!r}\n".replace("'", '"').replace("True", "true") for name, value in settings.items()
    )
    return f'[[sources]]\nname = "pacs"\n{place}timeout_seconds = 5\n{more}'


@contextmanager
def pacs(kind: str, folder: Path, port: int) -> Iterator[tuple[str, int]]:
    """A PACS: TOML of where it is, and its DICOM port."""
    modalities = {"node": (OURS, HOST, port)}
    name, _, way = kind.partition("-")
    plugins = [Path(tools.require_file(PLUGIN, setup="make setup"))] if way == "web" else []
    neighbour = (
        Orthanc(folder, modalities=modalities, plugins=plugins)
        if name == "orthanc"
        else Dcmqrscp(folder, modalities=modalities)
    )
    neighbour.start()
    try:
        if way == "web":
            assert isinstance(neighbour, Orthanc)
            yield f'url = "http://{HOST}:{neighbour.http_port}/dicom-web"\n', neighbour.dicom_port
        else:
            place = f'ae_title = "{neighbour.ae_title}"\nhost = "{HOST}"\nport = {neighbour.dicom_port}\n'
            yield f'{place}retrieve = "{way}"\n', neighbour.dicom_port
    finally:
        neighbour.stop()


def fill(port: int, ae_title: str, *studies: list[Path]) -> None:
    place = Destination(name="pacs", ae_title=ae_title, host=HOST, port=port)
    for paths in studies:
        assert all(one.status == 0 for one in Requestor(place, "FILL").send_files(paths))


def only(works: list[WorkRow]) -> WorkRow:
    (work,) = works
    return work


#: Of the five ways that the contract suite goes (`tests/contracts`), one by DICOMweb and one by DIMSE.
@pytest.mark.parametrize("kind", ["orthanc-web", "dcmqrscp-move"])
def test_a_model_sees_earlier_studies_of_the_patient(kind: str, tmp_path: Path) -> None:
    port = free_port()
    now, who = write_study(tmp_path / "now", "now", change=of_day("20260301"))
    earlier = {
        day: write_study(tmp_path / day, day, change=of_day(day))[0] for day in ("20250301", "20260101", "20100101")
    }
    other, _ = write_study(tmp_path / "other", "other", patient_id="SOMEBODY", change=of_day("20260201"))
    with pacs(kind, tmp_path / "pacs", port) as (place, dicom), Recorder() as results:
        fill(dicom, "ORTHANC" if kind.startswith("orthanc") else "DCMQRSCP", *earlier.values(), other, now)
        settings = destination("results", "RECORDER", results.port) + package(tmp_path) + source(place)
        settings += f'[retrieval]\nae_title = "{OURS}"\nport = {port}\n'
        with RunningNode(tmp_path / "node", settings) as node:
            send(node, now)
            work = only(node.wait_for_work())
            fetched = node.wait_for_event("priors.fetched")
            log, inside = node.log(), Inside(node.tree)
            node.terminate()
        assert work.state is WorkState.DONE, log
        assert (work.facts["priors"], fetched["priors"], fetched["images"]) == (2, 2, 80)
        assert len(node.studies()) == 1  # what was fetched is no study of its own
        assert len(inside.instances(who.uid("study"))) == len(now)
        assert results.digests()
        assert who.uid("study") not in log


def test_the_engine_gets_the_priors_and_results_tell(tmp_path: Path) -> None:
    """The stand-in keeps what was air in every prior, too: beside a prior without any, nothing is left."""

    def solid(_: int, image: Dataset) -> None:
        image.StudyDate = "20250301"
        image.PixelData = bytes(len(image.PixelData))  # 0 is -1024 HU or 0 HU: one value everywhere, no air within

    now, _ = write_study(tmp_path / "now", "now", change=of_day("20260301"))
    earlier, _ = write_study(tmp_path / "earlier", "earlier", change=solid)
    found = []
    with pacs("orthanc-get", tmp_path / "pacs", free_port()) as (place, dicom):
        for number, filled in enumerate((False, True)):
            if filled:
                fill(dicom, "ORTHANC", earlier)
            settings = package(tmp_path) + source(place)
            with RunningNode(tmp_path / f"node-{number}", settings) as node:
                send(node, now)
                work = only(node.wait_for_work())
                found.append((work.state, work.reason, work.facts.get("priors"), work.facts.get("priors_reason")))
                node.terminate()
    assert found == [
        (WorkState.DONE, None, 0, "priors-none"),
        (WorkState.REFUSED, "nothing-found", 1, None),
    ]


@pytest.mark.parametrize(("timeout", "reason"), [(0, "peer-unreachable"), (1, "timeout")])
def test_a_dead_or_silent_pacs_costs_a_study_no_more_than_its_time(tmp_path: Path, timeout: int, reason: str) -> None:
    now, _ = write_study(tmp_path / "now", "now", change=of_day("20260301"))
    with socket.socket() as listener, Recorder() as results:
        listener.bind((HOST, 0))
        if timeout:
            listener.listen()  # connects, and says nothing
        place = f'ae_title = "PACS"\nhost = "{HOST}"\nport = {listener.getsockname()[1]}\n'
        settings = destination("results", "RECORDER", results.port) + package(tmp_path)
        settings += source(place).replace("timeout_seconds = 5", "timeout_seconds = 2")
        with RunningNode(tmp_path / "node", settings + "[retrieval]\npriors_seconds = 3\n") as node:
            began = time.monotonic()
            send(node, now)
            told = node.wait_for_event("priors.none")
            work = only(node.wait_for_work())
            assert time.monotonic() - began < 20
            node.terminate()
    assert (told["reason"], told["level"]) == (reason, "warning")
    assert (work.state, work.facts["priors"], work.facts["priors_reason"]) == (WorkState.DONE, 0, reason)


def test_a_node_that_is_killed_while_it_fetches_does_it_again(tmp_path: Path) -> None:
    """A PACS that is silent, a node that is killed meanwhile and comes back: the study is worked on, once, with its prior."""
    now, _ = write_study(tmp_path / "now", "now", change=of_day("20260301"))
    earlier, _ = write_study(tmp_path / "earlier", "earlier", change=of_day("20250301"))
    with Recorder() as results, pacs("orthanc-get", tmp_path / "pacs", free_port()) as (place, dicom):
        fill(dicom, "ORTHANC", earlier)
        with socket.socket() as listener:
            listener.bind((HOST, 0))
            listener.listen()
            silent = f'ae_title = "PACS"\nhost = "{HOST}"\nport = {listener.getsockname()[1]}\n'
            settings = destination("results", "RECORDER", results.port) + package(tmp_path)
            settings += source(silent).replace("timeout_seconds = 5", "timeout_seconds = 60")
            settings += source(place).replace('name = "pacs"', 'name = "second"')
            node = RunningNode(tmp_path / "node", settings)
            with node:
                send(node, now)
                listener.settimeout(30)
                asking, _ = listener.accept()
                node.kill()
                asking.close()
        with node:  # nobody listens there any more: the second one is asked
            work = only(node.wait_for_work(90))
            fetched = node.wait_for_event("priors.fetched")
            node.terminate()
    assert (work.state, work.facts["priors"], fetched["source"]) == (WorkState.DONE, 1, "second")
    assert {len(set(digests)) for digests in results.digests().values()} == {1}
    assert len(results.digests()) == len(work.deliveries)
