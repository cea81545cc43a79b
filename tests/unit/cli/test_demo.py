from __future__ import annotations

import contextlib
import errno
import io
import json
import socket
import subprocess
import urllib.parse
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from rich.console import Console

from dicomnode.cli import demo, demo_pacs, demo_results, demo_source
from dicomnode.cli.demo_source import Source
from dicomnode.config import Config
from dicomnode.encoded import encode_part10
from dicomnode.errors import REASONS, ConfigError, NodeError, PeerError, StudyError
from dicomnode.network.requestor import StoreOutcome
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.study import (
    DeliveryRow,
    DeliveryState,
    ResultRole,
    StudyRow,
    WorkKey,
    WorkRow,
    WorkState,
    blind_key,
)
from tests.unit.workflow.samples import EXPLICIT, tiny_series

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WORK = WorkRow(
    key=WorkKey(study_key="ab" * 16, revision=1, model="ct-lung"),
    state=WorkState.DONE,
    reason=None,
    input_digest="d",
    created_at=START,
    settled_at=START,
    stages={"infer": 5.0, "prepare": 1.0},
    deliveries=tuple(
        DeliveryRow(
            result_id="r",
            role=ResultRole.REPORT,
            destination="orthanc",
            state=DeliveryState.CONFIRMED,
            status=status,
            reason=None,
            attempts=1,
            updated_at=START,
        )
        for status in (0, None)
    ),
)


class Screen:
    """A console whose text is read."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        self.console = Console(file=self._stream, width=160)

    @property
    def text(self) -> str:
        return self._stream.getvalue()


@pytest.fixture
def screen() -> Screen:
    """A new console."""
    return Screen()


def coded(code: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "99TEST", meaning
    return item


def text_item(code: str, text: str) -> Dataset:
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", text
    item.ConceptNameCodeSequence = [coded(code, "Tracking Identifier")]
    return item


def number_item(code: str, meaning: str, value: str, unit: str) -> Dataset:
    item, measured = Dataset(), Dataset()
    item.ValueType = "NUM"
    item.ConceptNameCodeSequence = [coded(code, meaning)]
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = [coded(unit, unit)]
    item.MeasuredValueSequence = [measured]
    return item


def container(code: str, *items: Dataset) -> Dataset:
    item = Dataset()
    item.ValueType = "CONTAINER"
    item.ConceptNameCodeSequence = [coded(code, "x")]
    item.ContentSequence = list(items)
    return item


def test_the_numbers_of_a_report_are_a_row_for_each_region(screen: Screen) -> None:
    report = Dataset()
    report.ContentSequence = [
        container(
            "126010",
            container(
                "125007",
                text_item("112039", "Right [lung]"),
                number_item("1", "Volume", "2500.25", "ml"),
                number_item("42798000", "Area", "9", "mm2"),
            ),
            container("125007", text_item("112039", "Right [lung]"), number_item("2", "Density", "-850", "[hnsf'U]")),
            container("125007", text_item("112039", "Both"), number_item("1", "Volume", "5000", "ml")),
        ),
        Dataset(),
    ]
    screen.console.print(demo_results._measurements(report))
    rows = [line for line in screen.text.splitlines() if "ml" in line]
    assert len(rows) == 2
    assert all(part in rows[0] for part in ("Right [lung]", "2500.2 ml", "-850.0 HU"))
    assert "Area" not in screen.text
    assert "not reviewed" in screen.text


def test_stage_times_and_statuses_are_told(screen: Screen) -> None:
    demo_results.show_stages(WORK, screen.console)
    assert "Stages  prepare 1.0 s · infer 5.0 s" in screen.text
    assert "(0x0000)" in screen.text
    assert "(no answer)" in screen.text


def write(folder: Path, *images: Dataset) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = []
    for index, image in enumerate(images):
        path = folder / f"{index}.dcm"
        path.write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
        paths.append(path)
    return paths


def test_a_folder_without_files_is_no_study(tmp_path: Path) -> None:
    for source in (tmp_path / "none", tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(ConfigError, match="source-not-found"):
            demo_source.files_of(source)
    stray = tmp_path / "stray.txt"
    stray.write_text("no DICOM")
    assert demo_source.files_of(tmp_path) == [stray]
    assert demo_source.files_of(stray) == [stray]


def test_files_are_sorted_by_study_and_the_others_told_with_their_reason(screen: Screen, tmp_path: Path) -> None:
    stray, bare = tmp_path / "stray.txt", tiny_series(seed="bare")[0]
    stray.write_text("no DICOM")
    del bare.StudyInstanceUID
    one, other = tiny_series()[:2], tiny_series(seed="other")[:1]
    paths = [
        *write(tmp_path / "a", *one),
        stray,
        tmp_path / "gone",
        *write(tmp_path / "b", bare, bare),
        *write(tmp_path / "c", *other),
    ]
    found = demo_source.survey(paths, screen.console)
    assert found.studies == {
        str(one[0].StudyInstanceUID): tuple(paths[:2]),
        str(other[0].StudyInstanceUID): tuple(paths[-1:]),
    }
    assert found.paths == [*paths[:2], paths[-1]]
    assert found.left_out == {"object-malformed": 2, "object-without-uids": 2}
    for code in found.left_out:
        assert f"2 file(s) left out {code}: {REASONS[code].text}" in screen.text


def test_a_folder_of_which_nothing_can_be_sent_says_why(screen: Screen, tmp_path: Path) -> None:
    bare = tiny_series()[0]
    del bare.StudyInstanceUID
    write(tmp_path / "study", bare, bare)
    with pytest.raises(ConfigError, match="source-unreadable") as caught:
        demo.run_demo(tmp_path / "study", tmp_path / "demo", screen.console)
    assert "2 file(s) left out object-without-uids" in screen.text
    assert "lines above" in caught.value.reason.advice
    assert not (tmp_path / "demo").exists()


class Peer:
    """A node that takes what it is told to."""

    outcomes: Sequence[StoreOutcome] = ()

    def __init__(self, destination: Any, calling_ae_title: str) -> None:
        assert (destination.ae_title, calling_ae_title) == ("DICOMNODE", "DEMO")

    def send_files(self, paths: Sequence[Path], progress: Any) -> Sequence[StoreOutcome]:
        progress(len(paths))
        return self.outcomes


def outcome(status: int | None, error: PeerError | None = None) -> StoreOutcome:
    return StoreOutcome(result_id="x", status=status, error=error)


def source_of(*studies: list[Path]) -> Source:
    return Source(studies={f"1.2.{number}": tuple(paths) for number, paths in enumerate(studies, 1)}, left_out={})


def test_what_was_sent_is_counted_and_what_was_refused_told(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / str(number) for number in range(4)]
    source = source_of(paths[:2], paths[2:3], paths[3:])
    monkeypatch.setattr(demo, "Requestor", Peer)
    statuses = (0, 0xC000, 0, 0xC000)
    monkeypatch.setattr(
        Peer,
        "outcomes",
        [replace(outcome(status), result_id=str(path)) for status, path in zip(statuses, paths, strict=True)],
    )
    assert demo._send(source, 104, screen.console) == ["1.2.1", "1.2.2"]
    assert "Sent    2 of 4 files, 3 studies, by C-STORE" in screen.text
    assert "2 file(s) refused by the node with status 0xC000" in screen.text
    for outcomes, code in (
        ([outcome(None, PeerError("peer-unreachable"))], "peer-unreachable"),
        ([outcome(0xC000)], "peer-refused-object"),
    ):
        monkeypatch.setattr(Peer, "outcomes", outcomes)
        with pytest.raises(PeerError, match=code):
            demo._send(source, 104, screen.console)


UIDS = ("1.2.1", "1.2.2")


def study(uid: str, *works: tuple[int, WorkState], derivation: bytes = b"d" * 32, revision: int = 1) -> StudyRow:
    key = blind_key(derivation, "study", uid)
    return StudyRow(
        study_key=key,
        first_received_at=START,
        last_received_at=START,
        instances=1,
        quarantined=0,
        revision=revision,
        works=tuple(
            replace(WORK, state=state, key=WorkKey(study_key=key, revision=number, model="ct-lung"))
            for number, state in works
        ),
    )


@pytest.fixture
def derived(tmp_path: Path) -> tuple[Config, bytes]:
    """A state folder with keys, and the key of which study keys derive."""
    tree = Config.model_validate({"node": {"state": tmp_path / "node"}})
    layout = Layout.of(tree)
    rooms.make_state_folder(layout)
    return tree, rooms.open_key_ring(tree, layout, {}, create=True).derivation


def test_it_waits_for_the_last_of_all_the_studies_that_it_sent(
    screen: Screen, derived: tuple[Config, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, key = derived
    done = study(UIDS[0], (1, WorkState.SUPERSEDED), (2, WorkState.DONE), derivation=key, revision=2)
    foreign = study("1.2.99", (1, WorkState.INFERRING), derivation=key)
    seen = [
        (),
        (done,),
        (study(UIDS[1], (1, WorkState.REFUSED), (2, WorkState.INFERRING), derivation=key, revision=2), done, foreign),
        (study(UIDS[1], (1, WorkState.REFUSED), (2, WorkState.DONE), derivation=key, revision=2), done, foreign),
    ]
    asked: list[int] = []

    def read(tree: Config, limit: int) -> tuple[StudyRow, ...]:
        asked.append(limit)
        return seen.pop(0)

    monkeypatch.setattr(demo, "read_studies", read)
    monkeypatch.setattr(demo.time, "sleep", lambda seconds: None)
    rows = demo._wait(tree, UIDS, screen.console)
    assert [[work.state for work in demo._latest(rows[uid])] for uid in UIDS] == [[WorkState.DONE], [WorkState.DONE]]
    assert len(asked) == 4
    monkeypatch.setattr(demo, "_WAIT_SECONDS", 0.0)
    with pytest.raises(NodeError, match="timeout"):
        demo._wait(tree, UIDS, screen.console)


def test_what_is_refused_or_gets_no_work_is_believed_when_the_quiet_time_is_over(
    screen: Screen, derived: tuple[Config, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, key = derived
    clock = [0.0]

    def pass_time(seconds: float) -> None:
        clock[0] += seconds

    rows = (study(UIDS[0], (1, WorkState.REFUSED), derivation=key),)
    monkeypatch.setattr(demo, "read_studies", lambda tree, limit: rows)
    monkeypatch.setattr(demo.time, "sleep", pass_time)
    monkeypatch.setattr(demo.time, "monotonic", lambda: clock[0])
    found = demo._wait(tree, UIDS, screen.console)
    assert (found[UIDS[0]], found[UIDS[1]]) == (rows[0], None)
    assert demo._SETTLED_SECONDS < clock[0] < demo._SETTLED_SECONDS + 1


def test_each_study_is_shown_apart(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(*([tmp_path / name / "1.dcm"] for name in "abcd"))
    refused = study("1.2.2", (1, WorkState.REFUSED))
    works = (replace(refused.works[0], reason="geometry-gap"),)
    rows = {"1.2.1": study("1.2.1", (1, WorkState.DONE)), "1.2.2": replace(refused, works=works), "1.2.3": None}
    shown: list[tuple[str, str]] = []
    monkeypatch.setattr(demo, "show_results", lambda pacs, uid, picture, console: shown.append((uid, picture.name)))
    reasons = [
        demo._show(rows, uid, source, pacs=Pacs(), folder=tmp_path, console=screen.console)  # type: ignore[arg-type]
        for uid in source.studies
    ]
    assert reasons == [None, "geometry-gap", "no-suitable-series", "peer-refused-object"]
    assert shown == [("1.2.1", "key-image-study-1.png")]
    for number, name in enumerate("abcd", 1):
        assert f"Study {number} of 4: 1 files, the first {name}/1.dcm" in screen.text
    for code in reasons[1:]:
        assert code is not None
        assert f"No result {code}: {REASONS[code].text}" in screen.text


class Pacs:
    """A PACS with results in it."""

    name, ae_title, port = "Orthanc", "ORTHANC", 4242

    def objects(self, study_instance_uid: str, modality: str) -> list[Dataset]:
        if modality == "SR":
            report = Dataset()
            report.ContentSequence = []
            return [report]
        picture = Dataset()
        picture.Rows, picture.Columns = 3, 5
        picture.PixelData = np.arange(46, dtype=np.uint8).tobytes()
        return [picture, picture]


class Finder:
    def __init__(self, destination: Any, calling_ae_title: str) -> None:
        pass

    def find(self, level: str, query: dict[str, str]) -> list[dict[str, str]]:
        return [{"Modality": "SEG", "SeriesDescription": "AI [lungs]"}, {}]


def test_what_the_pacs_holds_is_shown_with_the_picture(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_results, "Requestor", Finder)
    demo_results.show_results(Pacs(), "1.2.3", tmp_path / "key-image.png", screen.console)  # type: ignore[arg-type]
    assert "SEG  AI [lungs]" in screen.text
    for name in ("key-image.png", "key-image-2.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_phantom_is_a_study(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "chest_phantom", lambda generator: replace(_small(), spacing=(8.0, 4.0, 4.0)))
    folder = demo._make_phantom(tmp_path / "study", screen.console)
    assert len(demo_source.files_of(folder)) == 4
    assert "4 images" in screen.text


def _small() -> Any:
    from dicomnode.imaging.phantom import Phantom

    hu = np.zeros((4, 8, 8), np.int16)
    return Phantom(hu=hu, labels=hu.astype(np.uint8), spacing=(1.0, 1.0, 1.0), truth={})


def test_a_port_that_is_free_is_taken_and_else_another() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo_pacs.free_port(port) not in (0, port)
    assert demo_pacs.free_port() > 0


def test_no_port_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Socket(socket.socket):
        def bind(self, address: Any) -> None:
            raise OSError

    monkeypatch.setattr(demo_pacs.socket, "socket", Socket)
    with pytest.raises(NodeError, match="port-unavailable"):
        demo_pacs.free_port()


def test_without_orthanc_the_archive_that_ships_is_the_pacs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_pacs.shutil, "which", lambda *_, **__: None)
    with demo_pacs.open_pacs(tmp_path) as pacs:
        assert pacs.port > 0
        assert pacs.objects("1.2.3", "SR") == []


def test_an_unknown_reason_is_a_fault() -> None:
    assert demo._reason(replace(WORK, reason="nothing-found")) == "nothing-found"
    assert demo._reason(replace(WORK, reason="no such code")) == demo._reason(WORK) == "internal"


class Process:
    """A program that is started and ended, and does nothing."""

    made: list[Process]

    def __init__(self, command: list[str], **_: Any) -> None:
        self.command, self.signals, self.stuck = command, [], False
        self.made.append(self)

    def poll(self) -> int | None:
        return None

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def terminate(self) -> None:
        self.signals.append(15)

    def kill(self) -> None:
        self.signals.append(9)
        self.stuck = False

    def wait(self, seconds: float | None = None) -> int:
        if self.stuck:
            raise subprocess.TimeoutExpired("x", 1)
        return 0


class Answering:
    """A peer that answers its echo after some tries."""

    failures = 0

    def __init__(self, destination: Any, calling_ae_title: str) -> None:
        pass

    def echo(self) -> None:
        if Answering.failures:
            Answering.failures -= 1
            raise PeerError("peer-unreachable")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> type[Process]:
    """No program is really started, and nobody waits."""
    Process.made, Answering.failures = [], 0
    for module in (demo, demo_pacs):
        monkeypatch.setattr(module.subprocess, "Popen", Process)
        monkeypatch.setattr(module, "Requestor", Answering)
        monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    return Process


def test_the_demos_node_is_a_process_of_its_own_that_is_ended(
    screen: Screen, tmp_path: Path, machine: type[Process]
) -> None:
    Answering.failures = 2
    with demo._node(tmp_path, Pacs(), screen.console) as (tree, port):  # type: ignore[arg-type]
        assert tree.node.state == tmp_path / "node"
        (process,) = machine.made
        assert process.command[1:5] == ["-P", "-m", "dicomnode", "serve"]
        assert str(port) in process.command
        assert "ORTHANC@127.0.0.1:4242" in process.command
        process.stuck = True
    assert process.signals == [15, 9]


def test_a_node_that_ends_before_it_answers_shows_its_log(
    *,
    screen: Screen,
    tmp_path: Path,
    machine: type[Process],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Answering.failures = 1
    monkeypatch.setattr(Process, "poll", lambda self: 2)
    (tmp_path / "node.log").write_text("x")
    with pytest.raises(PeerError, match="peer-unreachable"):
        demo._until_it_answers(Process([]), 104, tmp_path / "node.log")  # type: ignore[arg-type]
    assert capsys.readouterr().err == "x"


def test_the_demo_is_one_study_all_the_way(screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    ends = [WorkState.DONE, WorkState.DONE, WorkState.FAILED]

    def send(source: Source, port: int, console: Console) -> list[str]:
        calls.append(f"{len(source.paths)} {port}")
        return list(source.studies)

    def wait(tree: Config, uids: list[str], console: Console) -> dict[str, StudyRow | None]:
        row = study(uids[0], (1, ends.pop(0)))
        return {uids[0]: replace(row, works=tuple(replace(work, reason="timeout") for work in row.works))}

    monkeypatch.setattr(demo, "open_pacs", lambda folder: contextlib.nullcontext(Pacs()))
    monkeypatch.setattr(demo, "_node", lambda *_: contextlib.nullcontext((Config(), 4711)))
    monkeypatch.setattr(demo, "_send", send)
    monkeypatch.setattr(demo, "_wait", wait)
    monkeypatch.setattr(demo, "show_results", lambda pacs, uid, picture, console: calls.append(picture.name))
    monkeypatch.setattr(demo, "chest_phantom", lambda generator: _small())
    demo.run_demo(None, tmp_path / "demo", screen.console)
    (tmp_path / "demo" / "study" / "old.dcm").write_bytes(b"")
    (tmp_path / "demo" / "key-image.png").write_bytes(b"")
    calls.clear()
    demo.run_demo(None, tmp_path / "demo", screen.console)
    assert calls == ["4 4711", "key-image.png"]
    assert not (tmp_path / "demo" / "key-image.png").exists(), "the one of the run before"
    assert "Done in" in screen.text
    assert "Study 1 of" not in screen.text
    with pytest.raises(StudyError, match="timeout"):
        demo.run_demo(tmp_path / "demo" / "study", tmp_path / "other", screen.console)
    assert calls == ["4 4711", "key-image.png", "4 4711"]
    assert "node.log" in screen.text
    assert "No result timeout" in screen.text


def test_orthanc_runs_in_a_folder_of_its_own_until_it_is_left(
    tmp_path: Path, machine: type[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tiny_series()[0]
    answers = {"/tools/find": b'["a"]', "/instances/a/file": encode_part10(image, transfer_syntax_uid=EXPLICIT)}

    def answer(request: Any, timeout: float) -> Any:
        return contextlib.closing(io.BytesIO(answers[urllib.parse.urlsplit(request.full_url).path]))

    monkeypatch.setattr(demo_pacs.shutil, "which", lambda *_, **__: "/usr/sbin/Orthanc")
    monkeypatch.setattr(demo_pacs.urllib.request, "urlopen", answer)
    Answering.failures = 1
    with demo_pacs.open_pacs(tmp_path) as pacs:
        settings = json.loads((tmp_path / "orthanc" / "orthanc.json").read_text("utf-8"))
        assert (settings["DicomAet"], settings["DicomPort"]) == ("ORTHANC", pacs.port)
        assert settings["RemoteAccessAllowed"] is False
        (found,) = pacs.objects("1.2.3", "CT")
        assert found.SOPInstanceUID == image.SOPInstanceUID
        machine.made[0].stuck = True
    assert machine.made[0].signals == [15, 9]


def test_an_orthanc_that_does_not_come_up_or_answer_is_told(
    tmp_path: Path, machine: type[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(request: Any, timeout: float) -> Any:
        raise OSError

    monkeypatch.setattr(demo_pacs.urllib.request, "urlopen", silent)
    with demo_pacs.Orthanc("Orthanc", tmp_path) as pacs, pytest.raises(PeerError, match="peer-unreachable"):
        pacs.objects("1.2.3", "CT")
    monkeypatch.setattr(Process, "poll", lambda self: 1)
    Answering.failures = 1
    with pytest.raises(PeerError, match="peer-unreachable"), demo_pacs.Orthanc("Orthanc", tmp_path):
        pass
    assert machine.made[-1].signals == [15]


@pytest.mark.parametrize("inside", [True, False])
def test_the_demo_removes_nothing_that_it_did_not_make(screen: Screen, tmp_path: Path, *, inside: bool) -> None:
    own = tmp_path / "precious" / "study"
    own.mkdir(parents=True)
    write(own, *tiny_series()[:2])
    with pytest.raises(ConfigError, match="output-not-empty"):
        demo.run_demo(own if inside else None, tmp_path / "precious", screen.console)
    assert len(list(own.iterdir())) == 2
    (tmp_path / "precious" / demo._MARKER).write_text("")
    with pytest.raises(ConfigError, match="output-not-empty"):
        demo.run_demo(own, tmp_path / "precious", screen.console)
    assert len(list(own.iterdir())) == 2


def test_a_picture_that_no_demo_made_stays(tmp_path: Path) -> None:
    (tmp_path / "key-image.png").write_bytes(b"precious")
    demo._clear(tmp_path, None)
    assert (tmp_path / "key-image.png").read_bytes() == b"precious"


@pytest.mark.parametrize("what", ["mkdir", "write_text", "unlink"])
def test_a_folder_that_cannot_be_written_is_told(
    screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    demo._clear(tmp_path, None)
    (tmp_path / "key-image.png").write_bytes(b"")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system", "/Mueller^Juergen")

    monkeypatch.setattr(Path, what, refuse)
    with pytest.raises(ConfigError, match="output-not-empty"):
        demo.run_demo(None, tmp_path, screen.console)


def test_a_file_in_the_folders_place_is_told(screen: Screen, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="output-not-empty"):
        demo.run_demo(None, tmp_path / "file", screen.console)
