from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from dicomnode.errors import REASONS
from dicomnode.events import Emit
from dicomnode.sections import LoggingSection
from dicomnode.service.telemetry import configure, report_fault


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """What `configure` does to the process ends with the test."""
    names = ("pynetdicom", "pydicom", "dbos", "highdicom", "alembic", "sqlalchemy", "asyncio")
    kept = {name: (logging.getLogger(name).handlers, logging.getLogger(name).propagate) for name in names}
    with warnings.catch_warnings():
        yield
    for name, (handlers, propagate) in kept.items():
        logging.getLogger(name).handlers, logging.getLogger(name).propagate = handlers, propagate


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def emitter(stream: io.StringIO, **settings: str) -> Emit:
    return configure(LoggingSection.model_validate(settings), stream=stream)


def line(stream: io.StringIO) -> dict[str, object]:
    found: dict[str, object] = json.loads(stream.getvalue().splitlines()[-1])
    return found


def test_an_event_is_one_line_of_json_where_no_terminal_is() -> None:
    stream = io.StringIO()
    emitter(stream)("study.settled", study="ab" * 16, revision=2, reason=None)
    found = line(stream)
    assert found.pop("timestamp")
    assert found == {"event": "study.settled", "level": "info", "study": "ab" * 16, "revision": 2}


def test_a_reason_brings_its_advice() -> None:
    stream = io.StringIO()
    emitter(stream)("work.refused", level="warning", reason="geometry-gap")
    assert line(stream)["advice"] == REASONS["geometry-gap"].advice
    emitter(stream)("work.refused", level="warning", reason="no-such-code")
    assert "advice" not in line(stream)


def test_what_is_not_allowed_is_withheld() -> None:
    stream = io.StringIO()
    emitter(stream)("study.settled", study="1.2.840.113619.2.55", patient="Mueller^Juergen")
    assert (line(stream)["study"], line(stream)["patient"]) == ("withheld", "withheld")
    assert "Mueller" not in stream.getvalue()


def test_a_terminal_gets_text_and_may_be_overruled() -> None:
    stream = Terminal()
    emitter(stream)("node.ready", port=11112)
    assert "node.ready" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
    stream = Terminal()
    emitter(stream, format="json")("node.ready")
    assert line(stream)["event"] == "node.ready"
    plain = io.StringIO()
    emitter(plain, format="console")("node.ready", port=11112)
    assert "\x1b[" not in plain.getvalue()
    assert "port=11112" in plain.getvalue()


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    emit = emitter(stream, level="warning")
    emit("study.settled")
    assert stream.getvalue() == ""
    emit("work.refused", level="warning")
    emit("node.fault", level="no such level")
    assert len(stream.getvalue().splitlines()) == 1


def test_libraries_are_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    emitter(io.StringIO())
    for name in ("pynetdicom", "pydicom", "dbos"):
        logging.getLogger(name).error("Mueller^Juergen")
    warnings.warn("Mueller^Juergen", stacklevel=1)
    assert capsys.readouterr() == ("", "")


def test_events_go_to_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LoggingSection())("node.ready")
    assert "node.ready" in capsys.readouterr().err


def test_a_fault_is_told_by_its_type_and_its_place_never_by_its_text() -> None:
    stream = io.StringIO()
    emit = emitter(stream)
    try:
        LoggingSection.model_validate({}).no_such_attribute  # noqa: B018
    except AttributeError as error:
        report_fault(emit, "prepare", error)
    found = line(stream)
    assert (found["event"], found["kind"], found["stage"], found["reason"]) == (
        "node.fault",
        "AttributeError",
        "prepare",
        "internal",
    )
    report_fault(emit, "prepare", ValueError("Mueller^Juergen"))
    assert line(stream)["origin"] == ""
    assert "Mueller" not in stream.getvalue()


def test_the_place_of_a_fault_is_the_way_through_our_code() -> None:
    stream = io.StringIO()
    try:
        report_fault(None, "x", object())  # type: ignore[arg-type]
    except AttributeError as error:
        report_fault(emitter(stream), "prepare", error)
    assert "telemetry.py:" in str(line(stream)["origin"])


def test_the_journal_gets_a_priority_before_each_line() -> None:
    stream = io.StringIO()
    emit = configure(LoggingSection.model_validate({"format": "json", "level": "debug"}), stream=stream, journal=True)
    for level in ("debug", "info", "warning", "error"):
        emit("node.ready", level=level)
    assert [line[:3] for line in stream.getvalue().splitlines()] == ["<7>", "<6>", "<4>", "<3>"]
    assert json.loads(stream.getvalue().splitlines()[0][3:])["event"] == "node.ready"
    plain = Terminal()
    configure(LoggingSection(), stream=plain, journal=True)("node.ready")
    assert not plain.getvalue().startswith("<")
