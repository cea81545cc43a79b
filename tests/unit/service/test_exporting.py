"""Orders to export: what leaves, what is withheld and told, and what a kill, a peer or a full disk changes of it."""

from __future__ import annotations

import json
import threading
import time as time_of_day
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy.event import listen

from dicomnode.config import Config, ConfigErrors, parse
from dicomnode.encoded import Limits, encode_dataset, encode_part10
from dicomnode.errors import PeerError, PeerRefusal, StorageError, StudyError
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.pulses import Pulse
from dicomnode.results.context import MANUFACTURER, MODEL_NAME
from dicomnode.service.deidentifying_series import Deidentified
from dicomnode.service.exporting import Exports, Outlet, Way
from dicomnode.service.exports import beating, threads_of, way_of
from dicomnode.storage import audit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import OrderRow
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, InstanceState
from dicomnode.workflow.paces import Paces
from dicomnode.workflow.records import Records
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
        self.here, self.ended, self.to = True, False, Peer()
        self.faults: list[tuple[str, type[BaseException]]] = []
        self.way = Way(to=to, deidentify=self._deidentify)
        self.start()
        ledger.record_instances([row(0)])

    def start(self) -> None:
        """A node that begins: what it keeps in memory begins anew."""
        self.exports = Exports(
            self.ledger,
            ways={"trial": self.way},
            state=self.folder,
            limits=Limits(),
            settings=parse({"delivery": {"first_retry_seconds": 5, "give_up_seconds": 60}}).delivery,
            ready=lambda _: self.here,
            ended=lambda: self.ended,
            report=lambda stage, fault: self.faults.append((stage, type(fault))),
            clocks=self.time,
            monotonic=self.time.monotonic,
            emit=self.events,
        )

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
        self.exports.sweep("trial")

    def add(self, name: str, to: Outlet, *numbers: int) -> None:
        """Another export, of which so many objects leave of any study."""

        def leaving(_: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
            for number in numbers:
                yield Deidentified(original=b"", data=file_of(number), sop_instance_uid="")

        self.exports._ways = {**self.exports._ways, name: Way(to=to, deidentify=leaving)}

    def studies(self, *study_keys: str) -> None:
        for number, study_key in enumerate(study_keys, start=100):
            self.ledger.record_instances([replace(row(number), study_key=study_key)])

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
    writing.exports.sweep("trial")
    assert len(writing.trail()) == 1, "not before its time"
    writing.time.forward(5)
    writing.exports.sweep("trial")
    assert list(writing.files()) == ["1.2.9/1.2.3.1.dcm", "1.2.9/1.2.3.2.dcm"]
    assert writing.ledger.orders() == ()


def test_a_peer_that_is_away_is_tried_again_and_given_up_at_last(sending: Bench, peer: Peer) -> None:
    peer.answers["1.2.3.2"] = (None, PeerError("peer-unreachable"))
    sending.sweep()
    sending.time.forward(5)
    sending.exports.sweep("trial")
    assert [(one["attempts"], one["given_up"]) for one in sending.events.facts("export.failed")] == [
        (1, False),
        (2, False),
    ]
    sending.time.forward(56)
    sending.exports.sweep("trial")
    assert sending.events.facts("export.failed")[-1]["given_up"] is True, "a minute since the first that failed"
    assert sending.ledger.orders() == ()
    assert (
        sending.trail()[0] | {"event": "export-failed", "reason": "peer-unreachable", "sent": 1} == sending.trail()[0]
    )


class Silent(Peer):
    """Does not answer, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
        self.asked.extend(one.sop_instance_uid for one in objects)
        return tuple(StoreOutcome(result_id=one.result_id, status=None, error=PeerError("timeout")) for one in objects)


OTHERS = ["cd" * 16, "ef" * 16]


def test_a_silent_destination_costs_one_timeout_a_round_and_is_asked_for_each_study_in_turn(sending: Bench) -> None:
    """Else the first of a day's studies would be tried again and again, and those behind them never."""
    asked: list[str] = []
    silent = Silent()

    def leaving(rows: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        asked.append(rows[0].study_key)
        yield Deidentified(original=b"", data=file_of(1), sop_instance_uid="")

    sending.exports._ways = {"silent": Way(to=silent, deidentify=leaving)}
    sending.studies(*OTHERS)
    for study_key in (STUDY, *OTHERS):
        sending.order(study_key=study_key, destination="silent")
        sending.time.forward(1)
    for rounds in range(1, 4):
        sending.exports.sweep("silent")
        assert len(asked) == rounds
        sending.time.forward(30)
    assert asked == [STUDY, *OTHERS]
    silent.store = Peer().store  # type: ignore[method-assign]
    sending.exports.sweep("silent")
    assert sending.ledger.orders() == (), "it answers: all that waits goes in one round"


def test_what_waits_for_a_peer_that_is_away_waits_together(sending: Bench, night: list[str]) -> None:
    """Each try de-identifies a batch first: five studies are tried no oftener than one, and a new order is a question of its own."""
    sending.to.answers["1.2.3.1"] = (None, PeerError("timeout"))
    for _ in range(400):
        sending.exports.sweep("nightly")
        sending.time.forward(3)
    assert len(night) <= 9, "5, 10, 20 ... 320 seconds, then the longest wait"
    assert len(set(night)) == 5, "each in its turn"
    before = len(night)
    sending.order(study_key=night[0], destination="nightly")
    sending.exports.sweep("nightly")
    assert night[before:] == [night[0]]
    sending.to.answers.clear()
    sending.time.forward(LONGEST)
    sending.exports.sweep("nightly")
    assert sending.ledger.orders() == (), "it answers: all that waits goes in one round"
    sending.order(study_key=night[0], destination="nightly")
    sending.to.answers["1.2.3.1"] = (None, PeerError("timeout"))
    sending.exports.sweep("nightly")
    sending.time.forward(5)
    sending.exports.sweep("nightly")
    assert len(night) == before + 1 + 5 + 2, "the waits begin anew"


def test_who_lets_nobody_in_and_then_is_silent_is_not_asked_the_sooner(sending: Bench, night: list[str]) -> None:
    sending.to.answers["1.2.3.1"] = (None, SHUT[0])
    sending.exports.sweep("nightly")
    sending.to.answers["1.2.3.1"] = (None, PeerError("timeout"))
    sending.time.forward(1)
    sending.order(study_key=night[0], destination="nightly")
    sending.exports.sweep("nightly")
    assert len(night) == 2
    sending.time.forward(LONGEST - 2)
    sending.exports.sweep("nightly")
    assert len(night) == 2
    sending.time.forward(1)
    sending.exports.sweep("nightly")
    assert len(night) == 3


def test_an_export_has_hours_for_which_stat_does_not_wait(sending: Bench, night: list[str]) -> None:
    is_night = False
    way = sending.exports._ways["nightly"]
    hours = replace(way, wait=lambda priority: 0.0 if is_night or priority == 0 else 60.0)
    sending.exports._ways = {"nightly": hours}
    sending.exports.sweep("nightly")
    assert night == []
    urgent = sending.ledger.orders()[3].study_key
    sending.ledger.set_priority(urgent, "stat")
    sending.exports.sweep("nightly")
    assert night == [urgent]
    is_night = True
    sending.exports.sweep("nightly")
    assert sending.ledger.orders() == ()
    assert "export.failed" not in sending.events.names, "waiting is no try"


def test_an_export_has_a_rate_of_what_was_sent(sending: Bench, night: list[str]) -> None:
    place = parse({"exports": [{"name": "nightly", "project": "p", "into": "/x", "objects_per_minute": 6}]}).exports[0]
    paces = Paces({"nightly": place}, clock=sending.time.now, monotonic=sending.time.monotonic)
    paced = {"wait": partial(paces.wait, "nightly"), "sent": partial(paces.sent, "nightly")}
    sending.exports._ways = {"nightly": replace(sending.exports._ways["nightly"], **paced)}  # type: ignore[arg-type]
    for count in range(1, 4):
        sending.exports.sweep("nightly")
        assert (len(night), paces.wait("nightly", 0)) == (count, 10), "STAT waits for it, too"
        sending.time.forward(10)


def test_what_got_no_answer_counts_for_no_rate(sending: Bench, writing: Bench) -> None:
    sent: list[str] = []
    for bench in (sending, writing):
        way = bench.exports._ways["trial"]
        told = replace(way, sent=lambda objects: sent.extend(one.sop_instance_uid for one in objects))
        bench.exports._ways = {"trial": told}
    sending.to = sending.exports._ways["trial"].to  # type: ignore[assignment]
    sending.to.answers["1.2.3.1"] = (None, PeerError("timeout"))
    sending.sweep()
    assert sent == ["1.2.3.2"]
    writing.sweep()
    assert sent[1:] == ["1.2.3.1", "1.2.3.2"]


def test_a_slow_destination_keeps_no_other_waiting(sending: Bench, peer: Peer) -> None:
    """It takes what it is sent, a second below every time-out, for hours."""
    entered, released = threading.Event(), threading.Event()

    class Slow(Peer):
        def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
            entered.set()
            released.wait(60)
            return super().store(objects)

    slow = Slow()
    sending.add("slow", slow, 1, 2)
    sending.order(destination="slow")
    threads = threads_of(sending.exports, ["slow", "trial"], emit=sending.events)
    sending.order()
    threads.begin()
    assert entered.wait(60)
    until = time_of_day.monotonic() + 60
    while len(sending.ledger.orders()) > 1 and time_of_day.monotonic() < until:
        released.wait(0.01)
    assert (peer.took, slow.took) == (["1.2.3.1", "1.2.3.2"], [])
    released.set()
    threads.end(60)
    assert slow.took == ["1.2.3.1", "1.2.3.2"]


def test_the_thread_of_an_export_is_at_work_while_its_peer_is_and_each_object_is_a_step(sending: Bench) -> None:
    entered, released, pulse = threading.Event(), threading.Event(), Pulse("exports", 60.0, destination="trial")

    class Slow(Peer):
        def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
            entered.set()
            released.wait(60)
            return super().store(objects)

    sending.exports._ways = {"trial": beating(Way(to=Slow(), deidentify=sending._deidentify), pulse)}
    sending.order()
    threads = threads_of(sending.exports, ["trial"], emit=sending.events, pulses={"trial": pulse})
    assert [one.name for one in threads.pulses] == ["exports", "exports"]
    threads.begin()
    assert entered.wait(60)
    assert (pulse.is_at_work, pulse.steps) == (True, 4), "it began, and three objects were looked at"
    released.set()
    until = time_of_day.monotonic() + 60
    while pulse.is_at_work and time_of_day.monotonic() < until:
        time_of_day.sleep(0.01)
    threads.end(60)
    assert not pulse.is_at_work


def test_the_most_urgent_study_goes_first_also_where_it_comes_while_another_leaves(sending: Bench) -> None:
    asked: list[str] = []
    sending.studies(*OTHERS)
    urgent, late = OTHERS[0], OTHERS[1]
    sending.ledger.rank_study(urgent, "ct", "stat")
    sending.ledger.rank_study(late, "ct", "stat")

    def leaving(rows: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        asked.append(rows[0].study_key)
        if len(asked) == 1:
            sending.order(study_key=late)
        yield Deidentified(original=b"", data=file_of(1), sop_instance_uid="")

    sending.exports._ways = {"trial": Way(to=Peer(), deidentify=leaving)}
    sending.order()
    sending.time.forward(1)
    sending.order(study_key=urgent)
    sending.exports.sweep("trial")
    assert asked == [urgent, late, STUDY]


@pytest.mark.parametrize("error", [PeerError("peer-unreachable"), PeerRefusal("peer-rejected")], ids=repr)
def test_the_age_at_which_an_order_is_given_up_outlives_the_node(sending: Bench, peer: Peer, error: PeerError) -> None:
    peer.answers["1.2.3.2"] = (None, error)
    sending.sweep()
    for seconds in (29, 29, 2):
        sending.time.forward(seconds)
        sending.start()
        sending.exports.sweep("trial")
    assert [one["given_up"] for one in sending.events.facts("export.failed")] == [False, False, False, True]
    assert sending.ledger.orders() == ()


def test_that_age_begins_anew_with_a_new_order_and_where_the_peer_took_something(sending: Bench, peer: Peer) -> None:
    peer.answers["1.2.3.2"] = (None, PeerError("peer-unreachable"))
    sending.sweep()
    (first,) = sending.ledger.orders()
    assert first.failed_at == sending.time.now()
    sending.time.forward(10)
    sending.exports.sweep("trial")
    assert sending.ledger.orders()[0].failed_at == first.failed_at, "the first that failed"
    sending.order()
    sending.ledger.mark_order(first, sending.time.now())
    assert sending.ledger.orders()[0].failed_at is None, "that is another order"
    sending.exports.sweep("trial")
    assert sending.ledger.orders()[0].failed_at == sending.time.now()
    peer.answers.clear()
    sending.exports._changes = lambda *_: (1, 0)  # type: ignore[method-assign]
    sending.time.forward(100)
    sending.exports.sweep("trial")
    assert [one.failed_at for one in sending.ledger.orders()] == [None], "more came: it is carried out once more"


def test_a_first_failure_by_a_clock_that_was_ahead_counts_from_the_next(sending: Bench, peer: Peer) -> None:
    peer.answers["1.2.3.2"] = (None, PeerError("peer-unreachable"))
    sending.order()
    (order,) = sending.ledger.orders()
    sending.ledger.mark_order(order, sending.time.now() + timedelta(days=3000))
    sending.exports.sweep("trial")
    sending.time.forward(61)
    sending.exports.sweep("trial")
    assert [one["given_up"] for one in sending.events.facts("export.failed")] == [False, True]


def test_a_clock_that_jumps_gives_no_export_up(sending: Bench, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    peer.answers["1.2.3.2"] = (None, PeerError("peer-unreachable"))
    sending.sweep()
    ahead = sending.time.now() + timedelta(days=8)
    monkeypatch.setattr(sending.exports, "_clock", lambda: ahead)
    sending.time.forward(5)
    sending.exports.sweep("trial")
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


SHUT = [PeerRefusal("peer-rejected"), PeerError("tls-failed")]
LONGEST = 600


class Shelf:
    """A place by names that refuses as it is told."""

    def __init__(self) -> None:
        self.took: list[str] = []
        self.refuses: dict[str, PeerError] = {}

    def write(self, _: str, sop_instance_uid: str, data: bytes, *, same: Callable[[bytes, bytes], bool]) -> bool:
        if sop_instance_uid in self.refuses:
            raise self.refuses[sop_instance_uid]
        self.took.append(sop_instance_uid)
        return True


def test_an_object_that_a_bucket_refuses_costs_itself_alone(sending: Bench, peer: Peer) -> None:
    shelf = Shelf()
    sending.exports._ways = {"trial": Way(to=shelf, deidentify=sending._deidentify)}
    shelf.refuses["1.2.3.1"] = PeerRefusal("peer-refused-object", status=413)
    sending.sweep()
    assert shelf.took == ["1.2.3.2"]
    assert sending.ledger.orders() == ()
    (done,) = sending.events.facts("export.done")
    assert (done["sent"], done["refused"]) == (1, 1)
    assert [one["reason"] for one in sending.events.facts("export.refused")] == ["peer-refused-object"]
    shelf.refuses["1.2.3.2"] = PeerRefusal("peer-rejected", status=403)
    sending.sweep()
    assert [one.destination for one in sending.ledger.orders()] == ["trial"], "people are to let us in"


@pytest.fixture
def night(sending: Bench) -> list[str]:
    """Five studies that rules ordered to an export, and which of them were tried."""
    tried: list[str] = []
    to = Peer()

    def leaving(rows: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        tried.append(rows[0].study_key)
        yield Deidentified(original=b"", data=file_of(1), sop_instance_uid="")

    sending.exports._ways = {"nightly": Way(to=to, deidentify=leaving)}
    sending.exports._settings = parse({"delivery": {"longest_retry_seconds": LONGEST}}).delivery
    sending.to = to
    studies = [f"{number:032x}" for number in range(1, 6)]
    sending.studies(*studies)
    for study_key in studies:
        sending.order(study_key=study_key, destination="nightly")
    return tried


@pytest.mark.parametrize("error", SHUT, ids=lambda error: error.code)
def test_what_is_ordered_waits_for_people_to_let_us_in(sending: Bench, night: list[str], error: PeerError) -> None:
    """An AE title that nobody entered yet, a token or a certificate that ran out: a night of exports goes in the morning."""
    sending.to.answers["1.2.3.1"] = (None, error)
    for _ in range(3):
        sending.exports.sweep("nightly")
        sending.time.forward(LONGEST / 3)
    assert len(night) == 1, "one knock in the longest wait, for all of them: an account that fails too often is locked"
    sending.exports.sweep("nightly")
    assert len(night) == 2
    assert night[0] != night[1]
    assert len(sending.ledger.orders()) == 5
    told = [(one["reason"], one["attempts"], one["given_up"]) for one in sending.events.facts("export.failed")]
    assert told == [(error.code, 1, False)] * 2
    sending.to.answers.clear()
    sending.time.forward(LONGEST)
    sending.exports.sweep("nightly")
    assert sending.ledger.orders() == (), "all that waits goes in one round"
    assert len(sending.to.took) == 5


def test_what_is_ordered_anew_is_a_sign_that_somebody_mended_it(sending: Bench, night: list[str]) -> None:
    sending.to.answers["1.2.3.1"] = (None, SHUT[0])
    sending.exports.sweep("nightly")
    sending.to.answers.clear()
    sending.time.forward(1)
    sending.order(study_key=night[0], destination="nightly")
    sending.exports.sweep("nightly")
    assert sending.ledger.orders() == ()
    assert len(sending.to.took) == 5


def test_what_nobody_mended_in_time_is_given_up_at_once_and_told(sending: Bench, night: list[str]) -> None:
    sending.to.answers["1.2.3.1"] = (None, SHUT[0])
    for _ in range(5):
        sending.exports.sweep("nightly")
        sending.time.forward(LONGEST)
    sending.time.forward(7 * 86400)
    for _ in range(5):
        sending.exports.sweep("nightly")
    assert sending.ledger.orders() == ()
    assert [one["event"] for one in sending.trail()] == ["export-failed"] * 5
    assert [one["given_up"] for one in sending.events.facts("export.failed")] == [False] * 5 + [True] * 5


@pytest.mark.parametrize(("error", "tried"), [(PeerError("peer-unreachable"), 1), (StorageError("storage-full"), 5)])
def test_what_waited_for_its_turn_is_not_given_up_at_its_first_failure(
    sending: Bench, night: list[str], error: PeerError | StorageError, tried: int
) -> None:
    """A thousand studies at a slow rate wait for longer than anything is tried: a reboot of the peer ends none of them."""
    sending.to.store = partial(failing, error)  # type: ignore[method-assign]
    sending.time.forward(8 * 86400)
    for _ in range(2):
        sending.exports.sweep("nightly")
        sending.time.forward(3)
    assert len(night) == tried
    assert not any(one["given_up"] for one in sending.events.facts("export.failed"))
    assert len(sending.ledger.orders()) == 5


def failing(error: Exception, _: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
    raise error


def test_a_clock_that_is_set_back_keeps_what_waits_together(
    sending: Bench, night: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sending.time.now() - timedelta(days=1)
    monkeypatch.setattr(sending.exports, "_clock", lambda: before)
    sending.to.answers["1.2.3.1"] = (None, PeerError("timeout"))
    for _ in range(5):
        sending.exports.sweep("nightly")
    assert len(night) == 1
    sending.ledger.give_order(replace(sending.ledger.orders()[0], at=before))
    sending.exports.sweep("nightly")
    assert len(night) == 2, "one that is given since is tried at once"


@pytest.mark.parametrize(
    ("first", "opened"),
    [("withheld", False), ("cancelled", False), ("refused", True), ("already there", True)],
)
def test_a_try_says_that_a_peer_is_back_only_where_that_took_or_refused_something(
    sending: Bench, night: list[str], first: str, *, opened: bool
) -> None:
    status = {"refused": 0xA900, "already there": 0x0111}.get(first, 0)
    silent = {"1.2.3.1": (None, PeerError("timeout"))}
    sending.to.answers = silent | {"1.2.3.2": (status, PeerRefusal("peer-refused-object"))}
    sending.exports.sweep("nightly")
    ordinary = sending.exports._ways["nightly"].deidentify

    def leaving(rows: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        if rows[0].study_key != STUDY:
            yield from ordinary(rows)
        elif first == "withheld":
            yield StudyError("withheld-pixels")
        else:
            if first == "cancelled":
                sending.ledger.end_order(next(one for one in sending.ledger.orders() if one.study_key == STUDY))
            yield Deidentified(original=b"", data=file_of(2), sop_instance_uid="")

    sending.exports._ways = {"nightly": replace(sending.exports._ways["nightly"], deidentify=leaving)}
    sending.time.forward(1)
    sending.order(destination="nightly")
    for _ in range(2):
        sending.exports.sweep("nightly")
    assert STUDY not in [one.study_key for one in sending.ledger.orders()]
    assert len(night) == 1 + opened


def test_whether_an_export_is_open_costs_no_question_for_each_order(sending: Bench, night: list[str]) -> None:
    """A backlog of thousands is looked at every three seconds, and after each study."""
    asked: list[str] = []
    listen(sending.ledger.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    way = sending.exports._ways["nightly"]
    for wait, questions in ((lambda _: 60.0, 0), (lambda priority: 60.0 if priority else 0.0, 1)):
        sending.exports._ways = {"nightly": replace(way, wait=wait)}
        asked.clear()
        sending.exports.sweep("nightly")
        assert len([one for one in asked if one.startswith("SELECT")]) == questions
    assert night == []


def test_a_place_of_another_name_is_not_waited_with(sending: Bench, night: list[str], peer: Peer) -> None:
    sending.to.answers["1.2.3.1"] = (None, SHUT[0])
    sending.add("trial", peer, 1)
    sending.order()
    sending.exports.sweep("nightly")
    sending.exports.sweep("trial")
    assert peer.took == ["1.2.3.1"]


def test_a_fault_of_the_node_ends_one_order_and_no_other(sending: Bench) -> None:
    sending.content = [file_of(1), ZeroDivisionError()]
    sending.sweep()
    assert sending.faults == [("export", ZeroDivisionError)]
    assert sending.ledger.orders() == ()
    assert [one["reason"] for one in sending.trail()] == ["internal"]


def test_a_trail_that_was_changed_is_gone_on_with(sending: Bench, peer: Peer) -> None:
    (sending.folder / "audit.jsonl").write_text("{}\n")
    sending.sweep()
    assert (len(peer.took), sending.ledger.orders()) == (2, ())
    assert len(sending.events.facts("export.done")) == 1


def test_a_trail_that_cannot_be_written_keeps_the_order_and_its_waits(sending: Bench, peer: Peer) -> None:
    (sending.folder / "audit.jsonl").mkdir()
    sending.sweep()
    sending.exports.sweep("trial")
    assert (len(peer.took), len(sending.ledger.orders())) == (2, 1), "not again before its time"
    assert sending.events.facts("export.done") == []
    assert [one["reason"] for one in sending.events.facts("export.failed")] == ["storage-failed"]


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
    sending.exports.sweep("trial")
    sending.exports.sweep_others()
    assert sending.ledger.orders() == ()
    assert sending.trail()[0]["reason"] == code


def test_other_orders_are_left_alone(sending: Bench) -> None:
    sending.order(verb="retry", destination="trial")
    sending.order(verb="retry", destination="gone")
    sending.exports.sweep("trial")
    sending.exports.sweep_others()
    assert len(sending.ledger.orders()) == 2


def test_many_objects_go_in_bounded_lots(sending: Bench, peer: Peer) -> None:
    sending.content = [file_of(number) for number in range(1, 131)]
    sending.sweep()
    assert len(peer.took) == len(set(peer.took)) == 130


def received(spool: Spool, datasets: list[Dataset], behind: bytes = b"") -> list[InstanceRow]:
    """Objects as they lie in a spool, sealed."""
    rows = []
    for number, ds in enumerate(datasets):
        encoded = encode_dataset(ds, EXPLICIT) + behind
        address = spool.append(STUDY, metadata(ds, encoded), encoded)
        series = str(ds.SeriesInstanceUID).replace(".", "0")
        rows.append(replace(row(number), address=address, series_key=series))
    return rows


def records_of(spool: Spool, ledger: Ledger | None = None, events: Events | None = None) -> Records:
    emit: Any = events or Events()
    index: Any = ledger
    return Records(spool, index, Limits(), remember=lambda _: None, clock=Time().now, emit=emit)


def spoilt(tmp_path: Path, one: InstanceRow) -> None:
    """One byte of a record is another one."""
    (path,) = (tmp_path / "spool").rglob(f"{one.address.segment_id}.*")
    changed = bytearray(path.read_bytes())
    changed[one.address.offset + 300] ^= 1
    path.write_bytes(changed)


def test_a_damaged_record_leaves_as_the_same_bytes_that_came_twice(
    ledger: Ledger, spool: Spool, events: Events, tmp_path: Path
) -> None:
    rows = [
        replace(one, instance_key=f"{n % 2:032x}", digest=f"{n % 2:064x}")
        for n, one in enumerate(received(spool, [image(1), image(2), image(1)]))
    ]
    ledger.record_instances(rows)
    spoilt(tmp_path, rows[0])
    tree = tree_of(tmp_path)
    deidentify = way_of(tree, ring(), records_of(spool, ledger, events), tree.exports[0]).deidentify
    assert [type(one) for one in deidentify(ledger.instances(STUDY))] == [Deidentified] * 2
    assert [one.state for one in ledger.instances(STUDY, None)] == [
        InstanceState.QUARANTINED,
        InstanceState.CURRENT,
        InstanceState.CURRENT,
    ]


def test_what_is_left_of_a_study_does_not_leave_as_the_whole_of_it(sending: Bench, peer: Peer) -> None:
    """Until the image that was lost is sent again, or the order is given up."""
    sending.ledger.set_instance_state(STUDY, row(0).address, InstanceState.QUARANTINED)
    sending.ledger.quarantine(STUDY, "segment", "sealed-damaged", sending.time.now(), address=row(0).address)
    sending.sweep()
    assert (peer.took, len(sending.ledger.orders())) == ([], 1)
    assert [one["reason"] for one in sending.events.facts("export.failed")] == ["sealed-damaged"]
    sending.ledger.record_instances([replace(row(2), instance_key=row(0).instance_key, digest=row(0).digest)])
    sending.time.forward(30)
    sending.exports.sweep("trial")
    assert (len(peer.took), sending.ledger.orders()) == (2, ())


def tree_of(tmp_path: Path, **export: Any) -> Config:
    given = {"name": "trial", "project": "p1", "into": str(tmp_path / "out"), **export}
    return parse({"node": {"state": str(tmp_path / "state")}, "exports": [given]})


@pytest.mark.parametrize("behind", [b"", b"Nobody\r\n" * 3], ids=["", "bytes-behind"])
@pytest.mark.parametrize(("results", "leaving"), [(False, 2), (True, 3)])
def test_results_of_ours_stay_unless_they_are_asked_for(
    results: bool, leaving: int, behind: bytes, spool: Spool, tmp_path: Path
) -> None:
    own = image(9, SeriesInstanceUID="1.2.9.2", Manufacturer=MANUFACTURER, ManufacturerModelName=MODEL_NAME)
    rows = received(spool, [image(1), own, image(2)], behind)
    tree = tree_of(tmp_path, results=results)
    done = list(way_of(tree, ring(), records_of(spool), tree.exports[0]).deidentify(rows))
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
    done = list(way_of(tree, ring(), records_of(spool), tree.exports[0]).deidentify(rows))
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
        (one,) = way_of(tree, ring(), records_of(spool), tree.exports[0]).deidentify(rows)
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
    assert way_of(tree, ring(), records_of(spool), tree.exports[2]).to == tmp_path


def test_a_way_has_the_pace_of_its_export(spool: Spool, tmp_path: Path, time: Time) -> None:
    nights = {"name": "a", "project": "p", "into": str(tmp_path), "hours": ["20:00-06:00"], "bytes_per_second": 1000}
    export = parse({"node": {"state": str(tmp_path)}, "exports": [nights]}).exports[0]
    noon = datetime(2026, 3, 1, 12).astimezone()
    paces = Paces({"a": export}, clock=lambda: noon, monotonic=time.monotonic)
    way = way_of(parse({}), ring(), records_of(spool), export, paces=paces)
    assert (way.wait(1), way.wait(0)) == (8 * 3600, 0)
    sent = OutgoingObject(
        result_id="", sop_class_uid="", sop_instance_uid="", transfer_syntax_uid="", encoded=bytes(2000)
    )
    way.sent([sent])
    assert way.wait(0) == 2


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


def test_what_is_cancelled_while_it_leaves_stops_and_is_told(sending: Bench, peer: Peer) -> None:
    bench = sending

    def leaving(rows: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        for number in range(1, 201):
            if number == 70:
                (order,) = bench.ledger.orders()
                bench.ledger.end_order(order)
            yield Deidentified(original=b"", data=file_of(number), sop_instance_uid="")

    bench.exports._ways = {"trial": Way(to=peer, deidentify=leaving)}
    bench.sweep()
    assert len(peer.took) == 64
    assert not bench.events.facts("export.done")
    assert bench.events.facts("export.stopped") == [{"study": STUDY, "destination": "trial", "sent": 64}]
    (told,) = bench.trail()
    assert (told["event"], told["sent"], told["reason"]) == ("export-stopped", 64, "cancelled")
    assert bench.ledger.orders() == ()


class Growing:
    """A study that changes while it leaves: `meanwhile` is called once, when so many objects have left."""

    def __init__(self, bench: Bench, peer: Peer, meanwhile: Callable[[], object], after: int = 64) -> None:
        self.bench, self.meanwhile, self.after = bench, meanwhile, after
        self.began: list[int] = []
        bench.exports._ways = {"trial": Way(to=peer, deidentify=self._leaving)}

    def _leaving(self, rows: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        self.began.append(len(rows))
        for number in range(1, 101):
            if number == self.after + 1 and len(self.began) == 1:
                self.meanwhile()
            yield Deidentified(original=b"", data=file_of(number), sop_instance_uid="")
        for number in range(101, 100 + len(rows)):
            yield Deidentified(original=b"", data=file_of(number), sop_instance_uid="")

    def carry_out(self) -> None:
        for _ in range(4):
            self.bench.exports.sweep("trial")
            self.bench.time.forward(3)


@pytest.mark.parametrize("ordered", [True, False], ids=["by a rule", "not anew"])
def test_what_comes_while_a_study_leaves_leaves_too(sending: Bench, peer: Peer, *, ordered: bool) -> None:
    def late() -> None:
        sending.ledger.record_instances([row(1)])
        sending.time.forward(1)
        if ordered:
            sending.order()

    growing = Growing(sending, peer, late)
    sending.order()
    growing.carry_out()
    assert growing.began == [1, 2]
    assert "1.2.3.101" in peer.took
    assert sending.ledger.orders() == ()
    assert [one["sent"] for one in sending.events.facts("export.done")] == [100, 101]
    about = {"study": STUDY, "destination": "trial"}
    assert sending.events.facts("export.again") == [{"sent": 100, "came": 1, "gone": 0, **about}]
    assert [one["event"] for one in sending.trail()] == ["export", "export"]


def test_the_same_ordered_while_it_leaves_is_one_order(sending: Bench, peer: Peer) -> None:
    def again() -> None:
        sending.time.forward(1)
        sending.order()

    growing = Growing(sending, peer, again)
    sending.order()
    growing.carry_out()
    assert growing.began == [1]
    assert sending.ledger.orders() == ()
    assert len(sending.events.facts("export.done")) == 1


def test_what_is_no_longer_current_stops_what_leaves_and_the_others_go(sending: Bench, peer: Peer) -> None:
    """A corrected patient or a rejection note: what is left of the old images stays here."""
    sending.ledger.record_instances([row(1)])
    first, second = sending.ledger.instances(STUDY)
    growing = Growing(
        sending, peer, lambda: sending.ledger.set_instance_state(STUDY, second.address, InstanceState.REJECTED)
    )
    sending.order()
    growing.carry_out()
    assert growing.began == [2, 1]
    assert len(peer.took) == 64 + 100
    assert sending.ledger.instances(STUDY) == (first,)
    about = {"study": STUDY, "destination": "trial"}
    assert sending.events.facts("export.again") == [{"sent": 64, "came": 0, "gone": 1, **about}]
    assert [(one["event"], one["sent"]) for one in sending.trail()] == [("export-stopped", 64), ("export", 100)]
    assert sending.trail()[0]["reason"] == "instances-changed"
    assert sending.ledger.orders() == ()


def test_an_order_given_while_the_last_try_of_one_fails_has_tries_of_its_own(sending: Bench, peer: Peer) -> None:
    def again() -> None:
        sending.time.forward(100)
        sending.order()
        peer.answers["1.2.3.100"] = (None, PeerError("peer-unreachable"))

    peer.answers["1.2.3.1"] = (None, PeerError("peer-unreachable"))
    sending.sweep()
    sending.time.forward(100)
    peer.answers = {}
    growing = Growing(sending, peer, again)
    sending.exports.sweep("trial")
    assert [one["given_up"] for one in sending.events.facts("export.failed")] == [False, True]
    assert len(sending.ledger.orders()) == 1, "the later one"
    peer.answers = {}
    growing.carry_out()
    assert len(sending.events.facts("export.done")) == 1
    assert sending.ledger.orders() == ()


@pytest.mark.parametrize("point", ["audit", "close"])
def test_a_kill_at_the_end_of_one_to_which_more_came_loses_nothing(
    sending: Bench, peer: Peer, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    growing = Growing(sending, peer, lambda: sending.ledger.record_instances([row(1)]))
    sending.order()
    with monkeypatch.context() as patch:
        patch.setattr(sending.exports, f"_{point}", killed)
        with pytest.raises(KeyboardInterrupt):
            sending.exports.sweep("trial")
    assert len(sending.ledger.orders()) == 1
    growing.carry_out()
    assert "1.2.3.101" in peer.took
    assert sending.ledger.orders() == ()
