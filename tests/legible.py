"""A page of one file as headless Chromium opens it, and what a person needs in order to read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

_CONTRASTS = """selector => [...document.querySelectorAll(selector)].map(one => {
  const numbers = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
  let behind = one;
  while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
  const light = text => numbers(text).map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0.05);
  const pair = [light(getComputedStyle(one).color), light(getComputedStyle(behind).backgroundColor)];
  return Math.max(...pair) / Math.min(...pair);
})"""


@contextmanager
def opened_offline(browser: Browser, file: Path, width: int) -> Iterator[Page]:
    """Open a page without a network; at the end nothing was asked for and nothing went wrong."""
    said: list[str] = []
    asked: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
    page = context.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    context.close()


def least_contrast(page: Page, selector: str) -> float:
    """The smallest contrast ratio (WCAG 2; AA asks for 4.5) of the text of these elements and what lies behind it."""
    ratios: list[float] = page.evaluate(_CONTRASTS, selector)
    return min(ratios)


def overflows(page: Page) -> bool:
    """Whether the page is wider than the window."""
    found: bool = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return found
