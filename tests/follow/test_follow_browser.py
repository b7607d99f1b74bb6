"""The page about change in headless Chromium: it is read on a telephone, in the dark and on paper."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from monai_tpseg.follow import follow

from ..legible import least_contrast, opened_offline, overflows
from ..waiting import wait_for
from .scans import add_case, add_nifti, boxes, grid, head

LONG = "a_scan_with_the_long_name_that_a_hospital_gave_it"


@pytest.fixture(scope="module")
def change(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient whose lesions stay, merge, go and appear, with long names; a mole that has no place."""
    folder = tmp_path_factory.mktemp("follow")
    same, gone, new = (18, 20, 14, 4, 4, 4), (10, 30, 10, 2, 2, 2), (24, 10, 10, 3, 3, 3)
    pair = (24, 34, 20, 3, 3, 2), (28, 34, 20, 3, 3, 2)
    for run, lesions in (("a", (same, *pair, gone)), ("b", (same, (24, 34, 20, 7, 3, 2), new))):
        scans = folder / f"scans_{run}"
        case = f"{LONG}_{run}_brain_tumor"
        add_nifti(folder / run, scans, "x.nii.gz", head(grid()), boxes(*lesions), grid(), case=case)
        Image.new("RGB", (96, 64), "white").save(scans / "mole.png")
        mask = np.zeros((64, 96), np.uint8)
        mask[10:20, 10:30] = 255
        Image.fromarray(mask).save(folder / f"{run}.png")
        add_case(folder / run, scans, "mole.png", folder / f"{run}.png", "skin_lesion", f"{run}_skin_lesion")
    follow([folder / "a", folder / "b"], folder / "change")
    return folder / "change" / "follow.html"


@pytest.fixture
def page(browser: Browser, change: Path) -> Iterator[Page]:
    """The page, with its pictures."""
    with opened_offline(browser, change, 1440) as page:
        page.evaluate("Promise.all([...document.images].filter(one => one.src).map(one => one.decode()))")
        yield page


def screen(page: Page) -> Any:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))


def lines_of_numbers(page: Page) -> set[int]:
    """Into how many lines each size, diameter and percentage is broken."""
    script = """[...document.querySelectorAll('td.n')].filter(one => one.textContent).map(one => {
      const range = document.createRange();
      range.selectNodeContents(one);
      return range.getClientRects().length;
    })"""
    return {*page.evaluate(script)}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_and_nothing_is_cut_off(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    for width in (1440, 768, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert not overflows(page)
        assert lines_of_numbers(page) == {1}  # a number never leaves its unit
        hidden = "one => one.scrollWidth - one.clientWidth"
        if width == 1440:
            assert page.locator(".scroll").evaluate_all(f"all => all.map({hidden})") == [0, 0]
    assert least_contrast(page, "p, .counts li, .tag, .quiet, figcaption, a, td, th, dt, dd, h1, h2") >= 4.5


def test_the_wide_table_of_a_telephone_is_scrolled_by_keyboard(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    table = page.locator(".scroll").first
    assert table.evaluate("one => one.scrollWidth > one.clientWidth")
    assert table.get_attribute("tabindex") == "0"
    table.focus()
    page.keyboard.press("ArrowRight")
    # Playwright's own waiting evaluates text in the page again and again, which the page's policy forbids
    wait_for(lambda: table.evaluate("one => one.scrollLeft > 0"))


def test_a_click_enlarges_a_picture(page: Page) -> None:
    large = page.locator("#large")
    assert not large.is_visible()
    page.locator("button.zoom").first.click()
    assert large.is_visible()
    assert page.locator("#large img").evaluate("one => one.src === document.querySelector('button.zoom img').src")
    page.keyboard.press("Escape")
    assert not large.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_prints_on_white(page: Page, tmp_path: Path, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme, media="print")
    page.set_viewport_size({"width": 718, "height": 1047})  # A4 within its margins, at 96 pixels an inch
    assert not overflows(page)
    assert lines_of_numbers(page) == {1}
    assert page.locator(".scroll").evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)") == [0, 0]
    assert least_contrast(page, "p, .counts li, .tag, .quiet, figcaption, td, th, dt, dd, h1, h2") >= 4.5
    assert not page.locator(".links").first.is_visible()
    seen = screen(page)
    assert np.median(seen) == 255
    assert (seen[:30, -30:] == 255).all()  # beside the heading
    page.pdf(path=tmp_path / "follow.pdf")
    assert (tmp_path / "follow.pdf").stat().st_size > 20_000


def test_what_it_says_of_the_changes(page: Page) -> None:
    rows = page.locator(".follow").first.locator("tbody tr").all_inner_texts()
    cells = [[" ".join(cell.split()) for cell in row.split("\t")] for row in rows]
    voxel = 3 * 3 * 4 / 1000  # ml
    assert [row[:5] for row in cells] == [
        ["matched", "1 → 1", f"{64 * voxel:.3g} ml", f"{64 * voxel:.3g} ml", "0 %"],  # and not -0 or +0
        ["merged", "2 3 → 2", f"{36 * voxel:.3g} ml", f"{42 * voxel:.3g} ml", "+17 %"],
        ["gone", "4 → none", f"{8 * voxel:.3g} ml", "", "-100 %"],
        ["new", "none → 3", "", f"{27 * voxel:.3g} ml", ""],
        ["all lesions", "4 → 3", f"{108 * voxel:.3g} ml", f"{133 * voxel:.3g} ml", "+23 %"],
    ]
