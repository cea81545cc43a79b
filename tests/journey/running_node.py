"""A node in a process of its own, as the journeys use it: started, listened to, killed, started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dicomnode.config import Config, parse
from dicomnode.service.status import read_studies
from dicomnode.study import FINAL_STATES, StudyRow, WorkRow, WorkState
from tests.journey.nursery import Child, nursery

_WAIT_SECONDS = 60.0
_PAUSE_SECONDS = 0.05  # events come in bursts: the ledger is not read for each of them


class RunningNode:
    """`dicomnode serve` on a free port of loopback.

    Parameters
    ----------
    folder
        Where its state, configuration and log lie.
    settings
        TOML laid over quick defaults: the stand-in engine, a short quiet time, port 0.
    environment
        What its process gets beside this one's; it is one of its own then.
    by_itself
        Whether it is a process of its own from its first instruction on, as where coverage is counted, or comes from
        the nursery.
    """

    def __init__(
        self,
        folder: Path,
        settings: str = "",
        *,
        environment: Mapping[str, str] | None = None,
        by_itself: bool = False,
    ) -> None:
        self.folder = folder
        self._environment = dict(environment or {})
        self._by_itself = by_itself or bool(self._environment) or "DICOMNODE_MEASURED" in os.environ
        folder.mkdir(parents=True, exist_ok=True)
        self.state = folder / "state"
        base = '[models]\nengine = "stand-in"\n[completion]\nquiet_seconds = 1.5\n[listen]\nport = 0\n'
        base += "[intake]\nreceivers = 1\nprepared_bytes = 33554432\n"  # enough to be used, and soon made
        base += "[flood_guard]\nburst_studies = 0\n"  # phantoms are of one day, which lies ever longer ago
        quick = "[delivery]\nfirst_retry_seconds = 0.3\nlongest_retry_seconds = 1\n"
        merged = _merge(tomllib.loads(base + quick), tomllib.loads(settings))
        self.tree: Config = parse(_merge(merged, {"node": {"state": str(self.state)}}))
        self._config = folder / "config.json"
        self._config.write_text(json.dumps(merged))
        (folder / "dicomnode.toml").write_text(_toml(merged))
        self.events: list[dict[str, Any]] = []
        self.port = 0
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | Child | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> RunningNode:
        """Start it and wait until it listens."""
        self.launch()
        self.port = self.wait_for_event("node.ready")["port"]
        return self

    def launch(self) -> None:
        """Start it, and wait for nothing."""
        with self._changed:
            self.events.clear()
        words = ["serve", "--state", str(self.state), "--config", str(self.folder / "dicomnode.toml")]
        environment = {**os.environ, "HOME": str(self.folder), **self._environment}
        reading, writing = os.pipe()
        try:
            if self._by_itself:
                command = [sys.executable, "-m", "dicomnode", *words]
                self._process = subprocess.Popen(command, stderr=writing, stdout=subprocess.DEVNULL, env=environment)
            else:
                self._process = nursery().start(words, environment, stderr=writing)
        finally:
            os.close(writing)
        self._reader = threading.Thread(target=self._read, args=(reading,), daemon=True)
        self._reader.start()

    def __enter__(self) -> RunningNode:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    @property
    def pid(self) -> int:
        """Process id."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process is not None
        assert self._reader is not None
        self._process.kill()
        self._process.wait(30)
        self._reader.join(30)

    def wait_until_gone(self, seconds: float = 60) -> int:
        """Its exit status, once it ends by itself."""
        assert self._process is not None
        return self._process.wait(seconds)

    def terminate(self, seconds: float = 60) -> int:
        """SIGTERM; returns the exit status."""
        assert self._process is not None
        assert self._reader is not None
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(seconds)
        self._reader.join(30)
        return status

    def command(self, *words: str, columns: int = 80) -> subprocess.CompletedProcess[str]:
        """A command of `dicomnode` for its state, with its configuration, run to its end."""
        place = ["--state", str(self.state), "--config", str(self.folder / "dicomnode.toml")]
        return nursery().run([*words, *place], environment={"COLUMNS": str(columns)})

    def log(self) -> str:
        """Everything that it wrote since its start."""
        with self._changed:
            return "\n".join(json.dumps(event) for event in self.events)

    def wait_for_event(self, name: str, seconds: float = _WAIT_SECONDS, **facts: Any) -> dict[str, Any]:
        """First event of this name with these facts; waits for it."""

        def found() -> dict[str, Any] | None:
            matching = (
                event
                for event in self.events
                if event.get("event") == name and all(event.get(key) == value for key, value in facts.items())
            )
            return next(matching, None)

        with self._changed:
            self._changed.wait_for(lambda: found() is not None or self._gone(), seconds)
            event = found()
        assert event is not None, f"no event {name} {facts}; the log says:\n{self.log()}"
        return event

    def wait_until(self, reached: Callable[[list[dict[str, Any]]], bool], seconds: float = _WAIT_SECONDS) -> bool:
        """Whether what it said since its start is so, which is waited for."""
        with self._changed:
            self._changed.wait_for(lambda: reached(self.events) or self._gone(), seconds)
            return reached(self.events)

    def studies(self) -> tuple[StudyRow, ...]:
        """What the ledger says, read beside the node."""
        return read_studies(self.tree, 1000)

    def wait_for_work(
        self, seconds: float = _WAIT_SECONDS, *, ended: Callable[[WorkRow], bool] | None = None, count: int = 1
    ) -> list[WorkRow]:
        """Works that reached their end (superseded ones left out), at least `count`; waits on the node's events."""
        accept = ended or (lambda work: work.state in FINAL_STATES)
        result: list[WorkRow] = []

        def enough() -> bool:
            works = [work for row in self.studies() for work in row.works]
            result[:] = [work for work in works if work.state is not WorkState.SUPERSEDED and accept(work)]
            return len(result) >= count

        deadline = time.monotonic() + seconds
        while True:
            seen = len(self.events)
            if enough() or self._gone() or time.monotonic() > deadline:
                break
            with self._changed:
                self._changed.wait_for(lambda: len(self.events) != seen or self._gone(), 1.0)  # noqa: B023
            time.sleep(_PAUSE_SECONDS)
        assert len(result) >= count, f"{len(result)} of {count} works ended; the log says:\n{self.log()}"
        return result

    def _gone(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _read(self, reading: int) -> None:
        with open(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    event = json.loads(line)
                except ValueError:
                    event = {"event": "text", "line": line.rstrip()}
                with self._changed:
                    self.events.append(event)
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def altered(folder: Path, program: str) -> dict[str, str]:
    """Environment of a node of which `program` alters something before it begins."""
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(program)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def destination(name: str, ae_title: str, port: int) -> str:
    """TOML of a destination on loopback."""
    return (
        f'[[destinations]]\nname = "{name}"\nae_title = "{ae_title}"\nhost = "127.0.0.1"\nport = {port}\n'
        "timeout_seconds = 10\n"
    )


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _toml(data: dict[str, Any]) -> str:
    lines: list[str] = []
    for name, section in data.items():
        for block in section if isinstance(section, list) else [section]:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines += [f"{key} = {_inline(value)}" for key, value in block.items()]
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_inline(one) for one in value) + "]"
    return json.dumps(value)
