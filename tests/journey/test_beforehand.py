"""What is read and de-identified while a study comes: right, wrong, killed, withheld, overtaken; the results are the same.

One node does it, its twin under the same keys does not; a recorder writes down what each of them sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from dicomnode.imaging.phantom_series import PhantomPatient
from dicomnode.network.transport import Entity
from dicomnode.study import FINAL_STATES, WorkRow, WorkState
from tests.journey.inside import Inside, send
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import EXPLICIT, write_study

URGENT = '[[peers]]\nname = "emergency"\nae_title = "EMERGENCY"\naddresses = ["127.0.0.1"]\npriority = "stat"\n'
OTHERS = '[[peers]]\nname = "scanner"\nae_title = "SCANNER"\naddresses = ["127.0.0.1"]\n'
TOLD = '[logging]\nlevel = "debug"\n'


@dataclass(frozen=True)
class Pair:
    """A node, its twin that does nothing early, and what each has sent."""

    node: RunningNode
    twin: RunningNode
    recorded: Recorder
    recorded_of_twin: Recorder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("beforehand")
    with Recorder() as first, Recorder() as second:
        settings = TOLD + destination("recorder", first.ae_title, first.port) + URGENT + OTHERS
        with RunningNode(folder / "node", settings) as node:
            shared = f'[keys]\nfolder = "{node.state / "keys"}"\n[completion]\nearly_bytes = 0\n'
            plain = TOLD + destination("recorder", second.ae_title, second.port)
            with RunningNode(folder / "twin", shared + plain) as twin:
                yield Pair(node, twin, first, second)


@contextmanager
def open_association(node: RunningNode, calling: str = "SCANNER") -> Iterator[Association]:
    contexts = [build_context(CTImageStorage, EXPLICIT)]
    association = Entity(calling).associate("127.0.0.1", node.port, contexts, ae_title="DICOMNODE")
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def store(association: Association, paths: list[Path]) -> None:
    for path in paths:
        assert association.send_c_store(dcmread(path)).Status == 0


def key_of(node: RunningNode, who: PhantomPatient) -> str:
    return Inside(node.tree).study_key(who.uid("study"))


def ended(node: RunningNode, who: PhantomPatient) -> WorkRow:
    key = key_of(node, who)
    (work,) = node.wait_for_work(
        90, ended=lambda work: work.key.study_key == key and work.state in FINAL_STATES - {WorkState.SUPERSEDED}
    )
    return work


def sent_for(recorder: Recorder, before: dict[str, list[str]]) -> set[str]:
    """SOP Instance UIDs that were sent since; each with one content."""
    new = {uid: digests for uid, digests in recorder.digests().items() if uid not in before}
    assert all(len(set(digests)) == 1 for digests in new.values())
    return set(new)


def prove_the_same(pair: Pair, before: dict[str, list[str]], paths: list[Path], who: PhantomPatient) -> None:
    """The twin, which gets the study whole, sends results of the same UIDs: they are made of everything that counts."""
    before_twin = pair.recorded_of_twin.digests()
    send(pair.twin, paths)
    assert ended(pair.twin, who).state is WorkState.DONE
    found = sent_for(pair.recorded, before)
    assert found == sent_for(pair.recorded_of_twin, before_twin)
    assert len(found) > 2
    assert all(event["event"] != "work.prepared-early" for event in pair.twin.events)


def test_a_study_that_comes_slowly_is_prepared_when_its_last_image_is_there(pair: Pair, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path, "early-right", patient_id="E-1")
    before = pair.recorded.digests()
    with open_association(pair.node) as association:
        store(association, paths)
        pair.node.wait_for_event("study.prepared-early", study=key_of(pair.node, who), images=len(paths))
    work = ended(pair.node, who)
    assert work.state is WorkState.DONE
    used = pair.node.wait_for_event("work.prepared-early", work=work.key.workflow_id)
    assert used["images"] == len(paths)
    prove_the_same(pair, before, paths, who)


def test_a_late_image_and_one_that_was_replaced_are_in_the_results(pair: Pair, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path, "early-wrong", patient_id="E-2")
    key = key_of(pair.node, who)
    changed = dcmread(paths[3])
    before = pair.recorded.digests()
    with open_association(pair.node) as association:
        store(association, paths[:-1])
        pair.node.wait_for_event("study.prepared-early", study=key, images=len(paths) - 1)
    pair.node.wait_for_event("study.started", study=key)
    changed.SeriesDescription = "another header"
    changed.save_as(paths[3])
    with open_association(pair.node) as association:
        store(association, [paths[3], paths[-1]])
        pair.node.wait_for_event("study.prepared-early", study=key, images=len(paths))
    work = ended(pair.node, who)
    assert (work.state, work.key.revision) == (WorkState.DONE, 2)
    used = pair.node.wait_for_event("work.prepared-early", work=work.key.workflow_id)
    assert used["images"] == len(paths) - 1, "what was there before served again; what was replaced was read anew"
    prove_the_same(pair, before, paths, who)


def test_a_node_that_is_killed_in_the_middle_makes_one_set_of_the_same_results(pair: Pair, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path, "early-killed", patient_id="E-3")
    before = pair.recorded.digests()
    with open_association(pair.node) as association:
        store(association, paths[: len(paths) // 2])
        pair.node.wait_for_event("study.prepared-early", study=key_of(pair.node, who))
        pair.node.kill()
    pair.node.start()
    with open_association(pair.node) as association:
        store(association, paths[len(paths) // 2 :])
    assert ended(pair.node, who).state is WorkState.DONE
    prove_the_same(pair, before, paths, who)


def on_paper(_: int, image: Dataset) -> None:
    image.ConversionType = "SD"  # paper: withheld whether text can be read or not


def test_what_is_withheld_is_withheld_with_the_same_reason(pair: Pair, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path, "early-withheld", change=on_paper, patient_id="E-4")
    with open_association(pair.node) as association:
        store(association, paths)
    send(pair.twin, paths)
    early, plain = ended(pair.node, who), ended(pair.twin, who)
    assert (early.state, early.reason) == (plain.state, plain.reason) == (WorkState.REFUSED, "withheld-pixels")


def test_an_urgent_study_is_done_while_another_still_comes(pair: Pair, tmp_path: Path) -> None:
    slow, who = write_study(tmp_path / "slow", "early-slow", patient_id="E-5")
    urgent, whom = write_study(tmp_path / "urgent", "early-urgent", patient_id="E-6")
    before = pair.recorded.digests()
    with open_association(pair.node) as association:
        store(association, slow[:-1])
        pair.node.wait_for_event("study.prepared-early", study=key_of(pair.node, who), images=len(slow) - 1)
        with open_association(pair.node, "EMERGENCY") as other:
            store(other, urgent)
        assert ended(pair.node, whom).state is WorkState.DONE
        assert len(sent_for(pair.recorded, before)) > 2
        before = pair.recorded.digests()
        store(association, slow[-1:])
    assert ended(pair.node, who).state is WorkState.DONE
    prove_the_same(pair, before, slow, who)
