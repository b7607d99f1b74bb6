"""Request bodies of the viewer: fixed names and few values, never a path."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from monai_tpseg.annotate.session.drawn_session import Tidying
from monai_tpseg.annotate.session.propagation import Proposal

__all__ = [
    "Body",
    "Box",
    "Brush",
    "Case",
    "Click",
    "Done",
    "File",
    "Merge",
    "Name",
    "Number",
    "Open",
    "Outline",
    "Pair",
    "Pixel",
    "Propagate",
    "Save",
    "Scribble",
    "Slice",
    "Task",
    "Tidy",
    "Use",
]

Place = Annotated[list[int], Field(min_length=3, max_length=3)]
Point = Annotated[list[float], Field(min_length=2, max_length=2)]


class Body(BaseModel):
    """Body of a request; unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Open(Body):
    """Request to open a case."""

    case: int
    task: str | None = None


class Case(Body):
    """Request for a case."""

    case: int


class Slice(Case):
    """Request for a slice, from 0."""

    index: int


class Click(Slice):
    """A click."""

    row: float
    column: float
    positive: bool


class Scribble(Slice):
    """A line of clicks."""

    points: list[Point] = Field(min_length=1, max_length=1000)
    positive: bool


class Outline(Slice):
    """A closed line."""

    points: list[Point] = Field(min_length=1, max_length=1000)
    mark: bool


class Brush(Outline):
    """A brush stroke."""

    diameter: float


class Tidy(Slice):
    """The kind of clean-up of a mask."""

    how: Tidying


class Pixel(Slice):
    """A pixel."""

    row: int
    column: int


class Name(Pixel):
    """The name of the lesion at a pixel."""

    name: str = Field(max_length=200)


class Task(Case):
    """The task, or none."""

    task: str | None


class Box(Slice):
    """Two opposite corners."""

    start: Point
    end: Point


class Merge(Case):
    """A pixel of each of two lesions: slice, row, column."""

    first: Place
    second: Place


class Use(Case):
    """Whether the class is used."""

    use: bool


class Propagate(Slice):
    """Parameters of a propagation."""

    steps: int = Field(ge=1, le=1000)
    direction: int
    by: Proposal = "previous"


class Pair(Case):
    """A picture and its mask, PNG as base64."""

    image: str
    label: str


class Save(Case):
    """Whether an empty mask is intended."""

    empty: bool = False


class Done(Save):
    """Whether the case is done."""

    done: bool


class File(Case):
    """A file as base64."""

    name: str = Field(min_length=1, max_length=255)
    data: str


class Number(Case):
    """The number of an exemplar, from 0."""

    number: int
