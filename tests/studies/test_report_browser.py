"""The report as a person sees it, in headless Chromium: it renders, asks nothing of a network, filters and sorts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from monai_tpseg.catalogue import TASK_NAMES
from monai_tpseg.report import write_report
from monai_tpseg.results import Outcome, Status
from monai_tpseg.results.codes import RUN_ACTIONS
from monai_tpseg.results.folder import provenance, write_result
from monai_tpseg.results.measurements import lesions_csv, measure_lesions
from monai_tpseg.segment import find_lesions
from monai_tpseg.studies import Model
from monai_tpseg.testing.phantoms import make_phantom
from monai_tpseg.transforms import draw_overlay

from ..legible import least_contrast, opened_offline, overflows


@pytest.fixture(scope="module")
def report(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three results a task, one without a lesion, a failure and a skipped case."""
    out, made_by = tmp_path_factory.mktemp("browser"), provenance(model.info, model.config)
    for n, task in enumerate(TASK_NAMES):
        for seed in range(3):
            phantom = make_phantom(task, seed, 64)
            mask = phantom.label * (n + seed > 0)
            folder = out / "cases" / f"{n}{seed:015x}"
            folder.mkdir(parents=True)
            meta = {"source_kind": "picture"}
            lesions = measure_lesions(find_lesions(mask, meta), mask * 0.9, meta, task, folder.name)
            image = np.atleast_3d(phantom.image).transpose(2, 0, 1).repeat(4 - np.atleast_3d(phantom.image).shape[2], 0)
            draw_overlay(image[:3] / 255, mask, task).save(folder / "o.png")
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "m.png")
            (folder / "lesions.csv").write_bytes(lesions_csv(lesions))
            status = Status.OK if lesions else Status.OK_EMPTY
            outcome = Outcome(status, flags=() if lesions else ("empty",))
            files = {"mask": "m.png", "overlay": "o.png", "lesions": "lesions.csv"}
            write_result(folder, folder.name, task, outcome, "k", made_by, files=files, lesions=len(lesions))
    for name, status, code in (("f" * 16, Status.FAILED, "E_MEMORY"), ("e" * 16, Status.SKIPPED, "S_NO_TASK")):
        folder = out / "cases" / name
        folder.mkdir()
        write_result(folder, name, "", Outcome(status, code, RUN_ACTIONS[code]), "k", made_by)
    return write_report(out)


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """The report, opened."""
    with opened_offline(browser, report, 1280) as page:
        yield page


def visible(page: Page, selector: str) -> list[str]:
    return [text.strip() for text in page.locator(f"{selector}:visible").all_text_contents()]


def test_it_renders_every_case_worst_first(page: Page, tmp_path: Path) -> None:
    assert page.locator(".cards > li").count() == 26
    assert visible(page, ".cards h3")[0].startswith("ok_empty")  # a mask that marks nothing is looked at first
    page.locator("details.folded summary").click()
    heads = visible(page, ".cards h3")
    assert len(heads) == 26
    assert heads[0].startswith("failed")
    assert heads[1].startswith("skipped")
    loaded = "images => images.every(one => { one.loading = 'eager'; return one.src.startsWith('data:image/webp'); })"
    assert page.eval_on_selector_all(".cards img", loaded)
    decoded = "Promise.all([...document.images].filter(one => one.src).map(one => one.decode()))"
    page.evaluate(decoded)  # a broken picture is an error
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    screen = Image.open(tmp_path / "report.png").convert("RGB")
    assert screen.height > 900
    assert len(screen.getcolors(2**24) or ()) > 1000  # pictures, not a blank page
    assert "E_MEMORY" in page.locator("#codes").inner_text()
    assert "MB in one file" in page.locator("header").inner_text()


def test_filters_filter_by_keyboard_alone(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("no_task")
    assert visible(page, ".cards h3") == ["skipped " + "e" * 16]
    assert visible(page, "#shown") == ["1 of 26 cases shown"]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")  # past the order of the cards
    page.keyboard.press("Enter")  # the button "Clear"
    assert len(visible(page, ".cards h3")) == 26
    page.locator("#status").focus()
    page.keyboard.type("ok_empty")
    assert len(visible(page, ".cards h3")) == 1
    page.locator("#status").select_option("")
    page.locator("#task").select_option("brain_tumor")
    assert len(visible(page, ".cards h3")) == 3
    assert {*visible(page, "#lesions tbody td:nth-child(2)")} == {"brain_tumor"}


def test_headings_sort_the_lesions_as_numbers(page: Page) -> None:
    def sizes() -> list[float]:
        return [float(text.split()[0].replace(",", "")) for text in visible(page, "#lesions tbody td:nth-child(4)")]

    heading = page.locator("#lesions th:nth-child(4)")
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert sizes() == sorted(sizes())
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert sizes() == sorted(sizes(), reverse=True)
    assert len({*sizes()}) > 5


def test_it_can_be_used_without_seeing_it(page: Page) -> None:
    assert page.evaluate("[...document.images].every(one => one.alt.length > 10)")
    assert page.evaluate("[...document.querySelectorAll('select, input')].every(one => one.labels.length === 1)")
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert page.evaluate("[...document.querySelectorAll('#lesions th, #codes th')].every(one => one.scope === 'col')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_and_nothing_is_cut_off(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    for width in (1440, 768, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert not overflows(page)
    assert least_contrast(page, ".counts li, .tag, .quiet, .about p, td, dd, h1, h2, th button") >= 4.5


def test_it_prints(page: Page, tmp_path: Path) -> None:
    page.emulate_media(media="print")
    assert not page.locator(".filters").is_visible()
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000


def test_paper_is_white_also_for_a_reader_of_dark_pages(page: Page) -> None:
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).color")
    page.emulate_media(color_scheme="dark", media="print")
    assert dark != page.evaluate("getComputedStyle(document.body).color") == "rgb(23, 32, 43)"


def test_scripts_that_are_not_its_own_do_not_run(browser: Browser, report: Path) -> None:
    page, said = browser.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.goto(report.as_uri())
    picture = '<img src="data:," onerror="window.hit = 1">'
    page.evaluate("markup => document.body.insertAdjacentHTML('beforeend', markup)", picture)
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.hit = 1'}))")
    page.wait_for_timeout(100)
    assert page.evaluate("window.hit") is None
    assert any("Content Security Policy" in text for text in said)
    page.close()
