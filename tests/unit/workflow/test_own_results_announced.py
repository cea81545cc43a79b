"""Results of ours in what a PACS announces of a study: they never come here, and say nothing of its images."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from pydicom import Dataset

from dicomnode.encoded import Limits, read_part10
from dicomnode.network.procedures import Step, StepState
from dicomnode.study import Purpose, WorkKey, World
from dicomnode.workflow.evidence import Evidence, EvidenceBook
from tests.unit.workflow.samples import KEY
from tests.unit.workflow.test_encoding import run, stages_for
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]


@pytest.fixture
def book(bench: Bench) -> EvidenceBook:
    return EvidenceBook(bench.ledger, derivation_key=KEY, wake=lambda: None, clock=bench.time.now, emit=bench.events)


def announce(book: EvidenceBook, study: Dataset, uids: Iterable[str]) -> None:
    book.begin(
        Step(
            sop_instance_uid="1.9",
            study_instance_uids=(str(study.StudyInstanceUID),),
            state=StepState.COMPLETED,
            instances=tuple(uids),
        )
    )


def results(bench: Bench, images: list[Dataset]) -> tuple[WorkKey, list[str]]:
    """A study with results, also in forms of their own for a second destination."""
    key = bench.receive(images)
    stages = stages_for(bench, {}, {"name": "planning", "segmentation": "rtstruct", "report": "basic-text"})
    assert run(stages, key) == [True] * 3
    return key, [str(one.SOPInstanceUID) for one in made(bench, key)]


def made(bench: Bench, key: WorkKey) -> list[Dataset]:
    rows = bench.ledger.results(key)
    objects = [bench.rooms.objects.get(key.study_key, World.IDENTITY, row.result_id, Purpose.RESULT) for row in rows]
    return [read_part10(data, Limits()) for data in objects]


def test_only_images_that_are_named_are_waited_for(bench: Bench, images: list[Dataset], book: EvidenceBook) -> None:
    """A second scan of the study arrives while the PACS announces the whole of it."""
    key, own = results(bench, images[:-2])
    assert len(own) > 4
    announce(book, images[0], [*(str(one.SOPInstanceUID) for one in images), *own])
    assert book.of(key.study_key) == Evidence(under_way=0, announced=len(images), missing=2)
    bench.receive(images[-2:], revision=2)
    found = book.of(key.study_key)
    assert found == Evidence(under_way=0, announced=len(images), missing=0)
    assert found.is_exact


def test_what_names_our_results_alone_says_nothing_of_images(
    bench: Bench, images: list[Dataset], book: EvidenceBook
) -> None:
    """As a PACS does when it has taken them; what is forwarded to us of them is no reason to settle early either."""
    key, own = results(bench, images)
    announce(book, images[0], own)
    nothing = Evidence(under_way=0, announced=0, missing=0, unnamed=len(images))
    assert book.of(key.study_key) == nothing
    assert not nothing.is_whole
    bench.receive(made(bench, key), revision=2)
    assert book.of(key.study_key) == nothing
