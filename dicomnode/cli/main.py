"""The command line: reads arguments, calls the service, prints; every error is one coded line with advice."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from dicomnode import __version__, config
from dicomnode.cli import keys, models, orders, replays, routes, sending
from dicomnode.cli.options import ConfigOption, StateOption, read_config, written_destination
from dicomnode.errors import REASONS, ConfigError, NodeError
from dicomnode.heap import keep_little, leave_no_core
from dicomnode.service.faults import caught

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A DICOM node beside a PACS: receives studies, runs a network on each, answers with Segmentation and Structured Report.",
)
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(models.doctor, name="doctor")
app.command()(routes.explain)
app.command()(replays.replay)
app.command()(sending.send)
orders.register(app)
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

#: sysexits.h: a fault of the program itself.
_EX_SOFTWARE = 70


class Policies(StrEnum):
    """Policies of de-identification."""

    AI = "ai"
    EXPORT = "export"


def main() -> None:
    """Entry point: runs a command and turns every coded error into one line and an exit status."""
    leave_no_core()
    try:
        with caught(lambda _where, error: _tell_fault(error)):
            app()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the border: a traceback holds values, and helps nobody who reads it
        sys.exit(_told(error))


def _told(error: Exception) -> int:
    """Tell an error; the exit status."""
    if isinstance(error, config.ConfigErrors):
        for problem in error.problems:
            _err.print(f"[red]error[/] {escape(problem)}", soft_wrap=True)
        return 2
    if not isinstance(error, NodeError):
        _tell_fault(error)
        return _EX_SOFTWARE
    _err.print(f"[red]error[/] {escape(str(error))}", soft_wrap=True)
    _err.print(f"      {error.reason.advice}", soft_wrap=True)
    return 2 if isinstance(error, ConfigError) else 1


def _tell_fault(error: BaseException) -> None:
    """One coded line for what nobody foresaw: its type and the places of our code, never its text."""
    from dicomnode.service.telemetry import place_of

    reason = REASONS["internal"]
    what = f"internal: {reason.text} ({type(error).__name__} at {place_of(error)})"
    _err.print(f"[red]error[/] {escape(what)}", soft_wrap=True)
    _err.print(f"      {reason.advice}", soft_wrap=True)


@app.command()
def serve(
    config_file: ConfigOption = None,
    state: StateOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port, instead of the configured one")] = None,
    quiet_seconds: Annotated[float | None, typer.Option(min=0.1, help="quiet time before delivery")] = None,
    deliver_to: Annotated[
        list[str] | None,
        typer.Option(metavar="AE@HOST:PORT", help="destination of results, besides the configured ones"),
    ] = None,
) -> None:
    """Run the node until SIGTERM or Ctrl-C; it then drains: open associations and running work end first."""
    from dicomnode.service.foreground import run

    keep_little()
    tree = with_options(read_config(config_file, state), port, quiet_seconds, deliver_to or [])
    try:
        status = run(tree, os.environ)
    except Exception as error:  # noqa: BLE001 - the border; what a start began may run for long, or wait for its disk
        status = _told(error)
    leave(status)


def leave(status: int) -> NoReturn:
    """End the process now: the node has stopped, or could not start, and a thread that still waits for a peer or a disk must not hold it."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="file to write")] = Path("dicomnode.toml"),
) -> None:
    """Write a commented configuration with every setting and its default."""
    from dicomnode.cli.template import render

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(render())
    except FileExistsError:
        raise config.ConfigErrors((f"{path}: exists already; it was not touched",)) from None
    except OSError as error:
        raise config.ConfigErrors((f"{path}: {os.strerror(error.errno or 0)}",)) from None
    _out.print(f"Wrote {path}. Edit it, then: dicomnode check --config {path}", soft_wrap=True)


@app.command()
def check(config_file: ConfigOption = None, state: StateOption = None) -> None:
    """Check configuration, keys, disk, models, port and destinations; tell every error at once."""
    from dicomnode.service.check import examine

    report = examine(read_config(config_file, state), os.environ)
    for line in report.lines:
        _out.print(f"[green]ok[/]    {escape(line)}", soft_wrap=True)
    for line in report.warnings:
        _out.print(f"[yellow]note[/]  {escape(line)}", soft_wrap=True)
    for line in report.errors:
        _err.print(f"[red]error[/] {escape(line)}", soft_wrap=True)
    if report.errors:
        raise typer.Exit(2)


@app.command()
def infer(
    source: Annotated[Path, typer.Argument(help="folder (or file) with DICOM images")],
    output: Annotated[Path, typer.Argument(help="folder for the results")],
    *,
    model: Annotated[str | None, typer.Option(help="name of the model; default: all that are enabled")] = None,
    destination: Annotated[
        str | None, typer.Option(help="write the results as this destination of the configuration gets them")
    ] = None,
    config_file: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Run a model on a folder of DICOM and write SEG, SR and key image with the source's identity (exit status 1 if the node failed on a study or a folder cannot be read; one that gets no result for what it is leaves 0)."""
    from dicomnode.cli.offline import infer_folder

    tree = read_config(config_file, state)
    if not infer_folder(tree, source, output, model=model, destination=destination, console=_out):
        raise typer.Exit(1)


@app.command()
def deidentify(
    source: Annotated[Path, typer.Argument(help="folder (or file) with DICOM objects")],
    output: Annotated[Path | None, typer.Argument(help="folder for the de-identified objects")] = None,
    *,
    policy: Annotated[
        Policies, typer.Option(help="ai: what the network sees; export: what may leave the house")
    ] = Policies.EXPORT,
    map_file: Annotated[
        Path | None, typer.Option("--map", help="write JSON: relative source path → relative output path")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="write nothing; print for one file which rule decides each attribute")
    ] = False,
    config_file: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """De-identify a folder of DICOM; what cannot be proved clean is withheld, its reason in OUTPUT.withheld.json (exit status 1 if a folder or file cannot be read)."""
    from dicomnode.cli import offline
    from dicomnode.cli.offline import deidentify_folder

    tree = read_config(config_file, state)
    if explain:
        offline.explain(tree, source, policy=policy.value, console=_out)
        return
    if output is None:
        raise typer.BadParameter("name a folder for the de-identified objects, or ask for --explain")
    if not deidentify_folder(tree, source, output, policy=policy.value, map_file=map_file, console=_out):
        raise typer.Exit(1)


@app.command()
def reidentify(
    source: Annotated[Path, typer.Argument(help="folder (or file) with exported objects")],
    output: Annotated[Path, typer.Argument(help="folder for the objects with their original attributes")],
    *,
    key: Annotated[
        Path | None, typer.Option(help="private key, PEM; default: reidentify.key of the keys folder")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="its certificate; default: reidentify.pem beside it")] = None,
    config_file: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Give exported objects their original attributes back, by the private key for which they were enclosed."""
    from dicomnode.cli.offline import reidentify_folder

    tree = read_config(config_file, state)
    if not reidentify_folder(tree, source, output, key=key, certificate=certificate, console=_out):
        raise typer.Exit(1)


@app.command()
def studies(
    json_output: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="newest studies first")] = 50,
    config_file: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """List studies with their state, stage times and deliveries."""
    from dicomnode.cli.listing import list_studies

    list_studies(read_config(config_file, state), limit=limit, as_json=json_output, console=_out)


@app.command()
def retract(
    study: Annotated[
        str, typer.Argument(metavar="STUDY", help="study key, or its beginning, as `dicomnode studies` lists it")
    ],
    model: Annotated[str | None, typer.Option(help="results of this model alone; default: of all")] = None,
    config_file: ConfigOption = None,
    state: StateOption = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Retract results that were found wrong: destinations that take rejection notes get one, and hide them."""
    from dicomnode.service.status import wish_retraction

    if not yes:
        typer.confirm(f"Retract the results of study {study}? Destinations then hide them", abort=True)
    works, takers, left = wish_retraction(read_config(config_file, state), study, model)
    if not works:
        _err.print(
            "[yellow]nothing[/] to retract: no destination holds results of it, or they are retracted already; "
            "what is still on its way is stopped by: dicomnode cancel",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    for key in works:
        _out.print(
            f"[green]asked[/] to retract {key.model}, revision {key.revision}, at {', '.join(takers)}", soft_wrap=True
        )
    if left:
        _out.print(
            f"[yellow]not[/] at {', '.join(left)}: no rejection notes are sent there; reject them by hand",
            soft_wrap=True,
        )
    _out.print("The node does so within seconds, or at its next start, as it is configured then: see dicomnode studies")


@app.command()
def verify(
    lost_spool: Annotated[
        bool,
        typer.Option("--lost-spool", help="the disk of the spool is lost: go on with the folder that is there now"),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="machine-readable")] = False,
    config_file: ConfigOption = None,
    state: StateOption = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask whether the spool is lost")] = False,
) -> None:
    """Read all that was received again, on a node that stands still; what is damaged or lost is named and set aside (exit status 1)."""
    from dicomnode.cli.verifying import lost_question, verify_received

    tree = read_config(config_file, state)
    if lost_spool and not yes:
        typer.confirm(lost_question(tree), abort=True, err=True)
    if not verify_received(tree, os.environ, spool_is_lost=lost_spool, as_json=json_output, console=_out):
        raise typer.Exit(1)


@app.command()
def demo(
    study: Annotated[Path | None, typer.Option(help="folder of your own study; default: a phantom")] = None,
    folder: Annotated[Path, typer.Option(help="where the demo keeps its things")] = Path("demo"),
) -> None:
    """One study all the way: node, chest CT, results in a PACS, and a picture."""
    from dicomnode.cli.demo import run_demo

    run_demo(study, folder, _out)


@app.command()
def version() -> None:
    """Print the version."""
    _out.print(__version__)


def with_options(
    tree: config.Config, port: int | None, quiet_seconds: float | None, deliver_to: list[str]
) -> config.Config:
    """Configuration with the options of `serve` laid over it.

    Raises
    ------
    ConfigErrors
        If a destination is not written AE@HOST:PORT.
    """
    data = tree.model_dump(exclude_unset=True)
    if port is not None:
        data.setdefault("listen", {})["port"] = port
    if quiet_seconds is not None:
        data.setdefault("completion", {})["quiet_seconds"] = quiet_seconds
    destinations = list(data.get("destinations", ()))
    taken = {str(destination["name"]) for destination in destinations}
    for text in deliver_to:
        destinations.append(written_destination(text, taken, option="--deliver-to"))
    return config.parse({**data, "destinations": destinations})


__all__ = ["app", "main", "read_config", "with_options"]
