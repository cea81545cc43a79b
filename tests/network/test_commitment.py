"""Storage commitment between an asker and a PACS, both pynetdicom's, with the node in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, Association, evt
from pynetdicom.dimse_messages import N_ACTION_RSP
from pynetdicom.presentation import build_context

from dicomnode.config import DeliverySection, parse
from dicomnode.encoded import Limits
from dicomnode.errors import PeerError
from dicomnode.network.commitment import (
    STORAGE_COMMITMENT,
    WELL_KNOWN_INSTANCE,
    CommitmentReport,
    CommitmentRequest,
    Reference,
    Reported,
    commitment_services,
    read_report,
    read_request,
    report_services,
    write_report,
)
from dicomnode.network.committing import CommitmentRequestor
from dicomnode.network.dimse import Command
from dicomnode.network.intake import Peer
from dicomnode.network.negotiation import Agreed
from dicomnode.network.session import Call
from dicomnode.network.transport import Entity
from dicomnode.sections import Destination
from dicomnode.service.services import Askers
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.workflow.commitment import Asker, CommitmentDesk
from tests.network.certificates import make_tls
from tests.network.foreign import Connection, Server
from tests.network.nodes import Node, node
from tests.unit.workflow.samples import KEY, Events, Time, ring

CT = "1.2.840.10008.5.1.4.1.1.2"
ONE, TWO = Reference(CT, "1.2.3.1"), Reference(CT, "1.2.3.2")


class Pacs:
    """Commits to what it has: in the same association, or when it is told to in one of its own, or never."""

    def __init__(self, holds: Sequence[Reference], *, at_once: bool = True, status: int = 0) -> None:
        self.holds, self.at_once, self.status = set(holds), at_once, status
        self.asked: list[str] = []
        self.reports: list[CommitmentReport] = []

    def act(self, event: evt.Event) -> tuple[int, Dataset | None]:
        request = read_request(event.action_information)
        assert request is not None
        self.asked.append(request.transaction_uid)
        if self.status:
            return self.status, None
        report = CommitmentReport(
            transaction_uid=request.transaction_uid,
            committed=tuple(one for one in request.references if one in self.holds),
            failed={one: 0x0112 for one in request.references if one not in self.holds},
            retrieve_ae_title="",
        )
        self.reports.append(report)
        return 0, None

    def answered(self, event: evt.Event) -> None:
        """The request has its answer: what this PACS knows at once follows."""
        if self.at_once and self.reports and isinstance(event.message, N_ACTION_RSP):
            what = event.assoc, self.reports[-1]
            threading.Thread(target=self.report, args=what, daemon=True).start()

    def report(self, association: Association, report: CommitmentReport) -> None:
        data = write_report(report)
        association.send_n_event_report(data, report.event_type_id, STORAGE_COMMITMENT, WELL_KNOWN_INSTANCE)


@contextmanager
def listening(entity: AE, handlers: list[Any]) -> Iterator[int]:
    server = entity.make_server(
        ("127.0.0.1", 0), evt_handlers=handlers, server_class=Server, request_handler=Connection
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        for association in server.active_associations:
            association.abort()
            association.join(10)
        server.ae._servers.append(server)
        server.shutdown()
        thread.join(10)


class Hospital:
    """The node with its desk, and what its rooms keep."""

    def __init__(self, folder: Path, pacs_port: int, report_port: int | None = None) -> None:
        self.time, self.events = Time(), Events()
        self.ledger = Ledger.open(folder / "ledger.sqlite")
        keys = DataKeys(self.ledger, ring())
        self.objects = Objects(folder / "objects", keys)
        destination = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs_port, timeout_seconds=10)
        address = {"report_host": "127.0.0.1", "report_port": report_port} if report_port else {}
        tree = parse(
            {
                "peers": [{"name": "ct1", **address}],
                "services": {"commitment_wait_seconds": 2, "commitment_give_up_seconds": 100},
            }
        )
        self.rule, self.settings, self.askers = tree.peers[0], tree.services, Askers(tree)
        self.target: Node | None = None
        self.keys = keys
        self.pacs = CommitmentRequestor(destination, "DICOMNODE")
        self.desk = self.make()

    def make(self) -> CommitmentDesk:
        return CommitmentDesk(
            self.ledger,
            self.objects,
            self.keys,
            derivation_key=KEY,
            pacs=self.pacs,
            pacs_ae_title="PACS",
            tell_here=self._tell_here,
            tell_there=self.askers.tell,
            settings=self.settings,
            retries=DeliverySection(first_retry_seconds=5),
            clocks=self.time,
            emit=self.events,
        )

    def _tell_here(self, association_id: str, event: Any, seconds: float) -> int | None:
        assert self.target is not None
        return self.target.acceptor.report(association_id, event, seconds)

    @property
    def states(self) -> list[str]:
        return [row.state for row in self.ledger.commitments()]


@contextmanager
def hospital(folder: Path, pacs: Pacs, report_port: int | None = None) -> Iterator[tuple[Hospital, Node]]:
    entity = AE("PACS")
    entity.add_supported_context(STORAGE_COMMITMENT)
    with listening(entity, [(evt.EVT_N_ACTION, pacs.act), (evt.EVT_DIMSE_SENT, pacs.answered)]) as port:
        made = Hospital(folder, port, report_port)
        rule = made.rule.model_dump(exclude_none=True, exclude_defaults=True)
        with node(services=commitment_services(made.desk, Limits()), peers=[rule]) as target:
            made.target = target
            yield made, target
        made.ledger.close()


class Scanner:
    """Asks, and hears reports."""

    def __init__(self) -> None:
        self.heard: list[CommitmentReport] = []
        self.event = threading.Event()

    def hear(self, event: evt.Event) -> tuple[int, None]:
        report = read_report(event.event_information)
        assert report is not None
        self.heard.append(report)
        self.event.set()
        return 0, None

    @contextmanager
    def calls(self, target: Node) -> Iterator[Association]:
        entity = Entity("CT1")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
        context = build_context(STORAGE_COMMITMENT)
        handlers = [(evt.EVT_N_EVENT_REPORT, self.hear)]
        association = entity.associate(target.host, target.port, [context], evt_handlers=handlers)
        assert association.is_established
        yield association
        association.release()
        association.join(10)


def asks(association: Association, *references: Reference, uid: str = "1.2.77", **what: Any) -> int:
    data = Dataset()
    if uid:
        data.TransactionUID = uid
    data.ReferencedSOPSequence = []
    for reference in references:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = reference
        data.ReferencedSOPSequence.append(item)
    instance = what.get("instance", WELL_KNOWN_INSTANCE)
    status, _ = association.send_n_action(data, what.get("action", 1), STORAGE_COMMITMENT, instance)
    return int(status.Status)


def test_success_is_for_what_the_pacs_has_committed_and_names_it(tmp_path: Path) -> None:
    pacs, scanner = Pacs([ONE]), Scanner()
    with hospital(tmp_path, pacs) as (made, target), scanner.calls(target) as association:
        assert asks(association, ONE, TWO) == 0
        assert made.states == ["asked"]
        made.desk.look()
        assert made.states == ["answered"]
        made.desk.look()
        assert scanner.event.wait(10)
        assert made.states == []
    (report,) = scanner.heard
    assert report == CommitmentReport(
        transaction_uid="1.2.77", committed=(ONE,), failed={TWO: 0x0112}, retrieve_ae_title="PACS"
    )
    assert pacs.asked[0].startswith("2.25."), "the PACS is asked under a UID of ours"
    assert list((tmp_path / "objects").rglob("*.sealed")) == [], "shredded when the asker knows"


def test_the_report_goes_out_on_an_association_of_its_own(tmp_path: Path) -> None:
    scanner = Scanner()
    entity = AE("CT1")
    entity.add_supported_context(STORAGE_COMMITMENT, scu_role=True, scp_role=True)
    with (
        listening(entity, [(evt.EVT_N_EVENT_REPORT, scanner.hear)]) as port,
        hospital(tmp_path, Pacs([ONE]), port) as (made, target),
    ):
        with scanner.calls(target) as association:
            assert asks(association, ONE) == 0
        target.reception.wait_for_closed()
        made.desk.look()
        made.desk.look()
        assert (made.states, scanner.event.wait(10)) == ([], True)
    assert (scanner.heard[0].committed, scanner.heard[0].failed) == ((ONE,), {})


def test_the_pacs_reports_later_on_an_association_of_its_own(tmp_path: Path) -> None:
    pacs, scanner = Pacs([ONE], at_once=False), Scanner()
    with hospital(tmp_path, pacs) as (made, target), scanner.calls(target) as association:
        asks(association, ONE)
        made.desk.look()
        assert made.states == ["asked"]
        there = Destination(name="node", ae_title="DICOMNODE", host=target.host, port=target.port)
        CommitmentRequestor(there, "PACS").tell(pacs.reports[0])
        made.desk.look()
        assert scanner.event.wait(10)
        with pytest.raises(PeerError):
            CommitmentRequestor(there, "PACS").tell(pacs.reports[0])
    assert scanner.heard[0].committed == (ONE,)


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    pacs, scanner = Pacs([ONE], at_once=False), Scanner()
    with hospital(tmp_path, pacs) as (made, target), scanner.calls(target) as association:
        asks(association, ONE)
        made.desk.look()
        made.desk = made.make()
        assert made.desk.reported(pacs.reports[0])
        made.desk = made.make()
        made.desk.look()
        assert scanner.event.wait(10)
    assert scanner.heard[0].committed == (ONE,)


def test_a_pacs_that_does_not_answer_is_asked_again_and_then_nothing_is_committed(tmp_path: Path) -> None:
    pacs, scanner = Pacs([ONE], status=0x0213), Scanner()
    with hospital(tmp_path, pacs) as (made, target), scanner.calls(target) as association:
        asks(association, ONE)
        made.desk.look()
        assert 0 < made.desk.look() <= 5
        made.time.forward(5)
        made.desk.look()
        assert len(set(pacs.asked)) == 2
        made.time.forward(100)
        made.desk.look()
        made.desk.look()
        assert scanner.event.wait(10)
    assert (scanner.heard[0].committed, scanner.heard[0].failed) == ((), {ONE: 0x0110})


def test_a_clock_that_is_set_back_holds_up_no_request(tmp_path: Path) -> None:
    pacs, scanner = Pacs([ONE], status=0x0213), Scanner()
    with hospital(tmp_path, pacs) as (made, target), scanner.calls(target) as association:
        made.time.forward(30 * 86400)
        asks(association, ONE)
        made.desk.look()
        made.time.forward(-30 * 86400)
        pacs.status = 0
        asks(association, TWO, uid="1.2.78")
        for _ in range(2):
            made.desk.look()
        assert len(set(pacs.asked)) == 3
        made.time.forward(5)
        made.desk.look()
        assert scanner.event.wait(10)


def test_a_pacs_that_refuses_for_good_is_not_asked_again(tmp_path: Path) -> None:
    pacs, scanner = Pacs([ONE], status=0x0122), Scanner()
    with hospital(tmp_path, pacs) as (made, target), scanner.calls(target) as association:
        asks(association, ONE)
        made.desk.look()
        made.desk.look()
        assert scanner.event.wait(10)
    assert (len(pacs.asked), scanner.heard[0].failed) == (1, {ONE: 0x0110})


def test_an_asker_that_is_gone_is_told_again_and_then_given_up(tmp_path: Path) -> None:
    scanner = Scanner()
    with hospital(tmp_path, Pacs([ONE])) as (made, target):
        with scanner.calls(target) as association:
            asks(association, ONE)
        target.reception.wait_for_closed()
        made.desk.look()
        made.desk.look()
        assert made.states == ["answered"]
        assert made.events.facts("commitment.untold")[0]["reason"] == "peer-unreachable"
        made.time.forward(100)
        made.desk.look()
        assert made.states == []


def test_the_same_request_again_is_one_transaction(tmp_path: Path) -> None:
    scanner = Scanner()
    with hospital(tmp_path, Pacs([ONE])) as (made, target), scanner.calls(target) as association:
        assert [asks(association, ONE) for _ in range(2)] == [0, 0]
        assert made.states == ["asked"]


def test_who_asks_again_is_told_where_it_asked_last(tmp_path: Path) -> None:
    scanner = Scanner()
    with hospital(tmp_path, Pacs([ONE])) as (made, target):
        with scanner.calls(target) as association:
            asks(association, ONE)
        target.reception.wait_for_closed()
        made.desk.look()
        made.desk.look()
        assert made.states == ["answered"]
        with scanner.calls(target) as association:
            assert asks(association, ONE) == 0
            made.desk.look()
            assert (made.states, scanner.event.wait(10)) == ([], True)
    assert scanner.heard[0].committed == (ONE,)


def test_what_is_wrong_has_its_own_status(tmp_path: Path) -> None:
    scanner = Scanner()
    with hospital(tmp_path, Pacs([ONE])) as (made, target), scanner.calls(target) as association:
        assert asks(association, ONE, action=2) == 0x0123
        assert asks(association, ONE, instance="1.2.3") == 0x0112
        assert asks(association, ONE, uid="") == 0x0120
        assert asks(association) == 0x0120
        for nameless in (Reference(ONE.sop_class_uid, ""), Reference("", ONE.sop_instance_uid)):
            assert asks(association, TWO, nameless) == 0x0120, "else it would hear that all are committed"
        assert made.states == []


def test_nobody_can_report_what_was_not_asked(tmp_path: Path) -> None:
    with hospital(tmp_path, Pacs([ONE])) as (made, target):
        there = Destination(name="node", ae_title="DICOMNODE", host=target.host, port=target.port)
        lie = CommitmentReport(transaction_uid="1.2.77", committed=(ONE,), failed={}, retrieve_ae_title="EVIL")
        with pytest.raises(PeerError):
            CommitmentRequestor(there, "PACS").tell(lie)
        assert made.states == []


def test_no_uid_stands_in_the_open(tmp_path: Path) -> None:
    scanner = Scanner()
    with hospital(tmp_path, Pacs([ONE], at_once=False)) as (made, target), scanner.calls(target) as association:
        asks(association, Reference(CT, "1.2.3.4444"), uid="1.2.8888")
        made.desk.look()
        everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        assert b"1.2.3.4444" not in everything
        assert b"1.2.8888" not in everything
        assert "1.2.8888" not in repr(made.events.seen) + repr(target.events.events)


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs."""


def to_its_end(made: Hospital, request: CommitmentRequest, call: Call) -> None:
    made.desk.ask(request, call)
    while made.states:
        made.desk.look()
        made.time.forward(1000)


@pytest.mark.parametrize("step", ["put", "asked", "purge", "shred", "end"])
def test_a_kill_leaves_nothing_sealed_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    with hospital(tmp_path, Pacs([ONE])) as (made, _):
        asked = CommitmentRequest(transaction_uid="1.2.77", references=(ONE,))
        call = called_by("CT1")
        ledger = made.ledger
        move = ledger.move_commitment

        def killed(*_: Any, **__: Any) -> None:
            raise Killed

        def killed_before_asked(key: str, state: str, **what: Any) -> bool:
            if state == "asked":
                raise Killed
            return move(key, state, **what)

        places = {
            "put": (made.objects, "put", killed),
            "asked": (ledger, "move_commitment", killed_before_asked),
            "purge": (made.objects, "purge", killed),
            "shred": (made.keys, "shred", killed),
            "end": (ledger, "end_commitment", killed),
        }
        with monkeypatch.context() as patch:
            patch.setattr(*places[step])
            with pytest.raises(Killed):
                to_its_end(made, asked, call)
        assert made.states, "the row is what the next start finds"
        while made.states:
            made.make().look()
        assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
        assert ledger.count_wrapped_keys() == {}


class Waiting:
    """A PACS, or the way to askers, that says no word to some; each question costs its time-out."""

    def __init__(self, *silent: str) -> None:
        self.silent, self.waited = silent, 0
        self.told: list[str] = []

    def request(
        self, request: CommitmentRequest, seconds: float, others: Sequence[Reported] = ()
    ) -> CommitmentReport | None:
        self.waited += 1
        raise PeerError("timeout")

    def tell(self, asker: Asker, report: CommitmentReport) -> bool:
        if asker.ae_title in self.silent:
            self.waited += 1
            raise PeerError("timeout")
        self.told.append(asker.ae_title)
        return True


def called_by(ae_title: str) -> Call:
    peer = Peer(calling_ae_title=ae_title, called_ae_title="DICOMNODE", address="127.0.0.1", association_id="1")
    return Call(Command(), Agreed(abstract_syntax=STORAGE_COMMITMENT, transfer_syntax="1.2.840.10008.1.2.1"), b"", peer)


@pytest.mark.parametrize("silent", ["PACS", "CT1"])
def test_whoever_says_no_word_costs_one_timeout_before_others_are_told(tmp_path: Path, silent: str) -> None:
    with hospital(tmp_path, Pacs([ONE])) as (made, _):
        others = Waiting(silent)
        made.desk = made.make()
        made.desk._tell_here, made.desk._tell_there = lambda *_: None, others.tell
        uids = [f"1.2.77.{number}" for number in range(8)]
        for uid in uids:
            made.desk.ask(CommitmentRequest(transaction_uid=uid, references=(ONE,)), called_by("CT1"))
            made.time.forward(0.001)
        if silent == "PACS":
            made.desk._pacs = others
        else:  # the PACS has answered all of them
            made.desk._pacs = None
            made.desk.look()
        made.desk.ask(CommitmentRequest(transaction_uid="1.2.78", references=(ONE,)), called_by("CT2"))
        made.desk._answer(max(made.ledger.commitments(), key=lambda one: one.created_at), None)
        made.desk.look()
        assert others.told == ["CT2"]
        assert others.waited == 1
        for _ in uids:
            made.desk.look()
        assert others.waited == len(uids), "each has its turn"
        made.time.forward(1000)
        while made.states:
            made.desk.look()
        assert others.told.count("CT1") == (len(uids) if silent == "PACS" else 0), "what is too old ends all the same"


class Asked:
    """Somebody of the node who asked; hears what comes."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.heard: list[CommitmentReport] = []

    def reported(self, report: CommitmentReport) -> bool:
        if report.transaction_uid != self.uid:
            return False
        self.heard.append(report)
        return True


def test_a_report_finds_whoever_asked_and_no_request_is_taken_where_nobody_answers(tmp_path: Path) -> None:
    one, other = Asked("1.2.1"), Asked("1.2.2")
    scanner = Scanner()
    with node(services=report_services((one, other), Limits())) as target:
        there = CommitmentRequestor(
            Destination(name="node", ae_title="DICOMNODE", host=target.host, port=target.port), "PACS"
        )
        for uid in ("1.2.1", "1.2.2"):
            there.tell(CommitmentReport(transaction_uid=uid, committed=(ONE,), failed={}, retrieve_ae_title=""))
        with pytest.raises(PeerError):
            there.tell(CommitmentReport(transaction_uid="1.2.3", committed=(ONE,), failed={}, retrieve_ae_title=""))
        with scanner.calls(target) as association:
            assert asks(association, ONE) == 0x0211
    assert [len(who.heard) for who in (one, other)] == [1, 1]


def test_with_the_desk_open_a_report_is_for_others_as_well(tmp_path: Path) -> None:
    other, scanner = Asked("1.2.2"), Scanner()
    with (
        hospital(tmp_path, Pacs([ONE], at_once=False)) as (made, _),
        node(services=commitment_services(made.desk, Limits(), other)) as target,
    ):
        there = CommitmentRequestor(
            Destination(name="node", ae_title="DICOMNODE", host=target.host, port=target.port), "PACS"
        )
        there.tell(CommitmentReport(transaction_uid="1.2.2", committed=(ONE,), failed={}, retrieve_ae_title=""))
        with scanner.calls(target) as association:
            assert asks(association, ONE) == 0
    assert len(other.heard) == 1


def test_a_report_on_an_association_of_its_own_goes_with_tls_where_the_rule_says_so(tmp_path: Path) -> None:
    tls, heard = make_tls(tmp_path), Asked("1.2.1")
    asker = Asker(ae_title="CT1", peer="ct1", association_id="")
    report = CommitmentReport(transaction_uid="1.2.1", committed=(ONE,), failed={}, retrieve_ae_title="PACS")
    with node(services=report_services((heard,), Limits()), tls=tls) as target:
        rule = {"name": "ct1", "report_host": target.host, "report_port": target.tls_port}
        with pytest.raises(PeerError):
            Askers(parse({"peers": [rule]})).tell(asker, report)
        assert Askers(parse({"peers": [{**rule, "report_tls": tls.model_dump(mode="json")}]})).tell(asker, report)
    assert heard.heard == [report]
