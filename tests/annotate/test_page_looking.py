"""What is read off a picture: values, places, axes, windows, and frames that run; seen in headless Chromium."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from monai_tpseg.annotate import PromptModel

from .driving import watched
from .serving import Viewer, serving

_MIDDLE = 3  # the slice that volumes of six open on


@pytest.fixture(params=["series", "mr"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def viewer(name: str, sources: dict[str, Path], model: PromptModel, tmp_path: Path) -> Iterator[Viewer]:
    task = {"series": "lung_infection", "mr": "brain_tumor"}[name]
    with serving(sources[name], model, tmp_path / "out", task, here=True) as found:
        yield found


@pytest.fixture
def page(browser: Browser, viewer: Viewer) -> Iterator[Page]:
    with watched(browser, viewer) as found:
        settle(found)
        yield found


def settle(page: Page) -> None:
    page.wait_for_selector("#canvas[data-shown]:not([data-shown=''])")
    page.locator("body:not(.busy)").wait_for()


def centre(page: Page) -> tuple[float, float]:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def grey(page: Page) -> Any:
    """The screen around the middle of the picture, (24, 24)."""
    page.mouse.move(1, 1)
    x, y = (round(value) for value in centre(page))
    screen = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L")).astype(int)
    return screen[y - 12 : y + 12, x - 12 : x + 12]


def test_values_places_and_windows(page: Page, viewer: Viewer, name: str) -> None:
    session = viewer.workspace.session(0)
    page.mouse.move(*centre(page))
    page.locator("#value", has_text="mm").wait_for()
    place = re.match(r"row (\d+), column (\d+)", page.locator("#place").inner_text())
    assert place is not None
    pixel = session.pixel(int(place[1]), int(place[2]), _MIDDLE)
    value, _, where = page.locator("#value").inner_text().partition(" · ")
    number, _, unit = value.partition(" ")
    assert float(number) == pytest.approx(pixel.values[0], rel=1e-3)
    assert unit == {"series": "HU", "mr": ""}[name]
    assert pixel.position is not None
    letters = [pair["LR"[x >= 0]] for pair, x in zip(_ENDS, pixel.position, strict=True)]
    expected = [f"{letter} {abs(x):.1f}" for letter, x in zip(letters, pixel.position, strict=True)]
    assert where == f"{' '.join(expected)} mm"
    page.keyboard.press("ArrowUp")
    settle(page)
    other = session.pixel(int(place[1]), int(place[2]), _MIDDLE + 1).position
    assert other is not None
    page.locator("#value", has_text=f"{abs(other[2]):.1f} mm").wait_for()  # of the slice that is shown now

    names = page.locator("#preset option").all_text_contents()
    wanted = {"series": "bone", "mr": "10 to 90 %"}[name]
    assert (wanted in names, "10 to 90 %" in names) == (True, name == "mr")
    page.locator("#preset").select_option(label=wanted)
    settle(page)
    low, high = session.windows[wanted]
    assert float(page.locator("#shown").inner_text().split()[1]) == pytest.approx(high - low, rel=1e-3)


_ENDS = ({"R": "R", "L": "L"}, {"R": "A", "L": "P"}, {"R": "S", "L": "I"})
"""Letters of positive values under R, of negative ones under L."""


@pytest.mark.parametrize("name", ["series"], indirect=True)
def test_axes_invert_and_frames_that_run(page: Page, viewer: Viewer) -> None:
    before = grey(page)
    page.keyboard.press("i")
    page.locator('[data-action="invert"][aria-pressed="true"]').wait_for()
    assert np.abs(grey(page) - (255 - before)).max() <= 2
    page.keyboard.press("i")
    page.locator('[data-action="invert"][aria-pressed="false"]').wait_for()
    assert np.abs(grey(page) - before).max() <= 1

    page.locator("#diameter").fill("9")
    page.keyboard.press("b")
    page.mouse.click(*centre(page))
    page.locator("#lesions li").wait_for()
    (lesion,) = viewer.workspace.session(0).lesions()
    sizes = " \N{MULTIPLICATION SIGN} ".join(f"{float(f'{x:.3g}'):g}" for x in lesion.axes.sizes)
    assert f"RECIST {sizes} mm" in page.locator("#lesions li").inner_text()
    page.keyboard.press("p")
    without = grey(page)
    page.keyboard.press("Shift+M")
    page.locator('[data-action="axes"][aria-pressed="true"]').wait_for()
    assert (np.abs(grey(page) - without) > 40).any()
    page.keyboard.press("Shift+M")
    page.locator('[data-action="axes"][aria-pressed="false"]').wait_for()

    page.locator("#rate").fill("30")
    page.locator("#canvas").focus()
    page.keyboard.press("Shift+P")
    for number in (6, 1, 2):  # past the last slice to the first one
        page.locator("#where", has_text=re.compile(rf"^Slice {number}\b")).wait_for()
    page.keyboard.press("Escape")
    page.locator('[data-action="play"][aria-pressed="false"]').wait_for()
    settle(page)
    assert not viewer.workspace.session(0).done


def test_both_themes_can_be_read(page: Page) -> None:
    """Contrast of WCAG 2.1, 4.5 : 1 for text: the theme is that of the system."""

    def luminance(colour: str) -> float:
        whole = colour.strip("# ") if len(colour.strip("# ")) == 6 else "".join(2 * c for c in colour.strip("# "))
        parts = [int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
        return sum(share * x for share, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    pairs = [(ink, paper) for ink in ("text", "quiet", "error", "warning", "accent") for paper in ("panel", "field")]
    pairs += [("text", "page"), ("text", "pressed"), ("text", "told-error"), ("text", "told-done"), ("focus", "panel")]
    pages = set()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        read = "(name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`)"
        colours = {name: luminance(page.evaluate(read, name)) for name in {name for pair in pairs for name in pair}}
        pages.add(colours["page"] > 0.5)
        for ink, paper in pairs:
            low, high = sorted((colours[ink], colours[paper]))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, ink, paper)
    assert pages == {True, False}
