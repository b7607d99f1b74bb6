"""Editing of a case with the network: clicks, undo and redo, exemplars and tasks, propagation from slice to slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from monai_tpseg.annotate.session.checks import check_flag, check_index, check_point, check_points, check_steps
from monai_tpseg.annotate.session.exemplar_pictures import read_exemplar_picture
from monai_tpseg.annotate.session.history import NO_SLICE, Click, Exemplar, Setup, SliceState, Status, Step
from monai_tpseg.annotate.session.journal import Journal
from monai_tpseg.annotate.session.masks import Change, change_of, no_change
from monai_tpseg.annotate.session.predictor import Recipe, Result
from monai_tpseg.annotate.session.prompt_model import PromptModel
from monai_tpseg.annotate.session.propagation import Proposal, centre_click, slices_along
from monai_tpseg.annotate.session.read_only_session import ReadOnlySession, synchronized
from monai_tpseg.annotate.session.saved import picture_path, steps_record
from monai_tpseg.annotate.session.scribbles import thin_line
from monai_tpseg.annotate.session.session_error import SessionError
from monai_tpseg.annotate.session.sources import IN_PROCESS, Sources
from monai_tpseg.io.cases import CaseSource
from monai_tpseg.words import choose

__all__ = ["PromptedSession"]

_LEAST_BOX = 2  # pixels, so that corners and centre of a box differ


class PromptedSession(ReadOnlySession):
    """Session with the prompts of the network; arguments as for `ReadOnlySession`.

    Each change is a step of `undo` and `redo`, recorded before it takes effect.
    """

    def __init__(
        self, source: CaseSource, model: PromptModel, task: str | None = None, sources: Sources = IN_PROCESS
    ) -> None:
        super().__init__(source, model, task, sources)
        self._journal: Journal | None = None

    @synchronized
    def click(self, row: float, col: float, positive: bool = True, index: int = 0) -> Change:
        """Add a positive or negative click.

        Args:
            row, col: position in pixels of the source, integers at pixel centres.
            positive: whether the point belongs to the lesion.
            index: number of the slice, from 0.

        Raises:
            SessionError: the point is outside the picture or its ultrasound region, or there is no such slice.
        """
        sign = 1 if check_flag(positive, "positive") else -1
        return self._clicked([(*check_point(row, col), sign)], self._index(index))

    @synchronized
    def scribble(self, points: Sequence[tuple[float, float]], positive: bool = True, index: int = 0) -> Change:
        """Add a scribble: equidistant clicks along a line, in one step and one decoder pass.

        Args:
            points: (row, column) of the line in drawing order, see `click`.
            positive: whether the line belongs to the lesion.
            index: number of the slice, from 0.

        Raises:
            SessionError: there is no point; see `click`.
        """
        line = [self._pixels.place(*point) for point in check_points(points)]
        sign = 1 if check_flag(positive, "positive") else -1
        return self._clicked([(*place, sign) for place in thin_line(line, self.shape[:2])], self._index(index))

    @synchronized
    def box(self, start: tuple[float, float], end: tuple[float, float], index: int = 0) -> Change:
        """Segment the lesion in a box: a positive click at its centre, and a negative one at each corner, in one step.

        Args:
            start, end: (row, column) of two opposite corners, see `click`.
            index: number of the slice, from 0.

        Raises:
            SessionError: a side is shorter than two pixels; see `click`.
        """
        (top, bottom), (left, right) = (
            sorted(pair) for pair in zip(check_point(*start), check_point(*end), strict=True)
        )
        if bottom - top < _LEAST_BOX or right - left < _LEAST_BOX:
            raise SessionError(f"A box has sides of {_LEAST_BOX} pixels or more; draw it around the whole lesion.")
        middle = ((top + bottom) / 2, (left + right) / 2, 1)
        corners = [(row, column, -1) for row in (top, bottom) for column in (left, right)]
        return self._clicked([middle, *corners], self._index(index))

    @synchronized
    def segment(self, index: int = 0) -> Change:
        """Segment slice `index` anew without clicks, by class or exemplars.

        Raises:
            SessionError: neither the class nor an exemplar is in use, or there is no such slice.
        """
        index, setup = self._index(index), self._history.setup
        if not (setup.use_class or setup.exemplars):
            raise SessionError("The prompt is empty; click, use the class of a task, or add an exemplar.")
        recipe = Recipe(index, self.modality, self._class, exemplars=setup.exemplars)
        return self._began(recipe, "edited", self._predictor.answer(recipe))

    @synchronized
    def clear(self, index: int = 0) -> Change:
        """Remove mask and clicks of slice `index`.

        Raises:
            SessionError: no such slice.
        """
        return self._take(self._history.step(self._index(index), SliceState()))

    @synchronized
    def undo(self) -> list[Change]:
        """Undo the last step; the masks are restored exactly.

        Returns:
            the changes, one per affected slice, at least one.

        Raises:
            SessionError: there is no step to undo.
        """
        if not self.can_undo:
            raise SessionError("There is nothing to undo.")
        self._write({"move": -1})
        return [self._change(step.index, step.after, step.before) for step in self._history.undo()]

    @synchronized
    def redo(self) -> list[Change]:
        """Redo the step that was undone last.

        Returns:
            see `undo`.

        Raises:
            SessionError: there is no step to redo.
        """
        if not self.can_redo:
            raise SessionError("There is nothing to redo.")
        self._write({"move": 1})
        return [self._change(step.index, step.before, step.after) for step in self._history.redo()]

    @synchronized
    def set_task(self, name: str | None) -> Change:
        """Change the task for later requests; masks are kept. Without a task the class is not used.

        Raises:
            SessionError: the weights do not have the task, or exemplars were prepared for another modality.
        """
        setup = self._history.setup
        if self._modality_of(name) is not self.modality and setup.exemplars:
            raise SessionError(f"Task '{name}' has a different modality from the exemplars; remove them first.")
        return self._set_up(replace(setup, task=name, use_class=setup.use_class and name is not None))

    @synchronized
    def set_use_class(self, use: bool) -> Change:
        """Set whether later requests use the class of the task.

        Raises:
            SessionError: there is no task.
        """
        setup, use = self._history.setup, check_flag(use, "use_class")
        if use and setup.task is None:
            raise SessionError(f"No task is given; choose one of {', '.join(self.tasks)} first.")
        return self._set_up(replace(setup, use_class=use))

    @synchronized
    def add_exemplar(self, image_path: str | Path, label_path: str | Path) -> Change:
        """Add a picture with its mask as an exemplar for later requests.

        Raises:
            ReadError: one of them cannot be read, or their sizes differ.
            SessionError: the image is a volume, or the mask is empty.
        """
        paths = Path(image_path), Path(label_path)
        shown = read_exemplar_picture(*paths, self.modality, self.model.image_size, self._sources.pair)
        if self._journal is not None:
            shown.save(picture_path(self._journal.folder, shown.digest))
        self._predictor.shown[shown.digest] = shown
        return self._with_exemplars((*self._history.setup.exemplars, Exemplar(picture=shown.digest)))

    @synchronized
    def add_slice_exemplar(self, index: int) -> Change:
        """Add slice `index` with its current mask as an exemplar for later requests.

        Raises:
            SessionError: there is no such slice, or the mask is empty, or becomes empty at the network's input size.
        """
        shown = self._predictor.seen(self._slice_shown(index), self.modality)
        return self._with_exemplars((*self._history.setup.exemplars, shown))

    @synchronized
    def remove_exemplar(self, k: int) -> Change:
        """Remove exemplar `k`, counted from 0.

        Raises:
            SessionError: there is no such exemplar.
        """
        exemplars = self._history.setup.exemplars
        k = check_index(k, len(exemplars), "exemplar")
        return self._with_exemplars(exemplars[:k] + exemplars[k + 1 :])

    @synchronized
    def propose(self, index: int, from_index: int, by: Proposal = "previous") -> Change:
        """Segment slice `index` anew from the mask of another slice, and mark it as proposed.

        Args:
            index: number of the slice, from 0.
            from_index: number of the slice whose mask is used; the mask must not be empty.
            by: `previous` corrects this mask, with a click at its centre; `exemplar` uses slice and mask as
                an exemplar.

        Raises:
            SessionError: there is no such slice, the mask is empty, or `by` is unknown.
        """
        recipe = self._proposal(self._index(index), from_index, by)
        return self._began(recipe, "proposed", self._predictor.answer(recipe))

    @synchronized
    def propagate(
        self,
        from_index: int,
        steps: int,
        direction: int = 1,
        stop_when_empty: bool = True,
        by: Proposal = "previous",
    ) -> list[Change]:
        """Propose masks slice by slice, each from the previous one, as separate steps of `undo`.

        Propagation stops before a slice that was edited or accepted, so that no work is lost.

        Args:
            from_index: number of the first source slice; its mask must not be empty.
            steps: maximum number of slices.
            direction: 1 towards higher numbers, or -1.
            stop_when_empty: stop before a slice on which the lesion is lost: the mask is empty, or does not overlap
                with the mask of the previous slice; otherwise stop after that slice.
            by: see `propose`.

        Returns:
            the changes, in order.

        Raises:
            SessionError: see `propose`; the number of steps is negative, or the direction is invalid.
        """
        steps, direction = check_steps(steps, direction)
        from_index = self._slice_shown(from_index).index
        changes: list[Change] = []
        for source, target in slices_along(from_index, steps, direction, self.shape[2]):
            if self._history.at(target).status in ("edited", "accepted"):
                break
            recipe = self._proposal(target, source, by)
            answer = self._predictor.answer(recipe)
            lost = not (answer[1].found.mask() & self._mask(self._history.at(source))).any()
            if lost and stop_when_empty:
                break
            changes.append(self._began(recipe, "proposed", answer))
            if lost:
                break
        return changes

    @property
    def _class(self) -> str | None:
        return self.task if self.use_class else None

    def _clicked(self, places: Sequence[tuple[float, float, int]], index: int) -> Change:
        state = self._history.at(index)
        clicks = (*state.clicks, *(Click(*self._pixels.place(row, column), sign) for row, column, sign in places))
        recipe = Recipe(index, self.modality, self._class, clicks, self._history.setup.exemplars, state.result)
        number, result = self._predictor.answer(recipe)
        return self._take(self._history.step(index, SliceState(clicks, number, "edited")), (number, result))

    def _proposal(self, index: int, from_index: int, by: Proposal) -> Recipe:
        if by not in get_args(Proposal):
            raise SessionError(f"Unknown way {by!r} to propose; {choose(by, get_args(Proposal))}.")
        shown = self._slice_shown(from_index)
        if index == shown.index:
            raise SessionError(f"Slice {index} cannot be proposed from itself; give another one.")
        if by == "exemplar":
            return Recipe(index, self.modality, exemplars=(shown,))
        middle = centre_click(self._mask(self._history.at(shown.index)))
        return Recipe(index, self.modality, self._class, (middle,), previous=shown.result)

    def _slice_shown(self, index: int) -> Exemplar:
        """Return slice `index` with its current mask as an exemplar."""
        index = self._index(index)
        state = self._history.at(index)
        if state.result is None or not self._mask(state).any():
            raise SessionError(f"Slice {index} has no mask yet; click on it first.")
        return Exemplar(index=index, result=state.result)

    def _with_exemplars(self, exemplars: tuple[Exemplar, ...]) -> Change:
        return self._set_up(replace(self._history.setup, exemplars=exemplars))

    def _set_up(self, setup: Setup) -> Change:
        done = setup.done and setup == self._history.setup
        return self._take(self._history.step(setup=replace(setup, done=done)))

    def _began(self, recipe: Recipe, status: Status, answer: tuple[int, Result]) -> Change:
        return self._take(self._history.step(recipe.index, SliceState((), answer[0], status)), answer)

    def _take(self, step: Step, answer: tuple[int, Result] | None = None) -> Change:
        """Apply a step, unless it changes nothing."""
        if (step.before, step.setup_before) == (step.after, step.setup_after):
            return no_change(step.index)
        return self._take_together([step], [answer])[0]

    def _take_together(self, steps: Sequence[Step], answers: Sequence[tuple[int, Result] | None]) -> list[Change]:
        """Apply steps of different slices, at least one, as one step of `undo`."""
        self._write(steps_record(steps, answers))
        for answer in answers:
            if answer is not None:
                self._predictor.keep(*answer)
        self._history.push(steps)
        return [self._change(step.index, step.before, step.after) for step in steps]

    def _change(self, index: int, before: SliceState, after: SliceState) -> Change:
        if index == NO_SLICE or before.result == after.result:
            return no_change(index)
        return change_of(index, self._mask(before), self._mask(after))

    def _write(self, record: dict[str, Any]) -> None:
        if self._journal is not None:
            self._journal.append(record)
