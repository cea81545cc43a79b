"""The channel between the node and a receiver: order, questions, errors, and an end that lies or is gone."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.errors import LimitError, NodeError, PeerRefusal, StorageError
from dicomnode.network.dimse import Command
from dicomnode.network.intake import Peer
from dicomnode.network.negotiation import Agreed
from dicomnode.network.session import Call, Reply
from dicomnode.network_sections import PeerRule
from dicomnode.service.channel import Channel
from dicomnode.service.messages import (
    call_of_plain,
    plain_call,
    plain_reply,
    plain_row,
    reply_of_plain,
    row_of_plain,
)
from dicomnode.service.receiver import Receiver
from dicomnode.study import InstanceRow, RecordAddress
from tests.contracts.gates import wait_until


class Pair:
    """Two ends, each read in a thread of its own."""

    def __init__(self, tells: Mapping[str, Callable[..., None]], asks: Mapping[str, Callable[..., Any]]) -> None:
        self.held = threading.Event()
        self.sockets = socket.socketpair()
        self.near = Channel(self.sockets[0], {}, {})
        self.far = Channel(self.sockets[1], tells, asks, quick=("quick",))
        self.faults: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(one,)) for one in (self.near, self.far)]
        for thread in self.threads:
            thread.start()

    def _run(self, channel: Channel) -> None:
        try:
            channel.run()
        except Exception as error:  # noqa: BLE001 (looked at by the test)
            self.faults.append(error)
            channel.end()

    def close(self) -> None:
        self.near.end()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()
        self.near.close()
        self.far.close()


def refuse(kind: str) -> None:
    if kind == "family":
        raise LimitError("peer-limit", studies=3)
    if kind == "peer":
        raise PeerRefusal("peer-context-refused")
    raise RuntimeError("Planted^Name")


@pytest.fixture
def told() -> list[Any]:
    return []


@pytest.fixture
def pair(told: list[Any]) -> Iterator[Pair]:
    held = threading.Event()
    made = Pair(
        {"note": told.append, "fail": lambda: 1 / 0, "hold": lambda: held.wait(20)},  # type: ignore[dict-item, return-value]
        {"quick": lambda: list(told), "slow": lambda: list(told), "refuse": refuse, "never": threading.Event().wait},
    )
    made.held = held
    yield made
    made.close()


@pytest.mark.parametrize("name", ["quick", "slow"])
def test_an_answer_comes_after_all_that_was_told_before(pair: Pair, told: list[Any], name: str) -> None:
    for number in range(500):
        pair.near.tell("note", number, hold=bool(number % 3))
    assert pair.near.ask(name) == list(range(500))


def test_an_end_that_is_busy_with_what_it_was_told_does_not_read(pair: Pair) -> None:
    wait_until(lambda: pair.far.reading)
    pair.near.tell("hold")
    wait_until(lambda: pair.far.reads == 1)
    assert not pair.far.reading
    pair.held.set()
    wait_until(lambda: pair.far.reading)
    assert pair.near.ask("quick") == []


def test_many_threads_ask_and_each_gets_its_own(pair: Pair) -> None:
    faults: list[str] = []

    def work(number: int) -> None:
        for _ in range(50):
            pair.near.tell("note", number, hold=True)
            if pair.near.ask("quick").count(number) < 1:
                faults.append("lost")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert faults == []


def test_an_error_of_the_family_comes_back_as_itself_and_any_other_without_its_text(pair: Pair) -> None:
    with pytest.raises(LimitError, match=r"peer-limit.*studies 3"):
        pair.near.ask("refuse", "family")
    with pytest.raises(PeerRefusal, match="peer-context-refused"):
        pair.near.ask("refuse", "peer")
    with pytest.raises(NodeError, match=r"^internal: ") as caught:
        pair.near.ask("refuse", "other")
    assert "Planted" not in str(caught.value)
    with pytest.raises(NodeError, match=r"^internal: "):
        pair.near.ask("unheard-of")


def test_who_does_not_answer_is_not_waited_for_for_ever(pair: Pair) -> None:
    with pytest.raises(StorageError, match="receiver-failed"):
        pair.near.ask("never", seconds=0.1)


def test_a_fault_in_what_was_told_ends_the_channel_for_both(pair: Pair) -> None:
    pair.near.tell("fail")
    with pytest.raises(StorageError, match="receiver-failed"):
        pair.near.ask("quick")
    assert [type(one) for one in pair.faults] == [ZeroDivisionError]


def test_an_end_that_is_gone_is_noticed_by_who_waits_and_who_comes(pair: Pair) -> None:
    waiting: list[str] = []

    def wait() -> None:
        try:
            pair.near.ask("never")
        except StorageError as error:
            waiting.append(error.code)

    thread = threading.Thread(target=wait)
    thread.start()
    pair.near.ask("quick")
    pair.far.end()
    thread.join(20)
    assert waiting == ["receiver-failed"]
    pair.threads[0].join(20)
    for act in (pair.near.tell, pair.near.ask):
        with pytest.raises(StorageError, match="receiver-failed"):
            act("note")


@pytest.mark.parametrize(
    "lie", [struct.pack(">L", 1 << 31), struct.pack(">L", 3) + b"[0,", struct.pack(">L", 2) + b"{}"]
)
def test_what_is_no_message_ends_the_channel(lie: bytes) -> None:
    near, far = socket.socketpair()
    with near, far:
        near.sendall(lie)
        with pytest.raises((StorageError, ValueError, TypeError)):
            Channel(far, {}, {}).run()


def started(act: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """A thread that does something, and what came of it."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(act())
        except StorageError as error:
            came.append(error.code)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


def test_two_ends_that_both_have_much_to_say_do_not_wait_for_each_other() -> None:
    """A node that answers before it reads on, and a receiver that would answer before it reads on: both ways are full."""
    much, held, ends = "x" * 1_000_000, threading.Event(), socket.socketpair()
    receiver = Receiver(ends[1])
    tells: dict[str, Callable[..., Any]] = {"emit": lambda *_: held.wait(20), "alive": lambda: None}
    node = Channel(ends[0], tells, {"allow": lambda *_: 7}, quick=("allow",))
    there = receiver._channel
    reading = [started(receiver.run)[0], started(node.run)[0]]
    there.tell("emit", "busy")  # from now on the node does not read
    asking, answer = started(lambda: there.ask("allow", "ct1", "s", seconds=10))
    wait_until(lambda: bool(there._waiting))
    threads = [asking, started(lambda: there.tell("emit", much))[0]]
    wait_until(there._sending.locked)
    barring, barred = started(lambda: node.ask("bar", "s", seconds=10))
    wait_until(lambda: "s" in receiver._barred)
    telling, told = started(lambda: node.tell("unbar", much))
    wait_until(lambda: node._sending.locked() or bool(told))
    held.set()
    try:
        for thread in (*threads, barring, telling):
            thread.join(20)
        assert (answer, barred, told) == ([7], [True], [None])
    finally:
        node.end()
        there.end()
        for thread in reading:
            thread.join(20)
        for end in ends:
            end.close()


def test_what_the_reading_thread_says_comes_before_what_is_said_after_it(told: list[Any]) -> None:
    ends, said = socket.socketpair(), threading.Event()
    far = Channel(ends[1], {"note": told.append}, {"all": lambda: list(told)}, quick=("all",))

    def say() -> None:
        near.tell("note", "first")
        said.set()

    near = Channel(ends[0], {"say": say}, {}, posting=True)
    threads = [started(near.run)[0], started(far.run)[0]]
    for _ in range(200):
        said.clear()
        far.tell("say")
        assert said.wait(20)
        near.tell("note", "second")
        assert near.ask("all")[-2:] == ["first", "second"]
    near.end()
    for thread in threads:
        thread.join(20)
    for end in ends:
        end.close()


TEXT = st.text(max_size=40)
UIDS = st.text("0123456789.", min_size=1, max_size=64)
HEX = st.text("0123456789abcdef", min_size=8, max_size=64)
WHEN = st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1), max_value=datetime(2100, 1, 1))  # noqa: DTZ001


@given(
    st.builds(
        InstanceRow,
        study_key=HEX,
        series_key=HEX,
        instance_key=HEX,
        sop_class_uid=UIDS,
        transfer_syntax_uid=UIDS,
        digest=HEX,
        length=st.integers(0, 1 << 50),
        address=st.builds(
            RecordAddress, segment_id=HEX, number=st.integers(0, 1 << 40), offset=st.integers(0, 1 << 50)
        ),
        received_at=WHEN,
        state=st.just(InstanceRow.__dataclass_fields__["state"].default),
    )
)
def test_a_row_goes_over_and_back(row: InstanceRow) -> None:
    assert row_of_plain(plain_row(row)) == row


RULE = PeerRule(name="ct1")


@given(
    st.builds(Command, message_id=st.integers(0, 65535), affected_sop_instance_uid=TEXT),
    st.binary(max_size=200),
    st.sampled_from([None, RULE]),
    TEXT,
)
def test_a_call_and_its_reply_go_over_and_back(command: Command, data: bytes, rule: PeerRule | None, ae: str) -> None:
    peer = Peer(calling_ae_title=ae, called_ae_title="B", address="::1", association_id="a1", rule=rule)
    call = Call(command, Agreed(abstract_syntax="1.2", transfer_syntax="1.3"), data, peer)
    assert call_of_plain(plain_call(call), {"ct1": RULE}) == call
    for reply in (Reply(0), Reply(0x0110, data), Reply(0, b"", "1.2.3")):
        assert reply_of_plain(plain_reply(reply)) == reply
