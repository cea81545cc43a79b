"""Logs: events become lines, and the one place where facts pass the allow-list.

The only module that configures structlog; rooms get an `Emit` handed in.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from typing import Any, Final, TextIO

import structlog

from dicomnode.errors import REASONS
from dicomnode.events import Emit, Fact, admit
from dicomnode.sections import LoggingSection
from dicomnode.service.floods import Calm

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_FOREIGN: Final = ("pynetdicom", "pydicom", "dbos", "highdicom", "alembic", "sqlalchemy", "asyncio")


def configure(settings: LoggingSection, *, stream: TextIO | None = None, journal: bool = False) -> Calm:
    """Send events to a stream (standard error by default) as JSON or for a console; returns where rooms drop them.

    With `journal`, lines carry their priority for systemd's journal. Libraries' own loggers are silenced: they write Data Sets and names.
    Floods are summed up: `end` what is returned when the process ends, so that the last summary is written.
    """
    out = stream or sys.stderr
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
    if not logging.getLogger().handlers:  # or Python writes what has no handler to standard error
        logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")  # a library's warning may quote a value; errors reach us as exceptions
    console = settings.format == "console" or (settings.format == "auto" and out.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=out.isatty()) if console else structlog.processors.JSONRenderer()
    )
    logger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
            *([_with_priority] if journal and not console else []),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[settings.level]),
        cache_logger_on_first_use=True,
    )

    def emit(name: str, /, *, level: str = "info", **facts: Fact) -> None:
        admitted = admit(facts)
        reason = admitted.get("reason")
        if isinstance(reason, str) and reason in REASONS:
            admitted["advice"] = REASONS[reason].advice
        logger.log(_LEVELS.get(level, 20), name, **{key: fact for key, fact in admitted.items() if fact is not None})

    return Calm(emit, seconds=settings.summary_seconds, sources=settings.summary_sources)


def _with_priority(_logger: object, level: str, line: Any) -> str:
    """The line with its priority before it, as the journal reads it (sd-daemon(3))."""
    return f"<{_PRIORITIES.get(level, 6)}>{line}"


def place_of(error: BaseException) -> str:
    """The lines of our code that an exception passed, the innermost first: never its text."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "dicomnode" in frame.filename]
    return " < ".join(f"{frame.filename.rsplit('/', 2)[-1]}:{frame.lineno}" for frame in reversed(frames[-6:]))[:200]


def report_fault(emit: Emit, where: str, error: BaseException) -> None:
    """Write an unforeseen exception down: its type and the lines of our code that it passed, never its text."""
    kind = type(error).__name__
    emit("node.fault", level="error", kind=kind, origin=place_of(error), stage=where, reason="internal")
