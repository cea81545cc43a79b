"""Options that every command takes, and the configuration that they name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from dicomnode import config

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
