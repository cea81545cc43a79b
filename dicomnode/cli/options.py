"""Options that every command takes, and the configuration that they name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from dicomnode import config

#: Letters of a destination's name that come from its AE title; a number has room behind them.
_STEM = 24

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="configuration (TOML); without it the embedded defaults hold")
]
StateOption = Annotated[Path | None, typer.Option("--state", help="state folder, instead of the configured one")]


def read_config(path: Path | None, state: Path | None = None) -> config.Config:
    """Configuration of a file or the defaults, with the state folder filled in.

    Raises
    ------
    ConfigErrors
        With everything that is wrong with them.
    """
    tree = config.load(path) if path else config.Config()
    data = tree.model_dump(exclude_unset=True)
    folder = state or tree.node.state or config.default_state_folder(os.environ)
    data.setdefault("node", {})["state"] = folder.absolute()
    return config.parse(data)


def written_destination(text: str, taken: set[str], *, option: str) -> dict[str, str | int]:
    """Destination out of AE@HOST:PORT, under a name that is not taken yet.

    Raises
    ------
    ConfigErrors
        If it is not written so.
    """
    ae_title, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not (ae_title and host and re.fullmatch(r"[0-9]{1,9}", port)):
        raise config.ConfigErrors((f"{option} {text}: write it AE@HOST:PORT, for instance ORTHANC@127.0.0.1:4242",))
    stem = re.sub(r"[^a-z0-9]+", "-", ae_title.lower()).strip("-0123456789")[:_STEM].rstrip("-") or "destination"
    name = next(name for name in _numbered(stem) if name not in taken)
    taken.add(name)
    return {"name": name, "ae_title": ae_title, "host": host.strip("[]"), "port": int(port)}


def _numbered(stem: str) -> Iterator[str]:
    """The stem, then the stem with a number behind it."""
    yield stem
    yield from (f"{stem}-{number}" for number in count(2))
