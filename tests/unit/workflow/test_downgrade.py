"""What goes in another form, and what cannot: nothing that nobody got may pass for done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from dicomnode.config import DeliverySection
from dicomnode.encoded import encode_part10
from dicomnode.errors import PeerRefusal, StorageError
from dicomnode.forms import SOP_CLASSES, Form, Variant, Wishes
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.rows import ResultRow
from dicomnode.study import Purpose, ResultRole, WorkKey, WorkState, World
from tests.unit.workflow.samples import EXPLICIT, STUDY, Events, Time, tiny_series
from tests.unit.workflow.test_delivery import SC, SEG, SR, FormBench, digest_of

TEXT, PDF = SOP_CLASSES[Form.BASIC_TEXT], SOP_CLASSES[Form.PDF]


class Bench(FormBench):
    """What is made later is of its own SOP Class, too."""

    def remake(self, key: WorkKey, variants: Sequence[Variant]) -> dict[Variant, str]:
        made = {}
        for variant in variants:
            self.remade.append(variant)
            image = tiny_series()[5]
            image.SOPClassUID = variant.sop_class_uid
            data = encode_part10(image, transfer_syntax_uid=EXPLICIT)
            made[variant] = f"{len(self.remade):032x}"
            self.objects.put(STUDY, World.IDENTITY, made[variant], Purpose.RESULT, data)
            row = ResultRow(
                result_id=made[variant],
                role=variant.role,
                form=variant.name,
                sop_class_uid=variant.sop_class_uid,
                digest=digest_of(data),
                length=len(data),
            )
            self.ledger.record_results(key, [row], [], self.time.now())
        return made


@pytest.fixture
def forms(ledger: Ledger, objects: Objects, time: Time, events: Events) -> Bench:
    made = Bench(ledger, objects, time, events)
    made.wishes = Wishes(key_image=False, key_objects=False)
    made.settings = DeliverySection(give_up_seconds=10000, circuit_failures=1000)
    return made


def test_a_report_whose_whole_chain_is_refused_one_after_the_other_fails_the_work(forms: Bench) -> None:
    """Each is said to be accepted and is then not supported: nobody has a report in the end."""
    forms.prepare("pacs")
    forms.peers["pacs"].answers = [0, 0x0122, 0x0122, 0x0122]
    forms.queue.run_due()
    assert forms.forms() == {
        "segmentation:binary": "confirmed",
        "report:comprehensive+binary": "downgraded",
        "report:basic-text": "downgraded",
        "report:pdf": "refused",
    }
    assert forms.ended() == (WorkState.FAILED, "peer-refused-object")
    assert [told["reason"] for told in forms.events.facts("delivery.refused")] == ["peer-refused-object"]
    assert forms.events.names.count("work.ended") == 1
    assert forms.ledger.end_tries() == (), "what was not taken is not there"


def test_what_was_refused_is_not_there_though_nothing_can_be_made_in_its_place(
    forms: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full, say, or the node is killed at that moment."""

    def fail(key: WorkKey, variants: Sequence[Variant]) -> Mapping[Variant, str]:
        raise StorageError("storage-full")

    monkeypatch.setattr(forms, "remake", fail)
    forms.prepare("pacs")
    forms.peers["pacs"].answers = [PeerRefusal("peer-context-refused")]
    forms.queue.run_due()
    assert forms.ledger.end_tries() == ()
    assert not any(row.may_be_there for row in forms.rows())


@pytest.mark.parametrize("made", [(), (ResultRole.KEY_IMAGE,)], ids=["nothing", "the-key-image"])
def test_forms_that_cannot_be_made_fail_the_work(
    forms: Bench, monkeypatch: pytest.MonkeyPatch, made: tuple[ResultRole, ...]
) -> None:
    """The model may be gone by now: then nothing can be made any more."""
    remake = forms.remake

    def less(key: WorkKey, variants: Sequence[Variant]) -> Mapping[Variant, str]:
        return remake(key, [one for one in variants if one.role in made])

    monkeypatch.setattr(forms, "remake", less)
    forms.prepare("pacs")
    forms.peers["pacs"].accepts = frozenset({SC, PDF})
    refusal = PeerRefusal("peer-context-refused")
    forms.peers["pacs"].answers = [refusal, 0 if made else refusal]
    forms.queue.run_due()
    assert forms.forms()["report:comprehensive+binary"] == "refused"
    assert forms.forms()["segmentation:binary"] == ("downgraded" if made else "refused")
    assert forms.ended() == (WorkState.FAILED, "peer-context-refused")


def test_a_report_that_refers_to_what_does_not_go_and_cannot_be_made_anew_is_refused(
    forms: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    remake = forms.remake

    def less(key: WorkKey, variants: Sequence[Variant]) -> Mapping[Variant, str]:
        return remake(key, [one for one in variants if one.role is ResultRole.KEY_IMAGE])

    monkeypatch.setattr(forms, "remake", less)
    forms.prepare("pacs")
    forms.peers["pacs"].accepts = frozenset({SC, SR})
    forms.queue.run_due()
    assert forms.forms() == {
        "segmentation:binary": "downgraded",
        "report:comprehensive+binary": "refused",
        "key-image:capture": "confirmed",
    }
    assert forms.ended() == (WorkState.FAILED, "peer-context-refused")
    (told,) = forms.events.facts("delivery.refused")
    assert told["reason"] == "peer-context-refused"


def test_a_form_that_was_given_up_is_taken_up_again_where_the_destination_takes_it_now(forms: Bench) -> None:
    """A PACS is updated while it cannot take anything: what it refused before it takes then, and the other form no more."""
    forms.prepare("pacs")
    forms.peers["pacs"].accepts = frozenset({SEG, SC, PDF})
    forms.peers["pacs"].answers = [0, 0xA700]
    forms.queue.run_due()
    assert forms.forms()["report:comprehensive+binary"] == "downgraded"
    assert forms.forms()["report:pdf"] == "waiting"
    forms.peers["pacs"].accepts = frozenset({SEG, SC, SR, TEXT})
    forms.later(4000)
    assert forms.forms() == {
        "segmentation:binary": "confirmed",
        "report:comprehensive+binary": "confirmed",
        "report:pdf": "downgraded",
    }
    assert forms.ended() == (WorkState.DONE, None)
