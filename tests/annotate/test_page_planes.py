"""Three linked planes of a volume, in headless Chromium: what is cut where, letters, masks, and the cross hair."""

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


@pytest.fixture
def viewer(sources: dict[str, Path], model: PromptModel, tmp_path: Path) -> Iterator[Viewer]:
    with serving(sources["series"], model, tmp_path / "out", "lung_infection", here=True) as found:  # 32 x 40, 6 slices
        yield found


@pytest.fixture
def page(browser: Browser, viewer: Viewer) -> Iterator[Page]:
    with watched(browser, viewer) as found:
        found.wait_for_selector("#canvas[data-shown='4']")
        yield found


def settle(page: Page, row: int, column: int, index: int) -> None:
    """Until the cross hair is at a voxel, from 0, and all planes show it."""
    page.locator(f"#canvas[data-shown='{index + 1}']").wait_for()
    for number, (name, at, of) in enumerate((("Sagittal", column, 40), ("Coronal", row, 32))):
        page.locator(f"#plane-{number}-name", has_text=re.compile(rf"^{name} {at + 1} of {of}$")).wait_for()
        page.locator(f".plane[data-shown='{at + 1}'] #plane-{number}").wait_for()
    page.locator("body:not(.busy)").wait_for()


def place(
    page: Page, number: int, row: float, column: float, shape: tuple[int, int], sizes: Any
) -> tuple[float, float]:
    """Where a pixel of a fitted picture lies on the screen."""
    box = page.locator(f"#plane-{number}").bounding_box()
    assert box is not None
    high, wide = shape[0] * sizes[0], shape[1] * sizes[1]
    scale = min(box["width"] / wide, box["height"] / high)
    left, top = box["x"] + (box["width"] - wide * scale) / 2, box["y"] + (box["height"] - high * scale) / 2
    return left + (column + 0.5) * sizes[1] * scale, top + (row + 0.5) * sizes[0] * scale


def screen(page: Page) -> Any:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def letters(page: Page, number: int) -> dict[str, str]:
    sides = page.locator(f".plane:has(#plane-{number}) .side")
    return {str(one.get_attribute("class")).split()[1]: one.inner_text() for one in sides.all()}


def test_three_planes_follow_the_cross_hair(page: Page, viewer: Viewer) -> None:
    session = viewer.workspace.session(0)
    high, wide, deep = session.spacing or ()
    assert page.locator("#planes").is_hidden()
    assert page.locator('[data-action="cross"]').is_disabled()
    page.locator('[data-action="planes"]').click()
    settle(page, 16, 20, 3)
    assert letters(page, 0) == {"up": "S", "down": "I", "west": "A", "east": "P"}
    assert letters(page, 1) == {"up": "S", "down": "I", "west": "R", "east": "L"}

    coronal = (6, 40), (deep, wide)
    page.mouse.click(*place(page, 1, 1, 30, *coronal))  # one picture row below the upper end: slice 5 of 6
    settle(page, 16, 30, 4)
    sagittal = (6, 32), (deep, high)
    page.mouse.move(*place(page, 0, 1, 16, *sagittal))
    page.mouse.down()
    page.mouse.move(*place(page, 0, 4, 8, *sagittal), steps=4)
    page.mouse.up()
    settle(page, 8, 30, 1)
    page.mouse.wheel(0, 100)
    settle(page, 8, 29, 1)
    page.locator("#plane-1").focus()
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("Shift+ArrowLeft")
    settle(page, 8, 28, 2)
    page.keyboard.press("4")
    page.mouse.click(*place_of_main(page, 20, 10, high / wide))
    settle(page, 20, 10, 2)
    assert session.is_empty  # nothing was drawn meanwhile
    assert not session.can_undo

    low, top = session.window_default
    picture = session.reformat("coronal", 20, (low, top))[..., 0].astype(int)
    page.mouse.move(1, 1)
    seen = screen(page)
    for row, column in ((0, 4), (2, 20), (5, 35)):
        x, y = place(page, 1, row, column, *coronal)
        assert abs(seen[int(y), int(x), 0] - picture[row, column]) < 25, (row, column)  # smoothed where it is shrunk


def place_of_main(page: Page, row: float, column: float, ratio: float) -> tuple[float, float]:
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    scale = min(box["width"] / 40, box["height"] / 32 / ratio)
    left, top = box["x"] + (box["width"] - 40 * scale) / 2, box["y"] + (box["height"] - 32 * scale * ratio) / 2
    return left + (column + 0.5) * scale, top + (row + 0.5) * scale * ratio


def test_what_is_drawn_is_seen_in_all_planes(page: Page, viewer: Viewer) -> None:
    session = viewer.workspace.session(0)
    high, wide, deep = session.spacing or ()
    page.keyboard.press("3")
    settle(page, 16, 20, 3)
    page.locator("#diameter").fill("9")
    page.keyboard.press("b")
    page.mouse.click(*place_of_main(page, 12, 25, high / wide))
    settle(page, 12, 25, 3)
    page.mouse.move(1, 1)

    def blue(number: int, row: int, column: int) -> bool:
        shape, sizes = ((6, 32), (deep, high)) if number == 0 else ((6, 40), (deep, wide))
        x, y = place(page, number, row + 0.25, column + 0.25, shape, sizes)
        red, _, value = screen(page)[int(y), int(x)]
        return bool(value - red > 40)

    row = 6 - 1 - 3  # of slice 4, superior being up
    assert session.reformat_mask("sagittal", 25)[row, 10]
    for _ in range(100):  # the mask of a plane comes some frames after that of the slice
        if blue(0, row, 10) and blue(1, row, 23):
            break
        page.wait_for_timeout(50)
    assert blue(0, row, 10)
    assert blue(1, row, 23)
    assert not blue(0, row + 1, 10)
    assert not blue(1, row, 34)
    page.keyboard.press("z")
    for _ in range(100):
        if not blue(0, row, 10):
            break
        page.wait_for_timeout(50)
    assert not blue(0, row, 10)
    assert not blue(1, row, 23)
    page.keyboard.press("3")
    page.locator('[data-action="planes"][aria-pressed="false"]').wait_for()
    assert page.locator("#planes").is_hidden()
