"""`dicomnode send`: whole files and folders of them to a DICOM node as they are, with a verdict on every one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from dicomnode.cli.options import ConfigOption, read_config, written_destination
from dicomnode.cli.reasons import what_and_what_to_do
from dicomnode.config import Config
from dicomnode.encoded import Limits, split_part10
from dicomnode.errors import ConfigError, NodeError
from dicomnode.sections import Destination

if TYPE_CHECKING:
    from dicomnode.network.requestor import StoreOutcome

_out = Console(highlight=False)
#: What one association carries at most: files are read before they are sent.
_FILES: Final = 200
_BYTES: Final = 256 * 1024 * 1024
_SENT, _WARNING, _LEFT_OUT, _FAILED = "sent", "sent with a warning", "left out", "failed"
_SHOWN: Final = 20
_NO_OBJECT: Final = "object-malformed"
_HIDDEN: Final = "path-unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a file: the peer's status, if it gave one, and the code of what went wrong."""

    path: Path
    word: str
    status: int | None
    code: str | None


def send(
    sources: Annotated[list[Path], typer.Argument(metavar="PATH...", help="files and folders with DICOM objects")],
    to: Annotated[
        str, typer.Option("--to", metavar="NAME|AE@HOST:PORT", help="destination of the configuration, or an address")
    ],
    calling: Annotated[str | None, typer.Option(help="AE title to call with; default: node.ae_title")] = None,
    json_output: Annotated[bool, typer.Option("--json", help="machine-readable: a verdict on every file")] = False,
    config_file: ConfigOption = None,
) -> None:
    """Send files to a DICOM node by C-STORE, as they are, and no file that is cut off; the same again does no harm (exit status 1 unless all were taken)."""
    from dicomnode.cli.offline import find_files
    from dicomnode.network.requestor import Requestor

    tree = read_config(config_file)
    peer = peer_of(tree, to, calling)
    hidden: list[Path] = []
    paths = list(dict.fromkeys(path for source in sources for path in find_files(source, hidden)))
    requestor, limits = Requestor(peer, tree.node.ae_title), _limits(tree)
    verdicts = [Verdict(path=path, word=_LEFT_OUT, status=None, code=_HIDDEN) for path in dict.fromkeys(hidden)]
    with Progress(console=_out, transient=True, disable=json_output) as progress:
        task = progress.add_task(f"Sending to {peer.ae_title}", total=len(paths) + len(verdicts))
        for chunk in chunks(paths):
            faults = {path: code for path in chunk if (code := fault_of(path, limits)) is not None}
            outcomes = requestor.send_files([path for path in chunk if path not in faults])
            verdicts += judged(chunk, outcomes, faults)
            progress.update(task, completed=len(verdicts))
    if json_output:
        _out.out(json.dumps([_json(one) for one in verdicts], indent=2), highlight=False)
    else:
        for line in _lines(verdicts, peer):
            _out.print(line, soft_wrap=True)
    if not verdicts or any(one.word in (_FAILED, _LEFT_OUT) for one in verdicts):
        raise typer.Exit(1)


def peer_of(tree: Config, to: str, calling: str | None) -> Destination:
    """Whom `--to` means.

    Raises
    ------
    ConfigErrors
        If it is neither a name nor an address, or `calling` is no AE title.
    ConfigError
        ``destination-not-found``.
    """
    from dicomnode.config import parse

    known = [one for one in tree.destinations if one.name == to]
    if not known and "@" not in to:
        raise ConfigError("destination-not-found", destinations=len(tree.destinations))
    plain = known[0].model_dump(exclude_unset=True) if known else written_destination(to, set(), option="--to")
    more = {} if calling is None else {"calling_ae_title": calling}
    return parse({"destinations": [{**plain, **more}]}).destinations[0]


def chunks(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Files in order, as many at a time as one association is to carry."""
    chunk: list[Path] = []
    size = 0
    for path in paths:
        length = _size(path)
        if chunk and (len(chunk) == _FILES or size + length > _BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(path)
        size += length
    if chunk:
        yield chunk


def fault_of(path: Path, limits: Limits) -> str | None:
    """Why a file is no whole DICOM object; None where it is one. What is cut off, no peer can tell from its header."""
    from dicomnode.workflow.folder import prove_whole

    try:
        transfer_syntax_uid, encoded = split_part10(path.read_bytes())
        prove_whole(memoryview(encoded), transfer_syntax_uid, limits)
    except NodeError as error:
        return error.code
    except OSError:
        return _HIDDEN
    return None


def judged(
    paths: Sequence[Path], outcomes: Sequence[StoreOutcome], faults: Mapping[Path, str] = MappingProxyType({})
) -> Iterator[Verdict]:
    """Verdict on every file; one without an outcome is no DICOM object, for the reason that `faults` knows."""
    from dicomnode.network.status import StatusKind, classify

    known = {outcome.result_id: outcome for outcome in outcomes}
    for path in paths:
        outcome = known.get(str(path))
        if outcome is None:
            yield Verdict(path=path, word=_LEFT_OUT, status=None, code=faults.get(path, _NO_OBJECT))
            continue
        code = None if outcome.error is None else outcome.error.code
        warned = outcome.status is not None and classify(outcome.status) is StatusKind.WARNING
        word = _FAILED if code else _WARNING if warned else _SENT
        yield Verdict(path=path, word=word, status=outcome.status, code=code)


def _lines(verdicts: Sequence[Verdict], peer: Destination) -> Iterator[str]:
    odd = [one for one in verdicts if one.word != _SENT]
    for one in odd[:_SHOWN]:
        status = "" if one.status is None else f" 0x{one.status:04X}"
        code = "" if one.code is None else f" {one.code}"
        yield f"[yellow]{one.word}[/]{status}{code}  {escape(str(one.path))}"
    if len(odd) > _SHOWN:
        yield f"... and {len(odd) - _SHOWN} more: --json tells them all"
    for code in sorted({one.code for one in odd if one.code}):
        yield f"[bold]{code}[/]: {what_and_what_to_do(code)}"
    if any(one.word == _FAILED for one in odd):
        yield "Nothing is sent again by itself: give the command once more, which does what was taken no harm"
    counted = Counter(one.word for one in verdicts)
    said = ", ".join(f"{counted[word]} {word}" for word in (_SENT, _WARNING, _LEFT_OUT, _FAILED) if counted[word])
    yield f"{escape(peer.peer)}: {said}"


def _json(one: Verdict) -> dict[str, Any]:
    status = None if one.status is None else f"0x{one.status:04X}"
    return {"file": str(one.path), "verdict": one.word, "status": status, "reason": one.code}


def _limits(tree: Config) -> Limits:
    reading = tree.reading
    return Limits(
        maximum_nesting=reading.maximum_nesting,
        maximum_items=reading.maximum_items,
        maximum_inflated_bytes=reading.maximum_inflated_bytes,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
