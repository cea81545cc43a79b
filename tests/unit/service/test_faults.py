"""Exceptions that nobody caught are told in the house's words, in the node, its receivers and the command line."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import dicomnode
from dicomnode.service.faults import OURS, caught

SECRET = "Planted^Ludmilla"
PACKAGE = Path(dicomnode.__file__).parent


class PlantedError(Exception):
    """What a library raises."""


def fail() -> None:
    raise PlantedError(SECRET)


def run_in_thread(name: str | None) -> None:
    thread = threading.Thread(target=fail, name=name)
    thread.start()
    thread.join()


def test_a_thread_is_told_by_our_name_and_any_other_as_foreign() -> None:
    told: list[tuple[str, str]] = []
    hook = threading.excepthook
    with caught(lambda where, error: told.append((where, type(error).__name__))):
        run_in_thread("indexer")
        run_in_thread(SECRET)
        run_in_thread(None)
        leaving = threading.Thread(target=sys.exit, name="pulse")
        leaving.start()
        leaving.join()
    assert told == [("indexer", "PlantedError"), ("foreign", "PlantedError"), ("foreign", "PlantedError")]
    assert threading.excepthook is hook


def test_the_other_hooks_and_what_has_no_thread() -> None:
    told: list[tuple[str, str]] = []

    class Unfinished:
        def __del__(self) -> None:
            fail()

    with caught(lambda where, error: told.append((where, type(error).__name__))):
        sys.excepthook(PlantedError, PlantedError(SECRET), None)
        Unfinished()
        threading.excepthook(threading.ExceptHookArgs((PlantedError, None, None, None)))
    assert told == [("main", "PlantedError"), ("unraisable", "PlantedError"), ("foreign", "PlantedError")]


def test_a_teller_that_fails_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with caught(lambda _where, _error: fail()):
        run_in_thread("log")
    assert capfd.readouterr().err == ""


def test_the_names_are_those_that_the_house_gives() -> None:
    sources = "\n".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    given = set(re.findall(r'Thread\([^\n]*name="([a-z]+)"', sources))
    given |= set(re.findall(r'timer\.name = True, "([a-z]+)"', sources))
    given |= set(re.findall(r'emit: Emit,\s+name: str = "([a-z]+)"', sources))  # of whoever does chores
    given |= set(re.findall(r'Housekeeping[(,][^\n]*name="([a-z]+)"', sources))
    assert given == set(OURS)


PROGRAM = """
import logging, sys, threading, io
from dicomnode.sections import LoggingSection
from dicomnode.service.faults import caught
from dicomnode.service.telemetry import configure, report_fault
from functools import partial
import dicomnode.network.requestor
emit = configure(LoggingSection(format="json"))
for name in ("pynetdicom", "pynetdicom.dul", "pynetdicom.fsm", "pynetdicom.assoc", "pydicom", "pydicom.util", "a.library"):
    try:
        raise ValueError("Planted^Ludmilla")
    except ValueError as error:
        logging.getLogger(name).exception(error)
        logging.getLogger(name).critical("Planted^Ludmilla")
def fail():
    raise ValueError("Planted^Ludmilla")
with caught(partial(report_fault, emit)):
    thread = threading.Thread(target=fail, name="Planted^Ludmilla"); thread.start(); thread.join()
emit.end()
"""


def test_one_coded_line_and_no_text_of_a_library_reaches_standard_error() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    (line,) = done.stderr.splitlines()
    event = json.loads(line)
    assert (event["event"], event["kind"], event["stage"], event["reason"]) == (
        "node.fault",
        "ValueError",
        "foreign",
        "internal",
    )
    assert SECRET not in done.stderr + done.stdout


def test_loggers_of_a_command_are_silent_too() -> None:
    head, rest = PROGRAM.split("emit = configure")
    program = head + rest[rest.index("for name in") : rest.index("def fail")].replace(', "a.library"', "")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""


def test_a_receiver_tells_the_node() -> None:
    from dicomnode.service import receiver

    class Told:
        def __init__(self) -> None:
            self.facts: dict[str, object] = {}

        def _emit(self, name: str, /, **facts: object) -> None:
            self.facts = {"name": name, **facts}

    told = Told()
    with caught(lambda where, error: receiver._report(told, where, error)):  # type: ignore[arg-type]
        run_in_thread("pulse")
    assert told.facts == {
        "name": "receiver.fault",
        "level": "error",
        "reason": "internal",
        "kind": "PlantedError",
        "stage": "pulse",
    }


SERVE = """
import sys, threading, time
import dicomnode.service.foreground
from dicomnode.cli.main import main
failing = sys.argv[2:]
def run(tree, environment):
    threading.Thread(target=time.sleep, args=(60,)).start()
    print("stopped", flush=True)
    if failing:
        from dicomnode.errors import StorageError
        raise StorageError("storage-full")
    return 0
dicomnode.service.foreground.run = run
sys.argv = ["dicomnode", "serve", "--state", sys.argv[1]]
main()
"""


def test_a_library_s_thread_does_not_hold_the_process_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "stopped\n")


def test_a_start_that_fails_waits_for_nothing_that_it_began(tmp_path: Path) -> None:
    """A workflow that was taken up may wait for space on its disk, or run for half an hour."""
    command = [sys.executable, "-c", SERVE, str(tmp_path), "fails"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error storage-full: ")


CHECK = """
import sys, threading
import dicomnode.service.check
from dicomnode.cli.main import main
def examine(tree, environment):
    def fail():
        raise ValueError("Planted^Ludmilla")
    thread = threading.Thread(target=fail); thread.start(); thread.join()
    return dicomnode.service.check.Report()
dicomnode.service.check.examine = examine
sys.argv = ["dicomnode", "check", "--state", sys.argv[1]]
main()
"""


def test_a_command_tells_a_fault_of_a_thread_in_one_coded_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHECK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr.startswith("error internal: ")
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr
    assert io.StringIO(done.stderr).readline().rstrip().endswith("(ValueError at )")
