"""A box as a prompt, and one lesion of two: what the network is asked, what is joined, what undo gives back."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser

from monai_tpseg.annotate import PromptModel, Session, SessionError

from .driving import watched
from .serving import serving
from .test_page_looking import centre, settle

TASK = "lung_infection"
_WITHIN = """() => [...document.querySelectorAll('aside button:not([hidden])')].every((one) => {
    const [box, side] = [one.getBoundingClientRect(), document.querySelector('aside').getBoundingClientRect()];
    return !box.width || (box.left >= side.left && box.right <= side.right && one.scrollWidth <= one.clientWidth);
})"""
"""No button of the panel is cut off, nor what is written on it."""


@pytest.fixture
def session(sources: dict[str, Path], model: PromptModel) -> Session:
    """Two lesions on slice 3, one of them on slice 2 too."""
    made = Session(sources["series"], model, TASK)
    made.brush([(8, 6), (8, 12)], 3, True, 3)
    made.brush([(20, 25)], 5, True, 3)
    made.brush([(20, 25)], 5, True, 2)
    return made


def test_a_box_is_a_click_inside_and_one_outside_at_each_corner(session: Session) -> None:
    session.clear(4)
    session.box((20.5, 30), (10.5, 12), 4)
    expected = {(15.5, 21.0, 1), (10.5, 12.0, -1), (10.5, 30.0, -1), (20.5, 12.0, -1), (20.5, 30.0, -1)}
    assert {tuple(click) for click in session.clicks(4)} == expected
    session.undo()
    assert session.clicks(4) == ()
    for start, end in (((5, 5), (5, 20)), ((5, 5), (6.5, 20))):
        with pytest.raises(SessionError, match="sides of 2 pixels or more"):
            session.box(start, end, 4)
    assert session.clicks(4) == ()


def test_two_lesions_become_one_where_they_are_nearest(session: Session) -> None:
    before = session.volume_mask()
    first, second = (lesion.place for lesion in session.lesions())
    session.merge_lesions(first, second)
    (one,) = session.lesions()
    after = session.volume_mask()
    assert one.slices == (2, 3)
    assert np.array_equal(after[..., :3], before[..., :3])
    added = np.argwhere((after[..., 3] > 0) & (before[..., 3] == 0))
    assert ((before[..., 3] > 0) <= (after[..., 3] > 0)).all()
    assert 8 <= len(added) <= 16  # a line, not an area
    assert added[:, 0].min() > 8
    assert added[:, 1].max() < 25
    session.undo()
    assert np.array_equal(session.volume_mask(), before)


def test_what_cannot_be_merged_is_told(session: Session) -> None:
    first, second = (lesion.place for lesion in session.lesions())
    session.brush([(5, 30)], 3, True, 0)
    for pair in ((first, first), (first, (0, 5, 30)), (first, (5, 1, 1))):
        with pytest.raises(SessionError, match="not two lesions visible on one slice"):
            session.merge_lesions(*pair)
    assert len(session.lesions()) == 3
    with pytest.raises(SessionError, match="There is no row"):
        session.merge_lesions(first, (0, 999, 0))
    session.merge_lesions(second, first)


def test_box_and_merge_on_the_page(
    browser: Browser, sources: dict[str, Path], model: PromptModel, tmp_path: Path
) -> None:
    with (
        serving(sources["series"], model, tmp_path / "out", TASK, here=True) as viewer,
        watched(browser, viewer) as page,
    ):
        settle(page)
        x, y = centre(page)
        page.keyboard.press("Shift+B")
        page.mouse.move(x - 80, y - 60)
        page.mouse.down()
        page.mouse.move(x + 80, y + 60, steps=4)
        page.mouse.up()
        page.locator("#where", has_text=re.compile("edited")).wait_for()
        signs = [click[2] for click in viewer.workspace.session(0).clicks(3)]
        assert signs == [1, -1, -1, -1, -1]
        page.keyboard.press("z")
        page.locator("#where", has_text=re.compile("empty")).wait_for()
        page.locator("#lesions li").first.wait_for(state="detached")

        page.locator("#diameter").fill("4")
        page.keyboard.press("b")
        for shift in (-120, 120):
            page.mouse.click(x + shift, y)
        page.locator("#lesions li").nth(1).wait_for()
        assert page.locator("#merge").is_disabled()
        assert page.evaluate(_WITHIN)
        assert page.evaluate("[...document.querySelectorAll('#lesions input')].every((one) => one.labels.length === 1)")
        for number in (1, 2):
            page.get_by_label(f"Lesion {number}, to be merged").check()
        page.locator("#merge").click()
        page.locator("#lesions li").nth(1).wait_for(state="detached")
        assert page.locator("#lesions li").count() == 1
        assert not page.locator("#merge").is_visible()
        page.keyboard.press("z")
        page.locator("#lesions li").nth(1).wait_for()
