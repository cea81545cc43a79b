"""What is asked of a state folder beside a running node: the wish to retract, and why it cannot be entered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import Config, parse
from dicomnode.errors import ConfigError
from dicomnode.service.rooms import Layout, make_state_folder, now
from dicomnode.service.status import list_studies, read_studies, wish_retraction
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import ResultRow
from dicomnode.study import RETRACTION, WISHED, DeliveryState, ResultRole, WorkKey, WorkState
from tests.unit.workflow.samples import row

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "rejection_notes": True}
KEYS = ("aa" * 16, "ab" * 16)


def tree_in(folder: Path, **changes: Any) -> Config:
    tree = parse({"node": {"state": str(folder / "state")}, "destinations": [{**PACS, **changes}]})
    make_state_folder(Layout.of(tree))
    return tree


@pytest.fixture
def tree(tmp_path: Path) -> Config:
    """A state folder with two studies, each with one work that is done."""
    tree = tree_in(tmp_path)
    ledger = Ledger.open(Layout.of(tree).ledger)
    for number, study_key in enumerate(KEYS):
        ledger.record_instances([row(number, study_key=study_key)])
        ledger.open_revision(study_key, "d" * 64, now())
        key = WorkKey(study_key=study_key, revision=1, model="tiny")
        ledger.create_work(key, "d" * 64, now())
        result = ResultRow(
            result_id=f"{number:032x}", role=ResultRole.REPORT, form="", sop_class_uid="1.2", digest="e" * 64, length=9
        )
        ledger.record_results(key, [result], ["pacs"], now())
        ledger.record_delivery(result.result_id, "pacs", state=DeliveryState.CONFIRMED, status=0, reason=None, at=now())
        for state in (WorkState.PREPARING, WorkState.READY, WorkState.DELIVERING, WorkState.DONE):
            ledger.set_work_state(key, state, at=now())
    ledger.close()
    return tree


def code_of(tree: Config, study_key: str) -> str:
    with pytest.raises(ConfigError) as caught:
        wish_retraction(tree, study_key, None)
    return caught.value.code


def test_a_wish_names_its_works_and_who_takes_notes(tree: Config) -> None:
    works, takers, left = wish_retraction(tree, "aaa", None)
    assert [key.study_key for key in works] == [KEYS[0]]
    assert (takers, left) == (("pacs",), ())
    facts = {one.study_key: one.works[0].facts.get(RETRACTION) for one in read_studies(tree, 10)}
    assert facts == {KEYS[0]: WISHED, KEYS[1]: None}
    assert wish_retraction(tree, KEYS[0], None)[0] == ()


def test_a_beginning_of_several_or_of_none_is_refused(tree: Config) -> None:
    assert code_of(tree, "a") == "study-not-found"
    assert code_of(tree, "b") == "study-not-found"
    assert code_of(tree, "%") == "study-not-found"


def test_where_no_node_has_run_there_is_nothing_to_wish(tmp_path: Path) -> None:
    tree = tree_in(tmp_path)
    assert code_of(tree, "a") == "state-not-found"
    Layout.of(tree).keys.mkdir()  # keys made, and no study yet
    assert code_of(tree, "a") == "study-not-found"
    assert list_studies(tree, 10) == ()


def test_where_nobody_takes_notes_there_is_nothing_to_wish(tmp_path: Path) -> None:
    tree = tree_in(tmp_path, rejection_notes=False)
    Layout.of(tree).keys.mkdir()
    assert code_of(tree, "a") == "rejection-notes-off"
