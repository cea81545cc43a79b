"""The README names every command of the program, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from typer.main import get_command

from dicomnode.cli.main import app

README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
#: What `make demo` runs, and what says its name alone.
BY_MAKE = {"demo", "version"}


def test_every_command_is_named_where_commands_stand() -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))
    named = set(re.findall(r"dicomnode ([a-z]+)", blocks))
    commands = set(getattr(get_command(app), "commands"))  # noqa: B009 - typer's own type has it
    assert named == commands - BY_MAKE
    assert "make demo" in blocks


def test_every_chore_of_keys_is_named() -> None:
    line = next(line for line in README.splitlines() if "dicomnode keys" in line)
    chores = set(getattr(getattr(get_command(app), "commands")["keys"], "commands"))  # noqa: B009
    assert sorted(chore for chore in chores if chore not in line) == []


def test_help_of_a_replay_says_what_it_leaves_out() -> None:
    said = " ".join(str(getattr(get_command(app), "commands")["replay"].help).split())  # noqa: B009
    assert re.search(r"Not compared: priorities of senders .*, and studies that are shredded", said)
