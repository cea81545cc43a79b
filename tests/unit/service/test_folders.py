from __future__ import annotations

import threading
from typing import Any, cast

from dicomnode.pulses import Pulse
from dicomnode.service.folders import Folders
from dicomnode.workflow.folder import FolderIntake


class Folder:
    """Counts looks; some of them fail in a way that nobody foresaw."""

    def __init__(self) -> None:
        self.pulse = Pulse("folder", 60.0)
        self.looks = 0
        self.thrice = threading.Event()

    def look(self) -> int:
        self.looks += 1
        if self.looks == 3:
            self.thrice.set()
        if self.looks < 3:
            raise RuntimeError("Mueller^Juergen")
        return 0


def test_a_folder_is_looked_at_again_whatever_happened_and_no_more_after_the_end() -> None:
    folder, told = Folder(), list[tuple[str, BaseException]]()
    folders = Folders([(cast(FolderIntake, folder), 0.1)], report=lambda where, error: told.append((where, error)))
    folders.begin()
    assert folder.thrice.wait(30)
    folders.end(30)
    looks = folder.looks
    assert [where for where, _ in told] == ["folder", "folder"]
    assert not any(thread.name.startswith("folder-") for thread in threading.enumerate())
    assert folder.looks == looks


def test_a_share_that_does_not_answer_holds_up_no_end() -> None:
    folder, answers = Folder(), threading.Event()
    folder.look = lambda: folder.thrice.set() or int(answers.wait(60))  # type: ignore[method-assign, func-returns-value]
    folders = Folders([(cast(FolderIntake, folder), 0.1)], report=lambda *_: None)
    folders.begin()
    assert folder.thrice.wait(30)
    folders.end(0.05)
    assert [pulse.is_at_work for pulse in folders.pulses] == [True]
    answers.set()
    folders.end(30)
    assert [pulse.is_at_work for pulse in folders.pulses] == [False]


def test_folders_that_were_never_begun_can_be_ended() -> None:
    report: Any = None
    Folders([(cast(FolderIntake, Folder()), 5.0)], report=report).end(30)
