"""Rules of routing in a running node: who gets results, what is ignored, what no rule takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydicom import Dataset

from dicomnode.network.requestor import Requestor
from dicomnode.results.context import MANUFACTURER, MODEL_NAME
from dicomnode.sections import Destination
from dicomnode.study import WorkState
from tests.journey.inside import Inside
from tests.journey.recorder import Recorder
from tests.journey.running_node import RunningNode, destination
from tests.journey.studies import write_study

#: As many as make a sample of none or all of them rarer than anything else that may go wrong.
STUDIES = 16

RULES = """
[[rules]]
name = "phantoms"
action = "ignore"
where = [{attribute = "PatientID", matches = "^qa"}]

[[rules]]
name = "emergency"
calling_ae_titles = ["ER*"]
modalities = ["CT"]
destinations = ["pacs"]
priority = "stat"

[[rules]]
name = "trial"
called_ae_titles = ["TRIAL"]
where = [{attribute = "SliceThickness", at_most = 50}]
destinations = ["trial"]
priority = "research"
"""


def explain(node: RunningNode, study: str) -> dict[str, Any]:
    done = node.command("explain", study, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def send(node: RunningNode, paths: list[Path], *, calling: str, called: str = "DICOMNODE") -> None:
    peer = Requestor(Destination(name="node", ae_title=called, host="127.0.0.1", port=node.port), calling)
    assert all(outcome.status == 0 for outcome in peer.send_files(paths))


def test_results_go_where_the_rules_say_and_nowhere_else(tmp_path: Path) -> None:
    studies = {name: write_study(tmp_path / name, name, patient_id=name) for name in ("er", "trial", "qa", "other")}
    with Recorder() as pacs, Recorder() as trial:
        settings = destination("pacs", "RECORDER", pacs.port) + destination("trial", "RECORDER", trial.port) + RULES
        with RunningNode(tmp_path / "node", settings) as node:
            inside = Inside(node.tree)
            send(node, studies["er"][0], calling="ER1")
            send(node, studies["trial"][0], calling="CT1", called="TRIAL")
            send(node, studies["qa"][0], calling="ER1")
            send(node, studies["other"][0], calling="CT1")
            keys = {name: inside.study_key(who.uid("study")) for name, (_, who) in studies.items()}
            node.wait_for_event("study.not-routed", study=keys["qa"], rules="phantoms")
            node.wait_for_event("study.not-routed", study=keys["other"])
            works = {work.key.study_key: work for work in node.wait_for_work(count=2)}
            told = {name: explain(node, key[:12]) for name, key in keys.items()}
            by_uid = explain(node, studies["er"][1].uid("study"))
            log = node.log()
    assert {key: work.state for key, work in works.items()} == dict.fromkeys(
        (keys["er"], keys["trial"]), WorkState.DONE
    )
    sent = {key: {one.destination for one in work.deliveries} for key, work in works.items()}
    assert sent == {keys["er"]: {"pacs"}, keys["trial"]: {"trial"}}
    assert works[keys["er"]].facts["rules"] == "emergency"
    assert len(pacs.digests()) == len(trial.digests()) == len(works[keys["er"]].deliveries) > 0
    assert not set(pacs.digests()) & set(trial.digests())
    assert told["er"] == by_uid
    assert told["er"]["models"] == {
        "stand-in": {"rules": ["emergency"], "destinations": ["pacs"], "refused": None},
    }
    assert told["er"]["series"][0]["models"] == {"stand-in": "chosen"}
    assert told["er"]["works"][0]["state"] == "done"
    reasons = {
        name: {rule: one["because"] for rule, one in found["series"][0]["rules"].items()}
        for name, found in told.items()
    }
    assert reasons == {
        "er": {"phantoms": "where PatientID", "emergency": None, "trial": "called_ae_titles"},
        "trial": {"phantoms": "where PatientID", "emergency": "calling_ae_titles", "trial": None},
        "qa": {"phantoms": None, "emergency": "ignored", "trial": "ignored"},
        "other": {"phantoms": "where PatientID", "emergency": "calling_ae_titles", "trial": "called_ae_titles"},
    }
    assert told["qa"]["models"] == told["other"]["models"] == {}
    for _, who in studies.values():
        assert who.uid("study") not in log


def test_what_a_node_or_another_ai_made_is_kept_and_not_worked_on(tmp_path: Path) -> None:
    def by_ai(_: int, image: Dataset) -> None:
        image.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        image.DerivationDescription = "Denoised by deep learning"

    def by_node(_: int, image: Dataset) -> None:
        image.Manufacturer, image.ManufacturerModelName = MANUFACTURER, MODEL_NAME

    def by_many(_: int, image: Dataset) -> None:
        step, purpose = Dataset(), Dataset()
        purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning = "109102", "DCM", "Processing Equipment"
        step.Manufacturer, step.PurposeOfReferenceCodeSequence = "Somebody", [purpose]
        image.ContributingEquipmentSequence = [step] * 8

    with Recorder() as pacs, RunningNode(tmp_path / "node", destination("pacs", "RECORDER", pacs.port)) as node:
        keys = {}
        for name, change in (("ai-output", by_ai), ("own-output", by_node), ("too-many-hops", by_many)):
            paths, who = write_study(tmp_path / name, name, change=change)
            send(node, paths, calling="AI")
            keys[Inside(node.tree).study_key(who.uid("study"))] = name
        works = node.wait_for_work(count=3)
        assert {work.key.study_key: work.reason for work in works} == keys
        assert {work.state for work in works} == {WorkState.REFUSED}
        assert explain(node, works[0].key.study_key)["models"]["stand-in"]["refused"] == works[0].reason
        node.terminate()
    assert not pacs.digests()


def test_of_a_rule_s_studies_the_sampled_ones_alone_are_worked_on(tmp_path: Path) -> None:
    sampled = '[[rules]]\nname = "some"\nsample_percent = 50\ndestinations = ["pacs"]\n'
    with (
        Recorder() as pacs,
        RunningNode(tmp_path / "node", destination("pacs", "RECORDER", pacs.port) + sampled) as node,
    ):
        studies = [write_study(tmp_path / f"study{number}", f"sampled-{number}") for number in range(STUDIES)]
        send(node, [path for paths, _ in studies for path in paths], calling="CT1")
        keys = {Inside(node.tree).study_key(who.uid("study")) for _, who in studies}
        for key in keys:
            node.wait_for_event("study.settled", study=key)
        told = [event["study"] for event in node.events if event.get("event") == "study.not-routed"]
        taken = keys - set(told)
        assert 0 < len(taken) < STUDIES, f"one in {2 ** (STUDIES - 1)} runs may take all or none"
        works = node.wait_for_work(count=len(taken))
        whys = [explain(node, key)["series"][0]["rules"]["some"]["because"] for key in (min(taken), told[0])]
        node.terminate()
    assert {work.key.study_key for work in works if work.state is WorkState.DONE} == taken
    assert len(told) == len(set(told)), "each is told once"
    assert whys == [None, "sample_percent"]
    assert len(pacs.studies) == sum(len(work.deliveries) for work in works)


def test_results_that_come_too_late_stay_here(tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "late")
    with Recorder() as pacs:
        settings = destination("pacs", "RECORDER", pacs.port) + "[delivery]\nhold_after_seconds = 0.5\n"
        with RunningNode(tmp_path / "node", settings) as node:  # the quiet time alone is longer
            send(node, paths, calling="CT1")
            node.wait_for_event("work.held", reason="result-late")
            (work,) = node.wait_for_work(ended=lambda one: one.state is WorkState.HELD)
            assert work.deliveries
            node.kill()
            node.start()
            node.terminate()
            (after,) = [one for study in node.studies() for one in study.works]
            assert after.state is WorkState.HELD
            assert not pacs.digests()
            node.start()
            assert node.command("release", work.key.study_key[:12]).returncode == 0
            node.wait_for_event("order.done", kind="release", works=1)
            (done,) = node.wait_for_work()
            assert done.state is WorkState.DONE
            node.terminate()
            assert "work.released" not in [event["event"] for event in node.events], "the order alone let it go"
    assert len(pacs.digests()) == len(done.deliveries)


def test_an_old_study_waits_until_somebody_releases_it(tmp_path: Path) -> None:
    """A migration of an archive is no work; what is wanted of it all the same is ordered."""

    def old(_: int, image: Dataset) -> None:
        image.StudyDate = image.SeriesDate = image.AcquisitionDate = "20200301"

    paths, _ = write_study(tmp_path / "old", "old", change=old)
    with Recorder() as pacs:
        settings = destination("pacs", "RECORDER", pacs.port) + "[flood_guard]\nmaximum_age_days = 365\n"
        with RunningNode(tmp_path / "node", settings) as node:
            send(node, paths, calling="CT1")
            told = node.wait_for_event("study.old")
            node.wait_for_event("study.settled")
            assert told["days"] > 365
            assert [study.works for study in node.studies()] == [()]
            assert explain(node, told["study"])["old_days"] == told["days"]
            assert node.command("release", told["study"][:12]).returncode == 0
            (done,) = node.wait_for_work()
            node.terminate()
    assert done.state is WorkState.DONE
    assert len(pacs.digests()) == len(done.deliveries) > 0
