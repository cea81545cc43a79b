"""pydicom's warnings, kept to the thread that causes them.

pydicom tells every oddity of a Data Set through the process-wide `warnings` and a logger, at times with the value. A
filter there is shared by all threads, so the one place where pydicom warns (`pydicom.misc`) is handed a stand-in that
asks the context it runs in: silent inside `hushed`, pydicom's own behaviour anywhere else.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import pydicom.misc

_HUSHED: Final[ContextVar[bool]] = ContextVar("pydicom_hushed", default=False)
_LOSS: Final = "Failed to encode"


class _Warnings:
    """What `pydicom.misc` takes for the module `warnings`."""

    def warn(self, message: Any, category: type[Warning] = UserWarning, stacklevel: int = 1) -> None:
        """Say it as ever, or not at all.

        Raises
        ------
        ValueError
            Inside `hushed`, if pydicom is about to write replacement characters for a text.
        """
        if not _HUSHED.get():
            warnings.warn(message, category, stacklevel=stacklevel + 1)
        elif str(message).startswith(_LOSS):
            raise ValueError("text outside the character set")


def _audible(_: logging.LogRecord) -> bool:
    return not _HUSHED.get()


pydicom.misc.warnings = _Warnings()  # type: ignore[assignment,attr-defined]
logging.getLogger("pydicom").addFilter(_audible)


@contextmanager
def hushed() -> Iterator[None]:
    """Context in which pydicom neither warns nor logs."""
    token = _HUSHED.set(True)
    try:
        yield
    finally:
        _HUSHED.reset(token)
