"""Lesions are named in the list, in headless Chromium; undo takes a name back."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser

from monai_tpseg.annotate import PromptModel

from .driving import watched
from .serving import serving


def test_a_lesion_is_named_and_undo_takes_it_back(
    browser: Browser, model: PromptModel, sources: dict[str, Path], tmp_path: Path
) -> None:
    said: list[str] = []
    with (
        serving(sources["series"], model, tmp_path / "out", "lung_infection", here=True) as viewer,
        watched(browser, viewer, said) as page,
    ):
        page.wait_for_selector("#canvas[data-shown='4']")
        session = viewer.workspace.session(0)
        session.brush([(10, 8), (10, 14)], 7, index=3)
        page.reload()
        lesion = page.locator("#lesions li > button").first
        lesion.wait_for()
        page.get_by_label("Name lesion 1").click()
        assert page.locator("#naming-title").inner_text() == "Name of lesion 1"
        page.locator("#naming-name").fill("=1")
        page.keyboard.press("Enter")
        page.locator("#toasts", has_text="starts with a letter or a digit").wait_for()
        assert session.names == ()
        assert "422" in said.pop()  # Chromium says so of every request that is refused
        page.get_by_label("Name lesion 1").click()
        page.locator("#naming-name").fill("never mind")
        page.keyboard.press("Escape")
        page.get_by_label("Name lesion 1").click()
        assert page.locator("#naming-name").input_value() == ""
        page.locator("#naming-name").fill("target 1")
        page.keyboard.press("Enter")
        page.locator("#lesions li > button", has_text=re.compile(r"^1\. target 1 · ")).wait_for()
        assert [one.name for one in session.lesions()] == ["target 1"]
        page.locator("#canvas").focus()
        page.keyboard.press("z")
        page.locator("#lesions li > button", has_text=re.compile(r"^1\. [\d.]+ ml")).wait_for()
        assert session.names == ()
        assert not session.is_empty
