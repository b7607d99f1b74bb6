"""What the requests of the viewer may say: fixed names and few values, none of which is a path."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from monai_tpseg.annotate.session.drawn import Tidying
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
    """What a request says; anything else is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Open(Body):
    """A case to open."""

    case: int
    task: str | None = None


class Case(Body):
    """About a case."""

    case: int


class Slice(Case):
    """About a slice, from 0."""

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
    """The way of a brush."""

    diameter: float


class Tidy(Slice):
    """How a mask is tidied."""

    how: Tidying


class Pixel(Slice):
    """A pixel."""

    row: int
    column: int


class Name(Pixel):
    """What the lesion at a pixel is called."""

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
    """How far, and how."""

    steps: int = Field(ge=1, le=1000)
    direction: int
    by: Proposal = "previous"


class Pair(Case):
    """A picture and its mask, PNG as base64."""

    image: str
    label: str


class Save(Case):
    """Whether an empty mask is meant."""

    empty: bool = False


class Done(Save):
    """Whether a case is done."""

    done: bool


class File(Case):
    """A file as base64."""

    name: str = Field(min_length=1, max_length=255)
    data: str


class Number(Case):
    """Of an exemplar, from 0."""

    number: int
