from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dicomnode.config import Config
from dicomnode.errors import ModelError, PeerError
from dicomnode.inference import standin
from dicomnode.manifest import ModelPackageErrors, Priors
from dicomnode.service import check, rooms
from dicomnode.service.check import Report, examine
from dicomnode.service.models import Look
from dicomnode.service.rooms import Layout
from dicomnode.storage import medium, recipients
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.study import World
from tests.neighbours import free_port
from tests.network.certificates import Authority, make_tls

MakeTree = Callable[..., Config]
DESTINATION = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}


class Peer:
    """A destination that answers, or not."""

    error: PeerError | None = None
    refused: frozenset[str] = frozenset()

    def __init__(self, destination: Any, calling_ae_title: str) -> None:
        assert calling_ae_title == "DICOMNODE"

    def echo(self) -> None:
        if self.error:
            raise self.error

    def probe(self, sop_class_uids: Iterable[str]) -> frozenset[str]:
        return frozenset(sop_class_uids) - self.refused


@pytest.fixture(autouse=True)
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Peer]]:
    """The destinations of a test answer unless it says otherwise."""
    monkeypatch.setattr(check, "requestor_of", lambda tree, place: Peer(place, tree.node.ae_title))
    monkeypatch.setattr(check, "is_volatile", lambda folder: False)  # wherever tests keep their files
    yield Peer
    Peer.error, Peer.refused = None, frozenset()


def settled(tree: Config) -> Layout:
    """State as the first start leaves it."""
    layout = Layout.of(tree)
    rooms.make_state_folder(layout)
    rooms.open_key_ring(tree, layout, {}, create=True)
    Ledger.open(layout.ledger).close()
    return layout


def lines(report: Report) -> str:
    return "\n".join(report.lines)


def test_before_the_first_start_it_says_what_will_be_made_and_makes_nothing(tree_of: MakeTree) -> None:
    tree = tree_of()
    report = examine(tree, {})
    assert report.errors == []
    assert "will be made at the first start" in report.lines[0]
    assert "keys will be made in" in report.lines[1]
    assert "model stand-in 1" in lines(report)
    assert "research only" in lines(report)
    assert "DICOMNODE can listen on 127.0.0.1 port 0" in lines(report)
    assert report.warnings == ["destinations: none; results stay sealed in the state folder"]
    assert not Layout.of(tree).state.exists()


def test_a_node_that_has_run_is_looked_at_whole(tree_of: MakeTree) -> None:
    tree = tree_of(destinations=[DESTINATION])
    settled(tree)
    report = examine(tree, {})
    assert (report.errors, report.warnings) == ([], [])
    for part in ("durable writes by append", "ledger: 0 studies", "keys are there", "answers C-ECHO"):
        assert part in lines(report)


def test_every_error_is_told_in_one_go(tree_of: MakeTree, peer: type[Peer]) -> None:
    tree = tree_of(
        intake={"minimum_free_bytes": 1 << 60},
        models={"engine": "onnxruntime", "folder": Path("/nowhere")},
        listen={"tls": {"certificate": "/no", "private_key": "/no", "trusted_certificates": "/no"}},
        destinations=[DESTINATION],
    )
    layout = settled(tree)
    next(layout.keys.iterdir()).chmod(0o444)
    peer.error = PeerError("peer-unreachable")
    report = examine(tree, {})
    assert len(report.errors) == 4
    text = "\n".join(report.errors)
    for part in ("intake.minimum_free_bytes", "key-permissions", "model", "tls-failed"):
        assert part in text
    assert len(report.warnings) == 1
    assert "peer-unreachable" in report.warnings[0]


def test_a_study_that_is_to_go_before_its_results_are_given_up_is_told(tree_of: MakeTree) -> None:
    tree = tree_of(destinations=[DESTINATION], retention={"days": 7})
    settled(tree)
    (told,) = examine(tree, {}).warnings
    assert told.startswith("retention.days: 7, but results are tried for 7 days (delivery.give_up_seconds)")


def test_a_state_folder_that_cannot_be_written(tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    (error,) = examine(tree_of(), {}).errors
    assert "no folder can be made or written" in error


def test_keys_that_are_gone_are_an_error_and_not_made_anew(tree_of: MakeTree) -> None:
    tree = tree_of()
    layout = settled(tree)
    for path in layout.keys.iterdir():
        path.unlink()
    layout.keys.rmdir()
    (error,) = examine(tree, {}).errors
    assert "is gone" in error
    assert not layout.keys.exists()


def test_credentials_that_are_missing_are_an_error(tree_of: MakeTree, tmp_path: Path) -> None:
    tree = tree_of(keys={"source": "credentials"})
    (error,) = examine(tree, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).errors
    assert error.startswith("key-missing")


@pytest.mark.parametrize("name", ["identity", "derivation"])
def test_keys_of_another_state_are_an_error(tree_of: MakeTree, name: str) -> None:
    tree = tree_of()
    layout = settled(tree)
    with Ledger.open(layout.ledger) as ledger:
        DataKeys(ledger, rooms.open_key_ring(tree, layout, {}, create=True)).get_or_create("ab" * 16, World.IDENTITY)
    assert any("belong to this state" in line for line in examine(tree, {}).lines)
    path = layout.keys / f"{name}.key"
    path.unlink()
    path.write_text("cd" * 32)
    path.chmod(0o400)
    (error,) = examine(tree, {}).errors
    assert error.startswith("key-wrong")


def test_what_a_policy_lets_out_is_a_note(tree_of: MakeTree) -> None:
    tree = tree_of(destinations=[DESTINATION], deidentification={"export": {"look_at_every_image": False}})
    settled(tree)
    report = examine(tree, {})
    assert report.errors == []
    assert report.warnings == [
        "deidentification.export.look_at_every_image: text that no flag announces leaves with its image"
    ]


def test_a_recipient_that_no_export_can_enclose_for_is_an_error(tree_of: MakeTree, tmp_path: Path) -> None:
    recipients.public_certificate(tmp_path)
    good, none = tmp_path / "reidentify.pem", tmp_path / "none.pem"
    assert (
        "exports enclose original attributes for 1 recipients"
        in examine(tree_of(deidentification={"recipients": [good]}), {}).lines
    )
    (error,) = examine(tree_of(deidentification={"recipients": [good, none]}), {}).errors
    assert error.startswith("deidentification.recipients: key-missing")
    (error,) = examine(tree_of(deidentification={"recipients": [tmp_path / "reidentify.key"]}), {}).errors
    assert error.startswith("deidentification.recipients: key-wrong")


@pytest.mark.parametrize(
    ("valid", "error", "warned"),
    [((-20, -10), "key-wrong", False), ((10, 20), "key-wrong", False), ((-1, 10), "", True), ((-1, 99), "", False)],
)
def test_a_recipients_certificate_is_valid_now(
    tree_of: MakeTree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    valid: tuple[int, int],
    error: str,
    warned: bool,
) -> None:
    for name, days in zip(("_BEGIN", "_END"), valid, strict=True):
        monkeypatch.setattr(recipients, name, rooms.now() + timedelta(days=days))
    recipients.public_certificate(tmp_path)
    report = examine(tree_of(deidentification={"recipients": [tmp_path / "reidentify.pem"]}), {})
    setting = "deidentification.recipients: "
    assert any(one.startswith(f"{setting}{error}") for one in report.errors) == bool(error)
    assert any(one.startswith(f"{setting}a certificate expires in") for one in report.warnings) == warned


def test_no_model_is_an_error(tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "load_packages", lambda tree: ())
    assert examine(tree_of(), {}).errors == ["models: no model is installed or enabled"]


def test_every_problem_of_a_package_is_told(tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tree: Config) -> None:
        raise ModelPackageErrors(("ct-lung: one", "ct-lung: two"))

    monkeypatch.setattr(rooms, "load_packages", broken)
    assert examine(tree_of(), {}).errors == ["ct-lung: one", "ct-lung: two"]


def test_an_engine_that_does_not_open_is_an_error(tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tree: Config, package: Any) -> None:
        raise ModelError("inference-failed")

    monkeypatch.setattr(check, "open_engine", broken)
    (error,) = examine(tree_of(), {}).errors
    assert error.startswith("inference-failed: ")


def test_a_port_that_is_taken_is_a_note(tree_of: MakeTree) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        report = examine(tree_of(listen={"port": taken.getsockname()[1]}), {})
    assert report.errors == []
    assert "Address already in use (a running node holds it itself)" in report.warnings[0]


def test_an_open_door_is_a_note(tree_of: MakeTree) -> None:
    def open_doors(**listen: Any) -> bool:
        return any("anyone on the network" in one for one in examine(tree_of(listen=listen), {}).warnings)

    assert open_doors(host="0.0.0.0")
    assert not open_doors(host="0.0.0.0", calling_ae_titles=["CT1"])
    assert not open_doors(host="::1")


def test_tls_that_loads_is_said_and_closes_the_door(tree_of: MakeTree, tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    listen = {"host": "0.0.0.0", "tls": tls, "tls_port": 0}
    report = examine(tree_of(listen=listen, destinations=[{**DESTINATION, "tls": tls}]), {})
    assert report.errors == []
    expiring, scanners = report.warnings
    assert expiring == "listen.tls: the node's certificate expires in 0 days"
    assert scanners.startswith("peers: there are none, and a sender may be a scanner")
    assert "certificates load" in lines(report)
    assert "can listen on 0.0.0.0 port 0 with TLS" in lines(report)
    assert len([one for one in report.lines if "can listen" in one]) == 1


def test_a_certificate_that_has_expired_is_an_error(tree_of: MakeTree, tmp_path: Path) -> None:
    old = Authority(tmp_path).issue("old", (-9, -1))
    (error,) = examine(tree_of(listen={"tls": old, "tls_port": 0}), {}).errors
    assert "has expired" in error


def test_rules_that_let_nobody_in_are_told(tree_of: MakeTree) -> None:
    peers = [
        {"name": "a", "ae_title": "CT1", "certificate_subject": "CN=a"},
        {"name": "b", "ae_title": "CT2", "sop_classes": ["1.2.3"]},
        {"name": "c", "ae_title": "CT1", "priority": "stat"},
        {"name": "d", "ae_title": "CT1", "addresses": ["10.0.0.0/8"]},
    ]
    report = examine(tree_of(listen={"calling_ae_titles": ["CT1"]}, peers=peers), {})
    assert report.errors == [
        "peers.a: asks for a certificate, but listen.tls is not set",
        "peers.b: CT2 is not in listen.calling_ae_titles",
        "peers.b: sop_classes that the node does not store: 1.2.3",
    ]
    assert "peers.d: never reached, since c before it fits whenever it does" in report.warnings
    assert "peer c: CT1, stat" in lines(report)


def test_files_of_tls_for_reports_are_loaded(tree_of: MakeTree, tmp_path: Path) -> None:
    good = make_tls(tmp_path).model_dump(mode="json")
    rule = {"name": "ct1", "ae_title": "CT1", "report_host": "ct1.example.org"}
    assert examine(tree_of(peers=[{**rule, "report_tls": good}]), {}).errors == []
    (error,) = examine(
        tree_of(peers=[{**rule, "report_tls": {**good, "private_key": str(tmp_path / "none")}}]), {}
    ).errors
    assert error.startswith("peers.ct1.report_tls: tls-failed")


def test_the_disk_is_asked_where_the_state_will_be(tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tree_of(intake={"minimum_free_bytes": 1000})
    settled(tree)
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_bavail=1, f_frsize=999))
    (error,) = examine(tree, {}).errors
    assert error.startswith("intake.minimum_free_bytes")


def test_a_state_folder_in_memory_is_a_note_before_the_first_start_and_after(
    tree_of: MakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def volatile(folder: Path) -> bool:
        asked.append(folder)
        return True

    monkeypatch.setattr(check, "is_volatile", volatile)
    tree = tree_of(destinations=[DESTINATION])
    before = examine(tree, {})
    settled(tree)
    for report in (before, examine(tree, {})):
        assert report.errors == []
        assert report.warnings == [f"node.state: {medium.IN_MEMORY}"]
    assert asked == [tmp_path, tmp_path / "state"]


@pytest.mark.parametrize("host", ["203.0.113.9", "2001:db8::9"])
@pytest.mark.parametrize("tls", [False, True])
def test_an_address_that_this_host_does_not_have_is_an_error(
    tree_of: MakeTree, tmp_path: Path, host: str, tls: bool
) -> None:
    both = {"plain": "on", "tls": make_tls(tmp_path).model_dump(), "tls_port": 0} if tls else {}
    report = examine(tree_of(listen={"host": host, **both}), {})
    (error,) = report.errors
    assert error.startswith(f"listen.host: port-unavailable: {host} is no address of this host")
    assert "0.0.0.0" in error
    assert "can listen" not in lines(report)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1", "::1"])
def test_addresses_that_every_host_has_are_well(tree_of: MakeTree, host: str) -> None:
    report = examine(tree_of(listen={"host": host}), {})
    assert report.errors == []
    assert f"can listen on {host} port 0" in lines(report)


def test_a_family_that_the_system_lacks_is_an_error(tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*_: object) -> None:
        raise OSError(errno.EAFNOSUPPORT, "no IPv6 here")

    monkeypatch.setattr(socket, "socket", lacks)
    (error,) = examine(tree_of(listen={"host": "::1"}), {}).errors
    assert error.startswith("listen.host: port-unavailable: ::1 is no address of this host")


def test_a_port_that_only_the_service_may_open_is_told(tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(socket.socket, "bind", forbidden)
    report = examine(tree_of(listen={"port": 104}), {})
    assert report.errors == []
    assert (
        "listen: 127.0.0.1 port 104: Permission denied (a service gets it by systemd/port-104.conf)" in report.warnings
    )


@pytest.mark.parametrize(
    ("engine", "installed", "lines", "warnings", "errors"),
    [
        ("auto", None, 0, 0, 0),
        ("auto", "tensorrt", 1, 1, 0),
        ("tensorrt", None, 1, 0, 1),
        ("onnxruntime", "tensorrt", 0, 0, 0),
    ],
)
def test_the_gpu_is_looked_at_where_it_may_be_used(  # noqa: PLR0917 - a row of the table above
    tree_of: MakeTree,
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    installed: str | None,
    lines: int,
    warnings: int,
    errors: int,
) -> None:
    looks = (Look(well=True, text="engines will be built"), Look(well=False, text="no-device"))
    monkeypatch.setattr(check, "installed", lambda: installed)
    monkeypatch.setattr(check, "examine_gpu", lambda tree: looks)
    report = examine(tree_of(models={"engine": engine, "threads": 1}), {})
    found = [sum(line.startswith("GPU: ") for line in part) for part in (report.lines, report.warnings, report.errors)]
    assert found == [lines, warnings, errors]


def test_rules_are_told_in_a_line_each_and_what_they_leave_out(tree_of: MakeTree) -> None:
    rules = [
        {"name": "qa", "calling_ae_titles": ["QA"], "action": "ignore"},
        {"name": "night", "hours": ["22:00-06:00"], "modalities": ["MR"], "destinations": [], "priority": "stat"},
        {"name": "rest", "models": ["stand-in"], "destinations": ["pacs"]},
    ]
    report = examine(tree_of(rules=rules, destinations=[DESTINATION]), {})
    assert not report.errors
    assert "rule qa: by calling_ae_titles; is ignored" in report.lines
    assert "rule night: by modalities, hours; to all models, results to no destination, stat" in report.lines
    assert "rule rest: everything; to stand-in, results to pacs, as urgent as its sender" in report.lines
    assert "rules.night: none of its models takes MR; they take CT" in report.warnings


def test_a_model_that_no_rule_names_is_noted_and_one_that_is_not_there_is_an_error(tree_of: MakeTree) -> None:
    assert any(line.startswith("rules: none; every study") for line in examine(tree_of(), {}).lines)
    only = examine(tree_of(rules=[{"name": "qa", "action": "ignore"}]), {})
    assert "rules: none of them names stand-in; it gets no study" in only.warnings
    wrong = examine(tree_of(rules=[{"name": "a", "models": ["brain"]}]), {})
    assert "rules.a.models: there is no brain (there is: stand-in)" in wrong.errors


def test_watched_folders_are_looked_at(tree_of: MakeTree, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    folders = [
        {"name": "inbox", "path": inbox},
        {"name": "gone", "path": tmp_path / "gone"},
        {"name": "own", "path": tmp_path / "state" / "spool"},
    ]
    (tmp_path / "state" / "spool").mkdir(parents=True)
    report = examine(tree_of(folders=folders), {})
    assert f"folder inbox: files of {inbox} are taken as from FOLDER" in report.lines
    assert any(line.startswith("folders.gone: ") and "is no folder" in line for line in report.errors)
    assert any(line.startswith("folders.own: ") and "within each other" in line for line in report.errors)


def test_exports_are_asked_and_their_folders_tried(
    tree_of: MakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def echo(self) -> None:
            raise PeerError("peer-unreachable")

    monkeypatch.setattr(check, "outlet_of", lambda _, one, __: Peer(one, "DICOMNODE") if one.name == "here" else Away())
    (tmp_path / "file").write_text("")
    place = {"project": "p", "ae_title": "SCP", "host": "127.0.0.1", "port": 104}
    tls = dict.fromkeys(("certificate", "private_key", "trusted_certificates"), str(tmp_path / "gone.pem"))
    exports = [
        {"name": "folder", "project": "p", "into": str(tmp_path / "new" / "out")},
        {"name": "taken", "project": "p", "into": str(tmp_path / "file" / "out")},
        {"name": "here", **place},
        {"name": "away", **place},
        {"name": "secret", **place, "tls": tls},
    ]
    report = examine(tree_of(exports=exports), {})
    assert f"export folder writes into {tmp_path / 'new' / 'out'}" in report.lines
    assert "export here (SCP@127.0.0.1:104) answers" in report.lines
    assert any(line.startswith("exports.taken.into: no folder") for line in report.errors)
    assert any(line.startswith("exports.secret.tls: ") for line in report.errors)
    assert any(line.startswith("export away (SCP@127.0.0.1:104): peer-unreachable") for line in report.warnings)
    assert not (tmp_path / "new").exists()


def test_stow_is_looked_at(tree_of: MakeTree, tmp_path: Path) -> None:
    tls = make_tls(tmp_path)
    hashed = {"token_sha256": ["ab" * 32]}
    plain = {"enabled": True, "port": 0}
    report = examine(tree_of(stow=plain, peers=[{"name": "ct"}]), {})
    assert report.errors == ["stow: no rule of [[peers]] asks for a token or a certificate; nobody is let in"]
    report = examine(tree_of(stow=plain, peers=[{"name": "gateway", **hashed}]), {})
    assert report.errors == []
    assert "can listen on 127.0.0.1 port 0 for STOW-RS at /dicom-web/studies" in lines(report)
    assert "peer gateway: by STOW-RS, as GATEWAY, routine" in lines(report)
    report = examine(tree_of(peers=[{"name": "gateway", **hashed}]), {})
    assert "stow: a peer has a token, and stow.enabled is not set" in report.warnings
    secured = {**plain, "host": "0.0.0.0", "tls": tls.model_dump(exclude={"trusted_certificates"})}
    both = {"name": "gateway", **hashed, "certificate_subject": "CN=a"}
    report = examine(tree_of(stow=secured, peers=[both]), {})
    assert report.errors == ["peers.gateway: asks for a certificate, but stow.tls.trusted_certificates is not set"]
    assert "stow.tls: the node's certificate expires in 0 days" in report.warnings
    broken = {**secured, "tls": {"certificate": tls.private_key, "private_key": tls.private_key}}
    (error,) = examine(tree_of(stow=broken, peers=[{"name": "gateway", **hashed}]), {}).errors
    assert error.startswith("stow.tls: tls-failed")


def test_peers_of_stow_alone_leave_an_open_door_a_note(tree_of: MakeTree) -> None:
    tree = tree_of(listen={"host": "0.0.0.0"}, peers=[{"name": "gateway", "token_sha256": ["ab" * 32]}])
    assert any("anyone on the network" in one for one in examine(tree, {}).warnings)


def test_sources_are_asked_and_a_model_without_any_is_told(
    tree_of: MakeTree, monkeypatch: pytest.MonkeyPatch, peer: type[Peer]
) -> None:
    package = standin.package()
    wanting = replace(package, manifest=replace(package.manifest, priors=Priors(modalities=("CT",))))
    monkeypatch.setattr(rooms, "load_packages", lambda _: (wanting,))
    monkeypatch.setattr(check, "retriever_of", lambda tree, place, door: Peer(place, tree.node.ae_title))
    without = examine(tree_of(destinations=[DESTINATION]), {})
    assert "sources: none for priors, which stand-in would see" in without.warnings
    tree = tree_of(destinations=[DESTINATION], sources=[DESTINATION])
    assert "source pacs (PACS@127.0.0.1:104; C-GET) answers" in lines(examine(tree, {}))
    moving = tree_of(
        destinations=[DESTINATION], sources=[{**DESTINATION, "retrieve": "move"}], retrieval={"port": free_port()}
    )
    assert "as DICOMNODE-MOVE, for C-MOVE" in lines(examine(moving, {}))
    Peer.error = PeerError("peer-unreachable")
    (warning,) = [one for one in examine(tree, {}).warnings if one.startswith("source ")]
    assert "peer-unreachable" in warning


def test_a_bucket_without_credentials_is_an_error_and_one_that_does_not_answer_a_note(tree_of: MakeTree) -> None:
    s3 = {"bucket": "trial-7", "endpoint": "http://127.0.0.1:9", "path_style": True}
    exports = [{"name": "bucket", "project": "p", "s3": s3, "timeout_seconds": 0.2}]
    (error,) = examine(tree_of(exports=exports), {}).errors
    assert error.startswith("credentials-missing")
    environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "planted-secret"}
    report = examine(tree_of(exports=exports), environment)
    assert report.errors == []
    assert any(line.startswith("export bucket (s3://trial-7/): ") for line in report.warnings)
    assert "planted-secret" not in lines(report)
