"""Rules judge every series that came, whatever models look at: what they order, and what `dicomnode explain` says of each."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset

from tests.journey.running_node import RunningNode
from tests.journey.studies import write_study
from tests.journey.test_export import digests, into, trail
from tests.journey.test_routing import explain, send

MR, PET = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.128"
RULES = """
[[rules]]
name = "mr"
modalities = ["MR"]
models = []
export = "research"
[[rules]]
name = "pet"
modalities = ["PT"]
models = []
export = "nuclear"
[[rules]]
name = "ct"
modalities = ["CT"]
destinations = []
"""


def all_mr(_: int, image: Dataset) -> None:
    image.SOPClassUID, image.Modality = MR, "MR"


def last_are_pet(index: int, image: Dataset) -> None:
    if index >= 38:
        image.SOPClassUID, image.Modality = PET, "PT"
        image.SeriesInstanceUID = f"{image.SeriesInstanceUID}.9"


def test_what_no_model_looks_at_is_exported_and_explained_by_its_rules(tmp_path: Path) -> None:
    """A study of MR alone, and PET that comes late to a CT: one order each, no other work, and an explanation of every series."""
    research, nuclear = tmp_path / "research", tmp_path / "nuclear"
    settings = into(research, "research") + into(nuclear, "nuclear") + RULES
    mr, _ = write_study(tmp_path / "mr", "only MR", change=all_mr)
    both, _ = write_study(tmp_path / "both", "PET/CT", change=last_are_pet)
    with RunningNode(tmp_path / "node", settings) as node:
        send(node, mr[:5], calling="MR1")
        told = node.wait_for_event("export.done", destination="research")
        alone = explain(node, told["study"])
        assert (told["sent"], len(digests(research))) == (5, 5)
        assert [(one["modality"], one["images"], one["rules"]["mr"]["taken"]) for one in alone["series"]] == [
            ("MR", 5, True)
        ]
        assert (alone["exports"], alone["works"]) == ({"research": ["mr"]}, [])
        send(node, both[:38], calling="CT1")
        (work,) = node.wait_for_work(count=1)
        node.wait_for_event("study.settled", study=work.key.study_key)
        assert not digests(nuclear)
        send(node, both[38:], calling="CT1")
        told = node.wait_for_event("export.done", destination="nuclear")
        late = explain(node, told["study"])
        assert (told["sent"], len(digests(nuclear))) == (40, 40), "the whole study"
        assert [study.revision for study in node.studies()] == [1, 1]
        assert [one.key for study in node.studies() for one in study.works] == [work.key]
        ordered = [one for one in trail(node) if one["event"] == "order-export"]
    assert {one["modality"]: one["models"] for one in late["series"]} == {
        "CT": {"stand-in": "chosen"},
        "PT": {"stand-in": "other-kind"},
    }
    reasons = {
        one["modality"]: {name: rule["because"] for name, rule in one["rules"].items()} for one in late["series"]
    }
    assert reasons == {
        "CT": {"mr": "modalities", "pet": "modalities", "ct": None},
        "PT": {"mr": "modalities", "pet": None, "ct": "modalities"},
    }
    assert [(one["destination"], one["rules"]) for one in ordered] == [("research", "mr"), ("nuclear", "pet")]
