"""The watched folders of a node: threads that look at them, one each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from dicomnode.config import Config
from dicomnode.events import Emit
from dicomnode.network.intake import Intake
from dicomnode.service.telemetry import report_fault
from dicomnode.workflow.folder import FolderIntake

_LEAST_SECONDS: Final = 0.2
_MOST_SECONDS: Final = 2.0
_REST: Final = 9  # times as long as a look took is waited after it


class Folders:
    """Looks at watched folders until it is ended.

    Parameters
    ----------
    folders
        Each with the seconds for which its files must have been the same.
    report
        Told of an exception that nobody foresaw, with where it was.
    """

    def __init__(
        self, folders: Sequence[tuple[FolderIntake, float]], *, report: Callable[[str, BaseException], None]
    ) -> None:
        self._report = report
        self._ended = threading.Event()
        self.pulses = tuple(folder.pulse for folder, _ in folders)
        self._threads = [
            threading.Thread(target=self._run, args=one, name=f"folder-{number}", daemon=True)
            for number, one in enumerate(folders)
        ]

    def begin(self) -> None:
        """Start to look."""
        for thread in self._threads:
            thread.start()

    def end(self, timeout: float) -> None:
        """Stop after the file that is being taken, and wait up to `timeout` seconds for all: a share may not answer."""
        self._ended.set()
        until = time.monotonic() + timeout
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(until - time.monotonic(), 0))

    def _run(self, folder: FolderIntake, settle_seconds: float) -> None:
        pause = min(max(settle_seconds / 4, _LEAST_SECONDS), _MOST_SECONDS)
        rest = 0.0
        while not self._ended.wait(max(pause, rest)):
            begun = time.monotonic()
            with folder.pulse:
                try:
                    folder.look()
                except Exception as error:  # noqa: BLE001 - the border: the thread must outlive whatever happens
                    self._report("folder", error)
            rest = _REST * (time.monotonic() - begun)


def open_folders(tree: Config, intake: Intake, *, emit: Emit) -> Folders:
    """Those of the configuration; `intake` takes what is in them."""
    folders = [
        FolderIntake(
            one,
            intake,
            called_ae_title=tree.node.ae_title,
            private_sop_classes=tree.intake.private_sop_classes,
            monotonic=time.monotonic,
            emit=emit,
        )
        for one in tree.folders
    ]
    settle = [one.settle_seconds for one in tree.folders]
    return Folders(list(zip(folders, settle, strict=True)), report=partial(report_fault, emit))
