"""Exceptions that nobody caught, in any thread: told in the house's words, never as Python writes them.

Their texts are a library's, and may quote what a peer sent. May live here: the interpreter's three hooks, nothing else.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final

#: Names that the house gives its threads; any other may be made of anything.
OURS: Final = frozenset(
    {
        *(
            "acceptor",
            "ahead",
            "beforehand",
            "association",
            "circuit",
            "commitment",
            "completion",
            "conflicts",
            "deadline",
            "drain",
            "extender",
        ),
        *(
            "errands",
            "exports",
            "housekeeping",
            "idle",
            "indexer",
            "log",
            "pledges",
            "posting",
            "preparing",
            "pulse",
            "receiver",
            "seal",
            "stalls",
            "unread",
            "watch",
        ),
    }
)


@contextmanager
def caught(tell: Callable[[str, BaseException], None]) -> Iterator[None]:
    """Have every exception that reaches the interpreter told with its place: our thread's name, or ``foreign``.

    Parameters
    ----------
    tell
        Tells it; what it raises itself is lost.
    """

    def say(where: str, kind: type[BaseException], error: BaseException | None) -> None:
        with suppress(Exception):
            tell(where, kind.__new__(kind) if error is None else error)

    def of_thread(arguments: threading.ExceptHookArgs) -> None:
        name = arguments.thread.name if arguments.thread is not None else ""
        if not issubclass(arguments.exc_type, SystemExit):
            say(name if name in OURS else "foreign", arguments.exc_type, arguments.exc_value)

    def of_main(kind: type[BaseException], error: BaseException, _traceback: TracebackType | None) -> None:
        say("main", kind, error)

    def unraisable(arguments: sys.UnraisableHookArgs) -> None:
        say("unraisable", arguments.exc_type, arguments.exc_value)

    kept = threading.excepthook, sys.excepthook, sys.unraisablehook
    threading.excepthook, sys.excepthook, sys.unraisablehook = of_thread, of_main, unraisable
    try:
        yield
    finally:
        threading.excepthook, sys.excepthook, sys.unraisablehook = kept
