"""`dicomnode models`: which models there are, and their engines on the GPU: build, verify, time. `dicomnode doctor`, too."""

from __future__ import annotations

import json
import os
import time
from itertools import product
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dicomnode.cli.options import ConfigOption, StateOption, read_config

app = typer.Typer(no_args_is_help=True, help="Models, and their engines on the GPU: list, build, verify, bench.")
doctor = typer.Typer(no_args_is_help=True, help="Look at what the node rests on.")
_out = Console(highlight=False)

NameArgument = Annotated[str | None, typer.Argument(metavar="MODEL", help="name of the model; default: all enabled")]


@app.command("list")
def list_(config_file: ConfigOption = None, state: StateOption = None) -> None:
    """List the enabled models, and the engines that were built for this machine's GPU."""
    from dicomnode.service.models import Models

    models = Models(read_config(config_file, state), os.environ)
    for package in models.packages():
        manifest = package.manifest
        note = ", research only" if manifest.research_only else ""
        _out.print(
            f"{manifest.name} {manifest.version}  {escape(manifest.title)}{note}  {package.digest[:12]}", soft_wrap=True
        )
    for name, size in models.engines():
        _out.print(f"engine {name[:12]}  {size / 2**20:.0f} MiB", soft_wrap=True)


@app.command()
def build(model: NameArgument = None, config_file: ConfigOption = None, state: StateOption = None) -> None:
    """Build engines for the GPUs ahead of the node, and hold them to the reference; what is built already is kept."""
    from dicomnode.service.models import Models

    models = Models(read_config(config_file, state), os.environ)
    devices = models.devices()
    for package, device in product(models.packages(model), devices):
        begun = time.monotonic()
        engine = models.open(package, device)
        where = f", GPU {device}" if len(devices) > 1 else ""
        _out.print(
            f"[green]ready[/] {package.manifest.name} on {escape(str(engine.info))} {engine.info.version}{where}, "
            f"after {time.monotonic() - begun:.0f} s",
            soft_wrap=True,
        )
        engine.close()


@app.command()
def verify(model: NameArgument = None, config_file: ConfigOption = None, state: StateOption = None) -> None:
    """Compare the engine on each GPU with the reference on the CPU, by an input that is made."""
    from dicomnode.service.models import Models

    models = Models(read_config(config_file, state), os.environ)
    pairs = product(models.packages(model), models.devices())
    verdicts = [(package, models.verify(package, device)) for package, device in pairs]
    for package, verdict in verdicts:
        colour = "green" if verdict.may_serve else "red"
        _out.print(f"[{colour}]{package.manifest.name}[/] {escape(str(verdict))}", soft_wrap=True)
    if not all(verdict.may_serve for _, verdict in verdicts):
        raise typer.Exit(2)


@app.command()
def bench(
    model: NameArgument = None,
    config_file: ConfigOption = None,
    state: StateOption = None,
    *,
    slices: Annotated[int, typer.Option(min=16, max=2000, help="slices of the volume, 512 x 512 each")] = 300,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="times that each engine runs")] = 3,
) -> None:
    """Time a made volume from values to labels, on the GPU and on the CPU; prints JSON, a line for each model."""
    from dicomnode.service.models import Models

    models = Models(read_config(config_file, state), os.environ)
    for package in models.packages(model):
        typer.echo(json.dumps(models.bench(package, slices=slices, rounds=rounds)))


@doctor.command()
def gpu(config_file: ConfigOption = None, state: StateOption = None) -> None:
    """Say whether this machine's GPU will be used, and what stands in the way."""
    from dicomnode.service.models import examine_gpu

    lines = examine_gpu(read_config(config_file, state))
    for line in lines:
        word = "[green]ok[/]   " if line.well else "[yellow]note[/] "
        _out.print(f"{word} {escape(line.text)}", soft_wrap=True)
    working = sum(line.well for line in lines if line.device)
    if not working or not all(line.well for line in lines if not line.device):
        _out.print("The node computes on the CPU.", soft_wrap=True)
        raise typer.Exit(1)
    if not all(line.well for line in lines):
        _out.print(f"The node will use {working} GPU(s), not all that models.gpu names.", soft_wrap=True)
        raise typer.Exit(1)
    _out.print("The node will use the GPU. Build its engines ahead: dicomnode models build", soft_wrap=True)


@doctor.callback()
def _doctor() -> None:
    """Look at what the node rests on."""
