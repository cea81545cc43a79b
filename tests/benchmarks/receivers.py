"""The receivers of `make bench-receive`, each started fresh on an empty folder, and what is read of their processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dicomnode.config import IntakeSection
from dicomnode.sections import Tls
from tests import tools
from tests.benchmarks.cases import Case
from tests.neighbours import Orthanc, free_port, listens, wait_for
from tests.network.certificates import make_tls

DCMTK_TUNED = ("+B", "--max-pdu", "131072")
_LOOK_SECONDS = 0.5
_REST_SECONDS = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Running:
    """A receiver that listens."""

    port: int
    pid: int
    tls: Tls | None = None


Start = Callable[[Path, Case, str], AbstractContextManager[Running]]


@contextmanager
def _process(arguments: list[str], port: int, folder: Path, tls: Tls | None = None, **more: str) -> Iterator[Running]:
    with (folder / "output.log").open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **more})
    try:
        wait_for(lambda: process.poll() is None and listens(port), 60, what=arguments[0])
        yield Running(port=port, pid=process.pid, tls=tls)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


@contextmanager
def node(folder: Path, case: Case, receivers: str) -> Iterator[Running]:
    """The node as it is served, with a stand-in for the network that has nothing to do meanwhile."""
    port, tls_port = free_port(), free_port()
    tls = make_tls(folder) if case.tls else None
    settings = folder / "dicomnode.toml"
    pairs = ", ".join(f"{name} = {json.dumps(str(path))}" for name, path in tls.model_dump().items()) if tls else ""
    lines = [
        f'[node]\nstate = "{folder}/state"',
        f'[listen]\nport = {port}\nplain = "on"\nmaximum_associations = 200\nassociations_per_address = 200',
        f"tls_port = {tls_port}\ntls = {{{pairs}}}" if tls else "",
        f"[intake]\n{receivers_setting(receivers)}",
        '[models]\nengine = "stand-in"',
        "[completion]\nquiet_seconds = 3600\nstart_early = false\n",
    ]
    settings.write_text("\n".join(lines), "utf-8")
    arguments = [sys.executable, "-m", "dicomnode", "serve", "-c", str(settings)]
    with _process(arguments, tls_port if tls else port, folder, tls) as running:
        yield running


def receivers_setting(receivers: str) -> str:
    """Line of the configuration; none where this node has no such setting."""
    if "receivers" not in IntakeSection.model_fields or not receivers:
        return ""
    return f"receivers = {receivers if receivers.isdigit() else json.dumps(receivers)}"


@contextmanager
def program(module: str) -> Iterator[Running]:
    """A receiver of the benchmark's own, in a process that says its port and ends with its standard input."""
    arguments = [sys.executable, "-m", module]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Running(port=int(process.stdout.readline()), pid=process.pid)
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


@contextmanager
def null(folder: Path, _case: Case, _receivers: str) -> Iterator[Running]:
    """The node's network side alone."""
    with program("tests.benchmarks.null_receiver") as running:
        yield running


def _dcmtk(*options: str, nodelay: bool) -> Start:
    @contextmanager
    def start(folder: Path, case: Case, _receivers: str) -> Iterator[Running]:
        port = free_port()
        tls = make_tls(folder) if case.tls else None
        secured = (
            ("+tls", str(tls.private_key), str(tls.certificate), "+cf", str(tls.trusted_certificates)) if tls else ()
        )
        fork = ("--fork",) if case.fork else ()
        arguments = [tools.require("storescp"), *options, *fork, *secured, "-od", str(folder), str(port)]
        with _process(arguments, port, folder, tls, **({"TCP_NODELAY": "1"} if nodelay else {})) as running:
            yield running

    return start


@contextmanager
def orthanc(folder: Path, _case: Case, _receivers: str) -> Iterator[Running]:
    """Orthanc as the tests start it."""
    archive = Orthanc(folder / "orthanc").start()
    try:
        assert archive._process is not None
        yield Running(port=archive.dicom_port, pid=archive._process.pid)
    finally:
        archive.stop()


RECEIVERS: dict[str, Start] = {
    "node": node,
    "null": null,
    "dcmtk": _dcmtk(*DCMTK_TUNED, nodelay=True),
    "dcmtk-default": _dcmtk(nodelay=False),
    "dcmtk-ignore": _dcmtk(*DCMTK_TUNED, "--ignore", nodelay=True),
    "orthanc": orthanc,
}


def family(pid: int) -> list[int]:
    """A process and all that descend from it and live."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents.setdefault(int(_fields(path)[1]), []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        waiting += parents.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, of those that descend from it, and of those of them that ended and were waited for."""
    total = 0
    for one in family(pid):
        with suppress(OSError):
            total += sum(map(int, _fields(Path(f"/proc/{one}/stat"))[11:15]))
    return total / _TICKS


def come_to_rest(pid: int) -> None:
    """Wait until it uses 4 % of a core at most: what it does after its start is on nobody's account."""
    deadline, before = time.monotonic() + _REST_SECONDS, cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
        before, last = cpu_seconds(pid), before
        if before - last <= 0.04 * _LOOK_SECONDS + 1 / _TICKS:
            return
    raise RuntimeError("it does not come to rest")


def _fields(path: Path) -> list[str]:
    return path.read_text("utf-8").rpartition(")")[2].split()


class Use:
    """What the processes of a receiver use from `begin` on: CPU, and memory above what they took at rest."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = 0.0
        self._ended = threading.Event()
        self._idle: dict[int, int] = {}
        self.memory_mb = 0.0
        self.begin()

    def begin(self) -> None:
        """From now on."""
        for one in family(self._pid):
            self._idle[one] = _kilobytes(one, "VmRSS")
            Path(f"/proc/{one}/clear_refs").write_text("5")  # the peak counts anew (proc(5))
        self._before = cpu_seconds(self._pid)

    def cpu_seconds(self) -> float:
        """CPU seconds since."""
        return cpu_seconds(self._pid) - self._before

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at the memory now and then, and at the end: children may be gone by then."""
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        try:
            yield
        finally:
            self._ended.set()
            watcher.join()
            self._look()

    def _watch(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        """Most of any one process that was there at rest; of one that came later, above the first one's rest."""
        for one in family(self._pid):
            with suppress(OSError):
                grown = _kilobytes(one, "VmHWM") - self._idle.get(one, self._idle[self._pid])
                self.memory_mb = max(self.memory_mb, grown / 1024)


def _kilobytes(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
