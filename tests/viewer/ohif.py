"""OHIF as its user has it: a study is opened, a series double-clicked, an arrow pressed, and the page looked at.

May live here: where things are on the page, and when the page is at rest. What ought to be seen is the tests' matter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from tests.neighbours import wait_for
from tests.viewer.browser import Browser, Picture

_THUMBNAIL: Final = '[data-cy="study-browser-thumbnail"], [data-cy="study-browser-thumbnail-no-image"]'
_PANE: Final = '[data-cy="viewport-pane"]'
#: What turns while something is waited for.
_SPINNING: Final = ".animate-spin, .spinner, [class*=loading-indicator]"
#: Guided tours that stand before the images of a newcomer.
_TOURS: Final = ("basicViewerTour",)
_SECONDS: Final = 240.0  # a browser that draws by software takes its time on two cores
_IGNORED_SECONDS: Final = 20.0  # a page that rests so long without what was asked for did not take the double click
_TRIES: Final = 3  # a page under load puts its entries in place late, and a click falls beside one
_ARROWS: Final = '[data-cy="viewport-action-arrows-{}"]'
#: Where the last page that did not come to rest can be looked at.
_UNRESTED: Final = Path(__file__).resolve().parents[2] / "build" / "viewer" / "pictures" / "not-at-rest.png"
_DRAWN: Final = f"""[...document.querySelectorAll('{_PANE} svg text')].map(one => {{
  const box = one.getBoundingClientRect();
  return [one.textContent, {{left: box.x, top: box.y, width: box.width, height: box.height}}];
}})"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle of the page, pixels."""

    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        """Its middle, (x, y)."""
        return self.left + self.width / 2, self.top + self.height / 2

    def meets(self, other: Box) -> bool:
        """Whether they have a pixel in common."""
        apart = self.left + self.width <= other.left or other.left + other.width <= self.left
        return not apart and self.top < other.top + other.height and other.top < self.top + self.height

    def cut(self, picture: Picture) -> Picture:
        """What lies in it."""
        top, left = round(self.top), round(self.left)
        return picture[top : top + round(self.height), left : left + round(self.width)]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the viewport shows at rest.

    Attributes
    ----------
    picture
        uint8 (height, width, 3): the image's own canvas with everything drawn on it.
    words
        Text of the whole page.
    drawn
        Text that is drawn on the image, and where.
    """

    picture: Picture
    page: Picture
    words: str
    drawn: tuple[tuple[str, Box], ...]

    @property
    def instance_number(self) -> int:
        """Instance Number of the image, as the corner of the viewport names it; 0 where it names none."""
        _, found, rest = self.words.partition("I:")
        return int(rest.split()[0]) if found else 0


class Ohif:
    """One study in OHIF.

    Parameters
    ----------
    browser
        With an empty page.
    address
        Of the site.
    """

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        self._address = address
        browser.before_every_page(f"localStorage.setItem('shownTours', {json.dumps(json.dumps(_TOURS))})")

    def open(self, study_instance_uid: str) -> None:
        """Open a study anew, and wait until its first image is drawn."""
        self.browser.open(f"{self._address}/viewer?StudyInstanceUIDs={study_instance_uid}")
        self._until(lambda: self._box(_THUMBNAIL) is not None, "the list of series")
        self._until(lambda: self._box(f"{_PANE} canvas") is not None, "a viewport")
        self._until(lambda: self._overlay() != "", "the first image")
        self._at_rest()

    def series(self) -> list[str]:
        """Modality and description of every series in the list."""
        texts: list[str] = self.browser.evaluate(
            f"[...document.querySelectorAll({json.dumps(_THUMBNAIL)})].map(one => one.innerText)"
        )
        return [" ".join(text.split()) for text in texts]

    def show(self, words: str, *, answer: str | None = None, until: Callable[[View], bool] | None = None) -> View:
        """Double-click the series whose entry has these words, and wait until the page is at rest.

        As a reader does, it tries again where the page rests and shows nothing of what was asked for. OHIF may leave
        the first measurement of a report undrawn although it has it and stands at its image: the arrows, on and back,
        make it draw. Where there are none, the double click was not taken.

        Parameters
        ----------
        answer
            To the question that the viewer is expected to ask.
        until
            What must be seen besides, before the page counts as being at rest.
        """
        self._double_click(words)
        if until is not None and answer is None:
            for _ in range(_TRIES - 1):
                if self._rests_as(until):
                    break
                if not self.has_arrows():
                    self._double_click(words)
                else:
                    self._on_and_back()
        if answer is not None:
            self._until(lambda: self._box('[data-cy="viewport-notification"]') is not None, "a question")
            self._at_rest()
            self.press("button", answer)
            self._until(lambda: self._box('[data-cy="viewport-notification"]') is None, "the question answered")
        return self._at_rest(until)

    def _double_click(self, words: str) -> None:
        box = self._box(_THUMBNAIL, words)
        assert box is not None, f"no series {words!r} in {self.series()}"
        self.browser.click(*box.middle, times=2)
        self.browser.rest()

    def _on_and_back(self) -> None:
        """The arrow that leads to the next measurement of a report, and the one that leads back."""
        for side in ("right", "left"):
            self.press(_ARROWS.format(side))
            self._at_rest()

    def _rests_as(self, wanted: Callable[[View], bool]) -> bool:
        """Whether the page comes to rest with something in view; false when it rests for long without."""
        began = time.monotonic()
        last = self.view()
        while not wanted(last):
            now = self.view()
            if self.spins() or not np.array_equal(now.page, last.page):
                began = time.monotonic()
            elif time.monotonic() - began > _IGNORED_SECONDS:
                return False
            last = now
        return True

    def press(self, selector: str, words: str | None = None) -> None:
        """Click something."""
        box = self._box(selector, words)
        assert box is not None, f"nothing to press: {selector} {words or ''}"
        self.browser.click(*box.middle)
        self.browser.rest()

    def has_arrows(self) -> bool:
        """Whether there are arrows, which lead through the measurements of a report."""
        return self._box(_ARROWS.format("right")) is not None

    def next_measurement(self, until: Callable[[View], bool]) -> View:
        """The arrow that leads to the next measurement of a report."""
        self.press(_ARROWS.format("right"))
        return self._at_rest(until)

    def open_panel(self, name: str) -> View:
        """Open a panel at the right side."""
        self.press(f'[data-cy="{name}-btn"]')
        return self._at_rest()

    def go_to_image(self, instance_number: int) -> View:
        """Scroll to the image of the stack that has this Instance Number."""
        viewport = "cornerstone.getEnabledElements()[0].viewport"
        index = self.browser.evaluate(
            f"{viewport}.getImageIds().findIndex(id => "
            f"Number(cornerstone.metaData.get('instance', id).InstanceNumber) === {instance_number})"
        )
        self.browser.evaluate(f"cornerstone.utilities.jumpToSlice({viewport}.element, {{imageIndex: {index}}})")
        return self._at_rest(lambda view: view.instance_number == instance_number)

    def go_to_plane(self, sop_instance_uid: str, frame: int) -> View:
        """Scroll to a frame of an image of the stack."""
        viewport, name = "cornerstone.getEnabledElements()[0].viewport", f"/{sop_instance_uid}/frames/{frame}"
        index = self.browser.evaluate(f"{viewport}.getImageIds().findIndex(id => id.endsWith({json.dumps(name)}))")
        assert index >= 0, "the stack has no such image"
        self.browser.evaluate(f"cornerstone.utilities.jumpToSlice({viewport}.element, {{imageIndex: {index}}})")
        return self._at_rest(lambda _: self.plane() == (sop_instance_uid, frame))

    def plane(self) -> tuple[str, int]:
        """SOP Instance UID and frame of what the viewport says that it shows."""
        name: str = self.browser.evaluate("cornerstone.getEnabledElements()[0].viewport.getCurrentImageId()")
        *_, sop_instance_uid, _, frame = name.split("/")
        return sop_instance_uid, int(frame)

    def marker(self, side: str) -> str:
        """Letter that the viewport shows at one of its sides."""
        letter: str = self.browser.evaluate(f"document.querySelector('{_PANE} .{side}-mid').innerText")
        return letter.strip()

    def view(self) -> View:
        """What is seen now."""
        page = self.browser.screenshot()
        pane = self._box(f"{_PANE} canvas") or self._box(
            _PANE
        )  # while it is made anew, and where it fails, none is there
        assert pane is not None, "there is no viewport"
        return View(
            picture=pane.cut(page),
            page=page,
            words=self.browser.evaluate("document.body.innerText"),
            drawn=tuple((text, Box(**box)) for text, box in self.browser.evaluate(_DRAWN)),
        )

    def spins(self) -> list[str]:
        """Everything on the page that says it is still at work."""
        turning: list[str] = self.browser.evaluate(
            f"[...document.querySelectorAll({json.dumps(_SPINNING)})]"
            ".filter(one => one.getClientRects().length).map(one => one.className.toString())"
        )
        words: str = self.browser.evaluate("document.body.innerText")
        return [*turning, *(line for line in words.splitlines() if "oading" in line)]

    def _at_rest(self, until: Callable[[View], bool] | None = None) -> View:
        """Wait until nothing spins and the page looks the same three times, and look."""
        last: list[View] = []

        def still() -> bool:
            now = self.view()
            if last and not np.array_equal(last[-1].page, now.page):
                last.clear()
            last.append(now)
            del last[:-3]
            return len(last) > 2 and (until is None or until(now)) and not self.spins()

        try:
            self._until(still, "the page at rest")
        except AssertionError as error:
            if not last:
                raise
            _UNRESTED.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(last[-1].page).save(_UNRESTED)
            changed = int((last[-1].page != last[-2].page).any(axis=-1).sum()) if len(last) > 1 else -1
            wanted = until is None or until(last[-1])
            raise AssertionError(
                f"{error}; at work: {self.spins()}; changing: {changed}; as wanted: {wanted}; "
                f"drawn: {[text for text, _ in last[-1].drawn]}; image: {last[-1].instance_number}; see {_UNRESTED.name}"
            ) from None
        return last[-1]

    def _overlay(self) -> str:
        text: str = self.browser.evaluate(
            "(document.querySelector('[data-cy=\"viewport-overlay-bottom-right\"]') || {innerText: ''}).innerText"
        )
        return text.strip()

    def _box(self, selector: str, words: str | None = None) -> Box | None:
        """Rectangle of the first visible element of a selector whose text has these words."""
        found: dict[str, Any] | None = self.browser.evaluate(
            f"""(() => {{
              const words = {json.dumps(words)};
              const one = [...document.querySelectorAll({json.dumps(selector)})].find(
                one => one.getClientRects().length && (!words || one.innerText.split(/\\s+/).join(" ").includes(words)));
              if (!one) return null;
              const box = one.getBoundingClientRect();
              return {{left: box.x, top: box.y, width: box.width, height: box.height}};
            }})()"""
        )
        return None if found is None else Box(**found)

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        wait_for(condition, _SECONDS, what=f"{what} (the page complains: {self.browser.complaints[:3]})")
