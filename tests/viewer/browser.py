"""A headless Chromium, driven over its own debugging pipe: no driver program and no socket stand between.

May live here: starting and ending the browser, and the few commands of the DevTools protocol that a reader of a page
needs. What a page is, is none of its business.
"""

from __future__ import annotations

import base64
import fcntl
import io
import json
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests import tools

_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)
_ANSWER_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0
#: Descriptors on which Chromium reads commands and writes answers.
_COMMANDS, _ANSWERS = 3, 4

Picture = NDArray[np.uint8]


class BrowserError(AssertionError):
    """The browser, or the page in it, did not do what it was told."""


class Browser:
    """One browser with one page.

    Parameters
    ----------
    folder
        Empty folder for its profile and log.
    size
        Width and height of the page, pixels.
    """

    def __init__(self, folder: Path, size: tuple[int, int] = (1600, 1000)) -> None:
        self._folder = folder
        self._size = size
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._session: str | None = None
        self._ended = False
        self.complaints: list[str] = []

    def __enter__(self) -> Self:
        """The browser with an empty page; skips the test where Chromium is missing."""
        program = tools.require("chromium")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._pid = self._spawn(program)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        width, height = self._size
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it, kindly first."""
        self._session = None
        try:
            self.command("Browser.close")
        except (BrowserError, OSError):
            os.kill(self._pid, signal.SIGTERM)
        self._reader.join(_END_SECONDS)
        if self._reader.is_alive():
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._reader.join()
        os.close(self._to_browser)

    def _spawn(self, program: str) -> int:
        """Start the program with our pipes as its descriptors 3 and 4."""
        their_end, self._to_browser = (_high(one) for one in os.pipe())
        self._from_browser, our_end = (_high(one) for one in os.pipe())
        log = _high(os.open(self._folder / "chromium.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600))
        arguments = [program, *_FLAGS, f"--user-data-dir={self._folder / 'profile'}"]
        actions = [
            (os.POSIX_SPAWN_DUP2, their_end, _COMMANDS),
            (os.POSIX_SPAWN_DUP2, our_end, _ANSWERS),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        environment = {**os.environ, "HOME": str(self._folder)}
        try:
            return os.posix_spawn(program, arguments, environment, file_actions=actions)
        finally:
            for descriptor in (their_end, our_end, log):
                os.close(descriptor)

    def _read(self) -> None:
        with os.fdopen(self._from_browser, "rb") as stream:
            waiting = b""
            while chunk := stream.read1(1 << 20):
                *messages, waiting = (waiting + chunk).split(b"\0")
                for message in messages:
                    self._take(json.loads(message))
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "id" in message:
                self._answers[message["id"]] = message
            elif message["method"] == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                self.complaints.append(str(details.get("exception", {}).get("description") or details["text"]))
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                entry = message["params"]["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
            self._changed.notify_all()

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command and wait for its answer.

        Raises
        ------
        BrowserError
            If the browser refuses, ends, or does not answer.
        """
        with self._changed:
            self._number += 1
            number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to_browser, json.dumps(message).encode() + b"\0")
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self._ended, _ANSWER_SECONDS)
            answer = self._answers.pop(number, None)
        if answer is None or "error" in answer:
            raise BrowserError(f"{method}: {'no answer' if answer is None else answer['error']['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str) -> None:
        """Go to an address."""
        self.complaints.clear()
        self.command("Page.navigate", url=url)

    def before_every_page(self, script: str) -> None:
        """Run a script in every page before its own."""
        self.command("Page.addScriptToEvaluateOnNewDocument", source=script)

    def evaluate(self, expression: str) -> Any:
        """Value of an expression in the page, a promise awaited.

        Raises
        ------
        BrowserError
            If it throws.
        """
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details: Mapping[str, Any] = answer["exceptionDetails"]
            raise BrowserError(str(details.get("exception", {}).get("description") or details["text"]))
        return answer["result"].get("value")

    def click(self, x: float, y: float, *, times: int = 1) -> None:
        """Click with the left button at a place of the page."""
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=count)

    def rest(self) -> None:
        """Move the pointer out of everything's way."""
        self.command("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)

    def screenshot(self) -> Picture:
        """The page as it is seen: uint8 (height, width, 3)."""
        data = base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _high(descriptor: int) -> int:
    """The same file under a number that no standard descriptor has."""
    copy = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return copy
