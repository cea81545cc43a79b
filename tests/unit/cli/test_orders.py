from __future__ import annotations

import json
import re
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli.main import app
from dicomnode.errors import ConfigError
from dicomnode.service.rooms import now
from dicomnode.storage import audit
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rows import CircuitRow, OrderRow, ResultRow
from dicomnode.study import CircuitState, DeliveryState, Mark, ResultRole, WorkKey, WorkState
from tests.unit.workflow.samples import row

STUDY = "ab" * 16
WORK = WorkKey(study_key=STUDY, revision=1, model="tiny")
TOML = """
[[destinations]]
name = "pacs"
ae_title = "PACS"
host = "127.0.0.1"
port = 104
"""


@pytest.fixture
def place(tmp_path: Path) -> list[str]:
    """Options of a state with a study of which one object was refused and one waits."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (tmp_path / "dicomnode.toml").write_text(TOML)
    with Ledger.open(state / "ledger.sqlite") as ledger:
        ledger.record_instances([row(0)])
        ledger.open_revision(STUDY, "d", now())
        ledger.create_work(WORK, "d", now())
        results = [
            ResultRow(result_id=name * 32, role=role, sop_class_uid="1.2", digest="e" * 64, length=9)
            for name, role in (("a", ResultRole.SEGMENTATION), ("b", ResultRole.REPORT), ("c", ResultRole.KEY_IMAGE))
        ]
        ledger.record_results(WORK, results, ["pacs"], now())
        for step in (
            WorkState.PREPARING,
            WorkState.INFERRING,
            WorkState.ENCODING,
            WorkState.READY,
            WorkState.DELIVERING,
        ):
            ledger.set_work_state(WORK, step, at=now())
        told = {"at": now(), "reason": "peer-refused-object"}
        ledger.record_delivery("a" * 32, "pacs", state=DeliveryState.REFUSED, status=0xC000, **told)
        ledger.record_delivery("c" * 32, "pacs", state=DeliveryState.CONFIRMED, status=0xB000, at=now(), reason=None)
    return ["--state", str(state), "--config", str(tmp_path / "dicomnode.toml")]


def run(*words: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, words)
    if isinstance(result.exception, ConfigError):
        return 2, result.exception.code
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def ledger_of(place: list[str]) -> Ledger:
    return Ledger.open(Path(place[1]) / "ledger.sqlite")


def test_status_is_for_people_and_for_programs(place: list[str]) -> None:
    code, text = run("status", *place)
    assert code == 1
    for part in (
        "pacs (PACS@127.0.0.1:104): circuit closed",
        "1 objects of 1 works wait, the oldest since 20",
        "1 confirmed, 1 dead letters, 0 cancelled",
        f"dead letter {STUDY[:16]} tiny, revision 1: segmentation to pacs: peer-refused-object, the peer said 0xC000, 1 tries",
        "peer-refused-object: the destination refused the object",
    ):
        assert part in text
    code, text = run("status", "--json", *place)
    (pacs,) = json.loads(text)["destinations"]
    assert (code, pacs["circuit"], pacs["refused"], pacs["waiting_objects"]) == (1, "closed", 1, 1)


def test_sources_that_are_asked_are_told_too(place: list[str]) -> None:
    sources = TOML.replace("destinations", "sources")
    Path(place[3]).write_text(TOML + sources + sources.replace('"pacs"', '"second"'))
    with ledger_of(place) as ledger:
        moment = now()
        ledger.put_circuit(
            CircuitRow(
                destination="source.second", state=CircuitState.OPEN, reason="timeout", since=moment, due_at=moment
            )
        )
    _, text = run("status", *place)
    assert "source pacs (PACS@127.0.0.1:104): circuit closed" in text
    assert "source second (PACS@127.0.0.1:104): circuit open: timeout; asked again" in text
    _, text = run("status", "--json", *place)
    assert [one["circuit"] for one in json.loads(text)["sources"]] == ["closed", "open"]


def test_an_old_study_that_nothing_was_made_of_can_be_released(place: list[str]) -> None:
    with ledger_of(place) as ledger:
        ledger.record_instances([row(0, study_key="cd" * 16)])
        ledger.open_revision("cd" * 16, "d", now())
    code, _ = run("release", "cdcd", *place)
    assert code == 0
    with ledger_of(place) as ledger:
        assert [(one.verb, one.study_key) for one in ledger.orders()] == [("release", "cd" * 16)]
    assert run("retry", "cdcd", *place) == (2, "order-empty")


def test_a_destination_that_is_left_alone_and_one_that_is_gone(place: list[str]) -> None:
    (Path(place[3])).write_text(TOML.replace("pacs", "other"))
    with ledger_of(place) as ledger:
        ledger.put_circuit(
            CircuitRow(
                destination="other",
                state=CircuitState.OPEN,
                reason="timeout",
                since=now(),
                due_at=now(),
            )
        )
    code, text = run("status", *place)
    assert code == 1
    assert "other (PACS@127.0.0.1:104): circuit open since 20" in text
    assert ": timeout; asked again 20" in text
    assert "pacs (no longer configured)" in text


def test_an_order_stands_once_and_each_time_in_the_audit_trail(place: list[str]) -> None:
    for _ in range(2):
        code, text = run("retry", STUDY[:6], "--destination", "pacs", *place)
        assert (code, "ordered retry of tiny, revision 1 to pacs: now delivering" in text) == (0, True)
    assert run("cancel", STUDY, "--model", "tiny", "--yes", *place)[0] == 0
    with ledger_of(place) as ledger:
        found = {(one.verb, one.study_key, one.model, one.destination) for one in ledger.orders()}
    assert found == {("retry", STUDY, "", "pacs"), ("cancel", STUDY, "tiny", "")}
    assert f"ordered cancel of {STUDY[:16]}" in run("status", *place)[1]
    lines = [json.loads(line) for line in (Path(place[1]) / "audit.jsonl").read_text().splitlines()]
    assert [one["event"] for one in lines] == ["order-retry", "order-retry", "order-cancel"]
    assert (lines[0]["destination"], lines[2]["model"]) == ("pacs", "tiny")
    assert "destination" not in lines[2]
    audit.verify(Path(place[1]))


def test_cancel_asks_first(place: list[str]) -> None:
    result = CliRunner().invoke(app, ["cancel", STUDY, *place], input="n\n")
    assert result.exit_code == 1
    with ledger_of(place) as ledger:
        assert ledger.orders() == ()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("release", STUDY), "order-empty"),
        (("retry", STUDY, "--model", "other"), "order-empty"),
        (("retry", "cd"), "study-not-found"),
        (("reprocess", "cd"), "study-not-found"),
    ],
)
def test_what_cannot_be_ordered_is_said_and_leaves_nothing(place: list[str], words: tuple[str, ...], code: str) -> None:
    assert run(*words, *place) == (2, code)
    with ledger_of(place) as ledger:
        assert ledger.orders() == ()
    assert not (Path(place[1]) / "audit.jsonl").exists()


def test_a_state_without_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    place = ["--state", str(tmp_path)]
    assert run("retry", "ab", *place) == (2, "study-not-found")
    assert run("status", "--json", *place)[0] == 0
    assert run("status", "--state", str(tmp_path / "none")) == (2, "state-not-found")


def test_an_order_that_is_there_is_carried_out_under_the_same_name(place: list[str]) -> None:
    assert run("reprocess", STUDY, *place)[0] == 0
    with ledger_of(place) as ledger:
        (order,) = ledger.orders()
        assert ledger.end_order(order)
        assert not ledger.end_order(order)
        assert order == OrderRow(verb="reprocess", study_key=STUDY, at=order.at)


def test_two_programs_write_one_trail(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=lambda n=n: [audit.append(tmp_path, "order-retry", now(), n=n) for _ in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit.verify(tmp_path)
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 80


def test_an_export_is_ordered_once_and_audited_each_time(place: list[str]) -> None:
    state, config = Path(place[1]), Path(place[3])
    config.write_text(TOML + '[[exports]]\nname = "trial"\nproject = "p"\ninto = "/nowhere"\n')
    for _ in range(2):
        status, text = run("export", STUDY[:8], "--to", "trial", *place)
        assert status == 0, text
        assert f"ordered export of {STUDY[:16]} to trial" in text
    with Ledger.open(state / "ledger.sqlite") as ledger:
        (order,) = ledger.orders()
    assert (order.verb, order.study_key, order.destination) == ("export", STUDY, "trial")
    lines = [json.loads(line) for line in (state / "audit.jsonl").read_text().splitlines()]
    assert [(one["event"], one["destination"]) for one in lines] == [("order-export", "trial")] * 2
    assert f"ordered export of {STUDY[:16]} to trial; the node does so when it runs\n" in run("status", *place)[1]
    hour = (datetime.now().astimezone() + timedelta(hours=3)).hour
    with config.open("a") as file:
        file.write(f'hours = ["{hour:02}:00-{hour:02}:30"]\n')
    text = run("status", *place)[1]
    assert re.search(r"to trial; .*, outside its hours, in (2\.[0-9]|3\.0) h unless STAT", text), text
    (told,) = json.loads(run("status", "--json", *place)[1])["orders"]
    assert (told["verb"], told["destination"]) == ("export", "trial")
    assert 7000 < told["sent_in_seconds"] <= 3 * 3600


@pytest.mark.parametrize(("minutes", "status"), [(49, 0), (51, 1)])
def test_an_export_whose_tries_fail_says_so_and_wants_somebody_in_the_end(
    quiet: list[str], minutes: int, status: int
) -> None:
    """After as long as results are late."""
    Path(quiet[3]).write_text(TOML + '[[exports]]\nname = "trial"\nproject = "p"\ninto = "/nowhere"\n')
    moment = now()
    order = OrderRow(verb="export", study_key=STUDY, destination="trial", at=moment)
    with ledger_of(quiet) as ledger:
        ledger.give_order(order)
        assert "tries fail" not in run("status", *quiet)[1]
        ledger.mark_order(order, moment - timedelta(minutes=minutes))
    code, text = run("status", *quiet)
    assert (code, "to trial; the node does so when it runs; its tries fail since 20" in text) == (status, True)
    (told,) = json.loads(run("status", "--json", *quiet)[1])["orders"]
    assert (told["late"], told["failed_since"] is None) == (bool(status), False)


@pytest.mark.parametrize(
    ("study", "to", "code"), [(STUDY, "pacs", "destination-not-found"), ("0" * 32, "trial", "study-not-found")]
)
def test_an_export_that_cannot_be_is_refused(place: list[str], study: str, to: str, code: str) -> None:
    Path(place[3]).write_text(TOML + '[[exports]]\nname = "trial"\nproject = "p"\ninto = "/nowhere"\n')
    result = CliRunner().invoke(app, ["export", study, "--to", to, *place])
    assert isinstance(result.exception, ConfigError) or result.exit_code == 2
    assert code in str(result.exception) + result.output
    assert not (Path(place[1]) / "audit.jsonl").exists()


FLOOD = tuple(f"{number:032x}" for number in range(3))


@pytest.fixture
def quiet(tmp_path: Path) -> list[str]:
    """Options of a state in which nothing wants anybody: two studies, one work that is done."""
    state = tmp_path / "quiet"
    state.mkdir(mode=0o700)
    (tmp_path / "quiet.toml").write_text(TOML)
    with Ledger.open(state / "ledger.sqlite") as ledger:
        ledger.record_instances([row(0)])
        ledger.open_revision(STUDY, "d", now())
        ledger.create_work(WORK, "d", now())
        result = ResultRow(result_id="a" * 32, role=ResultRole.REPORT, sop_class_uid="1.2", digest="e" * 64, length=9)
        ledger.record_results(WORK, [result], ["pacs"], now())
        for step in (WorkState.PREPARING, WorkState.READY):
            ledger.set_work_state(WORK, step, at=now())
    return ["--state", str(state), "--config", str(tmp_path / "quiet.toml")]


def test_what_is_held_is_told_apart_from_what_waits_and_wants_somebody(quiet: list[str]) -> None:
    code, text = run("status", *quiet)
    assert (code, "1 objects of 1 works wait" in text, "held" in text) == (0, True, False)
    with ledger_of(quiet) as ledger:
        ledger.set_work_state(WORK, WorkState.HELD, at=now(), reason="result-late")
    code, text = run("status", *quiet)
    assert code == 1
    assert "0 objects of 0 works wait; 1 held, 0 confirmed" in text
    assert f"held {STUDY[:16]} tiny, revision 1, made 20" in text
    assert ": result-late" in text
    assert "result-late: the results came too late to be of use" in text
    told = json.loads(run("status", "--json", *quiet)[1])
    assert (told["held"][0]["study"], told["destinations"][0]["held_objects"]) == (STUDY, 1)
    with ledger_of(quiet) as ledger:
        ledger.set_work_state(WORK, WorkState.CANCELLED, at=now(), reason="cancelled")
    assert run("status", *quiet)[0] == 0


def test_what_waits_for_too_long_while_its_circuit_is_closed_wants_somebody(quiet: list[str]) -> None:
    with ledger_of(quiet) as ledger:
        ledger.set_work_state(WORK, WorkState.DELIVERING, at=now())
        assert run("status", *quiet)[0] == 0
        other, since = WorkKey(study_key=STUDY, revision=1, model="other"), now() - timedelta(hours=1)
        result = ResultRow(result_id="f" * 32, role=ResultRole.REPORT, sop_class_uid="1.2", digest="e" * 64, length=9)
        ledger.create_work(other, "d", since)
        ledger.record_results(other, [result], ["pacs"], since)
        for step in (WorkState.PREPARING, WorkState.READY, WorkState.DELIVERING):
            ledger.set_work_state(other, step, at=since)
        code, text = run("status", *quiet)
        assert code == 1
        assert f"late {STUDY[:16]} other, revision 1: 1 objects wait for pacs since 20" in text
        (late,) = json.loads(run("status", "--json", *quiet)[1])["late"]
        assert (late["study"], late["destination"], late["objects"], late["reason"]) == (STUDY, "pacs", 1, None)
        clock = Path(quiet[1]) / "clock.json"  # of a node whose wall clock jumped ahead, and that has not believed it
        clock.write_text(json.dumps({"seen": now().timestamp(), "jumps": [[86_400.0, 60.0, False]]}))
        assert run("status", *quiet)[0] == 0
        clock.unlink()
        shut = [f"{now().astimezone() + timedelta(hours=later):%H:%M}" for later in (10, 11)]
        Path(quiet[3]).write_text(f'{TOML}hours = ["{shut[0]}-{shut[1]}"]')
        ledger.rank_study(STUDY, "ct", "routine")
        assert run("status", *quiet)[0] == 0
        ledger.rank_study(STUDY, "emergency", "stat")
        assert run("status", *quiet)[0] == 1, "it waits for no hours"
        Path(quiet[3]).write_text(TOML)
        told = {"state": DeliveryState.WAITING, "status": 0xA700, "reason": "peer-out-of-resources", "at": now()}
        ledger.record_delivery("f" * 32, "pacs", **told)
        assert "which is not left alone: peer-out-of-resources" in run("status", *quiet)[1]
        ledger.record_delivery("f" * 32, "pacs", state=DeliveryState.CONFIRMED, status=0, at=now(), reason=None)
        assert run("status", *quiet)[0] == 0


@pytest.mark.parametrize("state", [WorkState.QUEUED, WorkState.PREPARING])
def test_a_work_that_goes_no_further_wants_somebody(quiet: list[str], state: WorkState) -> None:
    other, since = WorkKey(study_key=STUDY, revision=1, model="other"), now() - timedelta(hours=14)
    with ledger_of(quiet) as ledger:
        ledger.set_work_state(WORK, WorkState.DELIVERING, at=now())
        assert run("status", *quiet)[0] == 0
        ledger.create_work(other, "d", since)
        ledger.set_work_state(WORK, WorkState.CANCELLED, at=now())
        if state is not WorkState.QUEUED:
            ledger.set_work_state(other, state, at=since)
        code, text = run("status", *quiet)
        assert code == 1
        (late,) = json.loads(run("status", "--json", *quiet)[1])["late"]
        assert (late["study"], late["model"], late["state"], late["destination"]) == (STUDY, "other", state, None)
        said = "1 works wait for their turn, the first" if state is WorkState.QUEUED else f"other, revision 1: {state}"
        assert f"{said} since {late['since']}" in text
        clock = Path(quiet[1]) / "clock.json"  # of a node whose wall clock jumped ahead, and that has not believed it
        clock.write_text(json.dumps({"seen": now().timestamp(), "jumps": [[86_400.0, 60.0, False]]}))
        assert run("status", *quiet)[0] == 0
        clock.unlink()
        ledger.set_work_state(other, WorkState.PREPARING, at=now())  # it goes on, or is tried again
        assert run("status", *quiet)[0] == 0


def test_a_thread_that_hangs_wants_somebody(quiet: list[str]) -> None:
    file = Path(quiet[1]) / "stalls.json"
    file.write_text('[{"thread": "pledges", "destination": "pacs", "since": "2027-01-15T08:00:00+00:00"}]')
    code, text = run("status", *quiet)
    assert code == 1
    assert "stalled thread pledges, destination pacs has hung since 2027-01-15T08:00:00+00:00" in text
    assert "thread-stalled: a thread of the node hangs" in text
    (stalled,) = json.loads(run("status", "--json", *quiet)[1])["stalled"]
    assert stalled == {"thread": "pledges", "destination": "pacs", "since": "2027-01-15T08:00:00+00:00"}
    file.unlink()
    assert run("status", *quiet)[0] == 0


def test_a_work_that_failed_wants_somebody_until_it_is_made_anew_or_cancelled(quiet: list[str]) -> None:
    other = WorkKey(study_key=STUDY, revision=1, model="other")
    with ledger_of(quiet) as ledger:
        ledger.create_work(other, "d", now())
        ledger.set_work_state(other, WorkState.FAILED, at=now(), reason="timeout")
    code, text = run("status", *quiet)
    assert code == 1
    assert f"failed {STUDY[:16]} other, revision 1, made 20" in text
    assert "timeout: it did not end in time" in text
    with ledger_of(quiet) as ledger:
        ledger.put_mark(STUDY, Mark.CANCELLED, 1, now())
        assert run("status", *quiet)[0] == 0
        ledger.put_mark(STUDY, Mark.RELEASED, 1, now())
        assert run("status", *quiet)[0] == 1
        ledger.open_revision(STUDY, "newer", now())
    assert run("status", *quiet)[0] == 0


@pytest.mark.parametrize(
    ("mark", "code", "said"),
    [
        (Mark.FLOOD, 1, "3 studies since 20"),
        (Mark.OLD, 0, "older than flood_guard.maximum_age_days"),
        (Mark.CANCELLED, 0, "cancelled; nothing is made of each"),
        (Mark.AGED, 0, ""),
    ],
)
def test_studies_that_nothing_is_made_of_are_counted(quiet: list[str], mark: Mark, code: int, said: str) -> None:
    with ledger_of(quiet) as ledger:
        for study in FLOOD:
            ledger.put_mark(study, mark, 1, now())
    found, text = run("status", *quiet)
    assert (found, said in text) == (code, True)
    told = json.loads(run("status", "--json", *quiet)[1])
    assert told["stopped"] == {"cancelled": 0, "flood": 0, "old": 0} | ({mark.value: 3} if said else {})


@pytest.mark.parametrize("words", [("release", "--flood"), ("cancel", "--flood", "--yes")])
def test_a_whole_flood_is_let_go_or_cancelled_with_one_command(quiet: list[str], words: tuple[str, ...]) -> None:
    assert run(*words, *quiet) == (2, "order-empty")
    with ledger_of(quiet) as ledger:
        ledger.put_mark(STUDY, Mark.OLD, 1, now())
        for study in FLOOD:
            ledger.put_mark(study, Mark.FLOOD, 1, now())
    code, text = run(*words, *quiet)
    assert (code, f"ordered {words[0]} of 3 studies" in text) == (0, True)
    with ledger_of(quiet) as ledger:
        assert [(one.verb, one.study_key) for one in ledger.orders()] == [(words[0], study) for study in FLOOD]
    trail = (Path(quiet[1]) / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in trail] == [f"order-{words[0]}"] * 3


@pytest.mark.parametrize(
    "words",
    [
        ("release",),
        ("cancel", "--yes"),
        ("release", STUDY, "--flood"),
        ("release", "--flood", "--model", "tiny"),
        ("cancel", "--flood", "--destination", "pacs", "--yes"),
    ],
)
def test_a_study_or_the_flood_is_named_and_never_both_or_neither(quiet: list[str], words: tuple[str, ...]) -> None:
    with ledger_of(quiet) as ledger:
        ledger.put_mark(FLOOD[0], Mark.FLOOD, 1, now())
    code, text = run(*words, *quiet)
    assert (code, "name a STUDY, or --flood alone" in text) == (2, True)
    with ledger_of(quiet) as ledger:
        assert ledger.orders() == ()


def test_an_empty_name_is_no_flood(quiet: list[str]) -> None:
    with ledger_of(quiet) as ledger:
        ledger.record_instances([row(1, study_key="cd" * 16)])
        ledger.put_mark(FLOOD[0], Mark.FLOOD, 1, now())
    assert run("cancel", "", "--yes", *quiet) == (2, "study-not-found")
    with ledger_of(quiet) as ledger:
        assert ledger.orders() == ()


@pytest.mark.parametrize("words", [("retry",), ("cancel", "--yes"), ("reprocess",), ("release",)])
def test_an_empty_name_is_not_the_only_study(place: list[str], words: tuple[str, ...]) -> None:
    """As of a script whose variable is not set."""
    with ledger_of(place) as ledger:
        assert len(ledger.all_study_keys()) == 1
    assert run(words[0], "", *words[1:], *place) == (2, "study-not-found")
    with ledger_of(place) as ledger:
        assert ledger.orders() == ()


def test_a_study_that_still_arrives_can_be_cancelled_once(quiet: list[str]) -> None:
    with ledger_of(quiet) as ledger:
        ledger.record_instances([row(1, study_key="cd" * 16)])
    code, text = run("cancel", "cdcd", "--yes", *quiet)
    assert (code, "ordered cancel of cdcd, of which nothing is under way" in text) == (0, True)
    with ledger_of(quiet) as ledger:
        (order,) = ledger.orders()
        ledger.end_order(order)
        ledger.put_mark("cd" * 16, Mark.CANCELLED, 0, now())
    assert run("cancel", "cdcd", "--yes", *quiet) == (2, "order-empty")
    assert run("release", "cdcd", *quiet)[0] == 0
