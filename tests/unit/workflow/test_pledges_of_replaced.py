"""Results that newer ones replaced, and that a destination does not commit to, are not sent behind these."""

from __future__ import annotations

import pytest
from pydicom import Dataset

from dicomnode.config import DeliverySection
from dicomnode.study import CommitmentState, DeliveryState, ResultRole, WorkState
from dicomnode.workflow.pledges import Pledges
from tests.unit.workflow.samples import KEY
from tests.unit.workflow.test_encoding import confirm, run, stages_for
from tests.unit.workflow.test_may_be_there import admission
from tests.unit.workflow.test_pledges import Committer
from tests.unit.workflow.test_retraction import TAKES, Desk
from tests.unit.workflow.test_stages import Bench, bench, images

__all__ = ["bench", "images"]


class Replaced:
    """Revision 1 waits for its commitment alone, or was done before anybody was asked; revision 2 is made and sent."""

    def __init__(self, bench: Bench, images: list[Dataset], *, asked: bool, held: bool = False) -> None:
        stages = stages_for(bench, TAKES)
        self.bench, self.first = bench, bench.receive(images[:-1])
        assert run(stages, self.first) == [True] * 3
        bench.ledger.set_work_state(self.first, WorkState.DELIVERING, at=bench.time.now())
        confirm(bench, self.first)
        self.queue, self.committer = Desk(bench, stages, TAKES).queue, Committer(at_once=False)
        self.pledges = Pledges(
            bench.ledger,
            bench.rooms.objects,
            self.queue,
            destinations={"pacs": self.committer},
            derivation_key=KEY,
            is_down=lambda _: False,
            settings=DeliverySection(commitment_seconds=600),
            clocks=bench.time,
            emit=bench.events,
        )
        if asked:
            self.pledges.look()
        else:
            bench.ledger.set_work_state(self.first, WorkState.DONE, at=bench.time.now())
        self.second = bench.receive(images[-1:], revision=2)
        assert run(stages, self.second) == [True] * 3
        if held:
            bench.ledger.set_work_state(self.second, WorkState.HELD, at=bench.time.now(), reason="late")
            return
        work = bench.ledger.work(self.second)
        assert work is not None
        with bench.ledger.transaction() as connection:
            admission(bench, self.queue, "pacs").let_go(connection, work)
        assert any(one.role is ResultRole.REJECTION for one in bench.ledger.deliveries(self.second))

    @property
    def again(self) -> list[str]:
        """Tries of the first revision."""
        return [entry.destination for entry in self.queue.waiting if entry.key == self.first]

    def is_settled(self) -> bool:
        """Whether nothing of the first revision goes again, and that it is there stands as not proved."""
        rows = {(one.state, one.commitment) for one in self.bench.ledger.deliveries(self.first)}
        work = self.bench.work(self.first)
        assert rows == {(DeliveryState.CONFIRMED, CommitmentState.UNPROVEN)}, (rows, self.again)
        return not self.again and work.state is WorkState.DONE


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("how", ["report", "c-find", "switched on later"])
def test_they_are_not_sent_again(bench: Bench, images: list[Dataset], how: str, there: bool) -> None:
    """Whether the newer ones are there, and hide them, or are on their way."""
    replaced = Replaced(bench, images, asked=how != "switched on later")
    committer, pledges = replaced.committer, replaced.pledges
    if there:
        confirm(bench, replaced.second)
    if how == "report":
        committer.lacks = set(range(9))
        assert pledges.reported(committer.report())
    elif how == "switched on later":
        committer.at_once, committer.lacks = True, set(range(9))
        pledges.look()
    else:
        committer.found = False
        bench.time.forward(601)
        pledges.look()
    assert replaced.is_settled()


def test_while_the_newer_ones_are_held_the_older_ones_go_again(bench: Bench, images: list[Dataset]) -> None:
    """Else nothing would stand there; once the newer ones are let go, what of these still waits goes no more."""
    replaced = Replaced(bench, images, asked=True, held=True)
    replaced.committer.lacks = set(range(9))
    assert replaced.pledges.reported(replaced.committer.report())
    assert replaced.again == ["pacs"]
