"""Clicks, undo and redo, exemplars, tasks, proposals: a session against the batch path and against itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from monai_tpseg.annotate import Change, PromptModel, Session, SessionError
from monai_tpseg.clicks import scale_clicks
from monai_tpseg.inferers import PromptInferer
from monai_tpseg.inferers.task_inferer import resize_antialiased
from monai_tpseg.keys import IMAGE, LABEL, TASK_NAME
from monai_tpseg.networks import Prompt
from monai_tpseg.segment import Finish
from monai_tpseg.transforms import CropToRegiond, LoadMedicalImaged, NormalizeByModalityd, ResizePictured
from monai_tpseg.transforms.regions import crop_to_region
from monai_tpseg.transforms.transfer import load_case

from .conftest import SIZE

TASKS = {"picture": "skin_lesion", "ct": "lung_infection", "us": "breast_lesion", "cine": "breast_lesion"}


class Calls:
    """Counts what a network is asked."""

    def __init__(self, model: PromptModel, patch: pytest.MonkeyPatch) -> None:
        self.encode = self.decode = self.remember = 0
        for name in ("encode", "decode", "remember"):
            patch.setattr(model.network, name, self._counted(name, getattr(model.network, name)))

    def _counted(self, name: str, method: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            setattr(self, name, getattr(self, name) + 1)
            return method(*args, **kwargs)

        return counted

    @property
    def all(self) -> tuple[int, int, int]:
        return self.encode, self.decode, self.remember


@pytest.fixture
def calls(model: PromptModel) -> Iterator[Calls]:
    with pytest.MonkeyPatch.context() as patch:
        yield Calls(model, patch)


def lesion(session: Session, index: int = 0) -> NDArray[np.float32]:
    """The probabilities that a session has of a slice, inside of its mask."""
    result = session._history.at(index).result
    assert result is not None
    return session._predictor.results[result].found.prob()


def inputs(source: Path, task: str) -> torch.Tensor:
    """A case as the batch path gives it to the network, but for its size."""
    image = load_case(source)
    case: Any = NormalizeByModalityd()({IMAGE: crop_to_region(image, image.meta), TASK_NAME: task})
    return case[IMAGE].as_tensor()[None]


def applied(mask: NDArray[np.uint8], change: Change) -> NDArray[np.uint8]:
    """What a viewer makes of a change."""
    seen = mask.copy()
    if change.box is not None:
        top, left, bottom, right = change.box
        seen[top:bottom, left:right] = change.mask
    return seen


@torch.no_grad()
@pytest.mark.parametrize("kind", sorted(TASKS))
def test_clicks_equal_the_batch_path(kind: str, model: PromptModel, sources: dict[str, Path]) -> None:
    source, task = sources[kind], TASKS[kind]
    session = Session(source, model, task)
    index = session.shape[2] - 1
    image = inputs(source, task)
    plane = image if image.ndim == 4 else image[..., index]
    state = model.network.encode(resize_antialiased(plane, SIZE))
    top, left, bottom, right = session.region
    clicks, logits = torch.zeros(1, 0, 3), None
    for place in ((12.0, 21.5, True), (30.25, 30.0, False), (20.0, 10.0, True)):
        session.click(*place, index=index)
        new = torch.tensor([[[place[0] - top, place[1] - left, 1.0 if place[2] else -1.0]]])
        clicks = torch.cat([clicks, new], dim=1)
        scaled = scale_clicks(clicks, (plane.shape[2], plane.shape[3]), SIZE)
        row = model.info.tasks.index(task)
        logits = model.network.decode(state, Prompt(task=row, clicks=scaled, previous_logits=logits))
        result = session._history.at(index).result
        assert result is not None
        torch.testing.assert_close(session._predictor.logits(result), logits, atol=1e-5, rtol=0)
        whole = torch.zeros(session.shape[:2])
        whole[top:bottom, left:right] = resize_antialiased(logits.sigmoid(), plane.shape[-2:])[0, 0]
        sure = (whole - 0.5).abs() > 1e-5
        assert np.array_equal(session.mask(index)[sure], (whole >= 0.5).numpy()[sure])


@torch.no_grad()
def test_one_click_equals_the_inferer(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    session.set_use_class(False)
    session.click(18, 26)
    found = PromptInferer(SIZE)(
        inputs(sources["picture"], "skin_lesion"), model.network, clicks=torch.tensor([[[18.0, 26.0, 1.0]]])
    )[0, 0].numpy()
    sure = np.abs(found - 0.5) > 1e-5
    assert np.array_equal(session.mask()[sure], found[sure] >= 0.5)
    inside = (session.mask() > 0) & sure
    assert inside.any()
    assert np.abs(lesion(session)[inside] - found[inside]).max() <= 1 / 510 + 1e-5


def test_a_slice_is_encoded_once_and_a_click_is_a_decoder_pass(
    model: PromptModel, sources: dict[str, Path], calls: Calls
) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    assert calls.all == (0, 0, 0)
    for n in range(1, 4):
        session.click(10, 4 * n, index=2)
        assert calls.all == (1, n, 0)
    session.scribble([(5.0, 5.0), (30.0, 30.0)], True, 2)
    assert calls.all == (1, 4, 0)
    for index in (0, 1, 3):
        session.click(20, 20, index=index)
    assert calls.all == (4, 7, 0)
    session.click(22, 20, index=2)  # four slices are kept
    session.undo()
    session.redo()
    assert calls.all == (4, 8, 0)
    session.view(2), session.mask(2), session.volume_mask(), session.states()
    assert calls.all == (4, 8, 0)


def test_undo_and_redo_are_exact(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    seen, masks, states = np.zeros(session.shape, np.uint8), [], []
    requests = [
        lambda: session.click(10, 20, index=1),
        lambda: session.click(30, 12, False, index=1),
        lambda: session.scribble([(4.0, 4.0), (20.0, 30.0)], False, 2),
        lambda: session.segment(3),
        lambda: session.accept(3),
        lambda: session.clear(1),
        lambda: session.click(8, 8, index=1),
    ]
    for request in requests:
        masks.append(session.volume_mask())
        states.append((session.states(), session.clicks(1), session.clicks(2)))
        change = request()
        seen[..., change.index] = applied(seen[..., change.index], change)
        assert np.array_equal(seen, session.volume_mask())
    assert not session.can_redo
    last = session.volume_mask()
    for mask, state in zip(reversed(masks), reversed(states), strict=True):
        (change,) = session.undo()
        seen[..., change.index] = applied(seen[..., change.index], change)
        assert np.array_equal(session.volume_mask(), mask)
        assert np.array_equal(seen, mask)
        assert (session.states(), session.clicks(1), session.clicks(2)) == state
    assert not session.can_undo
    with pytest.raises(SessionError, match="nothing to undo"):
        session.undo()
    for _ in requests:
        session.redo()
    assert np.array_equal(session.volume_mask(), last)
    with pytest.raises(SessionError, match="nothing to redo"):
        session.redo()


def test_what_was_undone_leaves_no_trace(model: PromptModel, sources: dict[str, Path]) -> None:
    one, other = (Session(sources["picture"], model, "skin_lesion") for _ in range(2))
    one.click(5, 5)
    one.click(30, 40, False)
    one.undo()
    one.click(18, 26)
    assert not one.can_redo
    other.click(5, 5)
    other.click(18, 26)
    assert np.array_equal(one.mask(), other.mask())
    assert one.clicks() == other.clicks()


def test_a_change_holds_all_that_changed(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    before = session.mask()
    change = session.click(18, 26)
    assert change.index == 0
    assert change.box is not None
    top, left, bottom, right = change.box
    assert change.mask.shape == (bottom - top, right - left)
    assert change.mask.dtype == np.uint8
    differs = np.argwhere(session.mask() != before)
    assert differs.min(axis=0).tolist() == [top, left]
    assert (differs.max(axis=0) + 1).tolist() == [bottom, right]
    assert session.accept(0).box is None


@pytest.mark.parametrize(
    ("row", "col", "index", "message"),
    [
        (36, 3, 0, "row 36, column 3 lies outside the picture of 36 x 52 pixels"),
        (-0.6, 3, 0, "lies outside"),
        (3, 51.6, 0, "lies outside"),
        (float("nan"), 3, 0, "two finite numbers"),
        (3, float("inf"), 0, "two finite numbers"),
        ("3", 3, 0, "two finite numbers"),
        (True, 3, 0, "two finite numbers"),
        pytest.param(10**400, 3, 0, "two finite numbers, got a huge number and 3", id="huge place"),
        pytest.param(3, 3, 10**5000, "no slice a huge number", id="huge slice"),
        (3, 3, 1, "no slice 1; there are 0 to 0"),
        (3, 3, -1, "no slice -1"),
        (3, 3, 0.0, "no slice 0.0"),
        (3, 3, None, "no slice None"),
    ],
)
def test_clicks_that_cannot_be(
    model: PromptModel, sources: dict[str, Path], row: Any, col: Any, index: Any, message: str
) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    with pytest.raises(SessionError, match=message) as refused:
        session.click(row, col, index=index)
    assert "\n" not in str(refused.value)
    assert not session.can_undo
    assert session.states() == ["empty"]


def test_numbers_may_come_from_numpy(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    plain, other = (
        Session(sources["ct"], model, "lung_infection"),
        Session(sources["ct"], model, "lung_infection", tmp_path / "work"),
    )
    plain.click(5, 6, True, 2)
    plain.scribble([(5.0, 5.0), (30.0, 30.0)], True, 2)
    plain.accept(2)
    plain.propagate(2, 1)
    plain.add_slice_exemplar(2)
    other.click(np.float32(5), np.int64(6), np.bool_(True), np.int64(2))
    other.scribble(np.array([(5.0, 5.0), (30.0, 30.0)], np.float32), True, np.int32(2))
    other.accept(np.int64(2))
    other.propagate(np.int64(2), np.int64(1))
    other.add_slice_exemplar(np.int64(2))
    assert np.array_equal(plain.volume_mask(), other.volume_mask())
    assert plain.clicks(2) == other.clicks(2)
    other.close()
    assert Session.restore(tmp_path / "work", model).exemplars == plain.exemplars


@pytest.mark.parametrize("positive", [-1, 1, "false", None])
def test_a_polarity_is_true_or_false(model: PromptModel, sources: dict[str, Path], positive: Any) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    with pytest.raises(SessionError, match="positive must be True or False"):
        session.click(5, 6, positive)
    assert not session.can_undo


def test_the_rim_of_the_outermost_pixels_counts(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    session.click(-0.4, 51.4)
    assert session.clicks()[0][:2] == (0.0, 51.0)


def test_clicks_outside_of_an_ultrasound_region_are_refused(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["cine"], model)
    top = session.region[0]
    assert top > 0
    with pytest.raises(SessionError, match="outside the ultrasound region"):
        session.click(0, 5)
    session.click(top, 5)
    assert not session.mask()[:top].any()


def test_scribbles_are_one_step(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    session.scribble([(5.0, float(c)) for c in range(5, 45)], False)
    clicks = session.clicks()
    assert 3 <= len(clicks) <= 16
    assert {click.polarity for click in clicks} == {-1}
    assert clicks[0][:2] == (5.0, 5.0)
    assert clicks[-1][:2] == (5.0, 44.0)
    session.undo()
    assert session.clicks() == ()
    for points in ([], [(1.0,)], [(1.0, 2.0), (90.0, 2.0)], "ab", [("a", 2)], None):
        with pytest.raises(SessionError):
            session.scribble(points, True)  # type: ignore[arg-type]
    assert not session.can_undo


@torch.no_grad()
def test_exemplars_equal_the_batch_path(model: PromptModel, sources: dict[str, Path], calls: Calls) -> None:
    session = Session(sources["picture"], model, "skin_lesion")
    session.set_use_class(False)
    with pytest.raises(SessionError, match="The prompt is empty"):
        session.segment()
    assert session.add_exemplar(sources["picture"], sources["label"]).index == -1
    assert session.exemplars == ("picture",)
    session.segment()
    session.click(18, 26)
    assert calls.all == (1, 2, 1)
    case: Any = LoadMedicalImaged(IMAGE, LABEL)(
        {IMAGE: sources["picture"], LABEL: sources["label"], TASK_NAME: "skin_lesion"}
    )
    case = ResizePictured(SIZE)(NormalizeByModalityd()(CropToRegiond((IMAGE, LABEL))(case)))
    shown = {"exemplar_image": case[IMAGE][None, None], "exemplar_label": case[LABEL][None, None]}
    state = model.network.encode(resize_antialiased(inputs(sources["picture"], "skin_lesion"), SIZE))
    first = model.network.decode(state, Prompt(**shown))
    clicks = scale_clicks(torch.tensor([[[18.0, 26.0, 1.0]]]), (36, 52), SIZE)
    second = model.network.decode(state, Prompt(clicks=clicks, previous_logits=first, **shown))
    result = session._history.at(0).result
    assert result is not None
    torch.testing.assert_close(session._predictor.logits(result), second, atol=1e-5, rtol=1e-5)
    session.remove_exemplar(0)
    assert session.exemplars == ()
    session.undo()
    assert session.exemplars == ("picture",)
    with pytest.raises(SessionError, match="no exemplar 1"):
        session.remove_exemplar(1)


def test_slices_of_the_case_are_exemplars_too(model: PromptModel, sources: dict[str, Path], calls: Calls) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    session.set_use_class(False)
    with pytest.raises(SessionError, match="Slice 1 has no mask"):
        session.add_slice_exemplar(1)
    session.click(18, 18, index=1)
    assert session.mask(1).any()
    session.add_slice_exemplar(1)
    assert session.exemplars == ("slice 1",)
    session.segment(2)
    with_first = session.mask(2)
    session.clear(1)  # the exemplar keeps the mask that it came with
    session.segment(2)
    assert np.array_equal(session.mask(2), with_first)
    assert calls.remember == 1


def test_a_mask_that_the_network_cannot_see_is_no_exemplar(
    model: PromptModel, sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.zeros((320, 320, 3), np.uint8)).save(tmp_path / "large.png")
    session = Session(tmp_path / "large.png", model, "skin_lesion")
    prob = np.zeros((320, 320), np.float32)
    prob[100, 100] = 1  # one of 50 pixels that become one
    whole = torch.from_numpy(prob)[None]
    monkeypatch.setattr(Finish, "cut", lambda *_: (whole, whole > 0))
    session.click(100, 100)
    assert session.mask().sum() == 1
    with pytest.raises(SessionError, match="too small for an exemplar: at the network's 32 x 64 pixels"):
        session.add_slice_exemplar(0)
    assert session.exemplars == ()
    prob[90:120, 90:120] = 1
    session.click(100, 100)
    session.add_slice_exemplar(0)
    assert session.exemplars == ("slice 0",)


def test_tasks(model: PromptModel, sources: dict[str, Path]) -> None:
    session = Session(sources["picture"], model)
    assert (session.task, session.use_class) == (None, False)
    with pytest.raises(SessionError, match="No task is given"):
        session.set_use_class(True)
    with pytest.raises(SessionError, match="do not know the task 'liver'"):
        session.set_task("liver")
    with pytest.raises(SessionError, match="do not know the task 'liver'"):
        Session(sources["picture"], model, "liver")
    session.set_task("skin_lesion")
    session.set_use_class(True)
    session.add_exemplar(sources["picture"], sources["label"])
    with pytest.raises(SessionError, match="a different modality from the exemplars"):
        session.set_task("colon_polyp")
    session.undo()
    session.segment()
    first = session.mask()
    session.set_task("colon_polyp")
    assert np.array_equal(session.mask(), first)
    session.segment()
    assert not np.array_equal(session.mask(), first)
    session.undo()
    session.undo()
    assert session.task == "skin_lesion"
    session.set_task(None)
    assert not session.use_class


def test_the_modality_of_a_source_without_a_task(model: PromptModel, sources: dict[str, Path]) -> None:
    found = {kind: Session(sources[kind], model).modality.value for kind in ("series", "us", "cine")}
    assert found == {"series": "ct", "us": "ultrasound", "cine": "ultrasound"}
    with pytest.raises(SessionError, match="give a task"):
        Session(sources["ct"], model)


@pytest.mark.parametrize("by", ["previous", "exemplar"])
def test_proposals(model: PromptModel, sources: dict[str, Path], by: Any) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    with pytest.raises(SessionError, match="Slice 2 has no mask"):
        session.propose(3, 2, by)
    session.click(18, 18, index=2)
    assert session.mask(2).any()
    with pytest.raises(SessionError, match="from itself"):
        session.propose(2, 2, by)
    with pytest.raises(SessionError, match="Unknown way"):
        session.propose(3, 2, "magic")  # type: ignore[arg-type]
    session.propose(3, 2, by)
    assert session.states() == ["empty", "empty", "edited", "proposed", "empty", "empty"]
    assert session.clicks(3) == ()
    session.accept(3)
    assert session.states()[3] == "accepted"
    session.click(18, 18, index=3)
    assert session.states()[3] == "edited"


def test_propagation_goes_slice_by_slice(model: PromptModel, sources: dict[str, Path]) -> None:
    session, other = (Session(sources["ct"], model, "lung_infection") for _ in range(2))
    for one in (session, other):
        one.click(18, 18, index=2)
    changes = session.propagate(2, 2)
    assert [change.index for change in changes] == [3, 4]
    other.propose(3, 2)
    other.propose(4, 3)
    assert np.array_equal(session.volume_mask(), other.volume_mask())
    session.undo()
    assert session.states() == ["empty", "empty", "edited", "proposed", "empty", "empty"]
    session.accept(3)
    assert session.propagate(2, 3) == []  # what was accepted stays
    assert [change.index for change in session.propagate(2, 9, -1)] == [1, 0]
    for steps, direction in ((-1, 1), (2, 0), (2.0, 1)):
        with pytest.raises(SessionError, match="Propagation takes"):
            session.propagate(2, steps, direction)  # type: ignore[arg-type]


def test_propagation_ends_where_nothing_is_found(
    model: PromptModel, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    session.click(18, 18, index=1)
    real = model.network.decode
    monkeypatch.setattr(model.network, "decode", lambda *a, **k: real(*a, **k) - 1e4)
    assert session.propagate(1, 3) == []
    assert session.states()[2] == "empty"
    assert [change.index for change in session.propagate(1, 3, stop_when_empty=False)] == [2]
    assert session.states()[2] == "proposed"


def test_propagation_ends_where_the_lesion_is_lost(
    model: PromptModel, sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(sources["ct"], model, "lung_infection")
    corner = torch.full((1, 1, *SIZE), -10.0)
    corner[..., :4, :4] = 10
    monkeypatch.setattr(model.network, "decode", lambda *a, **k: corner)
    session.click(18, 18, index=1)
    assert session.mask(1)[0, 0]
    monkeypatch.setattr(model.network, "decode", lambda *a, **k: corner.flip(-1))  # at another place
    assert session.propagate(1, 3) == []
    assert [change.index for change in session.propagate(1, 3, stop_when_empty=False)] == [2]
    assert session.mask(2)[0, -1]
