"""From case to case: next and previous, search, what is done, and the datalist of it; seen in headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from monai_tpseg.annotate import PromptModel
from monai_tpseg.annotate.web.workspace import DATALIST
from monai_tpseg.data.datalists import read_datalist

from .driving import watched
from .serving import Viewer, serving

TASK = "skin_lesion"
NAMES = ("mole_a.png", "mole_b.png", "nevus_c.png")


@pytest.fixture
def moles(sources: dict[str, Path], tmp_path: Path) -> Path:
    """Three pictures, and the mask of one beside it."""
    folder = tmp_path / "moles"
    folder.mkdir()
    for name in NAMES:
        shutil.copy(sources["picture"], folder / name)
    shutil.copy(sources["label"], folder / "mole_a_seg.png")
    return folder


@pytest.fixture
def viewer(moles: Path, model: PromptModel, tmp_path: Path) -> Iterator[Viewer]:
    with serving(moles, model, tmp_path / "out", TASK, here=True) as found:
        yield found


@pytest.fixture
def page(browser: Browser, viewer: Viewer) -> Iterator[Page]:
    """The first case is open."""
    with watched(browser, viewer) as found:
        found.locator("#choose-open").click()
        arrived(found, NAMES[0])
        yield found


def arrived(page: Page, name: str) -> None:
    """Wait until a case is open and seen."""
    page.locator("#about", has_text=name).wait_for()
    page.wait_for_selector("#canvas[data-shown='1']")
    page.locator("body:not(.busy)").wait_for()


def says(page: Page, *states: str) -> None:
    """Open the list, and wait until it says the states of the cases in their order."""
    page.keyboard.press("l")
    page.locator("#chooser").wait_for()
    expected = [re.compile(rf" · {state}$") for state in states]
    expect(page.locator("#choose-case option")).to_have_text(expected, timeout=60_000)


def test_next_previous_search_done_and_the_datalist(page: Page, viewer: Viewer, tmp_path: Path) -> None:
    pressed = page.locator('[data-action="done"][aria-pressed="true"]')
    assert page.locator('[data-action="cases"]').inner_text().split()[:2] == ["Cases", "1/3"]
    page.keyboard.press("n")
    arrived(page, NAMES[1])
    page.keyboard.press("n")
    arrived(page, NAMES[2])
    page.keyboard.press("n")
    page.locator("#toasts", has_text="This is the last case.").wait_for()
    page.keyboard.press("Shift+N")
    arrived(page, NAMES[1])

    viewer.post("brush", case=1, index=0, points=[[10, 8], [10, 20]], diameter=5, mark=True)
    page.reload()
    arrived(page, NAMES[1])
    page.keyboard.press("w")
    pressed.wait_for()
    page.locator("#toasts", has_text="Marked as done and saved.").wait_for()
    says(page, "begun", "done", "begun")
    first, *_ = page.locator("#choose-case option").all_text_contents()
    assert first == "1. mole_a.png · begun"
    assert page.locator("#choose-count").inner_text() == "3 of 3 cases · 1 done · 2 begun"

    page.locator("#choose-search").fill("mole done")
    assert page.locator("#choose-case option").all_text_contents() == ["2. mole_b.png · done"]
    page.locator("#choose-search").fill("nothing like this")
    assert page.locator("#choose-note").inner_text() == "No case has this in its name or state."
    assert page.locator("#choose-open").is_disabled()
    page.locator("#choose-search").fill("NEVUS")
    page.locator("#choose-open").click()
    arrived(page, NAMES[2])
    page.keyboard.press("w")  # nothing is marked: asked first
    page.locator("#empty button.main").click()
    pressed.wait_for()

    says(page, "begun", "done", "done")
    page.locator("#choose-export").click()
    page.locator("#toasts", has_text="2 done: ").wait_for()
    cases = read_datalist(str(tmp_path / "out" / DATALIST), "training", str(tmp_path / "out"), (TASK,))
    assert [Path(case["image"]).name for case in cases] == list(NAMES[1:])
    first, second = (np.asarray(Image.open(case["label"])) > 0 for case in cases)
    assert first[10, 8:21].all()
    assert not second.any()


def test_a_change_takes_done_back_and_undo_gives_it_again(page: Page, viewer: Viewer, tmp_path: Path) -> None:
    """What is saved of a case that is done is always what the page shows."""

    def done(yes: bool) -> None:
        page.locator(f'[data-action="done"][aria-pressed="{str(yes).lower()}"]').wait_for()
        page.locator("body:not(.busy)").wait_for()

    def saved() -> bool:
        (mask,) = (tmp_path / "out" / "cases").glob("*/*_mask.png")
        return bool(np.array_equal(np.asarray(Image.open(mask)) > 0, viewer.workspace.session(0).mask() > 0))

    page.keyboard.press("b")
    page.locator("#canvas").click(position={"x": 300, "y": 300})
    page.locator("#place", has_text=re.compile(r"\b[1-9]\d* pixels marked")).wait_for()
    page.keyboard.press("w")
    done(True)
    assert saved()
    page.locator("#canvas").click(position={"x": 500, "y": 400})
    done(False)
    assert not saved()
    page.keyboard.press("s")
    page.locator("#saved").wait_for()
    assert saved()
    page.keyboard.press("z")
    done(True)
    assert saved()
    page.keyboard.press("z")
    done(False)
    page.keyboard.press("y")
    done(True)
    page.keyboard.press("w")
    done(False)
    assert json.loads(viewer.ask("GET", "/api/state").body)["cases"][0]["kept"] == "saved"
