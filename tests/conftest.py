"""Fixtures that every kind of test may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from tests import tools

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # also where a test imports the library by itself


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """No test is skipped in silence where everything must run."""
    report = yield
    tools.forbid_skip(report)
    return report


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """Function that gives the folder of a set of real files, or skips."""
    return tools.shared_data_set
