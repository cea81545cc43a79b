"""Where everything must run, a test that lacks something fails; elsewhere it is skipped with its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import tools

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOMNODE_REQUIRE_TOOLS", "1")


LACKING: list[Callable[[], object]] = [
    lambda: tools.require("no-such-program"),
    lambda: tools.require_file("no-such-file", setup="make setup"),
    lambda: tools.shared_data_set("no-such-set"),
]


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("lacking", LACKING)
def test_what_is_lacking_fails_where_everything_must_run(lacking: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"needs .*no-such-"):
        lacking()


@pytest.mark.parametrize("lacking", LACKING)
def test_what_is_lacking_skips_elsewhere(lacking: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DICOMNODE_REQUIRE_TOOLS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"needs .*no-such-"):
        lacking()


def test_real_files_that_are_nowhere_fail_too(strict: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOMNODE_TEST_DATA", str(tmp_path / "missing"))
    with pytest.raises(pytest.fail.Exception, match="ct_chest_philips64"):
        tools.shared_data_set("ct_chest_philips64")


def skipped(nodeid: str) -> pytest.TestReport:
    why = ("file.py", 1, "Skipped: the moon is full")
    return pytest.TestReport(nodeid, ("file.py", 1, "test"), {}, "skipped", why, "setup")


@pytest.mark.usefixtures("strict")
def test_a_skip_that_nobody_reviewed_fails_with_its_reason() -> None:
    report = skipped("tests/unit/test_study.py::test_states")
    tools.forbid_skip(report)
    assert report.failed
    assert "the moon is full" in str(report.longrepr)


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("nodeid", tools.MAY_BE_SKIPPED)
def test_a_skip_that_was_reviewed_stays_one(nodeid: str) -> None:
    path, _, test = nodeid.partition("::")
    assert test in (REPOSITORY / path).read_text("utf-8")
    report = skipped(nodeid)
    tools.forbid_skip(report)
    assert report.skipped


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("mark", tools.MARKS_MAY_BE_SKIPPED)
def test_a_skip_of_a_reviewed_mark_stays_one(mark: str) -> None:
    why = ("file.py", 1, "Skipped: no CUDA device")
    report = pytest.TestReport("a.py::test", ("a.py", 1, "test"), {mark: 1}, "skipped", why, "setup")
    tools.forbid_skip(report)
    assert report.skipped


@pytest.mark.usefixtures("strict")
def test_an_expected_failure_is_no_skip() -> None:
    report = skipped("tests/unit/test_study.py::test_states")
    report.wasxfail = "reason: known"
    tools.forbid_skip(report)
    assert report.skipped


def test_a_strangers_skip_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DICOMNODE_REQUIRE_TOOLS", raising=False)
    report = skipped("tests/unit/test_study.py::test_states")
    tools.forbid_skip(report)
    assert report.skipped
