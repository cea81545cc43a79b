"""Who comes by STOW-RS, by token, address and certificate: all that a rule asks for, or nobody."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from dicomnode.network.peers import Certificate, Stranger, recognise_web
from dicomnode.network_sections import PeerRule

TOKEN, OTHER = "planted-token-of-a-test-000000000000", "planted-token-of-nobody-000000000000"
CERTIFICATE = Certificate(sha256="cd" * 32, subject="CN=gateway", issuer="CN=authority")


def rule(name: str = "gateway", **asked: Any) -> PeerRule:
    return PeerRule.model_validate({"name": name, **asked})


WITH_TOKEN = {"token_sha256": [hashlib.sha256(TOKEN.encode()).hexdigest()]}
WITH_ADDRESS = {**WITH_TOKEN, "addresses": ["10.1.0.0/16", "10.2.3.4"]}


@pytest.mark.parametrize(
    ("asked", "token", "address", "found"),
    [
        (WITH_TOKEN, TOKEN, "192.0.2.1", None),
        (WITH_TOKEN, OTHER, "192.0.2.1", Stranger.TOKEN),
        (WITH_TOKEN, None, "192.0.2.1", Stranger.TOKEN),
        (WITH_ADDRESS, TOKEN, "10.1.200.7", None),
        (WITH_ADDRESS, TOKEN, "10.2.3.4", None),
        (WITH_ADDRESS, TOKEN, "10.2.3.5", Stranger.ADDRESS),
        (WITH_ADDRESS, TOKEN, "2001:db8::1", Stranger.ADDRESS),
        (WITH_ADDRESS, OTHER, "10.2.3.4", Stranger.TOKEN),
        ({"certificate_subject": "CN=gateway"}, None, "192.0.2.1", None),
        ({"certificate_subject": "CN=gateway", "addresses": ["10.2.3.4"]}, None, "192.0.2.1", Stranger.ADDRESS),
        ({"certificate_subject": "CN=other"}, None, "192.0.2.1", Stranger.CERTIFICATE),
        ({"ae_title": "GW", "addresses": ["192.0.2.1"]}, TOKEN, "192.0.2.1", Stranger.TOKEN),
    ],
)
def test_a_rule_lets_in_who_shows_all_that_it_asks_for(
    asked: dict[str, Any], token: str | None, address: str, found: Stranger | None
) -> None:
    one = rule(**asked)
    assert recognise_web([one], token, address, CERTIFICATE) == (found or one)


def test_a_rule_whose_address_does_not_fit_leaves_the_caller_to_the_next() -> None:
    first, second = rule("first", **WITH_ADDRESS), rule("second", **WITH_TOKEN)
    assert recognise_web([first, second], TOKEN, "192.0.2.1", None) is second
