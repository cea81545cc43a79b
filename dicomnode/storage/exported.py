"""Files of de-identified objects in a folder that others read: new, whole, durable; none is ever written over.

A file has its name from the moment at which it is whole. Names are what policy made of UIDs: they tell nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from dicomnode.errors import StudyError
from dicomnode.storage import files

#: The group may read, where the process's umask lets it: what lies there is for others.
_FOLDER_MODE: Final = 0o750
_FILE_MODE: Final = 0o640
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")


def write_exported(
    folder: Path, study_instance_uid: str, sop_instance_uid: str, data: bytes, *, same: Callable[[bytes, bytes], bool]
) -> bool:
    """Write ``folder/<study>/<instance>.dcm``; False: it is there already, as `same` tells of both contents.

    Raises
    ------
    StudyError
        ``same-uid-other-content`` where another content is there; it stays. ``object-without-uids`` where one is no UID.
    StorageError
        ``storage-failed``, ``storage-full``.
    """
    prove_uids(study_instance_uid, sop_instance_uid)
    with files.disk_errors():
        place = folder / study_instance_uid
        files.make_folder(folder)
        place.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        files.sync_folder(folder)
        target = place / f"{sop_instance_uid}.dcm"
        if target.exists():
            if not same(target.read_bytes(), data):
                raise StudyError("same-uid-other-content")
            files.sync_folder(place)  # whoever wrote it may have been cut off before
            return False
        files.replace_file(target, (data,), mode=_FILE_MODE)
    return True


def prove_uids(*uids: str) -> None:
    """Prove that UIDs are some, before names are made of them.

    Raises
    ------
    StudyError
        ``object-without-uids``.
    """
    if not all(_UID.fullmatch(uid) and len(uid) <= 64 for uid in uids):
        raise StudyError("object-without-uids")


def clear_unfinished(folder: Path) -> None:
    """Take away what a killed process left unfinished; nobody else may write there meanwhile."""
    with files.disk_errors():
        for path in folder.glob("*/.*.new"):
            path.unlink(missing_ok=True)
