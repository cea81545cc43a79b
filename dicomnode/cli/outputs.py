"""Where the offline twins write: a folder, what is told beside it, and a map. Nothing is read of DICOM here."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from dicomnode.errors import ConfigError, NodeError
from dicomnode.storage import files


def make_output(output: Path, *, mode: int = 0o777) -> None:
    """Create the output folder, or take the one that is there.

    Raises
    ------
    ConfigError
        ``output-not-empty`` when it cannot be made.
    """
    try:
        output.mkdir(mode, parents=True, exist_ok=True)
    except OSError:
        raise ConfigError("output-not-empty") from None


@contextlib.contextmanager
def new_output(output: Path, *, mode: int = 0o777) -> Iterator[None]:
    """An output folder for one run alone: empty, since what an earlier run left, or another one writes, would pass for this one's.

    Raises
    ------
    ConfigError
        ``output-not-empty`` when it holds anything, cannot be made, or another run writes into it.
    """
    make_output(output, mode=mode)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.alone_in(output, wait=False))
            filled = any(output.iterdir())
        except OSError:
            filled = True
        if filled:
            raise ConfigError("output-not-empty")
        yield


def list_of_withheld(output: Path) -> Path:
    """File beside the output that says what was withheld."""
    beside = output.resolve()
    return beside.with_name(f"{beside.name}.withheld.json")


def check_map(map_file: Path, output: Path) -> None:
    """Look whether the map can be written when all work is done, outside of the output, in the place of nothing but a map.

    Raises
    ------
    ConfigError
        ``map-unwritable``, ``map-in-output``.
    """
    folder = map_file.absolute().parent
    try:
        if map_file.resolve().is_relative_to(output.resolve()):
            raise ConfigError("map-in-output")
        target = map_file if map_file.exists() else folder
        good = folder.is_dir() and not map_file.is_dir() and os.access(target, os.W_OK) and _may_be_a_map(map_file)
        good = good and map_file.resolve() != list_of_withheld(output)
    except OSError:  # a name that no file can have
        good = False
    if not good:
        raise ConfigError("map-unwritable")


def _may_be_a_map(path: Path) -> bool:
    """Whether nothing is lost where a map is written: none is there, or a JSON object, or an empty file."""
    if not path.is_file():
        return True
    with path.open("rb") as file:
        return file.read(1) in (b"", b"{")


def write_json(path: Path, data: object) -> None:
    """Put a JSON file in place, for its owner alone, whole or not at all: a link of that name is replaced and not followed.

    Raises
    ------
    NodeError
        ``output-failed`` when it cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.new")
    try:
        files.write_new(temporary, (_encoded(data),))
        temporary.replace(path)
        files.sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise NodeError("output-failed") from None


def write_map(path: Path, data: object) -> None:
    """Write the map where its user said: that may be a link, or a device. Errors as `write_json`."""
    try:
        path.touch(mode=0o600)
        path.write_bytes(_encoded(data))
    except OSError:
        raise NodeError("output-failed") from None


def _encoded(data: object) -> bytes:
    return (json.dumps(data, indent=2, sort_keys=True) + "\n").encode()
