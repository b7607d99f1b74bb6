"""The page of the viewer in headless Chromium, as a test drives it."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page

from .serving import Viewer
from .trained import SIZE

# a message goes after some seconds, which a busy machine may take to look: those that come are written down
HEAR = """() => {
    const write = (node) => window.told.push(`${node.className}: ${node.textContent}`);
    window.told = [];
    new MutationObserver((all) => all.forEach((one) => one.addedNodes.forEach(write)))
        .observe(document.getElementById('toasts'), { childList: true });
}"""
_HEARD = """() => new Promise((done) => {
    const look = () => (window.told.length ? done(window.told) : requestAnimationFrame(look));
    setTimeout(() => done(window.told), 60000);
    look();
})"""


class Open(NamedTuple):
    """The page with a case.

    Attributes:
        page: in the browser.
        viewer: that serves it.
        lesion: (H, W, D), where it truly is.
        said: what the page wrote into the browser's console.
    """

    page: Page
    viewer: Viewer
    lesion: Any
    said: list[str]

    def frame(self) -> tuple[float, float, float]:
        """Left, top and scale of the picture on the screen, fitted into the canvas."""
        box = self.page.locator("#canvas").bounding_box()
        assert box is not None
        scale = min(box["width"], box["height"]) / SIZE
        return box["x"] + (box["width"] - SIZE * scale) / 2, box["y"] + (box["height"] - SIZE * scale) / 2, scale

    def at(self, row: float, column: float) -> tuple[float, float]:
        """Where a pixel lies on the screen."""
        left, top, scale = self.frame()
        return left + (column + 0.5) * scale, top + (row + 0.5) * scale

    def click(self, row: float, column: float, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.down(key)
        self.page.mouse.click(*self.at(row, column))
        for key in keys:
            self.page.keyboard.up(key)
        self.settle()

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)
        self.settle()

    def settle(self) -> None:
        """Until nothing is asked for any more, and what came is drawn."""
        frames = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        still = (
            "() => !document.body.classList.contains('busy') && "
            "document.getElementById('canvas').dataset.shown === document.getElementById('slice').value"
        )
        end = time.monotonic() + 120
        self.page.evaluate(frames)
        while not self.page.evaluate(still):  # both in one look: what is asked for may change between two
            assert time.monotonic() < end, "the page does not come to rest"
            self.page.evaluate(frames)
        self.page.evaluate(frames)

    def marked(self) -> Any:
        """The pixels that are seen as lesion, (H, W) bool: sky blue, or a mark of a click, on grey."""
        self.page.mouse.move(1, 1)
        screen = np.asarray(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")).astype(int)
        left, top, scale = self.frame()
        places = np.floor((np.arange(SIZE) + 0.35) * scale)  # within each pixel, beside outline and plus sign
        seen = screen[np.ix_((top + places).astype(int), (left + places).astype(int))]
        return seen[..., 2] - seen[..., 0] > 40

    def server_mask(self, index: int) -> Any:
        return self.viewer.workspace.session(0).mask(index) > 0

    def heard(self) -> list[str]:
        """The messages since `HEAR`, at least one."""
        said: list[str] = self.page.evaluate(_HEARD)
        return said

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()


@contextmanager
def watched(browser: Browser, viewer: Viewer, said: list[str] | None = None) -> Iterator[Page]:
    """A page of the viewer; at the end nothing went wrong, and nothing was asked for but at the viewer.

    `said` is what the page writes into the console: what a test expects of it, it takes out.
    """
    said = [] if said is None else said
    asked: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.set_default_timeout(120_000)  # a case is read in processes of its own, which begin slowly on a busy machine
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(viewer.access.address_once())
    yield page
    context.close()
    home = f"http://127.0.0.1:{viewer.access.port}/"
    assert said == []
    assert [url for url in asked if not url.startswith(home)] == []
    assert [url for url in asked[1:] if "token" in url] == []
