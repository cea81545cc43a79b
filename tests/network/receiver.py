"""The receiving half of a node in a process of its own: acceptor, spool, index and recovery, joined as the node joins them.

It starts in a second and ends when its standard input does. `python -m tests.network.receiver` reads its settings, a
configuration as JSON, from the command line; its log goes to standard error, as the node's does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dicomnode.config import Config, parse
from dicomnode.encoded import Limits
from dicomnode.heap import keep_little
from dicomnode.network.acceptor import Acceptor
from dicomnode.service.telemetry import configure
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.digest import ContentDigests
from dicomnode.storage.keys import open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.spool import Spool
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.indexing import Indexer
from dicomnode.workflow.reception import Reception
from dicomnode.workflow.recovery import Recovery

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 60.0


def serve(tree: Config) -> None:
    """Receive until standard input ends."""
    keep_little()  # as the process of the node that receives
    emit = configure(tree.logging)
    state = tree.node.state
    assert state is not None
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    ledger_path, spool_path = state / "ledger.sqlite", state / "spool"
    ring = open_keys(state / "keys", create=True, sealed_with=(ledger_path, spool_path))
    ledger = Ledger.open(ledger_path)
    spool = Spool(spool_path, tree.intake, DataKeys(ledger, ring))
    activity = ActivityTable()
    nothing: Any = None
    common: dict[str, Any] = {
        "derivation_key": ring.derivation,
        "clock": _now,
        "monotonic": time.monotonic,
        "emit": emit,
    }
    indexer = Indexer(ledger, conflict=lambda row: None, emit=emit)
    recovery = Recovery(ledger, spool, activity, nothing, conflict=lambda row: None, later=indexer.judge, **common)
    reception = Reception(
        spool=spool,
        digest=ContentDigests(ring.derivation).begin,
        indexer=indexer,
        activity=activity,
        wake=lambda: None,
        **common,
    )
    acceptor = Acceptor(tree.listen, tree.intake, tree.node.ae_title, Limits(), reception, emit=emit)
    recovery.rebuild_index()
    indexer.begin()
    host, port = acceptor.start()
    emit("node.ready", host=host, port=port, mode=spool.write_mode.name)
    sys.stdin.buffer.read()
    acceptor.stop()
    indexer.end()
    spool.close()
    ledger.close()
    emit.end()


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


class Receiver:
    """Such a process, started, listened to, looked into, killed, started again.

    Parameters
    ----------
    state
        Its state folder.
    settings
        Sections of the configuration.
    """

    def __init__(self, state: Path, **settings: dict[str, Any]) -> None:
        settings = {**settings, "node": {"state": str(state)}}
        settings["logging"] = {"format": "json", "summary_seconds": 0.1, **settings.get("logging", {})}
        settings["listen"] = {"port": 0, **settings.get("listen", {})}
        self._settings = json.dumps(settings, default=str)
        self.tree = parse(json.loads(self._settings))
        self.port = 0
        self.lines: list[str] = []
        self.changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> Receiver:
        """Start it and wait until it listens."""
        self.launch()
        (ready,) = self.wait_for(lambda events: [one for one in events if one["event"] == "node.ready"])
        self.port = int(ready["port"])
        return self

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        with self.changed:
            self.lines.clear()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.network.receiver", self._settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Receiver:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.kill()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        assert self._reader is not None
        process.kill()
        process.wait(_SECONDS)
        process.stdin.close()
        self._reader.join(_SECONDS)

    def stop(self) -> int:
        """Let it end by itself; its exit status."""
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        assert self._reader is not None
        process.stdin.close()
        status = process.wait(_SECONDS)
        self._reader.join(_SECONDS)
        return status

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """What it logged, from a line on; a line that is none of its own is an event ``text``."""
        with self.changed:
            lines = self.lines[since:]
        return [_event(line) for line in lines]

    def wait_for(
        self, found: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], *, since: int = 0, count: int = 1
    ) -> list[dict[str, Any]]:
        """Wait until so many events are found among those that it logged."""
        result: list[dict[str, Any]] = []

        def enough() -> bool:
            result[:] = found([_event(line) for line in self.lines[since:]])
            return len(result) >= count

        with self.changed:
            self.changed.wait_for(lambda: enough() or self._gone(), _SECONDS)
        assert len(result) >= count, f"{len(result)} of {count} events; the log says:\n" + "\n".join(self.lines[since:])
        return result

    def descriptors(self) -> tuple[int, int]:
        """Sockets that it has open, and everything else."""
        folder = Path(f"/proc/{self.pid}/fd")
        targets = []
        for name in os.listdir(folder):  # noqa: PTH208 (the names alone)
            with contextlib.suppress(FileNotFoundError):
                targets.append(os.readlink(folder / name))  # noqa: PTH115
        sockets = sum(target.startswith("socket:") for target in targets)
        return sockets, len(targets) - sockets

    def threads(self) -> int:
        """Threads that it has."""
        return len(os.listdir(f"/proc/{self.pid}/task"))  # noqa: PTH208

    def memory(self) -> tuple[int, int]:
        """Bytes that are resident now, and the most since `forget_peak`."""
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if ":" in line
        )
        return int(status["VmRSS"].split()[0]) * 1024, int(status["VmHWM"].split()[0]) * 1024

    def forget_peak(self) -> None:
        """From now on the peak counts anew (proc(5), clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _gone(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self.changed:
                    self.lines.append(line.rstrip("\n"))
                    self.changed.notify_all()
        with self.changed:
            self.changed.notify_all()


def _event(line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except ValueError:
        return {"event": "text", "line": line}


if __name__ == "__main__":
    serve(parse(json.loads(sys.argv[1])))
