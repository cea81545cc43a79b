"""How the suite keeps its pace: of which tests the children are measured, what workers begin with, and which dear cases wait.

What runs in the tests' own processes is measured for next to nothing, but each process more compiles with probes what others
read compiled: seconds for a node. Where whole nodes run that buys nothing: what they run is held by the tests of each room,
and a node that ends by kill -9 writes no measurements anyway.

A table of many dear cases has a few of them run each time, and all under `make prove-cases`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

import dicomnode

#: Folders and files of `tests` whose children are not measured.
UNCOUNTED: Final = (
    "journey/",
    "viewer/",
    "properties/test_out_and_back.py",
    "security/test_costly_data_sets.py",
    "unit/workflow/test_kill_of_deliveries.py",
)
#: Folders whose files take long: begun first, so that no worker has a long one left when the others are done.
FIRST: Final = ("journey", "properties", "security", "conformance", "contracts")

_T = TypeVar("_T")
#: Whether every case of a dear table is run.
_EVERY_CASE: Final = os.environ.get("DICOMNODE_EVERY_CASE") == "1"


def cases(few: Iterable[_T], others: Iterable[_T]) -> list[_T]:
    """Cases of a dear table: a few, each of which is there for something of its own, and the others where all are run."""
    return [*few, *others] if _EVERY_CASE else list(few)


def rounds(few: int, many: int) -> int:
    """How often something dear is tried: many times where every case is run."""
    return many if _EVERY_CASE else few


def file_of(item: pytest.Item) -> str:
    """Path of a test's file below `tests`."""
    return item.path.relative_to(item.config.rootpath / "tests").as_posix()


def is_counted(item: pytest.Item) -> bool:
    """Whether what a test's children run is measured."""
    return not file_of(item).startswith(UNCOUNTED)


def rank(item: pytest.Item) -> int:
    """The smaller, the earlier: files of one rank keep their order."""
    folder = file_of(item).split("/", 1)[0]
    return FIRST.index(folder) if folder in FIRST else len(FIRST)


def import_everything() -> None:
    """All modules of the package: for a process that others are forked from."""
    for module in pkgutil.walk_packages(dicomnode.__path__, "dicomnode."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)


@contextmanager
def uncounted() -> Iterator[None]:
    """Have processes that are started meanwhile not measured."""
    told = os.environ.pop("DICOMNODE_MEASURED", None)
    try:
        yield
    finally:
        if told is not None:
            os.environ["DICOMNODE_MEASURED"] = told


@contextmanager
def cheap_ledgers(empty: Path) -> Iterator[None]:
    """New ledgers on SQLite are copies of one that all revisions made, and none in this process waits for its disk.

    Making one costs a hundred times as much as copying it. What a loss of power does, no test of this process can tell.
    """
    database: Any = sys.modules.get("dicomnode.storage.database")
    if database is None:
        yield
        return
    upgrade, open_sqlite = database.upgrade, database.open_sqlite

    def opened(path: Path) -> Any:
        engine = open_sqlite(path)
        database.event.listen(
            engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF").close()
        )
        return engine

    def copied(new: Any) -> None:
        path = Path(new.engine.url.database)
        if new.engine.dialect.name == "sqlite" and path.stat().st_size == 0:
            if not empty.exists():
                made = database.Database(open_sqlite(empty))
                upgrade(made)
                made.close()
            assert [one.name for one in empty.parent.iterdir()] == [empty.name], "all of it is in that file"
            shutil.copyfile(empty, path)
        upgrade(new)

    database.upgrade, database.open_sqlite = copied, opened
    try:
        yield
    finally:
        database.upgrade, database.open_sqlite = upgrade, open_sqlite
