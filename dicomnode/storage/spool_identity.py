"""Whether the spool's folder is the one that a ledger knows: the mount point of a disk that is not there looks like an empty one.

A random name lies in the folder, and beside the ledger. It is made when a node first opens both.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

from dicomnode.errors import StorageError
from dicomnode.storage import files

_NAME: Final = "spool.id"


def identity_of(folder: Path) -> str:
    """Name that lies in a folder; empty where there is none.

    Raises
    ------
    OSError
        As the disk says.
    """
    try:
        return (folder / _NAME).read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        return ""


def is_own(state: Path, spool: Path) -> bool:
    """Whether a spool bears the name that a state knows; errors as `identity_of`."""
    return bool(known := identity_of(state)) and identity_of(spool) == known


def prove_spool(state: Path, spool: Path, *, is_used: bool, accept: bool = False) -> str:
    """Prove that a spool belongs to a state, before anything is written there or judged; its name.

    Where neither has a name, as after an upgrade, the spool gets one; a spool has that first, so that a kill in between does no harm.

    Parameters
    ----------
    state
        State folder, where the ledger lies.
    is_used
        Whether the ledger knows of anything that lies in the spool.
    accept
        Take the folder as it is: what it lacks is lost for good.

    Raises
    ------
    StorageError
        ``spool-missing`` where the spool is another that holds studies, or is another or empty though it is used; ``storage-full``, ``storage-failed``.
    """
    with files.disk_errors():
        known, found = identity_of(state), identity_of(spool)
        if is_own(state, spool):
            return known
        is_filled = any(spool.glob("??"))
        is_others = bool(known and found and is_filled)
        is_missing = bool(known) or not (found or is_filled)
        if (is_others or (is_used and is_missing)) and not accept:
            raise StorageError("spool-missing")
        name = found or secrets.token_hex(16)
        for folder in (spool, state):
            files.make_folder(folder)
            files.replace_file(folder / _NAME, (name.encode(), b"\n"))
            owner = folder.stat()
            if os.geteuid() == 0:  # a chore of root's: the node is to read it
                os.chown(folder / _NAME, owner.st_uid, owner.st_gid)
        return name
