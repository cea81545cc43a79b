"""The offline twins: the node's own code on a folder of files, without a network and without a queue."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID

from dicomnode.cli.outputs import check_map, list_of_withheld, make_output, new_output, write_json, write_map
from dicomnode.cli.reasons import what, what_and_what_to_do
from dicomnode.config import Config
from dicomnode.errors import ConfigError, KeyStoreError, StudyError
from dicomnode.service.deidentifying import (
    FileDeidentification,
    deidentify_file,
    explain_devices,
    explain_file,
    reidentify_file,
)
from dicomnode.service.offline import Files, Outcome, Workbench
from dicomnode.service.policies import policy_of

_RESERVED = ("_withheld.json", "_outcome.json")
_HIDDEN = "path-unreadable"


def infer_folder(
    tree: Config,
    source: Path,
    output: Path,
    *,
    model: str | None,
    destination: str | None = None,
    console: Console,
) -> bool:
    """Run a model (all enabled ones by default) on every study of a folder.

    Returns
    -------
    bool
        Whether nothing failed: False where a study has no result through a fault of the node, or where something below
        the folder cannot be looked at: nobody knows what it holds. That a study is not for the model, or is refused for
        what it is, is an answer.

    Raises
    ------
    NodeError
        When the source holds no DICOM, the output cannot be written, or no such model is installed.
    """
    hidden: list[Path] = []
    paths = find_files(source, hidden)
    make_output(output)
    with Workbench(tree, os.environ, model, destination) as bench:
        for reason in sorted({str(one["reason"]) for one in bench.engines.values() if one["reason"]}):
            console.print(f"[yellow]note[/] {reason}: {what_and_what_to_do(reason)}", soft_wrap=True)
        studies, unreadable = read_headers(paths, bench, console)
        outcomes: list[Outcome] = []
        for number, files in enumerate(studies, start=1):
            which = f"study {number} of {len(studies)}, " if len(studies) > 1 else ""
            outcomes += run_study(files, bench, output, console, which=which)
    record = {
        "engines": bench.engines,
        "studies": [outcome.to_json() for outcome in outcomes],
        "unreadable": _named(source, {**unreadable, **dict.fromkeys(hidden, _HIDDEN)}),
    }
    write_json(output / "_outcome.json", record)
    for code, count in Counter(unreadable.values()).items():
        console.print(f"[yellow]{count} file(s) left out[/] {code}: {what(code)}", soft_wrap=True)
    _tell_of_hidden(hidden, console)
    if not outcomes:
        raise ConfigError("source-unreadable", files=len(paths))
    return not hidden and not any(outcome.fault for outcome in outcomes)


def _named(source: Path, codes: dict[Path, str]) -> dict[str, str]:
    """Codes by the names of what they are told of, relative to the source."""
    base = base_of(source)
    return {path.relative_to(base).as_posix(): code for path, code in codes.items()}


def _tell_of_hidden(hidden: list[Path], console: Console) -> None:
    if hidden:
        console.print(
            f"[yellow]{len(hidden)} folder(s) or file(s) not looked into[/] {_HIDDEN}: {what_and_what_to_do(_HIDDEN)}",
            soft_wrap=True,
        )


def read_headers(paths: list[Path], bench: Workbench, console: Console) -> tuple[list[Files], dict[Path, str]]:
    """Group the files of a folder by study; those that cannot be read with the code of why."""
    unreadable: dict[Path, str] = {}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Reading files", total=len(paths))
        for path in paths:
            try:
                bench.add(path)
            except StudyError as error:
                unreadable[path] = error.code
            progress.advance(task)
    return bench.studies(), unreadable


def run_study(files: Files, bench: Workbench, output: Path, console: Console, *, which: str = "") -> Iterator[Outcome]:
    """Every model on one study, with progress; prints what came of it.

    Parameters
    ----------
    which
        Said of a study that is one of several, before its number of files. It is named by the beginning of its key, as
        its results and `_outcome.json` are, and by its first file: its user knows that, and no value of it is shown.
    """
    if which:
        first = next(iter(files.paths.values()))
        title = f"{which}{files.name}: {len(files.paths)} files, the first {first.parent.name}/{first.name}"
        console.print(f"\n[bold]{escape(title[0].upper() + title[1:])}[/]", soft_wrap=True)
    for name in bench.models:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"{name}: {which}{len(files.paths)} files", total=1.0)
            outcome = bench.run(files, name, output, partial(_advance, progress, task))
        if outcome.reason is None:
            console.print(
                f"[green]{name}[/] {which}{len(files.paths)} files → {len(outcome.files)} results, {files.name}-*, in {escape(str(output))}",
                soft_wrap=True,
            )
            for line in outcome.lines:
                console.print(f"  {escape(line)}", soft_wrap=True)
        else:
            colour = "red" if outcome.fault else "yellow"
            told = what_and_what_to_do(outcome.reason)
            console.print(f"[{colour}]{name}[/] {which}no result: {outcome.reason}: {told}", soft_wrap=True)
        yield outcome


def _advance(progress: Progress, task: TaskID, done: float) -> None:
    progress.update(task, completed=done)


def deidentify_folder(
    tree: Config, source: Path, output: Path, *, policy: str, map_file: Path | None, console: Console
) -> bool:
    """De-identify every file of a folder; what is withheld is listed with its reason.

    Returns
    -------
    bool
        Whether everything below the folder could be looked at.

    Raises
    ------
    NodeError
        When the source is not there, output or map cannot be written, or there is no such policy.
    """
    hidden: list[Path] = []
    paths = find_files(source, hidden)
    if map_file is not None:
        check_map(map_file, output)
    base = base_of(source)
    mapping: dict[str, str] = {}
    withheld = _named(source, dict.fromkeys(hidden, _HIDDEN))
    with (
        new_output(output),
        _told(output, withheld, map_file, mapping),
        deidentify_file(tree, os.environ, policy) as deidentify,
        Progress(console=console, transient=True) as progress,
    ):
        task = progress.add_task("De-identifying", total=len(paths))
        for path, outcome in deidentify.all(paths, output):
            name = path.relative_to(base).as_posix()
            if isinstance(outcome, StudyError):
                withheld[name] = outcome.code
            else:
                mapping[name] = outcome.relative_to(output).as_posix()
            progress.advance(task)
    console.print(
        f"{len(mapping)} of {len(paths)} files de-identified by policy {policy} into {escape(str(output))}",
        soft_wrap=True,
    )
    _tell_of_outputs(deidentify, policy, console)
    for code, count in Counter(code for code in withheld.values() if code != _HIDDEN).items():
        console.print(f"[yellow]{count} withheld[/] {code}: {what_and_what_to_do(code)}", soft_wrap=True)
    _tell_of_hidden(hidden, console)
    return not hidden


def _tell_of_outputs(done: FileDeidentification, policy: str, console: Console) -> None:
    """What whoever hands the outputs on has to know."""
    if done.defaced:
        console.print(f"{done.defaced} without their faces, for good", soft_wrap=True)
    if done.flagged:
        console.print(
            f"[yellow]{done.flagged} show a head[/], whose face can be drawn from it, and say so in (0028,0302); "
            f'faces = "deface" in \\[deidentification.{policy}] takes faces off',
            soft_wrap=True,
        )
    if done.of_two:
        console.print(
            f"[yellow]{done.of_two} studies are of several patients[/], by Patient ID or its issuer, and came out so, with dates "
            "of their own; ids without an issuer are of deidentification.default_issuer",
            soft_wrap=True,
        )


@contextmanager
def _told(output: Path, withheld: dict[str, str], map_file: Path | None, mapping: dict[str, str]) -> Iterator[None]:
    """Write what was withheld and what became of the rest beside the output, not within; also of work that ends before its time.

    Names of source files may name patients, and the folder leaves the house.
    """
    write_json(list_of_withheld(output), withheld)  # it must be possible before any work is done
    try:
        yield
    finally:
        write_json(list_of_withheld(output), withheld)
        if map_file is not None:
            write_map(map_file, mapping)


def reidentify_folder(
    tree: Config, source: Path, output: Path, *, key: Path | None, certificate: Path | None, console: Console
) -> bool:
    """Give the objects of a folder their original attributes back, by the private key of a recipient.

    An object whose envelope is for others, was changed or is another object's is left out.

    Returns
    -------
    bool
        Whether everything below the folder could be looked at.

    Raises
    ------
    NodeError
        When the source is not there, the output cannot be written, or the key is none or opens none of them.
    """
    hidden: list[Path] = []
    paths = find_files(source, hidden)
    left: Counter[str] = Counter()
    with new_output(output, mode=0o700):  # what comes names patients
        reidentify = reidentify_file(tree, key, certificate)
        for path in paths:
            try:
                reidentify(path, output)
            except (StudyError, KeyStoreError) as error:
                left[error.code] += 1
    if paths and left["key-wrong"] == len(paths):
        raise KeyStoreError("key-wrong", files=len(paths))
    done = len(paths) - left.total()
    console.print(f"{done} of {len(paths)} files reidentified into {escape(str(output))}", soft_wrap=True)
    for code, count in left.items():
        console.print(f"[yellow]{count} left out[/] {code}: {what(code)}", soft_wrap=True)
    _tell_of_hidden(hidden, console)
    return not hidden


def explain(tree: Config, source: Path, *, policy: str, console: Console) -> None:
    """Print what a policy's settings are and what a site's rules for devices make of the file, then, attribute by attribute, which rule decided and what came of it; no values.

    Raises
    ------
    NodeError
        When the file cannot be read or would be withheld for another reason than its pixels or the leak check.
    """
    if not source.is_file():
        raise ConfigError("source-not-found")
    explained = explain_file(tree, policy, source)
    lines = explained.lines
    for name, value in policy_of(tree, policy).settings.items():
        console.print(escape(f"deidentification.{policy}.{name} = {json.dumps(value)}"), soft_wrap=True)
    for said in explain_devices(tree, policy, source):
        console.print(escape(said), soft_wrap=True)
    width = max(len(line.where) for line in lines)
    for line in lines:
        console.print(
            escape(f"{line.where:{width}}  {line.outcome:8} {line.treatment:10} {line.keyword}: {line.decided}"),
            soft_wrap=True,
        )
    counts = Counter(line.outcome for line in lines)
    console.print(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())), soft_wrap=True)
    for leak in explained.leaks:
        console.print(escape(f"leak check: {leak}"), soft_wrap=True)
    if explained.withheld is not None:
        console.print(f"[yellow]withheld[/] {explained.withheld}: {what(explained.withheld)}", soft_wrap=True)


def find_files(source: Path, unreadable: list[Path]) -> list[Path]:
    """Regular files of a folder, or the one file, in a fixed order.

    Parameters
    ----------
    unreadable
        Gets what below the folder is not looked at: folders that may not be listed or are links (they may lead in a
        circle), links that lead nowhere, and files of which nobody knows what they are or that may not be read.

    Raises
    ------
    ConfigError
        ``source-not-found`` when there is none, nor anything that cannot be looked at.
    """
    hidden: list[Path] = []
    paths: list[Path] = []
    try:
        if source.is_file():
            return [source]
        for folder, folders, names in os.walk(source, onerror=lambda error: hidden.append(Path(error.filename))):
            hidden.extend(path for name in folders if (path := Path(folder, name)).is_symlink())
            paths += [path for name in names if name not in _RESERVED and _is_file(path := Path(folder, name), hidden)]
    except OSError:  # a name that no file can have
        hidden = []
    told = hidden if hidden and source.is_dir() else []
    if not paths and not told:
        raise ConfigError("source-not-found")
    unreadable += sorted(told)
    return sorted(paths)


def _is_file(path: Path, hidden: list[Path]) -> bool:
    try:
        if path.is_file():
            if os.access(path, os.R_OK):
                return True
        elif path.exists() or not path.is_symlink():
            return False  # a pipe, a device
    except OSError:
        pass
    hidden.append(path)
    return False


def base_of(source: Path) -> Path:
    """Folder to which relative names refer."""
    return source if source.is_dir() else source.parent
