"""What is drawn by hand: pixels against plain loops, steps against what was there before."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.path import Path as Line
from scipy import ndimage

from monai_tpseg.annotate import PromptModel, Session, SessionError
from monai_tpseg.annotate.session.drawing import brushed, fill_holes, outlined, piece_at, smooth

SHAPE = (24, 30)


def distance(row: float, column: float, way: Any, sides: tuple[float, float]) -> float:
    """From a pixel's centre to a way, in units of `sides`."""
    p, points = np.array([row, column]) * sides, np.asarray(way, float) * sides
    found = [float(np.linalg.norm(p - points[0]))]
    for a, b in pairwise(points):
        t = np.clip(np.dot(p - a, b - a) / max(np.dot(b - a, b - a), 1e-12), 0, 1)
        found.append(float(np.linalg.norm(p - a - t * (b - a))))
    return min(found)


WAYS: list[Any] = [[(7.2, 9.6)], [(3, 3), (18.5, 20)], [(-9, 5), (12, 40), (20, 4)], [(80, 80), (90, 2)]]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("diameter", "sides"), [(7, (1, 1)), (9, (1, 2.5)), (6, (3, 1))])
def test_a_brush_covers_what_is_near_its_way(way: Any, diameter: float, sides: tuple[float, float]) -> None:
    height, width = SHAPE
    near = [[distance(r, c, way, sides) <= diameter / 2 for c in range(width)] for r in range(height)]
    assert np.array_equal(brushed(way, diameter, SHAPE, sides), near)


def test_the_smallest_brush_marks_the_pixels_under_it() -> None:
    assert np.argwhere(brushed([(4.4, 5.6)], 0.1, SHAPE)).tolist() == [[4, 6]]
    line = brushed([(2, 2), (2, 9)], 0.1, SHAPE)
    assert np.argwhere(line).tolist() == [[2, column] for column in range(2, 10)]


@pytest.mark.parametrize(
    "corners",
    [
        [(2, 2), (2, 20), (17, 11)],
        [(1.5, 3.25), (20.1, 6), (11, 25.7), (4, 18), (12, 12)],
        [(-5, -8), (40, 3), (10, 60)],
        [(3, 3), (20, 3), (20, 25), (3, 25)],
    ],
)
def test_an_outline_marks_the_centres_within(corners: Any) -> None:
    rows, columns = np.indices(SHAPE)
    line = Line([(c, r) for r, c in [*corners, corners[0]]])
    centres = np.column_stack([columns.ravel(), rows.ravel()])
    sides = [line.contains_points(centres, radius=x).reshape(SHAPE) for x in (-1e-6, 1e-6)]
    found = outlined(corners, SHAPE)
    assert found.any()
    assert (found >= (sides[0] & sides[1])).all()  # centres on the line itself may be either
    assert (found <= (sides[0] | sides[1])).all()


def test_a_loop_within_a_loop_is_no_hole() -> None:
    square = [(2.0, 2.0), (20.0, 2.0), (20.0, 20.0), (2.0, 20.0), (2.0, 2.0)]
    inner = [(5.0, 5.0), (10.0, 5.0), (10.0, 10.0), (5.0, 10.0), (5.0, 5.0)]
    assert outlined([*square, *inner], SHAPE)[3:19, 3:19].all()


def test_tidying() -> None:
    ring = np.zeros(SHAPE, bool)
    ring[4:15, 4:15] = True
    ring[7:12, 7:12] = False
    assert fill_holes(ring)[4:15, 4:15].all()
    rough = np.zeros(SHAPE, bool)
    rough[8:, :] = True
    rough[7, 14] = True  # a single pixel stands out
    assert np.array_equal(smooth(rough), np.repeat(np.arange(SHAPE[0])[:, None] >= 8, SHAPE[1], axis=1))
    assert np.array_equal(piece_at(ring, 4, 4), ring)
    assert not piece_at(ring, 9, 9).any()


@pytest.fixture
def session(model: PromptModel, sources: dict[str, Path]) -> Session:
    return Session(sources["ct"], model, "lung_infection")


def test_drawing_is_a_step_like_any_other(session: Session) -> None:
    session.click(18, 18, index=2)
    session.clear(2)
    masks = [session.mask(2)]
    for draw in (
        lambda: session.brush([(30, 5), (34, 9)], 5, True, 2),
        lambda: session.brush([(30, 5)], 3, False, 2),
        lambda: session.outline([(1, 1), (1, 12), (12, 12), (12, 1)], True, 2),
        lambda: session.outline([(4, 4), (4, 8), (8, 8), (8, 4)], False, 2),
        lambda: session.tidy("fill_holes", 2),
        lambda: session.tidy("smooth", 2),
        lambda: session.remove_piece(6, 6, 2),
    ):
        change = draw()
        seen = masks[-1].copy()
        assert change.box is not None
        top, left, bottom, right = change.box
        seen[top:bottom, left:right] = change.mask
        masks.append(session.mask(2))
        assert np.array_equal(seen, masks[-1])
    assert masks[-2][6, 6]
    assert masks[-1][30:, :12].any()
    assert not masks[-1][:14].any()
    assert session.states()[2] == "edited"
    for mask in masks[-2::-1]:
        session.undo()
        assert np.array_equal(session.mask(2), mask)
    for mask in masks[1:]:
        session.redo()
        assert np.array_equal(session.mask(2), mask)


def found(session: Session, index: int) -> Any:
    """The probabilities of a slice's mask."""
    result = session._history.at(index).result
    assert result is not None
    return session._predictor.results[result].found.prob()


def test_drawn_pixels_are_sure_and_others_keep_their_probability(session: Session, tmp_path: Path) -> None:
    session.click(18, 18, index=2)
    before = found(session, 2)
    row, column = np.argwhere(before == 0)[0].tolist()
    session.brush([(row, column)], 5, True, 2)
    after, new = found(session, 2), (session.mask(2) > 0) & (before == 0)
    assert new[row, column]
    assert (after[new] == 1).all()
    assert np.array_equal(after[~new], before[~new])
    assert session.export(tmp_path)["mask"].is_file()


def test_a_click_corrects_what_was_drawn(session: Session, model: PromptModel, monkeypatch: pytest.MonkeyPatch) -> None:
    session.brush([(20, 18)], 14, True, 2)
    drawn, asked, decode = session.mask(2) > 0, [], model.network.decode

    def watched(state: Any, prompt: Any, memory: Any) -> Any:
        asked.append(prompt.previous_logits)
        return decode(state, prompt, memory)

    monkeypatch.setattr(model.network, "decode", watched)
    session.click(30, 30, False, index=2)
    logits = asked[0][0, 0].numpy()
    rows, columns = (
        np.minimum(np.arange(n) * size // n + size // (2 * n), size - 1)
        for n, size in zip(drawn.shape, logits.shape, strict=True)
    )
    inner, outer = (
        ndimage.binary_erosion(drawn, iterations=3),
        ~ndimage.binary_dilation(drawn, iterations=3),
    )
    seen = logits[np.ix_(rows, columns)]
    assert inner.any()
    assert seen[inner] == pytest.approx(np.log(0.98 / 0.02), abs=1e-4)
    assert seen[outer] == pytest.approx(np.log(0.02 / 0.98), abs=1e-4)


def test_what_was_drawn_is_kept(model: PromptModel, sources: dict[str, Path], tmp_path: Path) -> None:
    def work(session: Session) -> None:
        session.brush([(20, 18)], 14, True, 2)
        session.click(30, 30, False, index=2)
        session.tidy("smooth", 2)
        session.undo()

    first, other = (Session(sources["ct"], model, "lung_infection", tmp_path / name) for name in "ab")
    work(first)
    first.save()
    first.close()
    work(other)
    again = Session.restore(tmp_path / "a", model)
    assert again.volume_mask().any()
    for session in (again, other):
        session.click(5, 5, index=2)  # goes on from logits that were not saved
    assert np.array_equal(again.volume_mask(), other.volume_mask())


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda s: s.brush([], 3), "list of 1 to"),
        (lambda s: s.brush([(1, 1)], 0), "diameter of a brush is a number above 0 and at most 1000, got 0"),
        (lambda s: s.brush([(1, 1)], float("nan")), "got nan"),
        (lambda s: s.brush([(1, 1)], 3, 1), "mark must be True or False"),
        (lambda s: s.outline([(1, float("inf"))]), "two finite numbers"),
        (lambda s: s.tidy("iron"), "Unknown way 'iron' to tidy; choose one of fill_holes, smooth"),
        (lambda s: s.remove_piece(3, 3), "Nothing is marked at row 3, column 3"),
        (lambda s: s.remove_piece(99, 3), "no row 99; there are 0 to"),
        (lambda s: s.brush([(1, 1)], 3, True, 9), "no slice 9"),
    ],
)
def test_what_cannot_be_drawn(session: Session, draw: Any, message: str) -> None:
    with pytest.raises(SessionError, match=message):
        draw(session)
    assert not session.can_undo


def test_what_changes_nothing_is_no_step(session: Session) -> None:
    assert session.brush([(1, 1)], 3, False).box is None
    assert session.tidy("smooth").box is None
    assert session.brush([(400, 400)], 3).box is None
    assert not session.can_undo
