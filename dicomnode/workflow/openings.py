"""A new revision of a study's input: who is asked where it goes and whether at all, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dicomnode.errors import Fact
from dicomnode.events import Emit
from dicomnode.study import InstanceRow, Mark
from dicomnode.workflow.routing import Route
from dicomnode.workflow.standing import Ruling


class Judge(Protocol):
    """As `Standing.judge`."""

    def __call__(
        self, connection: Any, study_key: str, route: Route, *, revision: int, begun: bool, ordered: bool
    ) -> Ruling:
        """Rule on a new revision in the caller's transaction."""
        ...


class RoutingPort(Protocol):
    """The rules of routing."""

    @property
    def route(self) -> Callable[[str, Sequence[InstanceRow], Sequence[InstanceRow]], Route]:
        """Where a study goes whose input these instances are, and which has others beside them."""
        ...

    @property
    def looks_beside(self) -> bool:
        """Whether those others make any difference."""
        ...

    @property
    def judge(self) -> Judge:
        """Whether anything is made of a new revision."""
        ...

    def order_export(self, connection: Any, study_key: str, export: str, rules: Sequence[str], /) -> None:
        """Enter and audit an order in the caller's transaction; a StorageError undoes all of it."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """A new revision, where it goes, whether anything is made of it, and the exports that were ordered with it."""

    revision: int
    route: Route
    ruling: Ruling
    exports: Mapping[str, Sequence[str]]


def tell(emit: Emit, study_key: str, opened: Opened | None) -> None:
    """Say where a new revision goes, or that it goes nowhere; None: there is none."""
    if opened is None:
        return
    if opened.ruling.stopped_by is not None:
        _tell_stopped(emit, study_key, opened)
        return
    route = opened.route
    emit("study.started", study=study_key, revision=opened.revision)
    if rules := sorted({name for share in route.shares.values() for name in share.rules}):
        emit("study.routed", study=study_key, models=len(route.shares), rules=",".join(rules))
    tell_exports(emit, study_key, opened.exports)
    if not route.shares and not route.exports:
        ignored = ",".join(sorted(set(route.ignored.values())))
        emit("study.not-routed", study=study_key, **({"rules": ignored} if ignored else {}))


def tell_exports(emit: Emit, study_key: str, exports: Mapping[str, Sequence[str]]) -> None:
    """Say which rules ordered which exports of a study."""
    for export, by in exports.items():
        emit("study.export", study=study_key, destination=export, rules=",".join(by))


def _tell_stopped(emit: Emit, study_key: str, opened: Opened) -> None:
    """Once for each study, and aloud of the first of a flood alone."""
    ruling = opened.ruling
    if ruling.level is None:
        return
    facts: dict[str, Fact] = {"study": study_key, "revision": opened.revision}
    if ruling.stopped_by is Mark.CANCELLED:
        emit("study.cancelled", level=ruling.level, **facts)
    else:
        kind, days = str(ruling.stopped_by), opened.route.age_days
        emit("study.old", level=ruling.level, kind=kind, days=days, studies=ruling.studies, **facts)
