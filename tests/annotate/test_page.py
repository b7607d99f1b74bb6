"""The viewer as a person uses it, in headless Chromium: click a lesion, undo, propagate, save; the files read back."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from playwright.sync_api import Browser, Route
from scipy.ndimage import distance_transform_edt

from monai_tpseg.annotate import PromptModel
from monai_tpseg.annotate.session.drawing import brushed
from monai_tpseg.studies.case import CASES
from monai_tpseg.testing.phantoms import make_volume, write_dicom_series

from .driving import HEAR, Open, watched
from .serving import serving
from .trained import SIZE, TASK, write_case, write_trained

_FITS = """() => {
    document.getElementById('about').textContent = 'a long name '.repeat(40);
    return document.documentElement.scrollWidth <= document.documentElement.clientWidth;
}"""
_MIDDLE = 4  # the slice that a volume of eight opens on; its lesion is the largest


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> PromptModel:
    """A network that has learnt what a click means."""
    return PromptModel(write_trained(tmp_path_factory.mktemp("trained") / "model.pt"), "cpu")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A CT series and its lesion."""
    return write_case(tmp_path_factory.mktemp("case") / "series")


@pytest.fixture
def opened(browser: Browser, trained: PromptModel, case: tuple[Path, Any], tmp_path: Path) -> Iterator[Open]:
    """The series, opened."""
    said: list[str] = []
    with serving(case[0], trained, tmp_path / "out", TASK, here=True) as viewer, watched(browser, viewer, said) as page:
        page.wait_for_selector("body.open")
        found = Open(page, viewer, case[1], said)
        found.settle()
        yield found


def inside(lesion: Any) -> tuple[int, int]:
    """A pixel well within a mask (H, W)."""
    row, column = np.unravel_index(np.argmax(distance_transform_edt(lesion)), lesion.shape)
    return int(row), int(column)


def dice(a: Any, b: Any) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_click_undo_propagate_save_and_read_back(opened: Open, tmp_path: Path) -> None:
    page, lesion = opened.page, opened.lesion
    assert page.url == f"http://127.0.0.1:{opened.viewer.access.port}/"  # the token has left the address
    assert opened.text("#where") == "Slice 5 of 8 · empty"
    assert not opened.marked().any()
    opened.click(*inside(lesion[..., _MIDDLE]))
    first = opened.marked()
    assert np.array_equal(first, opened.server_mask(_MIDDLE))
    assert dice(first, lesion[..., _MIDDLE]) > 0.7
    assert opened.text("#where") == "Slice 5 of 8 · edited"

    opened.click(2, 2, "Shift")  # the air outside is no lesion
    assert [click[2] for click in opened.viewer.workspace.session(0).clicks(_MIDDLE)] == [1, -1]
    opened.press("z")
    assert np.array_equal(opened.marked(), first)
    opened.press("z")
    assert not opened.marked().any()
    opened.press("y")
    assert np.array_equal(opened.marked(), first)

    page.locator("#steps").fill("2")
    page.locator('[data-action="down"]').click()
    opened.settle()
    assert opened.text("#where") == "Slice 3 of 8 · proposed"
    shown = {_MIDDLE: first}
    for index in (2, 3):
        page.locator("#slice").fill(str(index + 1))
        opened.settle()
        shown[index] = opened.marked()
        assert opened.text("#where") == f"Slice {index + 1} of 8 · proposed"
        assert dice(shown[index], lesion[..., index]) > 0.5
        opened.press("a")
    assert opened.viewer.workspace.session(0).states() == [
        *("empty", "empty", "accepted", "accepted", "edited", "empty", "empty", "empty")
    ]

    opened.press("s")
    assert opened.text("#saved-kinds") == "mask, lesions, seg, sr, overlay, result"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#saved-copy").click()
    page.locator("#toasts", has_text="The path is copied.").wait_for()
    assert Path(page.evaluate("navigator.clipboard.readText()"), "result.json").is_file()
    expected = np.stack([shown.get(n, np.zeros((SIZE, SIZE), bool)) for n in range(8)], axis=-1)
    (folder,) = (tmp_path / "out" / CASES).iterdir()
    assert np.array_equal(volume_of(folder), expected)
    assert np.array_equal(frames_of(folder), expected)


def test_it_can_be_used_with_the_keyboard_alone(opened: Open) -> None:
    page = opened.page
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link to the picture
    assert page.evaluate("document.activeElement.id") == "canvas"
    for _ in range(3):
        page.keyboard.press("Control+Shift+ArrowUp")
    page.keyboard.press("Shift+ArrowLeft")
    opened.press("Enter")
    opened.press("Shift+Enter")
    opened.press("ArrowUp")
    assert opened.text("#where") == "Slice 6 of 8 · empty"
    assert [list(click) for click in opened.viewer.workspace.session(0).clicks(_MIDDLE)] == [[2, 31, 1], [2, 31, -1]]
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("z")  # no key reaches the case behind the help
    page.keyboard.press("Escape")
    assert len(opened.viewer.workspace.session(0).clicks(_MIDDLE)) == 2
    fields = "[...document.querySelectorAll('aside input, aside select, footer input, #chooser select')]"
    assert page.evaluate(f"{fields}.every((one) => one.labels.length === 1)")
    assert page.evaluate("[...document.querySelectorAll('button')].every((one) => one.textContent.trim())")
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_click_does_not_count_before_the_picture_of_its_slice_is_seen(opened: Open) -> None:
    page = opened.page
    held: list[Route] = []
    page.route("**/api/view*", lambda route: held.append(route))  # Playwright takes no method of a list
    page.evaluate(HEAR)
    page.keyboard.press("End")
    page.locator("#where", has_text=re.compile(r"^Slice 8\b")).wait_for()  # the page's policy lets no script be polled
    page.mouse.click(*opened.at(30, 30))
    assert opened.heard() == ["error: The picture of this slice has not loaded yet; click again."]
    for route in held:
        route.continue_()
    page.unroute("**/api/view*")
    opened.settle()
    assert not opened.viewer.workspace.session(0).can_undo
    opened.click(30, 30)
    assert [list(click) for click in opened.viewer.workspace.session(0).clicks(7)] == [[30, 30, 1]]


def test_window_and_zoom_change_the_view_and_nothing_else(opened: Open) -> None:
    page = opened.page
    assert opened.text("#shown") == "W 1500   L -600"
    page.mouse.move(*opened.at(30, 30))
    page.mouse.down(button="right")
    page.mouse.move(*opened.at(30, 40), steps=3)
    page.mouse.up(button="right")
    assert opened.text("#shown") != "W 1500   L -600"
    page.locator("#preset").select_option(label="bone")
    opened.settle()
    assert opened.text("#shown") == "W 1500   L 300"
    opened.press("r")
    assert opened.text("#shown") == "W 1500   L -600"
    before = opened.text("#scale")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -240)
    page.keyboard.up("Control")
    opened.settle()
    assert opened.text("#scale") != before
    opened.press("0")
    assert opened.text("#scale") == before
    page.mouse.wheel(0, 60)
    opened.settle()
    assert opened.text("#where") == "Slice 4 of 8 · empty"
    assert not opened.viewer.workspace.session(0).can_undo
    for width in (1280, 900, 768, 380):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate(_FITS)


def test_drawing_measuring_and_taking_it_back(opened: Open) -> None:
    page, seen = opened.page, [np.zeros((SIZE, SIZE), bool)]

    def drag(*places: tuple[float, float]) -> None:
        page.mouse.move(*opened.at(*places[0]))
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*opened.at(*place), steps=6)
        page.mouse.up()
        opened.settle()

    def drawn() -> Any:
        """What is seen, which is what the server has."""
        seen.append(opened.marked())
        assert np.array_equal(seen[-1], opened.server_mask(_MIDDLE))
        assert not np.array_equal(seen[-1], seen[-2])
        return seen[-1]

    page.locator("#diameter").fill("9")
    opened.press("b")
    drag((20, 12), (20, 40))
    assert dice(drawn(), brushed([(20, 12), (20, 40)], 9, (SIZE, SIZE))) > 0.97
    opened.press("x")
    drag((20, 26), (20, 27))
    erased = brushed([(20, 26), (20, 27)], 9, (SIZE, SIZE))
    assert np.array_equal(drawn(), seen[-2] & ~erased)  # two pieces are left
    opened.press("v")
    opened.click(20, 38)
    assert np.array_equal(drawn(), seen[-2] & (np.arange(SIZE) < 30))
    opened.press("q")
    opened.press("1")
    drag((34, 20), (34, 50), (55, 50), (55, 20))
    assert drawn()[35:54, 21:49].all()
    opened.press("2")
    for corner in ((40, 30), (40, 40), (50, 40), (50, 30), (40, 30)):  # corner by corner, closed on the first
        opened.click(*corner)
    assert not drawn()[41:50, 31:40].any()
    page.locator('[data-action="holes"]').click()
    opened.settle()
    assert drawn()[35:54, 21:49].all()
    opened.press("j")
    drawn()
    for mask in seen[-2::-1]:
        opened.press("z")
        assert np.array_equal(opened.marked(), mask)
    assert not opened.viewer.workspace.session(0).can_undo

    opened.press("m")
    drag((10, 10), (40, 50))  # 30 rows and 40 columns
    spacing = opened.viewer.workspace.session(0).spacing
    assert spacing is not None
    assert spacing[0] == spacing[1]
    assert float(opened.text("#measured").split()[1]) == pytest.approx(50 * spacing[0], rel=0.02)
    assert opened.text("#measured").endswith("mm")
    page.keyboard.press("Escape")
    opened.settle()
    assert opened.text("#measured") == ""
    assert not opened.viewer.workspace.session(0).can_undo


def three_digits(value: float) -> str:
    """As people write it: 1.20 is 1.2."""
    return f"{float(np.format_float_positional(value, 3, fractional=False)):g}"


def test_a_saved_mask_is_opened_and_its_lesions_are_listed(opened: Open, tmp_path: Path) -> None:
    page, session = opened.page, opened.viewer.workspace.session(0)
    for index in (2, 3):
        session.brush([(20, 20), (20, 26)], 9, True, index)
    session.brush([(50, 45)], 5, True, 6)
    expected, written = session.volume_mask() > 0, session.export(tmp_path, "first")
    for _ in range(3):
        session.undo()
    page.locator("details", has_text="Open a mask").locator("summary").click()
    page.locator("#mask-file").set_input_files(written["seg"])
    page.locator("#mask-open").click()
    page.locator("#lesions li").nth(1).wait_for()
    opened.settle()
    assert np.array_equal(session.volume_mask() > 0, expected)
    assert np.array_equal(opened.marked(), opened.server_mask(2))  # the first slice that it marks
    assert opened.text("#where") == "Slice 3 of 8 · proposed"
    rows = list(csv.DictReader(written["lesions"].read_text().splitlines()))
    sizes = [
        f"{float(np.format_float_positional(float(row['size']) / 1000, 3, fractional=False)):g} ml" for row in rows
    ]
    texts = page.locator("#lesions li > button:first-child").all_inner_texts()
    assert [text.partition(". ")[2].partition(",")[0] for text in texts] == sizes
    assert [text.partition(" · ")[2] for text in texts] == ["slices 3 to 4", "slice 7"]
    page.locator("#lesions li").nth(1).locator("button").first.click()
    opened.settle()
    assert opened.text("#where") == "Slice 7 of 8 · proposed"
    page.get_by_role("button", name="Remove lesion 1").click()
    page.locator("#lesions li").nth(1).wait_for(state="detached")
    assert session.volume_mask()[..., :6].sum() == 0
    assert session.mask(6).any()
    opened.press("z")
    opened.press("z")
    assert not session.volume_mask().any()


def test_a_click_shows_the_mask_again_and_an_empty_one_is_not_saved_unasked(opened: Open, tmp_path: Path) -> None:
    page = opened.page
    opened.press("h")
    opened.click(*inside(opened.lesion[..., _MIDDLE]))
    assert opened.marked().any()
    assert page.locator('[data-action="hide"]').get_attribute("aria-pressed") == "false"
    opened.press("z")
    opened.press("s")
    assert page.locator("#empty").is_visible()
    page.keyboard.press("Enter")  # the way back is what Enter takes
    assert [*(tmp_path / "out" / CASES).iterdir()] == []
    opened.press("s")
    page.locator("#empty button.main").click()
    page.locator("#saved").wait_for()  # the dialog's own event starts the saving, not the click
    opened.settle()
    (folder,) = (tmp_path / "out" / CASES).iterdir()
    assert json.loads((folder / "result.json").read_text())["status"] == "ok_empty"


# what a wheel or a touchpad sends for one notch or stroke, and how many slices that is; milliseconds between events
_WHEELS = [
    ("a mouse in Chromium", [(120, 0, -120)], 50, 1),
    ("another system's pixels", [(53, 0, -120)] * 3, 50, 3),
    ("two notches in one event", [(200, 0, -240)], 50, 2),
    ("lines in Firefox", [(3, 1, -120)] * 2, 50, 2),
    ("a browser without wheelDelta", [(3, 1, None)], 50, 1),
    ("parts of a notch", [(12.5, 0, -15)] * 8, 8, 1),
    ("a slow notch on macOS", [(4, 0, -12)], 50, 1),
    ("slow notches on macOS", [(4, 0, -12)] * 3, 300, 3),
    ("a stroke on a touchpad", [(n, 0, -3 * n) for n in (2, 8, 20, 40, 50, 40, 20, 8, 4, 2, 1)], 16, 2),
    ("small parts that are no binary fractions", [(4, 0, -12)] * 26, 8, 2),
    ("nothing", [(0, 0, 0)], 50, 0),
]


def test_one_notch_is_one_slice(opened: Open) -> None:
    count = """async ([events, gap]) => {
        const { Wheel } = await import('/page/wheel.js');
        const wheel = new Wheel();
        const one = ([deltaY, deltaMode, wheelDeltaY], n) =>
            wheel.slices({ deltaY, deltaMode, wheelDeltaY: wheelDeltaY ?? undefined, timeStamp: 1000 + n * gap });
        return events.map(one).reduce((a, b) => a + b, 0);
    }"""
    found = {name: opened.page.evaluate(count, [events, gap]) for name, events, gap, _ in _WHEELS}
    assert found == {name: slices for name, _, _, slices in _WHEELS}


def test_slow_and_cut_requests_show_what_the_viewer_has(opened: Open) -> None:
    page = opened.page
    opened.click(*inside(opened.lesion[..., _MIDDLE]))
    held: list[Route] = []

    def cut(route: Route) -> None:  # the viewer follows, and its answer never arrives
        route.fetch()
        route.abort("connectionreset")

    page.evaluate(HEAR)
    page.route("**/api/undo", cut)
    opened.press("z")
    said = opened.heard()
    assert said == ["error: The answer was lost on its way; what is shown now is what the viewer has."]
    assert not opened.server_mask(_MIDDLE).any()
    assert not opened.marked().any()
    assert opened.text("#where") == "Slice 5 of 8 · empty"
    page.route("**/api/redo", lambda route: route.abort())  # one that does not get there at all
    opened.press("y")
    assert not opened.marked().any()
    page.unroute("**/api/redo")
    opened.press("y")
    assert np.array_equal(opened.marked(), opened.server_mask(_MIDDLE))

    page.route("**/api/view*", lambda route: held.append(route))
    page.keyboard.press("End")
    page.locator('#stage[data-late="Loading this slice …"]').wait_for()  # no old picture under a new number
    page.unroute("**/api/view*")
    held.pop(0).abort()  # is asked for once more
    opened.settle()
    page.locator('#stage[data-late=""]').wait_for()  # some moments later, when it has come
    for route in held:
        route.continue_()
    opened.settle()
    assert all(line.startswith("Failed to load resource: net::ERR") for line in opened.said)
    opened.said.clear()


def test_nothing_of_a_case_remains_in_the_next(
    browser: Browser, trained: PromptModel, case: tuple[Path, Any], sources: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(case[0], folder / "a_ct")
    shutil.copy(sources["picture"], folder / "b_skin.png")
    write_sagittal(folder / "c_head.dcm")
    (folder / "d_broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 40)
    said: list[str] = []
    with serving(folder, trained, tmp_path / "out") as viewer, watched(browser, viewer, said) as page:
        page.locator("#chooser").wait_for()

        def sides() -> list[str]:
            return [page.locator(f"#side-{side}").inner_text() for side in ("up", "down", "west", "east")]

        def opening(number: int, shown: str) -> None:
            page.locator("#choose-case").select_option(str(number))
            page.locator("#choose-open").click()
            page.locator("#about", has_text=shown).wait_for()
            page.locator("#chooser").wait_for(state="hidden")
            page.wait_for_selector("#canvas[data-shown]:not([data-shown=''])")

        opening(0, "a_ct · CT")
        assert sides() == ["A", "P", "R", "L"]
        assert "bone" in page.locator("#preset option").all_text_contents()
        page.locator("#preset").select_option(label="bone")
        page.keyboard.press("2")
        page.keyboard.press("h")
        page.keyboard.press("l")
        assert page.locator("#choose-task").input_value() == TASK

        page.locator("#choose-case").select_option("3")
        page.locator("#choose-open").click()
        page.locator("#choose-error", has_text="d_broken.png").wait_for()
        assert page.locator("#chooser").is_visible()
        assert page.locator("#choose-case").input_value() == "3"
        assert [line.partition("status of ")[2][:3] for line in said] == ["422"]
        said.clear()

        page.locator("#choose-case").select_option("1")
        assert page.locator("#choose-task").input_value() == ""  # not the CT's
        opening(1, "b_skin.png · 36")
        assert sides() == [""] * 4
        assert page.locator("#preset option").all_text_contents() == ["default", "all values"]
        assert page.locator("#shown").inner_text() == "W 255   L 127.5"
        for action, pressed in (("add", "true"), ("hide", "false")):
            assert page.locator(f'[data-action="{action}"]').get_attribute("aria-pressed") == pressed

        page.keyboard.press("l")
        page.locator("#choose-case").select_option("2")
        assert page.locator("#choose-warning").inner_text() == ""
        page.locator("#choose-task").select_option(TASK)
        warning = "The source says MR, and lung infection was trained on another modality"
        assert page.locator("#choose-warning").inner_text().startswith(warning)
        page.locator("#choose-open").click()
        page.locator("#about", has_text="c_head.dcm · mri").wait_for()
        assert sides() == ["S", "I", "A", "P"]
        assert page.locator("#task-warning").inner_text().startswith(warning)
        page.locator("#task").select_option("brain_tumor")
        page.locator("#task-warning").wait_for(state="hidden")


def write_sagittal(path: Path) -> None:
    """One sagittal slice of an MR: rows run to the feet, columns to the back."""
    series = write_dicom_series(make_volume("brain_tumor", 1, (32, 40, 6)), path.with_name(".series"))
    header = pydicom.dcmread(next(series.iterdir()))
    header.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    header.save_as(path)
    shutil.rmtree(series)


def test_a_folder_lets_choose(browser: Browser, trained: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(sources["mr"], folder / "head.nii.gz")
    shutil.copy(sources["picture"], folder / "skin.png")
    with serving(folder, trained, tmp_path / "out") as viewer, watched(browser, viewer) as page:
        dialog = page.locator("#chooser")
        dialog.wait_for()
        names = page.locator("#choose-case option").all_text_contents()
        assert names == ["1. head.nii.gz", "2. skin.png"]
        assert not page.locator("aside").is_visible()
        page.locator("#choose-task").select_option("brain_tumor")
        page.keyboard.press("Enter")
        page.wait_for_selector("body.open #canvas[data-shown='4']")
        assert page.locator("#about").inner_text().startswith("head.nii.gz · MRI · 40 ")
        page.keyboard.press("l")
        page.locator("#choose-case").select_option("1")
        page.locator("#choose-open").click()
        page.wait_for_selector("body.flat #canvas[data-shown='1']")
        assert page.locator("#where").inner_text() == "Picture"
        assert not page.locator("footer").is_visible()


def volume_of(folder: Path) -> Any:
    """The NIfTI mask, seen as a radiologist sees an axial slice: rows to posterior, columns to the left."""
    (path,) = folder.glob("*_mask.nii.gz")
    image = nibabel.as_closest_canonical(nibabel.load(path))  # x to the right, y to anterior, z to superior
    return np.asarray(image.dataobj).transpose(1, 0, 2)[::-1, ::-1] > 0


def frames_of(folder: Path) -> Any:
    """The frames of the DICOM segmentation by their positions, from feet to head; all lesions together."""
    (path,) = folder.glob("*_seg.dcm")
    seg = pydicom.dcmread(path)
    frames = seg.pixel_array.reshape(-1, SIZE, SIZE)
    heights = [float(f.PlanePositionSequence[0].ImagePositionPatient[2]) for f in seg.PerFrameFunctionalGroupsSequence]
    (volume,) = folder.glob("*_mask.nii.gz")
    affine = nibabel.as_closest_canonical(nibabel.load(volume)).affine
    whole = np.zeros((SIZE, SIZE, 8), bool)
    for height, frame in zip(heights, frames, strict=True):
        whole[..., round((height - affine[2, 3]) / affine[2, 2])] |= frame > 0
    return whole
