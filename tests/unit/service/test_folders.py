from __future__ import annotations

import threading
from typing import Any, cast

from dicomnode.service.folders import Folders
from dicomnode.workflow.folder import FolderIntake


class Folder:
    """Counts looks; some of them fail in a way that nobody foresaw."""

    def __init__(self) -> None:
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
    folders.end()
    looks = folder.looks
    assert [where for where, _ in told] == ["folder", "folder"]
    assert not any(thread.name.startswith("folder-") for thread in threading.enumerate())
    assert folder.looks == looks


def test_folders_that_were_never_begun_can_be_ended() -> None:
    report: Any = None
    Folders([(cast(FolderIntake, Folder()), 5.0)], report=report).end()
