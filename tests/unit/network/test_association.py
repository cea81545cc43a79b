"""Presentation contexts and TLS settings."""

from __future__ import annotations

import ssl
from copy import deepcopy
from pathlib import Path

import pytest
from pydicom._uid_dict import UID_dictionary
from pydicom.uid import UID
from pynetdicom._globals import ALL_TRANSFER_SYNTAXES
from pynetdicom.presentation import build_context, negotiate_as_acceptor

from dicomnode.errors import ConfigError
from dicomnode.network.admission import Rules, judge
from dicomnode.network.association import (
    RETIRED_STORAGE_CLASSES,
    TRANSFER_SYNTAXES,
    accepted_contexts,
    service_context,
    storage_classes,
)
from dicomnode.network.intake import Peer
from dicomnode.network.requestor import OutgoingObject, batches
from dicomnode.network.tls import client_tls, server_tls
from dicomnode.sections import Tls
from tests.network.certificates import make_tls

CT = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
REFUSED = {
    "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.4.95",
    "1.2.840.10008.1.2.4.204",
    "1.2.840.10008.1.2.4.205",
    "1.2.840.10008.1.2.7.1",
    "1.2.840.10008.1.2.7.2",
    "1.2.840.10008.1.2.7.3",
}


#: Of PS3.6 A, retired: no encodings of Data Sets alone (PS3.10, PS3.18), and one maker's files.
NO_ENCODINGS = {"1.2.840.10008.1.2.6.1", "1.2.840.10008.1.2.6.2", "1.2.840.10008.1.20"}


def test_every_transfer_syntax_is_taken_but_references_and_streams() -> None:
    known = {uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"} | set(ALL_TRANSFER_SYNTAXES)
    assert known - set(TRANSFER_SYNTAXES) == REFUSED | NO_ENCODINGS
    assert not REFUSED & set(TRANSFER_SYNTAXES)
    assert len(set(TRANSFER_SYNTAXES)) == len(TRANSFER_SYNTAXES)


def test_every_storage_class_is_taken_in_every_syntax() -> None:
    classes = storage_classes(("1.3.12.2.1107.5.9.1",))
    assert {CT, "1.2.840.10008.5.1.4.1.1.66.4", *RETIRED_STORAGE_CLASSES, "1.3.12.2.1107.5.9.1"} <= set(classes)
    contexts = accepted_contexts(("1.3.12.2.1107.5.9.1",))
    assert [str(context.abstract_syntax) for context in contexts] == ["1.2.840.10008.1.1", *classes]
    assert all(list(context.transfer_syntax) == list(TRANSFER_SYNTAXES) for context in contexts[1:])


@pytest.mark.parametrize(("sop_class", "both"), [("1.2.840.10008.1.20.1", True), ("1.2.840.10008.3.1.2.3.3", False)])
def test_roles_are_agreed_on_where_the_node_has_both(sop_class: str, *, both: bool) -> None:
    """Of procedure steps it is the SCP alone: who would be that, too, keeps the default roles."""
    asked = build_context(sop_class, [EXPLICIT])
    asked.context_id = 1
    (answer,), roles = negotiate_as_acceptor([asked], [service_context(sop_class)], {UID(sop_class): (True, True)})
    assert (answer.result, [(one.scu_role, one.scp_role) for one in roles]) == (0, [(True, True)] * both)


def test_contexts_are_shared_between_associations() -> None:
    contexts = accepted_contexts()
    assert deepcopy(contexts) is contexts


@pytest.mark.parametrize(
    ("proposed", "taken"),
    [
        (["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2"], "1.2.840.10008.1.2"),
        (["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"], "1.2.840.10008.1.2.1"),
        (["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"], "1.2.840.10008.1.2.4.70"),
        (["1.2.840.10008.1.2.4.50"], "1.2.840.10008.1.2.4.50"),
    ],
)
def test_the_acceptor_takes_what_it_likes_best(proposed: list[str], taken: str) -> None:
    """Contract with pynetdicom 3.0.4: the order of the acceptor's list decides."""
    asked = build_context(CT, proposed)
    asked.context_id = 1
    (answer,), _ = negotiate_as_acceptor([asked], accepted_contexts())
    assert (answer.result, answer.transfer_syntax) == (0, [taken])


RULES = Rules(
    ae_title="NODE",
    calling_ae_titles=("CT1",),
    require_called_ae_title=True,
    maximum_associations=2,
    associations_per_address=2,
)


@pytest.mark.parametrize(
    ("calling", "called", "count", "draining", "expected"),
    [
        ("CT1", "NODE", 0, False, None),
        ("CT1", "NODE", 1, False, None),
        ("CT2", "NODE", 0, False, (1, 1, 3)),
        ("CT1", "OTHER", 0, False, (1, 1, 7)),
        ("CT1", "NODE", 2, False, (2, 3, 2)),
        ("CT1", "NODE", 0, True, (2, 3, 1)),
    ],
)
def test_who_is_let_in(calling: str, called: str, count: int, draining: bool, expected: object) -> None:
    peer = Peer(calling_ae_title=calling, called_ae_title=called, address="::1", association_id="00")
    assert judge(RULES, peer, open_associations=count, draining=draining) == expected


def test_without_rules_anybody_is() -> None:
    rules = Rules(
        ae_title="NODE",
        calling_ae_titles=(),
        require_called_ae_title=False,
        maximum_associations=2,
        associations_per_address=2,
    )
    peer = Peer(calling_ae_title="X", called_ae_title="Y", address="::1", association_id="00")
    assert judge(rules, peer, open_associations=0, draining=False) is None


def test_tls_is_mutual_and_of_today(tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    for context in (server_tls(tls), client_tls(tls)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        names = {cipher["name"] for cipher in context.get_ciphers()}
        assert all("GCM" in name or "CHACHA20" in name for name in names)
    assert client_tls(tls).check_hostname


@pytest.mark.parametrize("missing", ["certificate", "private_key", "trusted_certificates"])
def test_tls_files_that_are_wrong_are_told(missing: str, tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    bad: Tls = tls.model_copy(update={missing: tmp_path / "none.pem"})
    for make in (server_tls, client_tls):
        with pytest.raises(ConfigError) as caught:
            make(bad)
        assert caught.value.code == "tls-failed"


@pytest.mark.parametrize(("syntax", "contexts", "associations"), [(IMPLICIT, 1, 4), (EXPLICIT, 2, 7)])
def test_objects_are_cut_into_associations_of_128_contexts(syntax: str, contexts: int, associations: int) -> None:
    objects = [
        OutgoingObject(
            result_id=str(number),
            sop_class_uid=f"1.2.{number % 200}",
            sop_instance_uid=f"1.3.{number}",
            transfer_syntax_uid=syntax,
            encoded=b"",
        )
        for number in range(400)
    ]
    parts = list(batches(objects))
    assert [one.result_id for part in parts for one in part] == [str(number) for number in range(400)]
    assert all(len({pair for one in part for pair in one.contexts}) <= 128 for part in parts)
    assert {len(one.contexts) for one in objects} == {contexts}
    assert len(parts) == associations
    assert list(batches([])) == []
