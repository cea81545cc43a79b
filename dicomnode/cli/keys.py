"""`dicomnode keys`: which keys there are, new ones, a study's destroyed, the certificate of the way back."""

from __future__ import annotations

import hashlib
import os
import secrets
from typing import Annotated

import typer
from rich.console import Console

from dicomnode.cli.options import ConfigOption, StateOption, read_config

app = typer.Typer(no_args_is_help=True, help="Keys of a node: list, rotate, destroy a study's, export the public one.")
_out = Console(highlight=False)


@app.command("list")
def list_(config_file: ConfigOption = None, state: StateOption = None) -> None:
    """List key-encryption keys by their names, and how many studies' keys each wraps; never a key."""
    from dicomnode.service.keeping import list_keys

    for line in list_keys(read_config(config_file, state), os.environ):
        _out.print(f"{line.world:10} {line.key_id}  {line.role:9} wraps {line.wrapped} data keys", soft_wrap=True)


@app.command()
def rotate(config_file: ConfigOption = None, state: StateOption = None) -> None:
    """Make new key-encryption keys and wrap all data keys anew; no data is touched. Goes on where it was broken off."""
    from dicomnode.service.keeping import rotate_keys
    from dicomnode.service.rooms import keys_are_ours

    tree = read_config(config_file, state)
    for world, count in rotate_keys(tree, os.environ).items():
        _out.print(f"[green]{world}[/] {count} data keys wrapped by a new key", soft_wrap=True)
    if keys_are_ours(tree, os.environ):
        told = "Back the keys folder up again: the old backup opens what was sealed no more."
    else:
        told = "Now put each new key (identity.next, pseudonym.next) in the place of the old one: until then both are needed."
    _out.print(told, soft_wrap=True)


@app.command()
def destroy(
    study: Annotated[
        str,
        typer.Argument(metavar="STUDY", help="study key or its beginning, as `dicomnode studies` lists it, or its UID"),
    ],
    config_file: ConfigOption = None,
    state: StateOption = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Destroy a study: its keys, so that nobody can read its originals, copies and identities, then all else. Audited."""
    from dicomnode.service.keeping import destroy_study, study_to_destroy

    tree = read_config(config_file, state)
    study_key = study_to_destroy(tree, os.environ, study)
    if not yes:
        typer.confirm(f"Destroy the keys of study {study_key}? Nothing brings them back", abort=True)
    destroy_study(tree, study_key)
    _out.print(f"[green]destroyed[/] study {study_key}: its keys and all that they sealed", soft_wrap=True)


@app.command("new-token")
def new_token() -> None:
    """Make a bearer token for a caller of STOW-RS: the token for the caller, its SHA-256 for `token_sha256`. Kept nowhere."""
    token = secrets.token_urlsafe(32)
    typer.echo(f"token         {token}")
    typer.echo(f'token_sha256 = ["{hashlib.sha256(token.encode("ascii")).hexdigest()}"]')


@app.command("export-public")
def export_public(config_file: ConfigOption = None, state: StateOption = None) -> None:
    """Print the certificate for which exports encrypt original attributes (PEM)."""
    from dicomnode.service.keeping import export_public as certificate

    typer.echo(certificate(read_config(config_file, state), os.environ), nl=False)
