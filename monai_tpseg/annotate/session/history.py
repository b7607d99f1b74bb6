"""The state of a session and the steps that led there: what undo and redo move along."""

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
    """A click in pixels of the source's grid, pixel centres being whole numbers; polarity 1 inside, -1 outside."""

    row: float
    column: float
    polarity: int


@dataclass(frozen=True)
class Exemplar:
    """What shows a lesion: a picture with its mask, or a slice of this case with the mask that it had.

    Attributes:
        picture: digest of a prepared picture, or "".
        index: of the slice, or -1.
        result: whose mask the slice had, or -1.
    """

    picture: str = ""
    index: int = NO_SLICE
    result: int = -1


class LesionName(NamedTuple):
    """What a person calls the lesion that a pixel belongs to, as long as it does.

    Attributes:
        name: see `check_name`.
        index: of the slice.
        row, column: of the pixel.
    """

    name: str
    index: int  # type: ignore[assignment]  # hides the method of tuples, which nobody needs here
    row: int
    column: int


@dataclass(frozen=True)
class SliceState:
    """Where a slice stands.

    Attributes:
        clicks: of the user, since the slice was begun.
        result: number of the result that its mask comes from, None for an empty mask.
        status: see `STATUSES`.
    """

    clicks: tuple[Click, ...] = ()
    result: int | None = None
    status: Status = "empty"


@dataclass(frozen=True)
class Setup:
    """What holds for all slices.

    Attributes:
        task: name of the task, or None.
        use_class: whether the class of the task is part of what the network is asked.
        exemplars: in the order in which they came.
        done: a person has said that all masks are right; any later change takes that back.
        names: of lesions, in the order in which they were given.
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
        index: of the slice, or `NO_SLICE`.
        before, after: of the slice; equal where it does not change.
        setup_before, setup_after: likewise.
        joined: it belongs to the step before, and both are taken and undone at once.
    """

    index: int
    before: SliceState
    after: SliceState
    setup_before: Setup
    setup_after: Setup
    joined: bool = False


@dataclass
class History:
    """The steps of a session and how many of them are in effect.

    Attributes:
        setup: as it is now.
        slices: those that have been worked on.
        steps: all that can be undone or done again, in order.
        cursor: how many of `steps` are in effect.
    """

    setup: Setup
    slices: dict[int, SliceState] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    cursor: int = 0

    def at(self, index: int) -> SliceState:
        """Return where slice `index` stands."""
        return self.slices.get(index, SliceState())

    def step(self, index: int = NO_SLICE, after: SliceState | None = None, setup: Setup | None = None) -> Step:
        """Return the step from here to `after` and `setup`, without taking it."""
        here = self.at(index)
        after = here if after is None else after
        if setup is None:
            setup = self.setup if after == here else replace(self.setup, done=False)
        return Step(index, here, after, self.setup, setup)

    def push(self, steps: Sequence[Step]) -> None:
        """Take steps that belong together, at least one; what had been undone is forgotten."""
        del self.steps[self.cursor :]
        self.steps += [replace(step, joined=number > 0) for number, step in enumerate(steps)]
        self.redo()

    def undo(self) -> list[Step]:
        """Take the last steps that belong together back and return them, the last one first; there must be some."""
        taken: list[Step] = []
        while not taken or taken[-1].joined:
            self.cursor -= 1
            taken.append(self.steps[self.cursor])
            self._set(taken[-1].index, taken[-1].before, taken[-1].setup_before)
        return taken

    def redo(self) -> list[Step]:
        """Take the next steps that belong together again and return them, in order; there must be some."""
        taken: list[Step] = []
        while not taken or (self.cursor < len(self.steps) and self.steps[self.cursor].joined):
            taken.append(self.steps[self.cursor])
            self.cursor += 1
            self._set(taken[-1].index, taken[-1].after, taken[-1].setup_after)
        return taken

    def groups(self) -> list[list[Step]]:
        """Return all steps, those that belong together in one list."""
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
