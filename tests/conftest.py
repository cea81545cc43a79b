"""Fixtures that every kind of test may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import pace, tools

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # also where a test imports the library by itself
# No property is a timed test: a crowded machine takes its time for an example, and for making one.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers begin with what takes longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=pace.rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Processes of whole nodes are not measured."""
    with nullcontext() if pace.is_counted(item) else pace.uncounted():
        return (yield)


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


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ledger is that new ones are copies of, once it was needed."""
    return tmp_path_factory.mktemp("empty") / "ledger.sqlite"


@pytest.fixture(autouse=True)
def ledgers(empty_ledger: Path) -> Iterator[None]:
    """New ledgers are copied, not made, and none waits for its disk."""
    with pace.cheap_ledgers(empty_ledger):
        yield
