"""A machine with a real systemd as PID 1: systemd-nspawn over an overlay of a Debian root, with a network of its own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.neighbours import wait_for

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Container:
    """A booted machine; what it writes goes into `folder` and not into the root.

    Parameters
    ----------
    root
        Root folder, from `make_root.sh`.
    folder
        New folder on a real disk.
    shared
        Folders to be seen inside, read-only: path inside to path outside.
    """

    def __init__(self, root: Path, folder: Path, shared: dict[str, Path]) -> None:
        self._tree = folder / "tree"
        self._log = folder / "console.log"
        for part in ("upper", "work", "tree"):
            (folder / part).mkdir(parents=True)
        layers = f"lowerdir={root},upperdir={folder / 'upper'},workdir={folder / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(self._tree)], check=True)
        binds = [f"--bind-ro={outside}:{inside}" for inside, outside in shared.items()]
        with self._log.open("wb") as log:
            command = ["systemd-nspawn", "-q", "-D", str(self._tree), "--boot", "--register=no", "--keep-unit"]
            command += ["--console=pipe", "--private-network", "--resolv-conf=off", "--hostname=hospital", *binds]
            self._nspawn = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._leader = 0
        wait_for(self._booted, 60, what=f"systemd as PID 1 (see {self._log})")

    def _booted(self) -> bool:
        if self._nspawn.poll() is not None:
            raise AssertionError(f"systemd-nspawn ended: {self._log.read_text('utf-8', 'replace')[-2000:]}")
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                self._leader = int(child)
                state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
                return state in ("running", "degraded")
        return False

    def run(
        self, *command: str, check: bool = True, stdin: str | None = None, seconds: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root."""
        result = subprocess.run(
            ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "--", *self._clean(), *command],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            input=stdin,
            timeout=seconds,
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{command} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Begin a command inside; its standard input stays open."""
        return subprocess.Popen(
            ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "--", *self._clean(), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def write(self, path: str, text: str) -> None:
        """Write a file inside."""
        self.run("tee", path, stdin=text)

    def shell(self, script: str, *, check: bool = True) -> str:
        """Output of a shell script inside."""
        return self.run("sh", "-euc", script, check=check).stdout

    def stop(self) -> None:
        """Power it off."""
        if self._leader and self._nspawn.poll() is None:
            self.run("systemctl", "poweroff", check=False, seconds=60)
            try:
                self._nspawn.wait(60)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
        elif self._nspawn.poll() is None:
            self._nspawn.kill()
        self._nspawn.wait(30)
        subprocess.run(["umount", str(self._tree)], check=False)
        shutil.rmtree(self._tree.parent / "work", ignore_errors=True)

    def _clean(self) -> tuple[str, ...]:
        return ("env", "-i", f"PATH={PATH}", "LANG=C.UTF-8")
