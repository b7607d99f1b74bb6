"""The state of a session and its history of steps for undo and redo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

__all__ = [
    "NO_SLICE",
    "STATUSES",
    "Click",
    "Exemplar",
    "History",
    "LesionName",
    "Setup",
    "SliceState",
    "Status",
    "Step",
]

Status = Literal["empty", "edited", "proposed", "accepted"]
STATUSES: tuple[Status, ...] = ("empty", "edited", "proposed", "accepted")
NO_SLICE = -1
"""In place of the number of a slice: a step that concerns none."""


class Click(NamedTuple):
    """A click in pixels of the source, integers at pixel centres; polarity 1 positive, -1 negative."""

    row: float
    column: float
    polarity: int


@dataclass(frozen=True)
class Exemplar:
    """An exemplar: a picture with its mask, or a slice of this case with its mask at that time.

    Attributes:
        picture: digest of a prepared picture, or "".
        index: number of the slice, or -1.
        result: number of the result with the mask of the slice, or -1.
    """

    picture: str = ""
    index: int = NO_SLICE
    result: int = -1


class LesionName(NamedTuple):
    """A user-defined name of the lesion at a pixel.

    Attributes:
        name: see `check_name`.
        index: number of the slice, from 0.
        row, column: pixel of the lesion.
    """

    name: str
    index: int  # type: ignore[assignment]  # hides the method of tuples, which is not needed here
    row: int
    column: int


@dataclass(frozen=True)
class SliceState:
    """The state of a slice.

    Attributes:
        clicks: clicks of the user since the slice was started.
        result: number of the result with its mask, None for an empty mask.
        status: see `STATUSES`.
    """

    clicks: tuple[Click, ...] = ()
    result: int | None = None
    status: Status = "empty"


@dataclass(frozen=True)
class Setup:
    """Settings for all slices.

    Attributes:
        task: name of the task, or None.
        use_class: whether the class of the task is part of the prompt.
        exemplars: exemplars in the order of addition.
        done: whether the user has confirmed all masks; any later change resets it.
        names: names of lesions in the order of naming.
    """

    task: str | None = None
    use_class: bool = False
    exemplars: tuple[Exemplar, ...] = ()
    done: bool = False
    names: tuple[LesionName, ...] = ()


@dataclass(frozen=True)
class Step:
    """One change: of a slice, of the setup, or of both.

    Attributes:
        index: number of the slice, or `NO_SLICE`.
        before, after: states of the slice; equal if it does not change.
        setup_before, setup_after: settings; equal if they do not change.
        joined: whether it is applied and undone together with the previous step.
    """

    index: int
    before: SliceState
    after: SliceState
    setup_before: Setup
    setup_after: Setup
    joined: bool = False


@dataclass
class History:
    """The steps of a session, and the number of steps in effect.

    Attributes:
        setup: current settings.
        slices: current states of the edited slices.
        steps: all steps that can be undone or redone, in order.
        cursor: number of `steps` in effect.
    """

    setup: Setup
    slices: dict[int, SliceState] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    cursor: int = 0

    def at(self, index: int) -> SliceState:
        """Return the state of slice `index`."""
        return self.slices.get(index, SliceState())

    def step(self, index: int = NO_SLICE, after: SliceState | None = None, setup: Setup | None = None) -> Step:
        """Return the step from the current state to `after` and `setup`, without applying it."""
        here = self.at(index)
        after = here if after is None else after
        if setup is None:
            setup = self.setup if after == here else replace(self.setup, done=False)
        return Step(index, here, after, self.setup, setup)

    def push(self, steps: Sequence[Step]) -> None:
        """Apply a group of steps, at least one, and discard undone steps."""
        del self.steps[self.cursor :]
        self.steps += [replace(step, joined=number > 0) for number, step in enumerate(steps)]
        self.redo()

    def undo(self) -> list[Step]:
        """Undo the last group of steps and return it, last step first; there must be one."""
        taken: list[Step] = []
        while not taken or taken[-1].joined:
            self.cursor -= 1
            taken.append(self.steps[self.cursor])
            self._set(taken[-1].index, taken[-1].before, taken[-1].setup_before)
        return taken

    def redo(self) -> list[Step]:
        """Redo the next group of steps and return it, in order; there must be one."""
        taken: list[Step] = []
        while not taken or (self.cursor < len(self.steps) and self.steps[self.cursor].joined):
            taken.append(self.steps[self.cursor])
            self.cursor += 1
            self._set(taken[-1].index, taken[-1].after, taken[-1].setup_after)
        return taken

    def groups(self) -> list[list[Step]]:
        """Return all steps in groups that are undone together."""
        found: list[list[Step]] = []
        for step in self.steps:
            if step.joined:
                found[-1].append(step)
            else:
                found.append([step])
        return found

    def _set(self, index: int, state: SliceState, setup: Setup) -> None:
        self.setup = setup
        if state == SliceState():
            self.slices.pop(index, None)
        elif index != NO_SLICE:
            self.slices[index] = state
