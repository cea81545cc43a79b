"""Whose originals may be the only ones, as `dicomnode check` tells it: field report, a scanner as the guide showed it, shredded after 30 days."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import Config, parse
from dicomnode.service.check import examine
from dicomnode.service.originals import kept, notes_of_retention

INSTALL = Path(__file__).resolve().parents[3] / "deploy" / "docs" / "install.md"
PACS: dict[str, Any] = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
SCANNER: dict[str, Any] = {"name": "ct1", "ae_title": "CT1"}
SAYS = "may be a scanner: 30 days after its last image a study of it is shredded, and no PACS is asked for it"


def notes(**sections: Any) -> list[str]:
    return [*notes_of_retention(Config.model_validate({"destinations": [PACS], **sections}))]


def test_a_peer_that_may_be_a_scanner_is_noted() -> None:
    (told,) = notes(peers=[SCANNER, {"name": "pacs", "ae_title": "PACS"}])
    assert told.startswith("peers.ct1: it is no destination and no source")
    assert SAYS in told
    assert "modality = true" in told


@pytest.mark.parametrize("modality", [True, False])
def test_who_says_what_a_peer_is_hears_no_more(modality: bool) -> None:
    assert notes(peers=[{**SCANNER, "modality": modality}]) == []


def test_a_source_has_what_it_sends_also_under_another_title() -> None:
    source = {**PACS, "name": "old", "ae_title": "OLD", "move_ae_title": "OLD-MOVE"}
    peers = [{"name": "old", "ae_title": "OLD"}, {"name": "moves", "ae_title": "OLD-MOVE"}]
    assert notes(sources=[source], peers=peers) == []


def test_a_peer_of_any_title_may_be_a_scanner() -> None:
    source = {**PACS, "name": "old"}  # without a move_ae_title
    (told,) = notes(sources=[source], peers=[{"name": "house", "addresses": ["10.0.0.0/8"]}])
    assert told.startswith("peers.house: ")


def test_without_peers_it_goes_by_titles_and_by_the_door() -> None:
    (told,) = notes(listen={"calling_ae_titles": ["PACS", "CT1"], "host": "0.0.0.0"})
    assert told.startswith("listen.calling_ae_titles: CT1 is no destination")
    (told,) = notes(listen={"host": "0.0.0.0"})
    assert told.startswith(f"peers: there are none, and a sender {SAYS}")
    assert notes() == []  # this machine alone: a trial


def test_files_that_are_deleted_are_noted_and_moved_ones_are_not() -> None:
    folders = [{"name": "discs", "path": "/a", "after": "delete"}, {"name": "kept", "path": "/b"}]
    (told,) = notes(folders=folders)
    assert told.startswith("folders.discs: its files are deleted")


def test_an_archive_that_is_never_asked_is_noted() -> None:
    peers = [{"name": "pacs", "ae_title": "PACS"}]
    (told,) = notes(peers=peers, retention={"archive": "pacs"})
    assert told == "retention.archive: no peer has modality = true, so pacs is asked about no study"
    assert notes(peers=[*peers, {**SCANNER, "modality": True}], retention={"archive": "pacs"}) == []


def test_a_short_retention_is_told_where_results_go_anywhere() -> None:
    (told,) = notes(retention={"days": 7})
    assert told.startswith("retention.days: 7, but results are tried for 7 days")
    assert notes(retention={"days": 7}, destinations=[]) == []


def test_the_line_of_a_modality_names_who_is_asked() -> None:
    scanner = {**SCANNER, "modality": True}
    tree = Config.model_validate({"destinations": [PACS, {**PACS, "name": "vna"}], "peers": [scanner]})
    assert kept(tree, tree.peers[0]).endswith("kept until pacs shows that it holds them")
    chosen = tree.model_copy(update={"retention": tree.retention.model_copy(update={"archive": "vna"})})
    assert kept(chosen, tree.peers[0]).endswith("kept until vna shows that it holds them")
    assert kept(tree, tree.peers[0].model_copy(update={"modality": False})) == ""


def test_what_the_guide_shows_loses_no_originals(tmp_path: Path) -> None:
    first = re.findall(r"^```toml\n(.*?)^```", INSTALL.read_text("utf-8"), re.MULTILINE | re.DOTALL)[0]
    given = tomllib.loads(first.replace("pacs.hospital.test", "127.0.0.1").replace("port = 4242", "port = 1"))
    given |= {"node": {"state": str(tmp_path / "state")}, "models": {"engine": "stand-in"}, "listen": {"port": 0}}
    tree = parse(given)
    assert [*notes_of_retention(tree)] == []
    report = examine(tree, {})
    line = "peer ct1: CT1, stat, a modality: its studies are kept until pacs shows that it holds them"
    assert line in report.lines
    without = tree.model_copy(update={"peers": tuple(_unsaid(peer) for peer in tree.peers)})
    assert [note for note in examine(without, {}).warnings if SAYS in note] != []


def _unsaid(peer: Any) -> Any:
    return type(peer).model_validate(peer.model_dump(exclude={"modality"}, exclude_unset=True))
