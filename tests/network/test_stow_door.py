"""The door of STOW-RS: caps of peers and addresses, certificates that change or cannot be used, faults, an end at once."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from dicomnode.errors import ConfigError, StorageError
from dicomnode.network import stow_session
from dicomnode.network.inlets import Inlets
from tests.contracts.gates import Bench, bench
from tests.network.certificates import Authority
from tests.network.web import BOUNDARY, RULE, Caller, RawCaller, file_of, uid_of

STOW = {"enabled": True, "port": 0}


def address(made: Bench) -> tuple[str, int]:
    assert made.gate.web_address is not None
    return made.gate.web_address


def tls_of(authority: Authority) -> dict[str, Any]:
    return authority.issue("node").model_dump(mode="json", exclude={"trusted_certificates"})


@pytest.mark.parametrize(
    ("sections", "kind", "reason"),
    [
        ({"peers": [{**RULE, "maximum_associations": 1}]}, "associations-of-peer", "peer-limit"),
        ({"peers": [RULE], "listen": {"associations_per_address": 1}}, "associations-of-address", "node-busy"),
    ],
)
def test_requests_are_capped_as_associations_are(
    tmp_path: Path, sections: dict[str, Any], kind: str, reason: str
) -> None:
    with bench(tmp_path, 0, stow=STOW, **sections) as made:
        with RawCaller(address(made)) as first:
            first.head(Content_Length="100000")
            first.send(f"--{BOUNDARY}\r\n\r\n".encode())
            made.log.wait_for("association.opened")
            with Caller(address(made)) as second:
                answer = second.store(file_of(1))
            assert (answer.status, answer.kind) == (503, kind)
            assert made.log.facts("stow.refused")[-1]["reason"] == reason
        made.log.wait_for("association.closed")
        with Caller(address(made)) as third:
            assert third.store(file_of(1)).status == 200


def test_a_token_from_elsewhere_opens_nothing(tmp_path: Path) -> None:
    with bench(tmp_path, 0, stow=STOW, peers=[{**RULE, "addresses": ["192.0.2.0/24"]}]) as made:
        with Caller(address(made)) as caller:
            assert caller.store(file_of(1)).status == 401
        assert [facts["kind"] for facts in made.log.facts("peer.unknown")] == ["address-unknown"]
        assert made.ledger.studies(limit=10) == ()


def test_a_transfer_syntax_that_is_not_stored_is_told_as_such(tmp_path: Path) -> None:
    with bench(tmp_path, 0, stow=STOW, peers=[RULE]) as made, Caller(address(made)) as caller:
        answer = caller.store(file_of(1, transfer_syntax_uid="1.2.840.113619.5.2"), file_of(2))
        assert (answer.status, answer.statuses()) == (202, {uid_of(1): 0xC122, uid_of(2): 0})
        answer = caller.store(file_of(3, transfer_syntax_uid="1.2.840.113619.5.2"))
        assert (answer.status, answer.statuses()) == (409, {uid_of(3): 0xC122})
        assert len(made.rows(count=1)) == 1


def test_who_is_told_to_come_again_is_told_when(tmp_path: Path) -> None:
    sections = {"stow": {**STOW, "retry_after_seconds": 77}, "peers": [{**RULE, "maximum_open_studies": 1}]}
    with bench(tmp_path, 0, **sections) as made, Caller(address(made)) as caller:
        assert caller.store(file_of(1)).status == 200
        answer = caller.store(file_of(1, "1.2.9"))
        assert (answer.status, answer.header.get("Retry-After")) == (503, "77")
        assert list(answer.statuses().values()) == [0xA700]


def test_a_fault_of_ours_is_answered_and_told_and_the_next_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bytes:
        raise RuntimeError("a planted name")

    with bench(tmp_path, 0, stow=STOW, peers=[RULE]) as made:
        with monkeypatch.context() as patched, Caller(address(made)) as caller:
            patched.setattr(stow_session, "report", fails)
            assert caller.store(file_of(1)).status == 500
        (told,) = made.log.facts("internal")
        assert (told["kind"], "planted" in repr(made.log.seen)) == ("RuntimeError", False)
        with Caller(address(made)) as caller:
            assert caller.store(file_of(1)).status == 200


def test_a_reception_that_cannot_be_told_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bench(tmp_path, 0, stow=STOW, peers=[RULE]) as made:
        assert isinstance(made.gate, Inlets)

        def gone(*_: object) -> None:
            raise StorageError("receiver-failed")

        monkeypatch.setattr(made.gate._reception, "opened", gone)
        with Caller(address(made)) as caller:
            assert caller.store(file_of(1)).status == 200
        assert made.log.facts("association.fault")[0]["reason"] == "receiver-failed"


def test_certificates_that_change_are_taken_up(tmp_path: Path) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    files = tls_of(old)

    def status(authority: Authority) -> int:
        with Caller(address(made), ssl.create_default_context(cafile=str(authority.path))) as caller:
            return caller.store(file_of(1)).status

    with bench(tmp_path / "node", 0, stow={**STOW, "tls": files}, peers=[RULE]) as made:
        assert status(old) == 200
        for name, path in tls_of(new).items():
            Path(files[name]).write_bytes(Path(path).read_bytes())
        made.gate.reload_certificates()
        assert made.log.facts("tls.reloaded")
        assert status(new) == 200
        with pytest.raises(ssl.SSLError):
            status(old)


@pytest.mark.parametrize("receivers", [0, 1], ids=["own", "processes"])
def test_certificates_that_cannot_be_used_keep_the_door_shut(tmp_path: Path, receivers: int) -> None:
    tls = {"certificate": str(tmp_path / "gone.pem"), "private_key": str(tmp_path / "gone.pem")}
    made = Bench(tmp_path, receivers, stow={**STOW, "tls": tls}, peers=[RULE])
    with pytest.raises(ConfigError, match="tls-failed"):
        made.start()
    made.stop()


def test_an_end_at_once_ends_what_is_open(tmp_path: Path) -> None:
    with bench(tmp_path, 0, stow=STOW, peers=[RULE]) as made:
        assert isinstance(made.gate, Inlets)
        assert made.gate.accepting
        with RawCaller(address(made)) as caller:
            caller.head(Content_Length="100000")
            made.log.wait_for("association.opened")
            made.gate.abort()
            assert caller.rest() == b""
        assert made.gate.accepting, "it ends as it is meant to"
        with pytest.raises(ConnectionRefusedError):
            RawCaller(address(made))
