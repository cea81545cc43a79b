"""Orders to export: what leaves, what is withheld and told, and what a kill, a peer or a full disk changes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread

from dicomnode.config import Config, ConfigErrors, parse
from dicomnode.encoded import Limits, encode_dataset, encode_part10
from dicomnode.errors import PeerError, PeerRefusal, StorageError, StudyError
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.results.context import MANUFACTURER, MODEL_NAME
from dicomnode.service.deidentifying_series import Deidentified
from dicomnode.service.exporting import Exports, Outlet, Way
from dicomnode.service.exports import way_of
from dicomnode.storage import audit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import OrderRow
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow
from tests.head_phantom import Scan
from tests.unit.workflow.conftest import events, keys, ledger, spool, time
from tests.unit.workflow.samples import EXPLICIT, STUDY, Events, Time, metadata, ring, row

__all__ = ["events", "keys", "ledger", "spool", "time"]

ORDER = {"verb": "export", "study_key": STUDY, "destination": "trial"}


def image(number: int, **attributes: Any) -> Dataset:
    """A small picture that no policy withholds."""
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.3.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.9", "1.2.9.1", "CT"
    ds.PatientName, ds.PatientID = "Nobody^Ada", "MRN-5512"
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 16, 12, 11, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.BurnedInAnnotation = 1, "MONOCHROME2", "NO"
    ds.PixelData = bytes(128)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def file_of(number: int, **attributes: Any) -> bytes:
    return encode_part10(image(number, **attributes), transfer_syntax_uid=EXPLICIT)


class Peer:
    """An outlet that answers as it is told, and remembers."""

    def __init__(self) -> None:
        self.took: list[str] = []
        self.answers: dict[str, tuple[int | None, PeerError | None]] = {}

    def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
        told = []
        for one in objects:
            status, error = self.answers.get(one.sop_instance_uid, (0, None))
            if error is None:
                self.took.append(one.sop_instance_uid)
            told.append(StoreOutcome(result_id=one.result_id, status=status, error=error))
        return tuple(told)


class Bench:
    """Exports of one study of which `content` may leave."""

    def __init__(self, ledger: Ledger, folder: Path, time: Time, events: Events, to: Outlet | Path) -> None:
        self.ledger, self.folder, self.time, self.events = ledger, folder, time, events
        self.content: list[bytes | Exception] = [file_of(1), StudyError("withheld-pixels"), file_of(2)]
        self.here, self.ended = True, False
        self.faults: list[tuple[str, type[BaseException]]] = []
        self.exports = Exports(
            ledger,
            ways={"trial": Way(to=to, deidentify=self._deidentify)},
            state=folder,
            limits=Limits(),
            settings=parse({"delivery": {"first_retry_seconds": 5, "give_up_seconds": 60}}).delivery,
            ready=lambda _: self.here,
            ended=lambda: self.ended,
            report=lambda stage, fault: self.faults.append((stage, type(fault))),
            clocks=time,
            monotonic=time.monotonic,
            emit=events,
        )
        ledger.record_instances([row(0)])

    def _deidentify(self, rows: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        assert [one.study_key for one in rows] == [STUDY]
        for one in self.content:
            if isinstance(one, StudyError):
                yield one
            elif isinstance(one, Exception):
                raise one
            else:
                yield Deidentified(original=b"", data=one, sop_instance_uid="")

    def order(self, **changes: str) -> None:
        self.ledger.give_order(OrderRow(**{**ORDER, **changes}, at=self.time.now()))  # type: ignore[arg-type]

    def sweep(self) -> None:
        self.order()
        self.exports.sweep()

    def trail(self) -> list[dict[str, Any]]:
        path = self.folder / "audit.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [{k: v for k, v in json.loads(line).items() if k not in ("at", "chain")} for line in lines]

    def files(self) -> dict[str, bytes]:
        out = self.folder / "out"
        return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def sending(ledger: Ledger, tmp_path: Path, time: Time, events: Events, peer: Peer) -> Bench:
    return Bench(ledger, tmp_path, time, events, peer)


@pytest.fixture
def writing(ledger: Ledger, tmp_path: Path, time: Time, events: Events) -> Bench:
    return Bench(ledger, tmp_path, time, events, tmp_path / "out")


def test_what_leaves_and_what_is_withheld_is_told_and_audited(sending: Bench, peer: Peer) -> None:
    sending.sweep()
    assert peer.took == ["1.2.3.1", "1.2.3.2"]
    assert sending.ledger.orders() == ()
    about = {"study": STUDY, "destination": "trial"}
    assert sending.events.facts("export.withheld") == [{"reason": "withheld-pixels", "objects": 1, **about}]
    assert sending.events.facts("export.done") == [
        {"sent": 2, "already_there": 0, "withheld": 1, "refused": 0, **about}
    ]
    counts = {"sent": 2, "already_there": 0, "withheld": 1, "refused": 0, "withheld_withheld-pixels": 1}
    assert sending.trail() == [{"event": "export", "study_key": STUDY, "destination": "trial", **counts}]
    assert audit.verify(sending.folder)


def test_the_same_again_is_the_same_files(writing: Bench) -> None:
    writing.sweep()
    first = writing.files()
    assert list(first) == ["1.2.9/1.2.3.1.dcm", "1.2.9/1.2.3.2.dcm"]
    times = {path.name: path.stat().st_mtime_ns for path in (writing.folder / "out" / "1.2.9").iterdir()}
    writing.sweep()
    assert writing.files() == first
    assert times == {path.name: path.stat().st_mtime_ns for path in (writing.folder / "out" / "1.2.9").iterdir()}
    assert [one["sent"] for one in writing.trail()] == [2, 2]


def test_another_content_under_a_name_stays_away_and_is_told(writing: Bench) -> None:
    writing.sweep()
    first = writing.files()
    writing.content = [file_of(1, StudyDescription="OTHER"), file_of(3)]
    writing.sweep()
    assert writing.files() == {**first, "1.2.9/1.2.3.3.dcm": file_of(3)}
    assert writing.events.facts("export.refused")[0]["reason"] == "same-uid-other-content"
    assert writing.trail()[1]["refused_same-uid-other-content"] == 1


def test_an_envelope_that_was_encrypted_anew_is_no_other_content(writing: Bench) -> None:
    def enclosed(number: int, secret: bytes) -> bytes:
        item = Dataset()
        item.EncryptedContent = secret
        return file_of(number, EncryptedAttributesSequence=[item])

    writing.content = [enclosed(1, b"once")]
    writing.sweep()
    first = writing.files()
    writing.content = [enclosed(1, b"else")]
    writing.sweep()
    assert writing.files() == first
    assert writing.events.facts("export.refused") == []


def test_names_that_are_no_uids_lead_nowhere_else(writing: Bench) -> None:
    writing.content = [file_of(1).replace(b"1.2.9\0", b"../../"), file_of(2)]
    writing.sweep()
    assert list(writing.files()) == ["1.2.9/1.2.3.2.dcm"]
    (done,) = writing.events.facts("export.done")
    assert done["withheld"] + done["refused"] == 1


def test_a_try_that_was_cut_off_leaves_nothing_half_and_goes_on(writing: Bench) -> None:
    writing.content = [file_of(1)]
    writing.sweep()
    (writing.folder / "out" / "1.2.9" / ".1.2.3.2.dcm.0123456789abcdef.new").write_bytes(b"half")
    writing.content = [file_of(1), StorageError("storage-full", errno=28)]
    writing.sweep()
    assert len(writing.ledger.orders()) == 1, "it stays"
    assert list(writing.files()) == ["1.2.9/1.2.3.1.dcm"], "what was half there is gone"
    writing.content = [file_of(1), file_of(2)]
    writing.exports.sweep()
    assert len(writing.trail()) == 1, "not before its time"
    writing.time.forward(5)
    writing.exports.sweep()
    assert list(writing.files()) == ["1.2.9/1.2.3.1.dcm", "1.2.9/1.2.3.2.dcm"]
    assert writing.ledger.orders() == ()


def test_a_peer_that_is_away_is_tried_again_and_given_up_at_last(sending: Bench, peer: Peer) -> None:
    peer.answers["1.2.3.2"] = (None, PeerError("peer-unreachable"))
    sending.sweep()
    sending.time.forward(5)
    sending.exports.sweep()
    assert [(one["attempts"], one["given_up"]) for one in sending.events.facts("export.failed")] == [
        (1, False),
        (2, False),
    ]
    sending.time.forward(100)
    sending.exports.sweep()
    assert sending.events.facts("export.failed")[-1]["given_up"] is True
    assert sending.ledger.orders() == ()
    assert (
        sending.trail()[0] | {"event": "export-failed", "reason": "peer-unreachable", "sent": 1} == sending.trail()[0]
    )


def test_a_silent_destination_costs_one_timeout_a_round_and_comes_last(sending: Bench, peer: Peer) -> None:
    """Three studies wait for a peer that does not answer; what goes into a folder is not behind them."""
    asked: list[str] = []
    silent = Peer()

    def store(objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
        asked.append("silent")
        return tuple(StoreOutcome(result_id=one.result_id, status=None, error=PeerError("timeout")) for one in objects)

    def leaving(_: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        yield Deidentified(original=b"", data=file_of(1), sop_instance_uid="")

    silent.store = store  # type: ignore[method-assign]
    sending.exports._ways = {**sending.exports._ways, "silent": Way(to=silent, deidentify=leaving)}
    others = ["cd" * 16, "ef" * 16]
    for number, study_key in enumerate(others, start=1):
        sending.ledger.record_instances([replace(row(number), study_key=study_key)])
    for study_key in (STUDY, *others):
        sending.order(study_key=study_key, destination="silent")
    sending.exports.sweep()
    assert asked == ["silent"]
    sending.order()
    sending.time.forward(5)
    sending.exports.sweep()
    assert asked == ["silent"] * 2
    assert peer.took == ["1.2.3.1", "1.2.3.2"], "it answers, so it goes first"


def test_a_clock_that_jumps_gives_no_export_up(sending: Bench, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.answers["1.2.3.2"] = (None, PeerError("peer-unreachable"))
    sending.sweep()
    ahead = sending.time.now() + timedelta(days=8)
    monkeypatch.setattr(sending.exports, "_clock", lambda: ahead)
    sending.time.forward(5)
    sending.exports.sweep()
    assert [one["given_up"] for one in sending.events.facts("export.failed")] == [False, False]
    assert len(sending.ledger.orders()) == 1


def test_what_a_peer_refuses_is_counted_and_what_it_has_already_is_told_apart(sending: Bench, peer: Peer) -> None:
    peer.answers = {
        "1.2.3.1": (0xA900, PeerRefusal("peer-refused-object")),
        "1.2.3.2": (0x0111, PeerRefusal("peer-refused-object")),
        "1.2.3.3": (None, PeerRefusal("peer-context-refused")),
    }
    sending.content = [file_of(number) for number in (1, 2, 3)]
    sending.sweep()
    (done,) = sending.events.facts("export.done")
    assert (done["sent"], done["already_there"], done["refused"]) == (0, 1, 2)
    (entry,) = sending.trail()
    assert (entry["sent"], entry["already_there"], entry["refused"]) == (0, 1, 2)


def test_a_peer_that_lets_nobody_in_ends_it(sending: Bench, peer: Peer) -> None:
    peer.answers["1.2.3.1"] = (None, PeerRefusal("peer-rejected"))
    sending.sweep()
    assert [one["event"] for one in sending.trail()] == ["export-failed"]


def test_a_fault_of_the_node_ends_one_order_and_no_other(sending: Bench) -> None:
    sending.content = [file_of(1), ZeroDivisionError()]
    sending.sweep()
    assert sending.faults == [("export", ZeroDivisionError)]
    assert sending.ledger.orders() == ()
    assert [one["reason"] for one in sending.trail()] == ["internal"]


def test_a_trail_that_was_changed_keeps_the_order_and_its_waits(sending: Bench, peer: Peer) -> None:
    (sending.folder / "audit.jsonl").write_text("{}\n")
    sending.sweep()
    sending.exports.sweep()
    assert (len(peer.took), len(sending.ledger.orders())) == (2, 1), "not again before its time"
    assert sending.events.facts("export.done") == []
    assert [one["reason"] for one in sending.events.facts("export.failed")] == ["sealed-damaged"]


def test_a_study_on_its_way_in_is_waited_for(sending: Bench, peer: Peer) -> None:
    sending.here = False
    sending.sweep()
    assert (peer.took, len(sending.ledger.orders())) == ([], 1)


def test_a_node_that_stops_keeps_the_order(sending: Bench, peer: Peer) -> None:
    sending.ended = True
    sending.sweep()
    assert (peer.took, len(sending.ledger.orders()), sending.trail()) == ([], 1, [])


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"destination": "gone"}, "destination-not-found"), ({"study_key": "cd" * 16}, "no-suitable-series")],
)
def test_what_cannot_be_carried_out_is_ended_and_told(sending: Bench, changes: dict[str, str], code: str) -> None:
    sending.order(**changes)
    sending.exports.sweep()
    assert sending.ledger.orders() == ()
    assert sending.trail()[0]["reason"] == code


def test_other_orders_are_left_alone(sending: Bench) -> None:
    sending.order(verb="retry")
    sending.exports.sweep()
    assert len(sending.ledger.orders()) == 1


def test_many_objects_go_in_bounded_lots(sending: Bench, peer: Peer) -> None:
    sending.content = [file_of(number) for number in range(1, 131)]
    sending.sweep()
    assert len(peer.took) == len(set(peer.took)) == 130


def received(spool: Spool, datasets: list[Dataset]) -> list[InstanceRow]:
    """Objects as they lie in a spool, sealed."""
    rows = []
    for number, ds in enumerate(datasets):
        encoded = encode_dataset(ds, EXPLICIT)
        address = spool.append(STUDY, metadata(ds, encoded), encoded)
        series = str(ds.SeriesInstanceUID).replace(".", "0")
        rows.append(replace(row(number), address=address, series_key=series))
    return rows


def tree_of(tmp_path: Path, **export: Any) -> Config:
    given = {"name": "trial", "project": "p1", "into": str(tmp_path / "out"), **export}
    return parse({"node": {"state": str(tmp_path / "state")}, "exports": [given]})


@pytest.mark.parametrize(("results", "leaving"), [(False, 2), (True, 3)])
def test_results_of_ours_stay_unless_they_are_asked_for(
    results: bool, leaving: int, spool: Spool, tmp_path: Path
) -> None:
    own = image(9, SeriesInstanceUID="1.2.9.2", Manufacturer=MANUFACTURER, ManufacturerModelName=MODEL_NAME)
    rows = received(spool, [image(1), own, image(2)])
    tree = tree_of(tmp_path, results=results)
    done = list(way_of(tree, ring(), spool, tree.exports[0]).deidentify(rows))
    left = [one for one in done if isinstance(one, Deidentified)]
    assert len(left) == leaving
    assert [one.code for one in done if isinstance(one, StudyError)] == ["own-output"] * (3 - leaving)
    assert not any(word in one.data for one in left for word in (b"Nobody", b"MRN-5512", b"1.2.9"))


@pytest.mark.parametrize(("faces", "leaving"), [("deface", True), ("withhold", False)])
def test_faces_stay_in_as_of_a_folder(faces: str, leaving: bool, spool: Spool, tmp_path: Path) -> None:
    head = Scan().series()
    rows = received(spool, [*head, image(1)])
    export = {"name": "trial", "project": "p1", "into": str(tmp_path / "out")}
    state = {"state": str(tmp_path / "state")}
    tree = parse({"node": state, "exports": [export], "deidentification": {"export": {"faces": faces}}})
    done = list(way_of(tree, ring(), spool, tree.exports[0]).deidentify(rows))
    left = [one for one in done if isinstance(one, Deidentified)]
    held = {one.code for one in done if isinstance(one, StudyError)}
    if leaving:
        assert (len(left), held) == (len(head), {"withheld-face-geometry"}), "a picture alone shows no whole head"
        assert all(one.defaced for one in left)
    else:
        assert (left, held) == ([], {"withheld-face", "withheld-face-unsaid"})


def test_projects_have_pseudonyms_of_their_own(spool: Spool, tmp_path: Path) -> None:
    rows = received(spool, [image(1)])
    ids = []
    for project in ("p1", "p2", "p1"):
        tree = tree_of(tmp_path, project=project)
        (one,) = way_of(tree, ring(), spool, tree.exports[0]).deidentify(rows)
        assert isinstance(one, Deidentified)
        path = tmp_path / "one.dcm"
        path.write_bytes(one.data)
        ds = dcmread(path)
        ids.append((ds.PatientID, ds.SOPInstanceUID))
    assert ids[0] == ids[2]
    assert ids[0][0] != ids[1][0]


def test_kinds_of_places(spool: Spool, tmp_path: Path) -> None:
    peer = {"name": "a", "project": "p", "ae_title": "SCP", "host": "127.0.0.1", "port": 104}
    web = {"name": "b", "project": "p", "url": "http://127.0.0.1:8042/dicom-web"}
    into = {"name": "c", "project": "p", "into": str(tmp_path)}
    tree = parse({"node": {"state": str(tmp_path)}, "exports": [peer, web, into]})
    kinds = [type(way_of(tree, ring(), spool, one).to).__name__ for one in tree.exports]
    assert kinds[:2] == ["Requestor", "WebRequestor"]
    assert way_of(tree, ring(), spool, tree.exports[2]).to == tmp_path


@pytest.mark.parametrize(
    "sections",
    [
        {"exports": [{"name": "a", "into": "/x"}]},
        {"exports": [{"name": "a", "project": "p"}]},
        {"exports": [{"name": "a", "project": "p", "into": "/x"}] * 2},
        {"exports": [{"name": "a", "project": "p", "into": "/x/y"}], "folders": [{"name": "in", "path": "/x"}]},
    ],
)
def test_exports_that_make_no_sense_are_refused(sections: dict[str, Any]) -> None:
    with pytest.raises(ConfigErrors):
        parse(sections)


@pytest.mark.parametrize("again", [False, True])
def test_what_is_cancelled_while_it_leaves_stops_and_is_told(sending: Bench, peer: Peer, again: bool) -> None:
    bench = sending

    def leaving(rows: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        for number in range(1, 201):
            if number == 70:
                (order,) = bench.ledger.orders()
                bench.ledger.end_order(order)
                if again:  # another order than the one that was cancelled
                    bench.time.forward(1)
                    bench.order()
            yield Deidentified(original=b"", data=file_of(number), sop_instance_uid="")

    bench.exports._ways = {"trial": Way(to=peer, deidentify=leaving)}  # type: ignore[dict-item]
    bench.sweep()
    assert len(peer.took) == 64
    assert not bench.events.facts("export.done")
    assert bench.events.facts("export.stopped") == [{"study": STUDY, "destination": "trial", "sent": 64}]
    (told,) = bench.trail()
    assert (told["event"], told["sent"], told["reason"]) == ("export-stopped", 64, "cancelled")
    assert len(bench.ledger.orders()) == again
