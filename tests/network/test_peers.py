"""Peers of the configuration at the door: who is let in, with what, and how many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicomnode.errors import PeerError
from tests.network.certificates import Authority, fingerprint
from tests.network.nodes import Node, node
from tests.network.test_acceptor import foreign, outgoing, scu
from tests.unit.network.samples import SECONDARY_CAPTURE

CT = "1.2.840.10008.5.1.4.1.1.2"
UNKNOWN = {"result": 1, "source": 1, "rejection_reason": 3}


def refused(target: Node, **calling: Any) -> dict[str, Any]:
    with pytest.raises(PeerError) as caught:
        target.requestor(**calling).echo()
    assert caught.value.code == "peer-rejected"
    return dict(caught.value.facts)


def test_an_unknown_title_is_rejected_for_good_and_told() -> None:
    with node(peers=[{"name": "ct1", "ae_title": "CT1"}]) as target:
        assert refused(target, calling="CT2") == UNKNOWN
        (event,) = target.events.named("peer.unknown")
        assert event["kind"] == "ae-title-unknown"
        assert (event["calling_ae_title"], event["address"]) == ("CT2", "127.0.0.1")
        target.requestor(calling="CT1").echo()


@pytest.mark.parametrize(("network", "let_in"), [("127.0.0.0/8", True), ("127.0.0.1", True), ("10.0.0.0/8", False)])
def test_a_known_title_from_elsewhere_is_unknown(network: str, let_in: bool) -> None:
    with node(peers=[{"name": "ct1", "ae_title": "CT1", "addresses": [network]}]) as target:
        if let_in:
            target.requestor(calling="CT1").echo()
        else:
            assert refused(target, calling="CT1") == UNKNOWN
            assert target.events.named("peer.unknown")[0]["kind"] == "address-unknown"


def test_a_certificate_is_asked_for_and_compared(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, ct1, ct2 = (authority.issue(name) for name in ("node", "ct1", "ct2"))
    rules = [
        {"name": "by-print", "ae_title": "PRINT", "certificate_sha256": [fingerprint(ct1).upper()]},
        {"name": "by-name", "ae_title": "NAME", "certificate_subject": "CN=ct1"},
        {"name": "by-issuer", "ae_title": "ISSUER", "certificate_issuer": "CN=another"},
    ]
    with node(peers=rules, tls=ours, plain="on") as target:
        secured = target._replace(port=target.tls_port)
        for title in ("PRINT", "NAME"):
            secured.requestor(calling=title, tls=ct1).echo()
            assert refused(secured, calling=title, tls=ct2) == UNKNOWN
            assert refused(target, calling=title) == UNKNOWN, "without TLS there is no certificate"
        assert refused(secured, calling="ISSUER", tls=ct1) == UNKNOWN
        assert {event["kind"] for event in target.events.named("peer.unknown")} == {"certificate-unknown"}


def test_the_first_rule_that_fits_is_the_peers(tmp_path: Path) -> None:
    rules = [
        {"name": "elsewhere", "ae_title": "CT1", "addresses": ["10.0.0.0/8"]},
        {"name": "here", "ae_title": "CT1", "addresses": ["127.0.0.1"], "priority": "stat"},
        {"name": "anybody"},
    ]
    with node(peers=rules) as target:
        for title in ("CT1", "CT2"):
            target.requestor(calling=title).store([outgoing()])
        target.reception.wait_for_closed(2)
        met = [received.peer.rule for received, _ in target.reception.objects]
        assert [(rule.name, rule.priority) for rule in met if rule] == [("here", "stat"), ("anybody", "routine")]


def test_a_class_that_a_peer_may_not_store_is_refused_and_the_rest_is_not() -> None:
    rules = [{"name": "ct1", "ae_title": "CT1", "sop_classes": [CT]}, {"name": "rest"}]
    with node(peers=rules) as target:
        mixed = [outgoing(1), outgoing(2, sop_class_uid=CT)]
        first, second = target.requestor(calling="CT1").store(mixed)
        assert first.error is not None
        assert (first.error.code, second.status) == ("peer-context-refused", 0)
        assert [one.status for one in target.requestor(calling="CT2").store(mixed)] == [0, 0]


def test_a_class_that_a_peer_may_not_store_does_not_come_in_anothers_context() -> None:
    with node(peers=[{"name": "ct1", "sop_classes": [CT]}]) as target:
        association = scu(target, CT)
        context = association.accepted_contexts[0]
        context.abstract_syntax = SECONDARY_CAPTURE  # what the peer believes, and says in its command
        assert association.send_c_store(foreign("1.2.3.1")).Status == 0x0122
        association.release()
        association.join(10)
        assert target.reception.objects == []


def test_associations_of_one_peer_are_counted_apart() -> None:
    rules = [{"name": "one", "ae_title": "FOREIGN", "maximum_associations": 1}, {"name": "rest"}]
    with node(peers=rules) as target:
        first = scu(target)
        assert refused(target, calling="FOREIGN") == {"result": 2, "source": 3, "rejection_reason": 2}
        target.requestor(calling="OTHER").echo()
        first.release()
        first.join(10)
        target.reception.wait_for_closed(2)
        target.requestor(calling="FOREIGN").echo()
